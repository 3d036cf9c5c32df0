//! The control log: append-if-next, read, snapshot.
