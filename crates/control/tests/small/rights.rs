//! What searchd's users may ask for, cell by cell, and what they see of lists.

use super::world::{World, node, table};
use model::wire::{RebalanceOrder, Select, ShardingStatement as S, StatementReply, View, ViewQuery};
use model::{TableSpec, UserAction, UserRights, UserRule};
use std::collections::BTreeMap;

fn user(rules: &[(UserAction, &str, bool)]) -> UserRights {
    let rule = |&(action, target, allow): &(UserAction, &str, bool)| UserRule {
        action,
        target: target.to_owned(),
        allow,
    };
    UserRights { user: "ann".to_owned(), rules: rules.iter().map(rule).collect() }
}

fn view(view: View, select: Select) -> S {
    S::SelectView { query: ViewQuery { view, select, conditions: Vec::new(), order: None, limit: None } }
}

fn create(name: &str) -> S {
    let spec = TableSpec {
        name: table(name),
        cluster: Some("c".to_owned()),
        schema: model::Schema::default(),
        shards: 1,
        rf: 2,
    };
    S::CreateTable { spec, if_not_exists: true, timeout_seconds: 60 }
}

/// `secret` beside `t`, both on the same nodes.
fn world() -> World {
    let mut world = World::with_table(1, 3, 2, 2);
    world.made("secret", 2, 2);
    world
}

fn told(world: &mut World, statement: S, rights: &UserRights) -> StatementReply {
    let request = world.ask_as(statement, Some(rights.clone()));
    world.answer_to(request)
}

fn rows(reply: StatementReply) -> Vec<Vec<Option<String>>> {
    match reply {
        StatementReply::Rows { rows, .. } => rows,
        other => panic!("no rows: {other:?}"),
    }
}

/// Each statement, with those of [`users`] who may have it done.
fn statements() -> Vec<(S, &'static [&'static str])> {
    const ANYONE: &[&str] = &["nobody", "read t", "read all", "write t", "schema t", "cluster", "admin"];
    let t = || table("t");
    let shard_move = S::MoveShard { name: t(), shard: 0, from: node(1), to: node(1), split: false };
    vec![
        (create("t"), &["schema t"]),
        (S::DropTable { name: t(), cluster: None, if_exists: true }, &["schema t"]),
        (S::SetRf { name: t(), cluster: Some("c".to_owned()), rf: 2 }, &["schema t"]),
        (S::TruncateTable { name: t() }, &["write t"]),
        (S::OptimizeTable { name: t() }, &["write t"]),
        (S::FlushRamchunk { name: t() }, &["write t"]),
        (S::ShowStatus { cluster: None, name: Some(t()) }, &["read t", "read all"]),
        (S::ExplainShard { name: t(), shard: 0 }, &["read t", "read all"]),
        (S::ShowStatus { cluster: None, name: None }, ANYONE),
        (S::ShowMaster, ANYONE),
        (S::ShowOperations, ANYONE),
        (S::ShowAlerts, ANYONE),
        (view(View::Table, Select::All), ANYONE),
        (view(View::State, Select::All), &["admin"]),
        (view(View::Queue, Select::Count), &["admin"]),
        (S::ShowQueue, &["admin"]),
        (S::Rebalance { name: t(), order: RebalanceOrder::DryRun }, &["read all"]),
        (S::Rebalance { name: t(), order: RebalanceOrder::Status }, &["read all"]),
        (S::Rebalance { name: t(), order: RebalanceOrder::Pause }, &["cluster"]),
        (S::Rebalance { name: t(), order: RebalanceOrder::Resume }, &["cluster"]),
        (shard_move, &["cluster"]),
        (S::DrainNode { node: node(1) }, &["cluster"]),
        (S::UndrainNode { node: node(1) }, &["cluster"]),
        (S::RemoveNode { node: node(1) }, &["admin"]),
        (S::Recover, &[]),
        (S::CleanUp, &[]),
        (S::Gate { node: node(1) }, &[]),
    ]
}

fn users() -> BTreeMap<&'static str, UserRights> {
    use UserAction::{Admin, Read, Replication, Schema, Write};
    [
        ("nobody", user(&[])),
        ("read t", user(&[(Read, "t", true)])),
        ("read all", user(&[(Read, "*", true)])),
        ("write t", user(&[(Write, "?", true), (Write, "x", false)])),
        ("schema t", user(&[(Schema, "t*", true)])),
        ("cluster", user(&[(Replication, "c", true)])),
        ("admin", user(&[(Admin, "*", true)])),
    ]
    .into()
}

#[test]
fn each_statement_is_for_those_whom_searchd_allows_the_like_of_it() {
    let mut world = world();
    for (statement, allowed) in statements() {
        for (name, rights) in users() {
            let before = world.state().clone();
            // A refusal comes at once; what is done may take its time.
            let request = world.ask_as(statement.clone(), Some(rights.clone()));
            world.step();
            let reply = world.answers.get(&request);
            let denied = matches!(reply, Some(StatementReply::Error { message }) if message.starts_with("Permission denied for user 'ann'"));
            assert_eq!(!denied, allowed.contains(&name), "{name}: {statement:?}: {reply:?}");
            if denied {
                let (before, after) = (before, world.state());
                assert_eq!(before.next_operation, after.next_operation, "{name}: {statement:?}");
            }
        }
    }
}

#[test]
fn a_refusal_names_what_is_missing() {
    let mut world = world();
    let message = |world: &mut World, statement| match told(world, statement, &user(&[])) {
        StatementReply::Error { message } => message,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        message(&mut world, create("new")),
        "Permission denied for user 'ann': requires schema permission on table 'new'"
    );
    assert_eq!(
        message(&mut world, S::DrainNode { node: node(1) }),
        "Permission denied for user 'ann': requires replication permission on cluster 'c'"
    );
}

#[test]
fn lists_show_what_the_user_may_see_and_count_nothing_else() {
    let mut world = world();
    let mut tables = |statement: S, column: usize, rights: &UserRights| {
        let mut found: Vec<String> = rows(told(&mut world, statement, rights))
            .into_iter()
            .filter_map(|row| row[column].clone())
            .collect();
        found.dedup();
        found
    };
    let status = || S::ShowStatus { cluster: None, name: None };
    let held = |select| view(View::Table, select);
    let all = user(&[(UserAction::Read, "*", true)]);
    let one = user(&[(UserAction::Read, "t", true)]);
    let but_one = user(&[(UserAction::Read, "*", true), (UserAction::Read, "secret", false)]);
    let none = user(&[]);
    assert_eq!(tables(status(), 0, &all), ["secret", "t"]);
    assert_eq!(tables(status(), 0, &one), ["t"]);
    assert_eq!(tables(status(), 0, &but_one), ["t"]);
    assert!(tables(status(), 0, &none).is_empty());
    let whole: u32 = tables(held(Select::Count), 0, &all)[0].parse().expect("a number");
    let part: u32 = tables(held(Select::Count), 0, &one)[0].parse().expect("a number");
    assert!(part > 0 && part < whole, "{part} of {whole}");
    assert_eq!(tables(held(Select::Count), 0, &none), ["0"]);
    // The one that made `secret`, and what it left for groups with a shard of it, are not told of.
    let told_of = tables(S::ShowOperations, 2, &one);
    assert!(told_of.contains(&"t".to_owned()) && !told_of.contains(&"secret".to_owned()), "{told_of:?}");
    assert!(tables(S::ShowOperations, 2, &all).contains(&"secret".to_owned()));
}

#[test]
fn an_alert_that_names_a_table_is_for_who_may_see_it() {
    let mut world = world();
    for n in 1..=3 {
        world.kill(&node(n));
    }
    world.until("an alert", |world| {
        matches!(world.controller.show(&S::ShowAlerts), StatementReply::Rows { rows, .. } if !rows.is_empty())
    });
    let all = user(&[(UserAction::Read, "*", true)]);
    assert!(!rows(told(&mut world, S::ShowAlerts, &all)).is_empty());
    assert!(rows(told(&mut world, S::ShowAlerts, &user(&[]))).is_empty());
}
