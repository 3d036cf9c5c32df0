//! The embedded node's core: Manticore's dialect over SQLite, clusters and routing; messages and time in, messages out.
