//! The codec as a whole: what it writes, what it reads, and what it refuses.

mod roundtrip;
