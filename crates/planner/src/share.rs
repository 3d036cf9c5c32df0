//! How much each node should hold, by its capacity and as far as the rules of validity allow.
//!
//! `k` nodes together can hold at most `Σ min(want, k)` copies, since a unit's copies are on distinct nodes. The
//! fairest division under such limits is the lexicographically optimal base of a polymatroid (S. Fujishige,
//! "Lexicographically optimal base of a polymatroid with respect to a weight vector", 1980); as the limits depend
//! only on `k`, it is the lower convex hull of the points (capacity of the `k` largest nodes, their limit). Rounded
//! down and up it gives the range of each node, and there is always a placement within all ranges.
//!
//! With zones, each zone first gets its part within what the units must and may put there, then divides it among
//! its nodes. When units of several rf meet zones of several sizes, the parts need not be reachable all at once;
//! the search then comes as near as possible.

use crate::instance::Instance;

/// Per node: the fewest and the most copies it should hold.
pub(crate) struct Shares {
    pub low: Vec<u32>,
    pub high: Vec<u32>,
}

impl Shares {
    pub fn new(instance: &Instance) -> Self {
        let exact = exact(instance, |_| 1.0);
        let near = |share: f64| {
            let whole = share.round();
            // Sums of a million capacities are exact to about 1e-10 of their size.
            ((share - whole).abs() <= 1e-9 * whole.max(1.0)).then_some(whole)
        };
        let low = exact.iter().map(|&s| near(s).unwrap_or(s.floor()) as u32).collect();
        let high = exact.iter().map(|&s| near(s).unwrap_or(s.ceil()) as u32).collect();
        Self { low, high }
    }

    /// Any number of copies up to the limit of a node.
    pub fn any(instance: &Instance) -> Self {
        let high = instance.usable.iter().map(|&ok| if ok { instance.node_limit } else { 0 }).collect();
        Self { low: vec![0; instance.usable.len()], high }
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

/// The share of each node in the sum over all copies of `measure(unit)`.
pub(crate) fn exact(instance: &Instance, measure: impl Fn(usize) -> f64) -> Vec<f64> {
    if instance.zoned() {
        return by_zone(instance, &measure);
    }
    let mut share = vec![0.0; instance.capacity.len()];
    let order = largest_first(instance, 0);
    let limit = joint_limits(instance, order.len(), &measure);
    // The corners of the hull: (nodes, their capacity).
    let mut hull: Vec<(usize, f64)> = vec![(0, 0.0)];
    let mut sum = 0.0;
    let slope = |a: (usize, f64), b: (usize, f64)| (limit[b.0] - limit[a.0]) / (b.1 - a.1);
    for (k, &i) in order.iter().enumerate() {
        sum += instance.capacity[i as usize];
        let corner = (k + 1, sum);
        while let [.., a, b] = *hull.as_slice() {
            if slope(a, b) < slope(b, corner) {
                break;
            }
            hull.pop();
        }
        hull.push(corner);
    }
    for piece in hull.windows(2) {
        let (from, to) = (piece[0], piece[1]);
        for &i in &order[from.0..to.0] {
            let part = instance.capacity[i as usize] / (to.1 - from.1);
            share[i as usize] = (limit[to.0] - limit[from.0]) * part;
        }
    }
    share
}

/// The usable nodes of a zone by capacity, the largest first.
fn largest_first(instance: &Instance, zone: u32) -> Vec<u32> {
    let all = 0..instance.capacity.len() as u32;
    let mut order: Vec<u32> =
        all.filter(|&i| instance.usable[i as usize] && instance.zone[i as usize] == zone).collect();
    order.sort_by(|&a, &b| instance.capacity[b as usize].total_cmp(&instance.capacity[a as usize]));
    order
}

/// For `k` from 0 to `n`: the most that `k` nodes can hold together.
fn joint_limits(instance: &Instance, n: usize, measure: &impl Fn(usize) -> f64) -> Vec<f64> {
    let mut with_at_least = vec![0.0; n + 2];
    for (u, &w) in instance.want.iter().enumerate() {
        with_at_least[(w as usize).min(n)] += measure(u);
    }
    for k in (0..=n).rev() {
        with_at_least[k] += with_at_least[k + 1];
    }
    let mut limit = vec![0.0; n + 1];
    let mut distinct = 0.0;
    // The limit of a node counts units, so it bounds shares only where they count units too.
    let per_node = if instance.equal { f64::from(instance.node_limit) } else { f64::INFINITY };
    for k in 1..=n {
        distinct += with_at_least[k];
        limit[k] = f64::min(distinct, per_node * k as f64);
    }
    limit
}

/// What a zone must hold, may hold, and what one of its nodes may hold.
struct ZoneRoom {
    nodes: Vec<u32>,
    must: f64,
    may: f64,
    per_node: f64,
}

impl ZoneRoom {
    /// What the zone holds when every node takes `level` times its capacity, within the limits.
    fn at(&self, instance: &Instance, level: f64) -> f64 {
        let sum: f64 =
            self.nodes.iter().map(|&i| (level * instance.capacity[i as usize]).min(self.per_node)).sum();
        sum.clamp(self.must, self.may)
    }
}

fn by_zone(instance: &Instance, measure: &impl Fn(usize) -> f64) -> Vec<f64> {
    let rooms = zone_rooms(instance, measure);
    let total: f64 = instance.want.iter().enumerate().map(|(u, &w)| f64::from(w) * measure(u)).sum();
    let least = instance.capacity.iter().copied().filter(|&c| c > 0.0).fold(1.0, f64::min);
    let (mut low, mut high) = (0.0, total / least + 1.0);
    // Halved until neighbouring numbers; 128 halvings do for any pair.
    for _ in 0..128 {
        let middle = f64::midpoint(low, high);
        if rooms.iter().map(|room| room.at(instance, middle)).sum::<f64>() < total {
            low = middle;
        } else {
            high = middle;
        }
    }
    let mut share = vec![0.0; instance.capacity.len()];
    for room in &rooms {
        divide(instance, room, room.at(instance, high), &mut share);
    }
    share
}

fn zone_rooms(instance: &Instance, measure: &impl Fn(usize) -> f64) -> Vec<ZoneRoom> {
    let mut sum_by_want = vec![0.0; instance.zone_quota.len()];
    for (u, &w) in instance.want.iter().enumerate() {
        sum_by_want[w as usize] += measure(u);
    }
    let any: f64 = sum_by_want[1..].iter().sum();
    let per_node = if instance.equal { any.min(f64::from(instance.node_limit)) } else { any };
    (0..instance.zone_nodes.len() as u32)
        .map(|z| {
            let nodes = largest_first(instance, z);
            let (mut least, mut most) = (0.0, 0.0);
            for (want, sum) in sum_by_want.iter().enumerate() {
                let (low, high) = instance.zone_range(want as u32, z);
                least += f64::from(low) * sum;
                most += f64::from(high) * sum;
            }
            let room = per_node * nodes.len() as f64;
            ZoneRoom { nodes, must: least.min(room), may: most.min(room), per_node }
        })
        .collect()
}

/// Divides `amount` among the nodes of a zone by capacity; who would get more than a node may hold, gets that.
fn divide(instance: &Instance, room: &ZoneRoom, amount: f64, share: &mut [f64]) {
    let mut left = amount;
    let mut capacity: f64 = room.nodes.iter().map(|&i| instance.capacity[i as usize]).sum();
    for &i in &room.nodes {
        let own = instance.capacity[i as usize];
        let part = (left * (own / capacity)).min(room.per_node);
        share[i as usize] = part.max(0.0);
        left -= part;
        capacity -= own;
    }
}
