//! `import`: every key of a file, pipelined, with a count at the end.

use super::bulk::{FAILURES_TOLD, settings_in};
use super::cluster::ask_table;
use super::exit::{CommandResult, Exit, Failure, exit_of};
use super::lines::{format_of_name, parse_line, sniff};
use super::options::FileFormat;
use super::progress::Progress;
use super::text::quoted;
use crate::client::{Call, CallId, Context, Store};
use crate::limits::IMPORT_LINE_BYTES_MAX;
use crate::ring::Conflict;
use crate::shell::blocking::{IN_FLIGHT, IN_FLIGHT_BYTES, entry, written};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};

/// An import under way.
struct Import {
    conflict: Conflict,
    waiting: BTreeMap<CallId, Waiting>,
    waiting_bytes: usize,
    stored: u64,
    /// Values that needed no writing.
    there: u64,
    failed: u64,
    /// The first failure's exit code is the command's.
    exit: Exit,
}

/// A line in flight.
struct Waiting {
    key: Vec<u8>,
    /// Bytes of key and value.
    size: usize,
    step: Step,
}

/// How far a line has come.
enum Step {
    /// In a `siblings` keyspace the key is read first: a blind put would stand beside an equal value,
    /// once more with every import. The value is written if the key does not have it.
    Looking { value: Vec<u8> },
    /// The value is on its way.
    Writing,
}

/// `import FILE|-`.
pub(crate) fn import(
    store: &mut Store,
    out: &mut dyn Write,
    file: &str,
    format: Option<FileFormat>,
) -> CommandResult {
    let (mut input, total): (Box<dyn BufRead>, Option<u64>) = if file == "-" {
        (Box::new(io::stdin().lock()), None)
    } else {
        let opened = File::open(file)
            .map_err(|error| Failure::new(Exit::Error, format!("cannot open {file}: {error}")))?;
        let total = opened.metadata().ok().filter(std::fs::Metadata::is_file).map(|meta| meta.len());
        (Box::new(BufReader::with_capacity(1 << 16, opened)), total)
    };
    let conflict = settings_in(&ask_table(store)?, store)?.conflict;
    let format = format.or_else(|| format_of_name(file));
    let mut progress = Progress::new("importing", total);
    let mut import = Import::new(conflict);
    // However far it came: what is on its way is waited for, and counted.
    let name = if file == "-" { "standard input" } else { file };
    let ended = import.read(store, &mut input, name, format, &mut progress);
    let ended = ended.and(import.drain(store));
    progress.clear();
    import.tell_count(out, &progress)?;
    if import.failed as usize > FAILURES_TOLD {
        writeln!(io::stderr(), "gtstore: {} more failed", import.failed as usize - FAILURES_TOLD)?;
    }
    match (import.exit, ended) {
        (Exit::Ok, ended) => ended,
        (exit, Ok(())) => Err(Failure::new(exit, "")),
        (exit, Err(failure)) => Err(Failure { exit, ..failure }),
    }
}

impl Import {
    fn new(conflict: Conflict) -> Self {
        let waiting = BTreeMap::new();
        Self { conflict, waiting, waiting_bytes: 0, stored: 0, there: 0, failed: 0, exit: Exit::Ok }
    }

    /// Reads the input to its end.
    fn read(
        &mut self,
        store: &mut Store,
        input: &mut dyn BufRead,
        name: &str,
        mut format: Option<FileFormat>,
        progress: &mut Progress,
    ) -> CommandResult {
        let (mut line, mut at) = (Vec::new(), 0);
        for number in 1u64.. {
            line.clear();
            let read = input.take(IMPORT_LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line);
            match read {
                Err(error) => {
                    let text = format!("cannot read line {number} of {name}: {error}");
                    return Err(Failure::new(Exit::Error, text));
                }
                Ok(0) => break,
                Ok(bytes) if bytes > IMPORT_LINE_BYTES_MAX && line.last() != Some(&b'\n') => {
                    // Looking for its end may take forever.
                    let text = format!(
                        "line {number} of {name} is longer than {IMPORT_LINE_BYTES_MAX} bytes, which no key \
                         and value need; nothing from there on was imported"
                    );
                    return Err(Failure::new(Exit::Usage, text));
                }
                Ok(bytes) => at += bytes as u64,
            }
            let text = line.strip_suffix(b"\n").unwrap_or(&line);
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            if text.is_empty() {
                continue;
            }
            let format = *format.get_or_insert_with(|| sniff(text));
            match parse_line(format, text) {
                Ok((key, value)) => self.submit(store, key, value)?,
                Err(why) => self.fail(&format!("line {number}"), Exit::Usage, &why),
            }
            progress.show(self.stored + self.there, at);
        }
        Ok(())
    }

    fn drain(&mut self, store: &mut Store) -> CommandResult {
        while !self.waiting.is_empty() {
            self.wait_for_one(store)?;
        }
        Ok(())
    }

    fn submit(&mut self, store: &mut Store, key: Vec<u8>, value: Vec<u8>) -> CommandResult {
        // A file may name a key twice, and its last line must win, or see the others: they are waited for.
        while self.waiting.len() >= IN_FLIGHT
            || self.waiting_bytes >= IN_FLIGHT_BYTES
            || self.waiting.values().any(|waiting| waiting.key == key)
        {
            self.wait_for_one(store)?;
        }
        let size = key.len() + value.len();
        self.waiting_bytes += size;
        match self.conflict {
            Conflict::Lww => self.put(store, key, size, value, None),
            Conflict::Siblings => {
                let call = store.submit(Call::Get { item: store.item(&key, store.options().r) });
                self.waiting.insert(call, Waiting { key, size, step: Step::Looking { value } });
            }
        }
        Ok(())
    }

    fn put(
        &mut self,
        store: &mut Store,
        key: Vec<u8>,
        size: usize,
        value: Vec<u8>,
        context: Option<Context>,
    ) {
        let item = store.item(&key, store.options().w);
        let call = store.submit(Call::Put { item, value: value.into(), context });
        self.waiting.insert(call, Waiting { key, size, step: Step::Writing });
    }

    fn wait_for_one(&mut self, store: &mut Store) -> CommandResult {
        let Some((call, outcome)) = store.next_done()? else {
            self.waiting.clear();
            return Ok(());
        };
        let Some(Waiting { key, size, step }) = self.waiting.remove(&call) else { return Ok(()) };
        let outcome = match step {
            Step::Looking { value } => match outcome.and_then(entry) {
                Ok(entry) if entry.values.iter().any(|version| version.value == value) => {
                    self.there += 1;
                    Ok(())
                }
                Ok(entry) => {
                    // A deleted key is written anew. Values that are there stay: nobody has settled them.
                    let context = entry.values.is_empty().then_some(entry.context);
                    self.put(store, key, size, value, context);
                    return Ok(());
                }
                Err(error) => Err(error),
            },
            Step::Writing => outcome.and_then(written).map(|_| self.stored += 1),
        };
        self.waiting_bytes -= size;
        if let Err(error) = outcome {
            self.fail(&quoted(&key), exit_of(&error), &error.to_string());
        }
        Ok(())
    }

    fn tell_count(&self, out: &mut dyn Write, progress: &Progress) -> io::Result<()> {
        let there = match self.there {
            0 => String::new(),
            there => format!(", {there} already there"),
        };
        let rate = progress.rate(self.stored + self.there);
        writeln!(out, "imported {} keys, {} failed{there} ({rate})", self.stored, self.failed)
    }

    fn fail(&mut self, what: &str, exit: Exit, why: &str) {
        self.failed += 1;
        if self.exit == Exit::Ok {
            self.exit = exit;
        }
        if self.failed as usize <= FAILURES_TOLD {
            // Whoever closed stderr does not want to know.
            let _ = writeln!(io::stderr(), "gtstore: {what} not imported: {why}");
        }
    }
}
