//! The command line as a value: what is to be done, and on which terms.

mod cluster;

pub(crate) use cluster::{ClusterAction, Named, Typed, second_words};

use super::exit::Failure;
use super::repair::Repair;
use super::siblings::Choice;
use super::text::context_from_hex;
use crate::client::{Context, Routing, StoreOptions};
use crate::limits::{KEY_BYTES_MAX, KEYSPACE_NAME_BYTES_MAX, REPLICAS_MAX, REQUEST_TTL_MS_MAX};
use crate::ring::{Conflict, Durability, Profile};
use crate::shell::args;
use getopts::{Fail, Matches, Options};
use std::fmt::Display;
use std::str::FromStr;

/// Where a manager listens unless told otherwise.
pub(crate) const MANAGER_DEFAULT: &str = "127.0.0.1:7400";
/// The environment's `--manager`.
pub(crate) const MANAGER_VARIABLE: &str = "GTSTORE_MANAGER";

/// How results are printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Format {
    /// For people; may change.
    #[default]
    Table,
    /// One JSON value per command; stable.
    Json,
    /// Tab-separated fields; stable.
    Plain,
}

/// How a file of keys and values is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FileFormat {
    /// An object per line.
    JsonLines,
    /// Key, tab, value.
    Tabs,
}

/// Options that every command takes, before or after it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Globals {
    pub(crate) store: StoreOptions,
    pub(crate) format: Format,
    pub(crate) context: Option<Context>,
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Command {
    Put {
        key: String,
        value: String,
    },
    Get {
        key: String,
    },
    Delete {
        key: String,
    },
    GetMany {
        keys: Vec<String>,
    },
    Siblings {
        key: String,
    },
    Resolve {
        key: String,
        choice: Choice,
    },
    /// The assignment's `--put K --val V`.
    AssignedPut {
        key: String,
        value: String,
    },
    /// The assignment's `--get K`.
    AssignedGet {
        key: String,
    },
    Import {
        file: String,
        format: Option<FileFormat>,
    },
    Export {
        file: String,
        format: Option<FileFormat>,
    },
    Owners {
        key: String,
    },
    Dump {
        node: Option<u32>,
    },
    Status,
    Ring,
    Hints,
    Repair(Repair),
    Health,
    /// `health --watch`.
    HealthWatch,
    /// Who the members are and what they own.
    Cluster(ClusterAction),
    Query,
    TraceGet {
        key: String,
    },
    TracePut {
        key: String,
        value: String,
    },
    KeyspaceCreate(NewKeyspace),
    KeyspaceList,
    Shell,
    Dev(DevOptions),
}

/// `keyspace create`: what is left out follows the cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct NewKeyspace {
    pub(crate) name: String,
    pub(crate) n: Option<u8>,
    pub(crate) r: Option<u8>,
    pub(crate) w: Option<u8>,
    pub(crate) conflict: Conflict,
    pub(crate) durability: Durability,
}

/// `dev`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct DevOptions {
    pub(crate) nodes: usize,
    /// Whether that was said, and an old cluster of fewer is to have more.
    pub(crate) nodes_given: bool,
    /// Copies of each key in a new cluster.
    pub(crate) rep: u8,
    /// Whether that was said, and must be so in an existing one too.
    pub(crate) rep_given: bool,
    pub(crate) profile: Option<Profile>,
    pub(crate) data_dir: Option<String>,
    /// For each node, as it was typed.
    pub(crate) cache_bytes: Option<String>,
    /// Every port is the system's choice.
    pub(crate) any_ports: bool,
    pub(crate) shell: bool,
}

/// A command line that was understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Parsed {
    /// Do this.
    Run(Globals, Box<Command>),
    /// Print the help of this command, or of all.
    Help(Option<String>),
    /// Print the version.
    Version,
    /// Nothing was said.
    Nothing,
}

/// Options that only some commands take, with those that do.
const SPECIAL: &[(&str, &[&str])] = &[
    (
        "keyspace",
        &[
            "put",
            "get",
            "del",
            "mget",
            "--put",
            "--get",
            "trace get",
            "trace put",
            "siblings",
            "resolve",
            "import",
            "export",
            "owners",
            "dump",
            "shell",
            "dev",
        ],
    ),
    ("node", &["dump"]),
    ("watch", &["health", "cluster transfers"]),
    ("apply", &["cluster join", "cluster leave", "cluster replace", "cluster move", "cluster weight"]),
    ("epoch", &["cluster apply"]),
    ("bytes-per-second", &["cluster plan"]),
    ("sector", &["repair"]),
    ("no-wait", &["repair"]),
    ("format", &["import", "export"]),
    (
        "r",
        &[
            "get",
            "mget",
            "--get",
            "trace get",
            "siblings",
            "resolve",
            "import",
            "export",
            "keyspace create",
            "shell",
            "dev",
        ],
    ),
    ("w", &["put", "del", "--put", "trace put", "resolve", "import", "keyspace create", "shell", "dev"]),
    (
        "strict",
        &[
            "put",
            "get",
            "del",
            "mget",
            "--put",
            "--get",
            "trace put",
            "trace get",
            "siblings",
            "resolve",
            "import",
            "export",
            "shell",
            "dev",
        ],
    ),
    ("ttl", &["put", "--put", "trace put", "import"]),
    ("n", &["keyspace create"]),
    ("conflict", &["keyspace create"]),
    ("durability", &["keyspace create"]),
    ("nodes", &["dev"]),
    ("rep", &["dev"]),
    ("profile", &["dev"]),
    ("data-dir", &["dev"]),
    ("cache-bytes", &["dev"]),
    ("any-ports", &["dev"]),
    ("no-shell", &["dev"]),
    ("context", &["put", "del", "trace put", "--put", "resolve"]),
    ("keep", &["resolve"]),
    ("value", &["resolve"]),
    ("latest", &["resolve"]),
    ("delete", &["resolve"]),
    ("val", &["--put"]),
];

fn all_options() -> Options {
    let mut options = Options::new();
    options.optopt("m", "manager", "", "").optopt("k", "keyspace", "", "").optopt("o", "output", "", "");
    options.optopt("", "timeout-ms", "", "").optopt("", "routing", "", "");
    options.optflag("", "strict", "").optopt("", "ttl", "", "");
    options.optopt("r", "", "", "").optopt("w", "", "", "").optopt("n", "", "", "");
    options.optopt("", "context", "", "").optopt("", "node", "", "").optopt("", "format", "", "");
    options.optopt("", "conflict", "", "").optopt("", "durability", "", "");
    options.optopt("", "nodes", "", "").optopt("", "rep", "", "").optopt("", "data-dir", "", "");
    options
        .optflag("", "any-ports", "")
        .optopt("", "cache-bytes", "", "")
        .optopt("", "profile", "", "")
        .optflag("", "no-shell", "")
        .optflag("", "watch", "")
        .optflag("", "apply", "")
        .optopt("", "epoch", "", "")
        .optopt("", "bytes-per-second", "", "")
        .optflag("h", "help", "")
        .optflag("V", "version", "");
    options.optopt("", "sector", "", "").optflag("", "no-wait", "");
    options.optopt("", "keep", "", "").optopt("", "value", "", "");
    options.optflag("", "latest", "").optflag("", "delete", "");
    options.optopt("", "put", "", "").optopt("", "val", "", "").optopt("", "get", "", "");
    options
}

/// Reads a command line. `inherited` are the globals of the shell it was typed in, or those of
/// the environment.
///
/// # Errors
/// What cannot be understood, in words.
pub(crate) fn parse(args: &[String], inherited: &Globals) -> Result<Parsed, Failure> {
    let matches = all_options().parse(lengthened(args)).map_err(|fail| not_understood(&fail))?;
    let mut words = matches.free.iter().cloned();
    let name = words.next();
    let words: Vec<String> = words.collect();
    if matches.opt_present("help") || name.as_deref() == Some("help") {
        let name = name.filter(|name| name != "help");
        // Of a few commands the second word is a command too.
        let about: Vec<String> = name.into_iter().chain(words).take(2).collect();
        return Ok(Parsed::Help((!about.is_empty()).then(|| about.join(" "))));
    }
    if matches.opt_present("version") {
        return Ok(Parsed::Version);
    }
    let name = match (name, matches.opt_present("put"), matches.opt_present("get")) {
        (Some(name), false, false) => name,
        (None, true, false) => "--put".to_owned(),
        (None, false, true) => "--get".to_owned(),
        (None, false, false) if matches.opt_present("val") => {
            return Err(Failure::usage("--val VALUE goes with --put KEY"));
        }
        (None, false, false) => return Ok(Parsed::Nothing),
        (Some(word), ..) => return Err(Failure::usage(format!("unexpected '{word}' beside --put or --get"))),
        (None, true, true) => return Err(Failure::usage("--put and --get are two commands")),
    };
    let whole_name = match (name.as_str(), words.first()) {
        ("trace" | "keyspace" | "cluster", Some(word)) => format!("{name} {word}"),
        (_, _) => name.clone(),
    };
    // First: a name that is no command is to be told as that, whatever its options.
    let command = command(&name, words, &matches)?;
    for (option, commands) in SPECIAL {
        if matches.opt_present(option) && !commands.contains(&whole_name.as_str()) {
            let dashes = dashes(option);
            return Err(Failure::usage(format!("{dashes}{option} is not an option of '{whole_name}'")));
        }
    }
    let mut globals = globals(&matches, inherited)?;
    if !matches!(command, Command::KeyspaceCreate(_)) {
        // Those of `keyspace create` are the keyspace's own, and no terms of the request.
        globals.store.r = replicas(&matches, "r")?.unwrap_or(globals.store.r);
        globals.store.w = replicas(&matches, "w")?.unwrap_or(globals.store.w);
    }
    Ok(Parsed::Run(globals, Box::new(command)))
}

fn dashes(option: &str) -> &'static str {
    if option.len() == 1 { "-" } else { "--" }
}

/// What the option reader does not take.
fn not_understood(fail: &Fail) -> Failure {
    match fail {
        Fail::UnrecognizedOption(name) => {
            let dashes = dashes(name);
            Failure::usage(format!(
                "there is no option '{dashes}{name}'; a key or value that begins with '-' goes after '--', \
                 as in: put -- KEY {dashes}{name}"
            ))
        }
        Fail::ArgumentMissing(_)
        | Fail::OptionMissing(_)
        | Fail::OptionDuplicated(_)
        | Fail::UnexpectedArgument(_) => Failure::usage(fail.to_string()),
    }
}

/// `--n 3` as well as `-n 3`, and so for r and w: the option reader knows one-letter names with
/// one dash alone. What follows `--` is left as it is.
fn lengthened(args: &[String]) -> Vec<String> {
    let mut literal = false;
    let one = |arg: &String| {
        literal |= arg == "--";
        match arg.strip_prefix("--") {
            Some(rest) if !literal && matches!(rest.split('=').next(), Some("n" | "r" | "w")) => {
                format!("-{}", rest.replacen('=', "", 1))
            }
            Some(_) | None => arg.clone(),
        }
    };
    args.iter().map(one).collect()
}

fn value<T: FromStr>(matches: &Matches, option: &str, what: &str) -> Result<Option<T>, Failure> {
    let dashes = dashes(option);
    match matches.opt_str(option) {
        None => Ok(None),
        Some(text) => match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(Failure::usage(format!("{dashes}{option} takes {what}, not '{text}'"))),
        },
    }
}

/// A number from 1 to `max`: 0 would be taken for "not given", and more for the most there is.
fn within<T>(matches: &Matches, option: &str, what: &str, max: T) -> Result<Option<T>, Failure>
where
    T: FromStr + PartialOrd + From<u8> + Display,
{
    let what = format!("1 to {max} {what}");
    let Some(number) = value(matches, option, &what)? else { return Ok(None) };
    if number >= T::from(1) && number <= max {
        return Ok(Some(number));
    }
    let dashes = dashes(option);
    Err(Failure::usage(format!("{dashes}{option} takes {what}, not {number}")))
}

/// R or W. Whether the keyspace has so many copies is known to the cluster alone.
fn replicas(matches: &Matches, option: &str) -> Result<Option<u8>, Failure> {
    within(matches, option, "replicas", REPLICAS_MAX as u8)
}

fn globals(matches: &Matches, inherited: &Globals) -> Result<Globals, Failure> {
    let mut globals = Globals { context: None, ..inherited.clone() };
    if let Some(text) = matches.opt_str("manager") {
        globals.store.addrs =
            args::addr_list(&text).map_err(|why| Failure::usage(format!("--manager: {why}")))?;
    }
    if let Some(name) = matches.opt_str("keyspace") {
        if name.is_empty() || name.len() > KEYSPACE_NAME_BYTES_MAX {
            let text = format!("-k takes a keyspace's name, of 1 to {KEYSPACE_NAME_BYTES_MAX} bytes");
            return Err(Failure::usage(text));
        }
        globals.store.keyspace = name;
    }
    if let Some(format) = value(matches, "output", "table, json or plain")? {
        globals.format = format;
    }
    if let Some(ms) = within(matches, "timeout-ms", "milliseconds", REQUEST_TTL_MS_MAX)? {
        globals.store.timeout_ms = ms;
    }
    if let Some(routing) = value::<Routing>(matches, "routing", "forwarder, direct or fastest")? {
        globals.store.routing = routing;
    }
    globals.store.strict |= matches.opt_present("strict");
    if let Some(text) = matches.opt_str("ttl") {
        let ttl_ms = args::span_ms(&text).map_err(|why| Failure::usage(format!("--ttl: {why}")))?;
        globals.store.ttl_ms = Some(ttl_ms);
    }
    if let Some(text) = matches.opt_str("context") {
        let context = context_from_hex(&text).ok_or_else(|| {
            Failure::usage("--context takes the hex that `get -o json` gives as \"context\"")
        })?;
        globals.context = Some(context);
    }
    Ok(globals)
}

fn command(name: &str, words: Vec<String>, matches: &Matches) -> Result<Command, Failure> {
    let expects = |what: &str| Failure::usage_of(name, &format!("usage: gtstore {name} {what}"));
    let one = |what: &str, words: Vec<String>| <[String; 1]>::try_from(words).map_err(|_| expects(what));
    let two = |what: &str, words: Vec<String>| <[String; 2]>::try_from(words).map_err(|_| expects(what));
    let none = |words: Vec<String>| match words.first() {
        None => Ok(()),
        Some(word) => Err(Failure::usage_of(name, &format!("'{name}' takes no arguments, but got '{word}'"))),
    };
    Ok(match name {
        "put" => {
            let [key, value] = two("KEY VALUE", words)?;
            Command::Put { key, value }
        }
        "get" => {
            let [key] = one("KEY", words)?;
            Command::Get { key }
        }
        "del" => {
            let [key] = one("KEY", words)?;
            Command::Delete { key }
        }
        "mget" if words.is_empty() => return Err(expects("KEY...")),
        "mget" => Command::GetMany { keys: words },
        "siblings" => {
            let [key] = one("KEY", words)?;
            Command::Siblings { key }
        }
        "resolve" => {
            let [key] = one(RESOLVE_FORM, words)?;
            Command::Resolve { key, choice: choice(matches)? }
        }
        "--put" => {
            let text = "--put KEY goes with --val VALUE";
            let value = matches.opt_str("val").ok_or_else(|| Failure::usage(text))?;
            Command::AssignedPut { key: matches.opt_str("put").unwrap_or_default(), value }
        }
        "--get" => Command::AssignedGet { key: matches.opt_str("get").unwrap_or_default() },
        "import" | "export" => {
            let [file] = one("FILE|-", words)?;
            let format = value(matches, "format", "jsonl or tsv")?;
            if name == "import" { Command::Import { file, format } } else { Command::Export { file, format } }
        }
        "owners" => {
            let [key] = one("KEY", words)?;
            if key.is_empty() || key.len() > KEY_BYTES_MAX {
                let text = format!("a key has 1 to {KEY_BYTES_MAX} bytes, not {}", key.len());
                return Err(Failure::usage_of("owners", &text));
            }
            Command::Owners { key }
        }
        "dump" => {
            none(words)?;
            Command::Dump { node: value(matches, "node", "a node's number")? }
        }
        "status" => none(words).map(|()| Command::Status)?,
        "ring" => none(words).map(|()| Command::Ring)?,
        "hints" => none(words).map(|()| Command::Hints)?,
        "repair" => {
            none(words)?;
            let sector = value(matches, "sector", "a sector's number")?;
            Command::Repair(Repair { sector, waits: !matches.opt_present("no-wait") })
        }
        "health" => {
            none(words)?;
            if matches.opt_present("watch") { Command::HealthWatch } else { Command::Health }
        }
        "cluster" => Command::Cluster(cluster::cluster(&words, matches)?),
        "query" => none(words).map(|()| Command::Query)?,
        "shell" => none(words).map(|()| Command::Shell)?,
        "trace" => trace(words).ok_or_else(|| expects("get KEY, or: gtstore trace put KEY VALUE"))?,
        "keyspace" => keyspace(&words, matches)?,
        "dev" => {
            none(words)?;
            dev(matches)?
        }
        other => return Err(Failure::usage(format!("there is no command '{other}'"))),
    })
}

const RESOLVE_FORM: &str = "KEY (--keep N | --value V | --latest | --delete)";

/// What `resolve` is to make of the versions: just one thing.
fn choice(matches: &Matches) -> Result<Choice, Failure> {
    let keep = matches.opt_str("keep").map(|text| kept(&text)).transpose()?;
    let latest = matches.opt_present("latest").then_some(Choice::Latest);
    let delete = matches.opt_present("delete").then_some(Choice::Delete);
    let choices = [keep, matches.opt_str("value").map(Choice::Value), latest, delete];
    let mut choices = choices.into_iter().flatten();
    match (choices.next(), choices.next()) {
        (Some(choice), None) => Ok(choice),
        (None | Some(_), _) => {
            Err(Failure::usage_of("resolve", &format!("usage: gtstore resolve {RESOLVE_FORM}, one of them")))
        }
    }
}

/// A version by its number, or by its name.
fn kept(text: &str) -> Result<Choice, Failure> {
    let is_dot = || {
        let (actor, seq) = text.split_once(':')?;
        let (node, life) = actor.split_once('.')?;
        Some(node.parse::<u32>().is_ok() && life.parse::<u32>().is_ok() && seq.parse::<u64>().is_ok())
    };
    match text.parse() {
        Ok(number @ 1..) => Ok(Choice::KeepNumber(number)),
        Err(_) if is_dot() == Some(true) => Ok(Choice::KeepDot(text.to_owned())),
        Ok(_) | Err(_) => Err(Failure::usage(format!(
            "--keep takes a version's number, from 1, or its name, as 2.1:7, not '{text}'"
        ))),
    }
}

fn trace(words: Vec<String>) -> Option<Command> {
    let mut words = words.into_iter();
    let command = match (words.next()?.as_str(), words.next()?, words.next()) {
        ("get", key, None) => Command::TraceGet { key },
        ("put", key, Some(value)) => Command::TracePut { key, value },
        _ => return None,
    };
    if words.next().is_some() { None } else { Some(command) }
}

fn keyspace(words: &[String], matches: &Matches) -> Result<Command, Failure> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["list"] => Ok(Command::KeyspaceList),
        ["create", name] => Ok(Command::KeyspaceCreate(NewKeyspace {
            name: name.to_owned(),
            n: value(matches, "n", "a number of copies")?,
            // Whether the keyspace has so many copies is for the cluster to say, with n at hand.
            r: value(matches, "r", "a number of copies")?,
            w: value(matches, "w", "a number of copies")?,
            conflict: value(matches, "conflict", "lww or siblings")?.unwrap_or(Conflict::Lww),
            durability: value(matches, "durability", "sync, os or memory")?.unwrap_or(Durability::Sync),
        })),
        _ => Err(Failure::usage_of(
            "keyspace",
            "usage: gtstore keyspace create NAME [--n N --r R --w W --conflict lww|siblings \
             --durability sync|os|memory], or: gtstore keyspace list",
        )),
    }
}

fn dev(matches: &Matches) -> Result<Command, Failure> {
    let nodes: usize = value(matches, "nodes", "a number of nodes")?.unwrap_or(3);
    if !(1..=64).contains(&nodes) {
        return Err(Failure::usage("--nodes takes 1 to 64 nodes: they all run on this machine"));
    }
    // With fewer nodes than copies nothing could ever be served.
    let usual = u8::try_from(nodes.min(3)).unwrap_or(3);
    let rep: u8 = value(matches, "rep", "a number of copies")?.unwrap_or(usual);
    if rep == 0 || usize::from(rep) > REPLICAS_MAX {
        let text = format!("--rep takes 1 to {REPLICAS_MAX} copies");
        return Err(Failure::usage(text));
    }
    if usize::from(rep) > nodes {
        let text = format!("{rep} copies need at least {rep} nodes: use --nodes {rep} or a smaller --rep");
        return Err(Failure::usage(text));
    }
    let cache_bytes = matches.opt_str("cache-bytes");
    if let Some(Err(error)) = cache_bytes.as_deref().map(args::size) {
        return Err(Failure::usage(format!("--cache-bytes: {error}")));
    }
    Ok(Command::Dev(DevOptions {
        nodes,
        nodes_given: matches.opt_present("nodes"),
        rep,
        rep_given: matches.opt_present("rep"),
        profile: value(matches, "profile", "default or gtstore")?,
        data_dir: matches.opt_str("data-dir"),
        any_ports: matches.opt_present("any-ports"),
        cache_bytes,
        shell: !matches.opt_present("no-shell"),
    }))
}

impl Default for Globals {
    fn default() -> Self {
        Self { store: StoreOptions::new(MANAGER_DEFAULT), format: Format::Table, context: None }
    }
}

impl FromStr for Format {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "table" => Ok(Format::Table),
            "json" => Ok(Format::Json),
            "plain" => Ok(Format::Plain),
            _ => Err(()),
        }
    }
}

impl FromStr for FileFormat {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "jsonl" | "json" | "ndjson" => Ok(FileFormat::JsonLines),
            "tsv" | "tab" | "txt" => Ok(FileFormat::Tabs),
            _ => Err(()),
        }
    }
}

#[cfg(test)]
mod tests;
