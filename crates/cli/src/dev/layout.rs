//! The directory of a development cluster: who is in it, on which ports, and in which order it was stopped.

use super::ports::loopback;
use super::searchd::REPLICATION_PORTS;
use crate::load::Endpoint;
use crate::output::{CommandError, Failure};
use model::NodeId;
use serde::{Deserialize, Serialize};
use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

/// One node of the cluster, running or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// From 1, never used again.
    pub number: u32,
    pub mysql: u16,
    pub http: u16,
    /// The first of the ports for replication; only a real searchd has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication: Option<u16>,
    /// Whether it has been made a member of the cluster `c`.
    pub joined: bool,
    /// Killed or stopped by hand: it stays down until it is started by hand.
    pub down: bool,
    /// Counts stops: the higher, the later it was stopped. A node that was never stopped cleanly, or that was
    /// started since, has none.
    pub stopped: Option<u64>,
}

impl Member {
    pub fn id(&self) -> NodeId {
        // A loopback address with a port is always a node id.
        NodeId::new(loopback(self.http).to_string()).unwrap_or_else(|error| unreachable!("{error}"))
    }

    /// Every port that it listens on.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        let replication = self.replication.map(|first| first..first + REPLICATION_PORTS);
        [self.mysql, self.http].into_iter().chain(replication.into_iter().flatten())
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint { node: self.id(), mysql: loopback(self.mysql) }
    }
}

/// `DIR/dev.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// `HOST:PORT` of the controller's API.
    pub api: String,
    /// The searchd that the nodes are; without one they are embedded engines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub searchd: Option<PathBuf>,
    pub members: Vec<Member>,
}

impl State {
    /// The same cluster with another searchd, or with the one it has. A cluster's nodes do not change their kind.
    pub fn with_searchd(self, program: Option<&Path>) -> Result<Self, CommandError> {
        match program {
            None => Ok(self),
            Some(_) if self.searchd.is_none() && !self.members.is_empty() => Err(CommandError::usage(
                "the cluster of this directory has embedded nodes, and --searchd names another kind",
                "leave --searchd out, or choose another --dir",
            )),
            Some(program) => Ok(Self { searchd: Some(program.to_owned()), ..self }),
        }
    }

    /// The member that a person names by id or by number.
    pub fn find(&self, name: &str) -> Option<&Member> {
        let number = name.parse::<u32>().ok();
        self.members.iter().find(|member| Some(member.number) == number || member.id().as_str() == name)
    }

    /// The order to start nodes in: those stopped last first, then those that were not stopped cleanly, in their
    /// order.
    pub fn start_order(&self) -> Vec<u32> {
        let mut up: Vec<&Member> = self.members.iter().filter(|member| !member.down).collect();
        up.sort_by_key(|member| (std::cmp::Reverse(member.stopped), member.number));
        up.iter().map(|member| member.number).collect()
    }
}

/// `DIR/cluster.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterFile {
    /// URL of the controller's API.
    pub api: String,
    pub token_file: PathBuf,
    pub nodes: Vec<ClusterNode>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterNode {
    pub id: NodeId,
    /// `host:port`.
    pub mysql: String,
    /// `host:port`.
    pub http: String,
    /// Null while the node is down.
    pub pid: Option<u32>,
}

/// The directory, held by one process at a time.
#[derive(Debug)]
pub struct Layout {
    dir: PathBuf,
    _lock: File,
}

impl Layout {
    /// Takes the directory; makes it where it is not there.
    pub fn take(dir: &Path) -> Result<Self, CommandError> {
        let fail = |error: std::io::Error| fault(dir, "use", &error);
        std::fs::create_dir_all(dir.join("logs")).map_err(fail)?;
        let dir = dir.canonicalize().map_err(fail)?;
        let path = dir.join("dev.lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(fail)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(CommandError::new(
                Failure::Refused,
                format!("a cluster runs in {} already", dir.display()),
                "stop it first (Ctrl-C where it runs), or choose another --dir",
            )),
            Err(TryLockError::Error(error)) => Err(fault(&path, "lock", &error)),
        }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn controller(&self) -> PathBuf {
        self.dir.join("controller")
    }

    /// Where `serve` keeps what changes need as a token.
    pub fn token_file(&self) -> PathBuf {
        self.controller().join("token")
    }

    pub fn node(&self, number: u32) -> PathBuf {
        self.dir.join(format!("node{number}"))
    }

    pub fn log(&self, name: &str) -> PathBuf {
        self.dir.join("logs").join(format!("{name}.log"))
    }

    /// `None` in a directory that has no cluster yet.
    pub fn read_state(&self) -> Result<Option<State>, CommandError> {
        let path = self.dir.join("dev.json");
        match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(fault(&path, "read", &error)),
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
                CommandError::failed(
                    format!("{} is not what `dev` writes ({error})", path.display()),
                    "choose another --dir, or remove this one to start anew",
                )
            }),
        }
    }

    pub fn write_state(&self, state: &State) -> Result<(), CommandError> {
        write_json(&self.dir.join("dev.json"), state)
    }

    pub fn write_cluster_file(&self, file: &ClusterFile) -> Result<(), CommandError> {
        write_json(&self.dir.join("cluster.json"), file)
    }

    pub fn remove_cluster_file(&self) {
        remove(&self.dir.join("cluster.json"));
    }

    pub fn remote_file(&self) -> PathBuf {
        remote_file(&self.dir)
    }
}

/// Where a running `dev` says how to reach it.
pub fn remote_file(dir: &Path) -> PathBuf {
    dir.join("dev.remote.json")
}

/// Removes a file that may be gone already.
pub fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "cannot remove a file");
    }
}

/// Writes a file whole or not at all, readable by its owner alone.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), CommandError> {
    use std::os::unix::fs::OpenOptionsExt;
    let fail = |error: std::io::Error| fault(path, "write", &error);
    let text = serde_json::to_string_pretty(value).map_err(|error| fail(error.into()))?;
    let beside = path.with_extension("new");
    let mut file =
        File::options().create(true).truncate(true).write(true).mode(0o600).open(&beside).map_err(fail)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.write_all(b"\n"))
        .and_then(|()| file.sync_all())
        .map_err(fail)?;
    std::fs::rename(&beside, path).map_err(fail)
}

fn fault(path: &Path, verb: &str, error: &std::io::Error) -> CommandError {
    let hint = match error.kind() {
        std::io::ErrorKind::StorageFull => "free some disk space there",
        std::io::ErrorKind::PermissionDenied => "choose a directory that you may write to with --dir",
        _ => "check the path, or choose another with --dir",
    };
    CommandError::failed(format!("cannot {verb} {}: {error}", path.display()), hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(number: u32, stopped: Option<u64>, down: bool) -> Member {
        let port = 20_000 + number as u16;
        Member { number, mysql: port, http: port + 100, replication: None, joined: true, down, stopped }
    }

    #[test]
    fn the_last_stopped_node_starts_first_and_downed_ones_do_not() {
        let members = vec![
            member(1, Some(4), false),
            member(2, Some(5), false),
            member(3, None, false),
            member(4, Some(9), true),
        ];
        let state = State { api: "127.0.0.1:1".into(), searchd: None, members };
        assert_eq!(state.start_order(), [2, 1, 3]);
    }

    #[test]
    fn a_node_is_found_by_number_or_id() {
        let state = State {
            api: String::new(),
            searchd: None,
            members: vec![member(1, None, false), member(2, None, false)],
        };
        assert_eq!(state.find("2").map(|member| member.number), Some(2));
        assert_eq!(state.find("127.0.0.1:20101").map(|member| member.number), Some(1));
        assert_eq!(state.find("3"), None);
    }

    #[test]
    fn a_cluster_keeps_its_kind_of_nodes() {
        let program = Path::new("/new/searchd");
        let embedded = State { members: vec![member(1, None, false)], ..State::default() };
        assert_eq!(embedded.clone().with_searchd(None).expect("the same"), embedded);
        let refused = embedded.clone().with_searchd(Some(program)).expect_err("another kind");
        assert_eq!(refused.failure, Failure::Usage);
        let real = State { searchd: Some("/old/searchd".into()), ..embedded };
        assert_eq!(real.clone().with_searchd(None).expect("the same"), real);
        let newer = real.with_searchd(Some(program)).expect("another program");
        assert_eq!(newer.searchd.as_deref(), Some(program));
    }

    #[test]
    fn a_directory_is_held_by_one_at_a_time() {
        let dir = tempfile::tempdir().expect("a directory");
        let held = Layout::take(dir.path()).expect("free");
        let refused = Layout::take(dir.path()).expect_err("held");
        assert_eq!(refused.failure, Failure::Refused);
        drop(held);
        let again = Layout::take(dir.path()).expect("free again");
        assert_eq!(again.read_state().expect("readable"), None);
        let state =
            State { api: "127.0.0.1:1".into(), searchd: None, members: vec![member(1, Some(1), false)] };
        again.write_state(&state).expect("written");
        assert_eq!(again.read_state().expect("readable"), Some(state));
    }
}
