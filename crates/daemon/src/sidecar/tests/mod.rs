//! The sidecar against a scripted node, a scripted controller and a scripted upstream sidecar, over real HTTP.

mod copy;
mod execute;
mod lanes;
mod leaders;
mod polls;
mod script;
mod statements;
mod strangers;
