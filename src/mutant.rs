//! Planted bugs: known mistakes of this family of systems, each of which the simulator must catch.
//!
//! A simulator that catches no planted bug proves nothing. A bug is planted by naming it in a
//! node's configuration; the code asks [`Planted::is`] at the place where the mistake would be.
//! Without the `planted-bugs` feature (any release build) the question is a constant `false`.

/// The mistakes that can be planted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutant {
    /// A replica acknowledges a write before its log is durable.
    AckBeforeDurable,
    /// A second acknowledgement from one node counts again.
    CountDuplicateAck,
    /// A read answers with the coordinator's copy although a replica sent a newer one.
    IgnoreNewerReplica,
    /// A pending row's id is used again without a new generation.
    ReuseRequestId,
    /// A replica acknowledges a write that it did not store.
    DropReplicaWrite,
    /// Two versions count as equal when their newest dot of one actor is.
    EqualOnFirstActor,
    /// A write repeated elsewhere is run as if it were new, overwriting what came between.
    BlindRetry,
    /// A node keeps its incarnation across restarts, so that a lost dot is made again.
    StableIncarnation,
    /// "Not found" is said after R empty answers, whatever W is.
    EagerNotFound,
    /// A moving slot counts as soon as its new node answers.
    NewOwnerCountsAlone,
    /// A dead owner's copy is rebuilt from one of the other owners alone.
    RebuildFromOneSource,
    /// Copies that moved away are given up without a new incarnation.
    DropUnderOldActor,
    /// Copies that moved away are given up although debts name them.
    DropWithDebts,
    /// A moving slot is committed without its data having been streamed.
    SwitchWithoutStream,
    /// A manager tells a table before it is durable.
    TellBeforeDurable,
    /// A fallback counts although the request asked for owners alone.
    CountFallbackInStrict,
    /// A fallback acknowledges what it keeps for an owner that is away before that is durable.
    HintBeforeDurable,
    /// A hint is forgotten when it is sent, not when it has arrived.
    HintForgottenWhenSent,
    /// A read answers "not found" as soon as one replica has nothing.
    AbsentBeatsHeld,
    /// A new owner acknowledges a piece of a moving sector before it is durable.
    ChunkBeforeDurable,
    /// A hint goes to the node it was kept for, whoever owns the key by then.
    HintToExOwner,
    /// A replica acknowledges at once what it holds already, durable or not.
    AckUnchangedAtOnce,
    /// A hint is forgotten when part of it has arrived.
    HintForgottenThoughGrown,
    /// A replica keeps no tombstones.
    ForgetTombstones,
    /// A write that lost to an older one with a higher stamp is acknowledged all the same.
    SkipRaise,
    /// A tombstone goes without a fence round.
    ReapWithoutFence,
    /// A node adopts a fence although it keeps writes for others.
    ReapWithHints,
    /// A node says that it is behind a fence although requests in hand have read before it.
    ReapWithOldRows,
    /// A tombstone goes although not every owner holds it.
    ReapUnequal,
    /// An owner says that it holds a tombstone before that is durable.
    AgreeBeforeDurable,
    /// What was read before a fence is merged behind it.
    AcceptOldFence,
    /// Owners never compare their copies.
    SkipAntiEntropy,
    /// A copy in quarantine is served, and coordinated from.
    ServeQuarantined,
    /// A place leaves quarantine when it has been compared with one other owner.
    LiftAfterOneOwner,
    /// Recovery serves what follows a torn record.
    TornTailServed,
    /// Recovery takes damage before the durable watermark for a torn tail.
    IgnoreWatermark,
    /// Recovery and the log writer leave the directory unsynced.
    SkipDirectorySync,
    /// A segment that is left for the next one is not synced any more.
    SkipSealSync,
    /// Recovery uses an index file without looking at its checksum.
    TrustIndexFile,
    /// Recovery serves from the last segment as it found it, unsynced.
    KeepUnsyncedSegment,
    /// Recovery replays a segment that a finished compaction left behind.
    KeepLeftovers,
    /// A manifest is written before what it speaks of is durable.
    ManifestBeforeSync,
    /// Compaction lets the index point to where nothing has been written yet.
    MoveBeforeWritten,
    /// Compaction drops records that carry no value, although they are the last word on a key.
    DropStatements,
}

impl Mutant {
    /// Every mistake, with the name used on the simulator's command line.
    pub const ALL: &'static [(&'static str, Mutant)] = &[
        ("ack-before-durable", Mutant::AckBeforeDurable),
        ("count-duplicate-ack", Mutant::CountDuplicateAck),
        ("ignore-newer-replica", Mutant::IgnoreNewerReplica),
        ("reuse-request-id", Mutant::ReuseRequestId),
        ("drop-replica-write", Mutant::DropReplicaWrite),
        ("equal-on-first-actor", Mutant::EqualOnFirstActor),
        ("blind-retry", Mutant::BlindRetry),
        ("stable-incarnation", Mutant::StableIncarnation),
        ("eager-not-found", Mutant::EagerNotFound),
        ("new-owner-counts-alone", Mutant::NewOwnerCountsAlone),
        ("rebuild-from-one-source", Mutant::RebuildFromOneSource),
        ("drop-under-old-actor", Mutant::DropUnderOldActor),
        ("drop-with-debts", Mutant::DropWithDebts),
        ("switch-without-stream", Mutant::SwitchWithoutStream),
        ("tell-before-durable", Mutant::TellBeforeDurable),
        ("count-fallback-in-strict", Mutant::CountFallbackInStrict),
        ("hint-before-durable", Mutant::HintBeforeDurable),
        ("hint-forgotten-when-sent", Mutant::HintForgottenWhenSent),
        ("absent-beats-held", Mutant::AbsentBeatsHeld),
        ("chunk-before-durable", Mutant::ChunkBeforeDurable),
        ("hint-to-ex-owner", Mutant::HintToExOwner),
        ("ack-unchanged-at-once", Mutant::AckUnchangedAtOnce),
        ("hint-forgotten-though-grown", Mutant::HintForgottenThoughGrown),
        ("forget-tombstones", Mutant::ForgetTombstones),
        ("skip-raise", Mutant::SkipRaise),
        ("reap-without-fence", Mutant::ReapWithoutFence),
        ("reap-with-hints", Mutant::ReapWithHints),
        ("reap-with-old-rows", Mutant::ReapWithOldRows),
        ("reap-unequal", Mutant::ReapUnequal),
        ("agree-before-durable", Mutant::AgreeBeforeDurable),
        ("accept-old-fence", Mutant::AcceptOldFence),
        ("skip-anti-entropy", Mutant::SkipAntiEntropy),
        ("serve-quarantined", Mutant::ServeQuarantined),
        ("lift-after-one-owner", Mutant::LiftAfterOneOwner),
        ("torn-tail-served", Mutant::TornTailServed),
        ("ignore-watermark", Mutant::IgnoreWatermark),
        ("skip-directory-sync", Mutant::SkipDirectorySync),
        ("skip-seal-sync", Mutant::SkipSealSync),
        ("trust-index-file", Mutant::TrustIndexFile),
        ("keep-unsynced-segment", Mutant::KeepUnsyncedSegment),
        ("keep-leftovers", Mutant::KeepLeftovers),
        ("manifest-before-sync", Mutant::ManifestBeforeSync),
        ("move-before-written", Mutant::MoveBeforeWritten),
        ("drop-statements", Mutant::DropStatements),
    ];
}

/// Which mistake, if any, a machine has been given.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Planted {
    #[cfg(feature = "planted-bugs")]
    mutant: Option<Mutant>,
}

impl Planted {
    /// No mistake: the only value there is without the `planted-bugs` feature.
    pub const NONE: Planted = Planted {
        #[cfg(feature = "planted-bugs")]
        mutant: None,
    };

    /// Plants one mistake.
    #[cfg(feature = "planted-bugs")]
    #[must_use]
    pub fn one(mutant: Mutant) -> Self {
        Self { mutant: Some(mutant) }
    }

    /// Whether this mistake is to be made here.
    #[cfg(feature = "planted-bugs")]
    #[must_use]
    pub fn is(self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// Whether this mistake is to be made here: never, in this build.
    #[cfg(not(feature = "planted-bugs"))]
    #[must_use]
    pub const fn is(self, _mutant: Mutant) -> bool {
        false
    }
}
