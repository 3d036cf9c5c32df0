//! `SHOW THREADS`, read for one question: how old is the oldest statement that runs.

use manticore::Rows;
use std::time::Duration;

/// A statement under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Running {
    pub(super) age: Duration,
    pub(super) info: String,
}

/// The oldest statement that runs, our own look aside. One whose age cannot be read counts as older than all.
pub(super) fn oldest(rows: &Rows) -> Option<Running> {
    (0..rows.rows.len()).filter_map(|row| running(rows, row)).max_by_key(|running| running.age)
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
        let oldest = |threads| oldest(&rows(threads)).map(|running| running.age);
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
}
