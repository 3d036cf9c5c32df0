//! JSON lines from a file, plain or gzip by its first bytes, with memory bounded by one line.

use super::ids::IdSet;
use super::infer::{IdRule, Inference};
use super::{Item, Shape, SkipReason, Skipped};
use flate2::bufread::MultiGzDecoder;
use serde_json::{Map, Value};
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

/// A longer line is no document; nodes refuse statements of more than 8 MiB, and quoting can double a text.
const LINE_BYTES_MAX: usize = 4 << 20;
/// Columns are inferred from the documents within the first so many bytes (uncompressed): about a second's reading.
const SAMPLE_BYTES: u64 = 64 << 20;

/// Why a file cannot be loaded from.
#[derive(Debug, thiserror::Error)]
pub enum DocumentsError {
    #[error("cannot read '{path}': {source}", path = path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("'{path}' is not a regular file; it is read twice, so save it to one first", path = path.display())]
    NotAFile { path: PathBuf },
    #[error("'{path}' ends in the middle of its gzip data after line {line}: fetch it again", path = path.display())]
    CutOff { path: PathBuf, line: u64 },
    #[error("'{path}' holds no JSON object in its first lines ({first}): it must be JSON Lines, one object a line", path = path.display())]
    NoDocuments { path: PathBuf, first: String },
    #[error("'{path}' has {why} at line {line}: split it or make the fields uniform", path = path.display())]
    TooVaried { path: PathBuf, line: u64, why: String },
    #[error("no temporary file for the ids of '{path}': {source}", path = path.display())]
    Ids { path: PathBuf, source: rusqlite::Error },
}

/// A file of documents whose columns are known.
#[derive(Clone, Debug)]
pub struct DocumentFile {
    path: PathBuf,
    shape: Shape,
    sampled: u64,
    /// Documents, when the sample reached the end.
    expected: Option<u64>,
}

impl DocumentFile {
    /// Looks at the file's beginning and infers the columns.
    pub fn inspect(path: &Path) -> Result<Self, DocumentsError> {
        Self::inspect_first(path, SAMPLE_BYTES)
    }

    fn inspect_first(path: &Path, sample_bytes: u64) -> Result<Self, DocumentsError> {
        let mut lines = Lines::open(path)?;
        let mut inference = Inference::default();
        let mut first_fault = None;
        let mut at_end = false;
        while lines.bytes < sample_bytes {
            match lines.next_object()? {
                None => {
                    at_end = true;
                    break;
                }
                Some((line, Ok(object))) => inference
                    .see(&object)
                    .map_err(|why| DocumentsError::TooVaried { path: path.to_owned(), line, why })?,
                Some((line, Err(why))) => {
                    first_fault.get_or_insert_with(|| format!("line {line}: {why}"));
                }
            }
        }
        let sampled = inference.documents();
        if sampled == 0 {
            let first = first_fault.unwrap_or_else(|| "it is empty".to_owned());
            return Err(DocumentsError::NoDocuments { path: path.to_owned(), first });
        }
        let expected = at_end.then_some(sampled);
        Ok(Self { path: path.to_owned(), shape: inference.shape(), sampled, expected })
    }

    pub const fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Documents that the columns were inferred from.
    pub const fn sampled(&self) -> u64 {
        self.sampled
    }

    pub const fn expected(&self) -> Option<u64> {
        self.expected
    }

    pub fn open(&self) -> Result<DocumentReader, DocumentsError> {
        let ids = IdSet::new().map_err(|source| DocumentsError::Ids { path: self.path.clone(), source })?;
        Ok(DocumentReader { lines: Lines::open(&self.path)?, shape: self.shape.clone(), ids })
    }
}

/// The documents of a file, one by one.
#[derive(Debug)]
pub struct DocumentReader {
    lines: Lines,
    shape: Shape,
    ids: IdSet,
}

impl DocumentReader {
    fn read(&mut self) -> Result<Option<Item>, DocumentsError> {
        let Some((line, object)) = self.lines.next_object()? else { return Ok(None) };
        let skipped = |why, message| Ok(Some(Err(Skipped { line, why, message })));
        let object = match object {
            Ok(object) => object,
            Err(message) => return skipped(SkipReason::Malformed, message),
        };
        let document = match self.shape.document(line, object) {
            Ok(document) => document,
            Err(message) => return skipped(SkipReason::Contradicting, message),
        };
        if self.shape.ids == IdRule::Given {
            let new = self
                .ids
                .insert(document.id)
                .map_err(|source| DocumentsError::Ids { path: self.lines.path.clone(), source })?;
            if !new {
                let message = format!("id {} stood on an earlier line", document.id);
                return skipped(SkipReason::DuplicateId, message);
            }
        }
        Ok(Some(Ok(document)))
    }
}

impl Iterator for DocumentReader {
    type Item = Result<Item, DocumentsError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// The lines of a file that are not blank, as JSON objects.
struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    buffer: Vec<u8>,
    line: u64,
    bytes: u64,
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines").field("path", &self.path).field("line", &self.line).finish_non_exhaustive()
    }
}

impl Lines {
    fn open(path: &Path) -> Result<Self, DocumentsError> {
        let io = |source| DocumentsError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        if !file.metadata().map_err(io)?.is_file() {
            return Err(DocumentsError::NotAFile { path: path.to_owned() });
        }
        let mut plain = BufReader::with_capacity(1 << 16, file);
        let gzip = plain.fill_buf().map_err(io)?.starts_with(&[0x1f, 0x8b]);
        let reader: Box<dyn BufRead + Send> = if gzip {
            Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(plain)))
        } else {
            Box::new(plain)
        };
        Ok(Self { path: path.to_owned(), reader, buffer: Vec::new(), line: 0, bytes: 0 })
    }

    /// The next line that is not blank, with its number; `None` at the end.
    #[expect(
        clippy::type_complexity,
        reason = "the outer error ends the reading, the inner one only this line"
    )]
    fn next_object(&mut self) -> Result<Option<(u64, Result<Map<String, Value>, String>)>, DocumentsError> {
        loop {
            let Some(whole) = self.read_line()? else { return Ok(None) };
            if !whole {
                return Ok(Some((self.line, Err(format!("longer than {LINE_BYTES_MAX} bytes")))));
            }
            // Editors of one well-known system put a byte order mark before the first line.
            let text = match self.line {
                1 => self.buffer.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.buffer),
                _ => &self.buffer,
            };
            if !text.trim_ascii().is_empty() {
                return Ok(Some((self.line, parse(text))));
            }
        }
    }

    /// Reads one line into the buffer: `None` at the end, `false` when it was too long and was passed over.
    fn read_line(&mut self) -> Result<Option<bool>, DocumentsError> {
        self.buffer.clear();
        let limit = LINE_BYTES_MAX as u64 + 1;
        let read = self.reader.by_ref().take(limit).read_until(b'\n', &mut self.buffer);
        let count = read.map_err(|source| self.fault(source))?;
        if count == 0 {
            return Ok(None);
        }
        self.line += 1;
        self.bytes += count as u64;
        if (count as u64) < limit || self.buffer.ends_with(b"\n") {
            return Ok(Some(true));
        }
        loop {
            self.buffer.clear();
            let rest = self.reader.by_ref().take(limit).read_until(b'\n', &mut self.buffer);
            let count = rest.map_err(|source| self.fault(source))?;
            self.bytes += count as u64;
            if count == 0 || self.buffer.ends_with(b"\n") {
                return Ok(Some(false));
            }
        }
    }

    fn fault(&self, source: std::io::Error) -> DocumentsError {
        match source.kind() {
            ErrorKind::UnexpectedEof => DocumentsError::CutOff { path: self.path.clone(), line: self.line },
            _ => DocumentsError::Io { path: self.path.clone(), source },
        }
    }
}

fn parse(line: &[u8]) -> Result<Map<String, Value>, String> {
    match serde_json::from_slice(line) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("not a JSON object".to_owned()),
        // The position within the line is what helps; the parser's line number is always 1.
        Err(error) => {
            let text = error.to_string();
            let what = text.split(" at line ").next().unwrap_or(&text).to_owned();
            Err(format!("{what} at column {}", error.column()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    fn file(content: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(content).expect("written");
        file
    }

    fn items(path: &Path) -> Vec<Item> {
        let file = DocumentFile::inspect(path).expect("readable");
        file.open().expect("opened").map(|item| item.expect("readable")).collect()
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(content).expect("compressed");
        encoder.finish().expect("compressed")
    }

    #[test]
    fn every_line_is_a_document_or_is_reported_with_its_number() {
        let content = b"\xef\xbb\xbf{\"id\":1,\"v\":1}\n\n{\"id\":2,\"v\":\n{\"id\":1,\"v\":3}\n[1]\n{\"id\":4,\"v\":\"\xff\"}\n{\"id\":5,\"v\":5}";
        let read = items(file(content).path());
        let ids: Vec<i64> = read.iter().flatten().map(|document| document.id).collect();
        assert_eq!(ids, [1, 5]);
        let skipped: Vec<(u64, SkipReason)> =
            read.iter().filter_map(|item| item.as_ref().err()).map(|s| (s.line, s.why)).collect();
        assert_eq!(
            skipped,
            [
                (3, SkipReason::Malformed),
                (4, SkipReason::DuplicateId),
                (5, SkipReason::Malformed),
                (6, SkipReason::Malformed)
            ]
        );
    }

    #[test]
    fn gzip_is_known_by_its_first_bytes_and_may_have_several_parts() {
        let mut content = gzip(b"{\"a\":1}\n{\"a\":2}\n");
        content.extend(gzip(b"{\"a\":3}\n"));
        let read = items(file(&content).path());
        let ids: Vec<i64> = read.into_iter().map(|item| item.expect("good").id).collect();
        assert_eq!(ids, [1, 2, 3]);
    }

    #[test]
    fn a_cut_off_archive_is_an_error_not_an_end() {
        let lines: Vec<String> = (0..5000).map(|n| format!("{{\"a\":{}}}\n", n * 7919 % 5003)).collect();
        let content = gzip(lines.concat().as_bytes());
        let cut = file(&content[..content.len() / 2]);
        assert!(matches!(DocumentFile::inspect(cut.path()), Err(DocumentsError::CutOff { .. })));
    }

    #[test]
    fn a_line_beyond_the_limit_is_passed_over_without_being_held() {
        let mut content = b"{\"a\":1}\n{\"a\":\"".to_vec();
        content.extend(std::iter::repeat_n(b'x', 3 * LINE_BYTES_MAX));
        content.extend(b"\"}\n{\"a\":3}\n");
        let long = file(&content);
        let file = DocumentFile::inspect(long.path()).expect("readable");
        let mut reader = file.open().expect("opened");
        let read: Vec<Item> = reader.by_ref().map(|item| item.expect("readable")).collect();
        assert!(matches!(&read[1], Err(skipped) if skipped.line == 2 && skipped.message.contains("longer")));
        assert_eq!(read[2].as_ref().expect("good").id, 3);
        assert!(reader.lines.buffer.capacity() < 3 * LINE_BYTES_MAX);
    }

    #[test]
    fn a_field_that_changes_after_the_sample_is_reported() {
        let file = file(b"{\"a\":1}\n{\"a\":2}\n{\"a\":\"three\"}\n{\"a\":4,\"b\":1}\n{\"a\":5}\n");
        let inspected = DocumentFile::inspect_first(file.path(), 10).expect("readable");
        assert_eq!((inspected.sampled(), inspected.expected()), (2, None));
        let read: Vec<Item> = inspected.open().expect("opened").map(|item| item.expect("readable")).collect();
        let lines: Vec<u64> = read.iter().filter_map(|item| item.as_ref().err()).map(|s| s.line).collect();
        assert_eq!(lines, [3, 4]);
        assert_eq!(read.iter().flatten().count(), 3);
    }

    #[test]
    fn what_is_no_file_of_documents_says_so() {
        let directory = tempfile::tempdir().expect("a directory");
        assert!(matches!(DocumentFile::inspect(directory.path()), Err(DocumentsError::NotAFile { .. })));
        let missing = directory.path().join("missing");
        assert!(matches!(DocumentFile::inspect(&missing), Err(DocumentsError::Io { .. })));
        let csv = file(b"a,b\n1,2\n");
        let error = DocumentFile::inspect(csv.path()).expect_err("not JSON").to_string();
        assert!(error.contains("line 1: expected value at column 1"), "{error}");
        assert!(DocumentFile::inspect(file(b"").path()).is_err());
    }
}
