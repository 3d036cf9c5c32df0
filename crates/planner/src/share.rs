//! How many copies each node should hold when all units weigh the same.
//!
//! A node's share is proportional to its capacity, as far as distinct nodes allow: `k` nodes together can hold at
//! most `Σ min(want, k)` copies. The fairest division under such limits is the lexicographically optimal base of a
//! polymatroid (S. Fujishige, 1980); as the limits depend only on `k`, it is the lower convex hull of the points
//! (capacity of the `k` largest nodes, their limit). Rounded down and up it gives the range of each node, and
//! there is always a placement within all ranges.

use crate::instance::Instance;

/// Per node: the fewest and the most copies it should hold.
pub(crate) struct Shares {
    pub low: Vec<u32>,
    pub high: Vec<u32>,
}

impl Shares {
    pub fn new(instance: &Instance) -> Self {
        let n = instance.capacity.len();
        let exact = proportional(instance);
        let mut low = vec![0; n];
        let mut high = vec![0; n];
        for i in 0..n {
            let near = exact[i].round();
            // Sums of a million capacities are exact to about 1e-10 of their size.
            let whole = (exact[i] - near).abs() <= 1e-9 * near.max(1.0);
            low[i] = if whole { near } else { exact[i].floor() } as u32;
            high[i] = if whole { near } else { exact[i].ceil() } as u32;
        }
        Self { low, high }
    }

    /// The number of copies each node gets: `low` or `high`, together `total`. The higher number goes first to the
    /// nodes that hold as many already.
    pub fn targets(&self, load: &[u32], total: u32) -> Vec<u32> {
        let mut target = self.low.clone();
        let low: u64 = self.low.iter().map(|&l| u64::from(l)).sum();
        let mut left = u64::from(total).saturating_sub(low);
        for holds in [true, false] {
            for i in 0..target.len() {
                if left > 0 && target[i] < self.high[i] && (load[i] >= self.high[i]) == holds {
                    target[i] += 1;
                    left -= 1;
                }
            }
        }
        target
    }
}

/// The shares before rounding.
fn proportional(instance: &Instance) -> Vec<f64> {
    let mut share = vec![0.0; instance.capacity.len()];
    let mut order: Vec<u32> = (0..share.len() as u32).filter(|&i| instance.usable[i as usize]).collect();
    order.sort_by(|&a, &b| instance.capacity[b as usize].total_cmp(&instance.capacity[a as usize]));
    let limit = joint_limits(instance, order.len());
    let mut hull: Vec<(usize, f64)> = vec![(0, 0.0)];
    let mut sum = 0.0;
    for (k, &i) in order.iter().enumerate() {
        sum += instance.capacity[i as usize];
        let slope = |a: &(usize, f64), k: usize, sum: f64| (limit[k] - limit[a.0]) as f64 / (sum - a.1);
        while let [.., a, b] = hull.as_slice() {
            if slope(a, b.0, b.1) < slope(b, k + 1, sum) {
                break;
            }
            hull.pop();
        }
        hull.push((k + 1, sum));
    }
    for piece in hull.windows(2) {
        let (from, to) = (piece[0].0, piece[1].0);
        let copies = (limit[to] - limit[from]) as f64;
        let capacity = piece[1].1 - piece[0].1;
        for &i in &order[from..to] {
            share[i as usize] = copies * (instance.capacity[i as usize] / capacity);
        }
    }
    share
}

/// For `k` from 0 to `n`: the most copies that `k` nodes can hold together.
fn joint_limits(instance: &Instance, n: usize) -> Vec<u64> {
    let mut with_at_least = vec![0u64; n + 2];
    for &w in &instance.want {
        with_at_least[(w as usize).min(n)] += 1;
    }
    for k in (0..=n).rev() {
        with_at_least[k] += with_at_least[k + 1];
    }
    let mut limit = vec![0; n + 1];
    let mut distinct = 0;
    for k in 1..=n {
        distinct += with_at_least[k];
        limit[k] = distinct.min(u64::from(instance.node_limit) * k as u64);
    }
    limit
}
