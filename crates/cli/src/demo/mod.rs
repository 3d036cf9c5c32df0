//! `demo`: the main job from nothing, with everything counted from outside.

mod phases;
mod report;

use crate::args::DemoArgs;
use crate::dev::{Cluster, resident_bytes};
use crate::documents::{CATALOGUE_SIZE, Catalogue, DocumentFile, Source};
use crate::output::{self, CommandError, Output};
use crate::signals;
use crate::story::Story;
use report::Report;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often the memory of all processes is summed up.
const MEMORY_EVERY: Duration = Duration::from_millis(250);

/// Plays the whole demo and judges it; exit code 1 when anything was lost or any client saw an error.
pub async fn run(args: &DemoArgs, config: Option<PathBuf>, output: Output) -> Result<(), CommandError> {
    if args.rf > args.nodes {
        let message = format!("{} copies do not fit on {} nodes", args.rf, args.nodes);
        return Err(CommandError::usage(message, "give --nodes at least as many as --rf"));
    }
    let started = Instant::now();
    let source = source(args).await?;
    let story = Story::new(output);
    let mut stop = signals::stop()?;
    let dir = tempfile::Builder::new().prefix("shardwright-demo-").tempdir().map_err(|error| {
        let message = format!("no temporary directory in {}: {error}", std::env::temp_dir().display());
        CommandError::failed(message, "free some space there, or set TMPDIR")
    })?;
    let memory = Memory::watch();
    let mut cluster: Option<Cluster> = None;
    let outcome = tokio::select! {
        () = stop.wait() => None,
        outcome = phases::play(args, config, &source, dir.path(), &mut cluster, &story) => Some(outcome),
    };
    if let Some(mut cluster) = cluster {
        cluster.end().await;
    }
    let Some(outcome) = outcome else {
        if args.keep {
            story.say(&format!("data and logs are kept in {}", dir.keep().display()));
        }
        return Err(CommandError::failed("the demo was stopped by a signal", "run it again"));
    };
    let mut report = match outcome {
        Ok(report) => report,
        Err(error) => {
            let kept = dir.keep();
            let hint = format!("{}; data and logs are kept in {}", error.hint, kept.display());
            return Err(CommandError { hint: hint.trim_start_matches("; ").to_owned(), ..error });
        }
    };
    report.peak_memory_bytes = memory.peak();
    report.seconds = started.elapsed().as_secs_f64();
    if args.keep {
        report.dir = Some(dir.keep());
    } else {
        remove(dir);
    }
    judge(&report, output)
}

fn judge(report: &Report, output: Output) -> Result<(), CommandError> {
    if report.ok {
        return output::print(output, report, report::text);
    }
    if output == Output::Table {
        output::line_out(report::text(report).trim_end());
    }
    let mut error = CommandError::failed(
        format!("the demo did not go as it must: {}", report.problems.join("; ")),
        "run it with --keep and look into the logs",
    );
    error.result = serde_json::to_value(report).ok().map(Box::new);
    Err(error)
}

/// The documents, with their columns known.
async fn source(args: &DemoArgs) -> Result<Source, CommandError> {
    let Some(path) = args.docs.clone() else {
        return Ok(Source::Catalogue(Catalogue::new(args.seed, CATALOGUE_SIZE)));
    };
    let inspected = tokio::task::spawn_blocking(move || DocumentFile::inspect(&path)).await;
    match inspected {
        Ok(Ok(file)) => Ok(Source::File(file)),
        Ok(Err(error)) => Err(CommandError::usage(error.to_string(), "give --docs a file of JSON Lines")),
        Err(error) => Err(CommandError::failed(format!("reading the documents broke: {error}"), "report it")),
    }
}

fn remove(dir: tempfile::TempDir) {
    let path: &Path = dir.path();
    let shown = path.display().to_string();
    if let Err(error) = dir.close() {
        tracing::warn!(dir = shown, %error, "the temporary directory could not be removed");
    }
}

/// The most memory that all processes together held at once, as far as looks at intervals see it.
#[derive(Debug)]
struct Memory {
    peak: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Memory {
    fn watch() -> Self {
        let peak = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&peak);
        let task = tokio::spawn(async move {
            let mut look = tokio::time::interval(MEMORY_EVERY);
            loop {
                look.tick().await;
                seen.fetch_max(resident_bytes(&[std::process::id()]), Ordering::Relaxed);
            }
        });
        Self { peak, task }
    }

    fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.task.abort();
    }
}
