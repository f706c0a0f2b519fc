/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* From a frame to the TCP segment in it. What can't be one is passed: the kernel knows what to do with it.
 * Only as much is checked as steering needs; the stack checks the rest. stack::owner does the same in Rust. */
#ifndef BRAID_PARSE_H
#define BRAID_PARSE_H

#include "maps.h"
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

#define IP_MORE_OR_OFFSET 0x3fff

struct vlan {
	__be16 tci;
	__be16 protocol;
};

/* A segment that arrived, or one that an ICMP error quotes. */
struct segment {
	struct flow flow;
	__u32 options;	   /* where its TCP options begin in the frame */
	__u32 options_len; /* at most 40 */
	__u8 flags;
	__u8 quoted; /* it was ours, and an ICMP error is about it */
};

/* What parsing says when it found a segment. */
#define PARSED REASONS

/* What lies behind an IP header. */
struct payload {
	void *data;
	void *end;
	__u32 at;  /* where it begins in the frame */
	__u32 len; /* how long the IP header says it is */
};

static __always_inline void map_v4(__u8 *to, const __be32 *from)
{
	__builtin_memset(to, 0, 10);
	to[10] = to[11] = 0xff;
	__builtin_memcpy(to + 12, from, 4);
}

#include "icmp.h"

static __always_inline __u32 parse_tcp(const struct payload *payload, struct segment *segment)
{
	struct tcphdr *tcp = payload->data + payload->at;
	__u32 header;

	if ((void *)(tcp + 1) > payload->end)
		return PASSED_MALFORMED;
	header = tcp->doff * 4;
	if (header < sizeof(*tcp) || header > payload->len || (void *)tcp + header > payload->end)
		return PASSED_MALFORMED;
	segment->flow.local_port = tcp->dest;
	segment->flow.remote_port = tcp->source;
	segment->flags = ((__u8 *)tcp)[13];
	segment->options = payload->at + sizeof(*tcp);
	segment->options_len = header - sizeof(*tcp);
	return PARSED;
}

static __always_inline __u32 parse_ipv4(struct payload *payload, struct segment *segment)
{
	struct iphdr *ip = payload->data + payload->at;
	__u32 header, total;

	if ((void *)(ip + 1) > payload->end)
		return PASSED_MALFORMED;
	header = ip->ihl * 4;
	total = bpf_ntohs(ip->tot_len);
	if (ip->version != 4 || header < sizeof(*ip) || total < header)
		return PASSED_MALFORMED;
	if (ip->frag_off & bpf_htons(IP_MORE_OR_OFFSET))
		return PASSED_FRAGMENT;
	payload->at += header;
	payload->len = total - header;
	if (ip->protocol == IPPROTO_ICMP)
		return parse_icmpv4(payload, segment);
	if (ip->protocol != IPPROTO_TCP)
		return PASSED_NOT_TCP;
	map_v4(segment->flow.local, &ip->daddr);
	map_v4(segment->flow.remote, &ip->saddr);
	return parse_tcp(payload, segment);
}

/* RFC 8200: extension headers are the kernel's, so a segment behind one is not ours. */
static __always_inline __u32 parse_ipv6(struct payload *payload, struct segment *segment)
{
	struct ipv6hdr *ip = payload->data + payload->at;

	if ((void *)(ip + 1) > payload->end || ip->version != 6)
		return PASSED_MALFORMED;
	payload->at += sizeof(*ip);
	payload->len = bpf_ntohs(ip->payload_len);
	if (ip->nexthdr == IPPROTO_FRAGMENT)
		return PASSED_FRAGMENT;
	if (ip->nexthdr == IPPROTO_ICMPV6)
		return parse_icmpv6(payload, segment);
	if (ip->nexthdr != IPPROTO_TCP)
		return PASSED_NOT_TCP;
	__builtin_memcpy(segment->flow.local, &ip->daddr, 16);
	__builtin_memcpy(segment->flow.remote, &ip->saddr, 16);
	return parse_tcp(payload, segment);
}

/* PARSED, or why the frame is passed. */
static __always_inline __u32 parse(struct xdp_md *ctx, struct segment *segment)
{
	struct payload payload = {
		.data = (void *)(long)ctx->data,
		.end = (void *)(long)ctx->data_end,
		.at = sizeof(struct ethhdr),
	};
	struct ethhdr *eth = payload.data;
	__be16 protocol;

	if ((void *)(eth + 1) > payload.end)
		return PASSED_MALFORMED;
	protocol = eth->h_proto;
	if (protocol == bpf_htons(ETH_P_8021Q)) {
		struct vlan *vlan = (void *)(eth + 1);

		if ((void *)(vlan + 1) > payload.end)
			return PASSED_MALFORMED;
		protocol = vlan->protocol;
		payload.at += sizeof(*vlan);
	}
	if (protocol == bpf_htons(ETH_P_IP))
		return parse_ipv4(&payload, segment);
	if (protocol == bpf_htons(ETH_P_IPV6))
		return parse_ipv6(&payload, segment);
	return PASSED_NOT_IP;
}

#endif
