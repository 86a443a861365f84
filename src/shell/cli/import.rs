//! `import`: every key of a file, pipelined, with a count at the end.

use super::bulk::{FAILURES_TOLD, settings_in};
use super::cluster::ask_table;
use super::exit::{CommandResult, Exit, Failure, exit_of};
use super::lines::{Line, format_of_name, parse_line, sniff};
use super::options::{FileFormat, Format};
use super::output::{object, print_json};
use super::progress::Progress;
use super::text::quoted;
use crate::client::{Call, CallId, Context, Error, ErrorKind, Store};
use crate::limits::IMPORT_LINE_BYTES_MAX;
use crate::ring::Conflict;
use crate::shell::blocking::{IN_FLIGHT, IN_FLIGHT_BYTES, entry, written};
use crate::shell::clock::Clock;
use crate::types::WallMs;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};

/// After so many keys in a row that no server answered for, nobody is there, and the rest of the file
/// would only fail line by line. What is in flight when one server is lost fails in a row too: it
/// takes more than that.
const SILENT_KEYS_MAX: u64 = 2 * IN_FLIGHT as u64;
/// Stands at the start of a text file from systems that mark their UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// An import under way.
struct Import {
    conflict: Conflict,
    waiting: BTreeMap<CallId, Waiting>,
    waiting_bytes: usize,
    stored: u64,
    /// Values that needed no writing.
    there: u64,
    /// Values whose time was over.
    expired: u64,
    clock: Clock,
    failed: u64,
    /// The first failure's exit code is the command's.
    exit: Exit,
    silence: Option<Silence>,
}

/// Keys in a row that no server answered for.
#[derive(Clone, Copy)]
struct Silence {
    keys: u64,
    /// The first of their lines.
    from_line: u64,
}

/// A line in flight.
struct Waiting {
    key: Vec<u8>,
    /// Its number in the file.
    line: u64,
    /// Bytes of key and value.
    size: usize,
    /// When the value ceases to be visible.
    expiry: Option<WallMs>,
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
    output: Format,
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
    let mut progress = Progress::new("importing", "values", total);
    let mut import = Import::new(conflict);
    // However far it came: what is on its way is waited for, and counted.
    let name = if file == "-" { "standard input" } else { file };
    let ended = import.read(store, &mut input, name, format, &mut progress);
    let ended = ended.and(import.drain(store));
    let ended = ended.and(import.silent().map_or(Ok(()), |silence| Err(silence.failure(name))));
    progress.clear();
    import.tell_count(out, output, &progress)?;
    // Before the words on how it ended, wherever the two go.
    out.flush()?;
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
        Self {
            conflict,
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            stored: 0,
            there: 0,
            expired: 0,
            clock: Clock::start(),
            failed: 0,
            exit: Exit::Ok,
            silence: None,
        }
    }

    /// The silence that is long enough to stop for.
    fn silent(&self) -> Option<Silence> {
        self.silence.filter(|silence| silence.keys >= SILENT_KEYS_MAX)
    }

    /// Reads the input to its end, or until nobody is there any more.
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
            let text = text.strip_prefix(BYTE_ORDER_MARK).filter(|_| number == 1).unwrap_or(text);
            if text.is_empty() {
                continue;
            }
            let format = *format.get_or_insert_with(|| sniff(text));
            match parse_line(format, text) {
                Ok(line) if line.expiry.is_some_and(|at| at <= self.clock.now().wall) => self.expired += 1,
                Ok(line) => self.submit(store, number, line)?,
                Err(why) => self.fail(&format!("line {number}"), Exit::Usage, &why),
            }
            if self.silent().is_some() {
                break;
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

    fn submit(&mut self, store: &mut Store, line: u64, parsed: Line) -> CommandResult {
        let Line { key, value, expiry } = parsed;
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
            Conflict::Lww => {
                self.put(store, Waiting { key, line, size, expiry, step: Step::Writing }, value, None);
            }
            Conflict::Siblings => {
                let call = store.submit(Call::Get { item: store.item(&key, store.options().r) });
                self.waiting.insert(call, Waiting { key, line, size, expiry, step: Step::Looking { value } });
            }
        }
        Ok(())
    }

    fn put(&mut self, store: &mut Store, writing: Waiting, value: Vec<u8>, context: Option<Context>) {
        let mut item = store.item(&writing.key, store.options().w);
        if let Some(at) = writing.expiry {
            // 0 would be for good.
            item.ttl_ms = Some(at.0.saturating_sub(self.clock.now().wall.0).max(1));
        }
        let call = store.submit(Call::Put { item, value: value.into(), context });
        self.waiting.insert(call, writing);
    }

    fn wait_for_one(&mut self, store: &mut Store) -> CommandResult {
        let Some((call, outcome)) = store.next_done()? else {
            self.waiting.clear();
            return Ok(());
        };
        let Some(Waiting { key, line, size, expiry, step }) = self.waiting.remove(&call) else {
            return Ok(());
        };
        let outcome = match step {
            Step::Looking { value } => match outcome.and_then(entry) {
                Ok(entry) if entry.values.iter().any(|version| version.value == value) => {
                    self.there += 1;
                    Ok(())
                }
                Ok(entry) => {
                    // A deleted key is written anew. Values that are there stay: nobody has settled them.
                    let context = entry.values.is_empty().then_some(entry.context);
                    self.put(store, Waiting { key, line, size, expiry, step: Step::Writing }, value, context);
                    return Ok(());
                }
                Err(error) => Err(error),
            },
            Step::Writing => outcome.and_then(written).map(|_| self.stored += 1),
        };
        self.waiting_bytes -= size;
        match outcome {
            Ok(()) => self.silence = None,
            Err(error) => {
                self.fail(&format!("line {line}, {}", quoted(&key)), exit_of(&error), &error.to_string());
                self.note_answer(line, &error);
            }
        }
        Ok(())
    }

    /// A refusal is an answer, too; without a reason there was none.
    fn note_answer(&mut self, line: u64, error: &Error) {
        let was_answered = match error.kind {
            ErrorKind::Failed | ErrorKind::Unknown | ErrorKind::Timeout => error.reason.is_some(),
            ErrorKind::Refused | ErrorKind::Conflict | ErrorKind::Usage => true,
        };
        self.silence = match self.silence {
            _ if was_answered => None,
            None => Some(Silence { keys: 1, from_line: line }),
            Some(Silence { keys, from_line }) => {
                Some(Silence { keys: keys + 1, from_line: from_line.min(line) })
            }
        };
    }

    fn tell_count(&self, out: &mut dyn Write, output: Format, progress: &Progress) -> io::Result<()> {
        match output {
            Format::Json => {
                let line = object([
                    ("imported", self.stored.into()),
                    ("failed", self.failed.into()),
                    ("already_there", self.there.into()),
                    ("expired", self.expired.into()),
                    ("seconds", progress.seconds().into()),
                ]);
                print_json(out, line)
            }
            Format::Plain => {
                writeln!(out, "{}\t{}\t{}\t{}", self.stored, self.failed, self.there, self.expired)
            }
            Format::Table => {
                let also = |count: u64, what: &str| match count {
                    0 => String::new(),
                    count => format!(", {count} {what}"),
                };
                let there = also(self.there, "already there") + &also(self.expired, "expired");
                let rate = progress.rate(self.stored + self.there);
                writeln!(out, "imported {} values, {} failed{there} ({rate})", self.stored, self.failed)
            }
        }
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

impl Silence {
    /// Why the import of this file stopped, and where it can go on.
    fn failure(self, name: &str) -> Failure {
        let (keys, line) = (self.keys, self.from_line);
        let text = format!(
            "no server answered for {keys} keys in a row: the import has stopped. Lines 1 to {} of {name} are \
             imported but for those that failed before; see `gtstore status`, and go on from line {line}, as \
             with: tail -n +{line} FILE | gtstore import -",
            line.saturating_sub(1)
        );
        Failure::new(Exit::Unavailable, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Reason;

    #[test]
    fn an_import_stops_for_a_silence_and_for_no_refusals() {
        let mut import = Import::new(Conflict::Lww);
        let nobody = Error::new(ErrorKind::Failed, "no server");
        let refusal = Error { reason: Some(Reason::NoQuorum), ..nobody.clone() };
        for line in (1..SILENT_KEYS_MAX).chain([7]) {
            assert!(import.silent().is_none());
            import.note_answer(line + 10, &nobody);
        }
        let text = import.silent().unwrap().failure("all.tsv").text;
        assert!(text.contains("Lines 1 to 10 of all.tsv") && text.contains("tail -n +11 FILE"), "{text}");
        import.note_answer(3, &refusal);
        assert!(import.silent().is_none(), "somebody is there");
    }
}
