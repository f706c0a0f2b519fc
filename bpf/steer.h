/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* From a segment to the worker that owns it, and to that worker's socket. */
#ifndef BRAID_STEER_H
#define BRAID_STEER_H

#include "parse.h"

#define OPTIONS_MAX 40
#define OPTION_END 0
#define OPTION_NOP 1
#define OPTION_MPTCP 30
#define MP_CAPABLE 0
#define MP_CAPABLE_LEN_MIN 4
#define MP_JOIN 1
#define MP_JOIN_SYN_LEN 12

/* The home worker of the queue, whichever that is. */
#define NO_WORKER 0xffffffff

/* The MPTCP option of a SYN. */
enum mptcp {
	MPTCP_NONE,
	MPTCP_CAPABLE,
	MPTCP_JOIN,
};

/* A walk over TCP options, an option a step. */
struct walk {
	__u8 bytes[OPTIONS_MAX];
	__u32 len;
	__u32 at;
	__u32 found;
	__u32 token;
};

/* 1 ends the walk. */
static long walk_step(__u32 step, struct walk *walk)
{
	__u32 at = walk->at;
	__u32 len;

	if (at >= walk->len || at >= OPTIONS_MAX || walk->bytes[at] == OPTION_END)
		return 1;
	if (walk->bytes[at] == OPTION_NOP) {
		walk->at = at + 1;
		return 0;
	}
	if (at + 1 >= walk->len || at + 1 >= OPTIONS_MAX)
		return 1;
	len = walk->bytes[at + 1];
	if (len < 2 || at + len > walk->len)
		return 1;
	walk->at = at + len;
	if (walk->bytes[at] != OPTION_MPTCP || len < MP_CAPABLE_LEN_MIN || at + MP_CAPABLE_LEN_MIN > OPTIONS_MAX)
		return 0;
	switch (walk->bytes[at + 2] >> 4) {
	case MP_CAPABLE:
		walk->found = MPTCP_CAPABLE;
		return 1;
	case MP_JOIN:
		/* RFC 8684 3.2: only the SYN's form has 12 bytes, and the receiver's token in bytes 4 to 7. */
		if (len != MP_JOIN_SYN_LEN || at + MP_JOIN_SYN_LEN > OPTIONS_MAX)
			return 0;
		walk->token = (__u32)walk->bytes[at + 4] << 24 | (__u32)walk->bytes[at + 5] << 16 |
			      (__u32)walk->bytes[at + 6] << 8 | walk->bytes[at + 7];
		walk->found = MPTCP_JOIN;
		return 1;
	}
	return 0;
}

/* Looks for MP_CAPABLE or MP_JOIN in a SYN; whichever comes first counts. */
static __always_inline __u32 find_mptcp(struct xdp_md *ctx, const struct segment *segment, __u32 *token)
{
	struct walk walk = { .len = segment->options_len };

	if (walk.len == 0 || walk.len > OPTIONS_MAX)
		return MPTCP_NONE;
	if (bpf_xdp_load_bytes(ctx, segment->options, walk.bytes, walk.len) < 0)
		return MPTCP_NONE;
	bpf_loop(OPTIONS_MAX, walk_step, &walk, 0);
	*token = walk.token;
	return walk.found;
}

/* The flags of the local end, or null when it isn't ours. */
static __always_inline __u32 *find_local(const struct segment *segment)
{
	struct local local = { .port = segment->flow.local_port };
	__u32 number = bpf_ntohs(segment->flow.local_port);
	__u32 *kinds = bpf_map_lookup_elem(&local_ports, &number);
	__u32 *flags;

	if (!kinds)
		return 0;
	if (*kinds & LOCAL_SOMEWHERE) {
		__builtin_memcpy(local.addr, segment->flow.local, 16);
		flags = bpf_map_lookup_elem(&local_map, &local);
		if (flags)
			return flags;
	}
	return *kinds & LOCAL_ANYWHERE ? kinds : 0;
}

/* Which NIC a packet came in at; PORTS_MAX when none of ours. */
static __always_inline __u32 find_port(__u32 ifindex)
{
	__u32 port;

	for (port = 0; port < PORTS_MAX; port++)
		if (port >= ports || ifindexes[port] == ifindex)
			break;
	return port < ports ? port : PORTS_MAX;
}

static __always_inline __u32 has_pins(void)
{
	__u32 zero = 0;
	__u32 *any = bpf_map_lookup_elem(&pinned_any, &zero);

	return any && *any;
}

/* Which worker a segment belongs to, or why it is passed. `worker` stays as it is where it's the queue's home. */
static __always_inline __u32 find_worker(struct xdp_md *ctx, const struct segment *segment, __u32 *worker)
{
	__u32 *local = find_local(segment);
	__u32 mptcp = MPTCP_NONE, token = 0;
	__u32 *pinned = 0;

	if (!local)
		return PASSED_NOT_LOCAL;
	if (!segment->quoted && (segment->flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN) {
		mptcp = find_mptcp(ctx, segment, &token);
		if (mptcp == MPTCP_JOIN) {
			*worker = token % workers;
			return REDIRECTED_JOIN;
		}
	}
	/* Where nothing is pinned, as where one worker is every queue's home, there is nothing to look for; and the look-up
	 * is the dearest part of the way. */
	if ((workers > 1 || (*local & LOCAL_MPTCP_ONLY)) && has_pins())
		pinned = bpf_map_lookup_elem(&flow_map, &segment->flow);
	if (pinned) {
		*worker = *pinned;
		return segment->quoted ? REDIRECTED_ICMP : REDIRECTED_FLOW;
	}
	if ((*local & LOCAL_MPTCP_ONLY) && mptcp == MPTCP_NONE)
		return PASSED_PLAIN_TCP;
	return segment->quoted ? REDIRECTED_ICMP : REDIRECTED_HOME;
}

static __always_inline int act(__u32 reason, __u32 index, int action)
{
	__u64 *count = bpf_map_lookup_elem(&counters, &reason);

	if (count)
		*count += 1;
	if (testing) {
		struct verdict verdict = { .reason = reason, .index = index };
		__u32 zero = 0;

		bpf_map_update_elem(&last_verdict, &zero, &verdict, BPF_ANY);
	}
	return action;
}

static __always_inline int steer_packet(struct xdp_md *ctx)
{
	struct segment segment = {};
	__u32 reason = parse(ctx, &segment);
	__u32 worker = NO_WORKER;
	__u32 port, place, index;
	__u32 *home;
	long action;

	if (reason != PARSED)
		return act(reason, 0, XDP_PASS);
	reason = find_worker(ctx, &segment, &worker);
	if (reason < REDIRECTED_JOIN)
		return act(reason, 0, XDP_PASS);
	/* The packet is ours. Where its worker has no socket (it came in at a queue that we were told not to use, or we
	 * are shutting down) it is dropped: the kernel knows no such connection, and would reset it. */
	port = find_port(ctx->ingress_ifindex);
	if (port >= ports || ctx->rx_queue_index >= queues)
		return act(DROPPED_NO_SOCKET, 0, XDP_DROP);
	place = port * queues + ctx->rx_queue_index;
	if (worker == NO_WORKER) {
		home = bpf_map_lookup_elem(&homes, &place);
		if (home)
			worker = *home;
	}
	if (worker >= workers)
		return act(DROPPED_NO_SOCKET, 0, XDP_DROP);
	index = place * workers + worker;
	action = bpf_redirect_map(&xsks, index, XDP_DROP);
	if (action != XDP_REDIRECT)
		return act(DROPPED_NO_SOCKET, index, action);
	return act(reason, index, action);
}

#endif
