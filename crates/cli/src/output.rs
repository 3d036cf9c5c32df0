//! What goes to stdout and stderr, and nowhere else in this crate: results, errors and their exit codes.

use serde::Serialize;
use serde_json::json;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// Aligned columns for people
    #[default]
    Table,
    /// One JSON object on stdout and nothing else, for scripts
    Json,
}

/// Why a command did not do what was asked, with its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Something went wrong on the way.
    Failed,
    /// The command line or the input is wrong.
    Usage,
    /// Understood and not done: a conflict, a precondition, a missing permission.
    Refused,
    /// Nobody answers at the address.
    Unreachable,
}

impl Failure {
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Unreachable => 4,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
        }
    }
}

/// An error for a person: what and where in `message`, what to do in `hint`.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct CommandError {
    pub failure: Failure,
    /// A word for scripts where the failure's own name says too little.
    pub code: Option<String>,
    pub message: String,
    pub hint: String,
    /// Printed instead of the error object in JSON: a command that ends with its result and fails all the same.
    pub result: Option<Box<serde_json::Value>>,
}

impl CommandError {
    pub fn new(failure: Failure, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { failure, code: None, message: message.into(), hint: hint.into(), result: None }
    }

    pub fn failed(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Failure::Failed, message, hint)
    }

    pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Failure::Usage, message, hint)
    }

    /// From an error whose text already says what to do.
    pub fn complete(failure: Failure, error: impl std::fmt::Display) -> Self {
        Self::new(failure, error.to_string(), "")
    }

    /// One line: `error: what, where, what to do`.
    pub fn line(&self) -> String {
        let text = match self.hint.as_str() {
            "" => format!("error: {}", self.message),
            hint => format!("error: {}; {hint}", self.message),
        };
        text.split(['\n', '\r']).map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
    }

    fn object(&self) -> serde_json::Value {
        let code = self.code.as_deref().unwrap_or_else(|| self.failure.name());
        json!({ "error": { "code": code, "message": self.message, "hint": self.hint } })
    }
}

/// Prints an error where the chosen output wants it.
pub fn report(output: Output, error: &CommandError) {
    match (output, &error.result) {
        (Output::Json, Some(result)) => line_out(&result.to_string()),
        (Output::Json, None) => line_out(&error.object().to_string()),
        (Output::Table, _) => line_err(&error.line()),
    }
}

/// Prints a result: the object as JSON, or the text made of it.
pub fn print<T: Serialize>(
    output: Output,
    value: &T,
    text: impl FnOnce(&T) -> String,
) -> Result<(), CommandError> {
    match output {
        Output::Table => line_out(text(value).trim_end()),
        Output::Json => {
            let json = serde_json::to_string(value).map_err(|error| {
                CommandError::failed(format!("the result is no JSON ({error})"), "report it")
            })?;
            line_out(&json);
        }
    }
    Ok(())
}

/// A line on stdout. A reader that went away (`| head`) is no failure of the command.
pub fn line_out(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _closed = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
}

/// A line on stderr.
pub fn line_err(text: &str) {
    let _closed = writeln!(std::io::stderr().lock(), "{text}");
}

/// Whether a person watches stderr.
pub fn stderr_is_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// Rows under headings, aligned; numbers to the right.
#[derive(Debug)]
pub struct TextTable {
    rows: Vec<Vec<String>>,
}

impl TextTable {
    pub fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self { rows: vec![headings.map(str::to_owned).to_vec()] }
    }

    /// Under headings that are known only as the rows are.
    pub fn of(headings: &[String]) -> Self {
        Self { rows: vec![headings.to_vec()] }
    }

    /// As many cells as there are headings: what lacks is empty, what is too much is left out.
    pub fn row_of(&mut self, cells: impl Iterator<Item = String>) {
        let columns = self.rows.first().map_or(0, Vec::len);
        let mut row: Vec<String> = cells.take(columns).collect();
        row.resize(columns, String::new());
        self.rows.push(row);
    }

    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(Vec::from(cells));
    }
}

impl std::fmt::Display for TextTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |at: usize| self.rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let is_number = |cell: &String| cell.parse::<f64>().is_ok() || cell == "-";
        let right: Vec<bool> = (0..columns)
            .map(|at| self.rows.len() > 1 && self.rows[1..].iter().all(|row| is_number(&row[at])))
            .collect();
        for row in &self.rows {
            let mut line = String::new();
            for (at, cell) in row.iter().enumerate() {
                let padding = " ".repeat(widths[at] - cell.chars().count());
                let gap = if at > 0 { "  " } else { "" };
                if right[at] {
                    write!(line, "{gap}{padding}{cell}")?;
                } else {
                    write!(line, "{gap}{cell}{padding}")?;
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_and_numbers_stand_right() {
        let mut table = TextTable::new(["name", "shards", "state"]);
        table.row(["products".into(), "12".into(), "idle".into()]);
        table.row(["é".into(), "3000".into(), "creating".into()]);
        assert_eq!(
            table.to_string(),
            "name      shards  state\nproducts      12  idle\né           3000  creating\n"
        );
    }

    #[test]
    fn an_error_is_one_line_whatever_the_cause_says() {
        let error = CommandError::failed("it\nbroke\r\n at x", "mend it");
        assert_eq!(error.line(), "error: it broke at x; mend it");
        assert_eq!(
            error.object(),
            json!({"error": {"code": "failed", "message": "it\nbroke\r\n at x", "hint": "mend it"}})
        );
    }

    #[test]
    fn exit_codes_are_those_of_the_manual() {
        let all = [Failure::Failed, Failure::Usage, Failure::Refused, Failure::Unreachable];
        assert_eq!(all.map(Failure::exit_code), [1, 2, 3, 4]);
    }
}
