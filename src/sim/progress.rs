//! The checker of progress: a transfer that has a usable path brings a byte to its reader within two retransmission
//! time-outs. Whatever keeps it longer is a stall, even if it ends well.

use crate::base::time::Duration;
use crate::base::{Instant, PortId};
use crate::mptcp::SubflowDetails;
use crate::sim::app::SimApp;
use crate::sim::host::Host;
use crate::tcp::State;

/// How often it looks.
pub const LOOK_EVERY: Duration = Duration::from_millis(50);

/// One direction of a connection.
#[derive(Debug, Clone, Copy, Default)]
struct Transfer {
    /// What had been received when it was looked at last.
    received: u64,
    /// Since when nothing has come although something should.
    since: Instant,
    /// The longest that it might wait at any time since then.
    allowed: Duration,
}

/// What it knows of a run.
#[derive(Debug, Default)]
pub struct ProgressCheck {
    /// Of each connection, towards the first host and towards the second, once both ends are there.
    transfers: Vec<[Option<Transfer>; 2]>,
    /// The longest wait so far, in hundredths of what was allowed.
    longest_percent: u64,
}

impl ProgressCheck {
    /// A link failed or came back: its subflows need their time to see it.
    pub fn link_changed(&mut self, now: Instant) {
        self.transfers.iter_mut().flatten().flatten().for_each(|transfer| transfer.since = now);
    }

    /// The longest that a transfer has waited, in hundredths of what it may.
    pub fn longest_percent(&self) -> u64 {
        self.longest_percent
    }

    /// Looks at all connections. `is_up` says whether packets pass a link: NICs and links have the same numbers.
    ///
    /// # Errors
    /// Which transfer has stalled.
    pub fn look(
        &mut self,
        now: Instant,
        hosts: &[Host],
        is_up: impl Fn(PortId) -> bool,
    ) -> Result<(), String> {
        let [first, second] = hosts else { return Ok(()) };
        for (into, (to, from)) in [(first, second), (second, first)].into_iter().enumerate() {
            for reader in to.apps() {
                let number = reader.connection();
                if self.transfers.len() <= number {
                    self.transfers.resize(number + 1, [None; 2]);
                }
                let anew = Transfer { received: reader.received(), since: now, allowed: Duration::default() };
                let writer = from.apps().iter().find(|app| app.connection() == number);
                let waiting = writer.is_some_and(|writer| writer.sent() > reader.received());
                let allowed = allowance(now, reader, to, from, &is_up);
                let transfer = match (&mut self.transfers[number][into], allowed) {
                    (Some(transfer), Some(allowed)) if waiting && reader.received() == transfer.received => {
                        transfer.allowed = transfer.allowed.max(allowed);
                        transfer
                    }
                    (transfer, _) => {
                        *transfer = Some(anew);
                        continue;
                    }
                };
                let allowed = transfer.allowed;
                let waited = now.since(transfer.since);
                let percent = waited.as_micros() * 100 / allowed.as_micros().max(1);
                self.longest_percent = self.longest_percent.max(percent);
                if waited > allowed {
                    return Err(format!(
                        "connection {number} has stalled for {waited:?}: {} bytes have come, and a path is usable \
                         ({allowed:?} are allowed); the sender's subflows:\n{}\nthe reader's:\n{}",
                        reader.received(),
                        describe(&from.subflows(now, number)),
                        describe(&to.subflows(now, number))
                    ));
                }
            }
        }
        Ok(())
    }
}

/// How long a transfer may wait; `None`: for ever, for it has no usable path.
fn allowance(
    now: Instant,
    reader: &SimApp,
    to: &Host,
    from: &Host,
    is_up: &impl Fn(PortId) -> bool,
) -> Option<Duration> {
    let number = reader.connection();
    let there = to.subflows(now, number);
    let subflows: Vec<SubflowDetails> =
        from.subflows(now, number).into_iter().filter(|subflow| carries(subflow.state)).collect();
    let usable = |subflow: &SubflowDetails| {
        is_up(subflow.port) && there.iter().any(|other| other.port == subflow.port && carries(other.state))
    };
    if !subflows.iter().any(usable) {
        return None;
    }
    // What a dead path holds is sent elsewhere when its first time-out says so, not a later one.
    let patience = |subflow: &SubflowDetails| match usable(subflow) {
        true => subflow.tcp.rto,
        false => subflow.tcp.rto / 2u32.pow(subflow.tcp.backoff.min(16)),
    };
    let rto = subflows.iter().map(patience).max().unwrap_or_default();
    // What leaves after two time-outs is seen a round trip later, by who looks only so often.
    let round_trip = subflows.iter().filter_map(|subflow| subflow.tcp.srtt).max().unwrap_or_default();
    Some(rto * 2 + round_trip + reader.spec().read_every * 2 + LOOK_EVERY)
}

/// Whether data goes over a subflow in this state.
fn carries(state: State) -> bool {
    matches!(state, State::Established | State::FinWait1 | State::FinWait2 | State::CloseWait)
}

fn describe(subflows: &[SubflowDetails]) -> String {
    let lines = subflows.iter().map(|subflow| {
        let SubflowDetails { id, port, state, usable, tcp, backup_wanted, .. } = subflow;
        format!(
            "  {id:?} {port} {state:?} usable {usable} backup {backup_wanted} rto {:?} backoff {} cwnd {} window {} \
             sent {} acked {}",
            tcp.rto, tcp.backoff, tcp.cwnd, tcp.peer_window, tcp.bytes_sent, tcp.bytes_acked
        )
    });
    lines.collect::<Vec<_>>().join("\n")
}
