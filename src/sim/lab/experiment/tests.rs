//! Small experiments: that they are functions of their seeds, and that what is measured is what there is.

use super::*;
use crate::sim::lab::plan::Plan;

/// The first setting of a plan with one seed.
fn result(text: &str) -> RunResult {
    let plan = Plan::parse(text).unwrap_or_else(|error| panic!("{error}"));
    run(&plan.settings[0].experiment, 1).expect("nothing goes wrong")
}

fn value(result: &RunResult, name: &str) -> f64 {
    result.measured[name].unwrap_or_else(|| panic!("{name} was not measured"))
}

#[test]
fn jains_index_is_one_for_equals_and_an_nth_for_one_alone() {
    use super::observation::jain;
    assert_eq!(jain(&[3.0, 3.0, 3.0]), 1.0);
    assert_eq!(jain(&[0.0, 4.0]), 0.5);
    assert_eq!(jain(&[0.0, 0.0]), 1.0);
}

#[test]
fn a_setting_gives_the_same_result_each_time_in_a_tree_a_cube_and_on_lines() {
    for (name, long, short) in [
        ("e8", "duration-ms = 2000\nmeasure-from-ms = 1000", "duration-ms = 60\nmeasure-from-ms = 30"),
        ("e9", "duration-ms = 1500\nmeasure-from-ms = 500", "duration-ms = 30\nmeasure-from-ms = 10"),
        ("e7", "duration-ms = 60000\nmeasure-from-ms = 20000", "duration-ms = 8000\nmeasure-from-ms = 6000"),
    ] {
        let text = find_plan(name).replace(long, short).replace("k = 8", "k = 4");
        assert!(text.contains(short), "{name}");
        let first = result(&text);
        assert_eq!(first, result(&text), "{name}");
        assert!(first.packets > 1000 && first.measured.values().all(Option::is_some), "{name}: {first:?}");
    }
}

#[test]
fn a_seed_fixes_what_is_dropped_by_lot_too_and_answers_aside_leave_room_for_data() {
    let text = find_plan("e8").replace("k = 8", "k = 4").replace("[1, 2, 4, 8]", "[4, 8, 2, 1]");
    let text =
        text.replace("duration-ms = 2000", "duration-ms = 200").replace("from-ms = 1000", "from-ms = 100");
    let first = result(&text);
    assert_eq!(first, result(&text));
    let full = text.replace(", early-drop-packets = 3, early-drop-percent = 10", "");
    assert_ne!(first, result(&full), "the lot decides something");
    let among = text.replace("acknowledgments-aside = true\n", "");
    assert!(value(&first, "percent") > value(&result(&among), "percent") + 2.0);
}

fn find_plan(name: &str) -> String {
    let plans = crate::sim::lab::plan::PLANS;
    plans.iter().find(|(known, _)| *known == name).map(|(_, text)| (*text).to_owned()).expect("it is Braid's")
}

const TWO: &str = r#"
    name = "two"
    about = "an MPTCP on two lines, a TCP on a third, cross traffic on a fourth"
    seeds = 1
    duration-ms = 6000
    measure-from-ms = 2000
    check-payload = true
    [lines.one]
    rate-mbps = 30
    [lines.two]
    rate-mbps = 10
    [lines.three]
    rate-mbps = 20
    [lines.four]
    rate-mbps = 10
    loss-percent = 25
    [flows.m]
    ways = [{ over = ["one"], rtt-ms = 5 }, { over = ["two"], rtt-ms = 5 }]
    [flows.t]
    protocol = "tcp"
    ways = [{ over = ["three"], rtt-ms = 5 }]
    [flows.short]
    protocol = "tcp"
    ways = [{ over = [], rtt-ms = 50 }]
    size-bytes = 10000
    every-ms = 100
    [cross.c]
    over = ["four"]
    rate-mbps = 5
    [measure.m]
    of = "rate-mbps"
    flows = "m"
    [measure.m-goodput]
    of = "goodput-mbps"
    flows = "m"
    [measure.m-packets]
    of = "rate-packets"
    flows = "m"
    [measure.m-two]
    of = "way-mbps"
    flows = "m"
    way = 2
    [measure.m-two-percent]
    of = "way-percent"
    flows = "m"
    way = 2
    [measure.m-per-t]
    of = "rate-mbps"
    flows = "m"
    per = "t"
    [measure.total]
    of = "total-mbps"
    flows = "all"
    [measure.m-hosts]
    of = "host-mbps"
    flows = "m"
    [measure.short-ms]
    of = "completion-ms"
    flows = "short"
    [measure.short-sd-ms]
    of = "completion-sd-ms"
    flows = "short"
    [measure.short-finished]
    of = "finished-percent"
    flows = "short"
    [measure.use-three]
    of = "use-percent"
    line = "three"
    [measure.use-four]
    of = "use-percent"
    line = "four"
    [measure.loss-four]
    of = "loss-percent"
    line = "four"
    [measure.stall]
    of = "stall-ms"
    flows = "m"
"#;

#[test]
fn measures_are_of_what_they_say() {
    let result = result(TWO);
    for (name, least, most) in [
        // Both lines are full, headers included.
        ("m", 39.0, 40.1),
        ("m-goodput", 36.5, 38.0),
        ("m-packets", 3220.0, 3311.0),
        ("m-two", 9.7, 10.1),
        ("m-two-percent", 24.0, 26.0),
        ("m-per-t", 1.95, 2.05),
        ("m-hosts", 39.0, 40.1),
        // 1.2 Mbit/s of short flows are a little more with their headers.
        ("total", 59.5, 62.0),
        // The handshake, and half a round trip, over which the initial window is spread.
        ("short-ms", 75.0, 105.0),
        ("short-sd-ms", 0.0, 5.0),
        ("short-finished", 95.0, 100.0),
        ("use-three", 98.0, 100.5),
        ("use-four", 49.0, 51.0),
        ("loss-four", 22.0, 28.0),
        ("stall", 0.2, 400.0),
    ] {
        let got = value(&result, name);
        assert!((least..=most).contains(&got), "{name}: {got}");
    }
    assert_eq!(result.failed, 0);
}

#[test]
fn what_changes_at_a_line_is_seen() {
    let with = |change: &str| {
        let text = format!("{TWO}\n[[change]]\nat-ms = 1000\nline = \"two\"\n{change}");
        value(&result(&text), "m-two")
    };
    assert!(with("down-for-ms = 100000") < 0.01);
    assert!((4.8..5.1).contains(&with("rate-mbps = 5")));
    assert!(with("loss-percent = 10") < 5.0);
    assert!(with("delay-ms = 20") > 9.0, "the queue is long enough");
}

#[test]
fn subflows_take_ways_in_turn_or_by_lot() {
    let ways = |more: &str, seed| {
        let text = TWO.replace("[flows.m]", &format!("[flows.m]\n{more}"));
        let plan = Plan::parse(&text).expect("a plan");
        let result = run(&plan.settings[0].experiment, seed).expect("nothing goes wrong");
        value(&result, "m-two-percent")
    };
    assert_eq!(ways("subflows = 1", 1), 0.0, "the first way");
    let lots: Vec<f64> = (1..=8).map(|seed| ways("subflows = 1\ndraw = true", seed)).collect();
    assert!(lots.contains(&0.0) && lots.contains(&100.0), "{lots:?}");
}
