//! The house rules, as a test: what a reviewer should never have to say.
//!
//! Reads source text alone. Words that are not allowed are put together from pieces here, so that
//! this file keeps its own rules.

#![allow(clippy::expect_used, reason = "where the sources cannot be read the test has failed")]

use std::fs;
use std::path::{Path, PathBuf};

const LINES_MAX: usize = 800;
const COLUMNS_MAX: usize = 120;

/// One Rust file.
struct Source {
    /// From the package's root, with forward slashes.
    path: String,
    text: String,
}

impl Source {
    /// Numbered lines, from 1.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }

    /// Numbered lines without what follows `//`.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines().map(|(number, line)| (number, line.split("//").next().unwrap_or_default()))
    }

    /// Whether it must be pure: no sockets, files, clocks, threads, randomness, environment.
    fn is_core(&self) -> bool {
        self.path.starts_with("src/")
            && !self.path.starts_with("src/bin/")
            && !self.path.starts_with("src/shell/")
            && self.path != "src/shell.rs"
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for folder in ["src", "tests", "tools", "bench"] {
        collect(&root.join(folder), &mut paths);
    }
    paths.sort();
    assert!(paths.len() > 20, "the sources are not where this test looks for them");
    let read = |path: PathBuf| {
        let short = path.strip_prefix(root).expect("below the root").to_string_lossy().replace('\\', "/");
        Source { path: short, text: fs::read_to_string(&path).expect("source files are text") }
    };
    paths.into_iter().map(read).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.expect("a readable folder").path()) {
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

/// Fails with every place where a rule is broken, each as `file:line: what`.
fn report(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}\n  {}\n", broken.join("\n  "));
}

/// Whether `word` stands in `line` and no identifier runs into it from the left.
fn has_path(line: &str, word: &str) -> bool {
    let joins = |before: char| before.is_alphanumeric() || before == '_';
    line.match_indices(word).any(|(at, _)| !line[..at].ends_with(joins))
}

#[test]
fn every_file_says_what_it_is_for() {
    let bare = |source: &Source| !source.text.starts_with("//!");
    let broken: Vec<_> =
        sources().iter().filter(|source| bare(source)).map(|source| format!("{}:1", source.path)).collect();
    report("every file begins with `//!`: what it owns, what it must never do, who calls it", &broken);
}

#[test]
fn no_file_is_too_long_to_read() {
    let mut broken = Vec::new();
    for source in sources() {
        let count = source.text.lines().count();
        if count > LINES_MAX {
            broken.push(format!("{}:{LINES_MAX}: it has {count} lines", source.path));
        }
    }
    report("a file has at most 800 lines, better 400: split it where its subjects part", &broken);
}

#[test]
fn no_line_is_too_wide() {
    let mut broken = Vec::new();
    for source in sources() {
        for (number, line) in source.lines() {
            let columns = line.chars().count();
            if columns > COLUMNS_MAX {
                broken.push(format!("{}:{number}: {columns} columns", source.path));
            }
        }
    }
    report("a line has at most 120 columns; a long string goes on behind a `\\`", &broken);
}

#[test]
fn nothing_is_left_to_be_done_later() {
    let words = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["XX", "X"].concat()];
    let mut broken = Vec::new();
    for source in sources() {
        for (number, line) in source.lines() {
            for word in words.iter().filter(|word| has_path(line, word)) {
                broken.push(format!("{}:{number}: {word}", source.path));
            }
        }
    }
    report("what is worth doing is done now, or written down outside the code", &broken);
}

/// Names that reach outside, or whose order or value differs from run to run.
const IMPURE: [&str; 16] = [
    "std::net",
    "std::fs",
    "std::io::stdin",
    "std::thread",
    "std::process",
    "std::env",
    "std::time::Instant",
    "std::time::SystemTime",
    "Instant::now",
    "SystemTime",
    "HashMap",
    "HashSet",
    "mio::",
    "rand::",
    "socket2::",
    "signal_hook",
];

/// The same, as they may stand in a list behind `use std::`.
const IMPURE_IN_STD: [&str; 9] =
    ["net", "fs", "thread", "process", "env", "Instant", "SystemTime", "HashMap", "HashSet"];

/// The one home of a hash map in the core: a map that can be asked but not walked.
const LOOKUP: &str = "src/lookup.rs";

/// Every `use std::...;` of a file with the number of its first line, in one piece each.
fn uses_of_std(source: &Source) -> Vec<(usize, String)> {
    let mut uses: Vec<(usize, String)> = Vec::new();
    let mut is_open = false;
    for (number, line) in source.code() {
        let trimmed = line.trim_start().trim_start_matches("pub ");
        if is_open {
            if let Some((_, text)) = uses.last_mut() {
                text.push_str(line);
            }
        } else if trimmed.starts_with("use std::") {
            uses.push((number, trimmed.to_owned()));
            is_open = true;
        }
        is_open &= !line.contains(';');
    }
    uses
}

#[test]
fn the_core_touches_nothing_outside() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| source.is_core()) {
        for (number, line) in source.code() {
            let allowed = |name: &str| name == "HashMap" && source.path == LOOKUP;
            for name in IMPURE.iter().filter(|name| has_path(line, name) && !allowed(name)) {
                broken.push(format!("{}:{number}: {name}", source.path));
            }
        }
        for (number, text) in uses_of_std(source) {
            let mut words = text.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
            if let Some(name) = words.find(|word| IMPURE_IN_STD.contains(word)) {
                broken.push(format!("{}:{number}: {name} of std", source.path));
            }
        }
    }
    broken.dedup();
    report(
        "everything under src/ but src/shell/ and src/bin/ is pure: time, randomness and the world come in as \
         inputs and go out as outputs; maps are ordered, or a Lookup, which cannot be walked",
        &broken,
    );
}

#[test]
fn tests_wait_on_conditions() {
    let sleep = ["thread", "::sleep"].concat();
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| source.path.starts_with("tests/")) {
        let mut function = String::new();
        for (number, line) in source.code() {
            if let Some((_, rest)) = line.split_once("fn ") {
                function =
                    rest.chars().take_while(|&letter| letter.is_alphanumeric() || letter == '_').collect();
            }
            let helper = ["poll", "wait", "until"].iter().any(|name| function.contains(name));
            if line.contains(&sleep) && !helper {
                broken.push(format!("{}:{number}: in `{function}`", source.path));
            }
        }
    }
    report("a test pauses only inside a helper named for polling or waiting on a condition", &broken);
}
