//! The HTTP client against a listener that answers, refuses, keeps silent, breaks off or says too much.

use manticore::{CallError, Client, Logins, Reply, Statement, USER_AGENT, Way};
use model::{GroupId, NodeId, Reach};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const SOON: Duration = Duration::from_millis(300);
const LATE: Duration = Duration::from_mins(1);

/// A listener that gives `answer` to every request of every connection; the requests as they came.
async fn listener(answer: Option<Vec<u8>>) -> (NodeId, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let node = NodeId::new(listener.local_addr().expect("bound").to_string()).expect("valid");
    let requests = Arc::new(Mutex::new(Vec::new()));
    let seen = requests.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("accepts");
            let (answer, seen) = (answer.clone(), seen.clone());
            tokio::spawn(async move {
                let mut buffer = vec![0; 64 * 1024];
                while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                    seen.lock().expect("whole").push(String::from_utf8_lossy(&buffer[..length]).into_owned());
                    match &answer {
                        Some(answer) => {
                            if stream.write_all(answer).await.is_err() {
                                return;
                            }
                        }
                        None => std::future::pending().await,
                    }
                }
            });
        }
    });
    (node, requests)
}

fn http(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn client() -> Client {
    let logins = Logins { sidecar: Some("secret".into()), own: None };
    Client::new(USER_AGENT, logins, Way::plain()).expect("a client")
}

#[tokio::test]
async fn a_statement_goes_out_as_it_is_and_its_answer_is_read() {
    let (node, requests) = listener(Some(http("200 OK", r#"[{"total":0,"error":"","warning":""}]"#))).await;
    let exit = Statement::ExitCluster { group: GroupId::new("g0").expect("valid") };
    let reply = client().execute(&node, &exit, LATE).await;
    assert_eq!(reply, Ok(Reply::Done { affected: 0, warning: String::new() }));
    let request = requests.lock().expect("whole").concat().to_ascii_lowercase();
    assert!(request.starts_with("post /sql?mode=raw http/1.1\r\n"), "{request}");
    assert!(request.ends_with("\r\n\r\nexit cluster g0"), "{request}");
    assert!(request.contains("user-agent: manticore buddy/"), "{request}");
    assert!(request.contains("authorization: bearer secret"), "{request}");
    assert!(!format!("{:?}", client()).contains("secret"));
}

#[tokio::test]
async fn our_user_speaks_for_us_and_the_sidecars_token_for_users() {
    let answer = r#"[{"columns":[],"data":[],"total":0,"error":"","warning":""}]"#;
    let (node, requests) = listener(Some(http("200 OK", answer))).await;
    let own = Some(manticore::Login::parse("sw:pass").expect("a login"));
    let logins = Logins { own, sidecar: Some("secret".into()) };
    let client = Client::new(USER_AGENT, logins, Way::plain()).expect("a client");
    let said = || requests.lock().expect("whole").drain(..).collect::<String>().to_ascii_lowercase();
    let (ours, sidecars) = ("authorization: basic c3c6cgfzcw==", "authorization: bearer secret");
    client.execute(&node, &Statement::ShowTables, LATE).await.expect("answered");
    client.pass(&node, "SELECT 1", None, LATE).await.expect("answered");
    let plain = said();
    assert_eq!((plain.matches(ours).count(), plain.contains("x-manticore-user")), (2, false), "{plain}");
    client.pass(&node, "SELECT 1", Some("ann"), LATE).await.expect("answered");
    let as_user = said();
    assert!(as_user.contains(sidecars) && as_user.contains("x-manticore-user: ann"), "{as_user}");
    client.rights(&node, "o'neil", LATE).await.expect("no rules");
    let asked = said();
    assert!(asked.contains(sidecars) && !asked.contains("x-manticore-user"), "{asked}");
    assert!(asked.ends_with(r"show permissions for 'o\'neil'"), "{asked}");
}

/// As searchd 29.0.2: after an error reply it reads nothing more on that connection and closes it, without having said so.
async fn closes_after_errors() -> (NodeId, Arc<Mutex<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let node = NodeId::new(listener.local_addr().expect("bound").to_string()).expect("valid");
    let connections = Arc::new(Mutex::new(0));
    let counted = connections.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("accepts");
            *counted.lock().expect("whole") += 1;
            tokio::spawn(async move {
                let mut buffer = vec![0; 64 * 1024];
                let error = http("500 Internal Server Error", r#"{"error":"table 't' absent"}"#);
                if stream.read(&mut buffer).await.is_ok_and(|length| length > 0)
                    && stream.write_all(&error).await.is_ok()
                {
                    // Until the next request is there: it is cut off.
                    let _cut_off = stream.read(&mut buffer).await;
                }
            });
        }
    });
    (node, connections)
}

#[tokio::test]
async fn after_an_error_nothing_is_said_on_the_same_connection() {
    let (node, connections) = closes_after_errors().await;
    let client = client();
    let drop = Statement::ExitCluster { group: GroupId::new("g0").expect("valid") };
    for _ in 0..3 {
        let (status, _) =
            client.pass(&node, "INSERT INTO t (id) VALUES (1)", None, LATE).await.expect("answered");
        assert_eq!(status, 500);
        let answer = client.execute(&node, &drop, LATE).await;
        assert_eq!(answer, Ok(Reply::Error { message: "table 't' absent".into() }));
    }
    assert_eq!(*connections.lock().expect("whole"), 6);
    // A look may meet a connection that closes, and is said again.
    for _ in 0..3 {
        let answer = client.execute(&node, &Statement::ShowTables, LATE).await;
        assert_eq!(answer, Ok(Reply::Error { message: "table 't' absent".into() }));
    }
}

#[tokio::test]
async fn an_error_of_the_node_is_an_answer() {
    let (node, _) =
        listener(Some(http("500 Internal Server Error", r#"{"error":"unknown cluster 'g0'"}"#))).await;
    let reply = client().execute(&node, &Statement::ShowTables, LATE).await;
    assert_eq!(reply, Ok(Reply::Error { message: "unknown cluster 'g0'".into() }));
    let (status, body) = client().pass(&node, "SELECT 1", Some("u"), LATE).await.expect("answered");
    assert_eq!((status, body["error"].as_str()), (500, Some("unknown cluster 'g0'")));
    // A look that fails says nothing of the node.
    assert_eq!(client().poll(&node, false, LATE).await, (Reach::Silent, None));
}

#[tokio::test]
async fn a_closed_port_is_told_from_silence() {
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let node = NodeId::new(closed.local_addr().expect("bound").to_string()).expect("valid");
    drop(closed);
    let refused = client().execute(&node, &Statement::ShowTables, LATE).await.expect_err("closed");
    assert!(matches!(refused, CallError::Refused { .. }) && refused.never_arrived(), "{refused:?}");
    assert_eq!(client().poll(&node, true, LATE).await, (Reach::Refused, None));

    let (node, _) = listener(None).await;
    let silent = client().execute(&node, &Statement::ShowTables, SOON).await.expect_err("silent");
    assert!(matches!(silent, CallError::Silent { .. }) && !silent.never_arrived(), "{silent:?}");
    assert_eq!(client().poll(&node, true, SOON).await, (Reach::Silent, None));
}

#[tokio::test]
async fn an_answer_cut_off_or_foreign_or_endless_is_an_error() {
    let cut = b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\nconnection: close\r\n\r\n[".to_vec();
    let (node, _) = listener(Some(cut)).await;
    let error = client().execute(&node, &Statement::ShowTables, SOON).await.expect_err("cut off");
    assert!(matches!(error, CallError::Silent { .. } | CallError::Broken { .. }), "{error:?}");

    let (node, _) = listener(Some(http("200 OK", "<html>"))).await;
    let error = client().execute(&node, &Statement::ShowTables, LATE).await.expect_err("foreign");
    assert!(matches!(error, CallError::BadReply { .. }), "{error:?}");

    let (node, _) = listener(Some(http("200 OK", &"x".repeat(17 << 20)))).await;
    let error = client().execute(&node, &Statement::ShowTables, LATE).await.expect_err("too large");
    assert!(error.to_string().contains("larger than"), "{error:?}");
}
