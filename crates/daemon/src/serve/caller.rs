//! Who asks: known from the moment a request is let in until its answer, wherever that is made.

use super::diary::Origin;
use crate::audit::{Entry, Event};
use model::{NodeId, Role, UserRights};

/// Who stands behind a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    /// A token's name, or `anonymous`.
    pub(super) name: String,
    pub(super) role: Role,
    /// The address of the connection, and behind a controller that passed the request on the one it names.
    pub(super) from: String,
    /// For whom a sidecar speaks: its node, and the user whom searchd names.
    pub(super) node: Option<NodeId>,
    pub(super) user: Option<String>,
    /// What searchd lets that user do.
    pub(super) rights: Option<UserRights>,
}

tokio::task_local! {
    /// Set for as long as a request is handled.
    pub(super) static CALLER: Caller;
}

/// Of the request that is being handled.
pub(super) fn current() -> Option<Caller> {
    CALLER.try_with(Clone::clone).ok()
}

impl Caller {
    /// As the audit log names it.
    pub(super) fn actor(&self) -> String {
        match (&self.node, &self.user) {
            (Some(_), Some(user)) => format!("sql:{user}"),
            (Some(_), None) => "sql".to_owned(),
            (None, _) => self.name.clone(),
        }
    }

    pub(super) fn entry(&self, event: Event, what: impl Into<String>) -> Entry {
        let mut entry = Entry::new(event, self.actor(), what);
        entry.role = Some(self.role);
        entry.from = Some(self.from.clone());
        entry.node = self.node.as_ref().map(ToString::to_string);
        entry
    }

    pub(super) fn origin(&self, line: Option<u64>) -> Origin {
        Origin { actor: self.actor(), from: Some(self.from.clone()), line }
    }
}
