//! A JOIN that copies has its time anew whenever more of the copy is seen (rule 13), as with the real sidecar.

use crate::bugs::Bug;
use crate::seat::Caller;
use crate::world::{Event, World};
use engine::PeerMessage;
use model::wire::GoingOn;
use model::{Action, Command, CommandId, Millis};

/// The copy of a JOIN under way.
#[derive(Clone, Copy, Debug)]
pub struct Copying {
    id: CommandId,
    patience: Millis,
    until: Millis,
    /// How often more of it was seen.
    times: u64,
    /// Who waits for the statement.
    pub caller: Option<Caller>,
}

impl Copying {
    pub fn of(command: &Command, until: Millis) -> Option<Self> {
        let patience = Millis(command.remaining_ms);
        matches!(command.action, Action::JoinCluster { .. }).then_some(Self {
            id: command.id,
            patience,
            until,
            times: 0,
            caller: None,
        })
    }

    pub fn is_of(&self, id: CommandId) -> bool {
        self.id == id
    }

    /// What the controller is told.
    pub fn said(&self) -> Option<GoingOn> {
        (self.times > 0).then_some(GoingOn { id: self.id, times: self.times })
    }
}

impl World {
    /// After when a piece of a copy arrives: those before it, of this copy, come first. `None` for one that is said again, while the
    /// first is under way. What is left of an earlier copy of the group ended with its connection.
    pub(crate) fn piece_arrives(&mut self, from: usize, to: usize, message: &PeerMessage) -> Option<u64> {
        let (cluster, copy, number) = message.piece()?;
        let of_pair = |event: &Event| match event {
            Event::Peer { from: f, to: t, message, .. } if (*f, *t) == (from, to) => {
                message.piece().filter(|(of, ..)| *of == cluster).map(|(_, copy, number)| (copy, number))
            }
            _ => None,
        };
        self.events.retain(|_, event| of_pair(event).is_none_or(|(of, _)| of == copy));
        let mut after = 0;
        for ((at, _), event) in &self.events {
            match of_pair(event) {
                Some((_, same)) if same == number => return None,
                Some(_) => after = *at,
                None => {}
            }
        }
        Some(after)
    }

    /// A piece of a copy has come to this node.
    pub(crate) fn copy_goes_on(&mut self, at: usize) {
        let now = Millis(self.now);
        let by_the_clock = self.bug == Some(Bug::CopyByTheClock);
        if let Some(copying) = &mut self.machines[at].sidecar.borrow_mut().copying
            && !by_the_clock
        {
            copying.until = now + copying.patience;
            copying.times += 1;
        }
    }

    /// Until when a JOIN is waited for, the time of whose statement is over, because more of its copy was seen.
    pub(crate) fn copy_has_until(&self, at: usize, caller: Caller) -> Option<u64> {
        let copying = self.machines[at].sidecar.borrow().copying?;
        (copying.caller == Some(caller) && copying.until.0 > self.now).then_some(copying.until.0)
    }
}
