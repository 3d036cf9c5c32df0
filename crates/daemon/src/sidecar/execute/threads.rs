//! `SHOW THREADS`, read for one question: how old is the oldest statement that runs.

use crate::sidecar::hold::SHOWN_MAX;
use manticore::Rows;
use std::time::Duration;

/// A statement under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Running {
    pub(super) age: Duration,
    pub(super) info: String,
}

/// The oldest statement that runs, our own look and those `held` aside. One whose age cannot be read counts as older
/// than all.
///
/// The node shows a statement that its sidecar holds as running. Where more of one text run than are held, the youngest
/// count as those held.
pub(super) fn oldest(rows: &Rows, held: &[String]) -> Option<Running> {
    let mut found: Vec<Running> = (0..rows.rows.len()).filter_map(|row| running(rows, row)).collect();
    found.sort_by_key(|running| running.age);
    for text in held {
        // The node may cut long texts, and so does the sidecar.
        let is_it = |running: &Running| {
            let (held, shown) = (text.trim(), running.info.trim());
            !shown.is_empty()
                && (held.starts_with(shown) || (text.len() + 4 > SHOWN_MAX && shown.starts_with(held)))
        };
        if let Some(at) = found.iter().position(is_it) {
            found.remove(at);
        }
    }
    found.pop()
}

fn running(rows: &Rows, row: usize) -> Option<Running> {
    let info = rows.value(row, "Info").unwrap_or_default();
    let idle = ["net_idle", "net_read", "handshake", "-", ""];
    let state = rows.value(row, "State").unwrap_or("query");
    if idle.contains(&state) || info.trim_start().to_ascii_lowercase().starts_with("show threads") {
        return None;
    }
    let time = rows
        .columns
        .iter()
        .find(|name| name.to_ascii_lowercase().starts_with("this/prev job time"))
        .and_then(|name| rows.value(row, name));
    // "prev 2ms" is the job before: this thread has none now.
    if time.is_some_and(|time| time.contains("prev")) {
        return None;
    }
    let age = time.and_then(duration).unwrap_or(Duration::MAX);
    Some(Running { age, info: info.to_owned() })
}

/// `249us`, `1.5ms`, `3s`, `2m`, `1h`, or seconds without a unit.
fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let unit_at = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let seconds = match unit.trim() {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(threads: &[(&str, &str, &str)]) -> Rows {
        let columns = ["TID", "State", "This/prev job time", "Info"].map(str::to_owned).to_vec();
        let row = |(state, time, info): &(&str, &str, &str)| {
            ["1", state, time, info].map(|value| Some(value.to_owned())).to_vec()
        };
        Rows { columns, rows: threads.iter().map(row).collect(), ..Rows::default() }
    }

    #[test]
    fn only_what_runs_now_counts() {
        let oldest = |threads| oldest(&rows(threads), &[]).map(|running| running.age);
        assert_eq!(
            oldest(&[("query", "1s", "SHOW THREADS"), ("net_idle", "9s", ""), ("-", "prev 4s", "")]),
            None
        );
        assert_eq!(
            oldest(&[("query", "250us", "INSERT"), ("query", "1.5ms", "SELECT"), ("net_idle", "2h", "")]),
            Some(Duration::from_micros(1500))
        );
        assert_eq!(oldest(&[("net_write", "2m", "x")]), Some(Duration::from_mins(2)));
        assert_eq!(oldest(&[("query", "soon", "x")]), Some(Duration::MAX));
    }

    #[test]
    fn what_the_sidecar_holds_does_not_run() {
        let shown = rows(&[
            ("query", "3s", "INSERT INTO t VALUES (1"),
            ("query", "5s", "SELECT 1"),
            ("query", "9s", "SELECT 1"),
        ]);
        let held = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
            oldest(&shown, &texts).map(|running| running.age.as_secs())
        };
        assert_eq!(held(&[]), Some(9));
        assert_eq!(held(&["SELECT 1"]), Some(9), "of two the younger may be the held one");
        assert_eq!(held(&["SELECT 1", "SELECT 1"]), Some(3));
        assert_eq!(held(&["SELECT 1", "SELECT 1", "INSERT INTO t VALUES (1,'cut in the list')"]), None);
    }
}
