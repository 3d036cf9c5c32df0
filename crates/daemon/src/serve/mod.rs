//! The controller as a process: one control log, one driver that owns the operator, one HTTP API.
//!
//! A request goes API → [`driver`] → operator → log → effects → [`desk`] (commands, answers) or [`looks`] (nodes).
//! Nothing but the driver touches the operator or the log, so there is one order of things and no lock.
//!
//! Of several controllers on one log, one leads: [`lookout`] listens for the leader's sign of life, the driver takes
//! the lead and gives it up, [`standing`] is what it is, and [`forward`] what happens to requests meanwhile.

mod announce;
mod api;
mod audits;
mod auth;
mod backups;
mod board;
mod caller;
mod census;
mod certificates;
mod desk;
mod diary;
mod driver;
mod events;
mod exposition;
mod forward;
mod handle;
mod history;
mod import;
mod lookout;
mod looks;
mod meters;
mod narrate;
mod openapi;
mod orders;
mod problem;
mod prometheus;
mod reload;
mod rights;
mod sidecars;
mod silences;
mod sinks;
mod spans;
mod standing;
mod tables;
mod tokens;
mod watchers;
mod web;

pub use reload::Reloading;

use crate::audit::{Audit, AuditError, AuditOptions, Entry, Event};
use crate::config::{ConfigShow, Loaded};
use crate::crowd::Crowds;
use crate::files::{self, FileError};
use crate::http::{self, ConnectionLimits};
use crate::shutdown::Shutdown;
use crate::tls::{CertificateEnd, ClientTls, ServerSide, ServerTls, TlsError};
use api::Shared;
use manticore::Login;
use secrecy::{ExposeSecret as _, SecretString};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use store::Log;
use store::etcd::{Candidates, EtcdAddress, EtcdLog, EtcdLogin};
use store::file::FileLog;
use tokio::net::TcpListener;
use tokio::sync::watch;
use watchers::Watchers;

/// Where the control log lies under the directory.
const LOG_DIRECTORY: &str = "log";
/// The token of `DIR/token`.
const TOKEN_FILE: &str = "token";

/// Two connections for each of 1,000 nodes' sidecars (a held poll, a statement), and some for people.
const LIMITS: ConnectionLimits =
    ConnectionLimits { connections_max: 2_500, header_time_max: Duration::from_secs(30) };

/// What a controller is started with.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Holds the token, and the control log unless `store` names one; made when it is not there.
    pub dir: PathBuf,
    /// The log that several controllers share. `None`: the log in `dir`, and one controller.
    pub store: Option<EtcdAddress>,
    /// Beyond loopback only with `tls`; port 0 takes a free one.
    pub api: SocketAddr,
    /// What others reach this controller by, and what its certificate names; otherwise `api`.
    pub advertise: Option<String>,
    /// What the API's listener shows.
    pub tls: Option<ServerTls>,
    /// What this controller trusts and shows towards other controllers, webhook and collector.
    pub client_tls: ClientTls,
    pub config: Loaded,
    /// The user of etcd, as `NAME:PASSWORD` in a private file.
    pub etcd_login: Option<PathBuf>,
    /// A token of role `sidecar`, by which the leader knows requests that this controller passes on.
    pub token_file: Option<PathBuf>,
    /// The user of searchd to look at nodes as, as `NAME:PASSWORD` in a private file.
    pub searchd_login: Option<PathBuf>,
    /// An Alertmanager to tell of alerts, by its URL. Besides it the log always is.
    pub alert_webhook: Option<String>,
    /// A collector of OpenTelemetry traces, by its URL for OTLP over HTTP.
    pub otlp_endpoint: Option<String>,
    /// The socket of the system's log, which gets a copy of every line of the audit log.
    pub audit_syslog: Option<PathBuf>,
}

/// Why a controller did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(
        "refused to listen on {0}: beyond loopback the API needs TLS; give --tls-cert and --tls-key, or listen on 127.0.0.1"
    )]
    BeyondLoopback(SocketAddr),
    #[error("cannot listen on {address}: {error}; free the port or choose another with --api")]
    Listen { address: SocketAddr, error: std::io::Error },
    #[error("there is no token in {}: make one with `shardwright token create NAME --role sidecar`", .0.display())]
    EmptyToken(PathBuf),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Audit(#[from] AuditError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    OpenLog(#[from] store::OpenError),
    #[error(transparent)]
    ReadLog(#[from] store::ReadError),
    #[error(transparent)]
    Replay(#[from] control::OpenError),
    #[error("stopped after {tries} tries to write the control log: {error}; nothing was done without it")]
    Unwritable { tries: u32, error: store::AppendError },
    #[error(
        "the record of a decision cannot be written as JSON ({0}): this is a fault of shardwright, report it"
    )]
    Encode(serde_json::Error),
    #[error("the driver ended without a word ({0}): this is a fault of shardwright, report it")]
    Driver(String),
    #[error("--alert-webhook: {0}; give the Alertmanager's URL, as in http://127.0.0.1:9093")]
    Webhook(String),
    #[error("--otlp-endpoint: {0}; give the collector's URL for OTLP over HTTP, as in http://127.0.0.1:4318")]
    Collector(String),
    #[error("no HTTP client: {0}; check the system's TLS and resolver configuration")]
    Client(String),
}

/// A controller that listens and has read its log, but does not act yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    tls: Option<Arc<ServerSide>>,
    client_tls: ClientTls,
    address: SocketAddr,
    token: SecretString,
    driver: driver::Driver,
    shared: Shared,
    webhook: Option<announce::Webhook>,
    exporter: Option<spans::Exporter>,
    cooldown: Duration,
    config: Loaded,
    shown: watch::Sender<Arc<ConfigShow>>,
    /// What the listener shows, to look at its end.
    files: Option<ServerTls>,
    certificates: watch::Sender<Vec<CertificateEnd>>,
    reloading: Option<Reloading>,
}

impl Server {
    /// Takes the port, the log and the token; reads the log. Must run inside a tokio runtime.
    pub async fn bind(options: ServeOptions) -> Result<Self, ServeError> {
        if !options.api.ip().is_loopback() && options.tls.is_none() {
            return Err(ServeError::BeyondLoopback(options.api));
        }
        let tls = options.tls.clone().map(ServerSide::open).transpose()?.map(Arc::new);
        let fail = |error| ServeError::Listen { address: options.api, error };
        let listener = TcpListener::bind(options.api).await.map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        files::ensure_directory(&options.dir)?;
        let token = auth::token(&options.dir.join(TOKEN_FILE))?;
        let seed = files::random_hex(8)?;
        let watchers = Watchers::default();
        let history = history::History::new(&options.dir, options.config.settings.metrics_retention_days);
        let cooldown = options.config.settings.alert_cooldown_seconds;
        let name = options.advertise.clone().unwrap_or_else(|| address.to_string());
        let scheme = if tls.is_some() { "https" } else { "http" };
        let nodes = nodes(&options)?;
        let mut start = driver::Start {
            scheme,
            watchers: watchers.clone(),
            name: name.clone(),
            settings: options.config.settings.clone(),
            seed: u64::from_str_radix(&seed, 16).unwrap_or_default(),
            nodes: nodes.clone(),
            dir: options.dir.clone(),
            audit: None,
            records: None,
        };
        // Both logs block while they are read, and the second one on the network.
        let (of_audit, client_tls) = (options.clone(), options.client_tls.clone());
        let store = options.store.map(|address| etcd_over(address, &client_tls)).transpose()?;
        let login = options.etcd_login.as_deref().map(files::read_login).transpose()?;
        let store = match (store, login) {
            (Some(store), Some(Login { name, password })) => {
                Some(store.as_user(EtcdLogin { name, password }))
            }
            (store, _) => store,
        };
        let dir = options.dir;
        let opening = tokio::task::spawn_blocking(move || {
            let (log, register): (_, Option<Box<dyn driver::Register>>) = match &store {
                None => (open_file(&dir, address)?, None),
                Some(store) => (open_etcd(store)?, Some(Box::new(Candidates::new(store)))),
            };
            start.records = store.as_ref().map(|store| Arc::new(store::etcd::Records::new(store)));
            let audit = open_audit(&of_audit, address)?;
            start.audit = Some(audit.clone());
            Ok::<_, ServeError>((driver::Driver::open(start, log, register)?, audit))
        });
        let (driver, audit) = opening.await.map_err(|error| ServeError::Driver(error.to_string()))??;
        let shown = watch::Sender::new(Arc::new(options.config.show()));
        let certificates = watch::Sender::new(Vec::new());
        let shared = Shared {
            census: census::Census::new(nodes, driver.handle()),
            handle: driver.handle(),
            access: auth::Access::new(token.expose_secret(), driver.tokens(), address.ip().is_loopback()),
            denials: Arc::default(),
            audit,
            config: shown.subscribe(),
            crowds: Crowds::default(),
            requests: Arc::new(tokio::sync::Semaphore::new(api::REQUESTS_MAX)),
            backups: driver.backup_tools(),
            standing: driver.seen(),
            forwarding: forward::Forwarding::new(&client_tls, options.token_file.as_deref())?,
            watchers,
            history,
            events: events::Events::default(),
            certificates: certificates.subscribe(),
        };
        let log_id = shared.standing.borrow().log_id.to_string();
        let Watchers { spans, meters, .. } = &shared.watchers;
        let exporter = options
            .otlp_endpoint
            .map(|url| spans::Exporter::new(&url, &name, &log_id, (spans, meters), &client_tls));
        let exporter = exporter.transpose()?;
        let webhook =
            options.alert_webhook.map(|url| announce::Webhook::new(&url, log_id, cooldown, &client_tls));
        let webhook = webhook.transpose()?;
        Ok(Self {
            listener,
            tls,
            client_tls,
            address,
            token,
            driver,
            shared,
            webhook,
            exporter,
            cooldown: Duration::from_secs(cooldown),
            config: options.config,
            shown,
            files: options.tls,
            certificates,
            reloading: None,
        })
    }

    /// Where the API listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What changes need as `Authorization: Bearer`.
    pub fn token(&self) -> &str {
        self.token.expose_secret()
    }

    /// Reads its settings again when that is asked for.
    #[must_use]
    pub fn reloading(self, reloading: Reloading) -> Self {
        Self { reloading: Some(reloading), ..self }
    }

    /// Serves and acts until `shutdown`, or until the log can be neither written nor read.
    pub async fn run(mut self, shutdown: Shutdown) -> Result<(), ServeError> {
        let (failed, stop) = Shutdown::new();
        if self.driver.is_one_of_several() {
            let (client, seen) = (lookout::client(&self.client_tls)?, self.driver.seen());
            let (sign, lives) = watch::channel(true);
            tokio::spawn(lookout::run(client, seen.clone(), self.driver.handle(), sign, shutdown.clone()));
            let watchers = self.shared.watchers.clone();
            tokio::spawn(watchers::watch_the_lead(watchers, seen, lives, self.cooldown, shutdown.clone()));
        }
        let census = self.shared.census.clone();
        tokio::spawn(census.run(self.driver.seen(), shutdown.clone()));
        self.watch(&shutdown);
        let files = (self.files.clone(), self.client_tls.clone());
        tokio::spawn(certificates::run(
            files,
            self.certificates.clone(),
            self.driver.handle(),
            shutdown.clone(),
        ));
        if let Some(reloading) = self.reloading.take() {
            let driver = self.driver.handle();
            let told = (driver, self.shared.audit.clone(), self.tls.clone());
            tokio::spawn(reload::run(reloading, self.config, self.shown, told, shutdown.clone()));
        }
        let driving = self.driver.spawn(shutdown.clone(), failed)?;
        let entry = self.tls.map_or(http::Entry::Anyone, http::Entry::Tls);
        http::serve(self.listener, entry, api::router(self.shared), LIMITS, either(shutdown, stop)).await;
        match driving.await {
            Ok(ended) => ended,
            Err(_gone) => Err(ServeError::Driver("its thread is gone".to_owned())),
        }
    }

    /// Starts what watches: history, events, the sender of alerts.
    fn watch(&mut self, shutdown: &Shutdown) {
        let (driver, seen) = (self.driver.handle(), self.driver.seen());
        let Shared { history, events, watchers, .. } = self.shared.clone();
        tokio::spawn(history::run(history, driver.clone(), seen, shutdown.clone()));
        tokio::spawn(events::run(events, driver, shutdown.clone()));
        if let Some(exporter) = self.exporter.take() {
            tokio::spawn(exporter.run(shutdown.clone()));
        }
        if let Some(webhook) = self.webhook.take() {
            tokio::spawn(webhook.run(watchers.announcer, watchers.meters, shutdown.clone()));
        }
    }
}

/// The page of `/metrics` as it is for this state, in the Prometheus text format: for `bench control`.
pub fn metrics_page(controller: &control::Controller, unix: u64) -> String {
    let board = board::Board::of(controller, unix);
    let mut page = prometheus::text(&board, exposition::Format::Prometheus);
    meters::Meters::default().show(&mut page);
    page.end()
}

/// The audit log in the controller's directory, with a line that it is written again.
fn open_audit(options: &ServeOptions, address: SocketAddr) -> Result<Audit, ServeError> {
    let settings = &options.config.settings;
    let audit = Audit::open(
        &options.dir,
        &AuditOptions {
            syslog: options.audit_syslog.clone(),
            retention_days: settings.audit_retention_days,
            failure_stops_changes: settings.audit_failure_stops_changes,
        },
    )?;
    let mut entry = Entry::new(Event::Start, "controller", "serve");
    entry.from = Some(address.to_string());
    entry.detail = Some(serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "process": std::process::id(),
        "settings": options.config.show().settings,
    }));
    audit.before(vec![entry])?;
    Ok(audit)
}

/// The client for nodes.
fn nodes(options: &ServeOptions) -> Result<manticore::Client, ServeError> {
    let way = if options.config.settings.require_tls_for_cluster_communication {
        manticore::Way::tls(|| options.client_tls.builder())?
    } else {
        manticore::Way::plain()
    };
    let own = options.searchd_login.as_deref().map(files::read_login).transpose()?;
    let logins = manticore::Logins { own, sidecar: None };
    manticore::Client::new(manticore::USER_AGENT, logins, way)
        .map_err(|error| ServeError::Client(error.to_string()))
}

/// The address with what its TLS needs. Plain text stays on this machine.
fn etcd_over(address: EtcdAddress, client_tls: &ClientTls) -> Result<EtcdAddress, ServeError> {
    if address.is_encrypted() {
        let tls = client_tls.for_etcd()?;
        return Ok(address.over(tls));
    }
    if address.is_on_loopback() { Ok(address) } else { Err(TlsError::Plain(address.to_string()).into()) }
}

/// The log in `dir`, which no other process can have.
fn open_file(dir: &Path, address: SocketAddr) -> Result<Box<dyn Log>, ServeError> {
    let directory = dir.join(LOG_DIRECTORY);
    let id = files::random_hex(store::LOG_ID_LEN / 2)?;
    let holder = format!("shardwright serve on {address}, process {}", std::process::id());
    files::ensure_directory(&directory)?;
    let mut log = FileLog::open(&directory, &holder, || id)?;
    for note in log.take_notes() {
        tracing::info!(%note, "control log");
    }
    Ok(Box::new(log))
}

/// The log that several controllers share.
fn open_etcd(address: &EtcdAddress) -> Result<Box<dyn Log>, ServeError> {
    let (writer, id) = (files::random_hex(store::LOG_ID_LEN / 2)?, files::random_hex(store::LOG_ID_LEN / 2)?);
    let opened = EtcdLog::open(address, writer, || id)?;
    if opened.created {
        tracing::info!(log_id = opened.log.log_id(), store = %address, "made a new control log");
    }
    Ok(Box::new(opened.log))
}

/// A signal that comes when either does.
fn either(one: Shutdown, other: Shutdown) -> Shutdown {
    let (trigger, both) = Shutdown::new();
    tokio::spawn(async move {
        tokio::select! {
            () = one.wait() => {}
            () = other.wait() => {}
        }
        trigger.pull();
    });
    both
}

/// A controller from start to `shutdown`.
pub async fn run(options: ServeOptions, reloading: Reloading, shutdown: Shutdown) -> Result<(), ServeError> {
    Server::bind(options).await?.reloading(reloading).run(shutdown).await
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_rights;
#[cfg(test)]
mod tests_sinks;
#[cfg(test)]
mod tests_watch;
