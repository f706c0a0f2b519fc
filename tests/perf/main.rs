//! `braid client` and `braid server` as programs, over the kernel's sockets on loopback: with stock iperf3, with each
//! other, and with peers that misbehave.

mod hostile;
mod ours;
mod program;
mod stock;
