//! The deep proof that copies are equal, for copies that nothing writes to: every member at the same place in its
//! group's history, with the same rows by id and content.

use crate::Controller;
use crate::flight::StepKey;
use crate::io::Effect;
use crate::operation::{Operation, Status, Step, Work};
use crate::state::{Group, Member};
use model::{Action, Content, GroupId, Measurement, Millis, NodeId};
use std::collections::BTreeMap;

/// Replicas apply a moment after the acknowledgement.
const AGAIN_AFTER: Millis = Millis(50);
/// A measurement that is not answered by then is asked again: soon while statements are held.
const PATIENCE: Millis = Millis(5_000);
/// The same on the way back.
const PATIENCE_TO_PUT_BACK: Millis = Millis(60_000);
/// Then copies that differ may do so for long, and every row of them is read.
const AGAIN_TO_PUT_BACK: Millis = Millis(5_000);
/// What was found equal is acted on within this time, or looked at anew.
const EQUAL_FOR: Millis = Millis(10_000);

/// One comparison under way.
#[derive(Debug, Default)]
pub struct Comparison {
    asked_at: Millis,
    not_before: Millis,
    tokens: BTreeMap<u64, NodeId>,
    answers: BTreeMap<NodeId, Measurement>,
    /// What all of them hold, before tables are put back into a group, and when the last one said so.
    equal: Option<(Millis, BTreeMap<String, Content>)>,
}

impl Comparison {
    pub fn next_wake(&self) -> Option<Millis> {
        self.tokens.is_empty().then_some(self.not_before)
    }
}

impl Controller {
    /// Asks all members of the group for what they hold, when it is time.
    pub(crate) fn compare(&mut self, key: StepKey, group: &GroupId, tables: &[String], deep: bool) {
        let Some(known) = self.state.groups.get(group) else { return };
        let nodes: Vec<NodeId> = known.in_state(Member::Serving).cloned().collect();
        let now = self.now;
        let comparison = self.comparisons.entry(key).or_default();
        let unwinds = self.state.operations.get(&key.0).is_some_and(|it| it.status == Status::Unwinding);
        let patience = if unwinds { PATIENCE_TO_PUT_BACK } else { PATIENCE };
        let waiting = !comparison.tokens.is_empty() && now.since(comparison.asked_at) < patience;
        if waiting || now < comparison.not_before {
            return;
        }
        *comparison = Comparison { asked_at: now, ..Comparison::default() };
        for node in nodes {
            self.next_token += 1;
            comparison.tokens.insert(self.next_token, node.clone());
            let (token, tables) = (self.next_token, tables.to_vec());
            self.out.effects.push(Effect::Measure { node, token, tables, deep });
        }
    }

    /// Before tables are put back into a group: what its members hold of them, once that is the same. `None`: not yet. Who puts
    /// them back copies its own over those of the others.
    pub(crate) fn equal_again(
        &mut self,
        key: StepKey,
        group: &GroupId,
        tables: &[String],
    ) -> Option<BTreeMap<String, Content>> {
        let known = self.comparisons.get(&key).and_then(|it| it.equal.as_ref());
        if let Some((_, fresh)) = known.filter(|(seen, _)| self.now.since(*seen) < EQUAL_FOR) {
            return Some(fresh.clone());
        }
        self.compare(key, group, tables, true);
        None
    }

    /// Takes a measurement in; the last one of a round compares.
    pub(crate) fn compared(&mut self, token: u64, measured: Result<Measurement, String>) {
        let asked =
            self.comparisons.iter_mut().find(|(_, comparison)| comparison.tokens.contains_key(&token));
        let Some((&key, comparison)) = asked else { return };
        let Some(node) = comparison.tokens.remove(&token) else { return };
        match measured {
            Ok(measurement) => {
                comparison.answers.insert(node, measurement);
            }
            Err(error) => {
                self.flights.waits.insert(key, format!("{node} does not show its copies: {error}"));
            }
        }
        if !comparison.tokens.is_empty() {
            return;
        }
        let Some(operation) = self.state.operations.get(&key.0) else { return };
        let Some((group, tables, deep)) = operation.step(key.1).and_then(|step| subject(operation, step))
        else {
            return;
        };
        let unwinds = operation.status == Status::Unwinding;
        comparison.not_before = self.now + if unwinds { AGAIN_TO_PUT_BACK } else { AGAIN_AFTER };
        // Before it goes on the group is whole. One that is away when it goes back joins with a copy of what the others have.
        let held = |known: &Group| if unwinds { known.serving().count() } else { known.members.len() };
        if comparison.answers.len() < self.state.groups.get(group).map_or(0, held) {
            return;
        }
        // Tables that are out of the group say nothing of their place in it.
        let place = (!unwinds).then_some(group);
        match equal(&comparison.answers, place, tables, deep) {
            Ok(contents) if unwinds => comparison.equal = Some((self.now, contents)),
            Ok(contents) => {
                self.comparisons.remove(&key);
                self.step_done(key, contents);
            }
            Err(why) => {
                self.flights.waits.insert(key, why);
            }
        }
    }
}

/// The group and tables that are compared for this step, or for its undo, and whether by content.
fn subject<'a>(operation: &Operation, step: &'a Step) -> Option<(&'a GroupId, &'a [String], bool)> {
    match (&step.work, &step.undo) {
        (Work::Compare { group, tables, quick }, _) => Some((group, tables, !quick)),
        (
            Work::Command { action: Action::RemoveTables { group, tables } },
            Some(Action::ReturnTables { .. }),
        ) if operation.status == Status::Unwinding => Some((group, tables, true)),
        _ => None,
    }
}

/// What all of them hold, if it is the same.
fn equal(
    answers: &BTreeMap<NodeId, Measurement>,
    place: Option<&GroupId>,
    tables: &[String],
    deep: bool,
) -> Result<BTreeMap<String, Content>, String> {
    let mut all = answers.iter();
    let Some((first, expected)) = all.next() else { return Err("no copy was seen".to_owned()) };
    for (node, found) in all {
        if let Some(group) = place
            && found.last_committed.get(group) != expected.last_committed.get(group)
        {
            return Err(format!("{node} and {first} are not at the same place in {group}"));
        }
        let differs = |table: &&String| {
            found.contents.get(*table) != expected.contents.get(*table)
                || found.digests.get(*table) != expected.digests.get(*table)
        };
        if let Some(table) = tables.iter().find(differs) {
            return Err(format!("the copies of {table} on {node} and {first} differ"));
        }
    }
    let unseen = |table: &&String| {
        !expected.contents.contains_key(*table) || (deep && !expected.digests.contains_key(*table))
    };
    match tables.iter().find(unseen) {
        Some(table) => Err(format!("{first} does not show all of {table}")),
        None => Ok(tables.iter().filter_map(|t| Some((t.clone(), *expected.contents.get(t)?))).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Content;

    fn answer(committed: i64, rows: u64, digest: Option<u64>) -> Measurement {
        let group = GroupId::new("g").expect("valid");
        let content = Content { rows, ..Content::default() };
        Measurement {
            contents: [("t".to_owned(), content)].into(),
            digests: digest.into_iter().map(|digest| ("t".to_owned(), digest)).collect(),
            last_committed: [(group, committed)].into(),
        }
    }

    #[test]
    fn copies_are_equal_only_when_place_rows_and_content_are() {
        let compared = |one: Measurement, other: Measurement, deep: bool| {
            let node = |n: u16| NodeId::new(format!("h:{n}")).expect("valid");
            let answers = [(node(1), one), (node(2), other)].into();
            equal(&answers, Some(&GroupId::new("g").expect("valid")), &["t".to_owned()], deep)
        };
        let verdict = |other: Measurement| compared(answer(5, 3, Some(7)), other, true);
        assert_eq!(verdict(answer(5, 3, Some(7))).expect("equal")["t"].rows, 3);
        for (other, why) in [
            (answer(4, 3, Some(7)), "same place"),
            (answer(5, 2, Some(7)), "differ"),
            (answer(5, 3, Some(8)), "differ"),
            (answer(5, 3, None), "differ"),
        ] {
            assert!(verdict(other).expect_err(why).contains(why));
        }
        // By figures alone nobody has read the rows.
        assert!(compared(answer(5, 3, None), answer(5, 3, None), true).is_err());
        assert_eq!(compared(answer(5, 3, None), answer(5, 3, None), false).expect("equal")["t"].rows, 3);
        assert!(compared(answer(5, 3, None), answer(5, 2, None), false).is_err());
    }
}
