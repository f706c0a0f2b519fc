//! What the windows' own rules give where losses are independent and nothing else is in the way: no queue, no time-out, no
//! header. Theory's fluid limits are for windows that stand still; here they go up and down packet by packet, as they do. The
//! expectations of experiments E1 and E18 come from here.

use crate::base::Prng;

/// A path: the share of its packets that get lost, and its round trip in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossyPath {
    /// In parts of one.
    pub loss: f64,
    /// In seconds.
    pub rtt: f64,
}

/// The rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// One segment a round trip; half at a loss.
    Reno,
    /// The same with the growth of 1/n², for n paths.
    Ewtcp,
    /// RFC 6356.
    Lia,
    /// 1/Σw for each packet; half of Σw off at a loss.
    Full,
}

/// Packets that arrive on each path in a second, on average over `seconds`.
pub fn rates(rule: Rule, paths: &[LossyPath], seconds: f64, seed: u64) -> Vec<f64> {
    let mut prng = Prng::new(seed);
    let mut windows = vec![10.0; paths.len()];
    let mut next: Vec<f64> = paths.iter().map(|path| path.rtt / 10.0).collect();
    // One loss is answered in a round trip, and the window does not grow meanwhile.
    let mut recovered = vec![0.0; paths.len()];
    let mut arrived = vec![0u64; paths.len()];
    let begin = 0.1 * seconds;
    loop {
        let first = (0..paths.len()).min_by(|a, b| next[*a].total_cmp(&next[*b]));
        let Some(path) = first.filter(|path| next[*path] < seconds) else { break };
        let now = next[path];
        let total: f64 = windows.iter().sum();
        let is_lost = prng.unit() < paths[path].loss;
        if is_lost && now >= recovered[path] {
            let less = if rule == Rule::Full { total / 2.0 } else { windows[path] / 2.0 };
            windows[path] = f64::max(1.0, windows[path] - less);
            recovered[path] = now + paths[path].rtt;
        }
        if !is_lost {
            arrived[path] += u64::from(now >= begin);
            if now >= recovered[path] {
                windows[path] += growth(rule, path, &windows, paths);
            }
        }
        next[path] = now + paths[path].rtt / windows[path];
    }
    arrived.into_iter().map(|packets| packets as f64 / (seconds - begin)).collect()
}

/// By how much a window grows with a packet that arrived.
fn growth(rule: Rule, path: usize, windows: &[f64], paths: &[LossyPath]) -> f64 {
    let (count, total) = (windows.len() as f64, windows.iter().sum::<f64>());
    let reno = 1.0 / windows[path];
    match rule {
        Rule::Reno => reno,
        Rule::Ewtcp => reno / (count * count),
        Rule::Full => 1.0 / total,
        Rule::Lia => {
            let pairs = || windows.iter().zip(paths);
            let best = pairs().map(|(window, path)| window / path.rtt.powi(2)).fold(0.0, f64::max);
            let rates: f64 = pairs().map(|(window, path)| window / path.rtt).sum();
            f64::min(best / (rates * rates), reno)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::lab::plan::Plan;
    use crate::sim::lab::plan::measure::{Demand, Source};

    const E1: [LossyPath; 2] = [LossyPath { loss: 0.0004, rtt: 0.01 }, LossyPath { loss: 0.0001, rtt: 0.1 }];
    const E18: [LossyPath; 2] = [LossyPath { loss: 0.01, rtt: 0.02 }; 2];

    /// What both paths give, in parts of what a TCP connection gets on the one that `beside` names.
    fn per_tcp(rule: Rule, paths: &[LossyPath], beside: usize) -> f64 {
        let total: f64 = rates(rule, paths, 4000.0, 1).iter().sum();
        total / rates(Rule::Reno, &paths[beside..=beside], 4000.0, 2)[0]
    }

    #[test]
    fn a_windows_mean_is_what_is_known_of_it() {
        // Ott, Kemperman and Mathis (1996): 1.31 / sqrt(p) where losses are independent; here a window rests for a round trip
        // after each, which is up to a thirtieth of its time.
        for path in E1 {
            let window = rates(Rule::Reno, &[path], 4000.0, 3)[0] * path.rtt;
            let known = 1.31 / path.loss.sqrt();
            assert!((0.93..1.02).contains(&(window / known)), "{window} and {known}");
        }
    }

    #[test]
    fn the_expectations_of_plans_are_what_the_rules_give() {
        let rule = |name: &str| match name {
            "lia" => Rule::Lia,
            "coupled" => Rule::Full,
            "ewtcp" => Rule::Ewtcp,
            _ => Rule::Reno,
        };
        let mut seen = 0;
        for (name, case, paths) in [("e1", "hundredth", &E1), ("e18", "d", &E18)] {
            let plan = Plan::of_braid(name).expect("it comes with Braid");
            for expect in plan.expect.iter().filter(|expect| expect.by == Source::Theory) {
                let word = |key: &str| expect.when.get(key).and_then(toml::Value::as_str);
                let Some(algorithm) = word("algorithm").filter(|_| word("case") == Some(case)) else {
                    continue;
                };
                let beside = match expect.measure.as_str() {
                    "per-tcp" | "per-near" => 0,
                    "per-far" => 1,
                    _ => continue,
                };
                let Ok(Demand::Near(is, _)) = expect.demand() else { panic!("{expect:?}") };
                let given = per_tcp(rule(algorithm), paths, beside);
                assert!(
                    (0.95..1.05).contains(&(given / is)),
                    "{name} {algorithm}: {given}, in the plan {is}"
                );
                seen += 1;
            }
        }
        assert_eq!(seen, 5);
    }
}
