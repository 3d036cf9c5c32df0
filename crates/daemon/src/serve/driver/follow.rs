//! A log that several controllers share: following the leader, taking the lead, and giving it up.
//!
//! Whoever leads knows it from its own record in the log, and holds it as long as its appends succeed. Every other
//! news from the log means that it has lost the lead: it throws its decisions away and follows.

use super::{CONTROLLER_BUSY, Driver, READ_BYTES_MAX, Role, passes, rebuild};
use crate::files::unix_now;
use crate::serve::ServeError;
use crate::serve::handle::Message;
use crate::serve::standing::Standing;
use crate::shutdown::Shutdown;
use control::Record;
use model::wire::StatementReply;
use model::{Epoch, LogIndex};
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{AppendError, ReadError};
use tokio::runtime::Handle as Runtime;

/// How often a follower reads on: what it shows of the log is no older.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);
/// How often a leader that writes nothing looks whether it still leads. Well below the silence after which it is
/// replaced, so that it never seems silent while it reaches the log.
const CONFIRM_EVERY: Duration = Duration::from_secs(1);
/// The list of candidates changes with starts and stops of controllers only.
const LIST_EVERY: Duration = Duration::from_secs(2);

/// The list of controllers that may lead, kept beside the log.
pub(in crate::serve) trait Register: Send {
    fn enter(&self, name: &str) -> Result<(), ReadError>;
    fn leave(&self, name: &str) -> Result<(), ReadError>;
    /// The lowest name first.
    fn list(&self) -> Result<Vec<String>, ReadError>;
}

impl Register for store::etcd::Candidates {
    fn enter(&self, name: &str) -> Result<(), ReadError> {
        Self::enter(self, name)
    }

    fn leave(&self, name: &str) -> Result<(), ReadError> {
        Self::leave(self, name)
    }

    fn list(&self) -> Result<Vec<String>, ReadError> {
        Self::list(self)
    }
}

/// What a controller among several has besides its log.
pub(super) struct Several {
    register: Box<dyn Register>,
    candidates: Arc<[String]>,
    listed: Option<Instant>,
    /// When the log was last read or written.
    pub(super) contact: Instant,
    /// The operator has decided what was not recorded: it must be built anew before anything else.
    stale: bool,
}

impl Several {
    pub(super) fn new(register: Box<dyn Register>, name: &str) -> Result<Self, ServeError> {
        register.enter(name)?;
        Ok(Self { register, candidates: Arc::default(), listed: None, contact: Instant::now(), stale: false })
    }

    /// Keeps this controller on the list, and the list fresh.
    fn refresh(&mut self, name: &str) {
        if self.listed.is_some_and(|listed| listed.elapsed() < LIST_EVERY) {
            return;
        }
        let listed = self.register.list().and_then(|names| {
            if !names.iter().any(|one| one == name) {
                self.register.enter(name)?;
            }
            Ok(names)
        });
        match listed {
            Ok(names) => self.candidates = names.into(),
            Err(error) => tracing::warn!(%error, "the list of candidates cannot be read: the old one holds"),
        }
        self.listed = Some(Instant::now());
    }
}

impl Driver {
    /// What everyone else is to see of this controller.
    pub(super) fn standing(&self) -> Standing {
        let state = self.controller.state();
        Standing {
            scheme: self.start.scheme,
            name: self.start.name.as_str().into(),
            log_id: self.log.log_id().into(),
            leads: self.role == Role::Leads,
            leader: state.leader.as_deref().map(Into::into),
            epoch: state.epoch,
            last: state.last,
            contact: self.several.as_ref().map(|several| several.contact),
            silence_max: self.start.silence_max(),
            candidates: self
                .several
                .as_ref()
                .map(|several| Arc::clone(&several.candidates))
                .unwrap_or_default(),
        }
    }

    pub(super) fn show_standing(&self) {
        self.standing.send_replace(self.standing());
        let tokens = &self.controller.state().tokens;
        self.tokens.send_if_modified(|known| {
            let news = **known != *tokens;
            if news {
                *known = Arc::new(tokens.clone());
            }
            news
        });
    }

    /// The log was read or written just now.
    pub(super) fn reached_log(&mut self) {
        if let Some(several) = &mut self.several {
            several.contact = Instant::now();
        }
        self.show_standing();
    }

    /// Whether the lead was not lost meanwhile, as far as the log was reached. A process that was frozen asks here
    /// first of all.
    pub(super) fn still_leads(&mut self) -> Result<bool, ServeError> {
        if self.several.as_ref().is_none_or(|several| several.contact.elapsed() < CONFIRM_EVERY) {
            return Ok(true);
        }
        let known = self.controller.state().last;
        match self.log.last() {
            Ok(last) if last == known => {
                self.reached_log();
                Ok(true)
            }
            Ok(last) if last < known => Err(went_back(known, last)),
            Ok(_) => {
                self.step_down("another controller has written to the control log");
                Ok(false)
            }
            Err(error) => {
                let error = ServeError::ReadLog(error);
                if !passes(&error) {
                    return Err(error);
                }
                // It can do nothing that must be recorded, and shows no sign of life until this is over.
                tracing::warn!(%error, "the control log is not reached");
                Ok(true)
            }
        }
    }

    /// After a failed append among several controllers. Its outcome, and who leads, is for the log to say.
    pub(super) fn lost_append(&mut self, error: AppendError) -> Result<(), ServeError> {
        match error {
            AppendError::TooLarge { .. } => Err(ServeError::Unwritable { tries: 1, error }),
            AppendError::Conflict { expected, actual } if actual < expected => {
                Err(went_back(expected, actual))
            }
            error => {
                self.step_down(&error.to_string());
                Ok(())
            }
        }
    }

    /// Nothing that was decided and not recorded is done, by this controller under this epoch or ever.
    pub(super) fn step_down(&mut self, why: &str) {
        tracing::warn!(why, epoch = %self.controller.epoch(), "this controller acts no more until the log says that it leads");
        self.role = Role::Follows;
        if let Some(several) = &mut self.several {
            several.stale = true;
        }
        self.desk.clear(CONTROLLER_BUSY);
        self.jobs.end_all();
        self.show_standing();
    }

    /// One turn of a follower: answers that it is one, reads on, and takes the lead when it is its to take.
    pub(super) fn follow(
        &mut self,
        received: Vec<Message>,
        runtime: &Runtime,
        shutdown: &Shutdown,
    ) -> Result<(), ServeError> {
        let asked = self.answer_as_follower(received);
        let Some(several) = &self.several else { return Ok(()) };
        if !several.stale && asked.is_none() && several.contact.elapsed() < FOLLOW_EVERY {
            return Ok(());
        }
        match self.read_and_decide(asked) {
            Ok(false) => Ok(()),
            // The first tick records it; when that record is not the next one, another was faster.
            Ok(true) => {
                self.role = Role::Leads;
                self.turn(Vec::new(), runtime, shutdown)
            }
            Err(error) if passes(&error) => {
                tracing::warn!(%error, "the control log is not reached");
                Ok(())
            }
            Err(stays) => Err(stays),
        }
    }

    /// Reads on. Whether the lead is to be taken: the operator is then as after a start.
    fn read_and_decide(&mut self, asked: Option<Epoch>) -> Result<bool, ServeError> {
        self.catch_up()?;
        if let Some(several) = &mut self.several {
            several.refresh(&self.start.name);
        }
        self.reached_log();
        if self.is_to_lead(asked) {
            self.follow_anew()?;
        }
        // Again: another controller may have been faster meanwhile.
        Ok(self.is_to_lead(asked))
    }

    fn is_to_lead(&self, asked: Option<Epoch>) -> bool {
        let state = self.controller.state();
        // The leader by the log is this one, from before it was restarted or lost an append: nobody else leads.
        state.leader.as_ref() == Some(&self.start.name) || asked == Some(state.epoch)
    }

    /// What a follower says. The epoch after which it is to take the lead, when the lookout says so.
    fn answer_as_follower(&mut self, received: Vec<Message>) -> Option<Epoch> {
        let (now, unix) = (self.now(), unix_now());
        let mut asked = None;
        for message in received {
            match message {
                Message::Statement { reply, .. } | Message::Token { reply, .. } => {
                    let message =
                        "this controller does not lead any more: nothing was done, send it again".to_owned();
                    // A client that left needs no answer.
                    let _gone = reply.send(StatementReply::Error { message });
                }
                Message::Read(read) => read(&self.controller, now, unix),
                Message::Lead { after } => asked = Some(after),
                Message::Settings(settings) => self.take_settings(*settings),
                Message::Certificates(ends) => self.controller.set_certificates(ends),
                // A poll that goes without an answer is sent again, to the leader; the rest was for the operator.
                Message::Poll { .. }
                | Message::Abandoned(_)
                | Message::Polled(_)
                | Message::Measured { .. }
                | Message::JobOver { .. }
                | Message::Errand(_) => {}
            }
        }
        asked
    }

    /// Reads what the leader has written since.
    fn catch_up(&mut self) -> Result<(), ServeError> {
        if self.several.as_ref().is_some_and(|several| several.stale) {
            self.log.recover()?;
            return self.follow_anew();
        }
        loop {
            let records = match self.log.read(self.controller.state().last.next(), READ_BYTES_MAX) {
                Err(ReadError::Compacted { .. }) => return self.follow_anew(),
                read => read?,
            };
            if records.is_empty() {
                return Ok(());
            }
            for (index, record) in records {
                if let Record::LeaderElected { epoch, name, .. } = self.controller.read_on(index, &record)? {
                    tracing::info!(%epoch, name, "this controller follows");
                    self.start.watchers.meters.leader_changed();
                }
            }
        }
    }

    fn follow_anew(&mut self) -> Result<(), ServeError> {
        (self.controller, self.snapshot) = rebuild(&self.start, &*self.log)?;
        if let Some(several) = &mut self.several {
            several.stale = false;
        }
        Ok(())
    }

    /// At a clean end: nobody need ask this one any more.
    pub(super) fn leave(&self) {
        if let Some(several) = &self.several
            && let Err(error) = several.register.leave(&self.start.name)
        {
            tracing::warn!(%error, "this controller stays on the list of candidates");
        }
    }
}

/// The log is shorter than it was: an older copy stands in its place.
fn went_back(known: LogIndex, last: LogIndex) -> ServeError {
    ServeError::ReadLog(ReadError::BeyondEnd { from: known.next(), last })
}
