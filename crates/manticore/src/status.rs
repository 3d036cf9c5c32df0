//! `SHOW STATUS LIKE 'cluster%'`, `SHOW TABLES` and `SHOW PERMISSIONS`, read into what the controller knows of a node.

use crate::reply::Rows;
use model::{
    ClusterState, ClusterStatus, Content, GroupId, LISTEN_BACKLOG_DEFAULT, MemberState, NodeId, NodeSettings,
    UserAction, UserRule,
};
use std::collections::{BTreeMap, BTreeSet};

/// Rows that are not what the statement shows on any known version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} cannot be read ({reason}): the node's version may be newer than this program knows")]
pub struct Unreadable {
    pub what: &'static str,
    pub reason: String,
}

pub(crate) fn unreadable(what: &'static str, reason: impl Into<String>) -> Unreadable {
    Unreadable { what, reason: reason.into() }
}

/// The counter that every cluster shows in every state, `recovery-required` and `joining` included.
const STATUS: &str = "_status";

/// Counters that end in [`STATUS`] without being it.
const NOT_STATUS: [&str; 2] = ["_flow_control", "_ist_receive"];

/// Reads the rows of `SHOW STATUS LIKE 'cluster%'`. Cluster names may contain `_` and may be one another's
/// beginning; unknown counters are passed over.
pub fn clusters(rows: &Rows) -> Result<BTreeMap<GroupId, ClusterStatus>, Unreadable> {
    let pairs = pairs(rows)?;
    let names = cluster_names(&pairs);
    let mut clusters: BTreeMap<GroupId, ClusterStatus> = BTreeMap::new();
    for name in &names {
        let id = GroupId::new(*name).map_err(|error| unreadable("a cluster's name", error.to_string()))?;
        let empty = ClusterStatus { last_committed: -1, conf_id: -1, ..ClusterStatus::default() };
        clusters.insert(id, empty);
    }
    for (counter, value) in &pairs {
        // The longest name that fits owns the counter: `cluster_a_b_size` is `a_b`'s when there is one.
        let owner = names.iter().rfind(|name| field(counter, name).is_some());
        let Some((name, field)) = owner.and_then(|name| Some((*name, field(counter, name)?))) else {
            continue;
        };
        let Some(status) = GroupId::new(name).ok().and_then(|id| clusters.get_mut(&id)) else { continue };
        set(status, field, value)
            .map_err(|reason| unreadable("the cluster status", format!("{counter}: {reason}")))?;
    }
    Ok(clusters)
}

/// A copy under way in a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// Stage, table and percent in one text that changes as the copy goes on; empty without one.
    pub shown: String,
    /// The cluster's, by full name.
    pub tables: BTreeSet<String>,
    /// The node joins, and is in a view without a quorum: whoever would have given it a copy is gone.
    pub is_stranded: bool,
}

/// Of the same rows, those of a copy under way in this cluster.
pub fn transfer(rows: &Rows, group: &GroupId) -> Result<Transfer, Unreadable> {
    let pairs = pairs(rows)?;
    let own = || pairs.iter().filter_map(|(counter, value)| Some((field(counter, group.as_str())?, *value)));
    let shown = own().filter(|(_, value)| *value != "-").filter_map(|(field, value)| {
        let name = field.strip_prefix("sst_")?;
        Some(format!("{name} {value}"))
    });
    let shown = shown.collect::<Vec<_>>().join(", ");
    let indexes = own().find(|(field, _)| *field == "indexes");
    let has = |field: &str, text: &str| own().any(|pair| pair == (field, text));
    Ok(Transfer {
        shown,
        tables: indexes.map(|(_, value)| tables(value)).unwrap_or_default(),
        is_stranded: has("status", "non-primary") && has("node_state", "joining"),
    })
}

fn pairs(rows: &Rows) -> Result<Vec<(&str, &str)>, Unreadable> {
    let pair = |row: &'_ Vec<Option<String>>| match row.as_slice() {
        [Some(_), Some(_)] => Ok(()),
        _ => Err(unreadable("the cluster status", "a row that is not counter and value")),
    };
    rows.rows.iter().try_for_each(pair)?;
    let texts = rows.rows.iter().filter_map(|row| Some((row.first()?.as_deref()?, row.get(1)?.as_deref()?)));
    Ok(texts.collect())
}

/// Names by their `_status` counter, shorter first. A cluster named `x_flow_control` is told from the counter
/// `cluster_x_flow_control_status` by its value: a state's name.
fn cluster_names<'a>(pairs: &[(&'a str, &'a str)]) -> Vec<&'a str> {
    let name = |(counter, value): &(&'a str, &'a str)| {
        let name = counter.strip_prefix("cluster_")?.strip_suffix(STATUS)?;
        let counter_of_another =
            NOT_STATUS.iter().any(|end| name.ends_with(end)) && ClusterState::read(value).is_none();
        (!name.is_empty() && !counter_of_another).then_some(name)
    };
    let mut names: Vec<&str> = pairs.iter().filter_map(name).collect();
    names.sort_by_key(|name| name.len());
    names
}

fn field<'a>(counter: &'a str, name: &str) -> Option<&'a str> {
    counter.strip_prefix("cluster_")?.strip_prefix(name)?.strip_prefix('_')
}

fn set(status: &mut ClusterStatus, field: &str, value: &str) -> Result<(), String> {
    let number = || value.parse::<i64>().map_err(|_| format!("'{value}' is no number"));
    match field {
        "status" => {
            status.status = ClusterState::read(value).ok_or_else(|| format!("unknown state '{value}'"))?;
        }
        "node_state" => {
            status.node_state = MemberState::read(value).ok_or_else(|| format!("unknown state '{value}'"))?;
        }
        "size" => status.size = number()?.try_into().map_err(|_| format!("'{value}' is no size"))?,
        "nodes_set" => status.nodes_set = nodes(value)?,
        "nodes_view" => status.nodes_view = nodes(value)?,
        "indexes" => status.tables = tables(value),
        "state_uuid" => value.clone_into(&mut status.state_uuid),
        "conf_id" => status.conf_id = number()?,
        "last_committed" => status.last_committed = number()?,
        "local_recv_queue" => status.recv_queue = number()?.try_into().unwrap_or_default(),
        _ => {}
    }
    Ok(())
}

/// Members by their API address. The view names each twice (`host:port,host:port:replication`): the second kind
/// is no `host:port` and is passed over.
fn nodes(value: &str) -> Result<BTreeSet<NodeId>, String> {
    let address = |part: &&str| !part.is_empty() && !part.ends_with(":replication");
    let node = |part: &str| NodeId::new(part).map_err(|error| error.to_string());
    value.split(',').map(str::trim).filter(address).map(node).collect()
}

fn tables(value: &str) -> BTreeSet<String> {
    value.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// `(table, type)` of `SHOW TABLES` or `SHOW TABLES FROM SYSTEM`. The first column is `Table` or, on older
/// versions, `Index`.
pub fn table_list(rows: &Rows) -> Result<Vec<(String, String)>, Unreadable> {
    let row = |row: &Vec<Option<String>>| match row.as_slice() {
        [Some(name), Some(kind), ..] => Ok((name.clone(), kind.clone())),
        _ => Err(unreadable("the table list", "a row without name and type")),
    };
    rows.rows.iter().map(row).collect()
}

/// The four figures of a copy's content. On an empty table sum and extremes are 0.
pub fn content(rows: &Rows) -> Result<Content, Unreadable> {
    let Some(row) = rows.rows.first() else { return Ok(Content::default()) };
    let figure = |index: usize| match row.get(index).map(Option::as_deref) {
        Some(Some(text)) => integer(text).ok_or_else(|| unreadable("a copy's content", format!("'{text}'"))),
        Some(None) => Ok(0),
        None => Err(unreadable("a copy's content", "fewer than four figures")),
    };
    let rows = u64::try_from(figure(0)?).map_err(|_| unreadable("a copy's content", "a negative count"))?;
    if rows == 0 {
        return Ok(Content::default());
    }
    Ok(Content { rows, id_sum: figure(1)?, id_min: figure(2)?, id_max: figure(3)? })
}

/// Ids are 64 bits; some versions show them unsigned, and the sum wraps.
pub(crate) fn integer(text: &str) -> Option<i64> {
    text.parse::<i64>().ok().or_else(|| text.parse::<u64>().ok().map(u64::cast_signed))
}

/// The width of `searchd.listen = host:first-last:replication` in `SHOW SETTINGS`.
pub fn replication_ports(rows: &Rows) -> Option<u32> {
    let listens = rows
        .rows
        .iter()
        .filter(|row| row.first().is_some_and(|name| name.as_deref() == Some("searchd.listen")));
    let ranges = listens.filter_map(|row| {
        let range = row.get(1)?.as_deref()?.strip_suffix(":replication")?;
        let (first, last) = range.rsplit(':').next()?.split_once('-')?;
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        last.checked_sub(first).map(|width| width + 1)
    });
    ranges.max()
}

/// searchd shows what its configuration says, and nothing of what it leaves to the defaults. The embedded engine has
/// no configuration file.
pub fn node_settings(rows: &Rows, processors: u32) -> Option<NodeSettings> {
    let value = |name: &str| {
        let mut named =
            rows.rows.iter().filter(|row| row.first().is_some_and(|n| n.as_deref() == Some(name)));
        named.next().and_then(|row| row.get(1)?.as_deref())
    };
    value("configuration_file")?;
    let number = |name: &str| value(name).and_then(|text| text.trim().parse::<u32>().ok());
    Some(NodeSettings {
        threads: number("searchd.threads").filter(|threads| *threads > 0).unwrap_or(processors),
        server_id: number("searchd.server_id"),
        binlog: value("searchd.binlog_path").is_none_or(|path| !path.trim().is_empty()),
        binlog_flush: number("searchd.binlog_flush").unwrap_or(2),
        listen_backlog: number("searchd.listen_backlog").unwrap_or(LISTEN_BACKLOG_DEFAULT),
        // The machine's, not the node's.
        tcp_fastopen: None,
    })
}

/// `search_stats_ms_pct99`: three figures, of the last 1, 5 and 15 minutes; `N/A` where there was no search.
pub fn query_p99_ms(rows: &Rows) -> Option<u64> {
    let value = rows.rows.iter().find_map(|row| match row.as_slice() {
        [Some(name), Some(value)] if name == "search_stats_ms_pct99" => Some(value),
        _ => None,
    })?;
    let minute: f64 = value.split_whitespace().next()?.parse().ok()?;
    (minute.is_finite() && minute >= 0.0).then(|| minute.ceil() as u64)
}

/// Reads the rows of `SHOW PERMISSIONS FOR 'user'`. Rules of kinds that are not known here allow nothing that is asked here.
pub fn user_rules(rows: &Rows, user: &str) -> Result<Vec<UserRule>, Unreadable> {
    let bad = |reason: &str| unreadable("a user's rules", reason);
    let mut rules = Vec::new();
    for row in 0..rows.rows.len() {
        let cell = |column| rows.value(row, column).ok_or_else(|| bad(&format!("no column '{column}'")));
        if cell("username")? != user {
            return Err(bad("a rule of another user"));
        }
        let allow = match cell("allow")? {
            "1" => true,
            "0" => false,
            _ => return Err(bad("a rule neither allows nor forbids")),
        };
        let word = cell("action")?;
        if let Some(action) = UserAction::ALL.into_iter().find(|action| action.as_str() == word) {
            rules.push(UserRule { action, target: cell("target")?.to_owned(), allow });
        }
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_those_of_the_configuration_or_the_defaults() {
        let file = ("configuration_file", "/etc/searchd.conf");
        let bare = NodeSettings {
            threads: 2,
            server_id: None,
            binlog: true,
            binlog_flush: 2,
            listen_backlog: 5,
            tcp_fastopen: None,
        };
        assert_eq!(node_settings(&rows(&[file]), 2), Some(bare));
        assert_eq!(node_settings(&rows(&[("searchd.server_id", "1")]), 2), None, "the embedded engine");
        let said = rows(&[
            file,
            ("searchd.threads", "8"),
            ("searchd.server_id", "3"),
            ("searchd.binlog_path", ""),
            ("searchd.binlog_flush", "1"),
            ("searchd.listen_backlog", "1024"),
        ]);
        let expected = NodeSettings {
            threads: 8,
            server_id: Some(3),
            binlog: false,
            binlog_flush: 1,
            listen_backlog: 1024,
            tcp_fastopen: None,
        };
        assert_eq!(node_settings(&said, 2), Some(expected));
    }

    fn rows(pairs: &[(&str, &str)]) -> Rows {
        let row =
            |(counter, value): &(&str, &str)| vec![Some((*counter).to_owned()), Some((*value).to_owned())];
        Rows { rows: pairs.iter().map(row).collect(), ..Rows::default() }
    }

    fn id(name: &str) -> GroupId {
        GroupId::new(name).expect("valid")
    }

    #[test]
    fn a_copy_under_way_is_told_of_its_own_cluster() {
        let shown = rows(&[
            ("cluster_a_status", "primary"),
            ("cluster_a_sst_total", "42"),
            ("cluster_a_sst_stage", "send file"),
            ("cluster_a_sst_table", "-"),
            ("cluster_a_indexes", "system.t_s0,system.t_s1"),
            ("cluster_a_b_sst_total", "7"),
            ("cluster_b_sst_total", "-"),
        ]);
        let found = transfer(&shown, &id("a")).expect("read");
        assert_eq!(found.shown, "total 42, stage send file");
        assert_eq!(found.tables, ["system.t_s0".to_owned(), "system.t_s1".to_owned()].into());
        assert_eq!(transfer(&shown, &id("b")).expect("read"), Transfer::default());
    }

    #[test]
    fn who_joins_without_a_quorum_is_stranded() {
        for (status, state, expected) in [
            ("non-primary", "joining", true),
            ("non-primary", "synced", false),
            ("primary", "joining", false),
            ("disconnected", "joining", false),
        ] {
            let shown = rows(&[
                ("cluster_a_status", status),
                ("cluster_a_node_state", state),
                ("cluster_a_b_status", "non-primary"),
                ("cluster_a_b_node_state", "joining"),
            ]);
            let found = transfer(&shown, &id("a")).expect("read");
            assert_eq!(found.is_stranded, expected, "{status} {state}");
        }
    }

    #[test]
    fn names_with_underscores_keep_their_own_counters() {
        let clusters = clusters(&rows(&[
            ("cluster_a_status", "primary"),
            ("cluster_a_size", "3"),
            ("cluster_a_b_status", "non-primary"),
            ("cluster_a_b_size", "1"),
            ("cluster_a_flow_control_status", "OFF"),
            ("cluster_a_ist_receive_status", ""),
            ("cluster_a_b_local_recv_queue", "4"),
            ("cluster_a_brand_new_counter", "?"),
            ("cluster_name", "x"),
        ]))
        .expect("reads");
        assert_eq!(clusters.keys().map(GroupId::as_str).collect::<Vec<_>>(), ["a", "a_b"]);
        assert_eq!((clusters[&id("a")].size, clusters[&id("a")].recv_queue), (3, 0));
        assert_eq!((clusters[&id("a_b")].size, clusters[&id("a_b")].recv_queue), (1, 4));
        assert_eq!(clusters[&id("a_b")].status, ClusterState::NonPrimary);
        assert_eq!(clusters[&id("a")].last_committed, -1, "not shown");
    }

    #[test]
    fn a_cluster_may_be_named_like_a_counter() {
        let clusters = clusters(&rows(&[
            ("cluster_x_status", "primary"),
            ("cluster_x_flow_control_status", "primary"),
            ("cluster_x_flow_control_flow_control_status", "ON"),
        ]))
        .expect("reads");
        assert_eq!(clusters.len(), 2);
    }

    #[test]
    fn members_are_their_api_addresses() {
        let clusters = clusters(&rows(&[
            ("cluster_c_status", "primary"),
            ("cluster_c_nodes_set", "10.0.0.1:9312,10.0.0.2:9312"),
            ("cluster_c_nodes_view", "10.0.0.1:9312,10.0.0.1:9315:replication"),
            ("cluster_c_indexes", "system.t_s0,system.t_s1"),
        ]))
        .expect("reads");
        let status = &clusters[&id("c")];
        assert_eq!(status.nodes_set.len(), 2);
        assert_eq!(status.nodes_view.iter().map(NodeId::as_str).collect::<Vec<_>>(), ["10.0.0.1:9312"]);
        assert_eq!(status.tables.len(), 2);
    }

    #[test]
    fn what_cannot_be_understood_is_an_error_and_not_a_guess() {
        for pairs in [
            [("cluster_c_status", "excellent"), ("cluster_c_size", "1")],
            [("cluster_c_status", "primary"), ("cluster_c_node_state", "dozing")],
            [("cluster_c_status", "primary"), ("cluster_c_last_committed", "many")],
            [("cluster_c_status", "primary"), ("cluster_c_nodes_set", "no address")],
        ] {
            assert!(clusters(&rows(&pairs)).is_err(), "{pairs:?}");
        }
    }

    #[test]
    fn contents_are_four_figures() {
        let figures = |row: &[Option<&str>]| {
            let row = row.iter().map(|value| value.map(str::to_owned)).collect();
            content(&Rows { rows: vec![row], ..Rows::default() })
        };
        assert_eq!(
            figures(&[Some("2"), Some("18446744073709551615"), Some("-3"), Some("2")]),
            Ok(Content { rows: 2, id_sum: -1, id_min: -3, id_max: 2 })
        );
        assert_eq!(figures(&[Some("0"), None, None, None]), Ok(Content::default()));
        assert!(figures(&[Some("2"), Some("1.5e9"), Some("1"), Some("2")]).is_err());
        assert!(figures(&[Some("2")]).is_err());
    }

    #[test]
    fn rules_of_a_user_are_read_as_a_real_node_shows_them() {
        let row = |texts: [&str; 5]| texts.map(|text| Some(text.to_owned())).to_vec();
        let rows = |rows: Vec<Vec<Option<String>>>| Rows {
            columns: ["username", "action", "target", "allow", "budget"].map(str::to_owned).to_vec(),
            total: rows.len() as u64,
            rows,
            warning: String::new(),
        };
        let shown = rows(vec![
            row(["ann", "read", "a*", "1", ""]),
            row(["ann", "schema", "secret_%", "0", "{}"]),
            row(["ann", "backup", "*", "1", ""]),
        ]);
        let rule = |action, target: &str, allow| UserRule { action, target: target.to_owned(), allow };
        let found = user_rules(&shown, "ann").expect("reads");
        assert_eq!(found, [rule(UserAction::Read, "a*", true), rule(UserAction::Schema, "secret_%", false)]);
        for wrong in [["bob", "read", "*", "1", ""], ["ann", "read", "*", "yes", ""]] {
            user_rules(&rows(vec![row(wrong)]), "ann").expect_err("refused");
        }
    }
}
