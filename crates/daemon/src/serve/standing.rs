//! What this controller is at the moment, leader or follower, for everyone outside the driver.

use model::api::ControllerShow;
use model::{Epoch, LogIndex};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Set by the driver alone.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    /// `https` when this controller speaks TLS: then all on one log do.
    pub(super) scheme: &'static str,
    /// This controller, as the log names it.
    pub(super) name: Arc<str>,
    pub(super) log_id: Arc<str>,
    pub(super) leads: bool,
    /// The leader by the log, as far as it was read.
    pub(super) leader: Option<Arc<str>>,
    pub(super) epoch: Epoch,
    pub(super) last: LogIndex,
    /// When the log was last read or written. `None` with a log that no one else can have.
    pub(super) contact: Option<Instant>,
    /// A leader that has shown no sign of life for this long is replaced; one that has not reached the log for this
    /// long shows none.
    pub(super) silence_max: Duration,
    /// All controllers that may lead, the lowest name first.
    pub(super) candidates: Arc<[String]>,
}

/// How everyone else sees it.
pub(super) type Seen = watch::Receiver<Standing>;

impl Standing {
    /// Whether the log was reached lately. A process that was frozen finds here that it was.
    fn in_contact(&self) -> bool {
        self.contact.is_none_or(|contact| contact.elapsed() < self.silence_max)
    }

    /// Whether it acts, as far as it can know.
    pub(super) fn leads_now(&self) -> bool {
        self.leads && self.in_contact()
    }

    /// Whether it could take the lead.
    pub(super) fn is_able(&self) -> bool {
        !self.leads && self.in_contact()
    }

    /// The URL of the API of a controller that the log names.
    pub(super) fn url(&self, name: &str) -> String {
        format!("{}://{name}", self.scheme)
    }

    /// The URL of the leader's API, when that is another controller.
    pub(super) fn leader_elsewhere(&self) -> Option<String> {
        self.leader.as_ref().filter(|leader| **leader != self.name).map(|leader| self.url(leader))
    }

    pub(super) fn show(&self) -> ControllerShow {
        ControllerShow {
            name: self.name.to_string(),
            log_id: self.log_id.to_string(),
            leads: self.leads_now(),
            able: self.is_able(),
            leader: self.leader.as_ref().map(ToString::to_string),
            epoch: self.epoch.0,
            last: self.last.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(leads: bool, contact: Option<Duration>) -> Standing {
        Standing {
            scheme: "http",
            name: "127.0.0.1:1".into(),
            log_id: "l".into(),
            leads,
            leader: Some("127.0.0.1:2".into()),
            epoch: Epoch(3),
            last: LogIndex(4),
            contact: contact.map(|ago| Instant::now().checked_sub(ago).expect("a clock that has run")),
            silence_max: Duration::from_secs(5),
            candidates: Arc::default(),
        }
    }

    #[test]
    fn without_the_log_nobody_leads_or_could() {
        let ago = |ms| Some(Duration::from_millis(ms));
        for (leads, contact, expected) in [
            (true, ago(0), (true, false)),
            (false, ago(0), (false, true)),
            (true, ago(5_100), (false, false)),
            (false, ago(5_100), (false, false)),
            (true, None, (true, false)),
        ] {
            let show = standing(leads, contact).show();
            assert_eq!((show.leads, show.able), expected, "{leads} {contact:?}");
        }
    }

    #[test]
    fn nobody_is_sent_to_himself() {
        let mut standing = standing(false, None);
        assert_eq!(standing.leader_elsewhere().as_deref(), Some("http://127.0.0.1:2"));
        standing.leader = Some("127.0.0.1:1".into());
        assert_eq!(standing.leader_elsewhere(), None);
    }
}
