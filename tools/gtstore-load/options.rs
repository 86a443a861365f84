//! The command line, as settings that make sense together.

use getopts::{Matches, Options};
use gtstore::limits::{
    CONNECTIONS_MAX, KEY_BYTES_MAX, REPLICAS_MAX, REQUEST_TTL_MS, REQUEST_TTL_MS_MAX, VALUE_BYTES_MAX,
};
use gtstore::shell::args::{Program, addr_list, size, value};
use gtstore::shell::random;
use std::process::ExitCode;
use std::time::Duration;

/// The program's name, as in messages.
pub const NAME: &str = "gtstore-load";

const MANAGER_DEFAULT: &str = "127.0.0.1:7400";
const MANAGER_ENV: &str = "GTSTORE_MANAGER";
const DURATION_DEFAULT_S: f64 = 10.0;
/// Requests in flight at once, over all connections: each has a row here, and a node's own
/// table has 16384.
const IN_FLIGHT_MAX: usize = 1 << 20;
/// One in a microsecond: the finest that the clock tells apart.
const RATE_MAX: u64 = 1_000_000;
/// Digits of the largest key number.
const NUMBER_BYTES_MAX: usize = 20;

/// What the command line says.
#[derive(Debug)]
pub struct Settings {
    /// Whom to ask for nodes and the table, in turn.
    pub managers: Vec<String>,
    /// Connections.
    pub conns: usize,
    /// Requests in flight on each.
    pub pipeline: usize,
    /// When to stop.
    pub until: Until,
    /// Operations to begin in each second, whatever becomes of those before (an open loop); none: as
    /// many as are answered.
    pub rate: Option<u64>,
    /// Fraction of gets, 0 to 1.
    pub ratio: f64,
    /// Bytes of each value.
    pub value_bytes: usize,
    /// Keys are numbered 0..keys.
    pub keys: u64,
    /// Stands before each key's number.
    pub key_prefix: String,
    /// Keyspace by name; empty for `default`.
    pub keyspace: String,
    /// Of the sequence of operations.
    pub seed: u64,
    /// Who is asked.
    pub routing: Routing,
    /// R of each get; 0 for the keyspace's.
    pub r: u8,
    /// W of each put; 0 for the keyspace's.
    pub w: u8,
    /// How long each request is waited for.
    pub timeout_ms: u32,
    /// Whether what was asked on a lost connection is asked once more.
    pub retries: bool,
    /// Form of the result.
    pub output: Output,
}

/// When a load ends of itself.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Until {
    /// After so many operations.
    Ops(u64),
    /// After so long.
    Elapsed(Duration),
}

/// Who is asked for a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Routing {
    /// Whichever node the connection is to.
    Forwarder,
    /// The first of the key's owners that is connected.
    Direct,
}

/// Form of the result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    /// For people.
    Table,
    /// One line of JSON.
    Json,
}

impl Settings {
    /// Reads the command line, and `GTSTORE_MANAGER`.
    ///
    /// # Errors
    /// The exit code of a process that has nothing more to do.
    pub fn from_args(args: &[String]) -> Result<Self, ExitCode> {
        let mut program = program();
        let matches = program.parse(args)?;
        let manager_env = std::env::var(MANAGER_ENV).ok();
        Self::from_matches(&matches, manager_env).map_err(|what| program.usage_error(&what))
    }

    fn from_matches(matches: &Matches, manager_env: Option<String>) -> Result<Self, String> {
        let managers =
            matches.opt_str("manager").or(manager_env).unwrap_or_else(|| MANAGER_DEFAULT.to_owned());
        let value_bytes = matches.opt_str("value-bytes").map_or(Ok(100), |text| size(&text));
        let value_bytes = value_bytes.map_err(|error| format!("--value-bytes: {error}"))?;
        let seed = match matches.opt_str("seed") {
            Some(_) => value(matches, "seed", 0)?,
            None => random::id().map_err(|error| format!("no random seed: {error}; give --seed"))? as u64,
        };
        Self {
            managers: addr_list(&managers).map_err(|error| format!("--manager: {error}"))?,
            conns: value(matches, "conns", 50)?,
            pipeline: value(matches, "pipeline", 1)?,
            until: until(matches)?,
            rate: Some(value(matches, "rate", 0)?).filter(|&rate| rate > 0),
            ratio: value(matches, "ratio", 0.5)?,
            value_bytes: usize::try_from(value_bytes).unwrap_or(usize::MAX),
            keys: value(matches, "keys", 100_000)?,
            key_prefix: matches.opt_str("key-prefix").unwrap_or_else(|| "load:".to_owned()),
            keyspace: match matches.opt_str("keyspace") {
                Some(name) if name.is_empty() => return Err("-k takes a keyspace's name".to_owned()),
                name => name.unwrap_or_default(),
            },
            seed,
            routing: match matches.opt_str("routing").as_deref() {
                None | Some("forwarder") => Routing::Forwarder,
                Some("direct") => Routing::Direct,
                Some(other) => return Err(format!("--routing is 'forwarder' or 'direct', not '{other}'")),
            },
            r: replicas(matches, "r")?,
            w: replicas(matches, "w")?,
            timeout_ms: value(matches, "timeout-ms", REQUEST_TTL_MS)?,
            retries: !matches.opt_present("no-retry"),
            output: match matches.opt_str("output").as_deref() {
                None | Some("table") => Output::Table,
                Some("json") => Output::Json,
                Some(other) => return Err(format!("-o is 'table' or 'json', not '{other}'")),
            },
        }
        .validate()
    }

    fn validate(self) -> Result<Self, String> {
        let within = |name: &str, value: u64, low: u64, high: u64| {
            if (low..=high).contains(&value) { Ok(()) } else { Err(format!("--{name} is {low} to {high}")) }
        };
        within("conns", self.conns as u64, 1, CONNECTIONS_MAX as u64)?;
        within("pipeline", self.pipeline as u64, 1, (IN_FLIGHT_MAX / self.conns) as u64)?;
        within("value-bytes", self.value_bytes as u64, 0, VALUE_BYTES_MAX as u64)?;
        within("keys", self.keys, 1, u64::MAX)?;
        within("rate", self.rate.unwrap_or(0), 0, RATE_MAX)?;
        within("timeout-ms", self.timeout_ms.into(), 1, REQUEST_TTL_MS_MAX.into())?;
        if !(0.0..=1.0).contains(&self.ratio) {
            return Err("--ratio is the fraction of gets, 0 to 1".to_owned());
        }
        let prefix_max = KEY_BYTES_MAX - NUMBER_BYTES_MAX;
        if self.key_prefix.len() > prefix_max {
            return Err(format!("--key-prefix has at most {prefix_max} bytes"));
        }
        Ok(self)
    }

    /// Requests in flight at once, over all connections.
    pub fn in_flight(&self) -> usize {
        self.conns * self.pipeline
    }
}

/// R or W; 0 if it is not given, which is not the same as 0.
fn replicas(matches: &Matches, option: &str) -> Result<u8, String> {
    let count = value(matches, option, 0)?;
    if matches.opt_present(option) && !(1..=REPLICAS_MAX).contains(&usize::from(count)) {
        return Err(format!("-{option} is 1 to {REPLICAS_MAX}, not {count}"));
    }
    Ok(count)
}

fn until(matches: &Matches) -> Result<Until, String> {
    if matches.opt_present("ops") {
        if matches.opt_present("duration") {
            return Err("give --ops or --duration, not both".to_owned());
        }
        return match value(matches, "ops", 0)? {
            0 => Err("--ops is 1 or more".to_owned()),
            ops => Ok(Until::Ops(ops)),
        };
    }
    let seconds: f64 = value(matches, "duration", DURATION_DEFAULT_S)?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() => Ok(Until::Elapsed(duration)),
        Ok(_) | Err(_) => Err("--duration is a number of seconds above 0".to_owned()),
    }
}

/// Says what is wrong with the command line; the exit code.
pub fn usage_error(what: &str) -> ExitCode {
    program().usage_error(&what)
}

fn program() -> Program {
    let mut options = Options::new();
    options
        .optopt(
            "",
            "manager",
            "the manager, or any node ($GTSTORE_MANAGER, else 127.0.0.1:7400); several are tried in turn",
            "HOST:PORT[,...]",
        )
        .optopt("c", "conns", "connections (50)", "C")
        .optopt("p", "pipeline", "requests in flight on each connection (1)", "P")
        .optopt("", "ops", "stop after so many operations", "N")
        .optopt("", "duration", "stop after so long (10)", "SECONDS")
        .optopt(
            "",
            "rate",
            "operations begun in each second, whatever becomes of those before; times count from when \
             each was to begin (0: as many as are answered)",
            "N",
        )
        .optopt("", "ratio", "fraction of operations that are gets, 0 to 1 (0.5)", "R")
        .optopt("", "value-bytes", "size of each value (100)", "BYTES")
        .optopt("", "keys", "how many keys there are to choose from (100000)", "K")
        .optopt("", "key-prefix", "what stands before each key's number (load:)", "TEXT")
        .optopt("k", "keyspace", "keyspace to read and write (default)", "NAME")
        .optopt("", "seed", "repeats a sequence of operations (random)", "S")
        .optopt(
            "",
            "routing",
            "'forwarder': connections are spread over the nodes, and each asks its own; 'direct': each \
             request goes to an owner of its key, --conns times --pipeline in flight in all (forwarder)",
            "HOW",
        )
        .optopt("r", "", "copies a get must agree with (the keyspace's)", "R")
        .optopt("w", "", "copies a put must be stored in (the keyspace's)", "W")
        .optopt("", "timeout-ms", "how long each request is waited for (2000)", "MS")
        .optflag(
            "",
            "no-retry",
            "count requests whose connection is lost as errors; else they are asked once more, elsewhere",
        )
        .optopt("o", "output", "form of the result: 'table' or 'json'", "FORM");
    Program {
        name: NAME,
        summary: "puts load on a GTStore cluster.\n\n\
                  Says how it goes each second on stderr, and how it went on stdout. Every answer is checked.\n\
                  Exits with 0 if all went well, 1 if there were errors, 2 for a wrong command line. Ctrl-C\n\
                  ends the load early.",
        examples: &[
            ("gtstore-load", "10 seconds of half gets, half puts over 50 connections"),
            (
                "gtstore-load --ops 1000000 --ratio 0",
                "puts alone; of the usual 100000 keys hardly one is left out",
            ),
            ("gtstore-load --conns 8 --pipeline 64 --routing direct --ratio 0.95", "a busy cache's mix"),
        ],
        options,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(args: &[&str]) -> Result<Settings, String> {
        let matches = program().options.parse(args).unwrap();
        Settings::from_matches(&matches, None)
    }

    #[test]
    fn a_bare_command_line_is_ten_seconds_of_half_gets_half_puts() {
        let settings = settings(&[]).unwrap();
        assert_eq!(settings.managers, [MANAGER_DEFAULT]);
        assert_eq!((settings.conns, settings.pipeline, settings.in_flight()), (50, 1, 50));
        assert_eq!(settings.until, Until::Elapsed(Duration::from_secs(10)));
        assert_eq!((settings.ratio, settings.value_bytes, settings.keys), (0.5, 100, 100_000));
        assert_eq!((settings.r, settings.w, settings.timeout_ms), (0, 0, REQUEST_TTL_MS));
        assert_eq!((settings.routing, settings.output), (Routing::Forwarder, Output::Table));
    }

    #[test]
    fn every_option_is_heard() {
        let line = "--manager a:1,b:2 --conns 3 --pipeline 7 --ops 9 --ratio 0.9 --value-bytes 4K --keys 11 \
                    --key-prefix p -k other --seed 5 --routing direct -r 1 -w 3 --timeout-ms 50 -o json";
        let settings = settings(&line.split_whitespace().collect::<Vec<_>>()).unwrap();
        assert_eq!(settings.managers, ["a:1", "b:2"]);
        assert_eq!((settings.conns, settings.pipeline, settings.until), (3, 7, Until::Ops(9)));
        assert_eq!((settings.ratio, settings.value_bytes, settings.keys), (0.9, 4096, 11));
        assert_eq!((settings.key_prefix.as_str(), settings.keyspace.as_str()), ("p", "other"));
        assert_eq!((settings.seed, settings.r, settings.w, settings.timeout_ms), (5, 1, 3, 50));
        assert_eq!((settings.routing, settings.output), (Routing::Direct, Output::Json));
    }

    #[test]
    fn values_that_cannot_work_are_refused_by_name() {
        for (args, names) in [
            (&["--conns", "0"][..], "--conns"),
            (&["--conns", "5000"], "--conns"),
            (&["--pipeline", "0"], "--pipeline"),
            (&["--pipeline", "1000000"], "--pipeline"),
            (&["--ops", "0"], "--ops"),
            (&["--ops", "5", "--duration", "1"], "--duration"),
            (&["--duration", "0"], "--duration"),
            (&["--duration", "-1"], "--duration"),
            (&["--duration", "NaN"], "--duration"),
            (&["--ratio", "1.1"], "--ratio"),
            (&["--ratio", "NaN"], "--ratio"),
            (&["--value-bytes", "2M"], "--value-bytes"),
            (&["--keys", "0"], "--keys"),
            (&["--key-prefix", &"x".repeat(KEY_BYTES_MAX)], "--key-prefix"),
            (&["--routing", "fastest"], "--routing"),
            (&["-r", "8"], "-r"),
            (&["-r", "0"], "-r"),
            (&["-k", ""], "-k"),
            (&["-w", "x"], "-w"),
            (&["--timeout-ms", "0"], "--timeout-ms"),
            (&["-o", "xml"], "-o"),
            (&["--manager", "nowhere"], "--manager"),
        ] {
            let error = settings(args).unwrap_err();
            assert!(error.contains(names), "{args:?}: {error}");
        }
    }
}
