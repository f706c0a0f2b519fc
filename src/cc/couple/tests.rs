//! The formulas against cases that were worked out by hand.

use super::*;

const ALL: [CoupledAlgorithm; 6] = [
    CoupledAlgorithm::Lia,
    CoupledAlgorithm::Olia,
    CoupledAlgorithm::Balia,
    CoupledAlgorithm::Ewtcp,
    CoupledAlgorithm::Full,
    CoupledAlgorithm::Wvegas,
];
const SEGMENT: u64 = 1000;

/// A path of so many segments of window, with this round trip.
fn path(segments: u64, rtt_ms: u64) -> PathSnapshot {
    PathSnapshot {
        window_bytes: segments * SEGMENT,
        segment_bytes: SEGMENT,
        rtt: Duration::from_millis(rtt_ms),
        since_loss_bytes: 0,
        between_losses_bytes: 0,
    }
}

/// The same, with bytes acknowledged since the last loss and between the last two.
fn with_history(path: PathSnapshot, since: u64, between: u64) -> PathSnapshot {
    PathSnapshot { since_loss_bytes: since, between_losses_bytes: between, ..path }
}

fn coupled(algorithm: CoupledAlgorithm, paths: &[PathSnapshot]) -> Vec<Coupling> {
    couple(algorithm, paths).collect()
}

#[track_caller]
fn close(got: f64, expected: f64) {
    assert!((got - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{got} is not {expected}");
}

#[test]
fn a_path_that_is_alone_goes_by_new_reno() {
    for algorithm in ALL {
        assert_eq!(coupled(algorithm, &[path(10, 20)]), [Coupling::default()], "{algorithm:?}");
        assert!(coupled(algorithm, &[]).is_empty());
    }
}

#[test]
fn lia_of_two_subflows_is_rfc_6356s_alpha() {
    // Equal paths: alpha = 20 * (10 / r²) / (20 / r)² = 1/2; alpha / 20 segments.
    for coupling in coupled(CoupledAlgorithm::Lia, &[path(10, 30), path(10, 30)]) {
        close(coupling.growth, 0.5 / 20.0);
        assert!(coupling.at_most_reno && coupling.reno_growth == 0.0);
        assert_eq!((coupling.decrease, coupling.decrease_bytes), (0.5, 0));
    }
    // 10 segments at 10 ms and 30 at 100 ms: x is 1000 and 300; max w/rtt² is 10 / 0.0001 = 100,000 (the other 3,000);
    // alpha = 40 * 100,000 / 1300² = 4,000,000 / 1,690,000, and a 40th of that for each segment.
    for coupling in coupled(CoupledAlgorithm::Lia, &[path(10, 10), path(30, 100)]) {
        close(coupling.growth, 100_000.0 / 1_690_000.0);
    }
}

#[test]
fn lia_of_three_subflows_is_rfc_6356s_alpha() {
    for coupling in coupled(CoupledAlgorithm::Lia, &[path(20, 5); 3]) {
        close(coupling.growth, 1.0 / 3.0 / 60.0);
    }
    // x is 1000, 1000 and 600, together 2600; w/rtt² is 100,000, 50,000 and 12,000.
    let paths = [path(10, 10), path(20, 20), path(30, 50)];
    for coupling in coupled(CoupledAlgorithm::Lia, &paths) {
        close(coupling.growth, 100_000.0 / 6_760_000.0);
    }
}

#[test]
fn segments_of_other_sizes_grow_by_their_own() {
    // RFC 6356 §3: alpha * bytes_acked * MSS_i / cwnd_total. Windows in bytes as in the equal case.
    let large = PathSnapshot { segment_bytes: 2 * SEGMENT, ..path(10, 30) };
    let got = coupled(CoupledAlgorithm::Lia, &[path(10, 30), large]);
    close(got[0].growth, 0.5 / 20.0);
    close(got[1].growth, 2.0 * 0.5 / 20.0);
}

#[test]
fn olia_moves_nothing_while_the_best_path_has_the_largest_window() {
    // B = M = the second: x is 1000 and 2000.
    let paths = [with_history(path(10, 10), 0, 100_000), with_history(path(20, 10), 1_000_000, 0)];
    let got = coupled(CoupledAlgorithm::Olia, &paths);
    close(got[0].growth, 100_000.0 / 9_000_000.0);
    close(got[1].growth, 200_000.0 / 9_000_000.0);
    assert!(got.iter().all(|coupling| coupling.reno_growth == 0.0 && coupling.decrease == 0.5));
}

#[test]
fn olia_moves_to_the_best_path_while_another_has_the_largest_window() {
    // B = the first, by what it had between the last two losses; M = the second.
    let paths = [with_history(path(10, 10), 100, 1_000_000), with_history(path(20, 10), 100_000, 0)];
    let got = coupled(CoupledAlgorithm::Olia, &paths);
    close(got[0].reno_growth, 0.5);
    close(got[1].reno_growth, -0.5);
    close(got[0].growth, 100_000.0 / 9_000_000.0);
    // A longer round trip takes away its lead: l / rtt² is 10^6 / 0.16 and 10^5 / 0.01.
    let paths = [with_history(path(10, 400), 0, 1_000_000), paths[1]];
    assert!(coupled(CoupledAlgorithm::Olia, &paths).iter().all(|coupling| coupling.reno_growth == 0.0));
}

#[test]
fn olia_shares_what_it_moves_among_equals() {
    // n = 5; B = {0, 1, 2}, M = {2, 3}: B \ M = {0, 1}. The last is in none.
    let best = |segments| with_history(path(segments, 10), 1_000_000, 0);
    let other = |segments| with_history(path(segments, 10), 10, 0);
    let got = coupled(CoupledAlgorithm::Olia, &[best(5), best(6), best(20), other(20), other(7)]);
    let moved: Vec<f64> = got.iter().map(|coupling| coupling.reno_growth).collect();
    assert_eq!(moved, [0.1, 0.1, -0.1, -0.1, 0.0]);
    let sum: f64 = moved.iter().sum();
    close(sum, 0.0);
}

#[test]
fn balia_helps_the_slower_path_and_takes_more_from_it() {
    // x is 1000 and 2000: a is 2 and 1. (1000 / (0.01 * 3000²)) * 3/2 * 6/5, and the plain share for the faster one.
    let got = coupled(CoupledAlgorithm::Balia, &[path(10, 10), path(20, 10)]);
    close(got[0].growth, 100_000.0 / 9_000_000.0 * 1.8);
    close(got[1].growth, 200_000.0 / 9_000_000.0);
    assert_eq!((got[0].decrease, got[1].decrease), (0.75, 0.5));
    // a is 1.2: below the limit of 3/2.
    close(coupled(CoupledAlgorithm::Balia, &[path(10, 10), path(12, 10)])[0].decrease, 0.6);
}

#[test]
fn the_comparisons_are_what_their_paper_says() {
    for coupling in coupled(CoupledAlgorithm::Ewtcp, &[path(10, 10); 4]) {
        assert_eq!(coupling, Coupling { reno_growth: 0.0625, ..Coupling::default() });
    }
    for coupling in coupled(CoupledAlgorithm::Full, &[path(10, 10), path(30, 500)]) {
        close(coupling.growth, 1.0 / 40.0);
        assert_eq!((coupling.decrease, coupling.decrease_bytes), (0.0, 20_000));
    }
}

#[test]
fn numbers_of_nothing_give_numbers() {
    let nothing = PathSnapshot {
        window_bytes: 0,
        segment_bytes: 0,
        rtt: Duration::ZERO,
        since_loss_bytes: 0,
        between_losses_bytes: 0,
    };
    for algorithm in ALL {
        for coupling in couple(algorithm, &[nothing, nothing]) {
            let Coupling { growth, reno_growth, decrease, .. } = coupling;
            assert!([growth, reno_growth, decrease].iter().all(|x| x.is_finite()), "{algorithm:?}");
        }
    }
}

#[test]
fn wvegas_goes_by_each_paths_part_of_the_rate() {
    // 10 segments at 10 ms and 30 at 100 ms: 1000 and 300 a second.
    let shares: Vec<f64> = coupled(CoupledAlgorithm::Wvegas, &[path(10, 10), path(30, 100)])
        .iter()
        .map(|coupling| coupling.share)
        .collect();
    close(shares[0], 10.0 / 13.0);
    close(shares[1], 3.0 / 13.0);
}
