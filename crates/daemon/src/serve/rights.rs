//! Which role each request needs: one line for each method of each path. What has no line is for cluster admins alone.
//!
//! docs/security.md has the same as a table, and a test walks all of it.

use axum::http::Method;
use model::Role;

/// What a request asks of who sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// No token: it tells nothing of the cluster.
    Nothing,
    Viewer,
    Operator,
    ClusterAdmin,
    /// A node's sidecar.
    Sidecar,
    /// The gate before a node's start, which has its sidecar's token; operators may ask, too.
    Gate,
}

impl Need {
    pub(super) const fn is_met_by(self, role: Role) -> bool {
        match self {
            Self::Nothing => true,
            Self::Viewer => matches!(role, Role::Viewer | Role::Operator | Role::ClusterAdmin),
            Self::Operator => matches!(role, Role::Operator | Role::ClusterAdmin),
            Self::ClusterAdmin => matches!(role, Role::ClusterAdmin),
            Self::Sidecar => matches!(role, Role::Sidecar | Role::ClusterAdmin),
            Self::Gate => matches!(role, Role::Sidecar | Role::Operator | Role::ClusterAdmin),
        }
    }
}

pub(super) const RIGHTS: &[(Method, &str, Need)] = &[
    (Method::GET, "/", Need::Nothing),
    (Method::GET, "/assets/{file}", Need::Nothing),
    (Method::GET, "/healthz", Need::Nothing),
    (Method::GET, "/readyz", Need::Nothing),
    (Method::GET, "/api/v1/openapi.json", Need::Nothing),
    // The sign of life that controllers ask of each other.
    (Method::GET, "/api/v1/controller", Need::Nothing),
    (Method::GET, "/metrics", Need::Viewer),
    (Method::GET, "/api/v1/tables", Need::Viewer),
    (Method::GET, "/api/v1/tables/{table}", Need::Viewer),
    (Method::GET, "/api/v1/tables/{table}/rebalance", Need::Viewer),
    (Method::GET, "/api/v1/tables/{table}/explain/{shard}", Need::Viewer),
    (Method::GET, "/api/v1/backups", Need::Viewer),
    (Method::GET, "/api/v1/backups/{id}", Need::Viewer),
    (Method::GET, "/api/v1/restores/{operation}", Need::Viewer),
    (Method::GET, "/api/v1/nodes", Need::Viewer),
    (Method::GET, "/api/v1/operations", Need::Viewer),
    (Method::GET, "/api/v1/dashboard", Need::Viewer),
    (Method::GET, "/api/v1/metrics", Need::Viewer),
    (Method::GET, "/api/v1/metrics/rebalancing", Need::Viewer),
    (Method::GET, "/api/v1/metrics/queue", Need::Viewer),
    (Method::GET, "/api/v1/metrics/cluster", Need::Viewer),
    (Method::GET, "/api/v1/alerts", Need::Viewer),
    (Method::GET, "/api/v1/alerts/silences", Need::Viewer),
    (Method::GET, "/api/v1/history", Need::Viewer),
    (Method::GET, "/api/v1/events", Need::Viewer),
    (Method::GET, "/api/v1/config", Need::Viewer),
    (Method::GET, "/api/v1/health", Need::Viewer),
    (Method::GET, "/api/v1/map", Need::Viewer),
    (Method::POST, "/api/v1/tables", Need::Operator),
    (Method::POST, "/api/v1/tables/{table}/rebalance", Need::Operator),
    (Method::POST, "/api/v1/tables/{table}/move", Need::Operator),
    (Method::POST, "/api/v1/tables/{table}/rf", Need::Operator),
    (Method::POST, "/api/v1/backups", Need::Operator),
    (Method::POST, "/api/v1/backups/{id}/verify", Need::Operator),
    (Method::POST, "/api/v1/nodes/{node}/drain", Need::Operator),
    (Method::POST, "/api/v1/nodes/{node}/undrain", Need::Operator),
    (Method::POST, "/api/v1/alerts/silences", Need::Operator),
    (Method::POST, "/api/v1/recover", Need::Operator),
    (Method::POST, "/api/v1/cleanup", Need::Operator),
    (Method::DELETE, "/api/v1/tables/{table}", Need::ClusterAdmin),
    (Method::POST, "/api/v1/backups/{id}/restore", Need::ClusterAdmin),
    (Method::DELETE, "/api/v1/nodes/{node}", Need::ClusterAdmin),
    (Method::POST, "/api/v1/groups/{group}/recover", Need::ClusterAdmin),
    (Method::POST, "/api/v1/import", Need::ClusterAdmin),
    (Method::GET, "/api/v1/audit", Need::ClusterAdmin),
    (Method::GET, "/api/v1/audit/verify", Need::ClusterAdmin),
    (Method::GET, "/api/v1/tokens", Need::ClusterAdmin),
    (Method::POST, "/api/v1/tokens", Need::ClusterAdmin),
    (Method::DELETE, "/api/v1/tokens/{name}", Need::ClusterAdmin),
    (Method::POST, "/api/v1/sidecar/poll", Need::Sidecar),
    (Method::POST, "/api/v1/sidecar/statement", Need::Sidecar),
    (Method::POST, "/api/v1/nodes/{node}/gate", Need::Gate),
];

/// What a request needs, by the path that the router found for it.
pub(super) fn of(method: &Method, path: Option<&str>) -> Need {
    // To say that there is nothing needs no more than to look.
    let Some(path) = path else { return Need::Viewer };
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    let found = RIGHTS.iter().find(|(known, at, _)| known == method && *at == path);
    found.map_or(Need::ClusterAdmin, |(_, _, need)| *need)
}
