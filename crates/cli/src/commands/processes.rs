//! Commands that are processes of a cluster: `node`, `serve`, `sidecar`. They run until they are told to end.

use super::config;
use crate::args::{NodeRun, ServeArgs, SidecarArgs};
use crate::output::{CommandError, Failure};
use crate::signals;
use daemon::serve::{Reloading, ServeError, ServeOptions};
use daemon::shutdown::Shutdown;
use daemon::sidecar::SidecarOptions;
use daemon::tls::{ClientTls, ServerSide, ServerTls, TlsError};
use node::{NodeOptions, NodeTls};
use std::path::PathBuf;
use std::sync::Arc;
use store::etcd::EtcdAddress;

pub async fn node(run: NodeRun, client_tls: ClientTls) -> Result<(), CommandError> {
    let tls = run.tls_cert.clone().zip(run.tls_key.clone());
    let tls = tls.map(|(cert, key)| ServerTls { cert, key, client_ca: run.tls_client_ca.clone() });
    // Without certificates there is nothing to read again.
    let mut stop = if tls.is_some() { signals::terminate()? } else { signals::stop()? };
    let mut options = NodeOptions::new(run.dir, run.mysql, run.http);
    let login = run.auth_login.as_deref().map(daemon::read_login).transpose();
    options.administrator = login.map_err(|error| CommandError::complete(Failure::Failed, error))?;
    options.tls = tls.map(|files| node_tls(files, &client_tls)).transpose()?;
    options.sidecar = run.sidecar.map(|program| std::iter::once(program).chain(run.sidecar_arg).collect());
    node::run(options, async move { stop.wait().await })
        .await
        .map_err(|error| CommandError::complete(Failure::Failed, error))
}

/// What all ports of an embedded node take, its certificates read again on SIGHUP.
fn node_tls(files: ServerTls, client: &ClientTls) -> Result<NodeTls, CommandError> {
    let failed = |error: TlsError| CommandError::complete(Failure::Failed, error);
    let side = Arc::new(ServerSide::open(files).map_err(failed)?);
    let http = client.builder().map_err(failed)?.tcp_nodelay(true).build();
    let http = http.map_err(|error| failed(TlsError::Client(error.to_string())))?;
    let connector = client.connector().map_err(failed)?;
    let (mut asked, reloaded) = (signals::reload()?, Arc::clone(&side));
    tokio::spawn(async move {
        while asked.recv().await.is_some() {
            match reloaded.reload() {
                Ok(()) => tracing::info!("certificate, key and client CA were read again"),
                Err(error) => {
                    tracing::error!(%error, "the certificate was not read again: the old one stays");
                }
            }
        }
    });
    Ok(NodeTls { acceptor: Arc::new(move || side.acceptor()), connector, client: http })
}

pub async fn serve(
    args: ServeArgs,
    file: Option<PathBuf>,
    token_file: Option<PathBuf>,
    client_tls: ClientTls,
) -> Result<(), CommandError> {
    without_core_dumps();
    for_many_connections();
    // Records of tables, and documents of backups, are nobody else's.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let sources = config::sources(file, args.settings);
    let config = config::read(&sources)?;
    // Not by clap, whose error would repeat what may hold a password.
    let store = args.store.map(|text| text.parse::<EtcdAddress>()).transpose();
    let store = store.map_err(|error| {
        CommandError::usage(format!("--store: {error}"), "leave it out to keep the log in --dir")
    })?;
    let options = ServeOptions {
        dir: args.dir,
        store,
        api: args.api,
        advertise: args.advertise,
        tls: args.tls_cert.zip(args.tls_key).map(|(cert, key)| ServerTls {
            cert,
            key,
            client_ca: args.tls_client_ca,
        }),
        client_tls,
        searchd_login: args.searchd_login,
        etcd_login: args.etcd_login,
        token_file,
        config,
        alert_webhook: args.alert_webhook,
        otlp_endpoint: args.otlp_endpoint,
        audit_syslog: args.audit_syslog,
    };
    let read = move || daemon::config::load(&sources);
    let reloading = Reloading { asked: signals::reload()?, read: Box::new(read) };
    daemon::serve::run(options, reloading, shutdown(signals::terminate()?)).await.map_err(|error| {
        let failure = match &error {
            ServeError::BeyondLoopback(_) => Failure::Refused,
            _ => Failure::Failed,
        };
        CommandError::complete(failure, error)
    })
}

pub async fn sidecar(
    args: SidecarArgs,
    token_file: Option<PathBuf>,
    tls: ClientTls,
) -> Result<(), CommandError> {
    without_core_dumps();
    let options = SidecarOptions {
        listen: args.listen,
        bind: args.bind,
        controllers: args.controller,
        dir: args.dir,
        data_dir: args.data_dir,
        token_file,
        mysql: args.mysql,
        upstream: args.upstream,
        upstream_flags: crate::sidecar_flags::all(),
        upstream_runner: tied_to_this()?,
        galera_listen: args.galera_listen,
        searchd_token: std::env::var("BUDDY_TOKEN").ok().map(Into::into),
        searchd_login: args.searchd_login,
        tls,
        node_tls: args.node_tls,
        any_local_user: args.any_local_user,
        exit_with_parent: true,
        announced: Some(crate::log::let_go),
    };
    daemon::sidecar::run(options, shutdown(signals::stop()?))
        .await
        .map_err(|error| CommandError::complete(Failure::Failed, error))
}

/// How a program is started that ends with this process, however that ends: what stands before its command.
fn tied_to_this() -> Result<Vec<String>, CommandError> {
    let own = std::env::current_exe().map_err(|error| {
        CommandError::failed(format!("this program cannot find itself: {error}"), "start it by its path")
    })?;
    let tie = format!("--die-with-parent={}", std::process::id());
    Ok(vec![own.display().to_string(), tie, "become".to_owned()])
}

/// A dump of this process would hold tokens and keys, and so would its memory for whoever else is the same user.
pub(super) fn without_core_dumps() {
    // A limit alone does not hold back a dump into a pipe.
    if let Err(error) = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
    {
        tracing::warn!(%error, "this process's memory stays readable for its user");
    }
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Core, none) {
        tracing::warn!(%error, "core dumps stay allowed: one would hold secrets");
    }
}

/// Many systems give a process 1,024 open files until it asks for more, which is less than the API's connections.
fn for_many_connections() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    const WANTED: u64 = 8_192;
    let mut limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(WANTED).min(WANTED);
    if limit.current.is_some_and(|current| current < most) {
        limit.current = Some(most);
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the limit of open files stays: there are fewer connections");
        }
    }
}

/// The signal to end, as the crates below want it.
fn shutdown(mut stop: signals::Stop) -> Shutdown {
    let (trigger, shutdown) = Shutdown::new();
    tokio::spawn(async move {
        stop.wait().await;
        trigger.pull();
    });
    shutdown
}
