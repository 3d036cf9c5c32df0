//! Where every client's statement goes in: to the engine, and when that cannot do it, to the sidecar.

use crate::answer::Answer;
use crate::machine::Machine;
use crate::sidecar::SidecarAddress;
use crate::users::Users;
use engine::{Input, SessionId, SqlError};
use manticore::handover;
use std::sync::Arc;
use std::time::Duration;

/// A sidecar may hold a statement as long as its user asked it to (`timeout='…'` of CREATE TABLE); a client that
/// has gone ends the wait earlier.
const HANDOVER_TIME_MAX: Duration = Duration::from_hours(1);

/// A reply of the sidecar is kept whole: as large as one of searchd's packets.
const HANDOVER_BYTES_MAX: usize = 128 << 20;

/// From where a statement came, as the sidecar is told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Origin<'a> {
    MySql,
    Http {
        path_query: &'a str,
        /// The request came from a sidecar or controller: its failures are its own.
        from_sidecar: bool,
    },
}

/// Shared by all listeners.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    /// Where the node has users.
    pub(crate) users: Option<Arc<Users>>,
    machine: Machine,
    sidecar: SidecarAddress,
    http: reqwest::Client,
}

/// A client's session; says goodbye to the engine when it goes, however it goes.
#[derive(Debug)]
pub(crate) struct Session {
    /// Whose it is: where there are no users, whose its client says it is.
    user: Option<String>,
    id: SessionId,
    machine: Machine,
}

impl Drop for Session {
    fn drop(&mut self) {
        let (machine, id) = (self.machine.clone(), self.id);
        // Only a runtime that is going away has no place for it, and then the engine goes too.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { machine.input(Input::SessionClosed(id)).await });
        }
    }
}

impl Door {
    pub(crate) fn new(
        users: Option<Arc<Users>>,
        machine: Machine,
        sidecar: SidecarAddress,
        http: reqwest::Client,
    ) -> Self {
        Self { users, machine, sidecar, http }
    }

    pub(crate) fn session(&self, user: Option<String>) -> Session {
        Session { user, id: self.machine.new_session(), machine: self.machine.clone() }
    }

    /// The answer to one statement, if its user may have it.
    pub(crate) async fn statement(
        &self,
        session: &Session,
        sql: String,
        origin: Origin<'_>,
    ) -> Result<Answer, SqlError> {
        let Some(users) = &self.users else { return self.carry_out(session, sql, origin).await };
        let user = session.user.as_deref().unwrap_or_default();
        if let Some(answer) = users.answer(user, &sql) {
            return answer.map(Answer::Engine);
        }
        users.permit(user, &sql)?;
        Ok(match self.carry_out(session, sql.clone(), origin).await? {
            Answer::Engine(reply) => Answer::Engine(users.shown(user, &sql, reply)),
            sidecars @ Answer::Sidecar { .. } => sidecars,
        })
    }

    async fn carry_out(
        &self,
        session: &Session,
        sql: String,
        origin: Origin<'_>,
    ) -> Result<Answer, SqlError> {
        let own = matches!(origin, Origin::Http { from_sidecar: true, .. });
        let sidecar = if own { None } else { self.sidecar.get() };
        let Some(sidecar) = sidecar else {
            return self.machine.statement(session.id, sql).await.map(Answer::Engine);
        };
        match self.machine.statement(session.id, sql.clone()).await {
            Ok(reply) => Ok(Answer::Engine(reply)),
            Err(error) => match self.hand_over(&sidecar, session, sql, &error, origin).await {
                Ok(answer) => Ok(answer),
                // As in searchd: without a sidecar's answer the client gets the original error.
                Err(reason) => {
                    tracing::warn!(reason, "the sidecar did not answer");
                    Err(error)
                }
            },
        }
    }

    async fn hand_over(
        &self,
        sidecar: &str,
        session: &Session,
        sql: String,
        error: &SqlError,
        origin: Origin<'_>,
    ) -> Result<Answer, String> {
        let http = match origin {
            Origin::MySql => None,
            Origin::Http { path_query, .. } => Some(("POST", path_query)),
        };
        let mut request = handover::Request::sql(sql, error.message.clone(), http);
        request.user.clone_from(&session.user);
        let sent =
            self.http.post(format!("http://{sidecar}/")).timeout(HANDOVER_TIME_MAX).json(&request).send();
        let mut response = sent.await.map_err(|error| error.to_string())?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| error.to_string())? {
            if body.len() + chunk.len() > HANDOVER_BYTES_MAX {
                return Err(format!("more than {HANDOVER_BYTES_MAX} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        let response: handover::Response =
            serde_json::from_slice(&body).map_err(|error| format!("no answer of version 3: {error}"))?;
        if response.version != handover::VERSION {
            return Err(format!(
                "an answer of version {} instead of {}",
                response.version,
                handover::VERSION
            ));
        }
        Ok(Answer::Sidecar { message: response.message, status: response.error_code })
    }
}
