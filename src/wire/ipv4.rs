//! IPv4 headers (RFC 791), without options in what we send.
