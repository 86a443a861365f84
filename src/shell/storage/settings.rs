//! The storage node's command line.

use super::NAME;
use crate::shell::args::{Program, addr_list, check_addr, listen_addr, value};
use getopts::{Matches, Options};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

const LISTEN_DEFAULT: &str = "127.0.0.1:7401";
const MANAGER_DEFAULT: &str = "127.0.0.1:7400";
const MANAGER_ENV: &str = "GTSTORE_MANAGER";
const WEIGHT_DEFAULT: u16 = 100;
const ZONE_BYTES_MAX: usize = 64;

/// What the command line says.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) managers: Vec<String>,
    pub(super) listen: SocketAddr,
    advertise: Option<String>,
    data_dir: Option<PathBuf>,
    pub(super) zone: String,
    pub(super) weight: u16,
}

impl Settings {
    pub(super) fn from_args(args: &[String]) -> Result<Self, ExitCode> {
        let mut program = program();
        let matches = program.parse(args)?;
        let manager_env = std::env::var(MANAGER_ENV).ok();
        Self::from_matches(&matches, manager_env).map_err(|what| program.usage_error(&what))
    }

    fn from_matches(matches: &Matches, manager_env: Option<String>) -> Result<Self, String> {
        let managers =
            matches.opt_str("manager").or(manager_env).unwrap_or_else(|| MANAGER_DEFAULT.to_owned());
        let listen = matches.opt_str("listen").unwrap_or_else(|| LISTEN_DEFAULT.to_owned());
        let advertise = matches.opt_str("advertise").map(|addr| check_addr(&addr)).transpose();
        let settings = Self {
            managers: addr_list(&managers).map_err(|error| format!("--manager: {error}"))?,
            listen: listen_addr(&listen).map_err(|error| format!("--listen: {error}"))?,
            advertise: advertise.map_err(|error| format!("--advertise: {error}"))?,
            data_dir: matches.opt_str("data-dir").map(PathBuf::from),
            zone: matches.opt_str("zone").unwrap_or_default(),
            weight: value(matches, "weight", WEIGHT_DEFAULT)?,
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
        .optopt("", "weight", "share of the data relative to other nodes (100)", "W");
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
        ],
        options,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(args: &[&str], env: Option<&str>) -> Result<Settings, String> {
        let matches = program().options.parse(args).unwrap();
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
            (&["--zone", &"z".repeat(65)], "--zone"),
        ] {
            let error = settings(args, None).unwrap_err();
            assert!(error.contains(names), "{args:?}: {error}");
        }
    }

    #[test]
    fn defaults_follow_the_port_that_was_bound() {
        let bound = "127.0.0.1:4242".parse().unwrap();
        let settings = settings(&["--listen", "127.0.0.1:0"], None).unwrap();
        assert_eq!(settings.advertised(bound), "127.0.0.1:4242");
        assert_eq!(settings.data_dir(bound), PathBuf::from("gtstore-data/storage-4242"));
    }
}
