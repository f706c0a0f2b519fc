//! The simulator's suites: many seeds of each kind of scenario, with every checker on.
//!
//! `BRAID_SEEDS=1000` runs so many seeds of each kind instead of a few. `BRAID_SEED=17` runs only that one, twice,
//! and `BRAID_LOG=1` prints every packet of it. A failure says how to run it again.

use braid::sim::{Kind, Outcome, Scenario, run};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Seeds of each kind, unless the environment says otherwise.
const SEEDS: u64 = 40;
/// Every so many seeds are run twice, to see that a seed gives one trace.
const REPEAT_EVERY: u64 = 8;

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
        None => (0, number("BRAID_SEEDS").unwrap_or(SEEDS)),
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
fn everything() {
    suite(Kind::Everything);
}
