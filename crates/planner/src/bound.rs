//! How few copies any plan must make. Reads loads only, so it is quick; it proves a plan that meets it.

use crate::{fill::Layout, instance::Instance, share::Shares};

/// The least number of copies for units of equal weight, when every node shall hold its share: a node keeps at most
/// its target, and the targets are rounded up where most is kept; a unit keeps at most what it shall have.
pub(crate) fn equal(instance: &Instance, shares: &Shares) -> u64 {
    let load = live_load(instance);
    let target = shares.targets(&load, instance.total());
    let kept: u64 = load.iter().zip(&target).map(|(&l, &t)| u64::from(l.min(t))).sum();
    u64::from(instance.total()).saturating_sub(kept).max(missing(instance))
}

/// Copies that the units lack, whatever the balance.
pub(crate) fn missing(instance: &Instance) -> u64 {
    (0..instance.units()).map(|u| u64::from(instance.want[u].saturating_sub(live(instance, u)))).sum()
}

/// Copies of unit `u` on usable nodes.
fn live(instance: &Instance, u: usize) -> u32 {
    instance.held(u).iter().filter(|&&i| instance.usable[i as usize]).count() as u32
}

fn live_load(instance: &Instance) -> Vec<u32> {
    let mut load = vec![0; instance.usable.len()];
    for &i in &instance.held {
        load[i as usize] += u32::from(instance.usable[i as usize]);
    }
    load
}

/// The least number of copies for units of any weight, when every node shall be within the deviations from its
/// share that the layout has: a node above gives at least its largest copies away, a node below gets at least the
/// largest copies there are.
pub(crate) fn weighted(instance: &Instance, share: &[f64], layout: &Layout) -> u64 {
    let usable = || (0..share.len()).filter(|&i| instance.usable[i]);
    let deviation = |i: usize| (layout.weight[i] - share[i]) / instance.capacity[i];
    let most = usable().map(deviation).fold(0.0, f64::max);
    let least = usable().map(deviation).fold(0.0, f64::min);
    let mut weight = vec![0.0; share.len()];
    let mut here: Vec<Vec<f64>> = vec![Vec::new(); share.len()];
    let (mut surplus, mut all) = (0, Vec::new());
    for u in 0..instance.units() {
        all.push(instance.weight[u]);
        surplus += u64::from(live(instance, u).saturating_sub(instance.want[u]));
        for i in instance.held(u).iter().map(|&i| i as usize).filter(|&i| instance.usable[i]) {
            weight[i] += instance.weight[u];
            here[i].push(instance.weight[u]);
        }
    }
    all.sort_by(|a, b| b.total_cmp(a));
    // Rounding must not turn a load that just fits into a copy too many.
    let slack = 1e-9 * weight.iter().chain(share).copied().fold(0.0, f64::max);
    let (mut give, mut get) = (0, 0);
    for i in usable() {
        let above = weight[i] - (share[i] + most * instance.capacity[i]) - slack;
        let below = share[i] + least * instance.capacity[i] - weight[i] - slack;
        here[i].sort_by(|a, b| b.total_cmp(a));
        give += fewest(&here[i], above);
        get += fewest(&all, below);
    }
    let missing = missing(instance);
    get.max(missing + give.saturating_sub(surplus))
}

/// How many of the largest weights, given in falling order, reach `amount`.
fn fewest(weights: &[f64], amount: f64) -> u64 {
    let mut sum = 0.0;
    let mut count = 0;
    for weight in weights {
        if sum >= amount {
            break;
        }
        sum += weight;
        count += 1;
    }
    count
}
