use super::*;

fn ours() -> BTreeSet<TableName> {
    ["t", "orders"].into_iter().map(|name| TableName::new(name).expect("valid")).collect()
}

fn decided(sql: &str, error: &str, stayed_primary: bool) -> Decision {
    decide(sql, error, Facts { ours: &ours(), stayed_primary })
}

const INSERT: &str = "INSERT INTO t (id,title) VALUES (1,'a;b'),(2,'it\\'s (2)'),(3,'c')";
const REFUSED: &str = "remote table 'system.t_s0' at n1:9312 failed: remote error: cluster 'g0' is not ready, not primary state (synced)";
const CONFLICT: &str = "remote table 'system.t_s0' at n1:9312 failed: remote error: error at PostRollback, code 3 (transaction aborted)";

#[derive(Clone, Copy, Debug, PartialEq)]
enum Is {
    Rerun,
    Without(&'static str),
    Error,
    Unknown,
}

fn check(sql: &str, error: &str, stayed_primary: bool, expected: Is) {
    let decision = decided(sql, error, stayed_primary);
    let fits = match (&decision, &expected) {
        (Decision::Rerun, Is::Rerun) | (Decision::ReturnError, Is::Error) => true,
        (Decision::RerunWithout { sql }, Is::Without(text)) => sql == text,
        (Decision::ReturnUnknown { message }, Is::Unknown) => {
            message.starts_with(error) && message.contains("may have been applied")
        }
        _ => false,
    };
    assert!(fits, "{sql}\n  {error}\n  is {decision:?}, not {expected:?}");
}

#[test]
fn the_router_without_a_table_lets_all_five_kinds_run_again() {
    for (sql, error) in [
        ("SELECT COUNT(*) FROM t", "unknown local table(s) 't' in search request"),
        ("SELECT * FROM t, orders", "unknown local table(s) 't,orders' in search request"),
        ("INSERT INTO t (title) VALUES ('no id')", "table 't' absent"),
        ("insert into T values (1)", "table 't' absent"),
        ("REPLACE INTO t SET v=1 WHERE id=1", "table 't' absent"),
        ("UPDATE t SET v=1 WHERE v>2", "unknown table 't' in update request"),
        ("DELETE FROM t WHERE v>2", "unknown table 't' in delete request"),
        ("SELECT 1 FROM t;", "unknown local table(s) 't' in search request"),
    ] {
        check(sql, error, false, Is::Rerun);
    }
}

/// Nobody listened there, so nothing was sent: seen on real nodes for a second after a kill -9.
#[test]
fn a_target_that_nobody_listens_at_was_sent_nothing() {
    let refused =
        "remote table 'system.t_s0' at 127.0.0.1:29458 failed: error when sending data: Connection refused";
    check(INSERT, refused, false, Is::Rerun);
    check(INSERT, &format!("{refused}; {REFUSED}"), false, Is::Rerun);
    check(
        INSERT,
        &refused.replace("error when sending data:", "connect() failed: errno=111,"),
        false,
        Is::Rerun,
    );
    check(
        INSERT,
        &format!("{refused}; processed_ids=3"),
        false,
        Is::Without("INSERT INTO t (id,title) VALUES (1,'a;b'),(2,'it\\'s (2)')"),
    );
    check("INSERT INTO t (title) VALUES ('a')", refused, false, Is::Error);
    check("UPDATE t SET v=1 WHERE id=1", refused, false, Is::Error);
    for open in [
        // It was there, and went.
        "remote table 'system.t_s0' at n1:9312 failed: error when sending data: Connection reset by peer",
        "remote table 'system.t_s0' at n1:9312 failed: error when sending data: Broken pipe",
        "remote table 'system.t_s0' at n1:9312 failed: receiving failure (errno=104, msg=Connection reset by peer)",
        // It says so of somebody else.
        "remote table 'system.t_s0' at n1:9312 failed: remote error: x failed: error when sending data: Connection refused",
        &format!("{refused} at first"),
        &format!("{refused}; remote table 'system.t_s1' at n1:9312 failed: query timed out"),
    ] {
        check(INSERT, open, false, Is::Unknown);
    }
}

#[test]
fn the_same_words_about_anything_else_do_not() {
    for (sql, error) in [
        // Not ours, or ours but not in the statement.
        ("SELECT * FROM u", "unknown local table(s) 'u' in search request"),
        ("SELECT * FROM t, u", "unknown local table(s) 'u' in search request"),
        ("SELECT * FROM t, u", "unknown local table(s) 't,u' in search request"),
        ("INSERT INTO u (id) VALUES (1)", "table 't' absent"),
        ("INSERT INTO t (title) VALUES ('a')", "table 't' absent in some other way"),
        // Of a target, for a SELECT: it is the answer of another node.
        (
            "SELECT * FROM t",
            "table t: agent n1:9312: remote query error: unknown local table(s) 'system.t_s0' in search request",
        ),
        ("SELECT * FROM t", REFUSED),
    ] {
        assert_ne!(decided(sql, error, true), Decision::Rerun, "{sql}: {error}");
    }
}

#[test]
fn what_belongs_to_something_larger_is_never_run_again() {
    for sql in [
        "COMMIT",
        "ROLLBACK",
        "BEGIN",
        "START TRANSACTION",
        "SET autocommit=0",
        "LOCK TABLES t READ",
        "UNLOCK TABLES",
        "INSERT INTO t (id) VALUES (1); INSERT INTO t (id) VALUES (2)",
        "COMMIT; SELECT * FROM t",
        "CREATE TABLE t (a int)",
        "DROP TABLE t",
        "ALTER TABLE t ADD COLUMN a int",
        "ALTER CLUSTER c ADD t",
        "TRUNCATE TABLE t",
        "OPTIMIZE TABLE t",
        "FLUSH RAMCHUNK t",
        "CALL PQ('t', 'x')",
        "{\"insert\":{\"table\":\"t\",\"id\":1,\"doc\":{}}}",
        "'unterminated",
        "",
    ] {
        for error in ["table 't' absent", REFUSED, CONFLICT, "connect and query timed out"] {
            check(sql, error, true, Is::Error);
        }
    }
    let txn = "table 't' absent, but current txn is on 'u'";
    check(INSERT, txn, true, Is::Error);
    check(INSERT, &format!("{REFUSED}; current txn aborted"), true, Is::Error);
}

#[test]
fn a_targets_refusal_lets_only_explicit_ids_run_again() {
    for error in [
        REFUSED,
        "remote table 'system.t_s0' at n1:9312 failed: remote error: table 'system.t_s0' absent",
        "remote table 'system.t_s0' at n1:9312 failed: remote error: table 'system.t_s0' doesn't belong to cluster 'g0'",
        "remote table 'system.t_s0' at n1:9312 failed: remote error: cluster 'g0' is exiting",
        "remote table 'system.t_s0' at n1:9312 failed: remote error: unknown cluster 'g0'",
        "table 'system.t_s0' is locked",
    ] {
        for sql in [
            INSERT,
            "REPLACE INTO t (title,id) VALUES ('a',-5)",
            "INSERT INTO t (id,tags) VALUES (1,(1,2)),(2,())",
            "DELETE FROM t WHERE id=7",
            "DELETE FROM t WHERE id IN (7,8)",
        ] {
            check(sql, error, false, Is::Rerun);
        }
        for sql in [
            "INSERT INTO t (title) VALUES ('a')",
            "INSERT INTO t VALUES (1,'a')",
            "INSERT INTO t (id,title) VALUES (0,'a')",
            "INSERT INTO t (id,title) VALUES (1,'a'),(1,'b')",
            "INSERT INTO t (id,title) VALUES (1+1,'a')",
            "INSERT INTO t (id,title) VALUES ('1','a')",
            "REPLACE INTO t SET v=1 WHERE id=1",
            "DELETE FROM t WHERE id>7",
            "DELETE FROM t WHERE id=7 AND v=1",
            "DELETE FROM t WHERE v=1",
            "DELETE FROM t WHERE id IN (7,7)",
            "UPDATE t SET v=1 WHERE id=1",
            "SELECT * FROM t",
        ] {
            check(sql, error, false, Is::Error);
        }
    }
}

#[test]
fn processed_ids_are_taken_out() {
    let with = |ids: &str| format!("{REFUSED} processed_ids={ids}");
    check(INSERT, &with("1,3"), false, Is::Without("INSERT INTO t (id,title) VALUES (2,'it\\'s (2)')"));
    check(
        INSERT,
        &format!("processed_ids=[2]; {REFUSED}"),
        false,
        Is::Without("INSERT INTO t (id,title) VALUES (1,'a;b'),(3,'c')"),
    );
    check(
        "DELETE FROM t WHERE id IN (7, -8, 9)",
        &with("-8"),
        false,
        Is::Without("DELETE FROM t WHERE id IN (7,9)"),
    );
    check(
        INSERT,
        &format!("{REFUSED}; table 'system.t_s1' is locked; processed_ids=3"),
        false,
        Is::Without("INSERT INTO t (id,title) VALUES (1,'a;b'),(2,'it\\'s (2)')"),
    );
    for odd in ["", "x", "1, 2", "1,2 processed_ids=3", "99", "1,2,3", "99999999999999999999"] {
        check(INSERT, &with(odd), false, Is::Unknown);
    }
    check("INSERT INTO t (title) VALUES ('a')", &with("1"), false, Is::Unknown);
    check(INSERT, "table 't' absent processed_ids=1", false, {
        Is::Without("INSERT INTO t (id,title) VALUES (2,'it\\'s (2)'),(3,'c')")
    });
}

#[test]
fn a_conflict_counts_as_a_refusal_only_while_the_node_stayed_primary() {
    check(INSERT, CONFLICT, true, Is::Rerun);
    check(INSERT, CONFLICT, false, Is::Unknown);
    check(INSERT, "error at PostRollback, code 3 (transaction aborted)", true, Is::Rerun);
    check(INSERT, &format!("{CONFLICT}; {REFUSED}"), true, Is::Rerun);
    check(INSERT, &format!("{CONFLICT}; {REFUSED}"), false, Is::Unknown);
    check("UPDATE t SET v=1 WHERE id=1", CONFLICT, false, Is::Unknown);
}

#[test]
fn one_uncertain_target_makes_the_whole_uncertain() {
    let silent = "remote table 'system.t_s1' at n2:9312 failed: connect and query timed out";
    for error in [
        silent.to_owned(),
        format!("{REFUSED}; {silent}"),
        format!("{silent}, {REFUSED}"),
        format!("{REFUSED}\n{silent}"),
        "remote table 'system.t_s1' at n2:9312 failed: connection closed by peer".to_owned(),
        "remote table 'system.t_s1' at n2:9312 failed: something nobody has seen".to_owned(),
        "error at PostRollback, code 7 (connection lost)".to_owned(),
    ] {
        for sql in [
            INSERT,
            "UPDATE t SET v=1 WHERE id=1",
            "DELETE FROM t WHERE id=1",
            "REPLACE INTO t (id) VALUES (1)",
        ] {
            check(sql, &error, true, Is::Unknown);
        }
        check("SELECT * FROM t", &error, true, Is::Error);
    }
}

#[test]
fn the_statements_own_faults_come_back_unchanged() {
    for error in [
        "duplicate id '1'",
        "remote table 'system.t_s0' at n1:9312 failed: remote error: duplicate id '102'",
        "P01: syntax error, unexpected $end near ''",
        "unknown column: 'x'",
        "row 1: column 2: string expected",
    ] {
        check(INSERT, error, true, Is::Error);
    }
}
