//! One signal that ends everything a process started. It says when, never how.

use tokio::sync::watch;

/// Pulls the signal; dropping it pulls too, so that nothing outlives its owner.
#[derive(Debug)]
pub struct Trigger(watch::Sender<bool>);

/// Waits for the signal.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    pub fn new() -> (Trigger, Self) {
        let (sender, receiver) = watch::channel(false);
        (Trigger(sender), Self(receiver))
    }

    /// Returns once the trigger was pulled or dropped, at once when that has happened already.
    pub async fn wait(&self) {
        let mut receiver = self.0.clone();
        // An error means that the trigger is gone, which is the signal as well.
        let _gone = receiver.wait_for(|pulled| *pulled).await;
    }

    pub fn is_pulled(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}

impl Trigger {
    pub fn pull(&self) {
        self.0.send_replace(true);
    }
}
