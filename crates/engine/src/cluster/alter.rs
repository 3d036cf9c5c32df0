//! ALTER CLUSTER ADD, DROP and UPDATE nodes.
//!
//! ADD copies the tables of the node that executes it onto all members first and puts the change in order after. Until
//! it is applied the tables are plain ones here, so a write that comes between the copy and the change is on this
//! node alone: the losing window of the real node, closed only by LOCK TABLES or by having no other member.

use super::{
    Cluster, Host,
    entry::{Body, Entry, Ticket},
    errors,
};
use crate::io::SqlError;

/// An ADD whose copies are on their way.
#[derive(Debug)]
pub(super) struct Addition {
    ticket: Ticket,
    tables: Vec<String>,
    session: u64,
}

impl Cluster {
    /// ALTER CLUSTER ADD. That the tables exist and are in no cluster is the caller's check.
    pub fn add(&mut self, host: &mut dyn Host, ticket: Ticket, tables: Vec<String>) -> Result<(), SqlError> {
        self.writable()?;
        let session = host.random();
        if self.other_members().is_empty() {
            return self.propose(host, ticket, Vec::new(), Body::AddTables { tables, session });
        }
        self.addition = Some(Addition { ticket, tables: tables.clone(), session });
        self.stage(host, session, tables);
        Ok(())
    }

    /// All members hold the copies.
    pub(super) fn staged(&mut self, host: &mut dyn Host, session: u64) {
        if let Some(addition) = self.addition.take_if(|addition| addition.session == session) {
            let body = Body::AddTables { tables: addition.tables, session };
            if self.propose(host, addition.ticket, Vec::new(), body).is_err() {
                host.finish(addition.ticket, Err(errors::aborted("ToExecuteStart", None)));
            }
        }
    }

    /// ALTER CLUSTER DROP.
    pub fn drop_tables(
        &mut self,
        host: &mut dyn Host,
        ticket: Ticket,
        tables: Vec<String>,
    ) -> Result<(), SqlError> {
        self.propose(host, ticket, Vec::new(), Body::DropTables { tables })
    }

    /// ALTER CLUSTER UPDATE nodes: the persisted members become those of the view.
    pub fn update_nodes(&mut self, host: &mut dyn Host, ticket: Ticket) -> Result<(), SqlError> {
        let nodes = self.view.nodes();
        self.propose(host, ticket, Vec::new(), Body::UpdateNodes { nodes })
    }

    /// An ADD that the view did not live to see is not done.
    pub(super) fn drop_addition(&mut self, host: &mut dyn Host) {
        if let Some(addition) = self.addition.take() {
            self.stop_outgoing(host, addition.session);
            host.finish(addition.ticket, Err(errors::aborted("ToExecuteStart", None)));
        }
        // Its copies were staged in the old view only.
        for ticket in self.unordered_additions() {
            self.finish(host, ticket, Err(errors::aborted("ToExecuteStart", None)));
        }
    }

    /// Applies an entry that is about the cluster itself.
    pub(super) fn change(&mut self, host: &mut dyn Host, entry: &Entry) -> Result<(), String> {
        match &entry.body {
            Body::AddTables { tables, session } => {
                self.install_staged(host, *session)?;
                self.desc.tables.extend(tables.iter().cloned());
            }
            Body::DropTables { tables } => {
                for table in tables {
                    self.desc.tables.remove(table);
                }
            }
            Body::UpdateNodes { nodes } => self.desc.nodes_set.clone_from(nodes),
            Body::Write(_) => {}
        }
        self.keep(host)
    }
}
