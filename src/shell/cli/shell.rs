//! The interactive shell: lines in, commands out. With a dev cluster at hand, it commands that
//! too.

use super::dev::{self, SharedCluster};
use super::exit::{CommandResult, Exit, Failure};
use super::options::{Globals, Parsed, parse, second_words};
use super::{execute, help, tell};
use crate::client::Store;
use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{Context, Editor, Helper};
use std::cell::Cell;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;

const HISTORY_LINES: usize = 1000;

/// Reads and runs lines until the user leaves.
///
/// From a terminal a failed command is told and that is all; from a script the first failure is
/// the shell's. `exit CODE` has the last word.
///
/// Ctrl-C takes a line back that is being typed; on an empty line it leaves, as Ctrl-D does.
pub(crate) fn run(
    mut store: Store,
    globals: &Globals,
    out: &mut dyn Write,
    cluster: Option<&SharedCluster>,
) -> CommandResult {
    let interactive = std::io::stdin().is_terminal();
    let mut editor: Editor<Words, DefaultHistory> = Editor::new().map_err(|error| broken(&error))?;
    editor.set_helper(Some(Words::new(cluster.is_some())));
    let history = history_file().filter(|_| interactive);
    if let Some(path) = &history {
        // There is none the first time.
        let _ = editor.load_history(path);
    }
    if interactive {
        writeln!(out, "Type 'help' for commands, 'exit' to leave.")?;
    }
    let (mut first_failure, mut asked) = (None, None);
    loop {
        out.flush()?;
        let line = match editor.readline(if interactive { "gtstore> " } else { "" }) {
            Ok(line) => line,
            Err(ReadlineError::Eof) => break,
            Err(ReadlineError::Interrupted) if editor.helper().is_some_and(|words| words.typing.get()) => {
                continue;
            }
            Err(ReadlineError::Interrupted) => {
                // A dev cluster's end is told by whoever ends it.
                if cluster.is_none() {
                    writeln!(out, "Leaving. The cluster goes on.")?;
                }
                break;
            }
            Err(error) => return Err(broken(&error)),
        };
        let _ = editor.add_history_entry(line.as_str());
        let next = run_line(&mut store, globals, out, cluster, &line);
        if cluster.is_some_and(dev::is_stopping) {
            // Ctrl-C while it ran: what it came to is of no interest, and there is no next line.
            break;
        }
        match next {
            Ok(Next::Read) => {}
            Ok(Next::Leave(None)) => break,
            Ok(Next::Leave(Some(code))) => {
                asked = Some(code);
                break;
            }
            Err(failure) => {
                out.flush()?;
                tell(&failure);
                first_failure.get_or_insert(failure.exit);
            }
        }
    }
    if let Some(path) = &history {
        trim_and_save(&mut editor, path);
    }
    match (asked, first_failure.filter(|_| !interactive)) {
        (Some(0), _) | (None, None) => Ok(()),
        (Some(code), _) => Err(Failure::new(Exit::Asked(code), "")),
        (None, Some(exit)) => Err(Failure::new(exit, "")),
    }
}

/// What comes after a line.
enum Next {
    Read,
    /// With this exit code, if one was asked for.
    Leave(Option<u8>),
}

fn run_line(
    store: &mut Store,
    globals: &Globals,
    out: &mut dyn Write,
    cluster: Option<&SharedCluster>,
    line: &str,
) -> Result<Next, Failure> {
    let words = words(line).map_err(Failure::usage)?;
    // What the prompt is for is often typed all the same.
    let words = if words.first().is_some_and(|word| word == "gtstore") { &words[1..] } else { &words[..] };
    match words.first().map(String::as_str) {
        None => return Ok(Next::Read),
        Some(word) if word.starts_with('#') => return Ok(Next::Read),
        Some("exit" | "quit") => return leave(&words[1..]),
        Some(_) => {}
    }
    if let Some(cluster) = cluster
        && dev::is_command(words)
    {
        dev::run_command(cluster, words, out)?;
        return Ok(Next::Read);
    }
    match parse(&in_full(words), globals)? {
        Parsed::Run(own, command) if own.store == *store.options() => {
            execute(store, &own, out, &command)?;
        }
        Parsed::Run(own, command) => {
            // Options of its own: a store of its own.
            let mut other = Store::open(own.store.clone())?;
            execute(&mut other, &own, out, &command)?;
        }
        Parsed::Help(about) => {
            out.write_all(help::text(about.as_deref())?.as_bytes())?;
            if cluster.is_some() && about.is_none() {
                writeln!(out, "\nIn this shell, too: {}", dev::COMMANDS.join(", "))?;
            }
        }
        Parsed::Version => writeln!(out, "gtstore {}", env!("CARGO_PKG_VERSION"))?,
        Parsed::Nothing => return Err(Failure::usage("options alone are no command")),
    }
    Ok(Next::Read)
}

/// Short forms of an older system: changes of the membership that take effect at once.
const SHORT: &[&str] = &["join", "leave", "move"];

/// The same in full, if a line has such a form.
fn in_full(words: &[String]) -> Vec<String> {
    match words.split_first() {
        Some((name, rest)) if SHORT.contains(&name.as_str()) => {
            let start = ["cluster", name, "--apply"].map(str::to_owned);
            start.into_iter().chain(rest.iter().cloned()).collect()
        }
        Some(_) | None => words.to_vec(),
    }
}

/// `exit [CODE]`.
fn leave(args: &[String]) -> Result<Next, Failure> {
    match args {
        [] => Ok(Next::Leave(None)),
        [code] if code.parse::<u8>().is_ok() => Ok(Next::Leave(code.parse().ok())),
        [..] => Err(Failure::usage_of("shell", "usage: exit [CODE], with a code of 0 to 255")),
    }
}

/// Splits a line as sh does: blanks, single and double quotes, backslashes.
pub(crate) fn words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            ' ' | '\t' => words.extend(word.take()),
            '\'' | '"' => {
                let text = word.get_or_insert_default();
                loop {
                    match letters.next() {
                        Some(end) if end == letter => break,
                        Some('\\') if letter == '"' => match letters.next() {
                            Some(escaped @ ('"' | '\\')) => text.push(escaped),
                            Some(other) => text.extend(['\\', other]),
                            None => return Err(format!("no closing {letter}")),
                        },
                        Some(other) => text.push(other),
                        None => return Err(format!("no closing {letter}")),
                    }
                }
            }
            '\\' => {
                let escaped = letters.next().ok_or("nothing after the last backslash")?;
                word.get_or_insert_default().push(escaped);
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

fn broken(error: &ReadlineError) -> Failure {
    Failure::new(Exit::Error, format!("cannot read commands: {error}"))
}

fn history_file() -> Option<PathBuf> {
    Some(PathBuf::from(std::env::var_os("HOME")?).join(".gtstore_history"))
}

fn trim_and_save(editor: &mut Editor<Words, DefaultHistory>, path: &std::path::Path) {
    use rustyline::history::History;
    let _ = editor.history_mut().set_max_len(HISTORY_LINES);
    if let Err(error) = editor.save_history(path) {
        log::debug!("history not saved to {}: {error}", path.display());
    }
}

/// Completion of commands and of their second words.
struct Words {
    firsts: Vec<&'static str>,
    /// Whether there is anything on the line. What Ctrl-C ends does not say so itself, but every
    /// change of the line is shown to the hinter.
    typing: Cell<bool>,
}

impl Words {
    fn new(with_dev: bool) -> Self {
        let mut firsts: Vec<_> =
            help::command_names().filter(|name| !matches!(*name, "shell" | "dev")).collect();
        firsts.extend(SHORT);
        firsts.extend(["help", "exit"]);
        if with_dev {
            firsts.extend(dev::COMMANDS.iter().filter_map(|form| form.split(' ').next()));
        }
        firsts.sort_unstable();
        Self { firsts, typing: Cell::new(false) }
    }

    /// What may stand where the last word is being typed.
    fn candidates(&self, before: &[&str]) -> Vec<&'static str> {
        match before {
            [] => self.firsts.clone(),
            ["help"] => help::command_names().collect(),
            ["trace"] => vec!["get", "put"],
            ["keyspace"] => vec!["create", "list"],
            ["cluster"] | ["help", "cluster"] => second_words().collect(),
            ["kill" | "restart" | "pause" | "resume"] => vec!["manager"],
            [..] => Vec::new(),
        }
    }
}

impl Completer for Words {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let typed = line.get(..pos).unwrap_or(line);
        let start = typed.rfind(' ').map_or(0, |at| at + 1);
        let before: Vec<&str> = typed[..start].split_whitespace().collect();
        let pairs = self.candidates(&before).into_iter().filter(|word| word.starts_with(&typed[start..]));
        let pair = |word: &str| Pair { display: word.to_owned(), replacement: format!("{word} ") };
        Ok((start, pairs.map(pair).collect()))
    }
}

impl Hinter for Words {
    type Hint = String;

    fn hint(&self, line: &str, _: usize, _: &Context<'_>) -> Option<String> {
        self.typing.set(!line.is_empty());
        None
    }
}
impl Highlighter for Words {}
impl Validator for Words {}
impl Helper for Words {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_as_sh_does() {
        let split = |line| words(line).unwrap();
        assert_eq!(split("put k 'a b' \"c \\\" d\" e\\ f"), ["put", "k", "a b", "c \" d", "e f"]);
        assert_eq!(split("put k ''"), ["put", "k", ""]);
        assert_eq!(split("  "), Vec::<String>::new());
        assert!(words("put 'k").is_err() && words("put k\\").is_err());
    }

    #[test]
    fn short_forms_of_changes_are_carried_out_at_once() {
        let full = |line| in_full(&words(line).unwrap()).join(" ");
        assert_eq!(full("leave 4 5"), "cluster leave --apply 4 5");
        assert_eq!(full("move n1:1 0 7"), "cluster move --apply n1:1 0 7");
        assert_eq!(full("put join 1"), "put join 1");
    }

    #[test]
    fn commands_and_their_second_words_are_completed() {
        let helper = Words::new(true);
        assert!(helper.candidates(&[]).contains(&"restart"));
        assert!(!Words::new(false).candidates(&[]).contains(&"restart"));
        assert_eq!(helper.candidates(&["keyspace"]), ["create", "list"]);
        assert!(helper.candidates(&["cluster"]).contains(&"transfers"));
        assert!(helper.candidates(&["get", "k"]).is_empty());
    }
}
