//! `owner()`: which worker a packet belongs to. The steering program in bpf/ answers the same question in the kernel.
