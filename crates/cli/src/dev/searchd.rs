//! Real searchd nodes in place of embedded ones: their configuration, and how their process starts.

use super::layout::{Layout, Member};
use super::ports::loopback;
use crate::output::CommandError;
use manticore::statement::USER_CLUSTER_OPTIONS;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Ports of a node for replication. Every cluster takes two; the rest is spare, for a port that was used a moment ago is
/// passed over when the node starts again.
pub(super) const REPLICATION_PORTS: u16 = 64;
/// Where Galera listens: this address, at the port that searchd takes from its range. Without it, on every address; with
/// a port, the other members look for it in vain.
const GALERA_LISTEN: &str = "tcp://127.0.0.1";

/// The program, by its whole path.
pub(super) fn program(path: &Path) -> Result<PathBuf, CommandError> {
    use std::os::unix::fs::PermissionsExt;
    let hint = "give the path of the searchd binary with --searchd";
    let fail = |error| CommandError::usage(format!("cannot use {}: {error}", path.display()), hint);
    let metadata = std::fs::metadata(path).map_err(fail)?;
    if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 {
        return Err(CommandError::usage(format!("{} is no program", path.display()), hint));
    }
    path.canonicalize().map_err(fail)
}

/// Options with which a real node enters the user's cluster.
pub(super) fn cluster_options() -> String {
    format!("{USER_CLUSTER_OPTIONS};gmcast.listen_addr={GALERA_LISTEN};gcache.size=8M")
}

/// Makes a node's directories and configuration, and takes away the routes that it would start with, as the gate does.
/// Gives the arguments with which this program becomes its searchd.
pub(super) fn prepare(
    layout: &Layout,
    program: &Path,
    member: &Member,
    sidecar: &[String],
) -> Result<Vec<String>, CommandError> {
    let dir = layout.node(member.number);
    let fail = |path: &Path, error: std::io::Error| {
        let message = format!("cannot write {}: {error}", path.display());
        CommandError::failed(message, "check the disk, or choose another --dir")
    };
    let binlog = node::data_dir(&dir).join("binlog");
    std::fs::create_dir_all(&binlog).map_err(|error| fail(&binlog, error))?;
    let config = dir.join("searchd.conf");
    let text = configuration(&dir, &layout.log(&format!("node{}", member.number)), member, sidecar)?;
    std::fs::write(&config, text).map_err(|error| fail(&config, error))?;
    daemon::gate::take_routes_away(&sidecar_dir(&dir), &node::data_dir(&dir))
        .map_err(|error| CommandError::failed(error.to_string(), "the node was not started"))?;
    Ok(vec![
        "become".to_owned(),
        program.display().to_string(),
        "--config".to_owned(),
        config.display().to_string(),
        "--nodetach".to_owned(),
    ])
}

/// Where a node's sidecar keeps its files.
pub(super) fn sidecar_dir(node: &Path) -> PathBuf {
    node.join("sidecar")
}

/// What the sidecar of a real node is told beyond that of an embedded one.
pub(super) fn sidecar_flag() -> String {
    format!("--galera-listen={GALERA_LISTEN}")
}

fn configuration(
    dir: &Path,
    log: &Path,
    member: &Member,
    sidecar: &[String],
) -> Result<String, CommandError> {
    let first = member.replication.ok_or_else(|| {
        let message = format!("dev.json gives node {} no replication ports", member.number);
        CommandError::failed(message, "choose another --dir, or remove this one to start anew")
    })?;
    let data = node::data_dir(dir);
    for word in sidecar.iter().map(String::as_str).chain([&*dir.to_string_lossy()]) {
        // searchd splits the command at spaces, and takes the rest of a line after # for a comment.
        if word.chars().any(|c| c.is_whitespace() || matches!(c, '#' | '"' | '\'' | '\\')) {
            let message = format!("searchd's configuration cannot hold '{word}'");
            return Err(CommandError::usage(message, "choose a --dir without spaces and quotes"));
        }
    }
    Ok(format!(
        "searchd {{\n    \
             listen = {http}\n    \
             listen = {mysql}:mysql\n    \
             listen = 127.0.0.1:{first}-{last}:replication\n    \
             server_id = {number}\n    \
             data_dir = {data}\n    \
             binlog_path = {data}/binlog\n    \
             log = {log}\n    \
             pid_file = {dir}/searchd.pid\n    \
             threads = 8\n    \
             agent_query_timeout = 10000\n    \
             listen_backlog = 1024\n    \
             replication_connect_timeout = 300\n    \
             replication_retry_delay = 100\n    \
             buddy_path = {sidecar}\n\
         }}\n",
        http = loopback(member.http),
        mysql = loopback(member.mysql),
        last = first + (REPLICATION_PORTS - 1),
        number = member.number,
        data = data.display(),
        log = log.display(),
        dir = dir.display(),
        sidecar = sidecar.join(" "),
    ))
}

/// This process becomes that program; only returns when it cannot. Its parent and what ties it to that stay the same.
pub fn become_program(command: &[OsString]) -> CommandError {
    use std::os::unix::process::CommandExt;
    let [program, arguments @ ..] = command else {
        return CommandError::usage("no program to become", "name one");
    };
    let error = std::process::Command::new(program).args(arguments).exec();
    CommandError::failed(
        format!("cannot start {}: {error}", Path::new(program).display()),
        "give a program of this machine",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(replication: Option<u16>) -> Member {
        Member {
            number: 2,
            mysql: 20_001,
            http: 20_002,
            replication,
            joined: true,
            down: false,
            stopped: None,
        }
    }

    #[test]
    fn the_configuration_names_ports_of_its_own_and_this_program_as_sidecar() {
        let sidecar =
            ["/bin/shardwright".to_owned(), "sidecar".to_owned(), "--dir=/d/node2/sidecar".to_owned()];
        let (dir, log) = (Path::new("/d/node2"), Path::new("/d/logs/node2.log"));
        let text = configuration(dir, log, &member(Some(21_000)), &sidecar).expect("valid");
        for line in [
            "listen = 127.0.0.1:20002\n",
            "listen = 127.0.0.1:20001:mysql\n",
            "listen = 127.0.0.1:21000-21063:replication\n",
            "server_id = 2\n",
            "data_dir = /d/node2/data\n",
            "buddy_path = /bin/shardwright sidecar --dir=/d/node2/sidecar\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(configuration(dir, log, &member(None), &sidecar).is_err());
        for bad in ["/a b", "/a#b", "/a\"b"] {
            let refused = configuration(Path::new(bad), log, &member(Some(21_000)), &sidecar);
            assert!(refused.expect_err("refused").message.contains(bad));
        }
    }

    #[test]
    fn a_program_must_be_one() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        assert!(program(file.path()).expect_err("not executable").message.contains("no program"));
        assert!(program(Path::new("/no/searchd")).is_err());
        assert!(program(&std::env::current_exe().expect("this test")).is_ok());
    }
}
