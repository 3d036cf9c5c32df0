//! From an action to the statements that carry it out, in order. Sends nothing.

use crate::columns;
use crate::statement::{Retry, ShardTable, Statement, StockTable, Target};
use model::{Action, NodeId, Route, RouteSpec, Schema};

/// What the text depends on besides the action.
#[derive(Clone, Debug)]
pub struct RenderContext {
    /// The node the statements are for: its own shards of RF=1 tables become `local=`.
    pub own: NodeId,
    /// `gmcast.listen_addr` (`tcp://10.0.0.1`), when configured; otherwise Galera binds to all addresses.
    pub galera_listen: Option<String>,
    /// Whether the action's group was seen to have this node as its only member: then ADD takes all tables in one
    /// statement, else one each.
    pub only_member: bool,
}

/// An action that cannot become statements.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    #[error("'{0}' is not a physical shard (system.{{table}}_s{{n}}): nothing was sent")]
    NotAShard(String),
    #[error(
        "column '{column}' of '{table}' has the type '{kind}', which is not words and key='value' pairs: nothing was sent"
    )]
    BadKind { table: String, column: String, kind: String },
    #[error(
        "a column of '{table}' has a name that is not 1 to 255 letters, digits and underlines: nothing was sent"
    )]
    BadColumn { table: String },
    #[error("option '{key}' of '{table}' is not a word or belongs to routing tables: nothing was sent")]
    BadOption { table: String, key: String },
    #[error("the route of '{table}' names no node for shard {shard}: nothing was sent")]
    EmptyShard { table: String, shard: usize },
    #[error("node '{0}' cannot be named by an agent: an IPv6 address in brackets is not supported there")]
    BadAgent(NodeId),
    #[error("the listen address '{0}' is not usable among a cluster's options")]
    BadListen(String),
}

/// The statements of `action`, to be sent one after the other, each once the one before was done.
///
/// Directories are not searchd's: their actions have none. `DropCopies` has one drop per copy, to be sent through
/// [`crate::session`] under its lock and only after the comparison.
pub fn render(action: &Action, context: &RenderContext) -> Result<Vec<Statement>, RenderError> {
    let listen = || listen(context);
    Ok(match action {
        Action::MakeDirectory { .. } | Action::RemoveDirectory { .. } | Action::AwaitQuiet { .. } => {
            Vec::new()
        }
        Action::CreateTables { tables, schema } => {
            let created =
                |table| Ok(Statement::CreateShard { table, schema: checked(schema, &tables.join(","))? });
            shards(tables)?.into_iter().map(created).collect::<Result<_, _>>()?
        }
        Action::DropTables { tables } => {
            shards(tables)?.into_iter().map(|table| Statement::DropShard { table }).collect()
        }
        Action::DropCopies { copies } => copies
            .keys()
            .map(|table| Ok(Statement::DropShard { table: shard(table)? }))
            .collect::<Result<_, _>>()?,
        Action::CreateCluster { group } => {
            vec![Statement::CreateCluster { group: group.clone(), listen: listen()? }]
        }
        Action::JoinCluster { group, at } => {
            vec![Statement::JoinCluster { group: group.clone(), at: at.clone(), listen: listen()? }]
        }
        Action::AddTables { group, tables } => {
            let tables = shards(tables)?;
            let add = |tables| Statement::AddTables { group: group.clone(), tables };
            match (tables.is_empty(), context.only_member) {
                (true, _) => Vec::new(),
                (false, true) => vec![add(tables)],
                (false, false) => tables.into_iter().map(|table| add(vec![table])).collect(),
            }
        }
        Action::RemoveTables { group, tables } => shards(tables)?
            .into_iter()
            .map(|table| Statement::RemoveTable { group: group.clone(), table })
            .collect(),
        Action::ReturnTables { group, copies } => copies
            .keys()
            .map(|table| Ok(Statement::AddTables { group: group.clone(), tables: vec![shard(table)?] }))
            .collect::<Result<_, _>>()?,
        Action::UpdateNodes { group } => vec![Statement::UpdateNodes { group: group.clone() }],
        Action::Bootstrap { group } => vec![Statement::Bootstrap { group: group.clone() }],
        Action::ExitCluster { group, .. } => vec![Statement::ExitCluster { group: group.clone() }],
        Action::DeleteCluster { group, .. } => vec![Statement::DeleteCluster { group: group.clone() }],
        Action::SetRoutes { routes } => set_routes(routes, context)?,
        Action::DropRoutes { tables } => {
            tables.iter().map(|table| Statement::DropRoute { table: table.clone() }).collect()
        }
        Action::Truncate { table, group } => {
            vec![Statement::Truncate { table: shard(table)?, group: group.clone() }]
        }
        Action::Optimize { table } => vec![Statement::Optimize { table: shard(table)? }],
        Action::FlushRamchunk { table } => vec![Statement::FlushRamchunk { table: shard(table)? }],
        // What is in the cluster leaves it first; which that is, the sidecar looks up.
        Action::EndStock { .. } => {
            StockTable::ALL.into_iter().map(|table| Statement::DropStock { table }).collect()
        }
        Action::PutDocuments { table, replace, columns, rows } => vec![Statement::Put {
            table: table.clone(),
            replace: *replace,
            columns: columns.clone(),
            rows: rows.0.clone(),
        }],
    })
}

/// Drop and create next to each other, table by table: the gap of one table is as short as two statements.
fn set_routes(routes: &[RouteSpec], context: &RenderContext) -> Result<Vec<Statement>, RenderError> {
    let mut statements = Vec::with_capacity(routes.len() * 2);
    for spec in routes {
        let create = create_route(&spec.route, &spec.schema, &context.own)?;
        statements.push(Statement::DropRoute { table: spec.route.table.clone() });
        statements.push(create);
    }
    Ok(statements)
}

/// The routing table as `own` must have it: its own shards first as `local=` where the table has one copy each.
pub fn create_route(route: &Route, schema: &Schema, own: &NodeId) -> Result<Statement, RenderError> {
    let name = route.table.as_str();
    let mut locals = Vec::new();
    let mut agents = Vec::new();
    for (index, nodes) in route.shards.iter().enumerate() {
        let table = shard(&route.table.shard_table(index as u32))?;
        if let Some(bad) = nodes.iter().find(|node| node.as_str().contains(['[', ']'])) {
            return Err(RenderError::BadAgent(bad.clone()));
        }
        match nodes.as_slice() {
            [] => return Err(RenderError::EmptyShard { table: name.to_owned(), shard: index }),
            [only] if route.own_as_local && only == own => locals.push(Target::Local(table)),
            nodes => {
                let retry = match (route.own_as_local, nodes.len()) {
                    (true, 1) => Retry::Plain,
                    (true, _) => Retry::MirrorsWhileMoving,
                    (false, _) => Retry::Mirrors,
                };
                agents.push(Target::Agent { nodes: nodes.to_vec(), table, retry });
            }
        }
    }
    locals.append(&mut agents);
    Ok(Statement::CreateRoute { table: route.table.clone(), schema: checked(schema, name)?, targets: locals })
}

fn shard(name: &str) -> Result<ShardTable, RenderError> {
    ShardTable::new(name).ok_or_else(|| RenderError::NotAShard(name.to_owned()))
}

fn shards(names: &[String]) -> Result<Vec<ShardTable>, RenderError> {
    names.iter().map(|name| shard(name)).collect()
}

/// The schema with every type read and written anew, so that nothing but words and quoted values is left.
fn checked(schema: &Schema, table: &str) -> Result<Schema, RenderError> {
    let mut checked = schema.clone();
    for column in &mut checked.columns {
        if !columns::is_column_name(&column.name) {
            return Err(RenderError::BadColumn { table: table.to_owned() });
        }
        column.kind = columns::normalized_kind(&column.kind).ok_or_else(|| RenderError::BadKind {
            table: table.to_owned(),
            column: column.name.clone(),
            kind: column.kind.clone(),
        })?;
    }
    match schema.options.iter().find(|(key, _)| !columns::is_table_option(key)) {
        Some((key, _)) => Err(RenderError::BadOption { table: table.to_owned(), key: key.clone() }),
        None => Ok(checked),
    }
}

/// Only what an address is made of: a `;` or a quote would be another option or another statement.
fn listen(context: &RenderContext) -> Result<Option<String>, RenderError> {
    match &context.galera_listen {
        Some(address) if !address.bytes().all(|b| b.is_ascii_alphanumeric() || b"./:_-[]".contains(&b)) => {
            Err(RenderError::BadListen(address.clone()))
        }
        listen => Ok(listen.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::closed_set;
    use model::{ColumnSpec, Content, GroupId, TableName};
    use std::collections::BTreeMap;

    fn node(number: u16) -> NodeId {
        NodeId::new(format!("127.0.0.{number}:9312")).expect("valid")
    }

    fn context() -> RenderContext {
        RenderContext { own: node(1), galera_listen: None, only_member: false }
    }

    fn schema() -> Schema {
        let column = |name: &str, kind: &str| ColumnSpec { name: name.into(), kind: kind.into() };
        Schema { columns: vec![column("title", "text"), column("v", "int")], options: Vec::new() }
    }

    fn route(own_as_local: bool, shards: Vec<Vec<NodeId>>) -> Action {
        let route = Route { table: TableName::new("t").expect("valid"), shards, own_as_local };
        Action::SetRoutes { routes: vec![RouteSpec { route, schema: schema() }] }
    }

    fn texts(action: &Action, context: &RenderContext) -> Vec<String> {
        let texts: Vec<String> =
            render(action, context).expect("renders").iter().map(ToString::to_string).collect();
        for text in &texts {
            closed_set::check(text).expect("one of the closed set");
        }
        texts
    }

    const WITH_OPTIONS: &str = "'ab000000000000000000000000000000' as path, 'gcache.size=8M;evs.suspect_timeout=PT1S;evs.inactive_timeout=PT2S;\
evs.install_timeout=PT2S;evs.keepalive_period=PT0.3S;evs.inactive_check_period=PT0.3S;evs.join_retrans_period=PT0.3S' as options";

    #[test]
    fn every_action_has_the_text_that_real_nodes_took() {
        let group = GroupId::new("ab000000000000000000000000000000").expect("valid");
        let tables = vec!["system.t_s0".to_owned(), "system.t_s1".to_owned()];
        let one = "system.t_s0".to_owned();
        let g = || group.clone();
        let copies = BTreeMap::from([(one.clone(), Content::default())]);
        let cases: Vec<(Action, Vec<String>)> = vec![
            (Action::MakeDirectory { group: g() }, vec![]),
            (Action::RemoveDirectory { group: g() }, vec![]),
            (
                Action::CreateTables { tables: vec![one.clone()], schema: schema() },
                vec!["CREATE TABLE system.t_s0 (`title` text, `v` int)".into()],
            ),
            (
                Action::DropTables { tables: tables.clone() },
                vec!["DROP TABLE IF EXISTS system.t_s0".into(), "DROP TABLE IF EXISTS system.t_s1".into()],
            ),
            (Action::DropCopies { copies }, vec!["DROP TABLE IF EXISTS system.t_s0".into()]),
            (Action::CreateCluster { group: g() }, vec![format!("CREATE CLUSTER ab000000000000000000000000000000 {WITH_OPTIONS}")]),
            (
                Action::JoinCluster { group: g(), at: node(2) },
                vec![format!("JOIN CLUSTER ab000000000000000000000000000000 AT '127.0.0.2:9312' {WITH_OPTIONS}")],
            ),
            (
                Action::AddTables { group: g(), tables: tables.clone() },
                vec!["ALTER CLUSTER ab000000000000000000000000000000 ADD system.t_s0".into(), "ALTER CLUSTER ab000000000000000000000000000000 ADD system.t_s1".into()],
            ),
            (
                Action::RemoveTables { group: g(), tables: tables.clone() },
                vec!["ALTER CLUSTER ab000000000000000000000000000000 DROP system.t_s0".into(), "ALTER CLUSTER ab000000000000000000000000000000 DROP system.t_s1".into()],
            ),
            (
                Action::ReturnTables {
                    group: g(),
                    copies: tables.iter().map(|table| (table.clone(), Content::default())).collect(),
                },
                vec!["ALTER CLUSTER ab000000000000000000000000000000 ADD system.t_s0".into(), "ALTER CLUSTER ab000000000000000000000000000000 ADD system.t_s1".into()],
            ),
            (Action::AwaitQuiet { lock: true }, vec![]),
            (Action::UpdateNodes { group: g() }, vec!["ALTER CLUSTER ab000000000000000000000000000000 UPDATE nodes".into()]),
            (Action::Bootstrap { group: g() }, vec!["SET CLUSTER ab000000000000000000000000000000 GLOBAL 'pc.bootstrap' = 1".into()]),
            (Action::ExitCluster { group: g(), tables, floor: 1 }, vec!["EXIT CLUSTER ab000000000000000000000000000000".into()]),
            (Action::DeleteCluster { group: g(), whole: false }, vec!["DELETE CLUSTER ab000000000000000000000000000000".into()]),
            (
                route(true, vec![vec![node(1)], vec![node(3)]]),
                vec![
                    "DROP TABLE `t` OPTION force=1".into(),
                    "CREATE TABLE `t` (`title` text, `v` int) type='shard' local='system.t_s0' \
                     agent='127.0.0.3:9312:system.t_s1'"
                        .into(),
                ],
            ),
            (
                route(false, vec![vec![node(1), node(2)], vec![node(3)]]),
                vec![
                    "DROP TABLE `t` OPTION force=1".into(),
                    "CREATE TABLE `t` (`title` text, `v` int) type='shard' \
                     agent='127.0.0.1:9312:system.t_s0|127.0.0.2:9312:system.t_s0[retry_count=3,ha_strategy=nodeads]' \
                     agent='127.0.0.3:9312:system.t_s1[retry_count=3,ha_strategy=nodeads]'"
                        .into(),
                ],
            ),
            (
                Action::DropRoutes { tables: vec![TableName::new("t").expect("valid")] },
                vec!["DROP TABLE `t` OPTION force=1".into()],
            ),
            (
                Action::Truncate { table: one.clone(), group: Some(g()) },
                vec!["TRUNCATE TABLE ab000000000000000000000000000000:system.t_s0".into()],
            ),
            (Action::Truncate { table: one.clone(), group: None }, vec!["TRUNCATE TABLE system.t_s0".into()]),
            (Action::Optimize { table: one.clone() }, vec!["OPTIMIZE TABLE system.t_s0".into()]),
            (Action::FlushRamchunk { table: one }, vec!["FLUSH RAMCHUNK system.t_s0".into()]),
            (
                Action::EndStock { cluster: Some(g()) },
                vec![
                    "DROP TABLE IF EXISTS system.sharding_state".into(),
                    "DROP TABLE IF EXISTS system.sharding_queue".into(),
                    "DROP TABLE IF EXISTS system.sharding_table".into(),
                ],
            ),
        ];
        for (action, expected) in cases {
            assert_eq!(texts(&action, &context()), expected, "{action:?}");
        }
    }

    #[test]
    fn a_lone_member_adds_all_tables_at_once_and_a_configured_listener_is_given() {
        let group = GroupId::new("ab000000000000000000000000000000").expect("valid");
        let tables = vec!["system.t_s0".to_owned(), "system.t_s1".to_owned()];
        let alone =
            RenderContext { only_member: true, galera_listen: Some("tcp://10.0.0.1".into()), ..context() };
        let add = Action::AddTables { group: group.clone(), tables };
        assert_eq!(
            texts(&add, &alone),
            ["ALTER CLUSTER ab000000000000000000000000000000 ADD system.t_s0,system.t_s1"]
        );
        let create = texts(&Action::CreateCluster { group }, &alone);
        assert!(create[0].contains(";gmcast.listen_addr=tcp://10.0.0.1' as options"), "{create:?}");
    }

    #[test]
    fn the_looks_are_in_the_closed_set_too() {
        let table = ShardTable::new("system.t_s0").expect("valid");
        for statement in [
            Statement::LockTables { tables: vec![table.clone(), table.clone()] },
            Statement::UnlockTables,
            Statement::Content { table: table.clone() },
            Statement::Count { table: TableName::new("order").expect("valid") },
            Statement::Page { table: table.clone(), behind: None, limit: 500 },
            Statement::Page { table: table.clone(), behind: Some(i64::MIN), limit: 500 },
            Statement::Page { table: table.clone(), behind: Some(7), limit: 500 },
            Statement::ShowClusterStatus,
            Statement::ShowSearchStatistics,
            Statement::ShowSettings,
            Statement::ShowTables,
            Statement::ShowSystemTables,
            Statement::ShowRoute { table: TableName::new("order").expect("valid") },
            Statement::Describe { table },
            Statement::ShowThreads,
            Statement::ShowPermissions { user: "o'neil\\; DROP TABLE t".to_owned() },
        ] {
            closed_set::check(&statement.to_string()).expect("one of the closed set");
        }
    }

    #[test]
    fn what_is_no_name_type_or_option_of_ours_renders_nothing() {
        let with = |change: fn(&mut Schema)| {
            let mut schema = schema();
            change(&mut schema);
            Action::CreateTables { tables: vec!["system.t_s0".into()], schema }
        };
        let ipv6 = NodeId::new("[::1]:9312").expect("valid");
        for action in [
            Action::DropTables { tables: vec!["t".into()] },
            Action::Optimize { table: "system.t_s0; DROP TABLE t".into() },
            with(|schema| schema.columns[0].name = "a\0b".into()),
            with(|schema| schema.columns[0].name = "a`b".into()),
            with(|schema| schema.columns[0].name = "system.t_s0".into()),
            with(|schema| schema.columns[0].name = "x".repeat(256)),
            with(|schema| schema.columns[0].kind = "text) type='pq".into()),
            with(|schema| schema.options.push(("agent".into(), "n:1:x".into()))),
            with(|schema| schema.options.push(("a' b".into(), "c".into()))),
            route(false, vec![vec![]]),
            route(false, vec![vec![ipv6]]),
        ] {
            assert!(render(&action, &context()).is_err(), "{action:?}");
        }
        let bad = RenderContext { galera_listen: Some("x;gcache.size=1".into()), ..context() };
        let create = Action::CreateCluster { group: GroupId::new("g").expect("valid") };
        assert!(render(&create, &bad).is_err());
    }

    #[test]
    fn values_stay_inside_their_quotes() {
        let mut schema = schema();
        schema.options.push(("stopwords".into(), "it's; DROP TABLE \\'x\n".into()));
        schema.columns.push(ColumnSpec { name: "select".into(), kind: "text engine='a\\'b'".into() });
        let create = Action::CreateTables { tables: vec!["system.t_s0".into()], schema };
        assert_eq!(
            texts(&create, &context()),
            ["CREATE TABLE system.t_s0 (`title` text, `v` int, `select` text engine='a\\'b') \
              stopwords='it\\'s; DROP TABLE \\\\\\'x\\n'"]
        );
    }

    proptest::proptest! {
        #[test]
        fn columns_of_any_name_are_sent_and_read_back(
            names in proptest::collection::btree_set("[a-z0-9_]{1,12}|cluster|table|at|order|select|type", 1..5)
        ) {
            let columns = names.into_iter().filter(|name| name != "id");
            let columns: Vec<ColumnSpec> =
                columns.map(|name| ColumnSpec { name, kind: "int".into() }).collect();
            let schema = Schema { columns, options: Vec::new() };
            let route = Route { table: TableName::new("t").expect("valid"), shards: vec![vec![node(2)]], own_as_local: true };
            let action = Action::SetRoutes { routes: vec![RouteSpec { route, schema: schema.clone() }] };
            let sent = texts(&action, &context());
            let read = crate::declared::route_text(&sent[1], &node(1)).expect("reads");
            proptest::prop_assert_eq!(read.schema.columns, schema.columns);
        }
    }
}
