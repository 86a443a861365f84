//! The `gtstore` command line. See `gtstore --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    gtstore::shell::cli::main(&args)
}
