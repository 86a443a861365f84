//! What the binaries' command lines have in common: `--help`, `--version`, usage errors, and
//! values such as addresses and sizes.

#![allow(clippy::print_stdout, clippy::print_stderr)] // Answering the user is the job here.

use getopts::{Matches, Options};
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::str::FromStr;

/// Exit code of a command line that cannot be understood.
pub const EXIT_USAGE: u8 = 2;

/// A program's command line.
#[derive(Debug)]
pub struct Program {
    /// Its name, as in messages.
    pub name: &'static str,
    /// What it is, in a line or a few.
    pub summary: &'static str,
    /// Command lines that work as they stand, each with what it does.
    pub examples: &'static [(&'static str, &'static str)],
    /// Its options; `--help` and `--version` are added to them.
    pub options: Options,
}

impl Program {
    /// Reads the arguments that follow the program's name. Positional ones are not taken.
    ///
    /// # Errors
    /// The exit code of a process that has nothing more to do: it has printed its help, its
    /// version or what is wrong.
    pub fn parse(&mut self, args: &[String]) -> Result<Matches, ExitCode> {
        self.parse_also(args, &[])
    }

    /// As [`parse`](Self::parse), with further options (name, hint) that `--help` leaves out: what
    /// hardly anybody needs is in the README alone.
    ///
    /// # Errors
    /// As for [`parse`](Self::parse).
    pub fn parse_also(&mut self, args: &[String], hidden: &[(&str, &str)]) -> Result<Matches, ExitCode> {
        self.options.optflag("h", "help", "print this help");
        self.options.optflag("V", "version", "print the version");
        let help = self.help();
        for (name, hint) in hidden {
            self.options.optopt("", name, "", hint);
        }
        let matches = self.options.parse(args).map_err(|error| self.usage_error(&error))?;
        if matches.opt_present("help") {
            print!("{help}");
            return Err(ExitCode::SUCCESS);
        }
        if matches.opt_present("version") {
            println!("{} {}", self.name, env!("CARGO_PKG_VERSION"));
            return Err(ExitCode::SUCCESS);
        }
        if let Some(stray) = matches.free.first() {
            return Err(self.usage_error(&format_args!("unexpected argument '{stray}'")));
        }
        Ok(matches)
    }

    /// Says what is wrong with the command line.
    pub fn usage_error(&self, what: &dyn Display) -> ExitCode {
        eprintln!("{name}: {what}\nTry '{name} --help'.", name = self.name);
        ExitCode::from(EXIT_USAGE)
    }

    /// The text of `--help`.
    #[must_use]
    pub fn help(&self) -> String {
        let head = format!("{} - {}\n\nUsage: {} [OPTIONS]", self.name, self.summary, self.name);
        let mut text = self.options.usage(&head);
        text.push_str("\nExamples:\n");
        for (line, what) in self.examples {
            text.push_str(&format!("    {line}\n        {what}\n"));
        }
        text
    }
}

/// The process's arguments after its name. Bytes that are no text become U+FFFD: no command line
/// may end the process with anything but a usage error.
#[must_use]
pub fn of_process() -> Vec<String> {
    std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect()
}

/// The value of an option, or its default; the error names the option.
///
/// # Errors
/// The value is not one of its kind.
pub fn value<T: FromStr>(matches: &Matches, option: &str, default: T) -> Result<T, String> {
    Ok(given(matches, option)?.unwrap_or(default))
}

/// The value of an option, if it was given; the error names the option.
///
/// # Errors
/// The value is not one of its kind.
pub fn given<T: FromStr>(matches: &Matches, option: &str) -> Result<Option<T>, String> {
    let text = matches.opt_str(option);
    text.map(|text| text.parse().map_err(|_| format!("--{option} cannot be '{text}'"))).transpose()
}

/// `HOST:PORT` as an address to listen on. A name is resolved, which may block.
///
/// # Errors
/// What is wrong with it, in words.
pub fn listen_addr(text: &str) -> Result<SocketAddr, String> {
    if let Ok(addr) = text.parse() {
        return Ok(addr);
    }
    check_addr(text)?;
    let mut found = text.to_socket_addrs().map_err(|error| format!("cannot resolve '{text}': {error}"))?;
    found.next().ok_or_else(|| format!("'{text}' has no address"))
}

/// `HOST:PORT[,HOST:PORT...]`, each with the looks of an address. Nothing is resolved.
///
/// # Errors
/// Which one is no address.
pub fn addr_list(text: &str) -> Result<Vec<String>, String> {
    text.split(',').map(|addr| check_addr(addr.trim())).collect()
}

/// `HOST:PORT` where others are to reach this process.
///
/// # Errors
/// It is not of that form, or nobody can be reached there.
pub fn reachable_addr(text: &str) -> Result<String, String> {
    let addr = check_addr(text)?;
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let ip: Option<IpAddr> = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
    if ip.is_some_and(|ip| ip.is_unspecified()) {
        return Err(format!("'{text}' is no address to reach anybody at: name this machine, as in n1:7401"));
    }
    if port.parse() == Ok(0) {
        return Err(format!("'{text}' has port 0, at which nobody is reached: name the port listened on"));
    }
    Ok(addr)
}

/// `HOST:PORT`, as it stands.
///
/// # Errors
/// It is not of that form.
pub fn check_addr(text: &str) -> Result<String, String> {
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let is_strange = |letter: char| letter.is_control() || letter.is_whitespace();
    if host.is_empty()
        || port.parse::<u16>().is_err()
        || text.contains(is_strange)
        || text.len() > crate::limits::ADDR_BYTES_MAX
    {
        let text = text.escape_debug();
        return Err(format!("'{text}' is not HOST:PORT, as in 127.0.0.1:7400"));
    }
    Ok(text.to_owned())
}

/// A number of bytes: plain, or with `K`, `M` or `G` (also `KiB`, `MiB`, `GiB`) for powers of 1024.
///
/// # Errors
/// It is not one.
pub fn size(text: &str) -> Result<u64, String> {
    let letters = text.strip_suffix("iB").unwrap_or(text);
    let (digits, shift) = match letters.as_bytes().last() {
        Some(b'k' | b'K') => (&letters[..letters.len() - 1], 10),
        Some(b'm' | b'M') => (&letters[..letters.len() - 1], 20),
        Some(b'g' | b'G') => (&letters[..letters.len() - 1], 30),
        Some(_) | None => (text, 0),
    };
    let count: Option<u64> = digits.parse().ok();
    count
        .and_then(|count| count.checked_mul(1 << shift))
        .ok_or_else(|| format!("'{text}' is not a size: use a number of bytes, or 64KiB, 16MiB, 1GiB"))
}

/// A span of time with its unit, in milliseconds: `1500ms`, `10s`, `5m`, `2h`, `1d`.
///
/// # Errors
/// It is not one, or none at all.
pub fn span_ms(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 5] =
        [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let unit_ms = UNITS.iter().find(|entry| entry.0 == unit).map(|entry| entry.1);
    let count = digits.parse::<u64>().ok().filter(|&count| count > 0);
    count
        .and_then(|count| count.checked_mul(unit_ms?))
        .ok_or_else(|| format!("'{text}' is not a span of time: use 1500ms, 10s, 5m, 2h or 1d"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program() -> Program {
        let mut options = Options::new();
        options.optopt("", "listen", "where to listen", "HOST:PORT");
        Program { name: "thing", summary: "does things", examples: &[("thing", "does one")], options }
    }

    fn parse(args: &[&str]) -> Result<Matches, ExitCode> {
        program().parse(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_not_understood_is_a_usage_error_and_help_is_not() {
        let code = |result: Result<Matches, ExitCode>| format!("{:?}", result.unwrap_err());
        let usage = format!("{:?}", ExitCode::from(EXIT_USAGE));
        assert_eq!(code(parse(&["--nonsense"])), usage);
        assert_eq!(code(parse(&["stray"])), usage);
        assert_eq!(code(parse(&["--help"])), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(code(parse(&["-V"])), format!("{:?}", ExitCode::SUCCESS));
        assert!(parse(&["--listen", "x"]).is_ok());
    }

    #[test]
    fn addresses_are_hosts_with_ports() {
        assert_eq!(addr_list("a:1, [::1]:2").unwrap(), ["a:1", "[::1]:2"]);
        for wrong in ["", "a", ":1", "a:", "a:x", "a:70000", "a:1,,b:2", "a\tb:1", "a b:1"] {
            assert!(addr_list(wrong).is_err(), "{wrong}");
        }
        for wrong in ["0.0.0.0:1", "[::]:7401", "a:0", "a"] {
            assert!(reachable_addr(wrong).is_err(), "{wrong}");
        }
        assert_eq!(reachable_addr("[::1]:7401").unwrap(), "[::1]:7401");
        assert_eq!(listen_addr("127.0.0.1:0").unwrap().port(), 0);
        assert!(listen_addr("127.0.0.1").is_err());
    }

    #[test]
    fn spans_of_time_have_units_and_are_not_nothing() {
        for (text, ms) in
            [("1500ms", 1500), ("10s", 10_000), ("5m", 300_000), ("2h", 7_200_000), ("1d", 86_400_000)]
        {
            assert_eq!(span_ms(text), Ok(ms));
        }
        for wrong in [
            "",
            "10",
            "s",
            "0s",
            "-1s",
            "+1s",
            "1.5s",
            "1 s",
            "1S",
            "1w",
            "1m30s",
            "999999999999999999d",
            "1é",
        ] {
            assert!(span_ms(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!((size("7"), size("64K"), size("1g")), (Ok(7), Ok(65536), Ok(1 << 30)));
        assert_eq!((size("64KiB"), size("16MiB"), size("1GiB")), (Ok(65536), Ok(16 << 20), Ok(1 << 30)));
        for wrong in ["", "K", "iB", "7iB", "-1", "1.5M", "99999999999G", "1kB", "ü"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
