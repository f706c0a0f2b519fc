//! What a worker counts: packets by fate, and every reason for which something was refused.

use crate::mptcp::{FallbackReason, Mib, MptcpCounters, Tally};
use crate::tcp::TcpCounters;

/// Counts of one worker. All only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames received.
    pub received: u64,
    /// Of those, the ones that came to a queue whose home is another worker, at this worker's own socket there.
    pub received_as_guest: u64,
    /// And data segments that went on with a run, and took the short way ([`crate::wire::sequel`]).
    pub received_in_runs: u64,
    /// Frames sent.
    pub sent: u64,
    /// Frames that [`crate::wire::parse`] refused, by reason; the order is that of [`crate::wire::Malformed`].
    pub malformed: [u64; MALFORMED_REASONS],
    /// Segments to a port where nothing listens, or of a connection that is no more.
    pub stray: u64,
    /// Resets sent in answer to those.
    pub resets_sent: u64,
    /// ICMP errors about connections of ours.
    pub icmp: u64,
    /// Connections opened by us.
    pub opened: u64,
    /// Connections opened by peers.
    pub accepted: u64,
    /// SYNs dropped because there are too many connections, or because the SYN queue was full and no cookie would do.
    pub refused_connections: u64,
    /// Connections in TIME-WAIT that gave way to new ones, because there were too many.
    pub cut_time_waits: u64,
    /// SYNs dropped, and connections reset, because the accept queue was full.
    pub accept_overflows: u64,
    /// SYNs answered with a cookie.
    pub cookies_sent: u64,
    /// Connections that a cookie brought.
    pub cookies_received: u64,
    /// Segments behind no connection that brought no cookie of ours back while some were out.
    pub cookies_failed: u64,
    /// TCP Fast Open.
    pub fast_open: FastOpenCounters,
    /// Joins with a token that we don't know.
    pub unknown_tokens: u64,
    /// Joins refused by a limit.
    pub refused_joins: u64,
    /// Flows that could not be pinned to this worker.
    pub pin_failures: u64,
    /// Connections over.
    pub closed: u64,
    /// What TCP counted on their subflows.
    pub tcp: TcpCounters,
}

impl Counters {
    fn add(&mut self, other: &Counters) {
        let Counters {
            received,
            received_as_guest,
            received_in_runs,
            sent,
            malformed,
            stray,
            resets_sent,
            icmp,
            opened,
            accepted,
            refused_connections,
            cut_time_waits,
            accept_overflows,
            cookies_sent,
            cookies_received,
            cookies_failed,
            fast_open,
            unknown_tokens,
            refused_joins,
            pin_failures,
            closed,
            tcp,
        } = other;
        self.received += received;
        self.received_as_guest += received_as_guest;
        self.received_in_runs += received_in_runs;
        self.sent += sent;
        self.malformed.iter_mut().zip(malformed).for_each(|(own, more)| *own += more);
        self.stray += stray;
        self.resets_sent += resets_sent;
        self.icmp += icmp;
        self.opened += opened;
        self.accepted += accepted;
        self.refused_connections += refused_connections;
        self.cut_time_waits += cut_time_waits;
        self.accept_overflows += accept_overflows;
        self.cookies_sent += cookies_sent;
        self.cookies_received += cookies_received;
        self.cookies_failed += cookies_failed;
        self.fast_open.add(fast_open);
        self.unknown_tokens += unknown_tokens;
        self.refused_joins += refused_joins;
        self.pin_failures += pin_failures;
        self.closed += closed;
        self.tcp += *tcp;
    }
}

/// What became of TCP Fast Open (RFC 7413).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FastOpenCounters {
    /// Server: SYNs that asked for a cookie.
    pub requests: u64,
    /// Server: cookies given.
    pub cookies_given: u64,
    /// Server: SYNs with a cookie that is not ours, not the client's, or too old.
    pub bad_cookies: u64,
    /// Server: SYNs whose data was taken.
    pub accepted: u64,
    /// Server: SYNs with a valid cookie that counted as any other, because too many connections that began like that are not
    /// confirmed.
    pub overflows: u64,
    /// Server: SYNs with a valid cookie whose data was ignored because the connection is to become MPTCP, or has no room.
    pub declined: u64,
    /// Client: SYNs that asked for a cookie.
    pub asked: u64,
    /// Client: cookies that were learned.
    pub learned: u64,
    /// Client: SYNs with data of which some was acknowledged.
    pub sent_accepted: u64,
    /// Client: SYNs with data of which none was: it was sent again.
    pub sent_ignored: u64,
    /// Client: attempts after which the path is left alone for a while.
    pub failures: u64,
    /// Client: connections without Fast Open because of that.
    pub blocked: u64,
}

impl FastOpenCounters {
    fn add(&mut self, other: &Self) {
        let Self {
            requests,
            cookies_given,
            bad_cookies,
            accepted,
            overflows,
            declined,
            asked,
            learned,
            sent_accepted,
            sent_ignored,
            failures,
            blocked,
        } = other;
        self.requests += requests;
        self.cookies_given += cookies_given;
        self.bad_cookies += bad_cookies;
        self.accepted += accepted;
        self.overflows += overflows;
        self.declined += declined;
        self.asked += asked;
        self.learned += learned;
        self.sent_accepted += sent_accepted;
        self.sent_ignored += sent_ignored;
        self.failures += failures;
        self.blocked += blocked;
    }
}

/// All that a worker counts, at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WorkerCounters {
    /// Packets and connections.
    pub stack: Counters,
    /// MPTCP, as the kernel counts it.
    pub mptcp: MptcpCounters,
    /// Connections that became plain TCP, by the place of the reason in [`FallbackReason::ALL`].
    pub fallbacks: [u64; FallbackReason::ALL.len()],
    /// Of connections that there are and were.
    pub tally: Tally,
}

impl WorkerCounters {
    /// Adds those of another worker.
    pub fn add(&mut self, other: &WorkerCounters) {
        let WorkerCounters { stack, mptcp, fallbacks, tally } = other;
        self.stack.add(stack);
        self.mptcp.add_all(mptcp);
        self.fallbacks.iter_mut().zip(fallbacks).for_each(|(own, more)| *own += more);
        self.tally += *tally;
    }

    /// A connection is plain TCP although it could have been MPTCP.
    pub fn count_fallback(&mut self, reason: FallbackReason) {
        if let Some(place) = FallbackReason::ALL.iter().position(|other| *other == reason) {
            self.fallbacks[place] += 1;
        }
        match reason {
            FallbackReason::AckWithoutCapable => self.mptcp.bump(Mib::CapableFallbackAck),
            FallbackReason::SynAckWithoutCapable => self.mptcp.bump(Mib::CapableFallbackSynAck),
            FallbackReason::SynWithoutAnswer => self.mptcp.bump(Mib::CapableSynTxDrop),
            FallbackReason::NoDss | FallbackReason::OptionsLost => self.mptcp.bump(Mib::DssFallback),
            // The kernel counts them by what was received.
            FallbackReason::NotWanted
            | FallbackReason::SynWithoutCapable
            | FallbackReason::Unsupported
            | FallbackReason::PeerFellBack
            | FallbackReason::BadChecksum
            | FallbackReason::PeerSawBadChecksum => {}
        }
    }
}

/// How many reasons [`crate::wire::Malformed`] has.
pub const MALFORMED_REASONS: usize = 16;
