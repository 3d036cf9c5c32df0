//! SHOW STATUS, VARIABLES, SETTINGS, THREADS, META and WARNINGS, in searchd's columns.

use super::Engine;
use crate::{
    exec,
    io::{Column, ColumnKind, Reply, ResultSet, SessionId, Value},
};
use model::{ClusterStatus, Millis};

fn texts(columns: &[&str], rows: Vec<Vec<String>>) -> Reply {
    let total = rows.len() as u64;
    let column = |name: &&str| Column { name: (*name).to_owned(), kind: ColumnKind::Text };
    Reply::Rows(ResultSet {
        columns: columns.iter().map(column).collect(),
        rows: rows.into_iter().map(|row| row.into_iter().map(Value::Text).collect()).collect(),
        total,
        warning: String::new(),
    })
}

/// Pairs whose name fits the pattern.
fn pairs(columns: [&str; 2], pairs: Vec<(String, String)>, like: Option<&str>) -> Reply {
    let fits = |name: &str| like.is_none_or(|pattern| exec::like(pattern, name));
    let rows = pairs.into_iter().filter(|(name, _)| fits(name)).map(|(name, value)| vec![name, value]);
    texts(&columns, rows.collect())
}

fn named(name: &str, value: &dyn ToString) -> (String, String) {
    (name.to_owned(), value.to_string())
}

/// A time as SHOW THREADS writes it.
fn time_text(time: Millis) -> String {
    if time.0 < 1_000 { format!("{}ms", time.0) } else { format!("{}s", time.0 / 1_000) }
}

impl Engine {
    pub(super) fn show_status(&self, like: Option<&str>) -> Reply {
        let now = self.node.now;
        let mut rows = vec![
            named("uptime", &(now.since(self.started).0 / 1_000)),
            named("connections", &self.sessions.len()),
            named("queries", &self.statements),
            named("version", &self.config.version),
            named("workers_active", &self.running.len()),
            named("work_queue_length", &self.cluster_queue.len()),
        ];
        for cluster in self.clusters.values() {
            rows.extend(cluster.rows(now));
        }
        pairs(["Counter", "Value"], rows, like)
    }

    /// Its clusters, as `SHOW STATUS LIKE 'cluster%'` shows them: for those who look often.
    pub fn clusters(&self, now: Millis) -> impl Iterator<Item = (&str, ClusterStatus)> {
        let now = self.node.now.max(now);
        self.clusters.iter().map(move |(name, cluster)| (name.as_str(), cluster.shown(now)))
    }

    pub(super) fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("autocommit", "1".to_owned()),
            ("auto_optimize", "1".to_owned()),
            ("character_set_client", "utf8mb4".to_owned()),
            ("character_set_connection", "utf8mb4".to_owned()),
            ("collation_connection", "libc_ci".to_owned()),
            ("last_insert_id", "0".to_owned()),
            // Names are stored and compared in lower case.
            ("lower_case_table_names", "1".to_owned()),
            ("max_allowed_packet", "134217728".to_owned()),
            ("query_log_format", "sphinxql".to_owned()),
            ("session_read_only", "0".to_owned()),
            ("sql_mode", String::new()),
            ("timestamp", self.node.unix_now.to_string()),
            ("transaction_isolation", "READ-COMMITTED".to_owned()),
            ("tx_isolation", "READ-COMMITTED".to_owned()),
            ("version", self.config.version.clone()),
            ("version_comment", "Shardwright embedded engine".to_owned()),
            ("wait_timeout", "3600".to_owned()),
        ]
    }

    pub(super) fn show_variables(&self, like: Option<&str>) -> Reply {
        let rows = self.variables().into_iter().map(|(name, value)| named(name, &value)).collect();
        pairs(["Variable_name", "Value"], rows, like)
    }

    pub(super) fn show_settings(&self) -> Reply {
        let config = &self.config;
        let rows = vec![
            named("searchd.data_dir", &config.data_dir),
            named("searchd.listen", &config.node),
            named("searchd.listen", &config.replication_address),
            named("searchd.server_id", &config.server_id),
        ];
        pairs(["Setting_name", "Value"], rows, None)
    }

    pub(super) fn show_threads(&self) -> Reply {
        let columns = [
            "TID",
            "Name",
            "Proto",
            "State",
            "Host",
            "ConnID",
            "Time",
            "Work time",
            "Work time CPU",
            "Jobs done",
            "Last job took",
            "In idle",
            "Info",
        ];
        let now = self.node.now;
        let row = |(at, running): (usize, &super::session::Running)| {
            let time = time_text(now.since(running.since));
            vec![
                (at + 1).to_string(),
                format!("work_{at}"),
                "mysql".to_owned(),
                "query".to_owned(),
                String::new(),
                running.session.0.to_string(),
                time.clone(),
                time,
                "0us".to_owned(),
                "0".to_owned(),
                "0us".to_owned(),
                "No (working)".to_owned(),
                running.sql.clone(),
            ]
        };
        texts(&columns, self.running.values().enumerate().map(row).collect())
    }

    pub(super) fn show_locks(&mut self) -> Reply {
        self.drop_stale_locks();
        let row = |(table, count): (&str, usize)| {
            ["rt", table, "read", &format!("Count: {count}")].map(str::to_owned).to_vec()
        };
        texts(&["Type", "Name", "Lock Type", "Additional Info"], self.locks.counts().map(row).collect())
    }

    pub(super) fn show_meta(&self, session: SessionId, like: Option<&str>) -> Reply {
        let found = self.sessions.get(&session).map_or(0, |session| session.found);
        let rows = vec![named("total", &found), named("total_found", &found), named("time", &"0.000")];
        pairs(["Variable_name", "Value"], rows, like)
    }

    pub(super) fn show_warnings(&self, session: SessionId) -> Reply {
        let warning = self.sessions.get(&session).map_or("", |session| session.warning.as_str());
        let rows = if warning.is_empty() {
            Vec::new()
        } else {
            vec![vec!["warning".to_owned(), "1000".to_owned(), warning.to_owned()]]
        };
        texts(&["Level", "Code", "Message"], rows)
    }
}
