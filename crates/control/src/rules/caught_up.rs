//! Copies that were gone on without, and are as new as the others again.

use crate::observed::Observed;
use crate::state::State;
use model::{GroupId, NodeId};

/// Whether `node`, on its way back, has been in the group's quorum again since each of those went on without it whose copies may
/// be the newest: it has committed what came after. What it was told in that quorum may be applied nowhere else, when one of
/// them dies.
pub fn has_caught_up(state: &State, observed: &Observed, node: &NodeId, group: &GroupId) -> bool {
    let Some(known) = state.groups.get(group) else { return false };
    let Some(own) = observed.cluster(node, group).filter(|own| own.is_whole_survivor()) else { return false };
    let tells = |other: &NodeId| {
        let quorum = observed.view(other).and_then(|view| view.quorum(group));
        quorum.is_some_and(|quorum| quorum.is_followed_by(node, own))
    };
    known.is_clustered() && known.is_history(&own.state_uuid) && known.newest_holders().iter().all(tells)
}
