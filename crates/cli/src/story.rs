//! What a command tells while it works: spinners and bars for a person at a terminal, one line a step elsewhere,
//! nothing where a script wants JSON.

use crate::output::{self, Output};
use indicatif::{ProgressBar, ProgressStyle};
use std::time::{Duration, Instant};

const SPIN: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listener {
    Terminal,
    Lines,
    Nobody,
}

/// A story of steps on stderr.
#[derive(Clone, Debug)]
pub struct Story {
    listener: Listener,
}

/// A step under way; dropped unfinished it vanishes, as the error says the rest.
#[derive(Debug)]
pub struct Step {
    listener: Listener,
    bar: ProgressBar,
    started: Instant,
}

impl Story {
    pub fn new(output: Output) -> Self {
        let listener = match (output::stderr_is_terminal(), output) {
            (true, _) => Listener::Terminal,
            (false, Output::Table) => Listener::Lines,
            (false, Output::Json) => Listener::Nobody,
        };
        Self { listener }
    }

    /// A story that nobody hears.
    pub const fn silent() -> Self {
        Self { listener: Listener::Nobody }
    }

    /// A line of its own.
    pub fn say(&self, text: &str) {
        if self.listener != Listener::Nobody {
            output::line_err(text);
        }
    }

    pub fn step(&self, text: &str) -> Step {
        let bar = match self.listener {
            Listener::Terminal => ProgressBar::new_spinner(),
            _ => ProgressBar::hidden(),
        };
        bar.set_style(style("{spinner} {msg}"));
        bar.set_message(text.to_owned());
        bar.enable_steady_tick(SPIN);
        Step { listener: self.listener, bar, started: Instant::now() }
    }
}

impl Step {
    /// From now on the step shows how much of `total` is done; without a total only how much.
    pub fn measure(&self, total: Option<u64>) {
        match total {
            Some(total) => {
                self.bar.set_length(total);
                self.bar.set_style(style("{spinner} {msg} {bar:30} {human_pos}/{human_len} {per_sec}"));
            }
            None => self.bar.set_style(style("{spinner} {msg} {human_pos} {per_sec}")),
        }
    }

    pub fn position(&self, position: u64) {
        self.bar.set_position(position);
    }

    pub fn say(&self, text: &str) {
        self.bar.set_message(text.to_owned());
    }

    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Ends the step with what came of it; gives its seconds.
    pub fn done(self, text: &str) -> f64 {
        self.end("✔", text)
    }

    pub fn failed(self, text: &str) -> f64 {
        self.end("✘", text)
    }

    fn end(self, mark: &str, text: &str) -> f64 {
        let seconds = self.seconds();
        self.bar.finish_and_clear();
        if self.listener != Listener::Nobody {
            output::line_err(&format!("{mark} {text} ({seconds:.1} s)"));
        }
        seconds
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates are those above; a mistake in one shows the default style.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}
