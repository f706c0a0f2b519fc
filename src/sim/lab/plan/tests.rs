//! The plans that come with the program, and what is wrong with others.

use super::*;

const E2: &str = include_str!("../../../../bench/plans/e2.toml");
const E8: &str = include_str!("../../../../bench/plans/e8.toml");

#[test]
fn the_plans_that_come_with_the_program_can_be_read() {
    for (name, text) in PLANS {
        let plan = Plan::parse(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!plan.settings.is_empty() && !plan.about.is_empty(), "{name}");
    }
    assert!(Plan::of_braid("e99").expect_err("there is none").contains("e17, e18"));
}

#[test]
fn every_combination_is_a_setting_and_those_of_a_case_stand_together() {
    let plan = Plan::of_braid("e18").expect("a plan");
    let titles: Vec<String> = plan.settings.iter().map(Setting::title).collect();
    assert_eq!(titles[..3], ["case a, algorithm lia", "case a, algorithm reno", "case b, algorithm lia"]);
    assert_eq!(titles.len(), 8);
    let experiment = &plan.settings[4].experiment;
    assert_eq!(experiment.lines["one"].config().loss, 0.01, "case c");
    assert_eq!(experiment.lines["two"].config().loss, 0.0, "case c");
    assert_eq!(plan.settings[2].experiment.change.len(), 2, "case b");
    assert_eq!(
        Plan::of_braid("e8").expect("a plan").settings[3].experiment.subflows.map(|n| n.get()),
        Some(8)
    );
}

/// A plan with one line of it replaced.
fn broken(text: &str, line: &str, by: &str) -> String {
    assert!(text.contains(line), "{line}");
    Plan::parse(&text.replacen(line, by, 1)).expect_err("a bad plan")
}

#[test]
fn what_is_wrong_is_told_with_its_line_and_what_would_be_right() {
    for (text, line, by, words) in [
        (E8, "k = 8", "k = 7", "even"),
        (E8, "rate-mbps = 100", "rate-mbps = 0", "above 0"),
        (E8, "rate-mbps = 100", "rate-mbps = -5", "above 0"),
        (E8, "rate-mbps = 100, ", "", "either rate-mbps or rate-packets"),
        (E8, "ways = \"random\"", "ways = \"shortest\"", "ecmp, random, distinct"),
        (E8, "acknowledgments-aside = true", "acknowledgments-aside = \"yes\"", "expected a boolean"),
        (E2, "queue-ms = 100", "queue-ms = 100\nearly-drop-packets = 3", "and early-drop-percent"),
        (E2, "queue-ms = 100", "queue-ms = 100\nearly-drop-percent = 3", "early-drop-packets and"),
        (
            E2,
            "queue-ms = 100",
            "early-drop-packets = 100\nearly-drop-percent = 1",
            "less than what the queue holds",
        ),
        (
            E2,
            "queue-ms = 100",
            "early-drop-packets = 3\nearly-drop-percent = 101",
            "between 0 and 100 percent",
        ),
        (E2, "queue-ms = 100", "early-drop-packets = 0\nearly-drop-percent = 1", "between 1"),
        (E8, "pattern = \"permutation\"", "pattern = \"all\"", "permutation"),
        (E8, "algorithm = \"lia\"", "algorithm = \"vegas\"", "wvegas"),
        (E8, "seeds = 10", "seeds = -1", "between 1"),
        (E8, "seeds = 10", "seeds = 0", "between 1"),
        (E8, "measure-from-ms = 1000", "measure-from-ms = 2000", "less than duration-ms"),
        (E8, "[fat-tree]", "[dragonfly]", "`fat-tree`, `bcube`, `lines`"),
        (E8, "subflows = [1, 2, 4, 8]", "subflows = [1, 2, 4, 800]", "from 1 to"),
        (E8, "subflows = [1, 2, 4, 8]", "subflows = []", "empty"),
        (E8, "subflows = [1, 2, 4, 8]", "subflows = [1, 2, 4, 8, 1]", "twice"),
        (E8, "subflows = [1, 2, 4, 8]", "\"flows.bulk.size\" = [1]", "unknown field `size`"),
        (E8, "subflows = [1, 2, 4, 8]", "\"flow.bulk.subflows\" = [1]", "no table 'flow'; there are:"),
        (E8, "of = \"jain\"", "of = \"fairness\"", "`jain`"),
        (
            E8,
            "of = \"jain\"\nflows = \"bulk\"",
            "of = \"use-percent\"\nline = \"core\"",
            "edge-down, core-up",
        ),
        (E8, "when = { subflows = 1 }", "when = { subflows = 3 }", "never 3: 1, 2, 4, 8"),
        (E8, "when = { subflows = 1 }", "when = { algorithm = \"lia\" }", "it is not varied"),
        (E8, "is = 48.1\n", "", "is, at-least, at-most, or order"),
        (E8, "within = 3\n", "", "within or within-percent"),
        (E2, "over = [\"b\", \"c\"]", "over = [\"b\", \"d\"]", "no line 'd'; there are: a, b, c"),
        (E2, "queue-ms = 100", "queue-ms = 100\nqueue-packets = 3", "not both"),
        (E2, "flows = \"all\"", "flows = \"d\"", "no flows 'd'; there are: a, b, c"),
        (E2, "of = \"rate-mbps\"", "of = \"percent\"", "use-percent"),
        (E2, "of = \"rate-mbps\"", "of = \"way-mbps\"", "counted from 1"),
        (E2, "of = \"rate-mbps\"", "of = \"loss-percent\"", "of a line"),
        (E2, "[flows.a]", "[flows.a]\nevery-ms = 5", "size-bytes"),
        (E2, "[flows.a]", "[flows.a]\npattern = \"random\"", "a tree or a cube"),
        (E2, "[flows.a]", "[fat-tree]\nk = 4\nlink = { rate-mbps = 1 }\n[flows.a]", "one network"),
    ] {
        let error = broken(text, line, by);
        assert!(error.contains(words), "{by}: {error}");
        assert!(error.contains("at line ") || error.contains("--> "), "{by}: {error}");
    }
    let line =
        |text: &str| format!("line {}", 1 + E8.lines().position(|l| l.starts_with(text)).expect("there"));
    assert!(broken(E8, "k = 8", "k = 7").contains(&line("k = 8")));
    assert!(broken(E8, "subflows = [1, 2, 4, 8]", "subflows = [800]").contains(&line("subflows = [1")));
    assert!(broken(E8, "flows = \"bulk\"", "flows = \"bulky\"").contains("flows 'bulky'; there are: bulk"));
    assert!(Plan::parse("no plan").expect_err("no TOML").contains("line 1"));
}

#[test]
fn rates_in_packets_and_queues_in_time_are_what_they_say() {
    let text = E2.replacen("rate-mbps = 12", "rate-packets = 1000", 1);
    let plan = Plan::parse(&text).expect("a plan");
    let line = plan.settings[0].experiment.lines["a"].config();
    assert_eq!(line.rate_bps, 1000 * 1514 * 8);
    assert_eq!(line.queue, crate::sim::pipe::QueueLimit::Bytes(100 * 1514), "100 ms are 100 packets");
    assert_eq!(line.early_drop, None, "only where a plan says so");
    let text = E2.replacen("queue-ms = 100", "early-drop-packets = 3\nearly-drop-percent = 10", 1);
    let early = Plan::parse(&text).expect("a plan").settings[0].experiment.lines["a"].config().early_drop;
    let early = early.expect("the plan says so");
    assert_eq!(early.above, crate::sim::pipe::QueueLimit::Bytes(97 * 1514), "the last three of a hundred");
    assert_eq!(early.probability, 0.1);
}
