//! `put`, `get`, `del`, `mget`, and the assignment's forms.

use super::exit::{CommandResult, Exit, Failure};
use super::options::{Format, Globals};
use super::output::{bare, json_provenance, json_version, object, print_json};
use super::text::{context_hex, escaped, json_bytes, quoted};
use crate::client::{Call, Entry, Provenance, Store, Written};
use crate::shell::blocking;
use serde_json::{Map, Value};
use std::io::{self, Write};

/// `put KEY VALUE`.
pub(crate) fn put(
    store: &mut Store,
    globals: &Globals,
    out: &mut dyn Write,
    key: &str,
    value: &str,
) -> CommandResult {
    let written = do_put(store, globals, key, value)?;
    print_written(out, globals.format, "stored", key, &written)
}

fn do_put(store: &mut Store, globals: &Globals, key: &str, value: &str) -> Result<Written, Failure> {
    let bytes = value.as_bytes().to_vec();
    let result = match &globals.context {
        Some(context) => store.put_with(key, bytes, context),
        None => store.put(key, bytes),
    };
    result.map_err(|error| Failure::of(&format!("put {}", quoted(key.as_bytes())), &error))
}

/// `del KEY`.
pub(crate) fn delete(store: &mut Store, globals: &Globals, out: &mut dyn Write, key: &str) -> CommandResult {
    let result = match &globals.context {
        Some(context) => store.delete_with(key, context),
        None => store.delete(key),
    };
    let written = result.map_err(|error| Failure::of(&format!("del {}", quoted(key.as_bytes())), &error))?;
    if written.written {
        return print_written(out, globals.format, "deleted", key, &written);
    }
    Err(not_found(out, globals.format, key, &Entry { by: written.by, ..Entry::default() })?)
}

fn print_written(
    out: &mut dyn Write,
    format: Format,
    verb: &str,
    key: &str,
    written: &Written,
) -> CommandResult {
    match format {
        Format::Table => {
            writeln!(out, "OK, {verb} {} ({})", quoted(key.as_bytes()), stood_behind(&written.by))?;
        }
        Format::Plain => {
            writeln!(out, "OK\t{}\t{}", written.by.coordinator, context_hex(&written.context))?;
        }
        Format::Json => {
            let mut line = object([("result", verb.into())]);
            json_bytes(&mut line, "key", key.as_bytes());
            json_provenance(&mut line, &written.by, &written.context);
            print_json(out, line)?;
        }
    }
    Ok(())
}

/// `by node 3, 2 of 3 replicas answered, 2 needed`; and how many of them were fallbacks.
pub(crate) fn stood_behind(by: &Provenance) -> String {
    let fallbacks = match by.fallbacks {
        0 => String::new(),
        1 => "; 1 of them by a fallback, for an owner that is away".to_owned(),
        count => format!("; {count} of them by fallbacks, for owners that are away"),
    };
    format!(
        "by node {}, {} of {} replicas answered, {} needed{fallbacks}",
        by.coordinator, by.answered, by.slots, by.needed
    )
}

/// `get KEY`.
pub(crate) fn get(store: &mut Store, globals: &Globals, out: &mut dyn Write, key: &str) -> CommandResult {
    let entry = do_get(store, key)?;
    if entry.values.is_empty() {
        return Err(not_found(out, globals.format, key, &entry)?);
    }
    match globals.format {
        Format::Table | Format::Plain => {
            for version in &entry.values {
                out.write_all(&bare(globals.format, &version.value))?;
                writeln!(out)?;
            }
            if entry.values.len() > 1 {
                say_concurrent(&entry)?;
            }
            if entry.by.fallbacks > 0 {
                // Beside the value, which may go to a file.
                writeln!(io::stderr(), "({})", stood_behind(&entry.by))?;
            }
        }
        Format::Json => print_json(out, json_entry(key, &entry))?,
    }
    Ok(())
}

fn do_get(store: &mut Store, key: &str) -> Result<Entry, Failure> {
    store.get(key).map_err(|error| Failure::of(&format!("get {}", quoted(key.as_bytes())), &error))
}

fn say_concurrent(entry: &Entry) -> io::Result<()> {
    writeln!(
        io::stderr(),
        "{} concurrent values. To settle them, write one with the context:\n  --context {}",
        entry.values.len(),
        context_hex(&entry.context)
    )
}

fn json_entry(key: &str, entry: &Entry) -> Map<String, Value> {
    let mut line = object([("found", (!entry.values.is_empty()).into())]);
    json_bytes(&mut line, "key", key.as_bytes());
    let values: Vec<Value> = entry.values.iter().map(json_version).collect();
    line.insert("values".to_owned(), values.into());
    json_provenance(&mut line, &entry.by, &entry.context);
    line
}

/// Says that a key is not there: in JSON on standard output, else on standard error.
pub(crate) fn not_found(
    out: &mut dyn Write,
    format: Format,
    key: &str,
    entry: &Entry,
) -> Result<Failure, Failure> {
    match format {
        Format::Json => {
            print_json(out, json_entry(key, entry))?;
            Ok(Failure::new(Exit::NotFound, ""))
        }
        Format::Table | Format::Plain => {
            Ok(Failure::new(Exit::NotFound, format!("{} not found", quoted(key.as_bytes()))))
        }
    }
}

/// `mget KEY...`: a line per key, in the order asked; those that are not there are said to be
/// missing.
pub(crate) fn get_many(
    store: &mut Store,
    globals: &Globals,
    out: &mut dyn Write,
    keys: &[String],
) -> CommandResult {
    let results = store.get_many(keys);
    let mut worst: Option<Failure> = None;
    let mut missing = 0;
    for (key, result) in keys.iter().zip(results) {
        match result {
            Ok(entry) => {
                missing += usize::from(entry.values.is_empty());
                print_entry(out, globals.format, key, &entry)?;
            }
            Err(error) => {
                let failure = Failure::of(&format!("get {}", quoted(key.as_bytes())), &error);
                writeln!(io::stderr(), "gtstore: {failure}")?;
                worst.get_or_insert(Failure::new(failure.exit, ""));
            }
        }
    }
    match worst {
        Some(failure) => Err(failure),
        None if missing > 0 => {
            Err(Failure::new(Exit::NotFound, format!("{missing} of {} keys not found", keys.len())))
        }
        None => Ok(()),
    }
}

fn print_entry(out: &mut dyn Write, format: Format, key: &str, entry: &Entry) -> io::Result<()> {
    match format {
        Format::Json => print_json(out, json_entry(key, entry)),
        Format::Table if entry.values.is_empty() => writeln!(out, "{}  (not found)", escaped(key.as_bytes())),
        Format::Table => {
            for version in &entry.values {
                writeln!(out, "{}  {}", escaped(key.as_bytes()), escaped(&version.value))?;
            }
            Ok(())
        }
        Format::Plain => {
            for version in &entry.values {
                writeln!(out, "{}\t{}", escaped(key.as_bytes()), escaped(&version.value))?;
            }
            Ok(())
        }
    }
}

/// The assignment's `--put K --val V`: prints `OK, server3`.
pub(crate) fn assigned_put(
    store: &mut Store,
    globals: &Globals,
    out: &mut dyn Write,
    key: &str,
    value: &str,
) -> CommandResult {
    let written = do_put(store, globals, key, value)?;
    Ok(writeln!(out, "OK, server{}", written.by.coordinator)?)
}

/// The assignment's `--get K`: prints `K, V, server3`, a line for each value.
pub(crate) fn assigned_get(
    store: &mut Store,
    globals: &Globals,
    out: &mut dyn Write,
    key: &str,
) -> CommandResult {
    let entry = do_get(store, key)?;
    if entry.values.is_empty() {
        return Err(not_found(out, globals.format, key, &entry)?);
    }
    for version in &entry.values {
        out.write_all(&bare(globals.format, key.as_bytes()))?;
        out.write_all(b", ")?;
        out.write_all(&bare(globals.format, &version.value))?;
        writeln!(out, ", server{}", entry.by.coordinator)?;
    }
    Ok(())
}

/// `trace put`'s call: a put that tells what each node did.
pub(crate) fn traced_put(
    store: &mut Store,
    globals: &Globals,
    key: &str,
    value: &str,
) -> Result<Written, crate::client::Error> {
    let mut item = store.item(key, store.options().w);
    item.trace = true;
    let value = value.as_bytes().to_vec().into();
    store.call(Call::Put { item, value, context: globals.context.clone() }).and_then(blocking::written)
}

/// `trace get`'s call.
pub(crate) fn traced_get(store: &mut Store, key: &str) -> Result<Entry, crate::client::Error> {
    let mut item = store.item(key, store.options().r);
    item.trace = true;
    store.call(Call::Get { item }).and_then(blocking::entry)
}
