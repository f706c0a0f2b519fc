//! Whole frames into an established connection: random ones, as many as fit into `make test`. `BRAID_LONG=1` runs more,
//! `BRAID_SEED=n` only the n-th. Read `frames.rs` first.

mod frames;

use braid::base::Prng;

#[test]
fn frames_into_an_established_connection() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    let count = if std::env::var_os("BRAID_LONG").is_some() { 200_000 } else { 2_000 };
    let seeds = number("BRAID_SEED").map_or(0..count, |seed: u64| seed..seed + 1);
    for seed in seeds {
        let mut prng = Prng::new(seed);
        let mut input = vec![0; 1 + prng.below(3000) as usize];
        prng.fill(&mut input);
        let outcome = std::panic::catch_unwind(|| frames::run(&input));
        assert!(outcome.is_ok(), "seed {seed}; again: BRAID_SEED={seed} cargo test --test fuzz");
    }
}
