//! The one loop that owns the operator and the log: gather, tick, append, act.
//!
//! Nothing is carried out before its records are durable. When they cannot be written the operator is thrown
//! away and built anew from the log, so what it decided but could not record never happens. It runs on a thread
//! of its own: a slow disk must not keep the API from answering.

use super::ServeError;
use super::auth::Tokens;
use super::desk::{Desk, News};
use super::diary::{Diary, Origins};
use super::handle::{Handle, MESSAGES_MAX, Message, Read};
use super::looks::Looks;
use super::narrate::narrate;
use super::standing::{Seen, Standing};
use super::watchers::Watchers;
use crate::audit::{Audit, AuditError};
use crate::backup::{Runner, Tools};
use crate::files::unix_now;
use crate::shutdown::{Shutdown, Trigger};
use control::backup::Job;
use control::{Config, Controller, Effect, Input};
use manticore::Client;
use model::wire::SidecarPoll;
use model::{BackupId, LogIndex, Millis, Settings};
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{AppendError, Log};
use tokio::runtime::Handle as Runtime;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

mod follow;
pub(super) use follow::Register;
use follow::Several;

/// Inputs of one tick: bounds how long clients of the first ones wait for the last ones.
const INPUTS_MAX: usize = 256;
/// Records after which a snapshot is taken: reading so many takes a fraction of a second at the next start.
const SNAPSHOT_RECORDS: u64 = 1_000;
/// Payload read from the log at once.
const READ_BYTES_MAX: usize = 8 << 20;
/// A poll is held no longer than this, whatever the settings say.
const HOLD_MS_MAX: u64 = 1_000;
/// Between two ticks without input, so that a wake time in the past cannot spin.
const PAUSE_MS_MIN: u64 = 2;
/// Tries to write before the process stops: with the pauses between them some 20 s, enough for someone to free
/// space or a file system to come back, and short enough that a supervisor notices.
const TRIES_MAX: u32 = 10;

/// For clients that wait when the operator is thrown away.
const CONTROLLER_BUSY: &str = "the controller could not write its log: the statement may or may not be carried out; \
                               look at SHOW SHARDING OPERATIONS before repeating it";

/// The same when the audit log cannot be written.
const UNAUDITED: &str = "the audit log cannot be written: nothing was done; see the controller's log";
/// Between two tries to write the audit log.
const AUDIT_PAUSE: Duration = Duration::from_secs(1);

/// Without a tick for this long nothing is known to wait for; the operator looks at the world anyway.
const IDLE_MS_MAX: u64 = 1_000;

/// What an operator is made from besides its log.
#[derive(Clone, Debug)]
pub(super) struct Start {
    /// Of the API: `http` or `https`.
    pub(super) scheme: &'static str,
    pub(super) name: String,
    pub(super) settings: Settings,
    pub(super) seed: u64,
    pub(super) watchers: Watchers,
    /// How nodes are asked.
    pub(super) nodes: Client,
    /// The controller's directory.
    pub(super) dir: std::path::PathBuf,
    /// `None` in tests that are not about it.
    pub(super) audit: Option<Audit>,
    /// Beside a log that several controllers share.
    pub(super) records: Option<Arc<store::etcd::Records>>,
}

impl Start {
    /// How long a leader may be silent.
    pub(super) fn silence_max(&self) -> Duration {
        Duration::from_secs(self.settings.leader_timeout_seconds)
    }
}

/// Whether this controller acts. With a log of its own it always does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Leads,
    Follows,
}

/// The operator with its log, ready to run.
pub(super) struct Driver {
    start: Start,
    log: Box<dyn Log>,
    controller: Controller,
    /// The record of the latest snapshot, or of the last try to take one.
    snapshot: LogIndex,
    desk: Desk,
    messages: mpsc::Receiver<Message>,
    handle: Handle,
    looks: Looks,
    jobs: Runner,
    /// Time is counted from here.
    began: Instant,
    failures: u32,
    diary: Diary,
    role: Role,
    /// `None` with a log that no other controller can have.
    several: Option<Several>,
    standing: watch::Sender<Standing>,
    tokens: watch::Sender<Tokens>,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("start", &self.start).field("log", &self.log).finish_non_exhaustive()
    }
}

impl Driver {
    /// With a `register` the log is one that several controllers share, and this one follows at first. Blocks for as
    /// long as the log does.
    pub(super) fn open(
        start: Start,
        log: Box<dyn Log>,
        register: Option<Box<dyn Register>>,
    ) -> Result<Self, ServeError> {
        let (controller, snapshot) = rebuild(&start, &*log)?;
        let several = register.map(|register| Several::new(register, &start.name)).transpose()?;
        let (sender, messages) = mpsc::channel(MESSAGES_MAX);
        let handle = Handle::new(sender);
        let nothing_yet = Standing {
            scheme: start.scheme,
            name: start.name.as_str().into(),
            log_id: log.log_id().into(),
            leads: false,
            leader: None,
            epoch: controller.epoch(),
            last: controller.state().last,
            contact: None,
            silence_max: start.silence_max(),
            candidates: Arc::default(),
        };
        let looks = Looks::new(start.nodes.clone(), handle.clone(), Arc::clone(&start.watchers.meters));
        let deliver = {
            let handle = handle.clone();
            Arc::new(move |errand| handle.errand(errand))
        };
        let jobs =
            Runner::new(Tools::new(looks.client().clone(), &start.dir, start.records.clone(), deliver));
        let driver = Self {
            role: if several.is_some() { Role::Follows } else { Role::Leads },
            several,
            standing: watch::Sender::new(nothing_yet),
            tokens: watch::Sender::default(),
            desk: Desk::new(start.settings.hold_statements_seconds),
            looks,
            jobs,
            diary: Diary::new(start.audit.clone(), &start.name),
            start,
            log,
            controller,
            snapshot,
            messages,
            handle,
            began: Instant::now(),
            failures: 0,
        };
        let listed: Vec<BackupId> = driver.controller.backups().map(|backup| backup.id.clone()).collect();
        driver.jobs.tools().records.share(&listed);
        driver.show_standing();
        Ok(driver)
    }

    pub(super) fn is_one_of_several(&self) -> bool {
        self.several.is_some()
    }

    /// What this controller is, whenever that changes.
    pub(super) fn seen(&self) -> Seen {
        self.standing.subscribe()
    }

    /// The tokens that the log knows.
    pub(super) fn tokens(&self) -> watch::Receiver<Tokens> {
        self.tokens.subscribe()
    }

    /// For what is asked about backups between two ticks.
    pub(super) fn backup_tools(&self) -> Tools {
        self.jobs.tools().clone()
    }

    pub(super) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs on a thread of its own until `shutdown`; `failed` is pulled when it ends, however it ends.
    pub(super) fn spawn(
        self,
        shutdown: Shutdown,
        failed: Trigger,
    ) -> Result<JoinHandle<Result<(), ServeError>>, ServeError> {
        let runtime = Runtime::current();
        let (ended, end) = oneshot::channel();
        std::thread::Builder::new()
            .name("driver".to_owned())
            .spawn(move || {
                let result = self.run(&runtime, &shutdown);
                // The process is going down when nobody hears it.
                let _gone = ended.send(result);
                failed.pull();
            })
            .map_err(|error| ServeError::Driver(error.to_string()))?;
        Ok(tokio::spawn(async move {
            end.await.unwrap_or_else(|_| Err(ServeError::Driver("it panicked, see above".to_owned())))
        }))
    }

    fn run(mut self, runtime: &Runtime, shutdown: &Shutdown) -> Result<(), ServeError> {
        while !shutdown.is_pulled() {
            let received = runtime.block_on(self.gather(shutdown));
            if self.role == Role::Leads && self.still_leads()? {
                self.turn(received, runtime, shutdown)?;
            } else {
                self.follow(received, runtime, shutdown)?;
            }
        }
        self.leave();
        self.desk.clear("the controller is stopping: what was begun goes on when it is back");
        Ok(())
    }

    fn now(&self) -> Millis {
        Millis(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// What has come, after waiting for it no longer than until the next thing is due.
    async fn gather(&mut self, shutdown: &Shutdown) -> Vec<Message> {
        let now = self.now();
        let due = [self.controller.next_wake(), self.desk.next_due()].into_iter().flatten().min();
        let wait = due.map_or(IDLE_MS_MAX, |due| due.since(now).0).clamp(PAUSE_MS_MIN, IDLE_MS_MAX);
        let mut received = Vec::new();
        tokio::select! {
            biased;
            () = shutdown.wait() => {}
            message = self.messages.recv() => received.extend(message),
            () = tokio::time::sleep(Duration::from_millis(wait)) => {}
        }
        while received.len() < INPUTS_MAX {
            match self.messages.try_recv() {
                Ok(message) => received.push(message),
                Err(_) => break,
            }
        }
        received
    }

    /// One turn: tick, append, act, and only then answer.
    fn turn(
        &mut self,
        received: Vec<Message>,
        runtime: &Runtime,
        shutdown: &Shutdown,
    ) -> Result<(), ServeError> {
        let now = self.now();
        let mut sorted = self.sort(received);
        sorted.inputs.extend(self.diary.mark_due().map(Input::Audited));
        let began = Instant::now();
        let out = self.controller.tick(now, unix_now(), sorted.inputs);
        self.start.watchers.meters.turn(began.elapsed(), out.planned);
        if !out.records.is_empty() {
            let records = out.records.iter().map(serde_json::to_vec).collect::<Result<Vec<_>, _>>();
            let records = records.map_err(ServeError::Encode)?;
            let written = self.diary.write(&self.start.settings, &self.controller, &out, &sorted.origins);
            if let Err(error) = written {
                return self.unaudited(&error, runtime, shutdown);
            }
            let began = Instant::now();
            if let Err(error) = self.log.append(out.expected, &records) {
                self.diary.not_recorded(out.expected.next(), records.len(), &error);
                let conflict = matches!(error, AppendError::Conflict { .. });
                self.start.watchers.meters.not_appended(conflict);
                return if self.several.is_some() {
                    self.lost_append(error)
                } else {
                    self.begin_anew(error, runtime, shutdown)
                };
            }
            self.start.watchers.meters.appended(began.elapsed(), records.len());
            self.failures = 0;
            self.reached_log();
            for record in &out.records {
                narrate(self.controller.state(), record);
                self.start.watchers.record(self.controller.state(), record);
            }
        }
        for effect in out.effects {
            self.carry_out(now, effect, runtime);
        }
        self.answer(now, sorted.polls, sorted.reads);
        self.snapshot_when_due();
        Ok(())
    }

    fn sort(&mut self, received: Vec<Message>) -> Sorted {
        let mut sorted = Sorted::default();
        for message in received {
            match message {
                Message::Poll { poll, reply } => {
                    let taken = if poll.epoch == self.controller.epoch() { poll.taken } else { 0 };
                    self.desk.heard(&poll.node, &poll.run, taken);
                    self.desk.ended(&poll.node, &poll.results);
                    sorted.inputs.push(Input::Sidecar(poll.clone()));
                    sorted.polls.push((poll, reply));
                }
                Message::Statement { request, statement, rights, origin, reply } => {
                    self.desk.wait(request, reply);
                    sorted.origins.insert(request, origin);
                    sorted.inputs.push(Input::Statement { request, statement, rights });
                }
                Message::Token { request, order, origin, reply } => {
                    self.desk.wait(request, reply);
                    sorted.origins.insert(request, origin);
                    sorted.inputs.push(Input::Token { request, order });
                }
                Message::Abandoned(request) => {
                    self.desk.forget(request);
                    sorted.inputs.push(Input::Abandoned { request });
                }
                Message::Polled(answer) => sorted.inputs.push(Input::Polled(answer)),
                Message::Measured { node, token, measured } => {
                    sorted.inputs.push(Input::Measured { node, token, measured });
                }
                Message::JobOver { operation, step, attempt, end } => {
                    sorted.inputs.push(Input::JobOver { operation, step, attempt, end });
                }
                Message::Errand(errand) => self.desk.errand(self.now(), self.controller.epoch(), errand),
                Message::Read(read) => sorted.reads.push(read),
                Message::Settings(settings) => self.take_settings(*settings),
                Message::Certificates(ends) => self.controller.set_certificates(ends),
                // The lookout asked before it could see that this controller leads already.
                Message::Lead { .. } => {}
            }
        }
        sorted
    }

    /// They hold from the next decision on.
    fn take_settings(&mut self, settings: Settings) {
        if let Some(audit) = &self.start.audit {
            audit.stop_changes_on_failure(settings.audit_failure_stops_changes);
        }
        self.desk.hold_statements(settings.hold_statements_seconds);
        self.controller.set_settings(settings.clone());
        self.start.settings = settings;
    }

    fn carry_out(&mut self, now: Millis, effect: Effect, runtime: &Runtime) {
        match effect {
            Effect::Poll { node, token, tables, timeout_ms } => {
                self.looks.poll(runtime, node, token, tables, Duration::from_millis(timeout_ms));
            }
            Effect::Measure { node, token, tables, deep } => {
                self.looks.measure(runtime, node, token, tables, deep);
            }
            Effect::Job { operation, step, attempt, job } => {
                if let Job::Facts { data, .. } = &*job {
                    let kept = self.controller.backups().map(|backup| backup.id.clone());
                    let kept = kept.chain([data.backup_id.clone()]).collect();
                    self.jobs.tools().records.prune(&kept, self.controller.state().last, unix_now());
                }
                let handle = self.handle.clone();
                self.jobs.begin(runtime, (operation, step), *job, move |end| async move {
                    handle.seen(Message::JobOver { operation, step, attempt, end }).await;
                });
            }
            Effect::EndJob { operation, step } => self.jobs.end((operation, step)),
            Effect::Command { node, command } => self.desk.queue(now, node, command),
            Effect::Answer { request, reply } => self.desk.answer(request, reply),
            // Held polls are looked through after every tick; the effect only says that the tick mattered.
            Effect::NamesChanged => {}
            Effect::Announce(alert) => self.start.watchers.announce(alert),
        }
    }

    fn answer(&mut self, now: Millis, polls: Vec<(SidecarPoll, Reply)>, reads: Vec<Read>) {
        // Nothing waits for the end of a hold: whoever has news, here or there, does not keep it.
        let hold = Millis((2 * self.start.settings.node_poll_interval_ms).min(HOLD_MS_MAX));
        let controller = &self.controller;
        let standing = |has| controller.standing_orders(has);
        for (poll, reply) in polls {
            let orders = standing(poll.versions());
            let news = poll.epoch != orders.epoch || poll.log_id.as_ref() != Some(&orders.log_id);
            let until = if news { now } else { now + hold };
            let has = poll.versions();
            self.desk.hold(poll.node, until, has, reply, standing);
        }
        // The moment of answering, which an append may have put off: commands carry what is left of their time.
        let news = News { names_version: controller.names_version(), suspects: controller.suspects() };
        self.desk.answer_held(self.now(), news, standing);
        let unix_now = unix_now();
        for read in reads {
            read(controller, now, unix_now);
        }
    }

    fn snapshot_when_due(&mut self) {
        let (at, state) = match self.log.last() {
            Ok(last) if last.0 >= self.snapshot.0 + SNAPSHOT_RECORDS => match self.controller.snapshot() {
                Ok(taken) => taken,
                Err(error) => {
                    tracing::error!(%error, "the state cannot be written: the control log grows without a snapshot");
                    self.snapshot = last;
                    return;
                }
            },
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(%error, "the end of the control log cannot be read: no snapshot");
                return;
            }
        };
        if let Err(error) = self.log.snapshot(at, &state) {
            tracing::warn!(%error, %at, "no snapshot: the control log grows until the next one");
        }
        // After a failure too: the next try comes with the next records, not with every tick.
        self.snapshot = at;
    }

    /// After a failed append: nothing that was decided in that tick is done, and the log alone says what holds.
    fn begin_anew(
        &mut self,
        error: AppendError,
        runtime: &Runtime,
        shutdown: &Shutdown,
    ) -> Result<(), ServeError> {
        tracing::error!(%error, "the control log was not written: nothing is done, the state is read anew");
        self.desk.clear(CONTROLLER_BUSY);
        self.jobs.end_all();
        let too_large = matches!(error, AppendError::TooLarge { .. });
        loop {
            self.failures += 1;
            if self.failures >= TRIES_MAX || too_large {
                return Err(ServeError::Unwritable { tries: self.failures, error });
            }
            let pause = Duration::from_millis(50 << self.failures.min(6));
            runtime.block_on(async {
                tokio::select! {
                    () = shutdown.wait() => {}
                    () = tokio::time::sleep(pause) => {}
                }
            });
            if shutdown.is_pulled() {
                return Ok(());
            }
            match self.reread() {
                Ok(()) => return Ok(()),
                Err(later) if passes(&later) => {
                    tracing::error!(error = %later, "the control log cannot be read yet");
                }
                Err(stays) => return Err(stays),
            }
        }
    }

    /// What was decided cannot be audited: nothing of it is done, and what holds is read from the log. Tried again without
    /// end: the settings have changes wait for the audit log.
    fn unaudited(
        &mut self,
        error: &AuditError,
        runtime: &Runtime,
        shutdown: &Shutdown,
    ) -> Result<(), ServeError> {
        if self.several.is_some() {
            self.step_down(&error.to_string());
            return Ok(());
        }
        tracing::error!(%error, "nothing is done without its lines in the audit log");
        self.desk.clear(UNAUDITED);
        self.jobs.end_all();
        runtime.block_on(async {
            tokio::select! {
                () = shutdown.wait() => {}
                () = tokio::time::sleep(AUDIT_PAUSE) => {}
            }
        });
        match self.reread() {
            Err(error) if passes(&error) => {
                tracing::error!(%error, "the control log cannot be read yet");
                Ok(())
            }
            other => other,
        }
    }

    fn reread(&mut self) -> Result<(), ServeError> {
        self.log.recover()?;
        (self.controller, self.snapshot) = rebuild(&self.start, &*self.log)?;
        Ok(())
    }
}

/// Whether a failure to read may be over in a moment. Damage is not.
fn passes(error: &ServeError) -> bool {
    matches!(
        error,
        ServeError::OpenLog(store::OpenError::Io { .. } | store::OpenError::Unreachable { .. })
            | ServeError::ReadLog(store::ReadError::Io { .. } | store::ReadError::Stopped { .. })
    )
}

type Reply = oneshot::Sender<super::desk::Orders>;

/// What came in, by what is done with it.
#[derive(Default)]
struct Sorted {
    inputs: Vec<Input>,
    polls: Vec<(SidecarPoll, Reply)>,
    reads: Vec<Read>,
    origins: Origins,
}

/// The operator that the log describes, and the record of its snapshot.
fn rebuild(start: &Start, log: &dyn Log) -> Result<(Controller, LogIndex), ServeError> {
    let snapshot = log.latest_snapshot()?;
    let at = snapshot.as_ref().map_or(LogIndex(0), |(at, _)| *at);
    let mut records = Vec::new();
    let mut next = at.next();
    loop {
        let read = log.read(next, READ_BYTES_MAX)?;
        let Some((last, _)) = read.last() else { break };
        next = last.next();
        records.extend(read);
    }
    let config = Config {
        name: start.name.clone(),
        log_id: log.log_id(),
        settings: start.settings.clone(),
        // An operator that is built anew must not choose the names again that the one before it chose.
        seed: start.seed.wrapping_add(next.0),
    };
    let snapshot = snapshot.as_ref().map(|(at, state)| (*at, state.as_slice()));
    Ok((Controller::open(config, snapshot, records)?, at))
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_several;
