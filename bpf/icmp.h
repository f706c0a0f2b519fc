/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* ICMP errors that quote a TCP segment which we sent: they go to the worker that sent it. Included by parse.h. */
#ifndef BRAID_ICMP_H
#define BRAID_ICMP_H

/* RFC 792: destination unreachable, with "fragmentation needed" among its codes. */
#define ICMPV4_UNREACHABLE 3
/* RFC 4443: destination unreachable, packet too big. */
#define ICMPV6_UNREACHABLE 1
#define ICMPV6_TOO_BIG 2

/* An error has 8 bytes of its own, and quotes at least 8 bytes of the TCP header: the ports and the sequence. */
#define ICMP_HEADER 8
#define QUOTED_TCP 8

static __always_inline __u32 parse_quoted_ports(const struct payload *payload, struct segment *segment)
{
	__be16 *quoted = payload->data + payload->at;

	if (payload->len < QUOTED_TCP || (void *)quoted + QUOTED_TCP > payload->end)
		return PASSED_MALFORMED;
	/* We were its source. */
	segment->flow.local_port = quoted[0];
	segment->flow.remote_port = quoted[1];
	segment->quoted = 1;
	return PARSED;
}

static __always_inline __u32 parse_icmpv4(struct payload *payload, struct segment *segment)
{
	__u8 *icmp = payload->data + payload->at;
	struct iphdr *ip = (void *)icmp + ICMP_HEADER;
	__u32 header;

	if (payload->len < ICMP_HEADER || (void *)icmp + ICMP_HEADER > payload->end)
		return PASSED_MALFORMED;
	if (icmp[0] != ICMPV4_UNREACHABLE)
		return PASSED_NOT_TCP;
	if ((void *)(ip + 1) > payload->end)
		return PASSED_MALFORMED;
	header = ip->ihl * 4;
	if (ip->version != 4 || header < sizeof(*ip) || payload->len < ICMP_HEADER + header)
		return PASSED_MALFORMED;
	if (ip->frag_off & bpf_htons(IP_MORE_OR_OFFSET))
		return PASSED_FRAGMENT;
	if (ip->protocol != IPPROTO_TCP)
		return PASSED_NOT_TCP;
	map_v4(segment->flow.local, &ip->saddr);
	map_v4(segment->flow.remote, &ip->daddr);
	payload->at += ICMP_HEADER + header;
	payload->len -= ICMP_HEADER + header;
	return parse_quoted_ports(payload, segment);
}

static __always_inline __u32 parse_icmpv6(struct payload *payload, struct segment *segment)
{
	__u8 *icmp = payload->data + payload->at;
	struct ipv6hdr *ip = (void *)icmp + ICMP_HEADER;

	if (payload->len < ICMP_HEADER || (void *)icmp + ICMP_HEADER > payload->end)
		return PASSED_MALFORMED;
	if (icmp[0] != ICMPV6_UNREACHABLE && icmp[0] != ICMPV6_TOO_BIG)
		return PASSED_NOT_TCP;
	if ((void *)(ip + 1) > payload->end || ip->version != 6 || payload->len < ICMP_HEADER + sizeof(*ip))
		return PASSED_MALFORMED;
	if (ip->nexthdr == IPPROTO_FRAGMENT)
		return PASSED_FRAGMENT;
	if (ip->nexthdr != IPPROTO_TCP)
		return PASSED_NOT_TCP;
	__builtin_memcpy(segment->flow.local, &ip->saddr, 16);
	__builtin_memcpy(segment->flow.remote, &ip->daddr, 16);
	payload->at += ICMP_HEADER + sizeof(*ip);
	payload->len -= ICMP_HEADER + sizeof(*ip);
	return parse_quoted_ports(payload, segment);
}

#endif
