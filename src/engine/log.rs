//! The log's writer: carries out disk requests, in order, over a [`Storage`].
//!
//! It decides nothing: where segments begin is the engine's choice, when to sync the shell's. It
//! keeps the order that durability rests on. What is reported as synced includes every file that
//! was written before, and the directory that names them; files are removed only once all that
//! was written before is durable; and an append that did not fit leaves nothing behind.

use super::record::{SEGMENT_HEADER_BYTES, segment_header};
use super::storage::replace;
use super::{DiskRequest, FileName, Storage, Ticket};
use crate::mutant::{Mutant, Planted};
use std::io;

/// Carries out disk requests: the one piece of code between the engine's requests and a disk, run
/// by the shell's log thread and by the simulator alike.
///
/// Group commit: call [`write`](Self::write) for everything that is queued, then
/// [`sync`](Self::sync) once if [`wants_sync`](Self::wants_sync), then report
/// [`written`](Self::written) and [`synced`](Self::synced). To write on while another thread
/// syncs, take a [`sync_plan`](Self::sync_plan) instead, let that thread carry it out, and then
/// say so with [`synced_to`](Self::synced_to).
#[derive(Debug, Default)]
pub struct LogWriter {
    /// The segment being appended to, by its start, and the length of its file.
    segment: Option<(u64, u64)>,
    /// Files with bytes that are not synced, in the order of their first such byte, each with the
    /// last request that wrote to it.
    unsynced: Vec<(FileName, Ticket)>,
    /// The last request that made a file, if the directory was not synced since.
    created: Option<Ticket>,
    written: Ticket,
    synced: Ticket,
    /// The last request that somebody waits to see synced.
    awaited: Ticket,
    planted: Planted,
}

/// What is to be synced so that everything up to a request is durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyncPlan {
    /// The request.
    pub ticket: Ticket,
    /// The files to sync, in this order.
    pub files: Vec<FileName>,
    /// Whether to sync the directory, after the files.
    pub directory: bool,
}

impl SyncPlan {
    /// Carries the plan out.
    ///
    /// # Errors
    /// Whatever the disk says: the process must stop, and never try again.
    pub fn carry_out(&self, storage: &mut impl Storage) -> io::Result<()> {
        for &file in &self.files {
            storage.sync(file)?;
        }
        if self.directory { storage.sync_directory() } else { Ok(()) }
    }
}

impl LogWriter {
    /// A writer that makes the mistakes it is told to.
    #[must_use]
    pub fn new(planted: Planted) -> Self {
        Self { planted, ..Self::default() }
    }

    /// Carries out one request, except for the sync of an append.
    ///
    /// # Errors
    /// Whatever the disk says. If the disk was full ([`is_full`]) nothing has changed, and the
    /// very same request can be tried again. After any other error the process must stop: nothing
    /// later may be acknowledged.
    pub fn write(&mut self, storage: &mut impl Storage, request: &DiskRequest) -> io::Result<()> {
        match request {
            DiskRequest::Append { ticket, segment, position, bytes, sync } => {
                self.append(storage, *ticket, (*segment, *position), bytes)?;
                self.written = *ticket;
                if *sync {
                    self.awaited = *ticket;
                }
            }
            DiskRequest::Replace { ticket, file, bytes } => {
                // A manifest says which segments are whole and which are needed no more: all that
                // was written before it must be durable first.
                if *file == FileName::Manifest && !self.planted.is(Mutant::ManifestBeforeSync) {
                    self.sync(storage)?;
                }
                replace(storage, *file, bytes)?;
                self.created = None;
                self.written = *ticket;
                self.awaited = *ticket;
            }
            DiskRequest::Remove { ticket, files } => {
                self.sync(storage)?;
                for file in files {
                    storage.remove(*file)?;
                }
                storage.sync_directory()?;
                self.created = None;
                (self.written, self.synced) = (*ticket, *ticket);
            }
        }
        Ok(())
    }

    fn append(
        &mut self,
        storage: &mut impl Storage,
        ticket: Ticket,
        (start, position): (u64, u64),
        bytes: &[u8],
    ) -> io::Result<()> {
        let header_bytes = SEGMENT_HEADER_BYTES as u64;
        let length = match self.segment {
            Some((present, length)) if present == start => length,
            Some(_) | None => header_bytes.saturating_add(position.saturating_sub(start)),
        };
        if position.checked_sub(start).and_then(|bytes| bytes.checked_add(header_bytes)) != Some(length) {
            let what = format!("log position {position} is not the end of segment {start}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let file = FileName::Segment(start);
        let is_new = position == start;
        let header = segment_header(start);
        let outcome = if is_new { storage.append(file, &header) } else { Ok(()) };
        if let Err(error) = outcome.and_then(|()| storage.append(file, bytes)) {
            if is_full(&error) {
                undo(storage, file, if is_new { None } else { Some(length) })?;
            }
            return Err(error);
        }
        self.segment = Some((start, length + bytes.len() as u64));
        match self.unsynced.last_mut() {
            Some(last) if last.0 == file => last.1 = ticket,
            Some(_) | None => self.unsynced.push((file, ticket)),
        }
        if is_new {
            self.created = Some(ticket);
        }
        Ok(())
    }

    /// Makes everything written durable.
    ///
    /// # Errors
    /// As for [`SyncPlan::carry_out`].
    pub fn sync(&mut self, storage: &mut impl Storage) -> io::Result<()> {
        if let Some(plan) = self.sync_plan() {
            plan.carry_out(storage)?;
            self.synced_to(&plan);
        }
        Ok(())
    }

    /// What is to be synced to make everything written so far durable; `None` if it is.
    ///
    /// One plan at a time. Requests that remove files are not to be written meanwhile, unless the
    /// sync goes through handles that stay good when a name is gone.
    #[must_use]
    pub fn sync_plan(&self) -> Option<SyncPlan> {
        let skipped =
            if self.planted.is(Mutant::SkipSealSync) { self.unsynced.len().saturating_sub(1) } else { 0 };
        (self.synced < self.written).then(|| SyncPlan {
            ticket: self.written,
            files: self.unsynced.iter().skip(skipped).map(|entry| entry.0).collect(),
            directory: self.created.is_some() && !self.planted.is(Mutant::SkipDirectorySync),
        })
    }

    /// Takes note that a plan was carried out.
    pub fn synced_to(&mut self, plan: &SyncPlan) {
        self.unsynced.retain(|entry| entry.1 > plan.ticket);
        self.created = self.created.filter(|ticket| *ticket > plan.ticket);
        self.synced = self.synced.max(plan.ticket);
    }

    /// Whether somebody waits for a sync.
    #[must_use]
    pub fn wants_sync(&self) -> bool {
        self.synced < self.awaited
    }

    /// The last request that was carried out.
    #[must_use]
    pub fn written(&self) -> Ticket {
        self.written
    }

    /// The last request that is durable.
    #[must_use]
    pub fn synced(&self) -> Ticket {
        self.synced
    }
}

/// Whether an error says that the disk is full: the one after which a request is tried again.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::WriteZero
    )
}

/// Takes back what an append has left of itself: cuts the file to its former length, or removes
/// it if it had none.
///
/// # Errors
/// It cannot be taken back. The error is none of a full disk: nothing can be tried again.
fn undo(storage: &mut impl Storage, file: FileName, length: Option<u64>) -> io::Result<()> {
    let outcome = match length {
        Some(length) => storage.truncate(file, length),
        None => storage.remove(file),
    };
    outcome.map_err(|error| {
        io::Error::other(format!(
            "the rest of a failed append cannot be taken off {}: {error}",
            file.to_text()
        ))
    })
}

#[cfg(test)]
mod tests;
