//! When a node counts as gone, and when as back (`architecture.md`, 'Clocks of a failure').

use crate::observed::Observed;
use model::{Millis, NodeId, Reach};

/// What the vantage points together say of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Alive,
    /// Not answering, not proven gone.
    Suspect,
    Gone,
}

/// Judges `node`. Quick proof: its listeners refuse connections, seen by us and by most other sidecars (by both
/// vantage points where there are two). Slow proof: silence towards us for `silent`, and towards most other sidecars when
/// they last looked; with fewer than three vantage points silence proves nothing, it may be we who are cut off. In
/// either, one to whom it answers is enough to wait, and who has not looked yet has not seen it gone.
pub fn judge(observed: &Observed, now: Millis, node: &NodeId, silent: Millis) -> Verdict {
    let Some(view) = observed.view(node) else { return Verdict::Suspect };
    let Some((reach, _)) = view.reach else { return Verdict::Suspect };
    if reach == Reach::Answered {
        return Verdict::Alive;
    }
    let votes = observed.votes(now, node);
    let count = |reach| votes.iter().filter(|vote| **vote == Some(reach)).count();
    let (refused, silent_to, answered) =
        (count(Reach::Refused), count(Reach::Silent), count(Reach::Answered));
    let spoken = refused + silent_to;
    let alone = observed.nodes.len() <= 1;
    if reach == Reach::Refused && answered == 0 && (alone || refused * 2 > votes.len()) {
        return Verdict::Gone;
    }
    let silent_long = now.since(view.reach_since) >= silent;
    if silent_long && spoken >= 2 && spoken * 2 > votes.len() && answered == 0 {
        return Verdict::Gone;
    }
    Verdict::Suspect
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::PollAnswer;
    use model::Epoch;
    use model::wire::SidecarPoll;

    fn node(n: u16) -> NodeId {
        NodeId::new(format!("127.0.0.1:{n}")).expect("valid")
    }

    fn observed(now: Millis, own: Reach, votes: &[Option<Reach>]) -> Observed {
        let mut observed = Observed::default();
        observed.know(&node(1));
        for (index, vote) in votes.iter().enumerate() {
            observed.hear(
                now,
                SidecarPoll {
                    node: node(2 + index as u16),
                    uuid: String::new(),
                    run: String::new(),
                    taken: 0,
                    log_id: None,
                    epoch: Epoch(1),
                    names_version: 0,
                    views_version: 0,
                    peers: vote.map(|vote| (node(1), vote)).into_iter().collect(),
                    results: Vec::new(),
                    running: Vec::new(),
                    going_on: Vec::new(),
                    machine: None,
                },
            );
        }
        for look in observed.due_looks(now, Millis(500)) {
            let reach = if look.node == node(1) { own } else { Reach::Answered };
            observed.see(PollAnswer { node: look.node, token: look.token, reach, status: None });
        }
        observed
    }

    #[test]
    fn proof_of_loss_follows_the_table() {
        use Reach::{Answered, Refused, Silent};
        use Verdict::{Alive, Gone, Suspect};
        let cases: &[(Reach, &str, u64, Verdict)] = &[
            (Answered, "rr", 0, Alive),
            (Refused, "rr", 0, Gone),
            (Refused, "rs", 0, Suspect),
            (Refused, "ra", 0, Suspect),
            (Refused, "r", 0, Gone),
            (Refused, "s", 0, Suspect),
            (Refused, "r?", 0, Suspect),
            (Refused, "rr?", 0, Gone),
            (Refused, "rra??", 0, Suspect),
            (Silent, "ss", 4_999, Suspect),
            (Silent, "ss", 5_000, Gone),
            (Silent, "sa", 60_000, Suspect),
            (Silent, "s", 60_000, Suspect),
            (Silent, "ss?", 5_000, Gone),
            (Silent, "ss??", 60_000, Suspect),
            (Refused, "", 0, Gone),
        ];
        for (own, votes, wait, verdict) in cases {
            let start = Millis(10_000);
            let vote = |letter| match letter {
                'r' => Some(Refused),
                's' => Some(Silent),
                'a' => Some(Answered),
                _ => None,
            };
            let mut observed = observed(start, *own, &votes.chars().map(vote).collect::<Vec<_>>());
            let now = start + Millis(*wait);
            for view in observed.nodes.values_mut() {
                if let Some(sidecar) = view.sidecar.as_mut() {
                    sidecar.at = now;
                }
            }
            assert_eq!(judge(&observed, now, &node(1), Millis(5_000)), *verdict, "{own:?} {votes} {wait}");
        }
    }
}
