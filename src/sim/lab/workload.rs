//! Who sends to whom: the workloads of the literature, as lists of flows.

use crate::base::time::Duration;
use crate::base::{Instant, Prng};
use crate::sim::lab::flow::{Ends, FlowSpec};

/// A flow of as many bytes as there is time for, from a host's first NIC to another's, with `subflows` subflows: their ports
/// differ, and a network that hashes flows takes them different ways.
pub fn bulk(from: usize, to: usize, subflows: usize, start: Instant) -> FlowSpec {
    FlowSpec { group: 0, from, to, subflows: vec![Ends { from: 0, to: 0 }; subflows], start, size: None }
}

/// Every host sends to one other and receives from one other (Raiciu et al., SIGCOMM 2011, §4.1). Flows begin at random
/// within `starts_within`: at once, and of equal speed, they would go in step for ever.
///
/// # Panics
/// With a single host, which has no other.
pub fn permutation(hosts: usize, subflows: usize, starts_within: Duration, seed: u64) -> Vec<FlowSpec> {
    assert!(hosts > 1, "a permutation needs at least two hosts");
    let mut prng = Prng::new(seed);
    let to = derangement(hosts, &mut prng);
    let within = starts_within.as_nanos().max(1);
    let flow = |(from, to)| bulk(from, to, subflows, Instant::from_nanos(prng.below(within)));
    to.into_iter().enumerate().map(flow).collect()
}

/// Puts a list into any order; each is equally likely.
pub fn shuffle<T>(list: &mut [T], prng: &mut Prng) {
    for place in (1..list.len()).rev() {
        list.swap(place, prng.below(place as u64 + 1) as usize);
    }
}

/// Any host but this one.
pub fn another(host: usize, hosts: usize, prng: &mut Prng) -> usize {
    let other = prng.below(hosts as u64 - 1) as usize;
    if other < host { other } else { other + 1 }
}

/// A permutation that leaves nothing where it was; each is equally likely.
pub fn derangement(count: usize, prng: &mut Prng) -> Vec<usize> {
    let mut to: Vec<usize> = (0..count).collect();
    // About one permutation in e is a derangement.
    loop {
        shuffle(&mut to, prng);
        if to.iter().enumerate().all(|(from, to)| from != *to) {
            return to;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const WITHIN: Duration = Duration::from_millis(10);

    #[test]
    fn in_a_permutation_everybody_sends_to_one_other_and_receives_from_one() {
        for seed in 0..20 {
            let flows = permutation(16, 3, WITHIN, seed);
            let to: HashSet<usize> = flows.iter().map(|flow| flow.to).collect();
            assert!(flows.iter().enumerate().all(|(from, flow)| flow.from == from && flow.to != from));
            assert_eq!(to.len(), 16);
            assert!(flows.iter().all(|flow| flow.subflows.len() == 3 && flow.start < Instant::ZERO + WITHIN));
        }
        assert_ne!(permutation(16, 1, WITHIN, 1), permutation(16, 1, WITHIN, 2));
        assert_eq!(permutation(2, 1, WITHIN, 1)[0].to, 1);
    }

    #[test]
    fn any_other_host_is_drawn_and_never_the_same() {
        let mut prng = Prng::new(1);
        let seen: HashSet<(usize, usize)> =
            (0..400).map(|draw| (draw % 4, another(draw % 4, 4, &mut prng))).collect();
        assert_eq!(seen.len(), 12, "four times three others");
        assert!(seen.iter().all(|(from, to)| from != to));
    }
}
