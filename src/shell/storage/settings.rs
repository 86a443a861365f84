//! The storage node's command line.

use super::NAME;
use super::inspect::Inspection;
use crate::limits::{
    COMPARE_EVERY_MS, HINT_BYTES_MAX, REAP_AFTER_MS, SCRUB_BYTES_PER_SECOND, SEGMENT_BYTES,
    SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN,
};
use crate::shell::args::{Program, addr_list, listen_addr, reachable_addr, size, value};
use crate::shell::memory::memory_bytes;
use getopts::{Matches, Options};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

const LISTEN_DEFAULT: &str = "127.0.0.1:7401";
const MANAGER_DEFAULT: &str = "127.0.0.1:7400";
const MANAGER_ENV: &str = "GTSTORE_MANAGER";
const WEIGHT_DEFAULT: u16 = 100;
const ZONE_BYTES_MAX: usize = 64;
/// Options that `--help` leaves out.
const HIDDEN: &[(&str, &str)] = &[("segment-bytes", "SIZE"), ("scrub-bytes-per-second", "SIZE")];

/// What the command line says.
#[derive(Debug)]
pub(super) struct Settings {
    /// Look at a directory instead of running.
    pub(super) inspection: Option<Inspection>,
    pub(super) managers: Vec<String>,
    pub(super) listen: SocketAddr,
    advertise: Option<String>,
    data_dir: Option<PathBuf>,
    pub(super) zone: String,
    pub(super) weight: u16,
    pub(super) manual: bool,
    pub(super) leave_on_stop: bool,
    /// 0: as many as clients leave room for.
    pub(super) transfer_bytes_per_second: u64,
    pub(super) cache_bytes: usize,
    pub(super) segment_bytes: u64,
    pub(super) scrub_bytes_per_second: u64,
    pub(super) hint_bytes_max: u64,
    /// How long owners wait before they compare their copies again.
    pub(super) compare_every_ms: u64,
    /// How long a tombstone stays at least.
    pub(super) reap_after_ms: u64,
    pub(super) allow_fault_injection: bool,
    /// None: as the file system is.
    pub(super) disk_reserve_bytes: Option<u64>,
}

impl Settings {
    pub(super) fn from_args(args: &[String]) -> Result<Self, ExitCode> {
        let mut program = program();
        let matches = program.parse_also(args, HIDDEN)?;
        let manager_env = std::env::var(MANAGER_ENV).ok();
        Self::from_matches(&matches, manager_env).map_err(|what| program.usage_error(&what))
    }

    fn from_matches(matches: &Matches, manager_env: Option<String>) -> Result<Self, String> {
        let managers =
            matches.opt_str("manager").or(manager_env).unwrap_or_else(|| MANAGER_DEFAULT.to_owned());
        let listen = matches.opt_str("listen").unwrap_or_else(|| LISTEN_DEFAULT.to_owned());
        let advertise = matches.opt_str("advertise").map(|addr| reachable_addr(&addr)).transpose();
        let inspection = match (matches.opt_str("check"), matches.opt_str("dump")) {
            (Some(_), Some(_)) => return Err("--check and --dump are two runs".to_owned()),
            (Some(dir), None) => Some(Inspection::Check(PathBuf::from(dir))),
            (None, Some(dir)) => Some(Inspection::Dump(PathBuf::from(dir))),
            (None, None) => None,
        };
        let settings = Self {
            inspection,
            managers: addr_list(&managers).map_err(|error| format!("--manager: {error}"))?,
            listen: listen_addr(&listen).map_err(|error| format!("--listen: {error}"))?,
            advertise: advertise.map_err(|error| format!("--advertise: {error}"))?,
            data_dir: matches.opt_str("data-dir").map(PathBuf::from),
            zone: matches.opt_str("zone").unwrap_or_default(),
            weight: value(matches, "weight", WEIGHT_DEFAULT)?,
            manual: matches.opt_present("manual"),
            leave_on_stop: matches.opt_present("leave-on-stop"),
            transfer_bytes_per_second: size_of(matches, "transfer-bytes-per-second")?.unwrap_or(0),
            cache_bytes: cache_bytes(matches)?,
            segment_bytes: size_of(matches, "segment-bytes")?.unwrap_or(SEGMENT_BYTES),
            scrub_bytes_per_second: size_of(matches, "scrub-bytes-per-second")?
                .unwrap_or(SCRUB_BYTES_PER_SECOND),
            hint_bytes_max: size_of(matches, "hint-bytes")?.unwrap_or(HINT_BYTES_MAX),
            compare_every_ms: value::<u64>(matches, "compare-every", COMPARE_EVERY_MS / 1000)?
                .saturating_mul(1000),
            reap_after_ms: value::<u64>(matches, "reap-after", REAP_AFTER_MS / 1000)?.saturating_mul(1000),
            allow_fault_injection: matches.opt_present("allow-fault-injection"),
            disk_reserve_bytes: size_of(matches, "disk-reserve-bytes")?,
        };
        settings.validate()
    }

    fn validate(self) -> Result<Self, String> {
        if self.weight == 0 {
            return Err("--weight is 1 or more; 100 is the usual".to_owned());
        }
        if self.zone.len() > ZONE_BYTES_MAX {
            return Err(format!("--zone has at most {ZONE_BYTES_MAX} bytes"));
        }
        if self.zone.contains(char::is_control) {
            return Err("--zone is a name without tabs, newlines and other control characters".to_owned());
        }
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes) {
            return Err("--segment-bytes is 64KiB to 1GiB".to_owned());
        }
        if self.listen.ip().is_unspecified() && self.advertise.is_none() {
            return Err(format!(
                "--listen {} is every address of this machine: \
                 say with --advertise HOST:PORT where the others reach it",
                self.listen
            ));
        }
        Ok(self)
    }

    /// What others are told to dial, once the port is known.
    pub(super) fn advertised(&self, bound: SocketAddr) -> String {
        self.advertise.clone().unwrap_or_else(|| bound.to_string())
    }

    /// Where the data is, once the port is known.
    pub(super) fn data_dir(&self, bound: SocketAddr) -> PathBuf {
        let default = || PathBuf::from(format!("gtstore-data/storage-{}", bound.port()));
        self.data_dir.clone().unwrap_or_else(default)
    }
}

/// The size that an option gives.
fn size_of(matches: &Matches, option: &str) -> Result<Option<u64>, String> {
    let given = matches.opt_str(option).map(|text| size(&text)).transpose();
    given.map_err(|error| format!("--{option}: {error}"))
}

/// Usually a quarter of the memory: the index, which is not in it, and the page cache need some too.
fn cache_bytes(matches: &Matches) -> Result<usize, String> {
    let bytes = size_of(matches, "cache-bytes")?.unwrap_or_else(|| memory_bytes() / 4);
    usize::try_from(bytes).map_err(|_| "--cache-bytes is more than this machine can address".to_owned())
}

fn program() -> Program {
    let mut options = Options::new();
    options
        .optopt(
            "",
            "manager",
            "where the manager is ($GTSTORE_MANAGER, else 127.0.0.1:7400); several are tried in turn",
            "HOST:PORT[,...]",
        )
        .optopt("", "listen", "where to listen (127.0.0.1:7401); port 0 picks a free one", "HOST:PORT")
        .optopt("", "advertise", "where others reach this node (the address listened on)", "HOST:PORT")
        .optopt("", "data-dir", "where the data is kept (gtstore-data/storage-PORT)", "DIR")
        .optopt("", "zone", "what fails together with this node; copies go to different zones", "NAME")
        .optopt("", "weight", "share of the data relative to other nodes (100)", "W")
        .optflag("", "manual", "own nothing before `gtstore cluster join` says so")
        .optflag("", "leave-on-stop", "when told to stop, hand everything over first, and leave for good")
        .optopt(
            "",
            "transfer-bytes-per-second",
            "bytes of moving sectors sent in a second; 0: as many as clients leave room for (0)",
            "SIZE",
        )
        .optopt("", "cache-bytes", "memory for values, as 512MiB (a quarter of the machine's)", "SIZE")
        .optopt("", "hint-bytes", "disk for what each node that is away misses (64MiB)", "SIZE")
        .optopt(
            "",
            "compare-every",
            "how long owners wait before they compare their copies again; 0: never (10)",
            "SECONDS",
        )
        .optopt(
            "",
            "reap-after",
            "least age of a tombstone before it goes; above all requests and clock errors (600)",
            "SECONDS",
        )
        .optopt(
            "",
            "disk-reserve-bytes",
            "free space below which puts are refused (1 % of the disk, 64MiB to 4GiB)",
            "SIZE",
        )
        .optopt(
            "",
            "check",
            "verify a data directory that no node runs on, change nothing, and exit: \
             0 if it is sound, 1 if anything is damaged",
            "DIR",
        )
        .optflag(
            "",
            "allow-fault-injection",
            "let clients cut this node off from others ('partition' of gtstore dev): for demonstrations, \
             never where data matters",
        )
        .optopt("", "dump", "print its log records as JSON Lines, and exit likewise", "DIR");
    Program {
        name: NAME,
        summary: "stores keys as one node of a GTStore cluster.",
        examples: &[
            ("gtstore-storage", "a node on 127.0.0.1:7401, of the manager on 127.0.0.1:7400"),
            ("gtstore-storage --listen 127.0.0.1:0 --data-dir /tmp/n2", "one more, on a free port"),
            (
                "gtstore-storage --manager m1:7400 --listen 0.0.0.0:7401 --advertise n1:7401 --zone rack-1",
                "one of a cluster over several machines",
            ),
            ("gtstore-storage --check /tmp/n2", "whether a stopped node's data is sound"),
        ],
        options,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(args: &[&str], env: Option<&str>) -> Result<Settings, String> {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let matches = program().parse_also(&args, HIDDEN).unwrap();
        Settings::from_matches(&matches, env.map(str::to_owned))
    }

    #[test]
    fn the_manager_is_the_options_then_the_environments_then_the_default() {
        assert_eq!(settings(&[], None).unwrap().managers, [MANAGER_DEFAULT]);
        assert_eq!(settings(&[], Some("a:1,b:2")).unwrap().managers, ["a:1", "b:2"]);
        assert_eq!(settings(&["--manager", "c:3"], Some("a:1")).unwrap().managers, ["c:3"]);
    }

    #[test]
    fn values_that_cannot_work_are_refused_by_name() {
        for (args, names) in [
            (&["--weight", "0"][..], "--weight"),
            (&["--weight", "x"], "--weight"),
            (&["--manager", "nowhere"], "--manager"),
            (&["--listen", "7401"], "--listen"),
            (&["--listen", "0.0.0.0:7401"], "--advertise"),
            (&["--advertise", "x"], "--advertise"),
            (&["--advertise", "0.0.0.0:1"], "--advertise"),
            (&["--listen", "0.0.0.0:7401", "--advertise", "n1:0"], "--advertise"),
            (&["--cache-bytes", "x"], "--cache-bytes"),
            (&["--disk-reserve-bytes", "1.5G"], "--disk-reserve-bytes"),
            (&["--segment-bytes", "63K"], "--segment-bytes"),
            (&["--segment-bytes", "2G"], "--segment-bytes"),
            (&["--zone", &"z".repeat(65)], "--zone"),
            (&["--zone", "a\tb"], "--zone"),
            (&["--zone", "a\n"], "--zone"),
        ] {
            let error = settings(args, None).unwrap_err();
            assert!(error.contains(names), "{args:?}: {error}");
        }
    }

    #[test]
    fn sizes_have_defaults_and_one_that_few_need_is_not_in_the_help() {
        let usual = settings(&[], None).unwrap();
        assert_eq!((usual.segment_bytes, usual.disk_reserve_bytes), (64 << 20, None));
        assert!(usual.cache_bytes > 0);
        let args = ["--cache-bytes", "0", "--segment-bytes", "64KiB", "--disk-reserve-bytes", "1GiB"];
        let said = settings(&args, None).unwrap();
        assert_eq!(
            (said.cache_bytes, said.segment_bytes, said.disk_reserve_bytes),
            (0, 64 << 10, Some(1 << 30))
        );
        let help = program().help();
        assert!(help.contains("--cache-bytes") && help.contains("--disk-reserve-bytes"));
        assert!(!help.contains("--segment-bytes"));
    }

    #[test]
    fn a_directory_is_looked_at_in_one_way_at_a_time() {
        let check = settings(&["--check", "d"], None).unwrap().inspection;
        assert_eq!(check, Some(Inspection::Check(PathBuf::from("d"))));
        assert_eq!(settings(&[], None).unwrap().inspection, None);
        assert!(settings(&["--check", "d", "--dump", "d"], None).is_err());
    }

    #[test]
    fn defaults_follow_the_port_that_was_bound() {
        let bound = "127.0.0.1:4242".parse().unwrap();
        let settings = settings(&["--listen", "127.0.0.1:0"], None).unwrap();
        assert_eq!(settings.advertised(bound), "127.0.0.1:4242");
        assert_eq!(settings.data_dir(bound), PathBuf::from("gtstore-data/storage-4242"));
    }
}
