//! The engine's shell: HTTP and MySQL listeners, peers, files.
