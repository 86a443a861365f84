//! A call in progress.
//!
//! ```text
//!            pick                 Welcomed               Reply
//!  Placing ------> Waiting(server) ------> Sent(server) ------> answered, or Placing again
//!     ^                 |  Closed               |  Closed, silence
//!     +-----------------+-----------------------+
//! ```
//! *Placing* is waiting without a server, for contacts or for a table. A row that was refused and
//! may be retried is *Resting* first.

use super::error::Intent;
use super::io::{CallId, ServerId, Target};
use crate::types::{Instant, RequestId};
use crate::version::Context;
use crate::wire::client::{ClientRequest, Provenance, Reason, Terms, Write};

/// A row's key: counted up, so that rows are gone through in the order of their calls.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct RowId(pub(crate) u64);

/// Who wants it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    /// The user.
    Caller(CallId),
    /// The client itself: whom can it talk to?
    Contacts,
    /// The client itself: the table.
    Table,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub(crate) enum Job {
    /// Read a key.
    Read { terms: Terms },
    /// Write a key.
    Write { terms: Terms, write: Write, applied: Applied },
    /// Read a key in order to delete what is there; then it becomes a write of quorum `w`.
    ReadToDelete { terms: Terms, w: u8 },
    /// Anything else. `tried` are the servers that have failed it.
    Ask { to: Target, request: ClientRequest, tried: Vec<ServerId> },
}

/// What is known of a write's attempts so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Applied {
    /// None was sent: it has neither name nor stamp yet.
    Unsent,
    /// Each was refused with nothing done.
    No,
    /// The one out now, or one that went unanswered, may have been.
    Maybe,
}

/// Where a row stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// Without a server: looks for one when it wakes, or when contacts or a table come.
    Placing,
    /// Was refused: looks for a server again when it wakes.
    Resting,
    /// Goes to this server as soon as it has welcomed us.
    Waiting { server: ServerId, direct: bool },
    /// Sent at `at`.
    Sent { server: ServerId, request: RequestId, at: Instant, patience: Patience },
}

/// How long an answer has been awaited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Patience {
    /// Not long.
    Fresh,
    /// So long that the server, silent since, was asked whether it is there.
    Probed,
    /// Longer; it was decided to wait to the end.
    ToTheEnd,
}

/// Why a row has not been answered yet: told if it never is.
#[derive(Clone, Debug)]
pub(crate) enum Trouble {
    /// Nothing has gone wrong.
    None,
    /// A server could not be reached or did not answer.
    Lost(String),
    /// A server refused.
    Refused(Reason, Provenance),
}

/// An attempt that was left for another server, because its own is slow with it: that one answers
/// others, and may still answer this.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Left {
    pub(crate) server: ServerId,
    pub(crate) request: RequestId,
}

/// A call in progress.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) owner: Owner,
    pub(crate) job: Job,
    pub(crate) deadline: Instant,
    pub(crate) phase: Phase,
    /// When it is next looked at; in the timers under this instant.
    pub(crate) wake: Instant,
    /// Retries after refusals.
    pub(crate) retries: u8,
    /// Times a node said that it is no owner.
    pub(crate) not_owner: u8,
    /// The last thing that went wrong.
    pub(crate) trouble: Trouble,
    /// The server that last refused or lost it: others are preferred.
    pub(crate) avoid: Option<ServerId>,
    /// Every server was found to refuse; they are all dialed once more then, and then it is over.
    pub(crate) last_round: Option<Instant>,
    /// A read's earlier attempt that may still be answered.
    pub(crate) left: Option<Left>,
    /// Bytes counted for it.
    pub(crate) bytes: usize,
}

impl Row {
    /// What a failure of it means.
    pub(crate) fn intent(&self) -> Intent {
        match &self.job {
            Job::Read { .. } | Job::Ask { .. } => Intent::Read,
            Job::ReadToDelete { .. } => Intent::WriteUnapplied,
            Job::Write { applied, .. } => match applied {
                Applied::Unsent | Applied::No => Intent::WriteUnapplied,
                Applied::Maybe => Intent::WriteMaybeApplied,
            },
        }
    }

    /// Its key's terms, unless it is about no key.
    pub(crate) fn terms(&self) -> Option<&Terms> {
        match &self.job {
            Job::Read { terms } | Job::ReadToDelete { terms, .. } | Job::Write { terms, .. } => Some(terms),
            Job::Ask { .. } => None,
        }
    }

    /// Whether asking a second time can do no harm.
    pub(crate) fn is_repeatable(&self) -> bool {
        match &self.job {
            Job::Read { .. } | Job::ReadToDelete { .. } | Job::Ask { .. } => true,
            Job::Write { .. } => false,
        }
    }

    /// Whether it was sent to, or waits for, this server.
    pub(crate) fn is_at(&self, id: ServerId) -> bool {
        match self.phase {
            Phase::Placing | Phase::Resting => false,
            Phase::Waiting { server, .. } | Phase::Sent { server, .. } => server == id,
        }
    }

    /// The attempt that is out went unanswered: the next one says that there was one.
    pub(crate) fn count_attempt(&mut self) {
        if let Job::Write { write, applied: Applied::Maybe, .. } = &mut self.job {
            write.attempt = write.attempt.saturating_add(1);
        }
    }

    /// A server could not be reached or did not answer. For a read, that says less than a count of
    /// the copies that answered.
    pub(crate) fn note_lost(&mut self, why: String) {
        let counted = matches!(&self.trouble, Trouble::Refused(_, by) if by.slots > 0);
        if !(counted && self.intent() == Intent::Read) {
            self.trouble = Trouble::Lost(why);
        }
    }

    /// The context a write carries.
    pub(crate) fn context(&self) -> Option<&Context> {
        match &self.job {
            Job::Write { write, .. } => write.context.as_ref(),
            Job::Read { .. } | Job::ReadToDelete { .. } | Job::Ask { .. } => None,
        }
    }
}
