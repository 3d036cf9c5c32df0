//! The processes of a cluster and what may be done to them: nodes come, go, die and return.

use super::layout::{ClusterFile, ClusterNode, Layout, Member, State};
use super::ports::{Ports, check, loopback};
use super::process::Process;
use super::searchd::{self, REPLICATION_PORTS};
use super::start::{CLUSTER_OPTIONS, new_state};
use crate::api::Api;
use crate::load::Endpoint;
use crate::output::{CommandError, Failure};
use crate::story::Story;
use daemon::tls::ClientTls;
use model::NodeId;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// What a cluster is made with. All of it only counts for a directory that has none yet, except `api`.
#[derive(Clone, Debug, Default)]
pub struct ClusterOptions {
    pub nodes: u32,
    /// The controller's API; port 0 takes a free one.
    pub api: Option<SocketAddr>,
    /// Node n listens for MySQL on this port plus n − 1.
    pub mysql_base: Option<u16>,
    pub http_base: Option<u16>,
    /// The searchd that the nodes are; without one they are embedded engines.
    pub searchd: Option<PathBuf>,
    /// Settings of the controller.
    pub config: Option<PathBuf>,
}

/// A running cluster. Dropping it kills what is left of it.
#[derive(Debug)]
pub struct Cluster {
    pub(super) layout: Layout,
    state: State,
    config: Option<PathBuf>,
    api: Api,
    ports: Ports,
    /// The directory was empty before.
    is_new: bool,
    controller: Option<Process>,
    nodes: BTreeMap<u32, Process>,
    /// What happened while something else was done.
    unsaid: Vec<String>,
}

impl Cluster {
    /// Takes `dir` with the cluster that is there, or lays out a new one; nothing runs yet.
    pub fn open(dir: &Path, mut options: ClusterOptions) -> Result<Self, CommandError> {
        options.searchd = options.searchd.as_deref().map(searchd::program).transpose()?;
        let layout = Layout::take(dir)?;
        layout.remove_cluster_file();
        let found = layout.read_state()?;
        let seed = u64::from(std::process::id()) << 32 ^ layout.dir().as_os_str().len() as u64;
        let known = found.iter().flat_map(|state| state.members.iter().flat_map(Member::ports));
        let mut ports = Ports::new(seed, known);
        let is_new = found.is_none();
        let mut state = match found {
            Some(state) => state.with_searchd(options.searchd.as_deref())?,
            None => new_state(&options, &mut ports)?,
        };
        if let Some(api) = options.api {
            let port = if api.port() == 0 { ports.free()? } else { api.port() };
            state.api = SocketAddr::new(api.ip(), port).to_string();
        }
        let api =
            Api::at(&format!("http://{}", state.api), Some(layout.token_file()), &ClientTls::default())?;
        let config = options.config;
        let cluster = Self {
            layout,
            state,
            config,
            api,
            ports,
            is_new,
            controller: None,
            nodes: BTreeMap::new(),
            unsaid: Vec::new(),
        };
        cluster.write_state()?;
        Ok(cluster)
    }

    /// Starts everything. Interrupted, it leaves processes for [`Cluster::end`].
    pub async fn start(&mut self, story: &Story) -> Result<(), CommandError> {
        if self.is_new {
            self.start_new(story).await?;
        } else {
            self.start_again(story).await?;
        }
        self.write_cluster_file()
    }

    pub fn api(&self) -> &Api {
        &self.api
    }

    pub fn dir(&self) -> &Path {
        self.layout.dir()
    }

    pub fn remote_file(&self) -> PathBuf {
        self.layout.remote_file()
    }

    /// The nodes that run, in order of their numbers.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.running_members().into_iter().map(Member::endpoint).collect()
    }

    pub(super) fn running_members(&self) -> Vec<&Member> {
        self.state.members.iter().filter(|member| self.nodes.contains_key(&member.number)).collect()
    }

    pub(super) const fn state(&self) -> &State {
        &self.state
    }

    pub(super) fn write_state(&self) -> Result<(), CommandError> {
        self.layout.write_state(&self.state)
    }

    pub(super) fn process_mut(&mut self, number: u32) -> Option<&mut Process> {
        self.nodes.get_mut(&number)
    }

    /// Ids of every process that was started directly.
    pub fn pids(&self) -> Vec<u32> {
        self.controller.iter().chain(self.nodes.values()).map(Process::pid).collect()
    }

    /// A node more, joined to the cluster.
    pub async fn add(&mut self) -> Result<Endpoint, CommandError> {
        let number = self.state.members.iter().map(|member| member.number).max().unwrap_or(0) + 1;
        let member = Member {
            number,
            mysql: self.ports.free()?,
            http: self.ports.free()?,
            replication: self
                .state
                .searchd
                .as_ref()
                .map(|_| self.ports.row(REPLICATION_PORTS))
                .transpose()?,
            joined: false,
            down: false,
            stopped: None,
        };
        let endpoint = member.endpoint();
        self.state.members.push(member);
        self.write_state()?;
        self.spawn_node(number)?;
        self.wait_for_node(number).await?;
        let outside: Vec<u32> = self
            .running_members()
            .iter()
            .filter(|member| !member.joined)
            .map(|member| member.number)
            .collect();
        for number in outside {
            self.join(number).await?;
        }
        self.write_cluster_file()?;
        Ok(endpoint)
    }

    /// Kill -9.
    pub async fn kill(&mut self, name: &str) -> Result<NodeId, CommandError> {
        let number = self.running(name)?;
        if let Some(mut process) = self.nodes.remove(&number) {
            process.kill().await;
        }
        self.went_down(number, None)
    }

    /// A clean stop.
    pub async fn stop(&mut self, name: &str) -> Result<NodeId, CommandError> {
        let number = self.running(name)?;
        let Some(mut process) = self.nodes.remove(&number) else { return self.went_down(number, None) };
        let stopped = process.stop().await.then(|| self.next_stop());
        self.went_down(number, stopped)
    }

    /// Starts a node that is down.
    pub async fn start_node(&mut self, name: &str) -> Result<NodeId, CommandError> {
        let member = self.find(name)?;
        let (number, id) = (member.number, member.id());
        if self.nodes.contains_key(&number) {
            let message = format!("node {number} ({id}) runs already");
            return Err(CommandError::new(Failure::Refused, message, "`dev kill` or `dev stop` it first"));
        }
        self.wait_for_gate(&[number]).await?;
        self.spawn_node(number)?;
        self.wait_for_node(number).await?;
        self.write_cluster_file()?;
        Ok(id)
    }

    /// Sees which processes have ended by themselves: dead nodes stay down, a dead controller starts again.
    pub async fn look_after(&mut self) -> Result<Vec<String>, CommandError> {
        let mut events = Vec::new();
        let mut dead = Vec::new();
        for (number, process) in &mut self.nodes {
            if process.ended().is_some() {
                events.push(format!("{}; it stays down until `dev start {number}`", process.obituary()));
                dead.push(*number);
            }
        }
        for number in dead {
            self.nodes.remove(&number);
            self.went_down(number, None)?;
        }
        self.look_after_controller().await?;
        events.append(&mut self.unsaid);
        Ok(events)
    }

    pub(super) async fn look_after_controller(&mut self) -> Result<(), CommandError> {
        if let Some(process) = &mut self.controller
            && process.ended().is_some()
        {
            self.unsaid.push(format!("{}; it is started again", process.obituary()));
            self.start_controller().await?;
        }
        Ok(())
    }

    /// Stops everything cleanly: the controller first, that it does not take the rest for a failure; then the nodes,
    /// each remembering its turn.
    pub async fn shutdown(mut self) -> Result<(), CommandError> {
        self.layout.remove_cluster_file();
        if let Some(mut controller) = self.controller.take() {
            controller.stop().await;
        }
        while let Some((number, mut process)) = self.nodes.pop_last() {
            let stopped = process.stop().await.then(|| self.next_stop());
            self.member_mut(number)?.stopped = stopped;
        }
        self.write_state()
    }

    /// Ends everything at once, for a cluster whose data nobody wants again.
    pub async fn end(&mut self) {
        self.layout.remove_cluster_file();
        for mut process in
            self.controller.take().into_iter().chain(std::mem::take(&mut self.nodes).into_values())
        {
            process.kill_with_children().await;
        }
    }

    fn next_stop(&self) -> u64 {
        self.state.members.iter().filter_map(|member| member.stopped).max().unwrap_or(0) + 1
    }

    fn went_down(&mut self, number: u32, stopped: Option<u64>) -> Result<NodeId, CommandError> {
        let member = self.member_mut(number)?;
        member.down = true;
        member.stopped = stopped;
        let id = member.id();
        self.write_state()?;
        self.write_cluster_file()?;
        Ok(id)
    }

    pub(super) async fn start_controller(&mut self) -> Result<(), CommandError> {
        let address = self.api_address()?;
        check(address, "the controller", "--api")?;
        let mut arguments: Vec<String> = Vec::new();
        if let Some(config) = &self.config {
            arguments.push(format!("--config={}", config.display()));
        }
        arguments.extend([
            "serve".to_owned(),
            format!("--dir={}", self.layout.controller().display()),
            format!("--api={address}"),
            "--environment=development".to_owned(),
        ]);
        let mut process = Process::start("controller", &arguments, &self.layout.log("controller"))?;
        self.wait_for_controller(&mut process).await?;
        self.controller = Some(process);
        Ok(())
    }

    /// Starts the process of a node; see [`Process::start`] for where this may be called.
    pub(super) fn spawn_node(&mut self, number: u32) -> Result<(), CommandError> {
        let dir = self.layout.node(number);
        let log = self.layout.log(&format!("node{number}"));
        let sidecar = self.sidecar_command(number)?;
        let member = self.member_mut(number)?;
        member.down = false;
        member.stopped = None;
        let (mysql, http) = (loopback(member.mysql), loopback(member.http));
        check(mysql, &format!("node {number}"), "--mysql-base")?;
        check(http, &format!("node {number}"), "--http-base")?;
        let arguments = match &self.state.searchd {
            Some(program) => {
                searchd::prepare(&self.layout, program, self.find(&number.to_string())?, &sidecar)?
            }
            None => embedded(&dir, mysql, http, &sidecar),
        };
        // Before the process: a node that may have written since is not the one that was stopped cleanly.
        self.write_state()?;
        let process = Process::start(&format!("node {number}"), &arguments, &log)?;
        self.nodes.insert(number, process);
        Ok(())
    }

    /// The command of a node's sidecar: this very program, as searchd's `buddy_path` names it.
    fn sidecar_command(&self, number: u32) -> Result<Vec<String>, CommandError> {
        let program = std::env::current_exe().map_err(|error| {
            CommandError::failed(format!("this program cannot find itself: {error}"), "start it by its path")
        })?;
        let dir = self.layout.node(number);
        let member = self.find(&number.to_string())?;
        let mut command = vec![
            program.display().to_string(),
            "sidecar".to_owned(),
            format!("--dir={}", searchd::sidecar_dir(&dir).display()),
            format!("--data-dir={}", node::data_dir(&dir).display()),
            format!("--mysql={}", loopback(member.mysql)),
            format!("--controller={}", self.api.url()),
            format!("--token-file={}", self.layout.token_file().display()),
        ];
        command.extend(self.state.searchd.iter().map(|_| searchd::sidecar_flag()));
        Ok(command)
    }

    /// Options with which nodes enter the user's cluster.
    pub(super) fn cluster_options(&self) -> String {
        self.state.searchd.as_ref().map_or_else(|| CLUSTER_OPTIONS.to_owned(), |_| searchd::cluster_options())
    }

    fn write_cluster_file(&self) -> Result<(), CommandError> {
        let nodes = self
            .state
            .members
            .iter()
            .map(|member| ClusterNode {
                id: member.id(),
                mysql: loopback(member.mysql).to_string(),
                http: loopback(member.http).to_string(),
                pid: self.nodes.get(&member.number).map(Process::pid),
            })
            .collect();
        let token_file = self.layout.token_file();
        self.layout.write_cluster_file(&ClusterFile { api: self.api.url().to_owned(), token_file, nodes })
    }

    pub(super) fn api_address(&self) -> Result<SocketAddr, CommandError> {
        self.state.api.parse().map_err(|error| {
            let message =
                format!("the controller's address '{}' in dev.json is wrong: {error}", self.state.api);
            CommandError::failed(message, "give it anew with --api")
        })
    }

    fn find(&self, name: &str) -> Result<&Member, CommandError> {
        self.state.find(name).ok_or_else(|| {
            let known: Vec<String> =
                self.state.members.iter().map(|one| format!("{} ({})", one.number, one.id())).collect();
            let hint = format!("the nodes are {}", known.join(", "));
            CommandError::usage(format!("there is no node '{name}'"), hint)
        })
    }

    fn running(&self, name: &str) -> Result<u32, CommandError> {
        let member = self.find(name)?;
        if self.nodes.contains_key(&member.number) {
            return Ok(member.number);
        }
        let message = format!("node {} ({}) is down already", member.number, member.id());
        let hint = format!("`dev start {}` starts it", member.number);
        Err(CommandError::new(Failure::Refused, message, hint))
    }

    pub(super) fn endpoint(&self, number: u32) -> Result<Endpoint, CommandError> {
        Ok(self.find(&number.to_string())?.endpoint())
    }

    pub(super) fn member_mut(&mut self, number: u32) -> Result<&mut Member, CommandError> {
        self.state
            .members
            .iter_mut()
            .find(|member| member.number == number)
            .ok_or_else(|| CommandError::failed(format!("there is no node {number}"), "report this"))
    }
}

/// The arguments of an embedded node.
fn embedded(dir: &Path, mysql: SocketAddr, http: SocketAddr, sidecar: &[String]) -> Vec<String> {
    let mut arguments = vec![
        "node".to_owned(),
        format!("--dir={}", dir.display()),
        format!("--mysql={mysql}"),
        format!("--http={http}"),
    ];
    let (program, rest) = sidecar.split_at(sidecar.len().min(1));
    arguments.extend(program.iter().map(|program| format!("--sidecar={program}")));
    arguments.extend(rest.iter().map(|argument| format!("--sidecar-arg={argument}")));
    arguments
}
