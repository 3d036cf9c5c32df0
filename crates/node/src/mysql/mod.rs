//! The MySQL listener: the text protocol, no more of it than a SQL client needs.
//!
//! Written here and not taken from a library, because every size and time must have a limit, and error codes and
//! column types must be the real node's (see `docs/decisions`).

mod greeting;
mod packet;
mod result;

use crate::answer::{self, Answer};
use crate::door::{Door, Origin, Session};
use crate::options::Limits;
use engine::SqlError;
use greeting::Login;
use packet::{PacketError, Packets};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Serves until dropped. `version` is what the greeting shows.
pub(crate) async fn listen(listener: TcpListener, door: Door, version: String, limits: Limits) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let numbers = AtomicU32::new(1);
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a MySQL connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            Some(_) = connections.join_next() => continue,
        };
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        let place = places.clone().try_acquire_owned().ok();
        // Those who are told "too many" hold nothing, but must not be too many themselves.
        if place.is_none() && connections.len() > 2 * limits.connections {
            continue;
        }
        let connection =
            Connection { door: door.clone(), limits: limits.clone(), version: version.clone(), number };
        connections.spawn(async move {
            let _ = stream.set_nodelay(true);
            if let Err(error) = connection.serve(stream, place.is_some()).await {
                tracing::debug!(%error, "a MySQL connection ended");
            }
            drop(place);
        });
    }
}

struct Connection {
    door: Door,
    limits: Limits,
    version: String,
    number: u32,
}

/// What the client's first byte asks for; the others are refused by number.
mod command {
    pub(super) const QUIT: u8 = 0x01;
    pub(super) const INIT_DB: u8 = 0x02;
    pub(super) const QUERY: u8 = 0x03;
    pub(super) const FIELD_LIST: u8 = 0x04;
    pub(super) const PING: u8 = 0x0e;
    pub(super) const SET_OPTION: u8 = 0x1b;
    pub(super) const RESET_CONNECTION: u8 = 0x1f;
}

impl Connection {
    async fn serve(self, stream: TcpStream, welcome: bool) -> Result<(), PacketError> {
        let mut packets = Packets::new(stream, self.limits.statement_bytes, self.limits.transfer);
        if !welcome {
            let message = "Too many connections: close some, or raise the limit of the node";
            packets.queue(&result::error(1040, "08004", message));
            return packets.send().await;
        }
        let login = tokio::time::timeout(self.limits.handshake, self.greet(&mut packets)).await;
        let Login { database } = login.map_err(|_| PacketError::Slow)??;
        if let Some(refused) = refused_database(&database) {
            packets.queue(&refused);
            return packets.send().await;
        }
        packets.queue(&result::ok(0));
        packets.send().await?;
        self.commands(packets).await
    }

    async fn greet(&self, packets: &mut Packets) -> Result<Login, PacketError> {
        packets.queue(&greeting::greeting(&self.version, self.number));
        packets.send().await?;
        let answer = packets.receive().await?.ok_or(PacketError::Malformed("no answer to the greeting"))?;
        greeting::login(&answer)
            .ok_or(PacketError::Malformed("an answer to the greeting that cannot be read"))
    }

    async fn commands(&self, mut packets: Packets) -> Result<(), PacketError> {
        let mut session = self.door.session();
        loop {
            let packet = match packets.receive().await {
                Ok(Some(packet)) => packet,
                Ok(None) => return Ok(()),
                Err(PacketError::TooLarge) => {
                    let limit = self.limits.statement_bytes;
                    let message =
                        format!("Got a packet bigger than {limit} bytes: send less in one statement");
                    packets.queue(&result::error(1153, "08S01", &message));
                    packets.send().await?;
                    return Err(PacketError::TooLarge);
                }
                Err(error) => return Err(error),
            };
            let Some((command, rest)) = packet.split_first() else {
                return Err(PacketError::Malformed("an empty packet"));
            };
            match *command {
                command::QUIT => return Ok(()),
                command::QUERY => {
                    let Some(answer) = self.query(&mut packets, &session, rest).await else { return Ok(()) };
                    reply(&mut packets, answer);
                }
                command::INIT_DB => {
                    let refused = refused_database(&String::from_utf8_lossy(rest));
                    packets.queue(&refused.unwrap_or_else(|| result::ok(0)));
                }
                command::PING => packets.queue(&result::ok(0)),
                command::RESET_CONNECTION => {
                    session = self.door.session();
                    packets.queue(&result::ok(0));
                }
                command::FIELD_LIST | command::SET_OPTION => packets.queue(&result::end_of_rows()),
                other => {
                    let message = format!("unknown command (code={other})");
                    packets.queue(&result::error(1047, "08S01", &message));
                }
            }
            packets.send().await?;
        }
    }

    /// `None` when the client hung up while its statement waited: its session ends, and with it its locks.
    async fn query(
        &self,
        packets: &mut Packets,
        session: &Session,
        sql: &[u8],
    ) -> Option<Result<Answer, SqlError>> {
        let Ok(sql) = std::str::from_utf8(sql) else {
            return Some(Err(SqlError::new("the statement is not UTF-8")));
        };
        tokio::select! {
            answer = self.door.statement(session, sql.to_owned(), Origin::MySql) => Some(answer),
            () = packets.hung_up() => None,
        }
    }
}

/// searchd knows one database, and no name for it is needed.
fn refused_database(name: &str) -> Option<Vec<u8>> {
    let known = name.is_empty() || name.eq_ignore_ascii_case("manticore");
    (!known).then(|| result::error(1049, "42000", &format!("no such database '{name}'")))
}

fn reply(packets: &mut Packets, answer: Result<Answer, SqlError>) {
    let reply = match answer {
        Ok(Answer::Engine(reply)) => Ok(reply),
        Ok(Answer::Sidecar { message, .. }) => answer::of_sidecar(&message).map_err(SqlError::new),
        Err(error) => Err(error),
    };
    match reply {
        Ok(engine::Reply::Done { affected }) => packets.queue(&result::ok(affected)),
        Ok(engine::Reply::Rows(set)) => result::rows(packets, &set),
        Err(error) => packets.queue(&result::error(error.code, "42000", &error.message)),
    }
}
