//! `top`: what a cluster does, live in the terminal.

use super::ask::{api, or_dash};
use super::watch::time;
use crate::api::Api;
use crate::args::Common;
use crate::output::{CommandError, Output, TextTable};
use crate::signals;
use console::{Key, Style, Term, truncate_str};
use model::api::{Dashboard, NodeList, OperationList, OperationSummary, ShardMap, TableList};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{self, Write};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

/// Operations that are over: the newest of them are shown.
const OVER_SHOWN: usize = 5;
const BAR: usize = 20;
/// Keys that wait to be taken.
const KEYS: usize = 16;
/// A terminal of this many lines shows at least something.
const HEADER: usize = 3;

/// What one look found.
#[derive(Debug)]
struct Seen {
    board: Dashboard,
    nodes: NodeList,
    tables: TableList,
    map: ShardMap,
    operations: OperationList,
}

/// What is on the screen.
#[derive(Debug)]
struct View {
    url: String,
    seen: Option<(Seen, Instant)>,
    /// Why the last look failed.
    fault: Option<String>,
    /// Lines above the first that is shown.
    offset: usize,
}

/// Shows the cluster until `q` or a signal.
pub async fn run(common: &Common, interval: u32) -> Result<(), CommandError> {
    let term = Term::stdout();
    if common.output == Output::Json || !term.is_term() {
        return Err(CommandError::usage(
            "top shows a live view and needs a terminal",
            "scripts ask for `status`",
        ));
    }
    let api = api(common)?;
    let mut stop = signals::stop()?;
    let mut view = View { url: api.url().to_owned(), seen: None, fault: None, offset: 0 };
    // Fails here, on the usual screen, when nobody answers at all.
    view.took(look(&api).await?);
    let failed = |error: io::Error| {
        CommandError::failed(format!("the terminal cannot be used: {error}"), "use `status`")
    };
    let screen = Screen::take(&term).map_err(failed)?;
    let mut keys = keys(term.clone());
    let mut looks = tokio::time::interval(Duration::from_secs(interval.into()));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        screen.draw(&view).map_err(failed)?;
        tokio::select! {
            _ = looks.tick() => match look(&api).await {
                Ok(seen) => view.took(seen),
                Err(error) => view.fault = Some(error.to_string()),
            },
            key = keys.recv() => match key {
                None | Some(Key::Char('q') | Key::Escape | Key::CtrlC) => return Ok(()),
                Some(key) => view.moved(&key, screen.body()),
            },
            () = stop.wait() => return Ok(()),
        }
    }
}

async fn look(api: &Api) -> Result<Seen, CommandError> {
    let (board, nodes, tables, map, operations) =
        tokio::try_join!(api.dashboard(), api.nodes(), api.tables(), api.map(), api.operations())?;
    Ok(Seen { board, nodes, tables, map, operations })
}

/// What is typed. The thread waits for a key for as long as the process lives, but for the key that ends it.
fn keys(term: Term) -> mpsc::Receiver<Key> {
    let (typed, keys) = mpsc::channel(KEYS);
    std::thread::spawn(move || {
        while let Ok(key) = term.read_key_raw() {
            let last = matches!(key, Key::Char('q') | Key::Escape | Key::CtrlC);
            if typed.blocking_send(key).is_err() || last {
                return;
            }
        }
    });
    keys
}

/// The terminal's second screen. The first comes back, with its modes, however this ends.
struct Screen<'a> {
    term: &'a Term,
    modes: Termios,
}

impl<'a> Screen<'a> {
    fn take(term: &'a Term) -> io::Result<Self> {
        let modes = tcgetattr(io::stdin())?;
        let screen = Self { term, modes };
        term.write_str("\x1b[?1049h")?;
        term.hide_cursor()?;
        Ok(screen)
    }

    /// Lines for what can be moved.
    fn body(&self) -> usize {
        usize::from(self.term.size().0).saturating_sub(HEADER)
    }

    fn draw(&self, view: &View) -> io::Result<()> {
        let (height, width) = self.term.size();
        let mut text = String::from("\x1b[H");
        for line in view.lines(usize::from(height), usize::from(width)) {
            // Erased to the line's end, and not the whole screen first, which would flicker.
            text.push_str(&line);
            text.push_str("\x1b[K\r\n");
        }
        let mut out = self.term;
        out.write_all(text.trim_end_matches("\r\n").as_bytes())?;
        out.write_all(b"\x1b[J")?;
        out.flush()
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        let _gone = self.term.show_cursor();
        let _gone = self.term.write_str("\x1b[?1049l");
        let _gone = tcsetattr(io::stdin(), OptionalActions::Now, &self.modes);
    }
}

impl View {
    fn took(&mut self, seen: Seen) {
        (self.seen, self.fault) = (Some((seen, Instant::now())), None);
    }

    fn moved(&mut self, key: &Key, page: usize) {
        let last = self.seen.as_ref().map_or(0, |(seen, _)| body(seen).len()).saturating_sub(page);
        let page = page.max(1);
        self.offset = match key {
            Key::ArrowUp | Key::Char('k') => self.offset.saturating_sub(1),
            Key::ArrowDown | Key::Char('j') => self.offset + 1,
            Key::PageUp => self.offset.saturating_sub(page),
            Key::PageDown | Key::Char(' ') => self.offset + page,
            Key::Home => 0,
            Key::End => last,
            _ => self.offset,
        }
        .min(last);
    }

    /// As many lines as the terminal has, none wider than it.
    fn lines(&self, height: usize, width: usize) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some((seen, at)) = &self.seen {
            lines.extend(header(&self.url, &seen.board));
            let stale = at.elapsed().as_secs();
            lines.push(self.fault.as_ref().map_or_else(String::new, |fault| {
                Style::new().red().apply_to(format!("as of {stale} s ago: {fault}")).to_string()
            }));
            lines.extend(body(seen).into_iter().skip(self.offset));
        }
        lines.truncate(height);
        lines.iter().map(|line| truncate_str(line, width, "…").into_owned()).collect()
    }
}

/// Two lines.
fn header(url: &str, board: &Dashboard) -> [String; 2] {
    let style = match board.overall_status.as_str() {
        "healthy" => Style::new().green(),
        "warning" => Style::new().yellow(),
        _ => Style::new().red().bold(),
    };
    let (cluster, rebalancing) = (&board.cluster, &board.rebalancing);
    [
        format!(
            "{}  {} of {} nodes  {url}  {}",
            style.apply_to(&board.overall_status),
            cluster.active_nodes,
            cluster.total_nodes,
            time(board.timestamp),
        ),
        format!(
            "operations: {} running, {} completed, {} failed  queue: {} commands  leader: {}",
            rebalancing.running_operations,
            rebalancing.completed_operations,
            rebalancing.failed_operations,
            board.queue.total_queue_depth,
            or_dash(cluster.master_node.as_ref()),
        ),
    ]
}

/// Everything below the header, the most urgent first.
fn body(seen: &Seen) -> Vec<String> {
    let mut lines = Vec::new();
    for alert in &seen.board.alerts {
        let style = if alert.level == "critical" { Style::new().red() } else { Style::new().yellow() };
        let told = format!("{} {} ({}): {}", alert.level, alert.kind, alert.state, alert.message);
        lines.push(style.apply_to(told).to_string());
        lines.push(format!("  {}", alert.action));
    }
    if !seen.board.alerts.is_empty() {
        lines.push(String::new());
    }
    section(&mut lines, &operations(&seen.operations.operations));
    section(&mut lines, &nodes(&seen.nodes));
    section(&mut lines, &tables(seen));
    lines
}

fn section(lines: &mut Vec<String>, table: &TextTable) {
    let text = table.to_string();
    let mut rows = text.lines();
    lines.extend(rows.next().map(|heading| Style::new().bold().apply_to(heading).to_string()));
    lines.extend(rows.map(str::to_owned));
    lines.push(String::new());
}

/// Those that are not over, and the newest of the others.
fn operations(all: &[OperationSummary]) -> TextTable {
    let mut table = TextTable::new(["operation", "kind", "subject", "status", "steps", ""]);
    let (mut under_way, mut over): (Vec<_>, Vec<_>) = all.iter().partition(|one| one.finished_at.is_none());
    under_way.sort_by_key(|one| (one.status == "queued", one.id));
    over.sort_by_key(|one| std::cmp::Reverse((one.finished_at, one.id)));
    for one in under_way.into_iter().chain(over.into_iter().take(OVER_SHOWN)) {
        let told = match (&one.error, one.finished_at) {
            (Some(error), _) => error.clone(),
            (None, None) => bar(one.steps_done, one.steps_total),
            (None, Some(_)) => String::new(),
        };
        let steps = format!("{}/{}", one.steps_done, one.steps_total);
        table.row([
            one.id.to_string(),
            one.kind.clone(),
            one.subject.clone(),
            one.status.clone(),
            steps,
            told,
        ]);
    }
    table
}

fn bar(done: u64, total: u64) -> String {
    let filled = (done.min(total) as usize * BAR).checked_div(total as usize).unwrap_or(0);
    format!("[{}{}]", "#".repeat(filled), "-".repeat(BAR - filled))
}

fn nodes(list: &NodeList) -> TextTable {
    let mut table = TextTable::new(["node", "state", "zone", "copies", "groups"]);
    for node in &list.nodes {
        table.row([
            node.id.to_string(),
            node.state.clone(),
            or_dash(node.zone.as_ref()),
            node.copies.to_string(),
            node.groups.to_string(),
        ]);
    }
    table
}

fn tables(seen: &Seen) -> TextTable {
    let mut table = TextTable::new([
        "table",
        "status",
        "copies",
        "shards",
        "rf",
        "active",
        "pending",
        "inactive",
        "documents",
    ]);
    for one in &seen.tables.tables {
        let row = seen.map.tables.iter().find(|row| row.name == one.name);
        let cells = || row.into_iter().flat_map(|row| &row.cells);
        table.row([
            one.name.to_string(),
            one.status.clone(),
            or_dash(row.map(|row| row.rf_status.clone())),
            one.shards.to_string(),
            one.rf.to_string(),
            cells().map(|cell| cell.active).sum::<u64>().to_string(),
            cells().map(|cell| cell.pending).sum::<u64>().to_string(),
            cells().map(|cell| cell.inactive).sum::<u64>().to_string(),
            or_dash(one.documents),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::NodeId;
    use model::TableName;
    use model::api::{
        Alert, ClusterMetrics, MapCell, MapRow, NodeSummary, QueueMetrics, RebalancingMetrics, TableSummary,
    };

    fn operation(id: u64, status: &str, finished_at: Option<u64>) -> OperationSummary {
        OperationSummary {
            id,
            kind: "grow".into(),
            subject: "t".into(),
            status: status.into(),
            steps_done: 5,
            steps_total: 10,
            created_at: 1,
            finished_at,
            error: None,
        }
    }

    fn view(tables: usize) -> View {
        let node = NodeId::new("127.0.0.1:9000").expect("valid");
        let names: Vec<TableName> =
            (0..tables).map(|n| TableName::new(format!("t{n}")).expect("valid")).collect();
        let alert = Alert {
            level: "critical".into(),
            kind: "data_unavailable".into(),
            message: "shard 1 of t0".into(),
            action: "start a node".into(),
            since: 1,
            labels: [].into(),
            state: "firing".into(),
            silenced_until: None,
        };
        let board = Dashboard {
            timestamp: 60,
            overall_status: "critical".into(),
            rebalancing: RebalancingMetrics::default(),
            queue: QueueMetrics::default(),
            cluster: ClusterMetrics { total_nodes: 3, active_nodes: 2, ..ClusterMetrics::default() },
            alerts: vec![alert],
        };
        let summary = |name: &TableName| TableSummary {
            name: name.clone(),
            cluster: Some("c".into()),
            shards: 4,
            rf: 2,
            status: "running".into(),
            documents: None,
        };
        let row = |name: &TableName| MapRow {
            name: name.clone(),
            cluster: Some("c".into()),
            shards: 4,
            rf: 2,
            rf_status: "degraded".into(),
            cells: vec![MapCell { node: 0, active: 3, pending: 1, inactive: 4 }],
        };
        let operations =
            vec![operation(1, "done", Some(2)), operation(2, "queued", None), operation(3, "running", None)];
        let nodes = vec![NodeSummary {
            id: node.clone(),
            state: "lost".into(),
            zone: None,
            capacity: 1.0,
            copies: 8,
            groups: 2,
        }];
        let seen = Seen {
            board,
            nodes: NodeList { nodes },
            tables: TableList { tables: names.iter().map(summary).collect() },
            map: ShardMap { nodes: vec![node], tables: names.iter().map(row).collect() },
            operations: OperationList { operations },
        };
        let mut view = View { url: "http://127.0.0.1:1".into(), seen: None, fault: None, offset: 0 };
        view.took(seen);
        view
    }

    fn plain(lines: &[String]) -> String {
        console::strip_ansi_codes(&lines.join("\n")).into_owned()
    }

    #[test]
    fn what_is_urgent_stands_first_and_everything_is_there() {
        let text = plain(&view(1).lines(100, 200));
        let expected = "\
critical  2 of 3 nodes  http://127.0.0.1:1  1970-01-01T00:01:00Z
operations: 0 running, 0 completed, 0 failed  queue: 0 commands  leader: -

critical data_unavailable (firing): shard 1 of t0
  start a node

operation  kind  subject  status   steps
        3  grow  t        running  5/10   [##########----------]
        2  grow  t        queued   5/10   [##########----------]
        1  grow  t        done     5/10

node            state  zone  copies  groups
127.0.0.1:9000  lost      -       8       2

table  status   copies    shards  rf  active  pending  inactive  documents
t0     running  degraded       4   2       3        1         4          -
";
        assert_eq!(text, expected);
    }

    #[test]
    fn no_line_is_wider_and_there_are_no_more_than_the_terminal_has() {
        let mut view = view(50);
        let lines = view.lines(20, 30);
        assert_eq!(lines.len(), 20);
        assert!(lines.iter().all(|line| console::measure_text_width(line) <= 30), "{lines:?}");
        assert!(view.lines(0, 0).is_empty());
        // The end is reached and not passed.
        for key in [Key::End, Key::ArrowDown, Key::PageDown] {
            view.moved(&key, 17);
            assert!(plain(&view.lines(20, 200)).trim_end().ends_with('-'), "{key:?}");
            assert!(plain(&view.lines(20, 200)).contains("t49 "), "{key:?}");
        }
        view.moved(&Key::Home, 17);
        assert_eq!(view.offset, 0);
    }

    #[test]
    fn a_look_that_failed_leaves_the_last_one_with_its_age() {
        let mut view = view(1);
        view.fault = Some("nobody answers".into());
        let text = plain(&view.lines(100, 200));
        assert!(text.contains("s ago: nobody answers") && text.contains("127.0.0.1:9000"), "{text}");
    }
}
