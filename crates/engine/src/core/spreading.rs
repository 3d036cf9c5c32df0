//! Statements through routing tables: split by shard, sent to mirrors, gathered.

use super::{Asker, Engine, peers::Loss};
use crate::{
    exec,
    io::{Reply, SqlError},
    routing::{Mirror, Part, Route, Rows, Spread, SpreadKind, Token, Work, shard_of},
    sql::{
        ast::{Delete, Insert, Select, TableRef, Update},
        expr::{BinaryOp, Expr, Literal},
    },
    storage::Row,
};

/// How often one part is tried again elsewhere.
const RETRIES_MAX: usize = 2;

impl Engine {
    pub(super) fn spread_select(&mut self, asker: Asker, select: Select) {
        let work = match exec::shard_select(&select) {
            Ok(part) => Work::Select(part),
            Err(error) => return self.answer(asker, Err(error)),
        };
        let mut parts = Vec::new();
        for table in &select.from {
            if let Some(route) = self.routes.get(table) {
                for target in &route.targets {
                    let mut part = Part::new(parts.len(), target.mirrors.clone(), work.clone());
                    part.read_as.clone_from(table);
                    parts.push(part);
                }
            } else if self.node.storage.schema(table).is_some() {
                let own = Mirror { node: None, table: table.clone() };
                parts.push(Part::new(parts.len(), vec![own], work.clone()));
            } else {
                let text = format!("unknown local table(s) '{table}' in search request");
                return self.answer(asker, Err(SqlError::new(text)));
            }
        }
        self.spread(asker, SpreadKind::Select(Box::new(select)), parts);
    }

    /// INSERT and REPLACE: each document to one mirror of its shard.
    pub(super) fn spread_put(&mut self, asker: Asker, insert: &Insert) {
        let Some(route) = self.routes.get(&insert.table.name) else { return };
        let node = &mut self.node;
        let ids = &mut node.ids;
        let rows = match exec::typed_rows(insert, &route.definition.schema, &mut || ids.next()) {
            Ok(rows) => rows,
            Err(error) => return self.answer(asker, Err(error)),
        };
        let named = rows.len() as u64;
        let mut shards: Vec<Vec<Row>> = vec![Vec::new(); route.targets.len()];
        for row in rows {
            shards[shard_of(row.id, route.targets.len())].push(row);
        }
        let filled = shards.iter().zip(&route.targets).enumerate().filter(|(_, (rows, _))| !rows.is_empty());
        let parts = filled
            .map(|(at, (rows, target))| {
                let rows_bytes = Rows::encode(rows);
                let token = Token(u128::from(node.random()) << 64 | u128::from(node.random()));
                let (table, replace) = (String::new(), insert.replace);
                let work = Work::Put { table, replace, rows: rows_bytes, token };
                let mut part = Part::new(at, target.mirrors.clone(), work);
                part.ids = rows.iter().map(|row| row.id).collect();
                part
            })
            .collect();
        self.spread(asker, SpreadKind::Put(named), parts);
    }

    /// UPDATE goes to every mirror of every shard.
    pub(super) fn spread_update(&mut self, asker: Asker, update: &Update) {
        let Some(route) = self.routes.get(&update.table.name) else { return };
        let mut parts = Vec::new();
        for (at, target) in route.targets.iter().enumerate() {
            for mirror in &target.mirrors {
                parts.push(Part::new(at, vec![mirror.clone()], Work::Update(update.clone())));
            }
        }
        self.spread(asker, SpreadKind::Update, parts);
    }

    /// DELETE goes to one mirror of each shard that can have the documents.
    pub(super) fn spread_delete(&mut self, asker: Asker, delete: &Delete) {
        let Some(route) = self.routes.get(&delete.table.name) else { return };
        let plain = TableRef { cluster: None, name: String::new() };
        let concerned = concerned(route, delete);
        let parts = route
            .targets
            .iter()
            .enumerate()
            .filter(|(at, _)| concerned.as_ref().is_none_or(|shards| shards.contains(at)))
            .map(|(at, target)| {
                let work = Work::Delete(Delete { table: plain.clone(), ..delete.clone() });
                Part::new(at, target.mirrors.clone(), work)
            })
            .collect();
        self.spread(asker, SpreadKind::Delete, parts);
    }

    fn spread(&mut self, asker: Asker, kind: SpreadKind, parts: Vec<Part>) {
        let number = self.number();
        let count = parts.len();
        self.spreads.insert(number, Spread { kind, parts });
        self.spread_askers.insert(number, asker);
        for part in 0..count {
            self.start_part(number, part);
        }
        self.end_spread(number);
    }

    /// Asks the next mirror of a part, or ends the part when there is none.
    fn start_part(&mut self, number: u64, at: usize) {
        let now = self.node.now;
        let Some(part) = self.spreads.get_mut(&number).and_then(|spread| spread.parts.get_mut(at)) else {
            return;
        };
        let Some(choice) = self.health.choose(&part.mirrors, &part.tried, &self.config.node, now) else {
            return;
        };
        part.tried.push(choice);
        part.begun.get_or_insert(now);
        let Mirror { node, table } = part.mirrors[choice].clone();
        let work = part.work.on(&table);
        match node.filter(|node| *node != self.config.node) {
            Some(node) => self.call(&node, number, at, work),
            None => self.work(Asker::Part { spread: number, part: at }, work),
        }
    }

    /// A mirror has answered.
    pub(super) fn part_done(&mut self, number: u64, at: usize, result: Result<Reply, SqlError>) {
        if let Some(part) = self.spreads.get_mut(&number).and_then(|spread| spread.parts.get_mut(at)) {
            part.outcome = Some(result.map_err(|error| part.framed(&error)));
            self.end_spread(number);
        }
    }

    /// A mirror will not answer. Reads go to another one; writes too when the first has certainly not got them, and
    /// documents also with the question whether it has.
    pub(super) fn part_cut_off(&mut self, number: u64, at: usize, loss: Loss) {
        let Some(part) = self.spreads.get_mut(&number).and_then(|spread| spread.parts.get_mut(at)) else {
            return;
        };
        let safe = loss == Loss::Unsent || !part.work.is_write();
        let left = part.tried.len() < part.mirrors.len() && part.tried.len() <= RETRIES_MAX;
        let now = self.node.now;
        let gone = part.asked().and_then(|mirror| mirror.node.clone());
        let again = gone.and_then(|gone| part.work.again(&gone, now.since(part.begun.unwrap_or(now))));
        if safe && left {
            self.start_part(number, at);
        } else if let Some(again) = again.filter(|_| left && loss == Loss::Broken) {
            part.work = again;
            self.start_part(number, at);
        } else {
            // The last mirror that is asked again may have got nothing: the one before it may have.
            let open = loss == Loss::Unsent && matches!(part.work, Work::PutAgain { .. });
            let loss = if open { Loss::Broken } else { loss };
            part.outcome = Some(Err(part.cut_off(loss.reason())));
            self.end_spread(number);
        }
    }

    fn end_spread(&mut self, number: u64) {
        if self.spreads.get(&number).is_some_and(Spread::is_done)
            && let Some(spread) = self.spreads.remove(&number)
            && let Some(asker) = self.spread_askers.remove(&number)
        {
            self.answer(asker, spread.answer());
        }
    }
}

/// The shards that a DELETE by ids concerns; `None`: any.
fn concerned(route: &Route, delete: &Delete) -> Option<Vec<usize>> {
    let ids = ids_named(delete.filter.as_ref()?)?;
    Some(ids.into_iter().map(|id| shard_of(id, route.targets.len())).collect())
}

/// The ids of `id=…` or `id IN (…)`, when the condition is just that.
fn ids_named(filter: &Expr) -> Option<Vec<i64>> {
    let is_id = |expr: &Expr| matches!(expr, Expr::Column(name) if name == "id");
    let number = |literal: &Literal| match literal {
        Literal::Int(id) => Some(*id),
        Literal::Unsigned(id) => Some(*id as i64),
        _ => None,
    };
    match filter {
        Expr::Binary { op: BinaryOp::Equal, left, right } => match (&**left, &**right) {
            (id, Expr::Literal(literal)) | (Expr::Literal(literal), id) if is_id(id) => {
                Some(vec![number(literal)?])
            }
            _ => None,
        },
        Expr::In { subject, negated: false, list } if is_id(subject) => list.iter().map(number).collect(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::{Statement, parse};

    #[test]
    fn only_a_condition_on_ids_alone_limits_the_shards() {
        let ids = |condition: &str| {
            let Ok(Statement::Delete(delete)) = parse(&format!("DELETE FROM t WHERE {condition}")) else {
                panic!("{condition}")
            };
            ids_named(&delete.filter.expect("a condition"))
        };
        assert_eq!(ids("id=7"), Some(vec![7]));
        assert_eq!(ids("id IN (7,-8)"), Some(vec![7, -8]));
        for other in ["id>7", "id=7 AND v=1", "id NOT IN (7)", "v=7", "id=7 OR id=8"] {
            assert_eq!(ids(other), None, "{other}");
        }
    }
}
