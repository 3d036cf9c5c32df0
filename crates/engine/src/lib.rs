//! The embedded node's core: Manticore's dialect over SQLite, clusters and routing; messages and time in, messages out.
//!
//! Owns no socket, thread or clock: a shell (or a simulator) feeds [`io::Input`] with the time and carries out
//! [`io::Output`]. It is for trying, developing and testing; it is no production search engine.

pub mod io;
