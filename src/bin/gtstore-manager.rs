//! `gtstore-manager`: see [`gtstore::shell::manager`].

use std::process::ExitCode;

fn main() -> ExitCode {
    gtstore::shell::manager::main(&gtstore::shell::args::of_process())
}
