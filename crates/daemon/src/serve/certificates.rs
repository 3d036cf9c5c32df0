//! Looks when the controller's own certificates end: for its alert, and for `/metrics`.

use super::exposition::{Kind, Page};
use super::handle::{Handle, Message};
use crate::shutdown::Shutdown;
use crate::tls::{self, CertificateEnd, ClientTls, ServerTls};
use std::time::Duration;
use tokio::sync::watch;

/// Often enough that a file that was replaced ends its alert while somebody still looks.
const LOOK_EVERY: Duration = Duration::from_mins(1);

/// As they were at the last look.
pub(super) type Ends = watch::Receiver<Vec<CertificateEnd>>;

/// Looks, and goes on looking until `shutdown`.
pub(super) async fn run(
    (server, client): (Option<ServerTls>, ClientTls),
    ends: watch::Sender<Vec<CertificateEnd>>,
    driver: Handle,
    shutdown: Shutdown,
) {
    loop {
        let found = tls::ends(server.as_ref(), &client);
        let named = found.iter().map(|found| (found.file.display().to_string(), found.ends));
        driver.seen(Message::Certificates(named.collect())).await;
        ends.send_replace(found);
        tokio::select! {
            () = shutdown.wait() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

pub(super) fn show(ends: &Ends, page: &mut Page) {
    let help = "When the first certificate of a file that this controller shows or trusts ends.";
    page.family("certificate_end_timestamp_seconds", Kind::Gauge, help);
    for CertificateEnd { file, ends } in ends.borrow().iter() {
        let file = file.display().to_string();
        page.sample("certificate_end_timestamp_seconds", &[("file", &file)], ends);
    }
}
