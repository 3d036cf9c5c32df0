//! A new reading of the settings while the controller runs: all of it holds, or nothing of it.

use super::handle::{Handle, Message};
use crate::audit::{Audit, Entry, Event};
use crate::config::{ConfigErrors, ConfigShow, Loaded};
use crate::shutdown::Shutdown;
use crate::tls::ServerSide;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// The settings as `GET /config` shows them now.
pub(super) type Shown = watch::Receiver<Arc<ConfigShow>>;

/// How settings are read again, and when.
pub struct Reloading {
    /// Each message asks for one reading.
    pub asked: mpsc::Receiver<()>,
    /// Reads file, variables and flags as the start did.
    pub read: Box<dyn Fn() -> Result<Loaded, ConfigErrors> + Send>,
}

impl std::fmt::Debug for Reloading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reloading").finish_non_exhaustive()
    }
}

/// Reads whenever that is asked for, until `shutdown`.
pub(super) async fn run(
    mut reloading: Reloading,
    mut held: Loaded,
    shown: watch::Sender<Arc<ConfigShow>>,
    (driver, audit, tls): (Handle, Audit, Option<Arc<ServerSide>>),
    shutdown: Shutdown,
) {
    loop {
        tokio::select! {
            () = shutdown.wait() => return,
            asked = reloading.asked.recv() => if asked.is_none() { return },
        }
        if let Some(tls) = &tls {
            let mut entry = Entry::new(Event::Reload, "controller", "certificates");
            entry.result = Some(match tls.reload() {
                Ok(()) => {
                    tracing::info!("certificate, key and client CA were read again");
                    "ok".to_owned()
                }
                Err(error) => {
                    tracing::error!(%error, "the certificate was not read again: the old one stays");
                    error.to_string()
                }
            });
            audit.after_async(entry).await;
        }
        match (reloading.read)() {
            Ok(read) => {
                let (now, kept) = held.reloaded(read);
                for key in kept {
                    tracing::warn!(key, "this setting holds from the next start on: the old value stays");
                }
                let changed = changed(&held, &now);
                tracing::info!(?changed, "the settings were read again");
                let mut entry = Entry::new(Event::Reload, "controller", "settings");
                entry.detail = Some(serde_json::json!({ "changed": changed }));
                audit.after_async(entry).await;
                held = now;
                shown.send_replace(Arc::new(held.show()));
                driver.seen(Message::Settings(Box::new(held.settings.clone()))).await;
            }
            Err(errors) => {
                for error in &errors.0 {
                    tracing::error!(%error, "the settings were not read again: all old values stay");
                }
            }
        }
    }
}

/// `key = value` of each that is not as it was.
fn changed(before: &Loaded, now: &Loaded) -> Vec<String> {
    let (before, now) = (before.show().settings, now.show().settings);
    let news = now.iter().filter(|(key, shown)| before.get(*key).is_none_or(|old| old.value != shown.value));
    news.map(|(key, shown)| format!("{key} = {}", shown.value)).collect()
}
