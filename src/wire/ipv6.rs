//! IPv6 headers (RFC 8200), without extension headers in what we send.
