//! What several tests need: an exact solver that shares nothing with the planner, and clusters with a history.
#![allow(dead_code, reason = "every test binary uses a part")]

pub mod exact;
pub mod history;
