//! The people: clients that write and remember what was acknowledged, and an operator who creates and drops tables.
//! Each is a script with chance of its own.

use crate::bugs::Bug;
use crate::chance::Chance;
use crate::statements;
use crate::wire::{Answer, Ask, Finish, Wire};
use engine::Reply;
use engine::routing::shard_of;
use model::operate::OrderReply;
use model::wire::{ShardingStatement, StatementReply};
use model::{ColumnSpec, GroupId, NodeId, Schema, TableName, TableSpec};
use std::cell::RefCell;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// A client gives up here.
const WRITE_TIME_MAX: u64 = 30_000;
const STATEMENT_TIME_MAX: u64 = 120_000;
const IDS: u64 = 40;
/// Of a thousand writes so many are transactions.
const TRANSACTIONS: u64 = 100;

/// What a client may find under an id: a value, or nothing.
pub type Found = Option<i64>;

/// One document as its writer knows it.
#[derive(Clone, Debug, Default)]
pub struct Document {
    /// What may be there: one entry when the last write was acknowledged, more after one with unknown outcome.
    pub allowed: BTreeSet<Found>,
    /// Being written, or written with unknown outcome: left alone from then on.
    pub settled: bool,
    /// When the last acknowledgement came.
    pub at: u64,
    /// Its table was being emptied while this was being written: which of the two came first is not known.
    pub emptied: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableIs {
    /// Asked for; it may come to be.
    Maybe,
    /// Its creation was acknowledged.
    There,
    /// Its drop was asked for; it may still be there.
    Leaving,
    /// Creation failed or drop was acknowledged: nothing of it may be left.
    Gone,
}

#[derive(Clone, Debug)]
pub struct Table {
    pub is: TableIs,
    pub shards: u32,
    /// Numbers of copies that were ordered; more than one when it is not known which of them holds.
    pub rf: BTreeSet<u32>,
    /// How often another number was asked for, and how many of these were answered.
    pub changes: (u32, u32),
    /// Orders to empty it that may still be under way.
    pub emptying: u32,
    pub documents: BTreeMap<i64, Document>,
}

/// What scripts and the world share.
#[expect(clippy::struct_excessive_bools, reason = "each stands for a moment of its own")]
#[derive(Debug, Default)]
pub struct Play {
    pub tables: BTreeMap<String, Table>,
    /// Nodes that answer clients.
    pub live: Vec<NodeId>,
    /// Clients and operator stop.
    pub over: bool,
    pub controllers: usize,
    pub bug: Option<Bug>,
    pub acknowledged: u64,
    pub refused: u64,
    pub unknown: u64,
    /// Statements of the operator under way.
    pub asking: u32,
    /// Nobody writes now.
    pub resting: bool,
    /// And every node is about to be killed.
    pub all_die_soon: bool,
    /// No fault begins any more.
    pub ending: bool,
    /// Nodes that are stopped and start through the gate.
    pub gates: BTreeMap<NodeId, Gate>,
    /// Groups that they are to forget before.
    pub forget: BTreeMap<NodeId, BTreeSet<GroupId>>,
    /// Nodes that are to be empty for now.
    pub draining: BTreeSet<NodeId>,
    /// Clients do nothing but update documents, and say it to none of these nodes.
    pub only_updates: Option<BTreeSet<NodeId>>,
    /// An UPDATE that is acknowledged before may be lost: the moments before a group without a quorum leaves the routes.
    pub updates_unsure_until: u64,
    /// Tables that somebody made on a node without the controller, with the ids in them.
    pub by_hand: BTreeMap<(NodeId, String), Vec<i64>>,
    /// Groups that shards are in by the log.
    pub homes: BTreeSet<GroupId>,
    /// Nodes whose removal was asked for and not refused.
    pub leaving: BTreeSet<NodeId>,
}

/// Where a stopped node stands with the controller's gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    Shut,
    Asked,
    Open,
}

pub type SharedPlay = Rc<RefCell<Play>>;

impl Play {
    pub fn shared() -> SharedPlay {
        Rc::default()
    }
}

pub fn schema() -> Schema {
    let column = |name: &str, kind: &str| ColumnSpec { name: name.to_owned(), kind: kind.to_owned() };
    Schema { columns: vec![column("title", "text"), column("v", "int")], options: Vec::new() }
}

/// Writes until the play is over, one statement at a time, through a routing table of any live node.
pub async fn client(wire: Wire, play: SharedPlay, number: i64, seed: u64, pause_max: u64) -> Finish {
    let mut chance = Chance::new(seed);
    let mut value = number;
    let (bug, mut sessions) = (play.borrow().bug, 0);
    loop {
        wire.sleep(chance.between(5, pause_max)).await;
        if play.borrow().over {
            return Finish::Nothing;
        }
        value += 16;
        let Some(write) = choose(&play, &mut chance, number, value) else { continue };
        sessions += 1;
        let answer = if chance.hits(TRANSACTIONS) {
            let session = 1 << 45 | (number as u64) << 32 | sessions;
            transaction(&wire, &play, bug, &write, session).await
        } else {
            let Write { node, sql, table, .. } = &write;
            statements::say(&wire, node, None, sql, table, WRITE_TIME_MAX, bug).await
        };
        let mut play = play.borrow_mut();
        // A mirror that had not applied the last write yet finds nothing to delete, and says so.
        let missed = write.wants.is_none() && matches!(answer, Answer::Sql(Ok(Reply::Done { affected: 0 })));
        let unsure = write.sql.starts_with("UPDATE") && wire.now().0 < play.updates_unsure_until;
        let acknowledged = matches!(answer, Answer::Sql(Ok(_))) && !missed && !unsure;
        match answer {
            Answer::Sql(Ok(_)) => play.acknowledged += 1,
            Answer::Refused => play.refused += 1,
            _ => play.unknown += 1,
        }
        let never_arrived = matches!(answer, Answer::Refused);
        let Some(table) = play.tables.get_mut(&write.table) else { continue };
        let emptying = table.emptying > 0;
        let document = match table.documents.entry(write.id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(_) if never_arrived => continue,
            // The table was dropped and made again while the statement was held: it was meant for the old one, and may be in
            // the new one.
            Entry::Vacant(new) => {
                new.insert(Document { allowed: [None, write.wants].into(), ..Document::default() })
            }
        };
        if acknowledged {
            document.allowed = BTreeSet::from([write.wants]);
            document.settled = true;
            document.at = wire.now().0;
        } else if never_arrived {
            document.allowed.remove(&write.wants);
            document.allowed.insert(write.had);
            document.settled = true;
        }
        if emptying || document.emptied {
            document.allowed.insert(None);
            document.settled = false;
        }
    }
}

/// The same write as one who knows where the shard is makes it: in a transaction, on the shard's own table.
async fn transaction(
    wire: &Wire,
    play: &SharedPlay,
    bug: Option<Bug>,
    write: &Write,
    session: u64,
) -> Answer {
    let Write { node, sql, table, shard, .. } = write;
    let Ok(clusters) = wire.clusters(node, WRITE_TIME_MAX).await else { return Answer::Refused };
    let is_home = |group: &GroupId| play.borrow().homes.contains(group);
    let mut homes = clusters.iter().filter(|(group, _)| is_home(group));
    let Some((group, _)) = homes.find(|(_, cluster)| cluster.tables.contains(shard)) else {
        return statements::say(wire, node, None, sql, table, WRITE_TIME_MAX, bug).await;
    };
    let sql = sql.replacen(&format!(" {table} "), &format!(" {group}:{shard} "), 1);
    let mut answer = Answer::Refused;
    for sql in ["BEGIN", sql.as_str(), "COMMIT"] {
        answer = statements::say(wire, node, Some(session), sql, table, WRITE_TIME_MAX, bug).await;
        if !matches!(answer, Answer::Sql(Ok(_))) {
            break;
        }
    }
    wire.ask(Ask::Close { to: node.clone(), session }).await;
    answer
}

struct Write {
    table: String,
    /// The shard's own table.
    shard: String,
    node: NodeId,
    id: i64,
    sql: String,
    had: Found,
    wants: Found,
}

fn choose(play: &SharedPlay, chance: &mut Chance, number: i64, value: i64) -> Option<Write> {
    let mut play = play.borrow_mut();
    if play.resting {
        return None;
    }
    let asked = match &play.only_updates {
        Some(none_of) => play.live.iter().filter(|node| !none_of.contains(*node)).cloned().collect(),
        None => play.live.clone(),
    };
    let node = chance.pick(&asked)?.clone();
    let there: Vec<String> = play
        .tables
        .iter()
        .filter(|(_, table)| table.is == TableIs::There)
        .map(|(name, _)| name.clone())
        .collect();
    let name = chance.pick(&there)?.clone();
    let updates = play.only_updates.is_some();
    let table = play.tables.get_mut(&name)?;
    let shards = table.shards as usize;
    let emptying = table.emptying > 0;
    // Ids of this client alone; new ones take the place of those left in doubt.
    let in_doubt = table.documents.values().filter(|document| !document.settled).count() as u64;
    let id = 1 + number + 16 * chance.below(IDS + in_doubt) as i64;
    let document = table.documents.entry(id).or_insert_with(|| Document {
        allowed: BTreeSet::from([None]),
        settled: true,
        ..Document::default()
    });
    if !document.settled {
        return None;
    }
    let had = *document.allowed.first()?;
    if updates && had.is_none() {
        return None;
    }
    let kind = chance.below(10);
    let (sql, wants) = match had {
        None => (format!("INSERT INTO {name} (id,title,v) VALUES ({id},'w{value}',{value})"), Some(value)),
        Some(_) if updates => (format!("UPDATE {name} SET v={value} WHERE id={id}"), Some(value)),
        Some(_) if kind < 2 => (format!("DELETE FROM {name} WHERE id={id}"), None),
        Some(_) => {
            (format!("REPLACE INTO {name} (id,title,v) VALUES ({id},'w{value}',{value})"), Some(value))
        }
    };
    document.allowed.insert(wants);
    document.settled = false;
    document.emptied = emptying;
    let shard = format!("system.{name}_s{}", shard_of(id, shards));
    Some(Write { table: name, shard, node, id, sql, had, wants })
}

/// Asks the controllers in turn until one leads; the reply, or `None` when the outcome is unknown.
pub async fn ask_leader(
    wire: &Wire,
    play: &SharedPlay,
    statement: &ShardingStatement,
) -> Option<StatementReply> {
    let controllers = play.borrow().controllers.max(1);
    for at in 0..200 {
        let ask = Ask::Statement {
            controller: at % controllers,
            statement: Box::new(statement.clone()),
            time_max: STATEMENT_TIME_MAX,
        };
        match wire.ask(ask).await {
            Answer::Statement(reply) => return Some(reply),
            Answer::NotLeader | Answer::Refused => {}
            _ => return None,
        }
        wire.sleep(200).await;
    }
    None
}

/// Creates a table and waits for the answer.
pub async fn create(wire: Wire, play: SharedPlay, name: String, shards: u32, rf: u32) -> Finish {
    let Ok(table) = TableName::new(name.clone()) else { return Finish::Nothing };
    let before = play.borrow().tables.get(&name).map(|table| table.is);
    if matches!(before, Some(TableIs::Maybe | TableIs::There | TableIs::Leaving)) {
        return Finish::Nothing;
    }
    let entry = Table {
        is: TableIs::Maybe,
        shards,
        rf: BTreeSet::from([rf]),
        changes: (0, 0),
        emptying: 0,
        documents: BTreeMap::new(),
    };
    play.borrow_mut().tables.insert(name.clone(), entry);
    play.borrow_mut().asking += 1;
    let spec = TableSpec { name: table, cluster: Some("c".to_owned()), schema: schema(), shards, rf };
    let statement = ShardingStatement::CreateTable { spec, if_not_exists: false, timeout_seconds: 60 };
    let reply = ask_leader(&wire, &play, &statement).await;
    let mut play = play.borrow_mut();
    play.asking -= 1;
    if let Some(table) = play.tables.get_mut(&name) {
        match reply {
            Some(StatementReply::Ok) => table.is = TableIs::There,
            // A time-out names a table that is still being undone; then it is not there for clients either.
            Some(_) | None => table.is = TableIs::Maybe,
        }
    }
    Finish::Nothing
}

/// Drops a table once no client writes to it.
pub async fn drop(wire: Wire, play: SharedPlay, name: String) -> Finish {
    let Ok(table) = TableName::new(name.clone()) else { return Finish::Nothing };
    match play.borrow_mut().tables.get_mut(&name) {
        Some(table) if table.is == TableIs::There => table.is = TableIs::Leaving,
        _ => return Finish::Nothing,
    }
    play.borrow_mut().asking += 1;
    let statement =
        ShardingStatement::DropTable { name: table, cluster: Some("c".to_owned()), if_exists: false };
    let reply = ask_leader(&wire, &play, &statement).await;
    let mut play = play.borrow_mut();
    play.asking -= 1;
    if let (Some(StatementReply::Ok), Some(table)) = (&reply, play.tables.get_mut(&name)) {
        table.is = TableIs::Gone;
        table.documents.clear();
    }
    Finish::Nothing
}

/// Asks once whether the node may start.
pub async fn gate(wire: Wire, play: SharedPlay, node: NodeId) -> Finish {
    let statement = ShardingStatement::Gate { node: node.clone() };
    let reply = ask_leader(&wire, &play, &statement).await;
    let gate = match &reply {
        Some(StatementReply::Object(object)) => match object.as_ref() {
            OrderReply::Gate(gate) if gate.held.is_empty() => Some(gate.forget.clone()),
            _ => None,
        },
        _ => None,
    };
    let mut play = play.borrow_mut();
    play.gates.insert(node.clone(), if gate.is_some() { Gate::Open } else { Gate::Shut });
    play.forget.insert(node, gate.unwrap_or_default());
    Finish::Nothing
}

/// Makes the user's own cluster: the first node creates it, or the others join it.
pub async fn join_user_cluster(wire: Wire, play: SharedPlay, node: NodeId, first: NodeId) -> Finish {
    play.borrow_mut().asking += 1;
    user_cluster(wire, &play, node, first).await;
    play.borrow_mut().asking -= 1;
    Finish::Nothing
}

async fn user_cluster(wire: Wire, play: &SharedPlay, node: NodeId, first: NodeId) {
    let mut at = first;
    // One that is killed meanwhile may be away for a minute.
    for _ in 0..400 {
        let sql =
            if node == at { "CREATE CLUSTER c".to_owned() } else { format!("JOIN CLUSTER c AT '{at}'") };
        match wire.sql(&node, sql.clone(), 60_000).await {
            Answer::Sql(Ok(_)) => return,
            Answer::Sql(Err(error)) if error.message.contains("already exists") => return,
            _ => wire.sleep(500).await,
        }
        // Whoever was asked may be gone, or may have left the cluster.
        if node != at {
            let live = play.borrow().live.clone();
            let mut others = live.iter().filter(|other| **other != node);
            let next = others.clone().find(|other| **other > at).or_else(|| others.next());
            at = next.cloned().unwrap_or(at);
        }
    }
}
