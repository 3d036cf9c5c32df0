//! A copy of every line for the system's log, by RFC 5424 over its socket. The file is what counts: a socket that does not
//! take a line is told of once, and tried again with the next.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

/// Facility 13 (log audit), severity 5 (notice).
const PRIORITY: u8 = 13 * 8 + 5;

#[derive(Debug)]
pub(super) struct Syslog {
    path: PathBuf,
    socket: Option<UnixDatagram>,
    /// That it fails was told.
    told: bool,
}

impl Syslog {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), socket: None, told: false }
    }

    pub(super) fn send(&mut self, unix: u64, line: &str) {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(unix);
        let time = humantime::format_rfc3339_seconds(time);
        let message = format!("<{PRIORITY}>1 {time} - shardwright {} audit - {line}", std::process::id());
        match self.try_send(message.as_bytes()) {
            Ok(()) => self.told = false,
            Err(error) => {
                self.socket = None;
                if !std::mem::replace(&mut self.told, true) {
                    let path = self.path.display();
                    tracing::error!(%path, %error, "lines of the audit log do not reach syslog; the files have them");
                }
            }
        }
    }

    fn try_send(&mut self, message: &[u8]) -> std::io::Result<()> {
        let socket = if let Some(socket) = &self.socket {
            socket
        } else {
            let socket = UnixDatagram::unbound()?;
            socket.connect(&self.path)?;
            // A reader that hangs must not keep the controller from acting.
            socket.set_nonblocking(true)?;
            self.socket.insert(socket)
        };
        socket.send(message).map(drop)
    }
}
