//! The MySQL listener: the text protocol, no more of it than a SQL client needs.
//!
//! Written here and not taken from a library, because every size and time must have a limit, and error codes and
//! column types must be the real node's (see `docs/decisions`).

mod greeting;
#[cfg(test)]
mod hostile;
mod packet;
mod result;

use crate::answer::{self, Answer};
use crate::door::{Door, Origin, Session};
use crate::options::Limits;
use crate::wire::{BoxWire, NodeTls};
use engine::SqlError;
use packet::{PacketError, Packets};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Serves until dropped. `version` is what the greeting shows.
pub(crate) async fn listen(
    listener: TcpListener,
    door: Door,
    version: String,
    limits: Limits,
    tls: Option<NodeTls>,
) {
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
        let connection = Connection {
            door: door.clone(),
            limits: limits.clone(),
            version: version.clone(),
            tls: tls.clone(),
            number,
        };
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
    tls: Option<NodeTls>,
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
        if !welcome {
            let mut packets = self.packets(Box::new(stream), 0);
            let message = "Too many connections: close some, or raise the limit of the node";
            packets.queue(&result::error(1040, "08004", message));
            return packets.send().await;
        }
        let greeted = tokio::time::timeout(self.limits.handshake, self.greet(stream)).await;
        let (mut packets, said) = greeted.map_err(|_| PacketError::Slow)??;
        let user = match said {
            Ok(user) => user,
            Err(refused) => {
                packets.queue(&refused);
                return packets.send().await;
            }
        };
        packets.queue(&result::ok(0));
        packets.send().await?;
        self.commands(packets, user).await
    }

    fn packets(&self, wire: BoxWire, sequence: u8) -> Packets {
        Packets::new(wire, sequence, self.limits.statement_bytes, self.limits.transfer)
    }

    /// Greets, goes over to TLS when the client asks for it, and hears who it is; or says what it is refused with.
    async fn greet(
        &self,
        stream: TcpStream,
    ) -> Result<(Packets, Result<Option<String>, Vec<u8>>), PacketError> {
        let nonce = greeting::nonce()?;
        let mut wire: BoxWire = Box::new(stream);
        let greeting = greeting::greeting(&self.version, self.number, &nonce, self.tls.is_some());
        wire.write_all(&packet::first(&greeting)).await?;
        let (mut sequence, mut answer) = packet::introduction(&mut wire).await?;
        match &self.tls {
            Some(tls) if greeting::asks_for_tls(&answer) => {
                wire = Box::new((tls.acceptor)().accept(wire).await?);
                (sequence, answer) = packet::introduction(&mut wire).await?;
            }
            Some(_) => {
                let message =
                    "Connections using insecure transport are prohibited: this node takes TLS alone";
                let refused = result::error(3159, "HY000", message);
                return Ok((self.packets(wire, sequence), Err(refused)));
            }
            None => {}
        }
        let login = greeting::login(&answer)
            .ok_or(PacketError::Malformed("an answer to the greeting that cannot be read"))?;
        let mut packets = self.packets(wire, sequence);
        if let Some(refused) = refused_database(&login.database) {
            return Ok((packets, Err(refused)));
        }
        // As in searchd: without users every name is taken, and nobody checks it.
        let Some(users) = &self.door.users else { return Ok((packets, Ok(Some(login.user)))) };
        let scrambled = if login.is_native() {
            login.scrambled
        } else {
            packets.queue(&greeting::ask_natively(&nonce));
            packets.send().await?;
            packets.receive().await?.ok_or(PacketError::Malformed("no password"))?
        };
        let known = users.by_scramble(&login.user, &nonce, &scrambled);
        let refused = |error: SqlError| result::error(error.code, "42000", &error.message);
        Ok((packets, known.map(Some).map_err(refused)))
    }

    async fn commands(&self, mut packets: Packets, user: Option<String>) -> Result<(), PacketError> {
        let mut session = self.door.session(user.clone());
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
                    session = self.door.session(user.clone());
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
