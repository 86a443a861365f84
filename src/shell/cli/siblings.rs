//! `siblings` and `resolve`: the concurrent versions of a key, and how a person settles them.
//!
//! Versions are numbered from 1 in the order of their names (dots), which is the same for whoever
//! looks. A settling write carries the context of the read before it: what it replaces is what was
//! there then, and nothing else.

use super::exit::{CommandResult, Exit, Failure};
use super::keys::{not_found, stood_behind};
use super::options::{Format, Globals};
use super::output::{json_provenance, json_version, object, print_json, print_rows};
use super::text::{context_hex, escaped, json_bytes, quoted, utc};
use crate::client::{Call, Context, Entry, Error, Store, Version, Written};
use crate::shell::blocking;
use crate::shell::clock::Clock;
use crate::types::WallMs;
use serde_json::Value;
use std::io::{self, Write};

/// Letters of a value that a table has room for.
const SHOWN_LETTERS: usize = 40;

/// What is to become of the versions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Choice {
    /// The one of this number, from 1.
    KeepNumber(usize),
    /// The one of this name.
    KeepDot(String),
    /// A value that takes the place of all.
    Value(String),
    /// The one with the highest stamp.
    Latest,
    /// None.
    Delete,
}

/// `siblings KEY`.
pub(crate) fn siblings(
    store: &mut Store,
    globals: &Globals,
    out: &mut dyn Write,
    key: &str,
) -> CommandResult {
    let entry = read(store, "siblings", key)?;
    if entry.values.is_empty() {
        return Err(not_found(out, globals.format, key, &entry)?);
    }
    let rows = || entry.values.iter().enumerate().map(|(at, version)| row(globals.format, at + 1, version));
    match globals.format {
        Format::Table => {
            let headings = ["No", "Version", "Written", "Expires", "Bytes", "Value"];
            print_rows(out, Format::Table, &headings, &[0, 4], rows().collect())?;
            writeln!(out, "\nContext: {}", context_hex(&entry.context))?;
            let said = match entry.values.len() {
                1 => "One version: there is nothing to settle.".to_owned(),
                count => format!(
                    "{count} concurrent versions. To settle them: gtstore resolve KEY with --keep N, --latest, \
                     --value V\nor --delete; or write one with 'put --context'."
                ),
            };
            writeln!(out, "{said}")?;
        }
        Format::Plain => {
            let context = context_hex(&entry.context);
            let rows = rows().map(|mut row| {
                row.push(context.clone());
                row
            });
            print_rows(out, Format::Plain, &[], &[], rows.collect())?;
        }
        Format::Json => {
            let mut line = object([("found", true.into())]);
            json_bytes(&mut line, "key", key.as_bytes());
            let versions = entry.values.iter().enumerate().map(|(at, version)| json_sibling(at + 1, version));
            line.insert("versions".to_owned(), versions.collect::<Vec<_>>().into());
            json_provenance(&mut line, &entry.by, &entry.context);
            print_json(out, line)?;
        }
    }
    Ok(())
}

/// Reads a key, its versions in the order of their names.
fn read(store: &mut Store, command: &str, key: &str) -> Result<Entry, Failure> {
    let mut entry = store.get(key).map_err(|error| failed(command, key, &error))?;
    entry.values.sort_by_key(|version| version.dot);
    Ok(entry)
}

fn failed(command: &str, key: &str, error: &Error) -> Failure {
    Failure::of(&format!("{command} {}", quoted(key.as_bytes())), error)
}

/// Number, name, when, until when, bytes, value.
fn row(format: Format, number: usize, version: &Version) -> Vec<String> {
    let time = |at: WallMs| match format {
        Format::Table => utc(at.0),
        Format::Plain | Format::Json => at.0.to_string(),
    };
    let value = match format {
        Format::Table => shortened(&version.value),
        Format::Plain | Format::Json => escaped(&version.value),
    };
    vec![
        number.to_string(),
        version.dot.to_string(),
        time(version.stamp.wall()),
        version.expiry.map_or("-".to_owned(), time),
        version.value.len().to_string(),
        value,
    ]
}

/// A value on one line of a table.
fn shortened(value: &[u8]) -> String {
    // So many bytes have at least so many letters, unless letters are long.
    let start = value.get(..4 * SHOWN_LETTERS).unwrap_or(value);
    let text = escaped(start);
    match text.char_indices().nth(SHOWN_LETTERS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

fn json_sibling(number: usize, version: &Version) -> Value {
    let mut sibling = object([
        ("number", number.into()),
        ("bytes", version.value.len().into()),
        ("written", utc(version.stamp.wall().0).into()),
    ]);
    if let Value::Object(more) = json_version(version) {
        sibling.extend(more);
    }
    sibling.into()
}

/// `resolve KEY`.
pub(crate) fn resolve(
    store: &mut Store,
    globals: &Globals,
    out: &mut dyn Write,
    key: &str,
    choice: &Choice,
) -> CommandResult {
    let seen = read(store, "resolve", key)?;
    if seen.values.is_empty() {
        return Err(not_found(out, globals.format, key, &seen)?);
    }
    if seen.values.len() == 1 {
        let written = Written { written: false, context: seen.context, by: seen.by };
        return print_settled(
            out,
            globals.format,
            key,
            1,
            "nothing to settle: there is one version",
            &written,
        );
    }
    if globals.context.as_ref().is_some_and(|context| *context != seen.context) {
        let text = format!(
            "resolve {}: its versions are no longer those of that context; nothing was written; \
             look again with 'gtstore siblings'",
            quoted(key.as_bytes())
        );
        return Err(Failure::new(Exit::Conflict, text));
    }
    let what = format!("resolve {}", quoted(key.as_bytes()));
    let kept =
        chosen(&seen.values, choice).map_err(|why| Failure::new(Exit::Conflict, format!("{what}: {why}")))?;
    let (written, said) = match (kept, choice) {
        (Some(version), _) => {
            let said = format!("kept {}, {}", version.dot, quoted(&version.value));
            (keep(store, key, version, &seen.context), said)
        }
        (None, Choice::Value(value)) => {
            let bytes = value.as_bytes().to_vec();
            (store.put_with(key, bytes, &seen.context), format!("now {}", quoted(value.as_bytes())))
        }
        (None, Choice::Delete | Choice::KeepNumber(_) | Choice::KeepDot(_) | Choice::Latest) => {
            (store.delete_with(key, &seen.context), "deleted".to_owned())
        }
    };
    let written = written.map_err(|error| failed("resolve", key, &error))?;
    print_settled(out, globals.format, key, seen.values.len(), &said, &written)?;
    // The answer first, wherever the two go.
    out.flush()?;
    match read(store, "resolve", key) {
        Ok(after) => match come_between(&after.values, &seen.context, *choice == Choice::Delete) {
            0 => Ok(()),
            count => Err(Failure::new(
                Exit::Conflict,
                format!(
                    "{what}: what was read is settled, but {count} of the versions came in between and stay \
                     beside it; see 'gtstore siblings'"
                ),
            )),
        },
        Err(failure) => Ok(writeln!(
            io::stderr(),
            "gtstore: settled, but whether anything came in between cannot be read: {failure}"
        )?),
    }
}

/// The version that is to stay, if one is. `versions` are in the order of their names.
fn chosen<'a>(versions: &'a [Version], choice: &Choice) -> Result<Option<&'a Version>, String> {
    let kept = match choice {
        Choice::KeepNumber(number) => number.checked_sub(1).and_then(|at| versions.get(at)),
        Choice::KeepDot(dot) => versions.iter().find(|version| version.dot.to_string() == *dot),
        Choice::Latest => versions.iter().max_by_key(|version| (version.stamp, version.dot)),
        Choice::Value(_) | Choice::Delete => return Ok(None),
    };
    let text = || {
        format!(
            "there is no such version among the {} that the key has now; nothing was written; \
             look again with 'gtstore siblings'",
            versions.len()
        )
    };
    kept.map(Some).ok_or_else(text)
}

/// Writes a version anew, for the time that it had left.
fn keep(store: &mut Store, key: &str, version: &Version, context: &Context) -> Result<Written, Error> {
    let mut item = store.item(key, store.options().w);
    let now = Clock::start().now().wall;
    item.ttl_ms = version.expiry.map(|at| at.0.saturating_sub(now.0).max(1));
    let (value, context) = (version.value.clone(), Some(context.clone()));
    store.call(Call::Put { item, value, context }).and_then(blocking::written)
}

/// How many versions stand there that the settling write had not seen, itself not counted.
fn come_between(after: &[Version], seen: &Context, deleted: bool) -> usize {
    let unseen = after.iter().filter(|version| !seen.vector.covers(version.dot)).count();
    if deleted { unseen } else { unseen.saturating_sub(1) }
}

fn print_settled(
    out: &mut dyn Write,
    format: Format,
    key: &str,
    versions: usize,
    said: &str,
    written: &Written,
) -> CommandResult {
    match format {
        Format::Table if !written.written => writeln!(out, "{}: {said}", quoted(key.as_bytes()))?,
        Format::Table => writeln!(
            out,
            "OK, settled {versions} versions of {}: {said} ({})",
            quoted(key.as_bytes()),
            stood_behind(&written.by)
        )?,
        Format::Plain => {
            let word = if written.written { "OK" } else { "NOTHING" };
            writeln!(out, "{word}\t{}\t{}", written.by.coordinator, context_hex(&written.context))?;
        }
        Format::Json => {
            let result = if written.written { "settled" } else { "nothing_to_settle" };
            let mut line = object([("result", result.into()), ("versions", versions.into())]);
            json_bytes(&mut line, "key", key.as_bytes());
            json_provenance(&mut line, &written.by, &written.context);
            print_json(out, line)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Actor, Dot, Incarnation, NodeId, Stamp};
    use bytes::Bytes;

    fn version(node: u32, seq: u64, stamp: u64) -> Version {
        let actor = Actor { node: NodeId(node), incarnation: Incarnation(1) };
        Version { dot: Dot { actor, seq }, stamp: Stamp(stamp), expiry: None, value: Bytes::new() }
    }

    #[test]
    fn a_version_is_chosen_by_its_number_its_name_or_its_stamp() {
        let versions = [version(1, 7, 50), version(2, 3, 90), version(3, 1, 20)];
        let at = |choice| chosen(&versions, &choice).map(|kept| kept.map(|kept| kept.dot.actor.node.0));
        assert_eq!(at(Choice::KeepNumber(1)), Ok(Some(1)));
        assert_eq!(at(Choice::KeepDot("3.1:1".to_owned())), Ok(Some(3)));
        assert_eq!(at(Choice::Latest), Ok(Some(2)));
        assert_eq!((at(Choice::Delete), at(Choice::Value(String::new()))), (Ok(None), Ok(None)));
        for gone in [Choice::KeepNumber(0), Choice::KeepNumber(4), Choice::KeepDot("3.1:2".to_owned())] {
            assert!(at(gone).unwrap_err().contains("the 3 that the key has now"));
        }
    }

    #[test]
    fn only_what_nobody_had_seen_has_come_between() {
        let (old, between, own) = (version(1, 7, 50), version(2, 3, 90), version(1, 8, 91));
        let mut seen = Context::default();
        seen.add(old.dot, old.stamp);
        assert_eq!(come_between(std::slice::from_ref(&own), &seen, false), 0);
        assert_eq!(come_between(&[between.clone(), own], &seen, false), 1);
        assert_eq!(come_between(&[between], &seen, true), 1);
        assert_eq!(come_between(&[old], &seen, false), 0, "a copy that is behind says nothing");
    }

    #[test]
    fn a_long_value_is_cut_between_letters() {
        assert_eq!(shortened(b"short\n"), "short\\n");
        assert_eq!(shortened("é".repeat(100).as_bytes()), format!("{}...", "é".repeat(40)));
    }
}
