//! Chaos: everything that hosts must survive, at random and together. One to eight paths with middleboxes on them, links
//! that flap, connections that come and go, users who change their minds, any scheduler with any congestion control.

use super::{ConnectionSpec, Fault, Kind, Scenario, SeenBy, When};
use crate::base::time::Duration;
use crate::base::{Instant, Prng};
use crate::cc::{CongestionAlgorithm, CoupledAlgorithm};
use crate::mptcp::{ChecksumPolicy, CouplingScope, SchedulerKind};
use crate::sim::app::{AppSpec, CloseWhen};
use crate::sim::middlebox::Middlebox;

/// The most paths.
const PATHS_MAX: u64 = 8;
/// How many of [`CongestionAlgorithm::ALL`] the dice know: another number would make another scenario of every seed.
const DRAWN_ALGORITHMS: usize = 7;
/// Of so many seeds in a row four have what the dice do not know ([`Scenario::vary_congestion`], [`Scenario::vary_mtu`]).
const VARIED: u64 = 13;

impl Scenario {
    /// The chaos of a seed.
    pub(super) fn chaos(seed: u64) -> Self {
        let mut prng = Prng::new(seed ^ (Kind::Chaos as u64 + 1).wrapping_mul(0x5851_f42d_4c95_7f2d));
        let paths = 1 + prng.below(PATHS_MAX) as usize;
        let mut scenario = Scenario::plain(prng.next_u64(), paths, 0);
        scenario.watch_progress = true;
        scenario.poll_delay = Duration::from_micros(prng.below(100));
        scenario.draw_nics(&mut prng);
        scenario.draw_links(&mut prng);
        if prng.chance(0.5) {
            scenario.each_pipe(&mut prng, |pipe, prng| {
                pipe.loss = prng.unit() * 0.02;
                pipe.reorder = prng.unit() * 0.05;
                pipe.reorder_delay = Duration::from_micros(100 + prng.below(5_000));
                pipe.duplicate = prng.unit() * 0.02;
                pipe.corrupt = prng.unit() * 0.01;
            });
        }
        scenario.draw_middleboxes(&mut prng);
        // Wishes and policies: what the suite of policies has, faults included.
        if prng.chance(0.7) {
            scenario.draw_paths(&mut prng);
        }
        scenario.draw_outages(&mut prng);
        scenario.draw_connections(&mut prng);
        scenario.vary_congestion(seed);
        scenario.vary_mtu(seed);
        scenario.hosts.iter_mut().for_each(|host| host.frames = 8192);
        scenario
    }

    /// What came later than the dice above, and would change what they draw: on seeds that no other failure is known by.
    fn vary_congestion(&mut self, seed: u64) {
        let connections = self.connections.iter_mut().map(|spec| &mut spec.options);
        for options in connections.chain([&mut self.listen.connection]) {
            match seed % VARIED {
                0 if seed.is_multiple_of(2) => options.congestion = CongestionAlgorithm::Bbr,
                0 => options.congestion = CongestionAlgorithm::Dctcp,
                11 => options.congestion = CongestionAlgorithm::Coupled(CoupledAlgorithm::Wvegas),
                12 => options.coupling = CouplingScope::Bundle,
                _ => {}
            }
        }
    }

    /// Packets of several frames, on both ends or on one.
    fn vary_mtu(&mut self, seed: u64) {
        if seed % VARIED != 10 {
            return;
        }
        let ends = if seed.is_multiple_of(2) { 2 } else { 1 };
        for nic in self.hosts.iter_mut().take(ends).flat_map(|host| &mut host.nics) {
            nic.mtu = 9000;
        }
    }

    /// A middlebox on every third path. Those that take options away from a connection which they let begin with them end
    /// its subflow, or MPTCP: they stand on one path at most.
    fn draw_middleboxes(&mut self, prng: &mut Prng) {
        let mut broken = false;
        for link in &mut self.links {
            if !prng.chance(0.4) {
                continue;
            }
            let n = 1 + prng.below(30) as u32;
            let harmless = [
                Middlebox::StripAddAddr,
                Middlebox::RewriteAddAddr,
                Middlebox::StripJoin,
                Middlebox::StripDataFin(1 + n % 3),
                Middlebox::DropSynTimes(1 + n % 4),
                Middlebox::OnlyMss,
                Middlebox::ClampMss(536 + 20 * n as u16),
                Middlebox::ClampWindow(4_000 + 1_000 * n as u16),
                Middlebox::Normalise,
                Middlebox::DuplicateOptions,
                Middlebox::Nat,
                Middlebox::RewriteSequence,
                Middlebox::Split(200 + 30 * n as u16),
                Middlebox::SplitOptionsOnce(200 + 30 * n as u16),
                Middlebox::CoalesceAlike,
                Middlebox::EarlyAck(n),
            ];
            let breaking = [
                Middlebox::StripAll,
                Middlebox::StripSyn,
                Middlebox::StripFirstSyn,
                Middlebox::StripSynAck,
                Middlebox::StripThirdAck,
                Middlebox::StripNonSyn,
                Middlebox::StripToClient,
                Middlebox::StripFrom(n),
                Middlebox::DropSynWithMptcp,
                Middlebox::Coalesce,
            ];
            link.middlebox = if !broken && prng.chance(0.3) {
                broken = true;
                breaking[prng.below(breaking.len() as u64) as usize]
            } else {
                harmless[prng.below(harmless.len() as u64) as usize]
            };
        }
    }

    /// Links that fail for a while, each as it likes.
    fn draw_outages(&mut self, prng: &mut Prng) {
        for link in 0..self.links.len() {
            if !prng.chance(0.4) {
                continue;
            }
            let seen_by = SeenBy::ALL[prng.below(4) as usize];
            let mut at = prng.below(1_500);
            for _ in 0..1 + prng.below(5) {
                let lasts = 20 + prng.below(600);
                let when = When::At(Instant::from_millis(at));
                self.faults.push(Fault { link, when, lasts: Some(Duration::from_millis(lasts)), seen_by });
                at += lasts + 20 + prng.below(800);
            }
        }
    }

    fn draw_connections(&mut self, prng: &mut Prng) {
        let one = |prng: &mut Prng| {
            let (_, scheduler) = SchedulerKind::ALL[prng.below(SchedulerKind::ALL.len() as u64) as usize];
            let algorithms = &CongestionAlgorithm::ALL[..DRAWN_ALGORITHMS];
            let (_, congestion) = algorithms[prng.below(algorithms.len() as u64) as usize];
            (scheduler, congestion)
        };
        let listen = &mut self.listen.connection;
        (listen.scheduler, listen.congestion) = one(prng);
        if prng.chance(0.3) {
            listen.receive_buffer = 30_000 + prng.below(500_000) as u32;
        }
        if prng.chance(0.2) {
            listen.checksum = ChecksumPolicy::Required;
        }
        let template = self.connections[0];
        self.connections.clear();
        // What the slowest link carries in half a second: one that has only that is not to last for minutes.
        let slowest = self.links.iter().map(|link| link.a_to_b.rate_bps).min().unwrap_or(1);
        let fair = (slowest / 16).clamp(50_000, 400_000);
        for number in 0..1 + prng.below(4) {
            let bytes = fair / 10 + prng.below(fair);
            let back = if prng.chance(0.3) { prng.below(fair) } else { 0 };
            let (up, down) = if prng.chance(0.5) { (bytes, back) } else { (back, bytes) };
            let mut spec = ConnectionSpec {
                start: Instant::from_millis(1 + prng.below(2_000) * number.min(1)),
                nic: prng.below(self.links.len() as u64) as usize,
                client: AppSpec::new(up, down),
                server: AppSpec::new(down, up),
                ..template
            };
            (spec.options.scheduler, spec.options.congestion) = one(prng);
            spec.options.checksum = match prng.below(4) {
                0 => ChecksumPolicy::Required,
                _ => ChecksumPolicy::WhenAsked,
            };
            spec.options.no_join_here = prng.chance(0.1);
            match prng.below(3) {
                0 => spec.client.close = CloseWhen::PeerFinished,
                1 => spec.server.close = CloseWhen::PeerFinished,
                _ => {}
            }
            for app in [&mut spec.client, &mut spec.server] {
                if prng.chance(0.3) {
                    app.close_after = Duration::from_millis(prng.below(2_000));
                }
                if prng.chance(0.2) {
                    app.short_chunks = 0.3;
                }
                if prng.chance(0.2) {
                    app.read_every = Duration::from_micros(1_000 + prng.below(20_000));
                    app.read_chunks = 5 + prng.below(50) as usize;
                }
            }
            self.connections.push(spec);
        }
    }
}
