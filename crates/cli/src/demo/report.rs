//! The demo's last word: the object that scripts read, and the same for people.

use crate::documents::{SkipReason, Skipped};
use crate::output::TextTable;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

/// `demo --output json`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Nothing lost, no error or step back that a client on a live node saw, no copy more than needed.
    pub ok: bool,
    pub documents_loaded: u64,
    /// Counted through routing at the end.
    pub documents_final: u64,
    /// Acknowledged to the clients that ran beside everything else.
    pub acknowledged_writes: u64,
    /// Acknowledged documents that are absent or different, through routing or in any copy.
    pub lost: u64,
    pub failed_reads: u64,
    pub failed_writes: u64,
    /// Writes that may have been applied or not, those to the killed node included.
    pub unknown_writes: u64,
    pub read_regressions: u64,
    /// Rows in copies that nobody wrote.
    pub surplus: u64,
    /// From the kill until every shard accepted writes again.
    pub failover_seconds: Option<f64>,
    /// From the kill until every shard had all its copies again.
    pub full_rf_seconds: Option<f64>,
    /// Replication groups copied for the node that joined, and the fewest that could be.
    pub rebalance_copies: u64,
    pub rebalance_lower_bound: u64,
    /// The same in shards.
    pub rebalance_shard_copies: u64,
    pub nodes: u32,
    pub shards: u32,
    pub rf: u32,
    pub reads: u64,
    pub load_documents_per_second: f64,
    pub killed: String,
    pub joined: String,
    /// Seconds of each phase.
    pub phases: BTreeMap<&'static str, f64>,
    pub seconds: f64,
    /// All processes together, resident.
    pub peak_memory_bytes: u64,
    /// Lines of the documents that were passed over, by reason.
    pub skipped: BTreeMap<SkipReason, u64>,
    pub skipped_first: Vec<Skipped>,
    /// Why it is not ok.
    pub problems: Vec<String>,
    /// The first errors that clients saw, in words.
    pub first_faults: Vec<String>,
    /// Where data and logs were kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
}

impl Report {
    /// Holds the figures against what must be.
    pub fn judge(&mut self) {
        let mut must_be_zero = |what: &str, count: u64| {
            if count > 0 {
                self.problems.push(format!("{count} {what}"));
            }
        };
        must_be_zero("acknowledged documents lost", self.lost);
        must_be_zero("rows that nobody wrote", self.surplus);
        must_be_zero("failed reads", self.failed_reads);
        must_be_zero("failed writes", self.failed_writes);
        must_be_zero("reads that counted too few", self.read_regressions);
        if self.rebalance_copies > self.rebalance_lower_bound {
            self.problems.push(format!(
                "{} groups copied where {} suffice",
                self.rebalance_copies, self.rebalance_lower_bound
            ));
        }
        self.ok = self.problems.is_empty();
    }
}

/// The same for people.
pub fn text(report: &Report) -> String {
    let mut table = TextTable::new(["", ""]);
    let mut line = |what: &str, value: String| table.row([what.to_owned(), value]);
    let seconds =
        |value: Option<f64>| value.map_or_else(|| "never".to_owned(), |value| format!("{value:.1} s"));
    line(
        "documents loaded",
        format!("{} at {:.0} a second", report.documents_loaded, report.load_documents_per_second),
    );
    line("documents at the end", report.documents_final.to_string());
    line("acknowledged writes", report.acknowledged_writes.to_string());
    line("lost", report.lost.to_string());
    line(
        "failed reads, writes",
        format!("{}, {} (of {} reads)", report.failed_reads, report.failed_writes, report.reads),
    );
    line("writes in doubt", report.unknown_writes.to_string());
    line("reads that counted too few", report.read_regressions.to_string());
    line("every shard writable after", seconds(report.failover_seconds));
    line("every copy back after", seconds(report.full_rf_seconds));
    line(
        "groups copied for the new node",
        format!(
            "{} ({} shards); {} are the fewest",
            report.rebalance_copies, report.rebalance_shard_copies, report.rebalance_lower_bound
        ),
    );
    line("memory at most", format!("{} MiB in all processes", report.peak_memory_bytes >> 20));
    line("time", format!("{:.1} s", report.seconds));
    let mut text = table.to_string().trim_start().to_owned();
    for fault in &report.first_faults {
        let _ = write!(text, "\n  {fault}");
    }
    if let Some(dir) = &report.dir {
        let _ = write!(text, "\ndata and logs: {}", dir.display());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_that_must_be_zero_makes_it_fail() {
        let good = Report { rebalance_copies: 3, rebalance_lower_bound: 3, ..Report::default() };
        let judged = |change: fn(&mut Report)| {
            let mut report = good.clone();
            change(&mut report);
            report.judge();
            report.ok
        };
        assert!(judged(|_| ()));
        assert!(judged(|report| report.unknown_writes = 1));
        assert!(!judged(|report| report.lost = 1));
        assert!(!judged(|report| report.surplus = 1));
        assert!(!judged(|report| report.failed_reads = 1));
        assert!(!judged(|report| report.failed_writes = 1));
        assert!(!judged(|report| report.read_regressions = 1));
        assert!(!judged(|report| report.rebalance_copies = 4));
        assert!(!judged(|report| report.problems.push("x".into())));
    }

    #[test]
    fn the_object_has_the_fields_that_scripts_read() {
        let value = serde_json::to_value(Report::default()).expect("JSON");
        for field in [
            "ok",
            "documents_loaded",
            "documents_final",
            "acknowledged_writes",
            "lost",
            "failed_reads",
            "failed_writes",
            "unknown_writes",
            "read_regressions",
            "failover_seconds",
            "full_rf_seconds",
            "rebalance_copies",
            "rebalance_lower_bound",
            "rebalance_shard_copies",
            "nodes",
            "shards",
            "rf",
        ] {
            assert!(value.get(field).is_some(), "{field}");
        }
    }
}
