//! Certificates that are about to end.

use super::alert;
use crate::Controller;
use model::api::Alert;

const DAY_SECONDS: u64 = 24 * 3600;

impl Controller {
    /// From a setting's number of days on, and louder in the last day.
    pub(super) fn of_certificates(&self) -> Vec<Alert> {
        let warned = self.config.settings.certificate_warning_days * DAY_SECONDS;
        let mut alerts = Vec::new();
        for (file, ends) in &self.certificates {
            let left = ends.saturating_sub(self.unix_now);
            if left >= warned {
                continue;
            }
            let level = if left < DAY_SECONDS { "critical" } else { "warning" };
            let when = match left {
                0 => "has ended".to_owned(),
                left => format!("ends in {} h", left / 3600),
            };
            alerts.push(alert(
                level,
                "certificate_ends",
                format!("a certificate in {file} {when}: from then on nobody gets through to whoever shows or trusts it"),
                "put a new one in its place and send SIGHUP to this controller; clients read changed files by themselves. Look at those of the sidecars, too",
                &[("file", file.clone())],
            ));
        }
        alerts
    }
}
