//! The laboratory as its users have it: some of the plans that come with Braid, with a seed each or ten, have to give what they
//! expect; and the golden table (`bench/plans/golden.toml`) of what every scheduler makes of two unequal paths, with every
//! kind of window and with small and large buffers, so that a change that costs anything is seen in review.
//!
//! The whole table is worked out with `BRAID_LONG=1`, otherwise a part of it that is the same each time. After a change that is
//! meant to change it: `make golden`.

mod support;

use braid::sim::lab::experiment;
use braid::sim::lab::plan::{Plan, Setting, word};
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;
use support::{BRAID, long, run};

const GOLDEN: &str = include_str!("golden.csv");
/// A goodput may differ by that share of it.
const NEAR: f64 = 0.01;
/// Of so many settings one is looked at where time is short: a number that has no divisor in common with those of the
/// parameters' values.
const ONE_IN: usize = 11;

/// The values of a setting, as they stand in the table.
fn key(setting: &Setting) -> String {
    setting.values.iter().map(|(_, value)| word(value)).collect::<Vec<_>>().join(",")
}

#[test]
fn what_schedulers_make_of_unequal_paths_is_as_it_was() {
    let plan = Plan::of_braid("golden").expect("it comes with Braid");
    let table: BTreeMap<&str, f64> = GOLDEN
        .lines()
        .skip(1)
        .map(|line| line.rsplit_once(',').expect("columns"))
        .map(|(key, goodput)| (key, goodput.parse().expect("a number")))
        .collect();
    assert_eq!(table.len(), plan.settings.len(), "the plan has changed: make golden");
    let each = if long() { 1 } else { ONE_IN };
    let mut different = Vec::new();
    for setting in plan.settings.iter().step_by(each) {
        let key = key(setting);
        let before =
            table.get(key.as_str()).unwrap_or_else(|| panic!("{key} is not in the table: make golden"));
        let result = experiment::run(&setting.experiment, 1).expect("nothing goes wrong");
        let now = result.measured["goodput-mbps"].expect("it is measured");
        if (now - before).abs() > NEAR * before {
            different.push(format!("{key}: {before} Mbit/s before, {now:.2} now"));
        }
    }
    assert!(different.is_empty(), "if this is meant, run `make golden`:\n{}", different.join("\n"));
}

#[test]
fn plans_give_what_they_expect() {
    // One seed says enough but of E5, whose expectation of the near TCP lies within the spread of a few.
    let runs: [(&str, &[&str], usize); 2] = [("1", &["bbr", "dctcp", "e13", "e16"], 15), ("10", &["e5"], 3)];
    for (seeds, plans, least) in runs {
        let mut command = Command::new(BRAID);
        command.args(["sim", "run", "--seeds", seeds]).args(plans);
        let outcome = run(&mut command, Duration::from_secs(600)).expect_success("braid sim run");
        let verdicts = outcome.stdout.lines().filter(|line| line.ends_with("as expected")).count();
        assert!(verdicts >= least, "{}", outcome.stdout);
    }
}
