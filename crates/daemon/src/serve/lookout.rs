//! A follower's lookout: asks the leader for a sign of life, and after a silence whether a lower candidate is there.
//!
//! It only says that the lead is to be taken; taking it is an append, which the log lets one controller do.

use super::ServeError;
use super::handle::{Handle, Message};
use super::standing::{Seen, Standing};
use crate::shutdown::Shutdown;
use crate::tls::ClientTls;
use model::Epoch;
use model::api::ControllerShow;
use reqwest::Client;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// Between two questions: ten within the silence, so that one lost answer deposes nobody.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// A controller that lives answers within milliseconds; one that is frozen never does.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);

/// Asks the other controllers for one that follows.
#[derive(Debug)]
struct Lookout {
    client: Client,
    /// The leader's epoch, and when there was a sign of life of it.
    heard: Option<(Epoch, Instant)>,
}

/// Asks until `shutdown`; `lives` says whether the leader showed a sign of life lately.
pub(super) async fn run(
    client: Client,
    seen: Seen,
    driver: Handle,
    lives: watch::Sender<bool>,
    shutdown: Shutdown,
) {
    let mut lookout = Lookout { client, heard: None };
    let mut turns = tokio::time::interval(ASK_EVERY);
    // An answer that was waited for is not asked for twice at once.
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.wait() => return,
            _ = turns.tick() => {}
        }
        let standing = seen.borrow().clone();
        if !standing.is_able() {
            // Whoever leads, or does not reach the log, has no say in who should; it listens anew after that.
            lookout.heard = None;
            continue;
        }
        let silent = lookout.is_silent(&standing).await;
        lives.send_replace(!silent);
        if silent {
            match lookout.lower_that_is_able(&standing).await {
                Some(lower) => tracing::debug!(lower, "the lead is for a lower candidate to take"),
                None => driver.seen(Message::Lead { after: standing.epoch }).await,
            }
        }
    }
}

/// The client for questions to other controllers.
pub(super) fn client(tls: &ClientTls) -> Result<Client, ServeError> {
    let built = tls.builder()?.timeout(ANSWER_TIME_MAX).build();
    built.map_err(|error| ServeError::Client(error.to_string()))
}

impl Lookout {
    /// Whether the leader has been silent for too long. When nobody has ever led there is no one to wait for.
    async fn is_silent(&mut self, standing: &Standing) -> bool {
        let Some(leader) = &standing.leader else { return true };
        let alive = ask(&self.client, &standing.url(leader)).await.is_some_and(|show| {
            show.leads && show.log_id == *standing.log_id && show.epoch >= standing.epoch.0
        });
        let now = Instant::now();
        let at = match self.heard {
            Some((epoch, at)) if epoch == standing.epoch && !alive => at,
            _ => now,
        };
        self.heard = Some((standing.epoch, at));
        let silence = now.duration_since(at);
        if silence >= standing.silence_max {
            tracing::warn!(%leader, seconds = silence.as_secs(), "the leader shows no sign of life");
        }
        silence >= standing.silence_max
    }

    /// A candidate with a lower name that could take the lead: it is the one to do so.
    async fn lower_that_is_able(&self, standing: &Standing) -> Option<String> {
        let mut asked = JoinSet::new();
        for name in standing.candidates.iter().filter(|name| ***name < *standing.name) {
            let (client, name, log_id) = (self.client.clone(), name.clone(), Arc::clone(&standing.log_id));
            let url = standing.url(&name);
            asked.spawn(async move {
                let show = ask(&client, &url).await?;
                (show.able && show.log_id == *log_id).then_some(name)
            });
        }
        while let Some(answer) = asked.join_next().await {
            if let Ok(Some(name)) = answer {
                return Some(name);
            }
        }
        None
    }
}

async fn ask(client: &Client, url: &str) -> Option<ControllerShow> {
    let asked = client.get(format!("{url}/api/v1/controller")).send().await;
    let answer = match asked.and_then(reqwest::Response::error_for_status) {
        Ok(response) => response.json().await,
        Err(error) => Err(error),
    };
    match answer {
        Ok(show) => Some(show),
        Err(error) => {
            tracing::debug!(url, %error, "no sign of life");
            None
        }
    }
}
