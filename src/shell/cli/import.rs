//! `import`: every key of a file, pipelined, with a count at the end.

use super::bulk::{FAILURES_TOLD, settings_in};
use super::cluster::ask_table;
use super::exit::{CommandResult, Exit, Failure, exit_of};
use super::lines::{format_of_name, parse_line, sniff};
use super::options::FileFormat;
use super::progress::Progress;
use super::text::quoted;
use crate::client::{Call, CallId, Store};
use crate::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::shell::blocking::{IN_FLIGHT, IN_FLIGHT_BYTES, written};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};

/// A longer line is not read into memory. Every byte of key and value may be escaped to four, or
/// to six in JSON.
const LINE_BYTES_MAX: u64 = ((KEY_BYTES_MAX + VALUE_BYTES_MAX) * 6 + 1024) as u64;

/// An import under way.
struct Import {
    /// Keys in flight, with their bytes.
    waiting: BTreeMap<CallId, (Vec<u8>, usize)>,
    waiting_bytes: usize,
    stored: u64,
    failed: u64,
    /// The first failure's exit code is the command's.
    exit: Exit,
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
    settings_in(&ask_table(store)?, store)?;
    let mut format = format.or_else(|| format_of_name(file));
    let mut progress = Progress::new("importing", total);
    let mut import =
        Import { waiting: BTreeMap::new(), waiting_bytes: 0, stored: 0, failed: 0, exit: Exit::Ok };
    let (mut line, mut number, mut at) = (Vec::new(), 0u64, 0u64);
    loop {
        line.clear();
        let read = input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
        let read = read.map_err(|error| Failure::new(Exit::Error, format!("cannot read {file}: {error}")))?;
        if read == 0 {
            break;
        }
        number += 1;
        at += read as u64;
        if read as u64 == LINE_BYTES_MAX && line.last() != Some(&b'\n') {
            import.fail(&format!("line {number}"), Exit::Usage, "longer than any key and value may be");
            at += skip_line(&mut input)?;
            continue;
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if text.is_empty() {
            continue;
        }
        let format = *format.get_or_insert_with(|| sniff(text));
        match parse_line(format, text) {
            Ok((key, value)) => import.submit(store, key, value)?,
            Err(why) => import.fail(&format!("line {number}"), Exit::Usage, &why),
        }
        progress.show(import.stored, at);
    }
    while !import.waiting.is_empty() {
        import.wait_for_one(store)?;
        progress.show(import.stored, at);
    }
    progress.clear();
    writeln!(
        out,
        "imported {} keys, {} failed ({})",
        import.stored,
        import.failed,
        progress.rate(import.stored)
    )?;
    if import.failed as usize > FAILURES_TOLD {
        writeln!(io::stderr(), "gtstore: {} more failed", import.failed as usize - FAILURES_TOLD)?;
    }
    match import.exit {
        Exit::Ok => Ok(()),
        exit => Err(Failure::new(exit, "")),
    }
}

/// Reads past the rest of a line without keeping it.
fn skip_line(input: &mut dyn BufRead) -> io::Result<u64> {
    let mut skipped = 0;
    loop {
        let buffer = input.fill_buf()?;
        let (used, done) = match buffer.iter().position(|&byte| byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        input.consume(used);
        skipped += used as u64;
        if done {
            return Ok(skipped);
        }
    }
}

impl Import {
    fn submit(&mut self, store: &mut Store, key: Vec<u8>, value: Vec<u8>) -> CommandResult {
        // A file may name a key twice, and its last line must win: the earlier one is waited for.
        while self.waiting.len() >= IN_FLIGHT
            || self.waiting_bytes >= IN_FLIGHT_BYTES
            || self.waiting.values().any(|waiting| waiting.0 == key)
        {
            self.wait_for_one(store)?;
        }
        let size = key.len() + value.len();
        let item = store.item(&key, store.options().w);
        let call = store.submit(Call::Put { item, value: value.into(), context: None });
        self.waiting.insert(call, (key, size));
        self.waiting_bytes += size;
        Ok(())
    }

    fn wait_for_one(&mut self, store: &mut Store) -> CommandResult {
        let Some((call, outcome)) = store.next_done()? else {
            self.waiting.clear();
            return Ok(());
        };
        let Some((key, size)) = self.waiting.remove(&call) else { return Ok(()) };
        self.waiting_bytes -= size;
        match outcome.and_then(written) {
            Ok(_) => self.stored += 1,
            Err(error) => self.fail(&quoted(&key), exit_of(&error), &error.to_string()),
        }
        Ok(())
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
