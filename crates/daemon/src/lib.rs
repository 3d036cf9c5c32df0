//! The driver loop, HTTP API and sidecar around the pure core.
