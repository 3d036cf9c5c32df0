//! Tokens are kept in the log, and what a request asked for is named.

use control::{Config, Controller, Effect, Input, Record, RequestId};
use model::wire::StatementReply;
use model::{AccessToken, AuditMark, Millis, Role, Settings, TokenOrder};

fn controller() -> Controller {
    let config =
        Config { name: "c:1".to_owned(), log_id: "0".repeat(32), settings: Settings::default(), seed: 1 };
    Controller::open(config, None, Vec::new()).expect("an empty log")
}

fn token(name: &str, expires: Option<u64>) -> TokenOrder {
    let (role, sha256) = (Role::Viewer, "f".repeat(64));
    TokenOrder::Add(AccessToken { name: name.to_owned(), role, sha256, created: 1, expires })
}

/// The answer to an order, and the records that it asked for.
fn order(controller: &mut Controller, order: TokenOrder, unix: u64) -> (StatementReply, Vec<Record>) {
    let input = Input::Token { request: RequestId(7), order };
    let out = controller.tick(Millis(1), unix, vec![input]);
    let reply = out.effects.iter().find_map(|effect| match effect {
        Effect::Answer { request: RequestId(7), reply } => Some(reply.clone()),
        _ => None,
    });
    let asked = out.asked.iter().find(|(request, _)| *request == RequestId(7));
    let asked = asked.map(|(_, range)| out.records[range.clone()].to_vec()).unwrap_or_default();
    (reply.expect("answered"), asked)
}

#[test]
fn a_token_is_made_once_and_revoked_once() {
    let mut controller = controller();
    let (reply, asked) = order(&mut controller, token("ci", Some(100)), 50);
    assert_eq!(reply, StatementReply::Ok);
    assert!(matches!(&asked[..], [Record::TokenAdded { token }] if token.name == "ci"), "{asked:?}");
    let (reply, asked) = order(&mut controller, token("ci", None), 99);
    assert!(matches!(&reply, StatementReply::Error { message } if message.contains("already exists")));
    assert!(asked.is_empty());
    // One that has expired makes room for its name.
    assert_eq!(order(&mut controller, token("ci", None), 100).0, StatementReply::Ok);
    let bad = order(&mut controller, token("no such name!", None), 100).0;
    assert!(matches!(bad, StatementReply::Error { .. }));
    let revoke = || TokenOrder::Revoke { name: "ci".to_owned() };
    assert_eq!(order(&mut controller, revoke(), 101).0, StatementReply::Ok);
    assert!(controller.state().tokens.is_empty());
    let gone = order(&mut controller, revoke(), 102).0;
    assert!(matches!(&gone, StatementReply::Error { message } if message.contains("does not exist")));
}

#[test]
fn the_log_knows_how_far_each_audit_log_goes() {
    let mut controller = controller();
    for last in [3, 9] {
        let mark = AuditMark {
            log: "a".repeat(32),
            controller: "c:1".to_owned(),
            last,
            hash: "b".repeat(64),
            first: 1,
        };
        controller.tick(Millis(1), 1, vec![Input::Audited(mark)]);
    }
    let known: Vec<u64> = controller.state().audits.values().map(|mark| mark.last).collect();
    assert_eq!(known, [9]);
}
