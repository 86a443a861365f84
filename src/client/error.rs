//! What a call can fail with: an enum that says what is known of the write, and words that say
//! what failed, how many answered, and what to do next.

use crate::wire::client::{Outcome, Provenance, Reason, TraceStep};
use std::fmt;

/// What is known of a call that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorKind {
    /// Not done, and provably nothing was written: too few owners, or nobody could be asked.
    Failed,
    /// Not done: whoever was asked said why, in words.
    Refused,
    /// A write that may or may not have been applied. Read the key before repeating it.
    Unknown,
    /// Not applied, because of what is there already.
    Conflict,
    /// A read that was not answered in time.
    Timeout,
    /// The call itself is wrong: a limit, a name, a quorum. It will never succeed as it is.
    Usage,
}

/// What to do when nobody could be reached.
pub(crate) const CHECK_ADDRESS: &str = "; check that it runs and that the address is right";

/// A failed call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Error {
    /// What is known of it.
    pub kind: ErrorKind,
    /// The server's last reason, if it came to one.
    pub reason: Option<Reason>,
    /// Replica slots that answered, as far as the server told.
    pub answered: u8,
    /// Replica slots needed; 0 if no coordinator counted.
    pub needed: u8,
    /// Replica slots there are; 0 if no coordinator counted.
    pub slots: u8,
    /// What each node did as far as the server told, if that was asked for.
    pub trace: Vec<TraceStep>,
    /// What failed, in words, and what to do about it.
    pub text: String,
}

/// What kind of call failed: the same refusal means different things to each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Intent {
    /// It writes nothing.
    Read,
    /// It writes, and no attempt can have been applied.
    WriteUnapplied,
    /// It writes, and some attempt may have been applied.
    WriteMaybeApplied,
}

impl Error {
    /// An error that no coordinator counted for.
    #[must_use]
    pub fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self { kind, reason: None, answered: 0, needed: 0, slots: 0, trace: Vec::new(), text: text.into() }
    }

    /// From a server's refusal.
    pub(crate) fn refused(intent: Intent, reason: Reason, by: &Provenance) -> Self {
        let kind = match (intent, reason.outcome()) {
            (Intent::WriteMaybeApplied, _) | (Intent::WriteUnapplied, Outcome::Unknown) => ErrorKind::Unknown,
            (Intent::Read, Outcome::Unknown) => ErrorKind::Timeout,
            (Intent::Read, Outcome::Failed) if reason == Reason::Expired => ErrorKind::Timeout,
            (Intent::Read | Intent::WriteUnapplied, Outcome::Conflict) => ErrorKind::Conflict,
            (Intent::Read | Intent::WriteUnapplied, Outcome::Failed) => failed_kind(reason),
        };
        let text = match (intent, reason) {
            (Intent::Read, Reason::NoQuorum) => {
                "too few owners of the key could be reached; see `gtstore status`".to_owned()
            }
            (Intent::Read, Reason::Unreadable { copies }) => format!(
                "{copies} of the copies cannot be read where they are, and the others are too few; \
                 ask for fewer with -r, and see `gtstore status`"
            ),
            (Intent::Read, Reason::Unconfirmed) => {
                "too few owners answered in time; try again, or allow more time".to_owned()
            }
            (Intent::WriteMaybeApplied, _) if reason.outcome() == Outcome::Failed => format!(
                "an attempt went unanswered and its repeat was refused ({reason}); \
                 the write may or may not have happened; read the key before repeating it"
            ),
            (Intent::Read | Intent::WriteUnapplied | Intent::WriteMaybeApplied, _) => reason.to_string(),
        };
        let Provenance { answered, needed, slots, ref trace, .. } = *by;
        Self { kind, reason: Some(reason), answered, needed, slots, trace: trace.clone(), text }
    }

    /// There is nobody to be asked; `why` says who was tried.
    pub(crate) fn nobody_there(intent: Intent, why: &str) -> Self {
        let (kind, what) = match intent {
            Intent::Read => (ErrorKind::Failed, ""),
            Intent::WriteUnapplied => (ErrorKind::Failed, "; nothing was written"),
            Intent::WriteMaybeApplied => (
                ErrorKind::Unknown,
                "; the write was sent before and not answered: it may or may not have happened; \
                 read the key before repeating it",
            ),
        };
        Self::new(kind, format!("{why}{what}{CHECK_ADDRESS}"))
    }

    /// From a deadline that passed; `last` is what went wrong before, in words.
    pub(crate) fn deadline(intent: Intent, last: Option<&str>) -> Self {
        let (kind, what) = match intent {
            Intent::Read => (ErrorKind::Timeout, "no answer in time"),
            Intent::WriteUnapplied => {
                (ErrorKind::Failed, "no node could take the write in time; nothing was written")
            }
            Intent::WriteMaybeApplied => (
                ErrorKind::Unknown,
                "the write was sent but not answered in time; it may or may not have happened; \
                 read the key before repeating it",
            ),
        };
        let text = match last {
            // That time is up is said by the kind.
            Some(last) if intent == Intent::Read => {
                format!("{last}; see `gtstore status`, or allow more time")
            }
            Some(last) => format!("{what}: {last}; see `gtstore status`"),
            None => format!("{what}; see `gtstore status`, or allow more time"),
        };
        Self::new(kind, text)
    }
}

fn failed_kind(reason: Reason) -> ErrorKind {
    match reason {
        Reason::EmptyKey
        | Reason::KeyTooLong { .. }
        | Reason::ValueTooLarge { .. }
        | Reason::UnknownKeyspace
        | Reason::BadQuorum { .. } => ErrorKind::Usage,
        Reason::NotServing { .. }
        | Reason::NoQuorum
        | Reason::Unconfirmed
        | Reason::Overloaded
        | Reason::Expired
        | Reason::TooManySiblings { .. }
        | Reason::NotOwner(_)
        | Reason::NotOnDataPath
        | Reason::Stopping
        | Reason::DiskFull { .. }
        | Reason::Unreadable { .. } => ErrorKind::Failed,
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ErrorKind::Failed => "failed",
            ErrorKind::Refused => "refused",
            ErrorKind::Unknown => "outcome unknown",
            ErrorKind::Conflict => "conflict",
            ErrorKind::Timeout => "timed out",
            ErrorKind::Usage => "not accepted",
        })
    }
}

impl fmt::Display for Error {
    /// `failed: 1 of 3 replicas answered, 2 needed: too few owners ...; see ...`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.kind)?;
        if self.slots > 0 {
            write!(f, "{} of {} replicas answered, {} needed: ", self.answered, self.slots, self.needed)?;
        }
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_quorum_says_how_many_answered_and_what_to_do() {
        let by = Provenance { answered: 1, needed: 2, slots: 3, ..Provenance::default() };
        let error = Error::refused(Intent::WriteUnapplied, Reason::NoQuorum, &by);
        assert_eq!(error.kind, ErrorKind::Failed);
        assert_eq!(
            error.to_string(),
            "failed: 1 of 3 replicas answered, 2 needed: too few owners of the key could be \
             reached; nothing was written; see `gtstore status`"
        );
    }

    #[test]
    fn a_refusal_after_an_unanswered_attempt_is_still_unknown() {
        let error = Error::refused(Intent::WriteMaybeApplied, Reason::NoQuorum, &Provenance::default());
        assert_eq!(error.kind, ErrorKind::Unknown);
    }

    #[test]
    fn a_limit_is_the_callers_to_mend() {
        let error =
            Error::refused(Intent::WriteUnapplied, Reason::KeyTooLong { max: 1024 }, &Provenance::default());
        assert_eq!(error.kind, ErrorKind::Usage);
        assert!(error.to_string().contains("1024 bytes"));
    }
}
