//! How likely a layout loses data when several nodes fail at the same moment.
//!
//! With `k` nodes chosen by chance among `n`, data is lost when they contain all copies of some unit. Only the
//! distinct sets of nodes count (A. Cidon et al., "Copysets", 2013): the fewer, the smaller the chance. Counted
//! exactly, by inclusion and exclusion up to three failures, by trying all choices for more.

use std::collections::{BTreeMap, BTreeSet};

/// Failures that are always reported, where there are as many nodes.
const FAILURES_MIN: u32 = 3;
/// Work beyond which a probability is left out; a few hundredths of a second.
const WORK_MAX: u128 = 40_000_000;

/// By number of failures: the probability, for the `population` nodes among which failures strike. `sets` gives the
/// nodes of each unit, in any order and with repetitions.
pub(crate) fn probabilities<'a>(
    population: usize,
    sets: impl Iterator<Item = &'a [u32]>,
) -> BTreeMap<u32, f64> {
    let sets = distinct(sets);
    let largest = sets.iter().map(|s| s.len() as u32).max().unwrap_or(0);
    let most = largest.max(FAILURES_MIN).min(population as u32);
    let all = |k| choose(population as u128, u128::from(k));
    let share = |k, bad: u128| bad as f64 / all(k) as f64;
    (1..=most).filter_map(|k| Some((k, share(k, losing(population as u128, &sets, k)?)))).collect()
}

/// The different sets that are not empty. Small ones are compared as one number: there may be a million of them.
fn distinct<'a>(sets: impl Iterator<Item = &'a [u32]>) -> Vec<Vec<u32>> {
    let (mut small, mut large): (Vec<u128>, Vec<Vec<u32>>) = (Vec::new(), Vec::new());
    for set in sets.filter(|set| !set.is_empty()) {
        if set.len() <= 4 {
            let mut four = [u32::MAX; 4];
            four[..set.len()].copy_from_slice(set);
            four.sort_unstable();
            small.push(four.iter().fold(0, |packed, &i| packed << 32 | u128::from(i)));
        } else {
            let mut set = set.to_vec();
            set.sort_unstable();
            large.push(set);
        }
    }
    small.sort_unstable();
    small.dedup();
    large.sort_unstable();
    large.dedup();
    let unpack = |packed: u128| {
        let four = [96, 64, 32, 0].map(|shift| (packed >> shift) as u32);
        four.into_iter().filter(|&i| i != u32::MAX).collect()
    };
    small.into_iter().map(unpack).chain(large).collect()
}

/// `n` over `k`, as far as it fits.
fn choose(n: u128, k: u128) -> u128 {
    if k > n {
        return 0;
    }
    (0..k).fold(1u128, |product, i| product.saturating_mul(n - i) / (i + 1))
}

/// How many choices of `k` among `n` nodes contain one of the sets; `None` when counting is too much work.
fn losing(n: u128, sets: &[Vec<u32>], k: u32) -> Option<u128> {
    let single: BTreeSet<u32> = sets.iter().filter(|s| s.len() == 1).map(|s| s[0]).collect();
    let rest = n - single.len() as u128;
    let outside = |set: &&Vec<u32>| !set.iter().any(|i| single.contains(i));
    let with_single = choose(n, u128::from(k)) - choose(rest, u128::from(k));
    let pairs: Vec<(u32, u32)> =
        sets.iter().filter(|s| s.len() == 2).filter(outside).map(|s| (s[0], s[1])).collect();
    match k {
        1 => Some(single.len() as u128),
        2 => Some(with_single + pairs.len() as u128),
        3 => {
            let with_pair = triples_with_pair(rest, &pairs)?;
            let edges: BTreeSet<(u32, u32)> = pairs.into_iter().collect();
            let free = |s: &&Vec<u32>| {
                ![(s[0], s[1]), (s[0], s[2]), (s[1], s[2])].iter().any(|pair| edges.contains(pair))
            };
            let triples = sets.iter().filter(|s| s.len() == 3).filter(outside).filter(free).count();
            Some(with_single + with_pair + triples as u128)
        }
        _ => by_trying(n, sets, k),
    }
}

/// Choices of three among `n` nodes that contain an edge: per edge the third node, less the doubles (two edges meet
/// in a node), plus what was taken off once too often (triangles).
fn triples_with_pair(n: u128, edges: &[(u32, u32)]) -> Option<u128> {
    let mut neighbours: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for &(a, b) in edges {
        neighbours.entry(a).or_default().push(b);
        neighbours.entry(b).or_default().push(a);
    }
    let degree = |i: u32| neighbours[&i].len() as u128;
    if edges.iter().map(|&(a, b)| degree(a) + degree(b)).sum::<u128>() > WORK_MAX {
        return None;
    }
    for list in neighbours.values_mut() {
        list.sort_unstable();
    }
    let meeting: u128 = neighbours.values().map(|list| choose(list.len() as u128, 2)).sum();
    // Each triangle is seen from its three edges.
    let triangles = edges.iter().map(|(a, b)| common(&neighbours[a], &neighbours[b])).sum::<u128>() / 3;
    Some(edges.len() as u128 * n.saturating_sub(2) + triangles - meeting)
}

/// How many numbers two rising lists share.
fn common(a: &[u32], b: &[u32]) -> u128 {
    let (mut i, mut k, mut count) = (0, 0, 0);
    while i < a.len() && k < b.len() {
        count += u128::from(a[i] == b[k]);
        let (step_a, step_b) = (a[i] <= b[k], b[k] <= a[i]);
        i += usize::from(step_a);
        k += usize::from(step_b);
    }
    count
}

/// Tries all choices of `k` nodes.
fn by_trying(n: u128, sets: &[Vec<u32>], k: u32) -> Option<u128> {
    let nodes: BTreeSet<u32> = sets.iter().flatten().copied().collect();
    let idle = n - nodes.len() as u128;
    let sets: Vec<&Vec<u32>> = sets.iter().filter(|s| s.len() <= k as usize).collect();
    let choices: u128 = (0..=u128::from(k)).map(|j| choose(nodes.len() as u128, j)).sum();
    if choices.saturating_mul(sets.len() as u128 + 1) > WORK_MAX {
        return None;
    }
    let nodes: Vec<u32> = nodes.into_iter().collect();
    let mut count = 0;
    let mut chosen: Vec<usize> = Vec::new();
    // All choices of up to k nodes that hold something; the others are idle ones.
    loop {
        let failed = |i: &u32| chosen.iter().any(|&c| nodes[c] == *i);
        if sets.iter().any(|set| set.iter().all(failed)) {
            count += choose(idle, u128::from(k) - chosen.len() as u128);
        }
        let next = chosen.last().map_or(0, |&c| c + 1);
        if next < nodes.len() && chosen.len() < k as usize {
            chosen.push(next);
            continue;
        }
        loop {
            let Some(last) = chosen.pop() else { return Some(count) };
            if last + 1 < nodes.len() {
                chosen.push(last + 1);
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counting_agrees_with_trying() {
        let mut seed = 7u64;
        let mut next = |below: u32| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as u32 % below
        };
        for _ in 0..300 {
            let n = 3 + next(8);
            let sets: Vec<Vec<u32>> = (0..next(12))
                .map(|_| {
                    let set: BTreeSet<u32> = (0..=next(5)).map(|_| next(n)).collect();
                    set.into_iter().collect()
                })
                .collect();
            let sets = distinct(sets.iter().map(Vec::as_slice));
            for k in 1..=3 {
                let counted = losing(u128::from(n), &sets, k);
                assert_eq!(counted, by_trying(u128::from(n), &sets, k), "{k} of {n}: {sets:?}");
            }
        }
    }

    #[test]
    fn known_layouts() {
        let p = |population, sets: &[&[u32]]| probabilities(population, sets.iter().copied());
        let ring = p(4, &[&[0, 1], &[1, 2], &[2, 3], &[3, 0], &[0, 1]]);
        assert_eq!(ring, BTreeMap::from([(1, 0.0), (2, 4.0 / 6.0), (3, 1.0)]));
        assert_eq!(p(2, &[&[0]]), BTreeMap::from([(1, 0.5), (2, 1.0)]));
        assert_eq!(p(5, &[]), BTreeMap::from([(1, 0.0), (2, 0.0), (3, 0.0)]));
        let four = p(8, &[&[0, 1, 2, 3], &[3, 2, 1, 0]]);
        assert!((four[&4] - 1.0 / 70.0).abs() < 1e-12);
    }
}
