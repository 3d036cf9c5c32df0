//! The kept figures: one sample every ten seconds, on disk, as long as `metrics_retention_days` says.
//!
//! A file for each day under `DIR/history`: a line of JSON that names the figures, then samples of one size, each with its
//! checksum. A sample that was cut short ends a file; one whose checksum is wrong is passed over. The figures are read
//! from the operator like any look, and written by a task of its own, so that a slow disk makes nobody wait.

use super::board::Board;
use super::handle::Handle;
use super::problem::{ApiError, Kind};
use super::standing::Seen;
use crate::shutdown::Shutdown;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DIRECTORY: &str = "history";
const SAMPLE_EVERY: Duration = Duration::from_secs(10);
const DAY_SECONDS: u64 = 24 * 3_600;
/// Points of one answer: more than a screen has.
const POINTS_MAX: u64 = 2_000;
const POINTS_DEFAULT: u64 = 300;
/// The line that names the figures is no longer.
const HEADER_BYTES_MAX: u64 = 16 << 10;

/// The figures, in the order in which samples have them. New ones are added at the end of the list; a file knows its own.
pub(super) const FIGURES: [&str; 26] = [
    "status",
    "nodes",
    "nodes_active",
    "cluster_health_percentage",
    "topology_changes_last_hour",
    "total_tables",
    "idle_tables",
    "running_operations",
    "completed_operations",
    "failed_operations",
    "average_duration",
    "longest_running",
    "total_queue_depth",
    "pending_commands",
    "failed_commands",
    "average_wait_time",
    "alerts_critical",
    "alerts_warning",
    "shards_ok",
    "shards_degraded",
    "shards_broken",
    "sidecars_away",
    "last_copies",
    "last_lower_bound",
    "leader_epoch",
    "log_last_record",
];

/// One moment.
#[derive(Clone, Debug, PartialEq)]
struct Sample {
    unix: u64,
    values: Vec<f64>,
}

/// `status` is 0 for healthy, 1 for warning, 2 for critical.
fn figures(board: &Board) -> Vec<f64> {
    let (rebalancing, queue, cluster) =
        (&board.dashboard.rebalancing, &board.dashboard.queue, &board.dashboard.cluster);
    let status = match board.dashboard.overall_status.as_str() {
        "healthy" => 0,
        "warning" => 1,
        _ => 2,
    };
    let firing = |level: &str| {
        let alerts = board.dashboard.alerts.iter();
        alerts.filter(|alert| alert.state == "firing" && alert.level == level).count() as u64
    };
    let (ok, degraded, broken) = board.shards;
    let whole = |count: u64| count as f64;
    vec![
        whole(status),
        whole(cluster.total_nodes),
        whole(cluster.active_nodes),
        cluster.cluster_health_percentage,
        whole(cluster.topology_changes_last_hour),
        whole(rebalancing.total_tables),
        whole(rebalancing.idle_tables),
        whole(rebalancing.running_operations),
        whole(rebalancing.completed_operations),
        whole(rebalancing.failed_operations),
        rebalancing.average_duration,
        rebalancing.longest_running,
        whole(queue.total_queue_depth),
        whole(queue.pending_commands),
        whole(queue.failed_commands),
        queue.average_wait_time,
        whole(firing("critical")),
        whole(firing("warning")),
        whole(ok),
        whole(degraded),
        whole(broken),
        whole(board.sidecars_away),
        whole(rebalancing.last_copies),
        whole(rebalancing.last_lower_bound),
        whole(board.epoch),
        whole(board.last),
    ]
}

/// The first line of a file.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    figures: Vec<String>,
}

/// The files of one controller.
#[derive(Clone, Debug)]
pub(super) struct History {
    dir: PathBuf,
    retention_days: u64,
}

impl History {
    pub(super) fn new(dir: &Path, retention_days: u64) -> Self {
        Self { dir: dir.join(DIRECTORY), retention_days }
    }

    fn path(&self, day: u64) -> PathBuf {
        self.dir.join(format!("{day}.samples"))
    }

    /// Days since 1970 that there are files of, the oldest first.
    fn days(&self) -> io::Result<Vec<u64>> {
        let listed = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            listed => listed?,
        };
        let mut days = Vec::new();
        for entry in listed {
            let name = entry?.file_name();
            days.extend(name.to_str().and_then(|name| name.strip_suffix(".samples")?.parse::<u64>().ok()));
        }
        days.sort_unstable();
        Ok(days)
    }

    /// Adds a sample and lets go of days that are over.
    fn keep(&self, sample: &Sample) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        let day = sample.unix / DAY_SECONDS;
        let mut file = self.open_day(day)?;
        file.write_all(&encoded(sample))?;
        for old in self.days()? {
            if old + self.retention_days < day {
                fs::remove_file(self.path(old))?;
            }
        }
        Ok(())
    }

    /// The day's file, at the end of its last whole sample. One with other figures, of another version, is begun anew.
    fn open_day(&self, day: u64) -> io::Result<File> {
        let path = self.path(day);
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        let mut reader = BufReader::new(&file);
        let header = read_header(&mut reader)?;
        let same = header.as_ref().is_some_and(|(header, _)| header.figures == FIGURES);
        let end = match header {
            Some((_, begin)) if same => {
                let samples = file.metadata()?.len().saturating_sub(begin) / sample_bytes(FIGURES.len());
                begin + samples * sample_bytes(FIGURES.len())
            }
            _ => {
                file.set_len(0)?;
                file.seek(SeekFrom::Start(0))?;
                let figures = FIGURES.iter().map(|name| (*name).to_owned()).collect();
                let mut line = serde_json::to_vec(&Header { figures })?;
                line.push(b'\n');
                file.write_all(&line)?;
                line.len() as u64
            }
        };
        file.set_len(end)?;
        file.seek(SeekFrom::Start(end))?;
        Ok(file)
    }

    /// The figures between two moments, in steps of equal length: the mean of each step, null where there is none.
    fn read(&self, question: &Question) -> io::Result<Answer> {
        let points = (question.to - question.from).div_ceil(question.step).max(1) as usize;
        let mut sums: BTreeMap<&str, Vec<(f64, u32)>> =
            question.figures.iter().map(|name| (name.as_str(), vec![(0.0, 0); points])).collect();
        let (first, last) = (question.from / DAY_SECONDS, question.to / DAY_SECONDS);
        for day in self.days()?.into_iter().filter(|day| (first..=last).contains(day)) {
            read_day(&self.path(day), |names, sample| {
                if sample.unix < question.from || sample.unix >= question.to {
                    return;
                }
                let at = ((sample.unix - question.from) / question.step) as usize;
                for (name, value) in names.iter().zip(&sample.values) {
                    if let Some(point) = sums.get_mut(name.as_str()).and_then(|sums| sums.get_mut(at)) {
                        *point = (point.0 + value, point.1 + 1);
                    }
                }
            })?;
        }
        let mean = |(sum, count): (f64, u32)| (count > 0).then(|| sum / f64::from(count));
        let figures = sums
            .into_iter()
            .map(|(name, sums)| (name.to_owned(), sums.into_iter().map(mean).collect()))
            .collect();
        let times = (0..points as u64).map(|point| question.from + point * question.step).collect();
        let Question { from, to, step, .. } = *question;
        Ok(Answer { from, to, step, times, figures })
    }
}

const fn sample_bytes(figures: usize) -> u64 {
    (8 + 8 * figures + 4) as u64
}

fn encoded(sample: &Sample) -> Vec<u8> {
    let mut bytes = sample.unix.to_le_bytes().to_vec();
    for value in &sample.values {
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

fn decoded(bytes: &[u8]) -> Option<Sample> {
    let (body, sum) = bytes.split_last_chunk::<4>()?;
    if crc32fast::hash(body) != u32::from_le_bytes(*sum) {
        return None;
    }
    let (unix, values) = body.split_first_chunk::<8>()?;
    let values = values.chunks_exact(8).filter_map(|value| Some(f64::from_le_bytes(value.try_into().ok()?)));
    Some(Sample { unix: u64::from_le_bytes(*unix), values: values.collect() })
}

/// The names, and where the samples begin; `None` when there is no whole line.
fn read_header(reader: &mut BufReader<impl io::Read>) -> io::Result<Option<(Header, u64)>> {
    let mut line = Vec::new();
    reader.by_ref().take(HEADER_BYTES_MAX).read_until(b'\n', &mut line)?;
    let whole = line.ends_with(b"\n").then(|| serde_json::from_slice(&line).ok()).flatten();
    Ok(whole.map(|header| (header, line.len() as u64)))
}

fn read_day(path: &Path, mut see: impl FnMut(&[String], &Sample)) -> io::Result<()> {
    let file = match File::open(path) {
        // Let go of meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    let mut reader = BufReader::with_capacity(256 << 10, file);
    let Some((header, _)) = read_header(&mut reader)? else { return Ok(()) };
    let mut bytes = vec![0; sample_bytes(header.figures.len()) as usize];
    loop {
        match reader.read_exact(&mut bytes) {
            Ok(()) => {
                if let Some(sample) = decoded(&bytes) {
                    see(&header.figures, &sample);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Samples until `shutdown`, while this controller leads.
pub(super) async fn run(history: History, driver: Handle, seen: Seen, shutdown: Shutdown) {
    let mut turns = tokio::time::interval(SAMPLE_EVERY);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        tokio::select! {
            () = shutdown.wait() => return,
            _ = turns.tick() => {}
        }
        if !seen.borrow().leads_now() {
            continue;
        }
        let Ok(board) = driver.read(|controller, _, unix| Board::of(controller, unix)).await else {
            continue;
        };
        let sample = Sample { unix: board.dashboard.timestamp, values: figures(&board) };
        let history = history.clone();
        let kept = tokio::task::spawn_blocking(move || history.keep(&sample)).await;
        match kept {
            Ok(Ok(())) => failing = false,
            // Said once, not every ten seconds.
            Ok(Err(error)) if !failing => {
                failing = true;
                tracing::warn!(%error, "the history of figures cannot be written: charts will have a gap");
            }
            Ok(Err(_)) => {}
            Err(error) => tracing::error!(%error, "a sample was not written: this is a fault of shardwright"),
        }
    }
}

/// `GET /api/v1/history?figures=a,b&from=&to=&step=`, all optional.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Asked {
    figures: Option<String>,
    from: Option<u64>,
    to: Option<u64>,
    step: Option<u64>,
}

/// What is asked, checked.
#[derive(Debug)]
struct Question {
    figures: Vec<String>,
    from: u64,
    to: u64,
    step: u64,
}

/// Columns for charts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) from: u64,
    pub(super) to: u64,
    /// Seconds between two points.
    pub(super) step: u64,
    /// Unix seconds of the beginning of each point.
    pub(super) times: Vec<u64>,
    pub(super) figures: BTreeMap<String, Vec<Option<f64>>>,
}

impl Question {
    fn new(asked: Asked, now: u64) -> Result<Self, ApiError> {
        let wrong = |detail: String| {
            let hint = format!(
                "figures are {}; times are Unix seconds; at most {POINTS_MAX} points",
                FIGURES.join(", ")
            );
            ApiError::new(Kind::Invalid, detail, hint)
        };
        let figures: Vec<String> = match asked.figures {
            Some(names) => names.split(',').map(|name| name.trim().to_owned()).collect(),
            None => FIGURES.iter().map(|name| (*name).to_owned()).collect(),
        };
        if let Some(unknown) = figures.iter().find(|name| !FIGURES.contains(&name.as_str())) {
            return Err(wrong(format!("there is no figure '{unknown}'")));
        }
        let to = asked.to.unwrap_or(now + 1);
        let from = asked.from.unwrap_or(to.saturating_sub(3_600));
        if from >= to {
            return Err(wrong(format!("from={from} is not before to={to}")));
        }
        let step = asked.step.unwrap_or((to - from).div_ceil(POINTS_DEFAULT).max(SAMPLE_EVERY.as_secs()));
        if step == 0 || (to - from).div_ceil(step) > POINTS_MAX {
            return Err(wrong(format!("step={step} is not right for {} s", to - from)));
        }
        Ok(Self { figures, from, to, step })
    }
}

/// Answers from the files, on a thread that may wait for a disk.
pub(super) async fn answer(history: &History, asked: Asked) -> Result<Answer, ApiError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let question = Question::new(asked, now)?;
    let history = history.clone();
    let read = tokio::task::spawn_blocking(move || history.read(&question)).await;
    let read = read.unwrap_or_else(|error| Err(io::Error::other(error)));
    read.map_err(|error| ApiError::busy(&format!("the history cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(unix: u64) -> Sample {
        Sample { unix, values: (0..FIGURES.len()).map(|at| (unix + at as u64) as f64).collect() }
    }

    fn asked(figures: &str, from: u64, to: u64, step: Option<u64>) -> Asked {
        Asked { figures: Some(figures.to_owned()), from: Some(from), to: Some(to), step }
    }

    fn read(history: &History, asked: Asked) -> Answer {
        history.read(&Question::new(asked, 0).unwrap_or_else(|error| panic!("{error:?}"))).expect("read")
    }

    #[test]
    fn what_is_kept_is_read_back_over_midnight_and_restarts() {
        let dir = tempfile::tempdir().expect("a directory");
        let history = History::new(dir.path(), 7);
        let midnight = 20_000 * DAY_SECONDS;
        for unix in (midnight - 60..midnight + 60).step_by(10) {
            History::new(dir.path(), 7).keep(&sample(unix)).expect("kept");
        }
        let answer = read(&history, asked("status,nodes", midnight - 60, midnight + 60, Some(30)));
        assert_eq!(answer.times, [midnight - 60, midnight - 30, midnight, midnight + 30]);
        let mean = |unix: u64, of: u64| Some((unix + 10 + of) as f64);
        let expected: Vec<Option<f64>> = answer.times.iter().map(|unix| mean(*unix, 0)).collect();
        assert_eq!(answer.figures["status"], expected);
        assert_eq!(answer.figures["nodes"][0], mean(midnight - 60, 1));
        let answer = read(&history, asked("status", midnight - 1_000, midnight - 990, None));
        assert_eq!(answer.figures["status"], [None]);
    }

    #[test]
    fn a_torn_end_and_a_damaged_sample_spoil_nothing_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let history = History::new(dir.path(), 7);
        for unix in [100, 110, 120] {
            history.keep(&sample(unix)).expect("kept");
        }
        let path = history.path(0);
        let mut bytes = fs::read(&path).expect("there");
        let size = sample_bytes(FIGURES.len()) as usize;
        let second = bytes.len() - 2 * size + 20;
        bytes[second] ^= 1;
        bytes.truncate(bytes.len() - 5);
        fs::write(&path, &bytes).expect("written");
        history.keep(&sample(130)).expect("kept");
        let answer = read(&history, asked("status", 100, 140, Some(10)));
        assert_eq!(answer.figures["status"], [Some(100.0), None, None, Some(130.0)]);
    }

    #[test]
    fn days_that_are_over_are_let_go() {
        let dir = tempfile::tempdir().expect("a directory");
        let history = History::new(dir.path(), 7);
        for day in 0..12 {
            history.keep(&sample(day * DAY_SECONDS)).expect("kept");
        }
        assert_eq!(history.days().expect("listed"), (4..=11).collect::<Vec<_>>());
    }

    /// The whole window of production, with a margin.
    #[test]
    fn seven_days_fit_into_fifty_mebibytes() {
        let a_day = DAY_SECONDS / SAMPLE_EVERY.as_secs() * sample_bytes(FIGURES.len()) + HEADER_BYTES_MAX;
        let bytes = 8 * a_day;
        assert!(bytes < 20 << 20, "{bytes}");
        let dir = tempfile::tempdir().expect("a directory");
        let history = History::new(dir.path(), 7);
        for unix in (0..3_600).step_by(10) {
            history.keep(&sample(unix)).expect("kept");
        }
        let written = fs::metadata(history.path(0)).expect("there").len();
        assert!(written * 24 <= a_day + 24 * HEADER_BYTES_MAX, "{written}");
    }

    #[test]
    fn a_question_is_checked() {
        for wrong in [
            asked("colour", 0, 10, None),
            asked("status", 10, 10, None),
            asked("status", 0, 10, Some(0)),
            asked("status", 0, 100_000, Some(10)),
        ] {
            assert!(Question::new(wrong.clone(), 0).is_err(), "{wrong:?}");
        }
        let whole = Question::new(Asked::default(), 10_000).unwrap_or_else(|error| panic!("{error:?}"));
        assert_eq!((whole.from, whole.to, whole.figures.len()), (6_401, 10_001, FIGURES.len()));
        assert_eq!(figures(&Board::default()).len(), FIGURES.len());
    }
}
