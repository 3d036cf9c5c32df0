//! How deep what others send may be nested: to read it, to look at it and to let it go takes room on the stack for each level.

use serde::de;
use std::cell::Cell;

/// A statement makes no more than 710: 300 operators, and 101 levels of brackets with a NOT, a comparison, a minus and a call
/// each.
pub(crate) const EXPRESSION_DEPTH_MAX: u32 = 750;
/// A put, and the same once more for another mirror.
pub(crate) const WORK_DEPTH_MAX: u32 = 2;

thread_local! {
    // Reading is recursive, and serde takes nothing along.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static REFUSED: Cell<bool> = const { Cell::new(false) };
}

struct Level;

impl Drop for Level {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

/// Reads what can hold more of its kind; at most `max` deep.
pub(crate) fn one_deeper<T, E: de::Error>(max: u32, read: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    if DEPTH.get() >= max {
        REFUSED.set(true);
        return Err(E::custom("too deep"));
    }
    DEPTH.set(DEPTH.get() + 1);
    let _level = Level;
    read()
}

/// Reads a whole; the error says when it was too deep, which the format's own does not.
pub(crate) fn read<T, E: std::fmt::Display>(read: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    REFUSED.set(false);
    read().map_err(
        |error| {
            if REFUSED.take() { "it is nested too deep".to_owned() } else { error.to_string() }
        },
    )
}
