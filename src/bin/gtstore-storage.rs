//! `gtstore-storage`: see [`gtstore::shell::storage`].

use std::process::ExitCode;

fn main() -> ExitCode {
    gtstore::shell::storage::main(&gtstore::shell::args::of_process())
}
