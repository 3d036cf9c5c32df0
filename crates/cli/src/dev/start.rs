//! From processes to a cluster: the first start, the start after everything was down, and joining.

use super::CLUSTER;
use super::cluster::{Cluster, ClusterOptions};
use super::layout::{Member, State};
use super::ports::{Ports, check, loopback};
use super::process::Process;
use super::searchd::REPLICATION_PORTS;
use crate::commands::gate::forgotten;
use crate::load::{Client, Fault, clusters_of};
use crate::output::CommandError;
use crate::story::Story;
use model::NodeId;
use model::api::Alert;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// From a process's start to its first answer. A node that reads back a large log takes longest.
const START_TIMEOUT: Duration = Duration::from_mins(1);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A node that died asks for seconds before it joins again; a copy of a large table takes its time.
const SETTLE_TIMEOUT: Duration = Duration::from_mins(2);
/// Alerts that fire while tables are not routed.
const WITHHELD: [&str; 4] = ["group_stopped", "no_quorum", "user_cluster_stopped", "data_unavailable"];
/// A node that joins right after another can be turned away for some seconds.
const JOIN_TIMEOUT: Duration = Duration::from_mins(1);
const JOIN_AGAIN: Duration = Duration::from_millis(300);
/// Failure detection as in the groups: a dead member is noticed after about two seconds. Options are a node's own,
/// so they are given with every CREATE and JOIN.
pub(super) const CLUSTER_OPTIONS: &str = "evs.suspect_timeout=PT1S;evs.inactive_timeout=PT2S;\
     evs.keepalive_period=PT0.3S;evs.inactive_check_period=PT0.3S";

impl Cluster {
    pub(super) async fn start_new(&mut self, story: &Story) -> Result<(), CommandError> {
        let numbers: Vec<u32> = self.state().members.iter().map(|member| member.number).collect();
        let count = numbers.len();
        let step = story.step(&format!("starting a controller and {count} nodes"));
        self.start_controller().await?;
        for number in &numbers {
            self.spawn_node(*number)?;
        }
        for number in &numbers {
            self.wait_for_node(*number).await?;
        }
        // A single node stays without a cluster: only so can it hold sharded tables of its own.
        if count > 1 {
            for number in &numbers {
                step.say(&format!("node {number} of {count} enters the cluster {CLUSTER}"));
                self.join(*number).await?;
            }
        }
        self.wait_until_known(&numbers).await?;
        step.done(&format!("a controller and {count} nodes run, joined in cluster {CLUSTER}"));
        Ok(())
    }

    /// Brings back a cluster that was down as a whole: each node starts when the controller's gate lets it, and the controller
    /// brings back what does not come by itself.
    pub(super) async fn start_again(&mut self, story: &Story) -> Result<(), CommandError> {
        let order = self.state().start_order();
        let step = story.step(&format!("starting {} nodes of {} again", order.len(), self.dir().display()));
        check(self.api_address()?, "the controller", "--api")?;
        for member in self.state().members.iter().filter(|member| !member.down) {
            check(loopback(member.mysql), &format!("node {}", member.number), "another --dir")?;
            check(loopback(member.http), &format!("node {}", member.number), "another --dir")?;
        }
        let clean = self.state().members.iter().all(|member| member.down || member.stopped.is_some());
        if !clean {
            story.say("the cluster was not stopped cleanly: its nodes start one by one, and the newest copies are chosen");
        }
        self.start_controller().await?;
        let mut waiting = order.clone();
        while !waiting.is_empty() {
            let number = self.wait_for_gate(&waiting).await?;
            waiting.retain(|other| *other != number);
            self.spawn_node(number)?;
            self.wait_for_node(number).await?;
            if clean {
                self.settle(number).await?;
            }
        }
        self.wait_until_known(&order).await?;
        let missing = self.wait_until_routed().await?;
        let but = missing.map(|missing| format!(", but: {missing}")).unwrap_or_default();
        step.done(&format!("a controller and {} nodes run again{but}", order.len()));
        Ok(())
    }

    /// Until the controller lets one of the nodes start (safety rule 3), asked for each in this order. What that one is to forget
    /// before is taken away, as the gate does.
    pub(super) async fn wait_for_gate(&mut self, numbers: &[u32]) -> Result<u32, CommandError> {
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        loop {
            // Nobody else does while this waits for it.
            self.look_after_controller().await?;
            let mut held = Vec::new();
            for number in numbers {
                let node = self.endpoint(*number)?.node;
                let why = match self.api().gate(node.as_str()).await {
                    Ok(told) if told.rows.is_empty() => {
                        forgotten(&node::data_dir(&self.layout.node(*number)), &told.forget);
                        return Ok(*number);
                    }
                    Ok(held) => held.rows.into_iter().flatten().flatten().collect::<Vec<_>>().join(": "),
                    Err(error) => error.message,
                };
                held.push(format!("node {number} ({node}) is held back: {why}"));
            }
            if Instant::now() > deadline {
                return Err(CommandError::failed(held.join("; "), "the controller's log says more"));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Until every cluster that the node remembers is synced there.
    async fn settle(&self, number: u32) -> Result<(), CommandError> {
        let endpoint = self.endpoint(number)?;
        let mut client = Client::new(endpoint.clone());
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        loop {
            let clusters = clusters_of(&mut client).await.map_err(|fault| {
                CommandError::failed(
                    format!("node {number} does not show its clusters: {fault}"),
                    "the node's log says more",
                )
            })?;
            let open = clusters.iter().find(|(_, seen)| !seen.is_synced());
            // One that has given up is the controller's matter.
            if open.is_none_or(|(_, seen)| seen.status == "recovery-required") {
                client.close().await;
                return Ok(());
            }
            if Instant::now() > deadline {
                let message = format!("clusters of {} did not come to be synced: {open:?}", endpoint.node);
                return Err(CommandError::failed(
                    message,
                    "the node's log says more; its documents are untouched",
                ));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Until no table is withheld any more; else what stands in the way after a while.
    async fn wait_until_routed(&self) -> Result<Option<String>, CommandError> {
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        loop {
            let alerts = self.api().dashboard().await?.alerts;
            let Some(open) = alerts.into_iter().find(withholds) else { return Ok(None) };
            if Instant::now() > deadline {
                return Ok(Some(format!("{}; {}", open.message, open.action)));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    pub(super) async fn wait_for_node(&mut self, number: u32) -> Result<(), CommandError> {
        let endpoint = self.endpoint(number)?;
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let mut client = Client::new(endpoint.clone());
            if client.rows("SHOW STATUS LIKE 'cluster%'").await.is_ok() {
                client.close().await;
                return Ok(());
            }
            if let Some(process) = self.process_mut(number) {
                wait_or_fail(process, deadline).await?;
            }
        }
    }

    pub(super) async fn wait_for_controller(&self, process: &mut Process) -> Result<(), CommandError> {
        let deadline = Instant::now() + START_TIMEOUT;
        while !self.api().is_up().await {
            wait_or_fail(process, deadline).await?;
        }
        Ok(())
    }

    /// Makes a node a member of the cluster `c`, which the first one makes.
    pub(super) async fn join(&mut self, number: u32) -> Result<(), CommandError> {
        let options = format!("'{}' AS options", self.cluster_options());
        let member = self.running_members().into_iter().find(|member| member.joined).map(Member::id);
        if member.is_some() {
            self.make_primary().await?;
        }
        let mut client = Client::new(self.endpoint(number)?).with_patience(JOIN_TIMEOUT);
        let entered = match &member {
            None => client.execute(&format!("CREATE CLUSTER {CLUSTER} {options}")).await.map(drop),
            Some(at) => join(&mut client, CLUSTER, at, &options).await,
        };
        client.close().await;
        entered.map_err(|fault| {
            let message = format!("node {number} could not enter the cluster {CLUSTER}: {fault}");
            CommandError::failed(message, "the node's log says more")
        })?;
        self.member_mut(number)?.joined = true;
        self.write_state()
    }

    /// Does for the cluster `c` what its operator must once too many of its nodes died: the rest goes on without
    /// them. Safe here, where the dead are this process's own children and known to be dead.
    pub(super) async fn make_primary(&mut self) -> Result<(), CommandError> {
        let Some(endpoint) =
            self.running_members().into_iter().find(|member| member.joined).map(Member::endpoint)
        else {
            return Ok(());
        };
        let failed = |fault: Fault| {
            let message = format!("the cluster {CLUSTER} could not be brought back to life: {fault}");
            CommandError::failed(message, "the node's log says more")
        };
        let mut client = Client::new(endpoint);
        let clusters = clusters_of(&mut client).await.map_err(failed)?;
        if clusters
            .get(CLUSTER)
            .is_some_and(|seen| seen.status == "non-primary" && seen.node_state == "synced")
        {
            client
                .execute(&format!("SET CLUSTER {CLUSTER} GLOBAL 'pc.bootstrap' = 1"))
                .await
                .map_err(failed)?;
        }
        client.close().await;
        Ok(())
    }

    /// Until the controller counts these nodes as active; a node outside of any cluster, until it hears the
    /// controller.
    pub(super) async fn wait_until_known(&mut self, numbers: &[u32]) -> Result<(), CommandError> {
        if let [number] = numbers
            && !self.member_mut(*number)?.joined
        {
            return self.wait_until_heard(*number).await;
        }
        let mut ids = BTreeSet::new();
        for number in numbers {
            ids.insert(self.endpoint(*number)?.node);
        }
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let seen = self.api().nodes().await?.nodes;
            let active = seen.iter().filter(|node| node.state == "active").map(|node| &node.id);
            let missing = ids.len() - active.filter(|id| ids.contains(id)).count();
            if missing == 0 {
                return Ok(());
            }
            if Instant::now() > deadline {
                let message =
                    format!("the controller does not see {missing} of {} nodes as active", ids.len());
                return Err(CommandError::failed(message, "the controller's log says more"));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn wait_until_heard(&mut self, number: u32) -> Result<(), CommandError> {
        let mut client = Client::new(self.endpoint(number)?);
        let deadline = Instant::now() + START_TIMEOUT;
        while let Err(fault) = client.rows("SHOW SHARDING MASTER").await {
            if Instant::now() > deadline {
                let message = format!("node {number} does not hear the controller: {fault}");
                return Err(CommandError::failed(message, "the logs of both say more"));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        client.close().await;
        Ok(())
    }
}

/// JOIN CLUSTER, again while the node is turned away for its haste.
pub(super) async fn join(
    client: &mut Client,
    cluster: &str,
    at: &NodeId,
    options: &str,
) -> Result<(), Fault> {
    let deadline = Instant::now() + JOIN_TIMEOUT;
    loop {
        match client.execute(&format!("JOIN CLUSTER {cluster} AT '{at}' {options}")).await {
            Err(Fault::Refused { message, .. }) if is_hasty(&message) && Instant::now() < deadline => {
                tokio::time::sleep(JOIN_AGAIN).await;
            }
            outcome => return outcome.map(drop),
        }
    }
}

/// What a node is told that joins too soon after another.
fn is_hasty(message: &str) -> bool {
    message.contains("no nodes available") || message.contains("retries limit exceeded")
}

/// The members of a new cluster, on the ports that were asked for or on free ones.
pub(super) fn new_state(options: &ClusterOptions, ports: &mut Ports) -> Result<State, CommandError> {
    let searchd = options.searchd.clone();
    let mut members = Vec::new();
    for number in 1..=options.nodes {
        let mut port = |base: Option<u16>, option: &str| match base {
            None => ports.free(),
            Some(base) => {
                let port = u32::from(base) + number - 1;
                let port = u16::try_from(port).map_err(|_| {
                    let message = format!("{option} {base} leaves no port for node {number}");
                    CommandError::usage(message, "choose a lower one")
                })?;
                ports.take(port, &format!("node {number}"), option)
            }
        };
        let mysql = port(options.mysql_base, "--mysql-base")?;
        let http = port(options.http_base, "--http-base")?;
        let replication = searchd.as_ref().map(|_| ports.row(REPLICATION_PORTS)).transpose()?;
        members.push(Member { number, mysql, http, replication, joined: false, down: false, stopped: None });
    }
    let api = loopback(ports.free()?).to_string();
    Ok(State { api, searchd, members })
}

/// One look further at a process that does not answer yet.
async fn wait_or_fail(process: &mut Process, deadline: Instant) -> Result<(), CommandError> {
    if process.ended().is_some() {
        return Err(CommandError::failed(process.obituary(), "its log says more"));
    }
    if Instant::now() > deadline {
        let message = format!("no answer within {} s: {}", START_TIMEOUT.as_secs(), process.obituary());
        return Err(CommandError::failed(message, "its log says more"));
    }
    tokio::time::sleep(LOOK_EVERY).await;
    Ok(())
}

/// Whether a table is not routed now. What is over is still listed for a while.
fn withholds(alert: &Alert) -> bool {
    alert.state == "firing" && WITHHELD.contains(&alert.kind.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn an_alert_that_is_over_keeps_nobody_waiting() {
        let alert = |kind: &str, state: &str| Alert {
            level: "critical".to_owned(),
            kind: kind.to_owned(),
            message: String::new(),
            action: String::new(),
            since: 0,
            labels: BTreeMap::new(),
            state: state.to_owned(),
            silenced_until: None,
        };
        for kind in WITHHELD {
            assert!(withholds(&alert(kind, "firing")) && !withholds(&alert(kind, "resolved")), "{kind}");
        }
        assert!(!withholds(&alert("under_replicated", "firing")));
    }
}
