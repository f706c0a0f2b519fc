//! Verdicts, on results that are made up.

use super::*;

fn plan() -> Plan {
    let text = r#"
        name = "X"
        about = "made up"
        seeds = 2
        duration-ms = 10
        [lines.a]
        rate-mbps = 1
        [flows.f]
        ways = [{ over = ["a"], rtt-ms = 1 }]
        [measure.m]
        of = "goodput-mbps"
        flows = "f"
        [vary]
        algorithm = ["reno", "lia"]
        subflows = [1, 2]
        [[expect]]
        measure = "m"
        when = { algorithm = "reno" }
        is = 10
        within-percent = 10
        by = "theory"
        [[expect]]
        measure = "m"
        when = { algorithm = "lia", subflows = 2 }
        at-least = 5
        by = "goal"
        [[expect]]
        measure = "m"
        when = { algorithm = "lia", subflows = 2 }
        at-most = 5
        by = "goal"
        [[expect]]
        measure = "m"
        order = ["reno", "lia"]
        over = "algorithm"
        by = "paper"
    "#;
    Plan::parse(text).expect("a plan")
}

fn runs(values: [Option<f64>; 2]) -> Vec<RunResult> {
    let run = |(seed, value)| RunResult {
        seed,
        measured: [("m".to_owned(), value)].into(),
        packets: 3,
        failed: 1,
        trace: String::new(),
    };
    (1..).zip(values).map(run).collect()
}

#[test]
fn what_is_as_expected_says_so_and_what_is_not_too() {
    let plan = plan();
    let results = [
        runs([Some(9.0), Some(11.4)]),
        runs([Some(12.0), Some(14.0)]),
        runs([Some(11.0), Some(11.0)]),
        runs([Some(6.0), None]),
    ];
    let findings = Findings::new(&plan, results.to_vec());
    let verdicts = findings.verdicts();
    let good: Vec<bool> = verdicts.iter().map(|verdict| verdict.is_good).collect();
    // Near; too far; at least; at most; 10.2 is not more than 11; 13 is more than 6.
    assert_eq!(good, [true, false, true, false, false, true]);
    let Verdict { setting, expected, got, difference, .. } = &verdicts[1];
    assert_eq!((setting.as_str(), expected.as_str()), ("algorithm reno, subflows 2", "10.0 ± 1.0"));
    assert_eq!((got.as_str(), difference.as_str()), ("13.0 ± 1.4", "+3.0 (+30.0 %)"));
    assert_eq!((verdicts[5].setting.as_str(), verdicts[5].got.as_str()), ("subflows 2", "13.0 > 6.00"));
    assert_eq!((findings.packets(), findings.failed()), (24, 8));
}

#[test]
fn where_nothing_was_measured_nothing_is_as_expected() {
    let plan = plan();
    let findings = Findings::new(&plan, vec![runs([None, None]); 4]);
    assert!(findings.verdicts().iter().all(|verdict| !verdict.is_good));
    assert_eq!(findings.statistic(0, "m"), None);
}
