//! For tests: a log written as the engine writes it, without the engine.

use super::record::{MergeRecord, Record, RecordOutline, write_record};
use super::{DiskRequest, FileName, LogWriter, Manifest, Recovered, RecoveryError, Ticket, recover};
use crate::mutant::Planted;
use crate::sim::SimDisk;
use crate::types::{Actor, Dot, Incarnation, Key, KeyspaceId, NodeId, SectorId, Stamp};
use crate::version::{Content, Sibling, VersionVector};
use crate::wire::codec::Writer;
use bytes::Bytes;
use std::io;

/// A log being written on a simulated disk.
pub(crate) struct Log {
    pub(crate) disk: SimDisk,
    pub(crate) writer: LogWriter,
    pub(crate) segment_bytes: u64,
    pub(crate) segment: u64,
    pub(crate) position: u64,
    pub(crate) sealed: Vec<(u64, u64)>,
    pub(crate) seq: u64,
    /// Everything written, in order.
    pub(crate) told: Vec<RecordOutline>,
    ticket: u64,
    watermark: u64,
}

/// What a recovery says and tells.
pub(crate) type Outcome = Result<(Recovered, Vec<RecordOutline>), RecoveryError>;

/// Recovers a disk.
pub(crate) fn recovered(disk: &mut SimDisk, segment_bytes: u64, planted: Planted) -> Outcome {
    let mut told = Vec::new();
    let found = recover(disk, segment_bytes, planted, &mut |outline| told.push(outline.clone()))?;
    Ok((found, told))
}

/// The place of the `seq`-th record: three sectors in turn.
pub(crate) fn place(seq: u64) -> (KeyspaceId, SectorId) {
    (KeyspaceId(1), SectorId(u16::try_from(seq % 3).unwrap()))
}

/// The `seq`-th record: a value of so many bytes.
pub(crate) fn merge(seq: u64, bytes: usize) -> MergeRecord {
    let actor = Actor { node: NodeId(1), incarnation: Incarnation(1) };
    let dot = Dot { actor, seq };
    let value = Bytes::from(vec![u8::try_from(seq % 251).unwrap(); bytes]);
    let added = vec![Sibling { dot, stamp: Stamp(seq), expiry: None, content: Content::Value(value) }];
    let (keyspace, sector) = place(seq);
    let context = VersionVector::from_entries([(actor, seq)]);
    MergeRecord { keyspace, sector, key: Key::from(format!("key{seq}")), context, kept: vec![], added }
}

impl Log {
    /// A new log on an empty disk.
    pub(crate) fn new(segment_bytes: u64) -> Self {
        Self::open(SimDisk::default(), segment_bytes, Planted::NONE).unwrap().0
    }

    /// Recovers a disk and goes on.
    pub(crate) fn open(
        mut disk: SimDisk,
        segment_bytes: u64,
        planted: Planted,
    ) -> Result<(Self, Recovered), RecoveryError> {
        let (found, told) = recovered(&mut disk, segment_bytes, planted)?;
        let log = Self {
            disk,
            writer: LogWriter::new(planted),
            segment_bytes,
            segment: found.segment,
            position: found.next_position,
            sealed: found.sealed.clone(),
            seq: 0,
            told,
            ticket: 0,
            watermark: found.next_position,
        };
        Ok((log, found))
    }

    /// The number of a new request.
    pub(crate) fn ticket(&mut self) -> Ticket {
        self.ticket += 1;
        Ticket(self.ticket)
    }

    /// The request that appends a batch with the next record, which has a value of so many bytes.
    pub(crate) fn batch(&mut self, bytes: usize) -> DiskRequest {
        if self.position - self.segment >= self.segment_bytes {
            self.sealed.push((self.segment, self.position));
            self.segment = self.position;
        }
        self.seq += 1;
        self.batch_of(vec![merge(self.seq, bytes)])
    }

    /// The request that appends a batch with these records to the present segment.
    pub(crate) fn batch_of(&mut self, merges: Vec<MergeRecord>) -> DiskRequest {
        let (mut out, position) = (Writer::default(), self.position);
        let mark = Record::Batch { watermark: self.watermark };
        for record in [mark].into_iter().chain(merges.into_iter().map(Record::Merge)) {
            let bytes = write_record(&mut out, self.position, &record);
            let location = super::Location { position: self.position, bytes: u32::try_from(bytes).unwrap() };
            self.told.push(RecordOutline { location, record: record.into_outline() });
            self.position += bytes;
        }
        let (ticket, bytes) = (self.ticket(), out.into_bytes());
        DiskRequest::Append { ticket, segment: self.segment, position, bytes, sync: true }
    }

    /// Appends one batch of one record.
    pub(crate) fn put(&mut self, bytes: usize) {
        let request = self.batch(bytes);
        self.writer.write(&mut self.disk, &request).unwrap();
    }

    /// Appends and syncs so many.
    pub(crate) fn fill(&mut self, records: u64, bytes: usize) {
        for _ in 0..records {
            self.put(bytes);
            self.sync().unwrap();
        }
    }

    /// Syncs what was written.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.writer.sync(&mut self.disk)?;
        self.watermark = self.position;
        Ok(())
    }

    /// Writes the manifest, as the engine does when it knows everything before to be durable.
    pub(crate) fn write_manifest(&mut self) {
        let manifest =
            Manifest { sealed: self.sealed.clone(), high_water: self.segment, durable: self.watermark };
        let request = DiskRequest::Replace {
            ticket: self.ticket(),
            file: FileName::Manifest,
            bytes: manifest.encode(),
        };
        self.writer.write(&mut self.disk, &request).unwrap();
    }

    /// The numbers of the merges told.
    pub(crate) fn seqs(told: &[RecordOutline]) -> Vec<u64> {
        told.iter().filter_map(seq_of).collect()
    }
}

/// The number of the record that an outline is of; none for a batch.
pub(crate) fn seq_of(outline: &RecordOutline) -> Option<u64> {
    match &outline.record {
        super::OutlineRecord::Merge { added, .. } => added.first().map(|sibling| sibling.dot.seq),
        super::OutlineRecord::Batch { .. }
        | super::OutlineRecord::Shelf(_)
        | super::OutlineRecord::Settled(_) => None,
    }
}
