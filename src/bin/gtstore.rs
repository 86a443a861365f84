//! The `gtstore` command line. See `gtstore --help`.

#![allow(clippy::print_stderr, reason = "a command line speaks to its user")]

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Result<Vec<String>, OsString> = std::env::args_os().map(OsString::into_string).collect();
    match args {
        Ok(args) => gtstore::shell::cli::main(&args),
        // Replacing what is no text would make one key of two.
        Err(arg) => {
            eprintln!(
                "gtstore: the argument {arg:?} is not UTF-8 text; \
                 keys and values of any bytes go through `gtstore import`"
            );
            ExitCode::from(2)
        }
    }
}
