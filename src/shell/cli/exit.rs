//! Exit codes, and failures on their way to one.

use crate::client::{Error, ErrorKind, Reason};
use std::fmt;
use std::io;
use std::process::ExitCode;

/// How a command ends. The numbers are part of the command line's contract.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    /// 0: done.
    Ok,
    /// 1: an error that is none of the others.
    Error,
    /// 2: the command, an option or an argument is wrong.
    Usage,
    /// 3: no such key.
    NotFound,
    /// 4: too few nodes could be reached or answered in time, and nothing was applied.
    Unavailable,
    /// 5: a write may or may not have been applied.
    Unknown,
    /// 6: not applied, because of what is there already.
    Conflict,
    /// 7: `health` has found something that is not well.
    NotWell,
    /// 141: whoever read our output has closed it. Other programs die of SIGPIPE there, which shells
    /// tell as this.
    NoReader,
    /// What `exit CODE` in the shell says.
    Asked(u8),
}

impl Exit {
    fn code(self) -> u8 {
        match self {
            Exit::Ok => 0,
            Exit::Error => 1,
            Exit::Usage => 2,
            Exit::NotFound => 3,
            Exit::Unavailable => 4,
            Exit::Unknown => 5,
            Exit::Conflict => 6,
            Exit::NotWell => 7,
            Exit::NoReader => 141,
            Exit::Asked(code) => code,
        }
    }
}

/// A command that did not succeed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Failure {
    /// How the process ends.
    pub(crate) exit: Exit,
    /// For stderr; empty when everything has been said.
    pub(crate) text: String,
}

/// What a command comes to.
pub(crate) type CommandResult = Result<(), Failure>;

impl Failure {
    /// A failure of this kind, in words.
    pub(crate) fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into() }
    }

    /// A command line that cannot be understood.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::new(Exit::Usage, format!("{}\nTry 'gtstore help'.", text.into()))
    }

    /// Arguments that a command cannot be given.
    pub(crate) fn usage_of(command: &str, text: &str) -> Self {
        Self::new(Exit::Usage, format!("{text}\nTry 'gtstore help {command}'."))
    }

    /// A failed call, with what it was about.
    pub(crate) fn of(what: &str, error: &Error) -> Self {
        Self::new(exit_of(error), format!("{what}: {error}"))
    }
}

/// The exit code of a failed call.
pub(crate) fn exit_of(error: &Error) -> Exit {
    match error.kind {
        ErrorKind::Unknown => Exit::Unknown,
        ErrorKind::Conflict => Exit::Conflict,
        ErrorKind::Usage => Exit::Usage,
        ErrorKind::Timeout => Exit::Unavailable,
        ErrorKind::Refused => Exit::Error,
        ErrorKind::Failed => match error.reason {
            Some(
                Reason::NotServing { .. }
                | Reason::NoQuorum
                | Reason::Unconfirmed
                | Reason::Overloaded
                | Reason::Expired
                | Reason::NotOwner(_)
                | Reason::Stopping
                | Reason::DiskFull { .. }
                | Reason::Unreadable { .. },
            ) => Exit::Unavailable,
            Some(
                Reason::EmptyKey
                | Reason::KeyTooLong { .. }
                | Reason::ValueTooLarge { .. }
                | Reason::TooManySiblings { .. }
                | Reason::UnknownKeyspace
                | Reason::BadQuorum { .. }
                | Reason::NotOnDataPath,
            ) => Exit::Error,
            // Nobody could be asked.
            None => Exit::Unavailable,
        },
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(exit_of(&error), error.to_string())
    }
}

impl From<io::Error> for Failure {
    /// Whoever read our output has had enough: that is no failure worth words.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(Exit::NoReader, "");
        }
        Self::new(Exit::Error, error.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::NodeId;

    #[test]
    fn each_outcome_has_its_own_code() {
        let failed = |kind, reason| {
            let mut error = Error::new(kind, "");
            error.reason = reason;
            exit_of(&error).code()
        };
        assert_eq!(failed(ErrorKind::Failed, Some(Reason::NoQuorum)), 4);
        assert_eq!(failed(ErrorKind::Failed, Some(Reason::NotServing { members: 1, needed: 3 })), 4);
        assert_eq!(failed(ErrorKind::Failed, Some(Reason::DiskFull { node: NodeId(2) })), 4);
        assert_eq!(failed(ErrorKind::Timeout, None), 4);
        assert_eq!(failed(ErrorKind::Unknown, Some(Reason::Unconfirmed)), 5);
        assert_eq!(failed(ErrorKind::Conflict, Some(Reason::TooManySiblings { max: 64 })), 6);
        assert_eq!(failed(ErrorKind::Usage, Some(Reason::EmptyKey)), 2);
        assert_eq!(failed(ErrorKind::Failed, None), 4);
        assert_eq!(failed(ErrorKind::Refused, None), 1);
    }
}
