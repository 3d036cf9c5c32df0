//! `dev`: starts a cluster and looks after it until it is told to end.

use super::cluster::{Cluster, ClusterOptions};
use super::remote::{Answer, Asked, Listener, Request};
use crate::output::{self, CommandError, Output};
use crate::signals;
use crate::story::Story;
use serde_json::json;
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;

/// How often processes that ended by themselves are noticed.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Runs until Ctrl-C or SIGTERM. `told` prints what a person needs once the cluster is ready.
pub async fn run(dir: &Path, options: ClusterOptions, output: Output) -> Result<(), CommandError> {
    let story = Story::new(output);
    let mut stop = signals::stop()?;
    let mut cluster = Cluster::open(dir, options)?;
    let started = tokio::select! {
        () = stop.wait() => None,
        started = cluster.start(&story) => Some(started),
    };
    if !matches!(started, Some(Ok(()))) {
        cluster.end().await;
        return started.unwrap_or(Ok(()));
    }
    let (listener, requests) = Listener::open(cluster.remote_file()).await?;
    ready(&cluster, output)?;
    let (cluster, outcome) = look_after(cluster, requests, &mut stop, &story).await;
    drop(listener);
    let stopping = story.step("stopping");
    cluster.shutdown().await?;
    stopping.done("stopped; `shardwright dev` with the same --dir continues");
    outcome
}

async fn look_after(
    mut cluster: Cluster,
    mut requests: mpsc::Receiver<Asked>,
    stop: &mut signals::Stop,
    story: &Story,
) -> (Cluster, Result<(), CommandError>) {
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            () = stop.wait() => return (cluster, Ok(())),
            _ = look.tick() => match cluster.look_after().await {
                Ok(events) => events.iter().for_each(|event| story.say(event)),
                Err(error) => return (cluster, Err(error)),
            },
            Some((request, reply)) = requests.recv() => {
                let done = tokio::select! {
                    () = stop.wait() => return (cluster, Ok(())),
                    done = carry_out(&mut cluster, &request, story) => done,
                };
                let answer = done.unwrap_or_else(|error| Answer::Error {
                    exit_code: error.failure.exit_code(),
                    message: error.message,
                    hint: error.hint,
                });
                // Who asked may have gone; the deed stands.
                let _gone = reply.send(answer);
            }
        }
    }
}

async fn carry_out(cluster: &mut Cluster, request: &Request, story: &Story) -> Result<Answer, CommandError> {
    let (node, what) = match request {
        Request::Add => (cluster.add().await?.node, "joined"),
        Request::Kill(name) => (cluster.kill(name).await?, "was killed"),
        Request::Stop(name) => (cluster.stop(name).await?, "was stopped"),
        Request::Start(name) => (cluster.start_node(name).await?, "was started"),
    };
    story.say(&format!("node {node} {what}"));
    Ok(Answer::Done { node })
}

fn ready(cluster: &Cluster, output: Output) -> Result<(), CommandError> {
    let endpoints = cluster.endpoints();
    let Some(first) = endpoints.first() else {
        let hint = "start one with `shardwright dev start 1`";
        return output::print(output, &json!({ "api": cluster.api().url() }), |_| {
            format!("controller {} runs; every node is down: {hint}", cluster.api().url())
        });
    };
    let object = json!({
        "api": cluster.api().url(),
        "dir": cluster.dir(),
        "nodes": endpoints.iter().map(|end| json!({ "id": end.node, "mysql": end.mysql.to_string() })).collect::<Vec<_>>(),
    });
    output::print(output, &object, |_| {
        let nodes: Vec<String> = endpoints
            .iter()
            .map(|end| {
                format!("node        {}   mysql -h {} -P {}", end.node, end.mysql.ip(), end.mysql.port())
            })
            .collect();
        format!(
            "controller  {}\n{}\n\n\
             Try it: mysql -h 127.0.0.1 -P {} -e \"CREATE TABLE c:products (title text) shards='6' rf='2'\"\n\
             From another terminal: shardwright dev add --dir {}\nCtrl-C stops everything.",
            cluster.api().url(),
            nodes.join("\n"),
            first.mysql.port(),
            cluster.dir().display()
        )
    })
}
