//! The `cluster_*` rows of SHOW STATUS, in the order of the real node.
//!
//! What this engine has no counterpart for shows the value of a calm node.

use super::{Cluster, Phase, join::JoinAttempt, transfer::Outgoing, view::Member};
use model::{ClusterState, ClusterStatus, MemberState, Millis, NodeId};

/// Name (without `cluster_{name}_`) and value.
type Rows = Vec<(&'static str, String)>;

/// What is known of writes that a member gave out before it was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aftermath {
    /// Some may still come.
    Open,
    /// All that were ordered are applied here, and no other will be.
    Clear,
    /// This node has part of its copies from another, so what it applied itself does not tell.
    Unknown,
}

impl Cluster {
    /// What is known of writes begun at `since` or later through the member `lost`.
    pub fn aftermath(&self, lost: &NodeId, since: Millis) -> Aftermath {
        let settled = self.primary
            && self.is_confirmed()
            && !self.flushing()
            && !self.view.has_node(lost)
            && self.log.applied() >= self.view.start;
        match settled {
            false => Aftermath::Open,
            true if self.member_since >= since => Aftermath::Unknown,
            true => Aftermath::Clear,
        }
    }

    fn member_state(&self) -> MemberState {
        match self.phase {
            Phase::Closed | Phase::Gone => MemberState::Closed,
            Phase::Starting(_) | Phase::Outside { .. } => MemberState::Joining,
            Phase::Member if self.joining.as_ref().is_some_and(JoinAttempt::in_transfer) => {
                MemberState::Joining
            }
            Phase::Member if self.outgoing.values().any(Outgoing::is_state) => MemberState::Donor,
            Phase::Member => MemberState::Synced,
        }
    }

    /// `synced`, `joining`, `donor` or `closed`.
    pub fn node_state(&self) -> &'static str {
        self.member_state().as_str()
    }

    fn state(&self, now: Millis) -> ClusterState {
        match self.phase {
            Phase::Closed | Phase::Gone => ClusterState::RecoveryRequired,
            Phase::Starting(_) => ClusterState::Disconnected,
            // A view of itself alone comes when it has waited long enough for the others.
            Phase::Outside { since, returning: true, .. }
                if now.since(since) < self.options.suspect_timeout =>
            {
                ClusterState::Disconnected
            }
            Phase::Member if self.primary => ClusterState::Primary,
            Phase::Outside { .. } | Phase::Member => ClusterState::NonPrimary,
        }
    }

    /// `primary`, `non-primary`, `disconnected` or `recovery-required`.
    pub fn status(&self, now: Millis) -> &'static str {
        self.state(now).as_str()
    }

    /// What [`Self::rows`] say to whoever watches a node, without the texts.
    pub fn shown(&self, now: Millis) -> ClusterStatus {
        let is_member = matches!(self.phase, Phase::Member);
        let node = |member: &Member| member.node.clone();
        ClusterStatus {
            status: self.state(now),
            node_state: self.member_state(),
            size: self.size(now) as u32,
            nodes_set: self.desc.nodes_set.iter().cloned().collect(),
            nodes_view: self.members_shown().iter().map(node).collect(),
            tables: self.desc.tables.iter().cloned().collect(),
            state_uuid: self.view.uuid.clone(),
            conf_id: self.view.id.conf as i64,
            last_committed: if is_member { self.log.applied() as i64 } else { -1 },
            recv_queue: if is_member { self.waiting() } else { 0 },
        }
    }

    pub fn is_primary(&self) -> bool {
        self.primary && matches!(self.phase, Phase::Member)
    }

    /// All rows with their full names.
    pub fn rows(&self, now: Millis) -> Vec<(String, String)> {
        let mut rows = self.own_rows(now);
        if matches!(self.phase, Phase::Member) {
            self.library_rows(&mut rows);
        }
        let prefix = format!("cluster_{}_", self.desc.name);
        // Many rows, asked for often: no formatting for each.
        rows.into_iter().map(|(name, value)| ([prefix.as_str(), name].concat(), value)).collect()
    }

    fn members_text(members: &[Member]) -> String {
        let pairs: Vec<String> =
            members.iter().map(|member| format!("{},{}", member.node, member.replication)).collect();
        pairs.join(",")
    }

    fn members_shown(&self) -> &[Member] {
        match &self.phase {
            Phase::Outside { seen: Some(seen), .. } => &seen.members,
            _ => &self.view.members,
        }
    }

    fn size(&self, now: Millis) -> usize {
        if self.primary { self.view.members.len() } else { self.component(now).len() }
    }

    /// Received and not applied yet. Without a primary view nothing waits to be applied: what was received is decided when
    /// the next one forms.
    fn waiting(&self) -> u64 {
        if self.primary { self.log.received() - self.log.applied() } else { 0 }
    }

    fn own_rows(&self, now: Millis) -> Rows {
        let nodes: Vec<&str> = self.desc.nodes_set.iter().map(NodeId::as_str).collect();
        let tables: Vec<&str> = self.desc.tables.iter().map(String::as_str).collect();
        let mut rows = vec![
            ("state_uuid", self.view.uuid.clone()),
            ("state_seqno", self.log.applied().to_string()),
            ("conf_id", self.view.id.conf.to_string()),
            ("status", self.status(now).to_owned()),
            ("size", self.size(now).to_string()),
            ("local_index", self.view.position(&self.me.node).unwrap_or(0).to_string()),
            ("node_state", self.node_state().to_owned()),
            ("nodes_set", nodes.join(",")),
            ("nodes_view", Self::members_text(self.members_shown())),
            ("indexes_count", tables.len().to_string()),
            ("indexes", tables.join(",")),
        ];
        rows.extend(self.transfer_rows());
        rows
    }

    /// A copy under way, sent or received: `-` when there is none.
    fn transfer_rows(&self) -> Rows {
        let incoming = self.joining.as_ref().filter(|join| join.in_transfer()).map(|_| {
            let (done, tables) = self.incoming_progress();
            ("receive tables", done, tables)
        });
        let outgoing = self.outgoing.values().find(|it| it.is_state()).map(|it| {
            let (done, _) = it.progress();
            ("send tables", done, self.desc.tables.len())
        });
        let Some((stage, pieces, tables)) = incoming.or(outgoing) else {
            let names = ["sst_total", "sst_stage", "sst_stage_total", "sst_table", "sst_tables"];
            return names.into_iter().map(|name| (name, "-".to_owned())).collect();
        };
        vec![
            ("sst_total", pieces.to_string()),
            ("sst_stage", stage.to_owned()),
            ("sst_stage_total", pieces.to_string()),
            ("sst_table", "-".to_owned()),
            ("sst_tables", tables.to_string()),
        ]
    }

    fn library_rows(&self, rows: &mut Rows) {
        let figures = &self.counters;
        let applied = self.log.applied();
        let waiting = self.waiting();
        let view = Self::members_text(&self.view.members);
        let zero = || "0".to_owned();
        let ratio = || "0.000000".to_owned();
        let (state, comment) = match self.node_state() {
            "donor" => ("2", "Donor/Desynced"),
            "joining" => ("1", "Joining"),
            _ => ("4", "Synced"),
        };
        rows.extend([
            ("local_state_uuid", self.view.uuid.clone()),
            ("protocol_version", "9".to_owned()),
            ("last_applied", applied.to_string()),
            ("last_committed", applied.to_string()),
            ("replicated", figures.replicated.to_string()),
            ("replicated_bytes", figures.replicated_bytes.to_string()),
            ("repl_keys", figures.keys.to_string()),
            ("repl_keys_bytes", (figures.keys * 8).to_string()),
            ("repl_data_bytes", figures.replicated_bytes.to_string()),
            ("repl_other_bytes", zero()),
            ("received", figures.received.to_string()),
            ("received_bytes", figures.received_bytes.to_string()),
            ("local_commits", figures.commits.to_string()),
            ("local_cert_failures", figures.cert_failures.to_string()),
            ("local_replays", zero()),
            ("local_send_queue", self.pending.len().to_string()),
            ("local_send_queue_max", self.pending.len().max(1).to_string()),
            ("local_send_queue_min", zero()),
            ("local_send_queue_avg", ratio()),
            ("local_recv_queue", waiting.to_string()),
            ("local_recv_queue_max", waiting.max(1).to_string()),
            ("local_recv_queue_min", zero()),
            ("local_recv_queue_avg", ratio()),
            ("local_cached_downto", self.log.first().min(applied).to_string()),
        ]);
        rows.extend([
            ("flow_control_paused_ns", zero()),
            ("flow_control_paused", ratio()),
            ("flow_control_sent", zero()),
            ("flow_control_recv", zero()),
            ("flow_control_interval", "[ 100, 100 ]".to_owned()),
            ("flow_control_interval_low", "100".to_owned()),
            ("flow_control_interval_high", "100".to_owned()),
            ("flow_control_status", "OFF".to_owned()),
        ]);
        let ratios = [
            "cert_deps_distance",
            "apply_oooe",
            "apply_oool",
            "apply_window",
            "commit_oooe",
            "commit_oool",
            "commit_window",
        ];
        rows.extend(ratios.map(|name| (name, ratio())));
        rows.extend([
            ("local_state", state.to_owned()),
            ("local_state_comment", comment.to_owned()),
            ("cert_index_size", self.certifier.len().to_string()),
            ("cert_bucket_count", "2".to_owned()),
            ("gcache_pool_size", self.log.bytes().to_string()),
            ("causal_reads", zero()),
            ("cert_interval", ratio()),
            ("open_transactions", zero()),
            ("open_connections", zero()),
            ("ist_receive_status", String::new()),
            ("ist_receive_seqno_start", zero()),
            ("ist_receive_seqno_current", zero()),
            ("ist_receive_seqno_end", zero()),
            ("incoming_addresses", view),
            ("cluster_weight", self.view.members.len().to_string()),
            ("desync_count", zero()),
            ("evs_delayed", String::new()),
            ("evs_evict_list", String::new()),
            ("evs_repl_latency", "0/0/0/0/0".to_owned()),
            ("evs_state", "OPERATIONAL".to_owned()),
            ("gcomm_uuid", gcomm_uuid(&self.me)),
        ]);
    }
}

/// The process's own name in the group, in the shape of a UUID.
fn gcomm_uuid(me: &Member) -> String {
    let (a, b) = (me.incarnation, me.incarnation.rotate_left(17) ^ 0x5bd1_e995_9e37_79b9);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        a >> 32,
        (a >> 16) & 0xffff,
        a & 0xffff,
        b >> 48,
        b & 0xffff_ffff_ffff
    )
}
