//! Whether an audit log is as it was written: every line's own hash, the chain from line to line, the numbers, the names of
//! the files, and that it goes as far as the control log knows.

use super::journal::files;
use super::line::{self, Link, NO_HASH};
use model::AuditMark;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// No line that is written is longer; more than this in one line is not read on.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// `audit verify`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    pub ok: bool,
    /// Lines that were read and found right, up to the first bad one.
    pub lines: u64,
    /// The number of the first line that is not as it was written, or is missing.
    pub first_bad: Option<u64>,
    /// What is wrong with it, and in which file.
    pub why: Option<String>,
    /// The number of the first line that is kept; the older ones' time was over.
    pub first: u64,
    /// How many lines the control log knows of; `None`: it was not asked, or knows none.
    pub marked: Option<u64>,
}

/// What was found so far.
struct Chain {
    found: Verified,
    /// The number and the hash that the next line must follow.
    next: u64,
    prev: String,
    /// Where the kept lines begin, by a `pruned` line: the last number and hash that went.
    gone: Option<(u64, String)>,
    /// Of the first line that is kept.
    first_prev: String,
    /// The hash of the line that the mark names.
    at_mark: Option<String>,
}

/// Reads the whole log in `directory`. `mark` is how far the control log knows it to go.
pub fn verify(directory: &Path, mark: Option<&AuditMark>) -> io::Result<Verified> {
    let files = files(directory)?;
    let first = files.first().map_or(1, |(first, _)| *first);
    let mut chain = Chain {
        found: Verified { first, marked: mark.map(|mark| mark.last), ..Verified::default() },
        next: first,
        prev: NO_HASH.to_owned(),
        gone: None,
        first_prev: NO_HASH.to_owned(),
        at_mark: None,
    };
    for (number, path) in &files {
        if let Err(why) = chain.file(*number, path, mark)? {
            return Ok(chain.bad(chain.next, why));
        }
    }
    Ok(chain.end(mark))
}

impl Chain {
    fn bad(&self, seq: u64, why: String) -> Verified {
        Verified { ok: false, first_bad: Some(seq), why: Some(why), ..self.found.clone() }
    }

    /// Reads one file; the inner error is what is wrong with the line that is next.
    fn file(&mut self, first: u64, path: &Path, mark: Option<&AuditMark>) -> io::Result<Result<(), String>> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if first != self.next {
            return Ok(Err(format!("{name} does not follow: line {} should be next", self.next)));
        }
        let mut reader = BufReader::new(File::open(path)?);
        let mut text = Vec::new();
        for number in 1.. {
            text.clear();
            if reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut text)? == 0 {
                break;
            }
            let whole = text.strip_suffix(b"\n").and_then(|line| std::str::from_utf8(line).ok());
            let link = whole.ok_or_else(|| "it is not whole".to_owned());
            let link = link.and_then(|line| line::read(line).map_err(|error| error.to_string()));
            match link.and_then(|link| self.follow(link, mark)) {
                Ok(()) => {}
                Err(why) => return Ok(Err(format!("{name}, line {number}: {why}"))),
            }
        }
        Ok(Ok(()))
    }

    fn follow(&mut self, link: Link, mark: Option<&AuditMark>) -> Result<(), String> {
        if link.seq != self.next {
            return Err(format!("it has the number {}, and {} should be next", link.seq, self.next));
        }
        let begins = self.found.lines == 0;
        if begins {
            self.first_prev.clone_from(&link.prev);
        } else if link.prev != self.prev {
            return Err("it does not follow from the line before".to_owned());
        }
        if mark.is_some_and(|mark| mark.last == link.seq) {
            self.at_mark = Some(link.hash.clone());
        }
        if link.pruned.is_some() {
            self.gone = link.pruned;
        }
        self.prev = link.hash;
        self.next = link.seq + 1;
        self.found.lines += 1;
        Ok(())
    }

    /// All lines follow from each other; whether they are all the lines there were.
    fn end(self, mark: Option<&AuditMark>) -> Verified {
        let first = self.found.first;
        let begins_right = match &self.gone {
            Some((last, hash)) if first > 1 => *last + 1 == first && *hash == self.first_prev,
            _ => first == 1 && self.first_prev == NO_HASH,
        };
        if !begins_right {
            return self.bad(
                first,
                "lines before it are gone, and no line says that their time was over".to_owned(),
            );
        }
        if let Some(mark) = mark {
            if self.next <= mark.last {
                let why = format!("the control log knows lines up to {}: the end was cut off", mark.last);
                return self.bad(self.next, why);
            }
            if mark.last >= first && self.at_mark.as_ref() != Some(&mark.hash) {
                let why =
                    "it is not the line that the control log knows: the log was written anew".to_owned();
                return self.bad(mark.last, why);
            }
            if mark.first > first {
                let why =
                    "the control log knows that older lines were taken away, and here they are".to_owned();
                return self.bad(first, why);
            }
        }
        Verified { ok: true, ..self.found }
    }
}
