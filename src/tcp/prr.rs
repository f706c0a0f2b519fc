//! Proportional Rate Reduction (RFC 9937): while a loss or a mark is answered, as much is sent as is delivered, times the
//! reduction, so that the flight comes down to the threshold over a round trip, without a silence and without a burst.

use serde::{Deserialize, Serialize};

/// The state of one reduction. Bytes are of sequence space.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Prr {
    active: Option<Reduction>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Reduction {
    /// prr_delivered and prr_out.
    delivered: u64,
    sent: u64,
    /// RecoverFS: what was in flight when it began, and not known to be delivered.
    flight: u64,
    /// cwnd as RFC 9937 has it: what may be in the network until the next acknowledgment.
    window: u64,
}

/// What an acknowledgment means for a reduction.
#[derive(Debug, Clone, Copy)]
pub(super) struct PrrAck {
    /// DeliveredData: bytes that it says were delivered.
    pub(super) delivered: u64,
    /// Bytes in the network now.
    pub(super) pipe: u64,
    /// Where the flight should end.
    pub(super) ssthresh: u64,
    /// A full segment.
    pub(super) segment_bytes: u64,
    /// SafeACK: SND.UNA advanced and no further loss is indicated.
    pub(super) safe: bool,
}

impl Prr {
    /// RFC 9937 §6: a reduction begins with `flight` bytes in flight that are not known to be delivered.
    pub(super) fn start(&mut self, flight: u64) {
        self.active = Some(Reduction { delivered: 0, sent: 0, flight: flight.max(1), window: 0 });
    }

    /// It is over: the window is what the algorithm says.
    pub(super) fn stop(&mut self) {
        self.active = None;
    }

    /// What may be in the network, while a reduction goes on.
    pub(super) fn window(&self) -> Option<u64> {
        self.active.map(|reduction| reduction.window)
    }

    /// RFC 9937 §6: an acknowledgment came (or the reordering timer found a loss without one).
    pub(super) fn on_ack(&mut self, ack: PrrAck) {
        let Some(reduction) = &mut self.active else { return };
        let PrrAck { delivered, pipe, ssthresh, segment_bytes, safe } = ack;
        reduction.delivered += delivered;
        let mut count = if pipe > ssthresh {
            // Proportional: CEIL(prr_delivered * ssthresh / RecoverFS) - prr_out.
            let share = u128::from(reduction.delivered) * u128::from(ssthresh);
            let share = share.div_ceil(u128::from(reduction.flight));
            u64::try_from(share).unwrap_or(u64::MAX).saturating_sub(reduction.sent)
        } else {
            // PRR-CRB: packet conservation. PRR-SSRB: and a segment more while recovery makes progress.
            let conserving = reduction.delivered.saturating_sub(reduction.sent).max(delivered);
            let limit = conserving + if safe { segment_bytes } else { 0 };
            limit.min(ssthresh - pipe)
        };
        if reduction.sent == 0 && count == 0 {
            // A fast retransmit leaves at once.
            count = segment_bytes;
        }
        reduction.window = pipe + count;
    }

    /// `bytes` were sent.
    pub(super) fn on_sent(&mut self, bytes: u64) {
        if let Some(reduction) = &mut self.active {
            reduction.sent += bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One acknowledgment of a segment; sends what may be sent. Segments are of one byte, as in the RFC's examples.
    fn step(prr: &mut Prr, pipe: &mut u64, lost: u64, safe: bool) -> u64 {
        *pipe -= 1 + lost;
        prr.on_ack(PrrAck { delivered: 1, pipe: *pipe, ssthresh: 10, segment_bytes: 1, safe });
        let sent = prr.window().expect("active").saturating_sub(*pipe);
        prr.on_sent(sent);
        *pipe += sent;
        sent
    }

    #[test]
    fn one_loss_halves_the_flight_over_a_round_trip() {
        // RFC 6937 §3.1's first example: 20 in flight, the first is lost, two went out by limited transmit.
        let mut prr = Prr::default();
        prr.start(20);
        let mut pipe = 20;
        let mut sent = vec![step(&mut prr, &mut pipe, 1, false)];
        sent.extend((0..16).map(|_| step(&mut prr, &mut pipe, 0, false)));
        assert_eq!(sent[0], 1, "the retransmission leaves at once");
        assert!(sent.iter().all(|count| *count <= 1), "no burst: {sent:?}");
        let longest = sent.split(|count| *count > 0).map(<[u64]>::len).max();
        assert!(longest <= Some(2), "no silence: {sent:?}");
        assert_eq!(pipe, 10);
        prr.stop();
        assert_eq!(prr.window(), None);
    }

    #[test]
    fn many_losses_are_repaired_at_the_rate_of_delivery() {
        // RFC 6937 §3.1's second example: 15 of 20 are lost; five acknowledgments come, of which the third begins it.
        let mut prr = Prr::default();
        prr.start(20);
        let mut pipe = 19;
        let first = step(&mut prr, &mut pipe, 14, false);
        assert_eq!((first, pipe), (1, 5));
        assert_eq!(step(&mut prr, &mut pipe, 0, false), 1, "conservation");
        // Retransmissions arrive, and nothing more is lost: slow start up to the threshold.
        let sent: Vec<u64> = (0..8).map(|_| step(&mut prr, &mut pipe, 0, true)).collect();
        assert_eq!((&sent[..5], pipe), (&[2, 2, 2, 2, 2][..], 10), "{sent:?}");
        assert_eq!(sent[5..], [1, 1, 1]);
    }

    #[test]
    fn what_was_banked_is_sent_later_but_never_beyond_the_threshold() {
        let mut prr = Prr::default();
        prr.start(20);
        let ack = |pipe, delivered| PrrAck { delivered, pipe, ssthresh: 10, segment_bytes: 1, safe: false };
        prr.on_ack(ack(4, 3));
        assert_eq!(prr.window(), Some(7));
        prr.on_sent(1);
        // Two of three were not used.
        prr.on_ack(ack(4, 1));
        assert_eq!(prr.window(), Some(7));
        prr.on_ack(ack(9, 30));
        assert_eq!(prr.window(), Some(10));
    }
}
