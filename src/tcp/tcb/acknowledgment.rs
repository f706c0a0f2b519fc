//! Acknowledgments (RFC 9293 §3.10.7.4 fifth): what they tell of segments, of loss and of the path, and what follows for
//! recovery, for the congestion window and for the timers.

use super::Tcb;
use super::input::Segment;
use crate::base::{Instant, PoolCache, SeqNum};
use crate::cc::{AckSample, Controller, RateSample};
use crate::tcp::frto::{FrtoAck, Verdict};
use crate::tcp::loss_probe::LossProbe;
use crate::tcp::prr::PrrAck;
use crate::tcp::recovery::{Phase, Progress};
use crate::tcp::send::{Losses, News};
use crate::tcp::timer::Timer;
use crate::tcp::validation::RoundAck;
use crate::tcp::{State, WindowOwner};
use crate::wire::{MptcpOption, Mss, TcpOptions, TcpRepr};

/// What was in flight before something was learned of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outstanding {
    /// FlightSize: sent and not acknowledged cumulatively.
    flight: u32,
    /// What of it is not selectively acknowledged, either.
    unheld: u32,
}

/// An acknowledgment.
#[derive(Debug)]
struct Ack {
    now: Instant,
    news: News,
    before: Outstanding,
    /// RFC 2883: what arrived twice.
    duplicate: Option<(SeqNum, SeqNum)>,
    /// It acknowledges nothing new, and has no blocks.
    bare: bool,
    /// RFC 5681 §2: a duplicate acknowledgment. Only without SACK, whose blocks tell more.
    repeats: bool,
    /// The timestamp that it echoes.
    echo: Option<u32>,
    /// It echoes a congestion mark.
    marked: bool,
}

impl Tcb {
    /// RFC 9293 §3.10.7.4 fifth. Returns whether SND.UNA advanced.
    pub(super) fn handle_ack(
        &mut self,
        now: Instant,
        tcp: &TcpRepr,
        options: &TcpOptions,
        segment: Segment,
        cache: &mut PoolCache,
    ) -> bool {
        let is_late = tcp.ack.before(self.send.una());
        // RFC 9293 §3.10.7.4: an ACK that another has overtaken is ignored. Not so its blocks: RFC 6675 §5 has those of
        // every ACK taken, and what the later ACK had no room for, or had not seen, may be there.
        if is_late && (options.sack.is_empty() || !self.agreed.sack) {
            return false;
        }
        let before = self.outstanding();
        let window_changed = self.peer_window.update(tcp.seq, tcp.ack, self.scaled_window(tcp));
        self.persist.unanswered = 0;
        // RFC 7323 §3.2: zero is what an ACK echoes before our first timestamp has arrived.
        let echo = options.timestamps.filter(|stamps| self.agreed.timestamps && stamps.echo != 0);
        let echo = echo.map(|stamps| stamps.echo);
        let credible = now.back(self.rtt.shortest().unwrap_or_default());
        let mut news = News::new(credible, self.is_echo_older_than_first(echo));
        if !is_late {
            self.send.acknowledge(tcp.ack, &mut news, cache);
        }
        let duplicate = self.take_sack(tcp.ack, options, &mut news);
        let is_update = window_changed && self.config.window_owner == WindowOwner::Subflow;
        let nothing_new = !news.advanced && news.bytes == 0 && before.flight > 0;
        let is_pure = segment.len() == 0 && !is_update && !carries_signal(options);
        let ack = Ack {
            now,
            news,
            before,
            duplicate,
            bare: nothing_new && is_pure && options.sack.is_empty(),
            repeats: nothing_new && is_pure && !self.agreed.sack,
            echo,
            marked: self.ecn.is_echo(tcp.flags),
        };
        let (arrived, alone) = news.packs;
        if (arrived || alone > 0) && self.packs.on_acknowledged(arrived, alone) {
            self.give_up_packs(now);
        }
        if news.advanced {
            self.on_advance(&ack);
        } else if self.peer_window.bytes() == 0 {
            // RFC 9293 §3.8.6.1: a peer that answers with a closed window is alive.
            self.timeouts = 0;
        }
        // What arrived twice may be reported when all is acknowledged.
        if before.flight > 0 || duplicate.is_some() {
            self.react(&ack);
        }
        self.update_chrono(now);
        if news.advanced && self.send.is_fin_acked() {
            self.on_fin_acked(now);
        }
        news.advanced
    }

    /// What is in flight now.
    pub(super) fn outstanding(&self) -> Outstanding {
        let (_, held_bytes) = self.send.sacked();
        let flight = self.send.flight();
        Outstanding { flight, unheld: flight - held_bytes }
    }

    /// RFC 8985 §6.2 step 2: whether the echoed timestamp says that not the retransmission of the segment at SND.UNA is
    /// acknowledged, but an earlier transmission.
    fn is_echo_older_than_first(&self, echo: Option<u32>) -> bool {
        let resent_at = self.send.first_resent_at();
        let stamp = resent_at.map(|at| self.clock.ticks(at));
        stamp.zip(echo).is_some_and(|(stamp, echo)| (echo.wrapping_sub(stamp) as i32) < 0)
    }

    /// Takes the blocks of an acknowledgment. Returns what it reports to have arrived twice.
    fn take_sack(&mut self, ack: SeqNum, options: &TcpOptions, news: &mut News) -> Option<(SeqNum, SeqNum)> {
        if !self.agreed.sack {
            return None;
        }
        let duplicate = duplicate_block(ack, &options.sack);
        for (start, end) in options.sack.iter().skip(usize::from(duplicate.is_some())) {
            self.send.sack(*start, *end, news);
        }
        duplicate.filter(|(_, end)| end.at_or_before(self.send.nxt()))
    }

    /// The path carries segments alone and not together. RFC 8899 §5.1.1: what it carries is what it is said to carry, for
    /// a while. A little less than a segment has now, so that the probe that asks again is longer.
    fn give_up_packs(&mut self, now: Instant) {
        const LESS: usize = 16;
        let one = self.payload_of(self.mss, 0) + self.agreed.options_len() - LESS;
        self.set_mss(self.mss.min(Mss::new(one as u16)));
        self.path_mtu.on_too_big(now);
    }

    /// SND.UNA advanced: round trip and retransmission timer.
    fn on_advance(&mut self, ack: &Ack) {
        let now = ack.now;
        let change = self.path_mtu.on_advance(now, self.send.una(), self.mss);
        change.into_iter().for_each(|mss| self.set_mss(mss));
        self.timeouts = 0;
        // It begins anew with what is still unacknowledged.
        self.timers.stop(Timer::UserTimeout);
        // RFC 6298 §3: our own record is finer than the timestamp clock, and is used where it is unambiguous.
        let by_record = ack.news.measured_from.map(|sent_at| now.since(sent_at));
        let by_echo = || ack.echo.and_then(|echo| self.clock.round_trip(now, echo));
        if let Some(rtt) = by_record.or_else(by_echo) {
            // RFC 7323 appendix G: as many samples as every second segment of the flight gives.
            let samples = ack.before.flight >> (2 * self.mss.get()).ilog2();
            self.rtt.sample(now, rtt, samples.max(1).ilog2());
            self.probe.on_measured();
        }
        // RFC 5681 §4.2: an ACK does not wait when a second segment has arrived. The echo would tell of the first.
        if let Some(rtt) = by_record.filter(|_| ack.news.bytes as usize > self.mss.get()) {
            self.rtt.sample_prompt(rtt);
        }
        // RFC 6298 §5.2, §5.3.
        if self.send.flight() == 0 {
            self.timers.stop(Timer::Retransmit);
        } else {
            self.timers.set(Timer::Retransmit, now + self.rtt.rto());
        }
    }

    /// What an acknowledgment means for recovery and for the congestion window.
    fn react(&mut self, ack: &Ack) {
        let now = ack.now;
        let was_reducing = self.recovery.is_reducing();
        self.rack.on_advance(self.send.una());
        self.rack.on_delivered(now, &ack.news);
        if let Some(latest) = ack.news.latest.filter(|_| !ack.news.advanced) {
            self.rtt.sample_shortest(now, now.since(latest.sent_at));
        }
        self.hear_of_duplicate(ack);
        let undone = self.is_spurious(ack);
        if undone {
            self.undo(now);
        }
        let progress = match ack.news.advanced {
            true => self.recovery.on_advance(self.send.una(), ack.news.segments),
            false => Progress::None,
        };
        if progress == Progress::Recovered {
            self.on_recovered(now);
        }
        let rate = self.sample_rate(ack);
        let losses = match self.agreed.sack {
            true => self.detect_losses(now),
            false => self.count_duplicates(ack, progress),
        };
        // Losses beyond the recovery point are another episode.
        let left_over = progress == Progress::Recovered && self.send.is_repairing();
        let entered = self.answer_losses(now, losses, left_over, ack.before);
        let answered = self.answer_probe(ack);
        if ack.marked {
            self.answer_mark(now, ack.before);
        }
        let delivered = self.delivered_by(ack);
        self.reduce(ack, delivered, losses, entered);
        self.tell_controller(ack, delivered, rate, was_reducing);
        self.recovery.forget_far_point(self.send.una());
        if ack.news.advanced || ack.news.bytes > 0 || answered || undone {
            self.rearm_probe(now);
        }
        if self.send.has_lost() {
            self.send.settle_cursor();
        }
    }

    /// RFC 2883: something arrived twice.
    fn hear_of_duplicate(&mut self, ack: &Ack) {
        let Some((start, end)) = ack.duplicate else { return };
        let nxt = self.send.nxt();
        if self.undo.on_duplicate(start, end, self.counters.retransmits) {
            self.rack.on_spurious(nxt);
        }
    }

    /// Whether what was taken for lost had only been late.
    fn is_spurious(&mut self, ack: &Ack) -> bool {
        let una = self.send.una();
        let mut by_forward = false;
        if self.recovery.phase() == Phase::Timeout {
            by_forward = self.ask_frto(ack) == Verdict::Spurious;
            if ack.news.advanced && ack.duplicate.is_some() {
                // RFC 3522 §3.3: the flight had arrived, and all of its ACKs were lost. That is a good reason.
                self.undo.settle();
            }
        }
        let by_echo = ack.news.advanced
            && self.undo.is_original_acknowledged(ack.echo, ack.duplicate.is_some(), una == self.send.nxt());
        let spurious = by_forward || by_echo || self.undo.is_all_duplicated();
        // RFC 4015 §3.1 step 9: not if there was congestion, after all.
        spurious && self.undo.is_open() && !ack.marked
    }

    fn ask_frto(&mut self, ack: &Ack) -> Verdict {
        let nothing_new = !ack.news.advanced && ack.news.bytes == 0;
        let had_new_data = self.frto.is_in_second_step();
        let verdict = self.frto.on_ack(&FrtoAck {
            una: self.send.una(),
            advanced: ack.news.advanced,
            nxt: self.send.nxt(),
            sack: self.agreed.sack,
            lowest_original: ack.news.lowest_original,
            highest: ack.news.highest,
            duplicate: ack.repeats || (self.agreed.sack && nothing_new && ack.bare),
        });
        match verdict {
            // Whoever owns the connection has this turn to send something new.
            Verdict::SendNew => self.timers.set(Timer::NewData, ack.now),
            // RFC 5682 §2.1 step 3a: three segments by now, and two of them are out.
            Verdict::Conventional if had_new_data => self.recovery.force(),
            Verdict::None | Verdict::Conventional | Verdict::Spurious => {}
        }
        verdict
    }

    /// Recovery was for nothing: what it did is taken back (RFC 4015, RFC 9438 §4.9).
    fn undo(&mut self, now: Instant) {
        let una = self.send.una();
        let phase = self.recovery.phase();
        self.counters.undone += 1;
        self.congestion.on_undo(now);
        self.undo.settle();
        if phase == Phase::Timeout {
            self.rtt.on_spurious_timeout();
        } else {
            self.rack.on_undone();
        }
        if self.recovery.is_repairing() {
            // RFC 4015 §3.1 step 8: on with new data. What was not sent again is in the network still, so the window
            // that comes back is full, and no burst follows.
            self.send.forgive_lost();
            self.frto.stop();
            self.prr.stop();
            self.validation.on_recovered();
            self.recovery.on_undone(una);
        }
    }

    /// RFC 8985 §6.2 step 5: what is lost by now; and when to look again.
    pub(super) fn detect_losses(&mut self, now: Instant) -> Losses {
        let (held, _) = self.send.sacked();
        self.rack.update_window(self.recovery.is_repairing(), held, self.rtt.shortest(), self.rtt.srtt());
        let losses = self.send.detect_lost(now, &self.rack);
        match self.rack.settles_at().filter(|_| losses.waits) {
            Some(at) => {
                self.timers.set(Timer::Reordering, at.max(now));
                // RFC 8985 §8: of the two one runs. The first of several that wait may be late before the timer, which
                // goes by the last.
                if self.timers.deadline(Timer::Retransmit).is_some_and(|timeout| timeout <= at) {
                    self.timers.set(Timer::Retransmit, at + self.rtt.rto());
                }
            }
            None => self.timers.stop(Timer::Reordering),
        }
        losses
    }

    /// RFC 6582 §3.2: loss without SACK.
    fn count_duplicates(&mut self, ack: &Ack, progress: Progress) -> Losses {
        let beyond_hole = self.send.segments_in_flight().saturating_sub(1) as u32;
        if ack.repeats && self.recovery.on_duplicate(self.send.una(), beyond_hole) {
            return self.send.mark_head_lost();
        }
        if progress != Progress::Partial {
            return Losses::default();
        }
        let losses = self.send.mark_head_lost();
        if losses.segments > 0 {
            self.recovery.force();
        }
        losses
    }

    /// Answers losses. `left_over`: some are left that the episode which has just ended was not about. True when an episode
    /// begins.
    pub(super) fn answer_losses(
        &mut self,
        now: Instant,
        losses: Losses,
        left_over: bool,
        before: Outstanding,
    ) -> bool {
        self.counters.lost += u64::from(losses.segments);
        // RFC 8899 §3: the loss of a probe for the path's MTU is no sign of congestion.
        let is_probe = losses.segments == 1 && self.is_path_probe_lost();
        if !is_probe {
            self.tell_of_losses(now, &losses);
        }
        let begins = match self.recovery.phase() {
            Phase::Open if is_probe => left_over,
            Phase::Open | Phase::Reducing => losses.segments > 0 || left_over,
            // RFC 5681 §4.3: the loss of a retransmission is another indication of congestion.
            Phase::Fast => self.agreed.sack && losses.retransmissions > 0,
            // The window is as small as it gets, and grows by what arrives.
            Phase::Timeout => false,
        };
        if !begins {
            return false;
        }
        // RFC 3168 §6.1.2: once for what is lost and what is marked in one window.
        let answered = self.recovery.phase() == Phase::Reducing;
        match self.recovery.phase() {
            Phase::Fast => self.undo.settle(),
            _ => self.undo.begin(self.send.una()),
        }
        self.recovery.enter(self.send.nxt());
        self.probe.reset();
        self.timers.stop(Timer::LossProbe);
        self.counters.fast_recoveries += 1;
        if !answered {
            let flight = self.loss_flight(now, before);
            self.congestion.on_loss(now, flight);
            self.start_reduction(before);
            self.ecn.on_reduced();
        }
        true
    }

    /// The window comes down over a round trip, unless the algorithm has a rate that sees to it.
    fn start_reduction(&mut self, before: Outstanding) {
        if self.congestion.pacing_rate().is_none() {
            self.prr.start(u64::from(before.unheld));
        }
    }

    /// What was found lost, whether it begins an episode or not.
    pub(super) fn tell_of_losses(&mut self, now: Instant, losses: &Losses) {
        if let Some(lost) = self.delivery.lost(losses, self.agreed.sack) {
            self.congestion.on_lost(now, &lost);
        }
    }

    /// Whether what waits for retransmission is the probe for the path's MTU.
    fn is_path_probe_lost(&self) -> bool {
        let next = self.send.next_lost();
        self.path_mtu.probe_end().zip(next).is_some_and(|(end, index)| self.send.ends_at(index, end))
    }

    /// The flight size that a loss is answered by.
    pub(super) fn loss_flight(&mut self, now: Instant, before: Outstanding) -> u64 {
        let cwnd = self.congestion.window();
        self.validation.on_loss(now, u64::from(before.flight), cwnd, self.rtt.srtt())
    }

    /// An episode is over.
    fn on_recovered(&mut self, now: Instant) {
        let limit = self.validation.on_recovered();
        self.congestion.on_recovered(now, limit);
        self.rack.on_recovered();
        self.frto.stop();
        self.prr.stop();
        if self.undo.is_without_retransmission() {
            // What was missing came by itself before anything could be sent again.
            self.undo(now);
        }
    }

    /// RFC 8985 §7.4.2: a loss that only its probe's acknowledgment shows. True when the probe's fate is known now, so that
    /// what was sent since may be probed for.
    fn answer_probe(&mut self, ack: &Ack) -> bool {
        let was_on_its_way = self.probe.is_on_its_way();
        if ack.news.advanced || ack.news.bytes > 0 {
            self.probe.cancel();
        }
        let repaired = self.probe.on_ack(self.send.una(), ack.duplicate, ack.bare);
        if repaired && self.recovery.is_open() {
            let flight = self.loss_flight(ack.now, ack.before);
            self.congestion.on_loss(ack.now, flight);
            self.congestion.on_recovered(ack.now, self.validation.on_recovered());
            self.undo.settle();
            self.ecn.on_reduced();
        }
        was_on_its_way && !self.probe.is_on_its_way()
    }

    /// RFC 3168 §6.1.2: the peer echoes a congestion mark. Once a window.
    fn answer_mark(&mut self, now: Instant, before: Outstanding) {
        if !self.recovery.answers_mark(self.send.una()) {
            return;
        }
        let was_least = self.congestion.window() <= self.payload_max(0) as u64;
        let flight = self.loss_flight(now, before);
        self.congestion.on_ecn(now, flight);
        self.undo.settle();
        self.recovery.enter_reducing(self.send.nxt());
        self.start_reduction(before);
        self.ecn.on_reduced();
        if was_least {
            // RFC 3168 §6.1.2: one segment a round trip is still too much. The next one waits for a time-out.
            let until = now + self.rtt.rto();
            self.pacing.hold(until);
            self.timers.set(Timer::Pacing, until);
        }
    }

    /// RFC 9937 §5 (DeliveredData): bytes whose delivery is news. Without SACK duplicates have told of some before.
    fn delivered_by(&mut self, ack: &Ack) -> u32 {
        if self.agreed.sack {
            return ack.news.bytes;
        }
        let segment_bytes = self.payload_max(0) as u32;
        self.recovery.presume_delivered(ack.news.bytes, ack.repeats, segment_bytes)
    }

    /// RFC 9937: how much may be in the network while the window comes down.
    fn reduce(&mut self, ack: &Ack, delivered: u32, losses: Losses, entered: bool) {
        if self.recovery.is_reducing() && (delivered > 0 || entered) {
            let safe = ack.news.advanced && losses.segments == 0;
            self.update_prr(u64::from(delivered), safe);
        }
    }

    pub(super) fn update_prr(&mut self, delivered: u64, safe: bool) {
        self.prr.on_ack(PrrAck {
            delivered,
            pipe: u64::from(self.pipe()),
            ssthresh: self.congestion.ssthresh(),
            segment_bytes: self.payload_max(0) as u64,
            safe,
        });
    }

    /// RFC 3042 §2, RFC 5681 §3.2: duplicates, and blocks beyond a gap, change no window. When the gap is filled, what they
    /// had told of counts only on a path that is known to reorder, whose window would be held down otherwise: elsewhere a
    /// gap means loss, and they would come as a burst (RFC 5681 §3.1 has a segment for an ACK; RFC 4653 §3.3 has none).
    fn grow_by(&mut self, advanced: bool, delivered: u32, recovering: bool) -> u64 {
        let counts = advanced || self.rack.reorderings() > 0;
        match (recovering, counts) {
            (true, _) => self.growth = 0,
            (false, true) => self.growth += u64::from(delivered),
            (false, false) => {}
        }
        if advanced { std::mem::take(&mut self.growth) } else { 0 }
    }

    /// How fast was delivered what an acknowledgment is about. Before losses are looked for: they are counted by what was
    /// delivered until then.
    fn sample_rate(&mut self, ack: &Ack) -> Option<RateSample> {
        let News { bytes, latest, .. } = ack.news;
        if bytes == 0 {
            return None;
        }
        self.delivery.on_delivered(ack.now, bytes, latest, self.rtt.shortest())
    }

    fn tell_controller(&mut self, ack: &Ack, delivered: u32, rate: Option<RateSample>, was_reducing: bool) {
        let bytes = ack.news.bytes;
        if bytes == 0 {
            return;
        }
        let now = ack.now;
        self.delivered_marked += if ack.marked { u64::from(bytes) } else { 0 };
        // Neither in fast recovery nor by what ends it.
        let recovering = was_reducing || self.recovery.is_reducing();
        let growth_bytes = self.grow_by(ack.news.advanced, delivered, recovering);
        let flight_bytes = self.validation.peak();
        let round_start = self.validation.on_ack(RoundAck {
            now,
            una: self.send.una(),
            nxt: self.send.nxt(),
            bytes: u64::from(bytes),
            flight: u64::from(self.send.flight()),
            srtt: self.rtt.srtt(),
            recovering: recovering || self.recovery.is_repairing(),
        });
        let sample = AckSample {
            acked_bytes: u64::from(bytes),
            growth_bytes,
            marked_bytes: if ack.marked { u64::from(bytes) } else { 0 },
            flight_bytes,
            pipe_bytes: u64::from(self.pipe()),
            delivered_bytes: self.delivery.delivered(),
            round_start,
            rtt: ack.news.measured_from.map(|sent_at| now.since(sent_at)),
            srtt: self.rtt.srtt(),
            min_rtt: self.rtt.shortest(),
            rate,
            recovering,
        };
        self.congestion.on_ack(now, &sample);
        if round_start {
            self.check_validation(now);
        }
    }

    /// RFC 7661 §4.4.3: a window that has not been used for minutes.
    pub(super) fn check_validation(&mut self, now: Instant) {
        if self.validation.is_outdated(now, self.congestion.window(), self.rtt.srtt()) {
            self.congestion.on_idle(now);
        }
    }

    /// RFC 8985 §7.2: (re)starts the timer of the loss probe, or stops it where something else sees to what is missing.
    pub(super) fn rearm_probe(&mut self, now: Instant) {
        let (held, _) = self.send.sacked();
        let nothing_missing = self.recovery.is_open() && held == 0 && !self.send.is_repairing();
        let allowed = self.agreed.sack && nothing_missing && self.probe.is_allowed();
        let Some(retransmit) = self.timers.deadline(Timer::Retransmit).filter(|_| allowed) else {
            return self.timers.stop(Timer::LossProbe);
        };
        let alone = self.send.segments_in_flight() == 1;
        let interval = LossProbe::interval(self.rtt.srtt(), alone, self.config.peer_ack_delay);
        // No later than the time-out, which it puts off.
        self.timers.set(Timer::LossProbe, (now + interval).min(retransmit));
    }

    /// The caller has nothing to queue now. draft-cheng-iccrg-delivery-rate-estimation-02 §3.4: where there is room for a segment,
    /// the network could carry more than it is given, and what it delivers is no measure of it.
    pub fn note_nothing_to_queue(&mut self) {
        if self.send_room() >= self.payload_max(0) {
            self.delivery.on_app_limited(self.pipe());
        }
    }

    pub(super) fn on_fin_acked(&mut self, now: Instant) {
        let before = self.state;
        self.state = before.after_fin_acked();
        if self.state == before {
            return;
        }
        match self.state {
            State::TimeWait => self.start_time_wait(now),
            State::Closed => self.finish(crate::tcp::CloseReason::Finished),
            _ => {}
        }
    }
}

/// RFC 2883 §4: a first block below the cumulative acknowledgment, or within the second block, reports what arrived twice.
fn duplicate_block(ack: SeqNum, blocks: &[(SeqNum, SeqNum)]) -> Option<(SeqNum, SeqNum)> {
    let (start, end) = *blocks.first()?;
    let is_inside = |outer: &(SeqNum, SeqNum)| start.at_or_after(outer.0) && end.at_or_before(outer.1);
    let is_duplicate = end.at_or_before(ack) || blocks.get(1).is_some_and(is_inside);
    (start.before(end) && is_duplicate).then_some((start, end))
}

/// RFC 8684 §3: options other than DSS make an ACK a signal of MPTCP, and no duplicate in the sense of RFC 5681.
fn carries_signal(options: &TcpOptions) -> bool {
    options.mptcp.iter().any(|option| !matches!(option, MptcpOption::Dss(_)))
}
