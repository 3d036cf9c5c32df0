//! Where log lines go: to stderr, and those of a sidecar only once it has said where it listens. searchd reads a sidecar's
//! stderr and stdout as one and takes the first line for that word: any other, and it starts the sidecar anew, three times
//! in all.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

/// Lines beyond this are lost: a start says little.
const HELD_BYTES_MAX: usize = 64 << 10;

/// What is held back; `None` once it may be said.
static HELD: Mutex<Option<Vec<u8>>> = Mutex::new(None);

/// Holds back what is logged from now on.
pub fn hold_back() {
    *HELD.lock().unwrap_or_else(PoisonError::into_inner) = Some(Vec::new());
}

/// Says what was held back, and from now on everything at once.
pub fn let_go() {
    let held = HELD.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(held) = held {
        // Nobody is there to be told that the log cannot be written.
        let _lost = io::stderr().write_all(&held);
    }
}

/// The writer of the log.
#[derive(Clone, Copy, Debug)]
pub struct Log;

/// An event as one line: what a client, a node or a sink says may have line breaks in it, and must not look like lines of ours
/// or give the terminal orders.
fn one_line(event: &[u8]) -> Cow<'_, [u8]> {
    let (said, end) = event.strip_suffix(b"\n").map_or((event, &b""[..]), |said| (said, b"\n"));
    let text = String::from_utf8_lossy(said);
    if matches!(text, Cow::Borrowed(_)) && !text.contains(is_order) {
        return Cow::Borrowed(event);
    }
    let mut line = String::with_capacity(event.len() + 16);
    for char in text.chars() {
        if char == '\n' {
            line.push_str("\\n");
        } else if is_order(char) && char.is_ascii() {
            let _infallible = write!(line, "\\x{:02x}", u32::from(char));
        } else if is_order(char) {
            let _infallible = write!(line, "\\u{{{:x}}}", u32::from(char));
        } else {
            line.push(char);
        }
    }
    let mut line = line.into_bytes();
    line.extend(end);
    Cow::Owned(line)
}

/// What a terminal or a viewer obeys and does not show: controls, those of C1 too (U+009B begins an order as ESC [ does),
/// separators of lines, and what turns the direction of text.
fn is_order(char: char) -> bool {
    char.is_control() && char != '\t'
        || matches!(char, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl Write for Log {
    /// Takes one event whole.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = one_line(bytes);
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        match held.as_mut() {
            None => io::stderr().write_all(&line)?,
            Some(held) => {
                if held.len() + line.len() <= HELD_BYTES_MAX {
                    held.extend_from_slice(&line);
                }
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_whatever_is_told_in_it() {
        for (event, line) in [
            (&b"INFO it is so a=1\n"[..], &b"INFO it is so a=1\n"[..]),
            (
                b"WARN error=near 'x\n2026-01-01 INFO forged'\n",
                b"WARN error=near 'x\\n2026-01-01 INFO forged'\n",
            ),
            (b"a\r\x1b[2Jb\tc\0\x7f", b"a\\x0d\\x1b[2Jb\tc\\x00\\x7f"),
            ("a\u{9b}2Jb\u{85}c\n".as_bytes(), b"a\\u{9b}2Jb\\u{85}c\n"),
            ("a\u{202e}b\u{2028}c\u{2066}\n".as_bytes(), b"a\\u{202e}b\\u{2028}c\\u{2066}\n"),
            // No UTF-8 at all: shown as what cannot be read.
            (b"a\x9b2J\n", "a\u{fffd}2J\n".as_bytes()),
            ("Zürich\n".as_bytes(), "Zürich\n".as_bytes()),
        ] {
            assert_eq!(&*one_line(event), line);
        }
    }
}
