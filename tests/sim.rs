//! The simulator's suites: many seeds of each kind of scenario, with every checker on.
//!
//! `BRAID_LONG=1` (`make test-long`) runs 1,000 seeds of each kind instead of a few, `BRAID_SEEDS=n` so many,
//! from `BRAID_FIRST=m` on.
//! `BRAID_SEED=17` runs only that one, twice, and `BRAID_LOG=1` prints every packet of it. A failure says how to run it
//! again. The whole chaos: `BRAID_SEEDS=10000 cargo test --release --test sim chaos -- --nocapture`.

use braid::base::time::Duration;
use braid::base::{Instant, PortId};
use braid::mptcp::SchedulerKind;
use braid::mptcp::connection::SUBFLOWS_MAX;
use braid::pm::{Policy, SubflowRequest};
use braid::sim::losses::SegmentLoss;
use braid::sim::network::{HostId, Nic};
use braid::sim::pipe::QueueLimit;
use braid::sim::scenario::{Fault, SeenBy, Stop, When};
use braid::sim::wish::{TimedWish, Wish};
use braid::sim::{Kind, Outcome, Scenario, measure, run};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

#[path = "sim/middleboxes.rs"]
mod middleboxes;

/// Seeds of each kind, unless the environment says otherwise.
const SEEDS: u64 = 40;
/// Seeds of each kind in the long form.
const LONG_SEEDS: u64 = 1000;
/// Every so many seeds are run twice, to see that a seed gives one trace.
const REPEAT_EVERY: u64 = 8;

/// Whether `make test-long` runs this.
fn is_long() -> bool {
    std::env::var_os("BRAID_LONG").is_some()
}

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

fn run_seed(kind: Kind, seed: u64, twice: bool) -> Result<Outcome, String> {
    let mut scenario = Scenario::random(kind, seed);
    scenario.log = std::env::var_os("BRAID_LOG").is_some();
    let again = format!("again: BRAID_SEED={seed} cargo test --test sim {} -- --nocapture", kind.name());
    // A panic in the stack is a failure of this seed like any other.
    let guarded = |scenario: &Scenario| {
        let result = std::panic::catch_unwind(|| run(scenario));
        let result = result.map_err(|_| String::from("it panicked, see above"));
        result.and_then(|result| result.map_err(|failure| failure.to_string()))
    };
    let outcome =
        guarded(&scenario).map_err(|wrong| format!("{} seed {seed}: {wrong}\n{again}", kind.name()))?;
    if twice {
        scenario.log = false;
        let second = guarded(&scenario);
        if second.as_ref() != Ok(&outcome) {
            let name = kind.name();
            return Err(format!("{name} seed {seed} gave two traces: {outcome:?} and {second:?}\n{again}"));
        }
    }
    Ok(outcome)
}

/// Runs the seeds of a kind on all cores. Gives the outcomes in the order of the seeds.
fn suite(kind: Kind) -> Vec<Outcome> {
    let (first, seeds) = match number("BRAID_SEED") {
        Some(seed) => (seed, 1),
        None => (
            number("BRAID_FIRST").unwrap_or(0),
            number("BRAID_SEEDS").unwrap_or(if is_long() { LONG_SEEDS } else { SEEDS }),
        ),
    };
    let next = AtomicU64::new(0);
    let results = Mutex::new(Vec::new());
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    if place >= seeds {
                        return;
                    }
                    let twice = seeds == 1 || place.is_multiple_of(REPEAT_EVERY);
                    let result = run_seed(kind, first + place, twice);
                    let mut results = results.lock().expect("no thread panics with the lock");
                    results.push((place, result));
                    if results.len().is_multiple_of(100) {
                        println!("{}: {} of {seeds} seeds", kind.name(), results.len());
                    }
                }
            });
        }
    });
    let mut results = results.into_inner().expect("no thread panicked with the lock");
    results.sort_by_key(|(place, _)| *place);
    let failures: Vec<&String> = results.iter().filter_map(|(_, result)| result.as_ref().err()).collect();
    for failure in &failures {
        println!("{}", failure.lines().next().unwrap_or_default());
    }
    let some: Vec<&str> = failures.iter().take(3).map(|failure| failure.as_str()).collect();
    assert!(
        failures.is_empty(),
        "{} of {seeds} seeds failed; the first:\n{}",
        failures.len(),
        some.join("\n\n")
    );
    let outcomes: Vec<Outcome> = results.into_iter().filter_map(|(_, result)| result.ok()).collect();
    let packets: u64 = outcomes.iter().map(|outcome| outcome.packets).sum();
    let bytes: u64 = outcomes.iter().map(|outcome| outcome.bytes).sum();
    println!("{}: {seeds} seeds, {packets} packets, {bytes} bytes", kind.name());
    outcomes
}

/// Whether the outcomes are those of enough seeds to say something about them together.
fn is_many(outcomes: &[Outcome]) -> bool {
    outcomes.len() >= 20
}

#[test]
fn clean() {
    let outcomes = suite(Kind::Clean);
    assert!(outcomes.iter().all(|outcome| outcome.mptcp == 1 && outcome.data_acks > 0));
    assert!(!is_many(&outcomes) || outcomes.iter().any(|outcome| outcome.joined > 0));
}

#[test]
fn loss() {
    suite(Kind::Loss);
}

#[test]
fn reordering() {
    suite(Kind::Reordering);
}

#[test]
fn duplication() {
    suite(Kind::Duplication);
}

#[test]
fn corruption() {
    suite(Kind::Corruption);
}

#[test]
fn path_dies() {
    let outcomes = suite(Kind::PathDies);
    let faults = outcomes.iter().filter(|outcome| outcome.faults > 0).count();
    assert!(!is_many(&outcomes) || faults > outcomes.len() / 2, "{faults} of {} faults", outcomes.len());
}

#[test]
fn path_returns() {
    let outcomes = suite(Kind::PathReturns);
    let faults = outcomes.iter().filter(|outcome| outcome.faults > 0).count();
    assert!(!is_many(&outcomes) || faults > outcomes.len() / 2, "{faults} of {} faults", outcomes.len());
}

#[test]
fn both_ways() {
    suite(Kind::BothWays);
}

#[test]
fn plain_tcp() {
    let outcomes = suite(Kind::PlainTcp);
    assert!(outcomes.iter().all(|outcome| outcome.mptcp == 0 && outcome.joined == 0));
    // Some of the connections after the first have their first data in the SYN. A SYN/ACK that is lost may leave the client
    // in doubt for a while, but never the other way round.
    let early: Vec<[u64; 2]> = outcomes.iter().map(|outcome| outcome.early_data).collect();
    assert!(early.iter().all(|[client, server]| client <= server), "{early:?}");
    assert!(!is_many(&outcomes) || early.iter().any(|[client, _]| *client > 0), "{early:?}");
}

#[test]
fn fallback() {
    let outcomes = suite(Kind::Fallback);
    assert!(outcomes.iter().all(|outcome| outcome.joined == 0));
}

#[test]
fn slow_reader() {
    suite(Kind::SlowReader);
}

#[test]
fn hostile() {
    suite(Kind::Hostile);
}

#[test]
fn everything() {
    suite(Kind::Everything);
}

#[test]
fn nic_stalls() {
    let outcomes = suite(Kind::NicStalls);
    let stalled = outcomes.iter().filter(|outcome| outcome.stalled > 0).count();
    assert!(!is_many(&outcomes) || stalled > outcomes.len() / 4, "{stalled} of {} stalled", outcomes.len());
}

/// `paths` links of 10 Mbit/s, and an upload of `bytes`.
fn slow_links(paths: usize, bytes: u64) -> Scenario {
    let mut scenario = Scenario::plain(1, paths, bytes);
    for link in &mut scenario.links {
        link.a_to_b.rate_bps = 10_000_000;
        link.b_to_a.rate_bps = 10_000_000;
    }
    scenario
}

/// An upload of `bytes` over links of `rate_bps` with these round trips, and a receive buffer of `buffer` bytes.
fn unequal_links(round_trips_ms: &[u64], rate_bps: u64, bytes: u64, buffer: u32) -> Scenario {
    let mut scenario = Scenario::plain(1, round_trips_ms.len(), bytes);
    for (link, round_trip) in scenario.links.iter_mut().zip(round_trips_ms) {
        for pipe in [&mut link.a_to_b, &mut link.b_to_a] {
            pipe.rate_bps = rate_bps;
            pipe.delay = Duration::from_micros(round_trip * 500);
        }
    }
    scenario.hosts.iter_mut().for_each(|host| host.frames = 32_768);
    scenario.listen.connection.receive_buffer = buffer;
    scenario.connections[0].options.receive_buffer = buffer;
    scenario
}

fn finish(scenario: &Scenario) -> Outcome {
    run(scenario).unwrap_or_else(|failure| panic!("{failure}"))
}

#[test]
fn policies() {
    let outcomes = suite(Kind::Policies);
    if is_many(&outcomes) {
        assert!(outcomes.iter().any(|outcome| outcome.joined > 3), "some open many subflows");
        assert!(outcomes.iter().any(|outcome| outcome.joined == 0), "and some none");
        assert!(outcomes.iter().any(|outcome| outcome.granted > 5), "users have their way");
        assert!(outcomes.iter().any(|outcome| outcome.priorities > 0), "backups are told of");
    }
}

#[test]
fn flaps() {
    let outcomes = suite(Kind::Flaps);
    assert!(outcomes.iter().all(|outcome| outcome.faults >= 10), "all of them, before the end");
    if is_many(&outcomes) {
        assert!(outcomes.iter().any(|outcome| outcome.joined > 10), "subflows come back");
    }
}

#[test]
fn chaos() {
    let outcomes = suite(Kind::Chaos);
    let longest = outcomes.iter().map(|outcome| outcome.longest_wait_percent).max();
    println!("chaos: the longest wait was {longest:?} % of what is allowed");
    if is_many(&outcomes) {
        let fell_back = |outcome: &&Outcome| outcome.fallback.iter().flatten().any(Option::is_some);
        assert!(outcomes.iter().any(|outcome| outcome.most_subflows > 10), "many subflows");
        assert!(outcomes.iter().any(|outcome| outcome.faults > 5), "flaps");
        assert!(outcomes.iter().filter(fell_back).count() > 0, "some fall back");
        assert!(outcomes.iter().filter(fell_back).count() < outcomes.len() / 2, "and most do not");
    }
}

/// Seeds of the chaos that each showed a fault, and what it was. They mean something for as long as `Scenario::chaos` draws
/// what it drew then.
const CHAOS_REGRESSIONS: &[(u64, &str)] = &[
    (412, "an outage takes the answer of a peer that has fallen back, and the question"),
    (801, "the same, the other way round"),
    (1423, "the infinite mapping comes on the FIN"),
    (4347, "the same with the client"),
    (1557, "the only subflow is reset under a peer whose DATA_FIN is not acknowledged"),
    (3112, "the last DATA_ACK is lost, and the peer gone"),
    (1601, "no option ever comes on the subflow that is left, and only the end is to be said"),
    (3526, "the DATA_FIN is said again and again where no options come any more"),
    (3109, "the DATA_FIN is said again and again where no options get to the peer"),
    (4309, "a client that lacks nothing refuses all joins for subflows that its server has lost"),
    (5658, "the same with one subflow, and data that is still to come"),
    (6115, "the same while the server is about to withdraw the address"),
    (2530, "a checker that did not know a client behind a NAT whom its server joins"),
    (1384, "no option comes any more on the only subflow, which TCP cannot take over"),
    (6178, "a peer that resets the last subflow, and says why, is given up after 3 s"),
    (7134, "the same, with data still to come"),
    (8766, "the only subflow, whose link is down for a moment, is given up for one that the peer refuses"),
    (2766, "or for one whose end the peer has withdrawn"),
    (10611, "a subflow whose options end is reset again and again, and the peer has lost the other one"),
    (11528, "the same with an address whose withdrawal got lost"),
    (13599, "joins of the peer are refused for one of ours that is under way on a dead path"),
    (
        17820,
        "a peer that resets without a word is given up while a join is under way on a link that is down for a moment",
    ),
    (14660, "an answer that takes less than the shortest round trip so far counts as none"),
    (2633, "the peer has all, and ends as its last subflow is reset, but its last DATA_ACK has not come"),
    (10649, "a bit that no checksum covers takes a packet through a NAT as it is"),
    (6364, "the peer has fallen back, and knows nothing of our join, whose SYN got lost"),
    (16737, "a join that the peer counts as made has ended here before its ACK was acknowledged"),
    (12139, "a join that begins when options have ended already, and whose third ACK gets lost"),
    (22_937, "the peer fell back while its answer to our join was on its way: we can follow it"),
];

#[test]
fn chaos_that_failed_once() {
    for (seed, what) in CHAOS_REGRESSIONS {
        run_seed(Kind::Chaos, *seed, false).unwrap_or_else(|failure| panic!("{what}: {failure}"));
    }
}

#[test]
fn two_paths_carry_nearly_twice_what_one_does() {
    let one = finish(&slow_links(1, 10_000_000));
    let two = finish(&slow_links(2, 10_000_000));
    let times = one.finished.as_nanos() as f64 / two.finished.as_nanos() as f64;
    assert!(times > 1.8, "{times}: {} and {}", one.finished, two.finished);
}

#[test]
fn a_path_that_comes_back_is_used_again() {
    for seen_by in [SeenBy::Neither, SeenBy::Client, SeenBy::Server, SeenBy::Both] {
        let mut scenario = slow_links(2, 10_000_000);
        let lasts = Some(Duration::from_secs(1));
        scenario.faults.push(Fault { link: 1, when: When::AfterBytes(2_000_000), lasts, seen_by });
        let outcome = finish(&scenario);
        assert_eq!(outcome.faults, 1);
        let again = u64::from(seen_by != SeenBy::Neither);
        assert_eq!(
            outcome.joined,
            1 + again,
            "{seen_by:?}: without its carrier a subflow ends; a blackout it survives"
        );
        // It carried half of the bytes before and has to carry a good part of the other 8 MB, too.
        assert!(outcome.pipe_bytes[2] > 3_000_000, "{seen_by:?}: {:?}", outcome.pipe_bytes);
    }
}

#[test]
fn a_path_that_dies_for_good_does_not_stop_the_other() {
    for (dying, seen_by) in [
        (0, SeenBy::Both),
        (0, SeenBy::Neither),
        (0, SeenBy::Server),
        (1, SeenBy::Both),
        (1, SeenBy::Neither),
    ] {
        let mut scenario = slow_links(2, 4_000_000);
        scenario.faults.push(Fault { link: dying, when: When::AfterBytes(1_000_000), lasts: None, seen_by });
        let outcome = finish(&scenario);
        assert_eq!((outcome.faults, outcome.bytes), (1, 4_000_000));
        // 3 MB are left for 10 Mbit/s: 2.4 s, and time to notice.
        assert!(
            outcome.finished.as_millis() < 6_000,
            "link {dying}, seen by {seen_by:?}: {}",
            outcome.finished
        );
    }
}

/// A slow upload over two links during which completions stop at a NIC, for ever or for a while.
fn stopped(host: usize, port: u16, bytes: u64, lasts: Option<Duration>) -> Outcome {
    let mut scenario = slow_links(2, bytes);
    let nic = Nic { host: HostId(host), port: PortId(port) };
    scenario.stops.push(Stop { nic, at: Instant::from_millis(500), lasts });
    finish(&scenario)
}

#[test]
fn a_nic_that_gives_nothing_back_is_a_dead_path() {
    // The sender's NICs, of the first subflow and of the other, and the receiver's, which acknowledges on them.
    for (host, port) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let outcome = stopped(host, port, 4_000_000, None);
        assert_eq!((outcome.stalled, outcome.bytes), (1, 4_000_000), "host {host}, port {port}");
        // At most 4 MB are left for 10 Mbit/s: 3.2 s, and time to notice.
        assert!(outcome.finished.as_millis() < 6_500, "host {host}, port {port}: {}", outcome.finished);
    }
}

#[test]
fn a_nic_that_gives_frames_back_again_is_used_again() {
    let lasts = Some(Duration::from_secs(3));
    for (host, port) in [(0, 1), (1, 1)] {
        let outcome = stopped(host, port, 10_000_000, lasts);
        assert_eq!((outcome.stalled, outcome.joined), (1, 2), "host {host}, port {port}");
        // It carried at most half of 2 MB before, and half of what was left 4 s later.
        assert!(outcome.pipe_bytes[2] > 2_500_000, "host {host}, port {port}: {:?}", outcome.pipe_bytes);
    }
}

#[test]
fn a_hiccup_of_a_nic_is_no_dead_path() {
    let outcome = stopped(0, 1, 4_000_000, Some(Duration::from_millis(900)));
    assert_eq!((outcome.stalled, outcome.joined, outcome.bytes), (0, 1, 4_000_000));
}

#[test]
fn a_connection_whose_only_nic_stalls_lives_on_when_it_is_back() {
    let mut scenario = slow_links(1, 2_000_000);
    let nic = Nic { host: HostId(0), port: PortId(0) };
    let lasts = Some(Duration::from_secs(3));
    scenario.stops.push(Stop { nic, at: Instant::from_millis(500), lasts });
    let outcome = finish(&scenario);
    assert_eq!((outcome.stalled, outcome.bytes), (1, 2_000_000));
}

/// A plain TCP upload of `bytes` over a clean path of 100 Mbit/s and 10 ms, from which these losses are taken.
fn with_losses(bytes: u64, losses: &[SegmentLoss]) -> Outcome {
    let mut scenario = Scenario::plain(1, 1, bytes);
    scenario.listen.connection.mptcp = false;
    scenario.connections[0].options.mptcp = false;
    scenario.links[0].a_to_b.segment_losses = losses.to_vec();
    finish(&scenario)
}

/// Payload bytes of a full segment there.
const SEGMENT: u64 = 1448;

#[test]
fn no_single_loss_costs_a_time_out() {
    // Flights of every size up to three windows, and each segment of them lost once: the first, the last, the FIN. RACK
    // finds what lies before something that arrives, and a loss probe makes something arrive.
    for segments in [1, 2, 3, 4, 5, 9, 10, 11, 20, 35] {
        let bytes = segments * SEGMENT;
        for lost in 0..=segments {
            let offset = (lost * SEGMENT) as u32;
            let outcome = with_losses(bytes, &[SegmentLoss { offset, times: 1 }]);
            let counters = outcome.tcp[0];
            assert_eq!(counters.timeouts, 0, "segment {lost} of {segments}: {counters:?}");
            assert!(counters.retransmits >= 1, "segment {lost} of {segments} was not lost: {counters:?}");
        }
    }
}

#[test]
fn no_lost_retransmission_costs_a_time_out_while_data_follows_it() {
    // Each loss of a retransmission halves the window once more (RFC 5681 §4.3): from the beginning of a connection that
    // is not to be had often before nothing follows.
    for lost in (0..150).step_by(7) {
        for times in if lost < 50 { [2, 2, 3] } else { [2, 3, 4] } {
            let offset = (lost * SEGMENT) as u32;
            let outcome = with_losses(1_000 * SEGMENT, &[SegmentLoss { offset, times }]);
            let counters = outcome.tcp[0];
            assert_eq!(counters.timeouts, 0, "segment {lost} lost {times} times: {counters:?}");
            assert!(counters.retransmits >= u64::from(times), "{counters:?}");
        }
    }
}

#[test]
fn bursts_of_losses_cost_no_time_out() {
    for (first, count) in [(5, 2), (5, 5), (12, 10), (20, 30), (40, 3)] {
        let losses: Vec<SegmentLoss> = (first..first + count)
            .map(|segment| SegmentLoss { offset: (segment * SEGMENT) as u32, times: 1 })
            .collect();
        let counters = with_losses(200 * SEGMENT, &losses).tcp[0];
        assert_eq!(counters.timeouts, 0, "{count} from {first} on: {counters:?}");
        // And the tail of a flight, all but its first segment.
        let tail: Vec<SegmentLoss> = (200 - count..200)
            .map(|segment| SegmentLoss { offset: (segment * SEGMENT) as u32, times: 1 })
            .collect();
        let counters = with_losses(200 * SEGMENT, &tail).tcp[0];
        assert_eq!(counters.timeouts, 0, "the last {count}: {counters:?}");
    }
}

#[test]
fn a_slow_path_beside_a_fast_one_costs_nothing() {
    for rate_bps in [10_000_000, 50_000_000] {
        // The product of rate and 100 ms; eight seconds' worth of data: where it begins on the slow path, two round trips
        // pass until the other may be joined.
        let buffer = (rate_bps / 80) as u32;
        let bytes = rate_bps;
        let alone = finish(&unequal_links(&[1], rate_bps, bytes, buffer)).finished.as_millis() as f64;
        for round_trips in [[1, 100], [100, 1]] {
            let both =
                finish(&unequal_links(&round_trips, rate_bps, bytes, buffer)).finished.as_millis() as f64;
            let ratio = both / alone;
            println!("{rate_bps} bit/s, {round_trips:?} ms: {both} ms, alone {alone} ms, ratio {ratio:.3}");
            assert!(ratio < 1.03, "{rate_bps} bit/s, {round_trips:?} ms: {ratio}");
        }
    }
}

#[test]
fn every_scheduler_brings_everything_and_uses_what_it_should() {
    for (name, kind) in SchedulerKind::ALL {
        let mut scenario = slow_links(3, 6_000_000);
        scenario.connections[0].options.scheduler = *kind;
        scenario.listen.connection.scheduler = *kind;
        let outcome = finish(&scenario);
        assert_eq!(outcome.bytes, 6_000_000, "{name}");
        // What each of the three links has carried towards the server.
        let carried: Vec<u64> = outcome.pipe_bytes.iter().step_by(2).copied().collect();
        match kind {
            SchedulerKind::BackupOnly => {
                assert!(carried[0] > 6_000_000 && carried[1] + carried[2] < 50_000, "{name}: {carried:?}");
            }
            SchedulerKind::Redundant => {
                assert!(carried.iter().all(|bytes| *bytes > 5_500_000), "{name}: {carried:?}");
            }
            SchedulerKind::LowestRtt
            | SchedulerKind::RoundRobin
            | SchedulerKind::Weighted
            | SchedulerKind::Blest
            | SchedulerKind::Ecf => {
                assert!(carried.iter().all(|bytes| *bytes > 1_500_000), "{name}: {carried:?}");
                assert!(outcome.finished.as_millis() < 2_200, "{name}: {}", outcome.finished);
            }
        }
    }
}

#[test]
fn a_connection_has_up_to_thirty_two_subflows() {
    // From different ports of one address pair; and over eight NICs, four of each.
    for (paths, policy) in [(1, Policy::Ndiffports(SUBFLOWS_MAX as u8)), (8, Policy::Fullmesh)] {
        let mut scenario = slow_links(paths, 8_000_000);
        for host in &mut scenario.hosts {
            host.frames = 16_384;
            host.paths.config.policy = policy;
            host.paths.config.limits.subflows = SUBFLOWS_MAX - 1;
        }
        if policy == Policy::Fullmesh {
            // What the policy does not want a user may: four from each NIC, until the limit says no.
            for number in 0..SUBFLOWS_MAX {
                let nic = &scenario.hosts[0].nics[number % paths];
                let peer = &scenario.hosts[1].nics[number % paths];
                let request = SubflowRequest {
                    local: Some(nic.addr),
                    remote: Some(peer.addr),
                    port: None,
                    backup: false,
                };
                let at = Instant::from_millis(200 + number as u64);
                scenario.wishes.push(TimedWish { at, host: HostId(0), wish: Wish::AddSubflow(request) });
            }
        }
        scenario.watch_progress = true;
        let outcome = finish(&scenario);
        let (joined, granted) = (outcome.joined, outcome.granted);
        assert_eq!(outcome.most_subflows, SUBFLOWS_MAX, "{policy}: {joined} joined, {granted} granted");
        assert_eq!(outcome.bytes, 8_000_000);
        let carried: Vec<u64> = outcome.pipe_bytes.iter().step_by(2).copied().collect();
        assert!(carried.iter().all(|bytes| *bytes > 8_000_000 / paths as u64 / 2), "{carried:?}");
    }
}

/// The default buffers grow to what a long fat path needs, as far as the pool goes: nobody has to tune anything.
#[test]
fn a_long_fat_path_fills() {
    for mptcp in [true, false] {
        // 12.5 MB are on the way; more than can be sent in the time.
        let mut scenario = Scenario::plain(1, 1, 1 << 40);
        scenario.hosts.iter_mut().for_each(|host| host.frames = 32_768);
        let link = &mut scenario.links[0];
        for pipe in [&mut link.a_to_b, &mut link.b_to_a] {
            pipe.rate_bps = 1_000_000_000;
            pipe.delay = Duration::from_millis(50);
            pipe.queue = QueueLimit::Packets(10_000);
        }
        scenario.connections[0].options.mptcp = mptcp;
        // After fifteen round trips slow start has found the rate, and the receive window has grown with it.
        let (from, to) = (Instant::from_millis(1600), Instant::from_millis(2000));
        let measured = measure(&scenario, from, to).unwrap_or_else(|failure| panic!("{failure}"));
        // Of the 1538 bytes that a frame takes 1448 are payload, and 1420 with MPTCP's options.
        let rate_gbps = measured.bytes as f64 * 8.0 / 0.4e9;
        assert!(rate_gbps > 0.93, "mptcp {mptcp}: {rate_gbps} Gbit/s of 1");
    }
}
