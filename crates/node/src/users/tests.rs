//! Who is let in, what he may, and what is kept of it: without a node around it.

use super::*;
use std::os::unix::fs::PermissionsExt as _;

const ADMIN: &str = "root1";

fn users(dir: &Path) -> Users {
    let first = Login::parse("root1:password-of-root1").expect("a login");
    Users::open(dir, &first).expect("opened")
}

fn rows(users: &Users, by: &str, sql: &str) -> Result<Vec<Vec<String>>, String> {
    let answer = users.answer(by, sql).expect("a statement about users").map_err(|error| error.message)?;
    let Reply::Rows(set) = answer else { return Ok(Vec::new()) };
    let text = |value: Value| match value {
        Value::Text(text) => text,
        other => panic!("{other:?} is no text"),
    };
    Ok(set.rows.into_iter().map(|row| row.into_iter().map(text).collect()).collect())
}

fn done(users: &Users, sql: &str) -> Vec<Vec<String>> {
    rows(users, ADMIN, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// What a client of MySQL answers to the nonce.
fn scrambled(password: &str, nonce: &[u8; NONCE_LEN]) -> Vec<u8> {
    let once = Sha1::digest(password);
    let mask = Sha1::new().chain_update(nonce).chain_update(Sha1::digest(once)).finalize();
    once.iter().zip(mask).map(|(a, b)| a ^ b).collect()
}

#[test]
fn only_a_right_password_and_a_known_token_let_in() {
    let dir = tempfile::tempdir().expect("a directory");
    let users = users(dir.path());
    let made = done(&users, "CREATE USER 'ann' IDENTIFIED BY 'password-of-ann'");
    let (nonce, other) = ([3; NONCE_LEN], [4; NONCE_LEN]);
    let right = scrambled("password-of-ann", &nonce);
    assert_eq!(users.by_scramble("ann", &nonce, &right).ok().as_deref(), Some("ann"));
    // Heard on the wire, and said again.
    assert!(users.by_scramble("ann", &other, &right).is_err());
    let wrong = scrambled("password-of-bob", &nonce);
    for (user, said) in [
        ("ann", &wrong[..]),
        ("ann", &right[..19]),
        ("ann", b""),
        (ADMIN, &right[..]),
        ("nobody", &right[..]),
        ("", b""),
        (SIDECAR, b""),
    ] {
        let error = users.by_scramble(user, &nonce, said).expect_err(user);
        assert_eq!(error.code, DENIED, "{user}");
    }
    assert_eq!(users.by_password("ann", "password-of-ann").ok().as_deref(), Some("ann"));
    for (user, password) in
        [("ann", "wrong"), ("ann", ""), ("nobody", ""), (ADMIN, "password-of-ann"), ("", "")]
    {
        assert!(users.by_password(user, password).is_err(), "{user} by {password}");
    }
    assert_eq!(users.by_token(&made[0][0]).ok().as_deref(), Some("ann"));
    assert_eq!(users.by_token(users.sidecar_token()).ok().as_deref(), Some(SIDECAR));
    // The administrator has no token, and what is kept of one opens nothing.
    let kept = users.accounts()["ann"].token_sha256.clone();
    for token in ["", "x", &"0".repeat(64), &kept] {
        assert!(users.by_token(token).is_err(), "{token}");
    }
    done(&users, "DROP USER 'ann'");
    assert!(users.by_scramble("ann", &nonce, &right).is_err());
    assert!(users.by_password("ann", "password-of-ann").is_err());
    assert!(users.by_token(&made[0][0]).is_err());
}

#[test]
fn each_may_what_was_granted_and_sees_what_he_may_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let users = users(dir.path());
    for sql in [
        "CREATE USER 'ann' IDENTIFIED BY 'password-of-ann'",
        "GRANT read ON 'm*' TO 'ann'",
        "GRANT read ON 'm2' TO 'ann' WITH ALLOW 0",
    ] {
        done(&users, sql);
    }
    assert!(users.permit("ann", "SELECT * FROM m1").is_ok());
    for sql in ["SELECT * FROM m2", "SELECT * FROM m1, z1", "DELETE FROM m1 WHERE id = 1", "DROP TABLE m1"] {
        assert_eq!(users.permit("ann", sql).expect_err(sql).code, DENIED);
    }
    for user in [ADMIN, SIDECAR] {
        assert!(users.permit(user, "DROP TABLE m1").is_ok(), "{user}");
    }
    for user in ["nobody", ""] {
        assert!(users.permit(user, "SELECT 1").is_err(), "{user}");
    }
    let names = ["m1", "m2", "z1"].map(|name| vec![name.to_owned(), "rt".to_owned()]);
    let seen = |user: &str, sql: &str| match users.shown(user, sql, table(&["Table", "Type"], names.to_vec()))
    {
        Reply::Rows(set) => (set.rows.len(), set.total),
        other @ Reply::Done { .. } => panic!("{other:?}"),
    };
    assert_eq!(seen("ann", "SHOW TABLES"), (1, 1));
    assert_eq!(seen(ADMIN, "SHOW TABLES"), (3, 3));
    assert_eq!(seen("ann", "SELECT * FROM m1"), (3, 3));
}

#[test]
fn users_are_an_administrators_matter_and_each_sees_his_own_rules() {
    let dir = tempfile::tempdir().expect("a directory");
    let users = users(dir.path());
    for name in ["ann", "bob"] {
        done(&users, &format!("CREATE USER '{name}' IDENTIFIED BY 'password-of-{name}'"));
        done(&users, &format!("GRANT read ON '*' TO '{name}'"));
    }
    for sql in [
        "SHOW USERS",
        "SHOW PERMISSIONS FOR 'bob'",
        "CREATE USER 'eve' IDENTIFIED BY 'password-of-eve'",
        "DROP USER 'bob'",
        "GRANT admin ON '*' TO 'ann'",
        "REVOKE read ON '*' FROM 'bob'",
    ] {
        assert_eq!(rows(&users, "ann", sql), Err("Permission denied for user 'ann'".to_owned()), "{sql}");
    }
    let own = rows(&users, "ann", "SHOW PERMISSIONS").expect("his own");
    assert!(own.len() == 1 && own[0][0] == "ann", "{own:?}");
    assert!(done(&users, "SHOW PERMISSIONS").iter().any(|row| row[0] == "bob"));
    // What would pass for another, cannot be told by HTTP's Basic, or is easily guessed.
    let long = "x".repeat(NAME_LENGTH_MAX + 1);
    for name in ["ann", SIDECAR, "a:b", "a\\nb", &long] {
        let sql = format!("CREATE USER '{name}' IDENTIFIED BY 'password-of-eve'");
        assert!(rows(&users, ADMIN, &sql).is_err(), "{sql}");
    }
    assert!(rows(&users, ADMIN, "CREATE USER 'eve' IDENTIFIED BY 'seven77'").is_err());
    assert!(rows(&users, ADMIN, "GRANT read ON '*' TO 'ann' WITH ALLOW 0").is_err(), "two rules that differ");
    assert!(rows(&users, ADMIN, "GRANT fly ON '*' TO 'ann'").is_err());
}

#[test]
fn what_is_changed_is_kept_for_its_owner_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = users(dir.path());
    done(&first, "CREATE USER 'ann' IDENTIFIED BY 'password-of-ann'");
    let file = dir.path().join("users.json");
    let mode = std::fs::metadata(&file).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = std::fs::read_to_string(&file).expect("read");
    assert!(text.contains("ann") && !text.contains("password-of"), "{text}");
    drop(first);
    // The first administrator is made once: who has another password by now keeps it.
    let again = Users::open(dir.path(), &Login::parse("root1:another-password").expect("a login"));
    let again = again.expect("opened");
    assert!(again.by_password("ann", "password-of-ann").is_ok());
    assert!(again.by_password(ADMIN, "password-of-root1").is_ok());
    assert!(again.by_password(ADMIN, "another-password").is_err());
    std::fs::write(&file, "{").expect("written");
    let damaged = Users::open(dir.path(), &Login::parse("root1:another-password").expect("a login"));
    assert!(matches!(damaged, Err(NodeError::Damaged { .. })));
}

/// `count` users, the administrator among them, and as many rules of his.
fn many(dir: &Path, count: usize) -> Users {
    let administrator = Account::of_administrator(&Login::parse("root1:password-of-root1").expect("a login"));
    let nobody = Account { rules: Vec::new(), ..administrator.clone() };
    let rule = |n| UserRule { action: UserAction::Read, target: format!("t{n}"), allow: true };
    let rules = administrator.rules.iter().cloned().chain((administrator.rules.len()..count).map(rule));
    let first = Account { rules: rules.collect(), ..administrator.clone() };
    let others = (1..count).map(|n| (format!("u{n}"), nobody.clone()));
    let accounts: Accounts = others.chain([(ADMIN.to_owned(), first)]).collect();
    keep(&dir.join("users.json"), &accounts).expect("kept");
    users(dir)
}

#[test]
fn there_are_at_most_a_thousand_users_and_a_thousand_rules_of_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let users = many(dir.path(), 999);
    done(&users, "CREATE USER 'last' IDENTIFIED BY 'password-of-last'");
    let error =
        rows(&users, ADMIN, "CREATE USER 'more' IDENTIFIED BY 'password-of-more'").expect_err("too many");
    assert!(error.contains("1000 users"), "{error}");
    done(&users, "GRANT read ON 'last' TO 'root1'");
    let error = rows(&users, ADMIN, "GRANT read ON 'more' TO 'root1'").expect_err("too many");
    assert!(error.contains("1000 rules"), "{error}");
    // Kept so, and what is taken away makes room.
    let users = self::users(dir.path());
    assert_eq!(users.accounts().len(), 1000);
    done(&users, "DROP USER 'last'");
    done(&users, "CREATE USER 'more' IDENTIFIED BY 'password-of-more'");
    done(&users, "REVOKE read ON 'last' FROM 'root1'");
    done(&users, "GRANT read ON 'more' TO 'root1'");
}

/// What each of eight says at once, and how many of them succeed.
fn at_once(users: &Users, statement: impl Fn(usize) -> String + Sync) -> usize {
    let gate = std::sync::Barrier::new(8);
    let say = &|n| {
        gate.wait();
        rows(users, ADMIN, &statement(n)).is_ok()
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..8).map(|n| scope.spawn(move || say(n))).collect();
        all.into_iter().map(|one| usize::from(one.join().expect("no panic"))).sum()
    })
}

#[test]
fn of_those_who_come_at_once_one_finds_the_last_place() {
    let dir = tempfile::tempdir().expect("a directory");
    let users = many(dir.path(), 999);
    assert_eq!(at_once(&users, |n| format!("CREATE USER 'new{n}' IDENTIFIED BY 'password-of-new'")), 1);
    assert_eq!(users.accounts().len(), 1000);
    assert_eq!(at_once(&users, |_| "GRANT write ON 'same' TO 'root1'".to_owned()), 1);
    let same =
        |users: &Users| users.accounts()[ADMIN].rules.iter().filter(|rule| rule.target == "same").count();
    assert_eq!(same(&users), 1);
}

#[test]
fn whose_rights_ended_while_he_waited_changes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let users = users(dir.path());
    done(&users, "CREATE USER 'ann' IDENTIFIED BY 'password-of-ann'");
    done(&users, "GRANT admin ON '*' TO 'ann'");
    let order = || order::read("GRANT admin ON '*' TO 'ann'").expect("an order");
    done(&users, "REVOKE admin ON '*' FROM 'ann'");
    // He was an administrator when he was looked at.
    let error = users.carry_out("ann", order()).expect_err("not any more");
    assert_eq!(error.code, DENIED);
    assert!(users.accounts()["ann"].rules.is_empty());
}
