//! From problem to plan: places the units, proves what can be proven, has the result worded and scheduled.

use crate::{
    bound, crowded,
    explain::Facts,
    fill::{self, Layout},
    instance::Instance,
    outcome::{Plan, Proof},
    problem::{Limits, Problem},
    schedule,
    search::{End, Search},
    share::{self, Shares},
    weigh, words,
};

/// Plans where every unit shall be. Total: any problem gets a plan (see [`Problem::check`] for what makes a
/// problem sensible; a weight that is not a positive number counts as 0, a replica on an unknown node as lost).
pub fn plan(problem: &Problem, limits: &Limits) -> Plan {
    let instance = Instance::new(problem);
    let solved = if instance.crowded {
        solve_crowded(&instance)
    } else if instance.equal {
        solve_equal(&instance, limits)
    } else {
        solve_weighted(&instance, limits)
    };
    let worded = words::word(problem, &instance, &solved.layout);
    let options = &problem.options;
    let rounds = schedule::rounds(
        &instance,
        options.transfers_in_per_node,
        options.transfers_out_per_node,
        &worded.steps,
    );
    let copies = worded.copies;
    let lower_bound = if solved.end == End::Optimal { copies } else { solved.bound.min(copies) };
    let proof = match solved.end {
        _ if copies == solved.bound => Proof::Bound,
        End::Optimal => Proof::Search,
        End::Unknown => Proof::Gap,
    };
    Plan {
        loss_probability: worded.loss_probability(),
        facts: Facts::new(problem, &instance, &solved.ranges, &solved.layout.load, &worded.load),
        placement: worded.placement,
        moves: worded.moves,
        copies,
        lower_bound,
        bytes: worded.bytes,
        load: worded.load,
        unplaceable: worded.unplaceable,
        rounds,
        proof,
        gap: copies - lower_bound,
        made_from: problem.fingerprint(),
    }
}

/// A placement, and what is known of the cheapest one.
struct Solved {
    layout: Layout,
    /// Per node: what it should hold, from and to.
    ranges: Vec<(f64, f64)>,
    bound: u64,
    end: End,
}

/// Steps for saving bytes once the number of copies is the least: a tenth of a second at most, since nothing is
/// unsafe about a plan that copies a few bytes more.
const BYTES_STEPS: u64 = 30_000_000;

fn solve_crowded(instance: &Instance) -> Solved {
    let layout = crowded::settle(instance);
    let share = share::exact(instance, |u| instance.weight[u]);
    let ranges = share.into_iter().map(|share| (0.0, share)).collect();
    // No copy is needed to leave everything as it is, and what the rest is worth has no measure.
    Solved { layout, ranges, bound: 0, end: End::Unknown }
}

fn solve_equal(instance: &Instance, limits: &Limits) -> Solved {
    let shares = Shares::new(instance);
    let mut layout = fill::fill_equal(instance, &shares);
    let mut bound = bound::equal(instance, &shares);
    let even = |layout: &Layout| {
        (0..layout.load.len()).all(|i| (shares.low[i]..=shares.high[i]).contains(&layout.load[i]))
    };
    let (mut end, mut steps) = (End::Optimal, limits.search_steps);
    if !even(&layout) || layout.copies_made(instance) > bound {
        (end, steps) = Search::new(instance, &shares, &mut layout, false, steps).run();
    }
    if !even(&layout) {
        // The bound speaks of placements in which every node has its share.
        bound = bound::missing(instance);
    }
    let bytes_differ = instance.bytes.windows(2).any(|pair| pair[0] != pair[1]);
    if bytes_differ && end == End::Optimal && layout.copies_made(instance) > 0 {
        Search::new(instance, &shares, &mut layout, true, steps.min(BYTES_STEPS)).run();
    }
    layout.enforce_limit(instance);
    let weight = instance.weight.first().copied().unwrap_or(1.0);
    let range = |(&low, &high): (&u32, &u32)| (f64::from(low) * weight, f64::from(high) * weight);
    let ranges = shares.low.iter().zip(&shares.high).map(range).collect();
    Solved { layout, ranges, bound, end }
}

fn solve_weighted(instance: &Instance, limits: &Limits) -> Solved {
    let share = share::exact(instance, |u| instance.weight[u]);
    let mut layout = fill::fill_weighted(instance, share.clone());
    if layout.load.iter().any(|&load| load > instance.node_limit) {
        Search::new(instance, &Shares::any(instance), &mut layout, false, limits.search_steps).run();
        layout.enforce_limit(instance);
    }
    weigh::even(instance, &share, &mut layout, limits.search_steps);
    let bound = bound::weighted(instance, &share, &layout);
    let tolerance = weigh::tolerance(instance, &share);
    let ranges = share.iter().map(|s| ((s - tolerance).max(0.0), s + tolerance)).collect();
    Solved { layout, ranges, bound, end: End::Unknown }
}
