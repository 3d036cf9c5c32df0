//! Rule 14: what the configuration of real nodes must say, and what it should.

use crate::Controller;
use model::{Machine, NodeId};
use std::collections::BTreeMap;

/// With the two of a small machine, an UPDATE through a routing table can hang a node for good.
const THREADS_MIN: u32 = 4;
/// Bits of `tcp_fastopen`.
const FAST_OPEN_CLIENT: u32 = 1;
const FAST_OPEN_SERVER: u32 = 2;
/// Connections that come in one moment: clients, other nodes' agents, Galera's commands, looks.
const BACKLOG_MIN: u32 = 64;

/// What was found, a text for each node or group of nodes.
#[derive(Debug, Default)]
pub(crate) struct SettingsCheck {
    must: Vec<String>,
    should: Vec<String>,
}

impl SettingsCheck {
    fn of<'a>(machines: impl Iterator<Item = (&'a NodeId, &'a Machine)>) -> Self {
        let mut found = Self::default();
        let mut ids: BTreeMap<(Option<u32>, Option<&str>), Vec<&NodeId>> = BTreeMap::new();
        for (node, machine) in machines {
            if machine.settings_unread {
                found.should.push(format!(
                    "{node} does not tell its settings: its replication ports are not counted and its binlog is not known, see the log of its sidecar"
                ));
            }
            if machine.clock_behind_seconds > 0 {
                found.should.push(format!(
                    "{node} has or had a clock {} s behind its last start: automatic ids can be those of documents that are there, and take their place: set the clock right, then restart the node",
                    machine.clock_behind_seconds
                ));
            }
            let Some(said) = machine.settings else { continue };
            if !said.binlog {
                found.must.push(format!("{node} has no binlog: set binlog_path"));
            } else if said.binlog_flush != 1 {
                found.should.push(format!(
                    "{node} can lose the last second of acknowledged writes when its machine loses power: binlog_flush = 1 prevents it"
                ));
            }
            if said.threads < THREADS_MIN {
                found.should.push(format!(
                    "{node} has {} worker threads, with fewer than {THREADS_MIN} it can hang: threads = 8",
                    said.threads
                ));
            }
            if said.listen_backlog < BACKLOG_MIN {
                found.should.push(format!(
                    "{node} lets only {} connections wait to be taken, and each further one hangs for a second and more, through which writes fall in doubt: listen_backlog = 1024",
                    said.listen_backlog
                ));
            }
            // Linux's default: searchd loses the end of some such connections, and waits them out.
            if said.tcp_fastopen.is_some_and(|it| it & FAST_OPEN_CLIENT != 0 && it & FAST_OPEN_SERVER == 0) {
                found.should.push(format!(
                    "{node} opens connections by TCP Fast Open, which its machine does not take: some hang for a second and more, writes through them fail in doubt, and JOIN and ALTER CLUSTER are slow: sysctl -w net.ipv4.tcp_fastopen=0, and restart searchd"
                ));
            }
            // One that searchd makes up comes from the machine.
            let machine = said.server_id.is_none().then(|| host(node));
            ids.entry((said.server_id, machine)).or_default().push(node);
        }
        for ((id, _), nodes) in ids.into_iter().filter(|(_, nodes)| nodes.len() > 1) {
            let nodes = nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let why = id.map_or("no server_id on one machine".to_owned(), |id| format!("server_id {id}"));
            found.must.push(format!(
                "{nodes} have {why}: automatic ids of two nodes can be the same, give each a server_id of its own"
            ));
        }
        found
    }

    /// What must be mended before more is moved.
    pub(crate) fn faults(&self) -> Option<String> {
        (!self.must.is_empty()).then(|| self.must.join("; "))
    }

    pub(crate) fn advice(&self) -> Option<String> {
        (!self.should.is_empty()).then(|| self.should.join("; "))
    }
}

fn host(node: &NodeId) -> &str {
    node.as_str().rsplit_once(':').map_or(node.as_str(), |(host, _)| host)
}

impl Controller {
    pub(crate) fn node_settings(&self) -> SettingsCheck {
        SettingsCheck::of(self.state.live_nodes().filter_map(|node| Some((node, self.machine(node)?))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::NodeSettings;

    const GOOD: NodeSettings = NodeSettings {
        threads: 8,
        server_id: Some(1),
        binlog: true,
        binlog_flush: 1,
        listen_backlog: 1024,
        tcp_fastopen: Some(3),
    };

    fn found(nodes: &[(&str, NodeSettings)]) -> (String, String) {
        let machine = |said| Machine { settings: Some(said), ..Machine::default() };
        of(nodes.iter().map(|(id, said)| (*id, machine(*said))).collect())
    }

    fn of(nodes: Vec<(&str, Machine)>) -> (String, String) {
        let nodes: Vec<(NodeId, Machine)> =
            nodes.into_iter().map(|(id, machine)| (NodeId::new(id).expect("valid"), machine)).collect();
        let check = SettingsCheck::of(nodes.iter().map(|(id, machine)| (id, machine)));
        (check.faults().unwrap_or_default(), check.advice().unwrap_or_default())
    }

    #[test]
    fn what_endangers_documents_is_named() {
        let second = NodeSettings { server_id: Some(2), ..GOOD };
        assert_eq!(found(&[("a:1", GOOD), ("a:2", second)]), Default::default());
        let (must, should) = found(&[("a:1", GOOD), ("b:1", GOOD)]);
        assert!(must.contains("a:1, b:1") && must.contains("server_id 1") && should.is_empty(), "{must}");
        // Made up from the machine: two on one are the same, two on two are not.
        let none = NodeSettings { server_id: None, ..GOOD };
        assert!(found(&[("a:1", none), ("a:2", none)]).0.contains("a:1, a:2"));
        assert_eq!(found(&[("a:1", none), ("b:1", none)]), Default::default());
        assert!(found(&[("a:1", NodeSettings { binlog: false, ..GOOD })]).0.contains("binlog"));
        assert!(found(&[("a:1", NodeSettings { binlog_flush: 2, ..GOOD })]).1.contains("binlog_flush = 1"));
        let (must, should) = found(&[("a:1", NodeSettings { threads: 3, ..GOOD })]);
        assert!(must.is_empty() && should.contains("a:1 has 3 worker threads"), "{should}");
        let (must, should) = found(&[("a:1", NodeSettings { listen_backlog: 5, ..GOOD })]);
        assert!(must.is_empty() && should.contains("a:1 lets only 5 connections wait"), "{should}");
        let (must, should) = found(&[("a:1", NodeSettings { tcp_fastopen: Some(1), ..GOOD })]);
        assert!(must.is_empty() && should.contains("net.ipv4.tcp_fastopen=0"), "{should}");
        for good in [None, Some(0), Some(2)] {
            assert_eq!(found(&[("a:1", NodeSettings { tcp_fastopen: good, ..GOOD })]), Default::default());
        }
        // The embedded engine has none; a node that does not tell them is another matter.
        assert_eq!(of(vec![("a:1", Machine::default())]), Default::default());
        let (must, should) = of(vec![("a:1", Machine { settings_unread: true, ..Machine::default() })]);
        assert!(must.is_empty() && should.contains("a:1 does not tell its settings"), "{should}");
        let (must, should) = of(vec![("a:1", Machine { clock_behind_seconds: 4, ..Machine::default() })]);
        assert!(must.is_empty() && should.contains("a:1 has or had a clock 4 s behind"), "{should}");
    }
}
