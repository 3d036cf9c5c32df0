//! `gate`: holds a node's start back until the controller lets it through.

use super::ask;
use crate::api::Api;
use crate::args::{Common, GateArgs};
use crate::output::{self, CommandError, Failure};
use model::api::GateTold;
use model::{GroupId, NodeId};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::net::ToSocketAddrs;
use std::path::Path;
use std::time::{Duration, Instant};

const ASK_AGAIN: Duration = Duration::from_millis(500);
/// What it waits for is said anew when it changes, and after so long.
const SAY_AGAIN: Duration = Duration::from_mins(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

pub async fn run(common: &Common, args: &GateArgs) -> Result<(), CommandError> {
    super::processes::without_core_dumps();
    let node = NodeId::new(args.node.clone()).map_err(|error| {
        CommandError::usage(error.to_string(), "give the address of the node's HTTP listener")
    })?;
    if is_running(&node) {
        let message = format!("node {node} runs already: something listens there");
        return Err(CommandError::new(
            Failure::Refused,
            message,
            "the gate is for a node that is about to start",
        ));
    }
    let routes_taken = match (&args.dir, &args.data_dir) {
        (Some(dir), Some(data_dir)) => daemon::gate::take_routes_away(dir, data_dir)
            .map_err(|error| CommandError::complete(Failure::Failed, error))?,
        _ => Vec::new(),
    };
    let forgotten = if args.overridden {
        output::line_err("started by --override: the controller was not asked");
        Vec::new()
    } else {
        let forget = wait(common, args, &node).await?;
        args.data_dir.as_ref().map_or_else(Vec::new, |data_dir| forgotten(data_dir, &forget))
    };
    let shown = json!({
        "node": node,
        "overridden": args.overridden,
        "routes_taken": routes_taken,
        "groups_forgotten": forgotten,
    });
    output::print(common.output, &shown, |_| {
        let routes = match routes_taken.len() {
            0 => String::new(),
            count => format!("; {count} routing tables were taken away, the controller writes them anew"),
        };
        let groups = match forgotten.len() {
            0 => String::new(),
            count => format!("; {count} groups that have gone on without it were forgotten"),
        };
        format!("node {node} may start{routes}{groups}")
    })
}

/// What the node has forgotten of the groups. One that it cannot forget it goes back into, as without a gate: that costs a copy, and
/// is no reason to keep it from starting.
pub(crate) fn forgotten(data_dir: &Path, groups: &BTreeSet<GroupId>) -> Vec<GroupId> {
    daemon::gate::forget_groups(data_dir, groups).unwrap_or_else(|error| {
        output::line_err(&format!("groups that have gone on without the node are not forgotten: {error}"));
        Vec::new()
    })
}

/// Whether somebody listens at the node's own address.
fn is_running(node: &NodeId) -> bool {
    let addresses = node.as_str().to_socket_addrs().into_iter().flatten();
    addresses
        .into_iter()
        .any(|address| std::net::TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).is_ok())
}

/// Asks until the node may start; gives the groups that it is to forget before.
async fn wait(common: &Common, args: &GateArgs, node: &NodeId) -> Result<BTreeSet<GroupId>, CommandError> {
    let apis = if args.controller.is_empty() {
        vec![ask::api(common)?]
    } else {
        let at = |url: &String| Api::at(url, common.token_file.clone(), &common.tls());
        args.controller.iter().map(at).collect::<Result<Vec<_>, _>>()?
    };
    let until = args.wait.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut said: Option<(String, Instant)> = None;
    loop {
        let held = match ask_all(&apis, node).await {
            Ok(told) if told.rows.is_empty() => return Ok(told.forget),
            Ok(held) => {
                let hint = "start what it waits for; `shardwright gate … --override` starts the node all the same, at the \
                            price of documents that only a newer copy has";
                CommandError::new(
                    Failure::Refused,
                    format!("node {node} is held back: {}", text(&held)),
                    hint,
                )
            }
            // A wrong token or address does not become right by waiting.
            Err(error) if error.failure != Failure::Unreachable => return Err(error),
            Err(error) => error,
        };
        if until.is_some_and(|until| Instant::now() >= until) {
            return Err(held);
        }
        let new = said.as_ref().is_none_or(|(last, at)| *last != held.message || at.elapsed() >= SAY_AGAIN);
        if new {
            output::line_err(&held.message);
            said = Some((held.message, Instant::now()));
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// The first controller that answers as a leader, or for one.
async fn ask_all(apis: &[Api], node: &NodeId) -> Result<GateTold, CommandError> {
    let mut last = None;
    for api in apis {
        match api.gate(node.as_str()).await {
            Err(error) if error.failure == Failure::Unreachable || error.failure == Failure::Failed => {
                last = Some(CommandError { failure: Failure::Unreachable, ..error });
            }
            answer => return answer,
        }
    }
    Err(last.unwrap_or_else(|| CommandError::usage("no controller to ask", "give --controller or --url")))
}

fn text(held: &GateTold) -> String {
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for row in &held.rows {
        if let [group, Some(why)] = row.as_slice() {
            groups.entry(why).or_default().extend(group.as_deref());
        }
    }
    let reason = |(why, groups): (&str, Vec<&str>)| match groups.as_slice() {
        [] => why.to_owned(),
        [group] => format!("cluster {group}: {why}"),
        [group, more @ ..] => format!("cluster {group} and {} more: {why}", more.len()),
    };
    groups.into_iter().map(reason).collect::<Vec<_>>().join("; ")
}
