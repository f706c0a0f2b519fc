//! Plans as arguments, and results as files.

use super::*;

const SMALL: &str = r#"
name = "small"
about = "a line"
seeds = 2
duration-ms = 200
measure-from-ms = 100
[lines.a]
rate-mbps = 10
[flows.f]
ways = [{ over = ["a"], rtt-ms = 1 }]
[measure.rate]
of = "rate-mbps"
flows = "f"
[vary]
algorithm = ["reno", "lia"]
[[expect]]
measure = "rate"
is = 10
within-percent = 5
by = "theory"
"#;

fn arguments(plan: &Path, out: Option<&Path>) -> RunArguments {
    RunArguments { plans: vec![plan.into()], out: out.map(Into::into), jobs: Some(1), seeds: None }
}

#[test]
fn a_plan_that_is_nowhere_is_told_with_those_that_there_are() {
    let error = load(Path::new("/nowhere/plan.toml")).expect_err("no such file");
    assert!(error.to_string().contains("e8"), "{error}");
    assert_eq!(load(Path::new("e8")).expect("Braid's")[0].1, "e8");
    assert_eq!(load(Path::new("all")).expect("Braid's").len(), 18);
}

#[test]
fn results_are_written_and_used_again_and_an_interrupted_campaign_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let (plan, out) = (folder.path().join("small.toml"), folder.path().join("out"));
    std::fs::write(&plan, SMALL).expect("written");
    assert_eq!(run_plans(&arguments(&plan, Some(&out))).expect("runs"), ExitCode::SUCCESS);
    let read = |name: &str| std::fs::read_to_string(out.join(name)).expect("written");
    let csv = read("small.csv");
    assert_eq!(csv.lines().next(), Some("algorithm,seed,rate,packets,failed,trace"));
    assert_eq!(csv.lines().count(), 5);
    let rows: serde_json::Value = serde_json::from_str(&read("small.json")).expect("JSON");
    assert_eq!(rows[3]["algorithm"], "lia");
    assert!(read("small.svg").contains("<svg") && read("README.md").contains("as expected"));

    // Of four results one and a half are left.
    let journal = read("journal.jsonl");
    let cut = journal.find('\n').expect("lines") + 40;
    std::fs::write(out.join("journal.jsonl"), &journal[..cut]).expect("written");
    run_plans(&arguments(&plan, Some(&out))).expect("runs");
    assert_eq!(read("small.csv"), csv, "the same results");
    assert_eq!(read("journal.jsonl").lines().count(), 1 + 1 + 3, "one is used, one cut, three are new");
    run_plans(&arguments(&plan, Some(&out))).expect("runs");
    assert_eq!(read("journal.jsonl").lines().count(), 5, "nothing is run again");
}

#[test]
fn what_is_not_as_expected_is_the_status() {
    let folder = tempfile::tempdir().expect("a folder");
    let plan = folder.path().join("small.toml");
    std::fs::write(&plan, SMALL.replace("is = 10", "is = 20")).expect("written");
    assert_eq!(run_plans(&arguments(&plan, None)).expect("runs"), ExitCode::FAILURE);
}

#[test]
fn a_list_of_plans_is_all_of_them_and_seeds_can_be_fewer() {
    let folder = tempfile::tempdir().expect("a folder");
    let list = folder.path().join("list.toml");
    std::fs::write(folder.path().join("small.toml"), SMALL).expect("written");
    std::fs::write(&list, "plans = [\"small.toml\", \"small.toml\"]\n").expect("written");
    let mut arguments = arguments(&list, None);
    arguments.seeds = Some(1);
    assert_eq!(load(&list).expect("a list").len(), 2);
    assert_eq!(run_plans(&arguments).expect("runs"), ExitCode::SUCCESS);
    std::fs::write(&list, "plans = [\"nowhere.toml\"]\n").expect("written");
    assert!(load(&list).expect_err("no such plan").to_string().contains("nowhere.toml"));
}
