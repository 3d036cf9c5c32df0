//! Seeded simulation of whole clusters, over the very same control, planner and engine code.

mod bugs;
mod chance;
mod copying;
mod directed;
mod disk;
mod execute;
mod faults;
mod invariants;
mod looks;
mod machine;
mod meet;
mod net;
mod people;
mod play;
mod read;
mod report;
mod run;
mod say;
mod scenario;
mod seat;
mod sidecar;
mod statements;
mod story;
mod sweep;
mod watch;
mod wire;
mod world;

pub use bugs::Bug;
pub use directed::Directed;
pub use faults::Fault;
pub use meet::Met;
pub use report::{Report, RunReport, Violation, ViolationShown};
pub use run::{Plan, run};
pub use scenario::{Scenario, UnknownScenario};
pub use sweep::{Operation, Victim};
