//! Stacks without ports: frames are carried by hand, and can be looked at, changed or dropped. [`pair`] joins two of
//! them back to back; [`peer`] is a peer whose every segment the test writes.

mod answers;
mod arrivals;
mod fast_open;
mod flood;
mod packs;
mod pair;
mod peer;
mod pitfalls;
mod runs;
mod sleep;
mod time_wait;
mod whole;
