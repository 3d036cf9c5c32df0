//! The `shardwright` binary; everything it does is in the library of the same crate, where tests reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
