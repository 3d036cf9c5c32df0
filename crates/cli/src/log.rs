//! Where log lines go: to stderr, and those of a sidecar only once it has said where it listens. searchd reads a sidecar's
//! stderr and stdout as one and takes the first line for that word: any other, and it starts the sidecar anew, three times
//! in all.

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

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        match held.as_mut() {
            None => io::stderr().write(bytes),
            Some(held) => {
                if held.len() + bytes.len() <= HELD_BYTES_MAX {
                    held.extend_from_slice(bytes);
                }
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
