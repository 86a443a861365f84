//! `trace get|put`: the protocol at work, node by node.

use super::exit::{CommandResult, Exit, Failure};
use super::keys::{stood_behind, traced_get, traced_put};
use super::options::{Format, Globals};
use super::output::{json_provenance, object, print_json, print_rows};
use super::text::quoted;
use crate::client::{Call, Context, Error, Provenance, Store};
use crate::limits::{REQUEST_TTL_MS, REQUEST_TTL_MS_MAX};
use crate::wire::client::{TraceRole, TraceStep};
use serde_json::{Map, Value};
use std::io::Write;
use std::time::{Duration, Instant};

/// Connecting may take one part in so many of a trace's time.
const MEET_SHARE: u32 = 4;

/// `trace get KEY`.
pub(crate) fn get(store: &mut Store, globals: &Globals, out: &mut dyn Write, key: &str) -> CommandResult {
    let left_ms = meet(store);
    let started = Instant::now();
    let outcome = store.within_ms(left_ms, |store| traced_get(store, key));
    let took = started.elapsed();
    let what = format!("get {}", quoted(key.as_bytes()));
    let entry = match outcome {
        Ok(entry) => entry,
        Err(error) => return Err(failed(out, globals.format, &what, &error, took)?),
    };
    let said = match &entry.values[..] {
        [] => "not found".to_owned(),
        [one] => format!("value {}", quoted(&one.value)),
        many => {
            let all: Vec<String> = many.iter().map(|version| quoted(&version.value)).collect();
            format!("{} concurrent values: {}", many.len(), all.join(" | "))
        }
    };
    print(out, globals.format, &what, &said, &entry.by, &entry.context, took)?;
    if entry.values.is_empty() {
        let text = match globals.format {
            Format::Json => String::new(),
            Format::Table | Format::Plain => format!("{} not found", quoted(key.as_bytes())),
        };
        return Err(Failure::new(Exit::NotFound, text));
    }
    Ok(())
}

/// `trace put KEY VALUE`.
pub(crate) fn put(
    store: &mut Store,
    globals: &Globals,
    out: &mut dyn Write,
    key: &str,
    value: &str,
) -> CommandResult {
    let left_ms = meet(store);
    let started = Instant::now();
    let outcome = store.within_ms(left_ms, |store| traced_put(store, globals, key, value));
    let took = started.elapsed();
    let what = format!("put {}", quoted(key.as_bytes()));
    let written = match outcome {
        Ok(written) => written,
        Err(error) => return Err(failed(out, globals.format, &what, &error, took)?),
    };
    print(out, globals.format, &what, "stored", &written.by, &written.context, took)
}

/// Connects first, or the first request would carry the time of finding the cluster. Returns the
/// milliseconds left for that one: both together take no longer than one request may.
fn meet(store: &mut Store) -> u32 {
    let whole_ms = match store.options().timeout_ms {
        0 => REQUEST_TTL_MS,
        ms => ms.min(REQUEST_TTL_MS_MAX),
    };
    let started = Instant::now();
    let item = store.item("trace", 1);
    // Whatever comes of it, the traced request will say better.
    let _ = store.within_ms(whole_ms / MEET_SHARE, |store| store.call(Call::Get { item }));
    let took_ms = u32::try_from(started.elapsed().as_millis()).unwrap_or(u32::MAX);
    whole_ms.saturating_sub(took_ms)
}

fn print(
    out: &mut dyn Write,
    format: Format,
    what: &str,
    said: &str,
    by: &Provenance,
    context: &Context,
    took: Duration,
) -> CommandResult {
    if format == Format::Json {
        let mut line = json_steps(what, said, &by.trace, took);
        json_provenance(&mut line, by, context);
        return Ok(print_json(out, line)?);
    }
    print_steps(out, format, &format!("{what}: {said} ({})", stood_behind(by)), &by.trace, took)
}

/// Prints the steps known of a request that failed, in which a reader looks for the reason. With
/// none known there is nothing to print: nobody was reached, or nobody answered.
fn failed(
    out: &mut dyn Write,
    format: Format,
    what: &str,
    error: &Error,
    took: Duration,
) -> Result<Failure, Failure> {
    if !error.trace.is_empty() {
        match format {
            Format::Json => {
                let mut line = json_steps(what, &error.to_string(), &error.trace, took);
                line.append(&mut object([
                    ("answered", error.answered.into()),
                    ("needed", error.needed.into()),
                    ("replicas", error.slots.into()),
                ]));
                print_json(out, line)?;
            }
            Format::Table | Format::Plain => {
                print_steps(out, format, &format!("{what}: {}", error.kind), &error.trace, took)?;
            }
        }
        // The table first, wherever the two go.
        out.flush()?;
    }
    Ok(Failure::of(&format!("trace {what}"), error))
}

fn json_steps(what: &str, said: &str, steps: &[TraceStep], took: Duration) -> Map<String, Value> {
    let steps: Vec<Value> = steps.iter().map(json_step).collect();
    object([
        ("request", what.into()),
        ("result", said.into()),
        ("ms", (took.as_secs_f64() * 1e3).into()),
        ("steps", steps.into()),
    ])
}

fn print_steps(
    out: &mut dyn Write,
    format: Format,
    head: &str,
    steps: &[TraceStep],
    took: Duration,
) -> CommandResult {
    if format == Format::Table {
        writeln!(out, "{head}\n{:.2} ms from here and back\n", took.as_secs_f64() * 1e3)?;
    }
    let headings = ["Role", "Node", "Asked at ms", "Answered at ms", "Took ms", "Versions (node.life:write)"];
    Ok(print_rows(out, format, &headings, &[2, 3, 4], steps.iter().map(row).collect())?)
}

fn ms(us: u32) -> String {
    format!("{:.2}", f64::from(us) / 1e3)
}

fn role(step: &TraceStep) -> &'static str {
    match step.role {
        TraceRole::Forwarder => "forwarder",
        TraceRole::Coordinator => "coordinator",
        TraceRole::Replica => "replica",
        TraceRole::Fallback => "fallback",
    }
}

fn row(step: &TraceStep) -> Vec<String> {
    let (answered, took) = match step.answered_us {
        Some(at) => (ms(at), ms(at.saturating_sub(step.asked_us))),
        None => ("none yet".to_owned(), "-".to_owned()),
    };
    let dots: Vec<String> = step.dots.iter().map(ToString::to_string).collect();
    let dots = if dots.is_empty() { "-".to_owned() } else { dots.join(" ") };
    vec![role(step).to_owned(), step.node.to_string(), ms(step.asked_us), answered, took, dots]
}

fn json_step(step: &TraceStep) -> Value {
    let dots: Vec<Value> = step.dots.iter().map(|dot| dot.to_string().into()).collect();
    object([
        ("role", role(step).into()),
        ("node", step.node.0.into()),
        ("asked_us", step.asked_us.into()),
        ("answered_us", step.answered_us.map_or(Value::Null, Into::into)),
        ("dots", dots.into()),
    ])
    .into()
}
