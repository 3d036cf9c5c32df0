//! Statements about replication clusters, one at a time, and what their ends mean for those who wait.

use super::{Asker, CLUSTER_QUEUE_MAX, Engine, Side, Waiting, random_uuid};
use crate::{
    cluster::{Cluster, Descriptor, Member, Ticket, errors},
    io::{Reply, SqlError},
    sql::ast::{ClusterAction, ClusterOptions, ClusterStatement},
};
use model::NodeId;
use std::collections::BTreeSet;

impl Engine {
    /// This process as a member.
    pub(super) fn me(&self) -> Member {
        Member {
            node: self.config.node.clone(),
            incarnation: self.incarnation,
            replication: self.config.replication_address.clone(),
        }
    }

    pub(super) fn cluster_statement(&mut self, asker: Asker, statement: ClusterStatement) {
        if let ClusterAction::Set { variable, value } = &statement.action {
            self.set_cluster(asker, &statement.name, variable, value);
        } else if self.cluster_lock.is_none() {
            self.run_cluster_statement(asker, statement);
        } else if self.cluster_queue.len() < CLUSTER_QUEUE_MAX {
            self.cluster_queue.push_back((asker, statement));
        } else {
            let text = format!("{CLUSTER_QUEUE_MAX} cluster statements wait on this node: try again later");
            self.answer(asker, Err(SqlError::new(text)));
        }
    }

    /// Begins a statement; it holds the lock until its outcome.
    fn run_cluster_statement(&mut self, asker: Asker, statement: ClusterStatement) {
        let number = self.number();
        self.cluster_lock = Some(number);
        self.waiting.insert(number, Waiting { asker, affected: 0, about: None });
        let ticket = Ticket(number);
        let name = statement.name;
        let begun = match statement.action {
            ClusterAction::Create(options) => {
                self.create_cluster(&name, &options).map(|()| self.outcome(number, Ok(())))
            }
            ClusterAction::Join { at, options } => self.join_cluster(&name, &at, &options, ticket),
            ClusterAction::Add(tables) => self.add_tables(&name, tables, ticket),
            ClusterAction::Drop(tables) => self.drop_from_cluster(&name, tables, ticket),
            ClusterAction::UpdateNodes => {
                self.begin(&name, |cluster, host| cluster.update_nodes(host, ticket))
            }
            ClusterAction::Exit => self.begin(&name, |cluster, host| cluster.exit(host, ticket)),
            ClusterAction::Delete => self.begin(&name, |cluster, host| {
                cluster.delete(host, ticket);
                Ok(())
            }),
            ClusterAction::Set { .. } => Ok(()),
        };
        if let Err(error) = begun {
            self.outcome(number, Err(error));
        }
        self.settle();
    }

    fn begin(
        &mut self,
        name: &str,
        act: impl FnOnce(&mut Cluster, &mut dyn crate::cluster::Host) -> Result<(), SqlError>,
    ) -> Result<(), SqlError> {
        self.with_cluster(name, act).unwrap_or_else(|| Err(errors::unknown(name)))
    }

    fn set_cluster(&mut self, asker: Asker, name: &str, variable: &str, value: &str) {
        let on = ["1", "yes", "true", "on"].iter().any(|yes| value.eq_ignore_ascii_case(yes));
        let result = if variable.eq_ignore_ascii_case("evs.suspect_timeout") {
            self.begin(name, |cluster, _| cluster.set_suspect_timeout(value))
                .map(|()| Reply::Done { affected: 0 })
        } else if !variable.eq_ignore_ascii_case("pc.bootstrap") {
            Err(SqlError::new(format!("cluster '{name}', variable '{variable}' cannot be set")))
        } else if on {
            let number = self.number();
            self.waiting.insert(number, Waiting { asker: asker.clone(), affected: 0, about: None });
            match self.begin(name, |cluster, host| cluster.bootstrap(host, Ticket(number))) {
                Ok(()) => return self.settle(),
                Err(error) => {
                    self.waiting.remove(&number);
                    Err(error)
                }
            }
        } else {
            Ok(Reply::Done { affected: 0 })
        };
        self.answer(asker, result);
    }

    /// A cluster's place on disk: not that of another one, and it must exist. The texts are searchd's.
    fn check_path(&self, name: &str, path: &str) -> Result<(), String> {
        if let Some((other, _)) = self.clusters.iter().find(|(_, cluster)| cluster.path() == path) {
            return Err(format!("duplicate paths, cluster '{name}' has the same path as '{other}'"));
        }
        // The directory of a table serves too.
        let exists = path.is_empty()
            || self.node.storage.has_directory(path)
            || self.node.storage.schema(path).is_some();
        if exists {
            return Ok(());
        }
        let place = format!("{}/{path}", self.config.data_dir.trim_end_matches('/'));
        Err(format!("cluster '{name}', cannot access directory {place}, cannot access {place}"))
    }

    fn descriptor(name: &str, options: &ClusterOptions, uuid: String) -> Descriptor {
        Descriptor {
            name: name.to_owned(),
            path: options.path.clone().unwrap_or_default(),
            options: options.options.clone().unwrap_or_default(),
            nodes_set: Vec::new(),
            tables: BTreeSet::new(),
            uuid,
            seqno: 0,
            conf: 0,
            clean: false,
            members: Vec::new(),
            safe_to_bootstrap: false,
        }
    }

    fn create_cluster(&mut self, name: &str, options: &ClusterOptions) -> Result<(), SqlError> {
        let refuse = |reason: String| SqlError::new(format!("failed to create desc: {reason}"));
        if self.clusters.contains_key(name) {
            return Err(refuse(format!("cluster '{name}' already exists")));
        }
        self.check_path(name, options.path.as_deref().unwrap_or_default()).map_err(refuse)?;
        let uuid = random_uuid(self.node.random(), self.node.random());
        let (me, timing) = (self.me(), self.config.timing.clone());
        let mut side = Side { node: &mut self.node, cluster: name };
        let cluster = Cluster::create(&mut side, me, timing, Self::descriptor(name, options, uuid))?;
        self.clusters.insert(name.to_owned(), cluster);
        Ok(())
    }

    fn join_cluster(
        &mut self,
        name: &str,
        at: &str,
        options: &ClusterOptions,
        ticket: Ticket,
    ) -> Result<(), SqlError> {
        if self.clusters.contains_key(name) {
            return Err(SqlError::new(format!("cluster '{name}' already exists")));
        }
        self.check_path(name, options.path.as_deref().unwrap_or_default()).map_err(SqlError::new)?;
        let mut nodes = Vec::new();
        for node in at.split(',') {
            let node = NodeId::new(node.trim());
            nodes.push(node.map_err(|error| SqlError::new(format!("cluster '{name}', {error}")))?);
        }
        let (me, timing) = (self.me(), self.config.timing.clone());
        let mut side = Side { node: &mut self.node, cluster: name };
        let cluster = Cluster::join(
            &mut side,
            me,
            timing,
            Self::descriptor(name, options, String::new()),
            nodes,
            ticket,
        )?;
        self.clusters.insert(name.to_owned(), cluster);
        Ok(())
    }

    fn add_tables(&mut self, name: &str, tables: Vec<String>, ticket: Ticket) -> Result<(), SqlError> {
        if !self.clusters.contains_key(name) {
            return Err(errors::unknown(name));
        }
        for table in &tables {
            if self.node.storage.schema(table).is_none() {
                return Err(SqlError::new(format!("unknown or wrong type of table '{table}'")));
            }
            if let Some(cluster) = self.cluster_of(table) {
                return Err(SqlError::new(format!("table '{table}' is already part of cluster '{cluster}'")));
            }
        }
        self.begin(name, |cluster, host| cluster.add(host, ticket, tables))
    }

    fn drop_from_cluster(&mut self, name: &str, tables: Vec<String>, ticket: Ticket) -> Result<(), SqlError> {
        self.begin(name, |cluster, host| {
            cluster.writable()?;
            if let Some(table) = tables.iter().find(|table| !cluster.tables().contains(*table)) {
                return Err(SqlError::new(format!("table '{table}' is not in cluster '{}'", cluster.name())));
            }
            cluster.drop_tables(host, ticket, tables)
        })
    }

    /// Takes what clusters have answered and passes it on, until nothing more follows.
    pub(super) fn settle(&mut self) {
        while let Some((ticket, outcome)) = self.node.finished.pop_front() {
            self.outcome(ticket.0, outcome);
        }
        while self.cluster_lock.is_none()
            && let Some((asker, statement)) = self.cluster_queue.pop_front()
        {
            self.run_cluster_statement(asker, statement);
        }
    }

    /// A cluster has answered `ticket`.
    pub(super) fn outcome(&mut self, ticket: u64, outcome: Result<(), SqlError>) {
        if self.cluster_lock == Some(ticket) {
            self.cluster_lock = None;
        }
        if let Some(Waiting { asker, affected, about }) = self.waiting.remove(&ticket) {
            let outcome = outcome.map_err(|error| super::write::about(about.as_deref(), error));
            self.answer(asker, outcome.map(|()| Reply::Done { affected }));
        }
    }
}
