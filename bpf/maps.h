/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What the steering program knows: its configuration, which the loader writes before it loads the program, and its
 * maps, which the process changes while the program runs. src/xdp/program.rs has the same layouts in Rust. */
#ifndef BRAID_MAPS_H
#define BRAID_MAPS_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define PORTS_MAX 16

/* Why a packet went where it went; the index of its counter. stack::owner::Reason has the same order. */
enum reason {
	PASSED_NOT_IP,
	PASSED_MALFORMED,
	PASSED_FRAGMENT,
	PASSED_NOT_TCP,
	PASSED_NOT_LOCAL,
	PASSED_PLAIN_TCP,
	REDIRECTED_JOIN,
	REDIRECTED_FLOW,
	REDIRECTED_HOME,
	REDIRECTED_ICMP,
	DROPPED_NO_SOCKET,
	REASONS,
};

/* Constants from the loader; the verifier treats them as such and drops the code that they rule out. */
const volatile __u32 workers = 1;	     /* at least 1 */
const volatile __u32 queues = 1;	     /* of the NIC that has most */
const volatile __u32 ports = 0;		     /* NICs */
const volatile __u32 ifindexes[PORTS_MAX] = {}; /* the kernel's number of each */
const volatile __u32 testing = 0;	     /* write last_verdict */

/* One end of a connection. IPv4 addresses are v4-mapped (::ffff:a.b.c.d). */
struct local {
	__u8 addr[16];
	__be16 port;
	__u16 zero;
};

/* Both ends; local is the destination of what arrives. */
struct flow {
	__u8 local[16];
	__u8 remote[16];
	__be16 local_port;
	__be16 remote_port;
};

#define LOCAL_MPTCP_ONLY 1
/* Of a port: it is ours at any address, and the other flags say how. */
#define LOCAL_ANYWHERE 2
/* Of a port: it is ours at some address, which local_map knows. */
#define LOCAL_SOMEWHERE 4

/* What of each port is ours: nothing of most, so that what is the kernel's is passed after one look. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, __u32);
} local_ports SEC(".maps");

/* Ends that are ours at one address. The value holds LOCAL_ flags. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, struct local);
	__type(value, __u32);
} local_map SEC(".maps");

/* Flows that do not belong to the home worker of the queue they arrive at, or that share a port with the kernel. Never
 * LRU: a flow that was forgotten would reach a worker that knows nothing of it, which resets it. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, struct flow);
	__type(value, __u32);
} flow_map SEC(".maps");

/* Whether a flow was ever pinned: until then nobody looks for one. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} pinned_any SEC(".maps");

/* The home worker of a queue, at port * queues + queue. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1); /* the loader sets it */
	__type(key, __u32);
	__type(value, __u32);
} homes SEC(".maps");

/* The sockets, at (port * queues + queue) * workers + worker. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 1); /* the loader sets it */
	__type(key, __u32);
	__type(value, __u32);
} xsks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, REASONS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

/* What the program decided last, for the test that compares it with stack::owner: bpf_prog_test_run shows only the
 * action, not which socket it is for. */
struct verdict {
	__u32 reason;
	__u32 index;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct verdict);
} last_verdict SEC(".maps");

#endif
