//! Every cap of the store, with its reason. What is full answers so; it never grows past these.

use std::time::Duration;

/// Longest key in bytes. Keys live in memory on every owner.
pub const KEY_BYTES_MAX: usize = 1024;
/// Longest key that the engine stores: a hint is kept under its key and the node it is owed to.
pub const STORED_KEY_BYTES_MAX: usize = KEY_BYTES_MAX + 4;
/// Longest value in bytes, by default. Larger ones would hold up a link for too long.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// Key limit of a cluster of [`Profile::Gtstore`](crate::ring::Profile), the original assignment's.
pub const PROFILE_KEY_BYTES_MAX: usize = 20;
/// Value limit of a cluster of [`Profile::Gtstore`](crate::ring::Profile), the original assignment's.
pub const PROFILE_VALUE_BYTES_MAX: usize = 1000;

/// Most siblings a coordinator lets a key have before it refuses further puts.
pub const SIBLINGS_MAX: usize = 64;
/// Most bytes of siblings a coordinator lets a key have; a single value is always let in.
pub const SIBLING_BYTES_MAX: usize = 1 << 20;
/// Most siblings a decoder accepts in one object: what [`REPLICAS_MAX`] coordinators, each at
/// its own cap, can merge to.
pub const SIBLINGS_DECODED_MAX: usize = SIBLINGS_MAX * REPLICAS_MAX;
/// Most actors a decoder accepts in one version vector.
pub const ACTORS_MAX: usize = 4096;

/// Most replica slots of a sector.
pub const REPLICAS_MAX: usize = 7;
/// Replica slots of a sector unless the cluster's creator says otherwise.
pub const REPLICAS_DEFAULT: u8 = 3;
/// Most sectors of a cluster: Redis Cluster's count of hash slots.
pub const SECTORS_MAX: usize = 16384;
/// Sectors of a cluster unless its creator says otherwise.
pub const SECTORS_DEFAULT: u16 = 1024;
/// Most nodes a table names, those that left included.
pub const MEMBERS_MAX: usize = 4096;
/// Changes of the membership that can be staged at once.
pub const STAGED_MAX: usize = 256;
/// Copies on their way that one answer tells of.
pub const TRANSFERS_TOLD_MAX: usize = 32_768;
/// Most keyspaces of a cluster. Each is a row in the table that every node holds.
pub const KEYSPACES_MAX: usize = 256;
/// Longest keyspace name in bytes.
pub const KEYSPACE_NAME_BYTES_MAX: usize = 64;
/// Longest address in bytes: a host name of 255 and a port.
pub const ADDR_BYTES_MAX: usize = 262;
/// Longest explanation in an error message.
pub const TEXT_BYTES_MAX: usize = 512;

/// Body cap of a frame before the Hello is answered: strangers get little.
pub const HELLO_BODY_BYTES_MAX: usize = 1024;
/// Body cap of a client's frame: a value, its key, a context and room for the rest.
pub const CLIENT_BODY_BYTES_MAX: usize = VALUE_BYTES_MAX + KEY_BYTES_MAX + CONTEXT_BYTES_MAX + 4096;
/// Body cap of a frame between nodes: a merged object, [`REPLICAS_MAX`] times the object cap.
pub const PEER_BODY_BYTES_MAX: usize =
    REPLICAS_MAX * (SIBLING_BYTES_MAX + VALUE_BYTES_MAX) + CLIENT_BODY_BYTES_MAX;
/// Body cap of an answer to a client: every sibling of an object, or a whole table.
pub const REPLY_BODY_BYTES_MAX: usize = PEER_BODY_BYTES_MAX;
/// Most bytes of an encoded context.
pub const CONTEXT_BYTES_MAX: usize = 32 + ACTORS_MAX * 16;
/// Body cap of a frame between a node and the manager: the largest table.
pub const MANAGER_BODY_BYTES_MAX: usize = 8 << 20;

/// Requests a node works on at once, its own coordination and forwarding together. At 1 ms each
/// this is a million requests a second; beyond it, answering `Overloaded` at once serves better.
pub const PENDING_ROWS_MAX: usize = 16384;
/// Bytes of keys and values that forwarded requests may hold at once. (What is coordinated here is
/// in the engine already, and is not counted.)
pub const PENDING_BYTES_MAX: usize = 256 << 20;
/// Outcomes of finished writes that a node remembers, so that a repeated request gets its first
/// answer. At 10,000 writes a second: over 6 seconds, three times the usual life of a request. One
/// that is repeated later than that merges as concurrent: at worst a sibling, never an overwrite.
pub const REPLY_TABLE_MAX: usize = 65536;

/// Connections a process accepts. Each costs a descriptor and a buffer.
pub const CONNECTIONS_MAX: usize = 4096;
/// Bytes read from one socket before the next one gets its turn.
pub const READ_BYTES_PER_TURN: usize = 256 << 10;
/// Requests taken from one connection per turn; the rest waits in its buffer.
pub const REQUESTS_PER_CONNECTION_PER_TURN: usize = 256;
/// Replies waiting on a connection before no more of its requests are read.
pub const REPLY_BYTES_HIGH: usize = 4 << 20;
/// Bytes waiting on a link to a peer before further requests to it count as unanswered at once.
pub const LINK_BYTES_MAX: usize = 64 << 20;
/// How long a new connection may take to say Hello.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// How long after a failed dial the next one is tried, at first and at most (doubling between).
pub const REDIAL_MS: (u64, u64) = (50, 1000);

/// How long a request is worth working on unless the client says otherwise, in milliseconds.
pub const REQUEST_TTL_MS: u32 = 2000;
/// The longest a request may ask for: rows must not be held for long.
pub const REQUEST_TTL_MS_MAX: u32 = 60_000;
/// How long a coordinator waits for a replica before a read asks a further one, in microseconds: at
/// least, and at most; between them it follows the fastest peers.
pub const HEDGE_DELAY_US: (u64, u64) = (2000, 30_000);
/// Of so many reads one may ask a further owner because one is slow.
pub const READS_PER_HEDGE: u32 = 10;
/// Further owners that may be asked at once after a time without need: what is in flight to a node
/// that stops is to go elsewhere soon.
pub const HEDGES_KEPT_MAX: u32 = 100;
/// Most keys settled in one fence round; the bytes of one message, [`TRANSFER_CHUNK_BYTES`], end it sooner.
pub const REAPED_AT_ONCE: usize = 4096;
/// How long a tombstone stays at least, in milliseconds: longer than any request, and any retry of it,
/// can be under way ([`REQUEST_TTL_MS_MAX`]), and than clocks differ. Time alone never suffices.
pub const REAP_AFTER_MS: u64 = 600_000;
/// How often keys are looked through for what may go, in milliseconds, and how many at a time.
pub const REAP_LOOK_MS: u64 = 100;
/// See [`REAP_LOOK_MS`].
pub const REAP_LOOK_KEYS: usize = 1000;
/// How long a leader rests when it has looked through all keys, in milliseconds.
pub const REAP_REST_MS: u64 = 5000;
/// How long a leader waits after a round that came to nothing, and how often it asks again within one,
/// in milliseconds.
pub const REAP_RETRY_MS: u64 = 500;
/// How long a step of a round may take in all, in milliseconds.
pub const REAP_STEP_MS_MAX: u64 = 10_000;
/// How far a fence may be above the one that a node has: rounds that a node has missed while it was
/// away, with room to spare.
pub const FENCE_STEP_MAX: u32 = 1 << 20;
/// Forgotten keys that the log may speak of before old segments are compacted for their sake: a word on
/// a key that is no more is needed only while an older record of it may lie in the log.
pub const STATEMENTS_MAX: usize = 1 << 16;
/// Entries of a context beyond its siblings' own from which on it is trimmed.
pub const CONTEXT_GROWN: usize = 8;

/// How long an answered request goes on collecting stragglers, in milliseconds. Bounds the rows that
/// one stalled owner can tie up: at 16384 rows, over 32,000 requests a second go on beside it.
pub const SETTLE_MS: u64 = 500;
/// How long a forwarder waits for a coordinator before it tries the next, in milliseconds.
pub const FORWARD_HOP_MS: u64 = 400;
/// How much more time a forwarder has than it tells a coordinator, at most, in milliseconds: for the
/// coordinator's last word to arrive. Below [`CLIENT_GRACE_MS`], which is for the whole way back.
pub const FORWARD_GRACE_MS: u32 = 50;
/// How long after an unanswered request a peer is passed over in routing, in milliseconds.
pub const PEER_SUSPECT_MS: u64 = 1000;
/// How long after a peer's last answer it is probed, in milliseconds.
pub const PROBE_MS: u64 = 500;
/// Least time between two looks at the silence of peers, in milliseconds.
pub const WATCH_MS: u64 = 100;
/// How long a peer may be silent before others are asked after it, in milliseconds: a probe may
/// take half a second there and back.
pub const PEER_SILENT_MS: u64 = 1000;
/// How long those who are asked after a peer have for an answer, in milliseconds. They are asked
/// twice before the verdict: a peer that stops answering is down after at most
/// `PEER_SILENT_MS + 2 * PEER_ASK_MS + WATCH_MS`.
pub const PEER_ASK_MS: u64 = 500;
/// How often others are asked after a peer that stays silent, in milliseconds.
pub const PEER_ASK_AGAIN_MS: u64 = 2000;
/// How many are asked after a silent peer (SWIM's k).
pub const PEERS_ASKED: usize = 3;
/// How late a node may be to look at its peers before it takes it for a stall of its own, in which
/// it could have heard nobody, in milliseconds.
pub const STALL_MS: u64 = 300;
/// How often a node tells a random peer what it knows of all, in milliseconds.
pub const GOSSIP_MS: u64 = 1000;
/// Bytes of hints that a node keeps for one that is away: at 100 KiB/s of missed writes, ten
/// minutes. What is more is left to anti-entropy.
pub const HINT_BYTES_MAX: u64 = 64 << 20;
/// What a hint counts for beside its key and values.
pub const HINT_OVERHEAD_BYTES: u64 = 64;
/// Keys looked at in one turn for hints to deliver.
pub const HINTS_WALKED_PER_TURN: usize = 1000;
/// How long after a pass through all hints those that are left are tried again, in milliseconds.
pub const HINT_RETRY_MS: u64 = 1000;
/// How often all copies are compared with those of other owners, in milliseconds, beside hints and
/// read repair. While nothing differs that is 20 bytes a sector.
pub const COMPARE_EVERY_MS: u64 = 10_000;
/// Least time between two steps of a comparison, in milliseconds.
pub const COMPARE_STEP_MS: u64 = 2;
/// How long a step of a comparison may go unanswered, and how long after that the next one is
/// begun, in milliseconds.
pub const COMPARE_RETRY_MS: u64 = 1000;
/// Sectors (of keyspaces) that one comparison is about.
pub const COMPARE_PLACES_MAX: usize = 1024;
/// Keys of which one message lists the hashes: a megabyte.
pub const LISTED_KEYS_MAX: usize = 65_536;
/// Requests in hand above which copies are not compared: clients come first.
pub const ROWS_BEFORE_REPAIR: usize = 256;
/// Further nodes that one request asks to stand in for owners that are away.
pub const FALLBACKS_MAX: usize = 8;
/// Nodes that one gossip message speaks of. Of a larger cluster each message tells another part.
pub const GOSSIP_RUMORS_MAX: usize = 64;
/// How far ahead of the wall a stamp from elsewhere may drag a clock, in milliseconds.
pub const CLOCK_DRAG_MS_MAX: u64 = 500;

/// How far ahead of a coordinator's wall a client's stamp may be, in milliseconds: a day. No clock
/// in use is so wrong, so that coordinators never disagree on it; it only keeps a broken client
/// from using up the range of stamps.
pub const STAMP_AHEAD_MS_MAX: u64 = 86_400_000;

/// Size of the log, in percent of what is needed of it, above which garbage is collected. With the
/// segments that are being written and rewritten it then stays below twice that.
pub const SPACE_PERCENT_MAX: u64 = 170;
/// Bytes read at once for compaction and scrubbing: about a thousand small records, whose handling
/// takes a millisecond of the loop.
pub const SCAN_BYTES: u32 = 128 << 10;
/// Chunks of cached values that one turn may give up: more than the values that a turn's reading
/// of sockets can bring, each of the large ones being a chunk.
pub const CACHE_CHUNKS_PER_TURN: usize = 256;
/// Bytes of the log that the scrub reads in a second: a terabyte in three days.
pub const SCRUB_BYTES_PER_SECOND: u64 = 4 << 20;
/// Least time between two rounds of the scrub, in milliseconds: a day.
pub const SCRUB_EVERY_MS: u64 = 86_400_000;
/// Keys looked at in one turn when it must be found out what lay in a damaged stretch.
pub const SWEEP_KEYS_PER_TURN: usize = 500;

/// A segment of the commit log is sealed at this many bytes.
pub const SEGMENT_BYTES: u64 = 64 << 20;
/// Bytes written and not yet synced at which the log thread syncs of itself, so that no sync has
/// much to do: a tenth of a second of a slow disk.
pub const UNSYNCED_BYTES_MAX: usize = 8 << 20;
/// Bytes that the loop itself hands to the file system in one turn; more goes to the log thread.
pub const LOOP_WRITE_BYTES_MAX: usize = 1 << 20;
/// Requests queued for the log thread beyond which the loop writes itself what waits for a sync:
/// the thread hangs in one.
pub const REQUESTS_QUEUED_HIGH: usize = 256;
/// Requests queued for the log thread at which the process gives up. What a node has in hand, and
/// so waits for, is capped at as many: only a disk that has stopped altogether comes to this.
pub const REQUESTS_QUEUED_MAX: usize = 2 * PENDING_ROWS_MAX;
/// Least bytes of a segment that can be asked for: below, files would outnumber records.
pub const SEGMENT_BYTES_MIN: u64 = 64 << 10;
/// Most bytes of a segment that can be asked for: it is compacted as a whole.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// The disk's reserve, below which puts are refused, is a hundredth of the file system but at
/// least and at most so much: room for deletes and compaction, not a share of a large disk.
pub const DISK_RESERVE_BYTES: (u64, u64) = (64 << 20, 4 << 30);
/// Values read from the disk that may be queued: more than requests in hand ever wait for.
pub const VALUE_READS_MAX: usize = 4 * PENDING_ROWS_MAX;
/// Reads of background work that may be queued. Compaction and scrubbing ask for a few at a time.
pub const BACKGROUND_READS_MAX: usize = 256;
/// Largest read that the loop itself copies out of the page cache.
pub const READ_AT_ONCE_BYTES_MAX: usize = 256 << 10;
/// Segments kept open for reading. Each costs a descriptor, of which a process often has 1024.
pub const OPEN_SEGMENTS_MAX: usize = 128;
/// Largest body of a log record.
pub const RECORD_BYTES_MAX: usize = PEER_BODY_BYTES_MAX;

/// Bytes of objects in one transfer chunk, so that bulk never holds a link for long. A single
/// larger object travels alone.
pub const TRANSFER_CHUNK_BYTES: usize = 64 << 10;
/// Sectors a node streams out at once.
pub const TRANSFERS_AT_ONCE: usize = 8;
/// How long a transfer chunk may go unanswered before it is sent again, in milliseconds.
pub const TRANSFER_RETRY_MS: u64 = 1000;
/// How long a chunk of a moving sector waits while clients do, in milliseconds.
pub const TRANSFER_BUSY_MS: u64 = 10;
/// How often a node looks for copies that it no longer owns, in milliseconds.
pub const LEFTOVERS_LOOK_MS: u64 = 1000;
/// Least time between two times that it gives some up, in milliseconds: each makes a new actor, and
/// contexts grow with actors.
pub const LEFTOVERS_EVERY_MS: u64 = 30_000;
/// Entries of a `dump` answered at once.
pub const DUMP_ENTRIES_MAX: usize = 1000;
/// Bytes of a `dump` answered at once.
pub const DUMP_BYTES_MAX: usize = 1 << 20;

/// How long the manager gathers joins before it plans for them together, in milliseconds.
pub const PLAN_SETTLE_MS: u64 = 200;
/// Least time between two epochs, so that tables never flood the cluster, in milliseconds.
pub const EPOCH_GAP_MS: u64 = 200;
/// How often a node reports to the manager, in milliseconds.
pub const REPORT_MS: u64 = 500;
/// How long a node may be silent before the manager shows it as down, in milliseconds.
pub const REPORT_STALE_MS: u64 = 2000;

/// Calls a client works on at once. As many as a node would: more could only wait there.
pub const CLIENT_CALLS_MAX: usize = PENDING_ROWS_MAX;
/// Bytes of keys and values that a client's calls may hold at once.
pub const CLIENT_BYTES_MAX: usize = 64 << 20;
/// How long a client waits for an answer, or a welcome, before it doubts the server, in
/// milliseconds. Above [`FORWARD_HOP_MS`] twice, so that a forwarder can try two coordinators.
pub const CLIENT_HOP_MS: u64 = 1000;
/// How long a client waits for a welcome before it tries another server beside, in milliseconds.
/// Two trips there and back: the furthest there are on Earth, if nothing is lost on the way.
pub const CLIENT_HEDGE_MS: u64 = 300;
/// Retries a client may make at a stretch; in the long run a tenth of its requests.
pub const CLIENT_RETRY_BURST: u32 = 32;
/// Retries of one call after refusals. A node has asked every owner before it refuses, so that
/// more would be hope.
pub const CLIENT_RETRIES_MAX: u8 = 4;
/// How long before a refused call is retried, in milliseconds, at first and at most (doubling
/// between, half of it random).
pub const CLIENT_RETRY_MS: (u64, u64) = (20, 200);
/// Least time left for a retry to be worth making, in milliseconds.
pub const CLIENT_RETRY_WORTH_MS: u32 = 250;
/// How much longer than it tells servers a client waits, at most, in milliseconds: for the last
/// word to arrive.
pub const CLIENT_GRACE_MS: u32 = 100;
/// How long a client that found nobody to ask waits before it asks again, in milliseconds.
pub const CLIENT_ASK_AGAIN_MS: u64 = 100;
/// How often a client routed by speed tries an owner at random: one request in so many.
pub const CLIENT_EXPLORE_ONE_IN: u64 = 32;

/// Longest line of an imported file, in bytes: a key and a value at their limits, every byte of
/// them escaped to six in JSON, and some room. What is longer is not such a file, and may never end.
pub const IMPORT_LINE_BYTES_MAX: usize = 8 << 20;
const _: () = assert!(IMPORT_LINE_BYTES_MAX >= (KEY_BYTES_MAX + VALUE_BYTES_MAX) * 6 + 1024);
