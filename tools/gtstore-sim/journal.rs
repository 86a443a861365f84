//! The event log of a run: written to a file, or what of it is about one thing printed.

use crate::Asked;
use gtstore::sim::Report;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Prints what is followed, and writes the log if it was asked for.
pub(crate) fn tell(asked: &Asked, report: &Report) {
    if let Some(text) = &asked.follow {
        follow(report, text);
    }
    if asked.log.is_some() {
        write(asked, report);
    }
}

/// Prints the lines that have a text in them, each with what became of its message.
fn follow(report: &Report, text: &str) {
    let mut is_of_it = false;
    for line in &report.journal {
        // What is indented behind the time says what became of the message above it.
        let is_more = line.get(12..).is_some_and(|rest| rest.starts_with("     "));
        is_of_it = if is_more { is_of_it } else { line.contains(text) };
        if is_of_it {
            println!("{line}");
        }
    }
}

/// Writes the log to the file that was asked for, or to one below the temporary directory.
pub(crate) fn write(asked: &Asked, report: &Report) {
    let usual = || std::env::temp_dir().join(format!("gtstore-sim-{}.log", report.seed));
    let path: PathBuf = asked.log.clone().unwrap_or_else(usual);
    match write_to(&path, &report.journal) {
        Ok(()) => println!("event log: {}", path.display()),
        Err(error) => eprintln!("gtstore-sim: cannot write {}: {error}", path.display()),
    }
}

fn write_to(path: &Path, lines: &[String]) -> std::io::Result<()> {
    let mut file = BufWriter::new(std::fs::File::create(path)?);
    for line in lines {
        writeln!(file, "{line}")?;
    }
    file.flush()
}
