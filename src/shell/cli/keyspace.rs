//! `keyspace create` and `keyspace list`.

use super::cluster::ask_table;
use super::exit::{CommandResult, Exit, Failure};
use super::options::{Format, Globals, NewKeyspace};
use super::output::{object, print_json, print_rows};
use crate::client::{Store, Target};
use crate::ring::{Keyspace, KeyspaceSettings, NameError};
use crate::shell::blocking::unexpected;
use crate::wire::client::{ClientReply, ClientRequest};
use serde_json::{Map, Value};
use std::io::Write;

/// `keyspace create NAME`.
pub(crate) fn create(
    store: &mut Store,
    globals: &Globals,
    out: &mut dyn Write,
    new: &NewKeyspace,
) -> CommandResult {
    let n_max = ask_table(store)?.n;
    let usual = KeyspaceSettings::majority(new.n.unwrap_or(n_max));
    let settings = KeyspaceSettings {
        n: usual.n,
        r: new.r.unwrap_or(usual.r),
        w: new.w.unwrap_or(usual.w),
        conflict: new.conflict,
        durability: new.durability,
    };
    if let Err(error) = Keyspace::check(&new.name, &settings, n_max) {
        return Err(Failure::usage(match error {
            NameError::BadName => {
                format!("{:?} is no keyspace name: it has 1 to 64 of a-z A-Z 0-9 _ . -", new.name)
            }
            NameError::BadQuorum { n_max } => bad_quorum(&settings, n_max),
        }));
    }
    let request = ClientRequest::CreateKeyspace { name: new.name.clone(), settings };
    let id = match store.ask(Target::Manager, request) {
        Ok(ClientReply::KeyspaceCreated(id)) => id,
        Ok(other) => return Err(unexpected(&other).into()),
        Err(error) => return Err(other_settings(store, new, &settings).unwrap_or_else(|| error.into())),
    };
    match globals.format {
        Format::Table => writeln!(out, "OK, keyspace {} ({})", new.name, settings_text(&settings))?,
        Format::Plain => writeln!(out, "OK\t{}\t{}", new.name, id.0)?,
        Format::Json => print_json(out, json_keyspace(id.0, &new.name, &settings))?,
    }
    Ok(())
}

/// Which of the numbers is wrong, and what it can be.
fn bad_quorum(asked: &KeyspaceSettings, n_max: u8) -> String {
    if !(1..=n_max).contains(&asked.n) {
        return format!("--n takes 1 to {n_max}, the copies that the cluster keeps, not {}", asked.n);
    }
    let (name, wrong) = if (1..=asked.n).contains(&asked.r) { ("w", asked.w) } else { ("r", asked.r) };
    format!("--{name} takes 1 to {}, the copies of this keyspace, not {wrong}", asked.n)
}

/// Why a keyspace was not made, if it is there with other settings; the manager's refusal is
/// words alone.
fn other_settings(store: &mut Store, new: &NewKeyspace, asked: &KeyspaceSettings) -> Option<Failure> {
    let table = ask_table(store).ok()?;
    let (_, Keyspace { settings: there, .. }) = table.keyspace(&new.name)?;
    let (mut has, mut wanted) = (Vec::new(), Vec::new());
    for (there, asked) in settings_words(there).into_iter().zip(settings_words(asked)) {
        if there != asked {
            has.push(there);
            wanted.push(asked);
        }
    }
    let (has, wanted) = (has.join(", "), wanted.join(", "));
    let text = format!(
        "keyspace {:?} exists with other settings: it has {has}; asked for was {wanted}. \
         Settings stay as they were made: give these, or another name",
        new.name
    );
    (!has.is_empty()).then(|| Failure::new(Exit::Conflict, text))
}

fn settings_words(settings: &KeyspaceSettings) -> [String; 5] {
    [
        format!("n {}", settings.n),
        format!("r {}", settings.r),
        format!("w {}", settings.w),
        settings.conflict.to_string(),
        settings.durability.to_string(),
    ]
}

fn settings_text(settings: &KeyspaceSettings) -> String {
    settings_words(settings).join(", ")
}

fn json_keyspace(id: u16, name: &str, settings: &KeyspaceSettings) -> Map<String, Value> {
    object([
        ("id", id.into()),
        ("name", name.into()),
        ("n", settings.n.into()),
        ("r", settings.r.into()),
        ("w", settings.w.into()),
        ("conflict", settings.conflict.to_string().into()),
        ("durability", settings.durability.to_string().into()),
    ])
}

/// `keyspace list`.
pub(crate) fn list(store: &mut Store, globals: &Globals, out: &mut dyn Write) -> CommandResult {
    let table = ask_table(store)?;
    if globals.format == Format::Json {
        let all: Vec<Value> = table
            .keyspaces
            .iter()
            .map(|(id, keyspace)| json_keyspace(id.0, &keyspace.name, &keyspace.settings).into())
            .collect();
        return Ok(print_json(out, all)?);
    }
    let row = |keyspace: &Keyspace| {
        let settings = &keyspace.settings;
        vec![
            keyspace.name.clone(),
            settings.n.to_string(),
            settings.r.to_string(),
            settings.w.to_string(),
            settings.conflict.to_string(),
            settings.durability.to_string(),
        ]
    };
    let rows = table.keyspaces.values().map(row).collect();
    let headings = ["Keyspace", "N", "R", "W", "Conflict", "Durability"];
    Ok(print_rows(out, globals.format, &headings, &[1, 2, 3], rows)?)
}
