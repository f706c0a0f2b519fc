//! Ethernet II with an optional 802.1Q tag.
