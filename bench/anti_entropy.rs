//! What it costs two owners to find out what differs, and to make it equal: bytes on the wire, and CPU
//! time, by how much differs.
//!
//! `cargo bench --bench anti_entropy [-- --keys 1000000]`. Two nodes own everything, hold the same keys
//! of 16 bytes with values of 100, and one of them then misses so many overwrites. Their machines are
//! the real ones; messages are encoded, counted, and decoded; the clock is virtual, and memory is the
//! only disk.

#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench reports and may give up"
)]

use bytes::Bytes;
use gtstore::machine::Machine;
use gtstore::mutant::Planted;
use gtstore::node::io::{Input, Output};
use gtstore::node::{Node, Options};
use gtstore::ring::{Durability, KeyspaceSettings, Member, MemberState, Slot, Table, sector_of};
use gtstore::sim::SimDisk;
use gtstore::types::{
    Actor, ClusterId, ConnId, DiskUuid, Dot, Epoch, Fence, Incarnation, Instant, Key, KeyspaceId, NodeId,
    Now, RequestId, SectorId, Stamp, WallMs,
};
use gtstore::version::{Content, Object, Replaces, Sibling, VersionVector};
use gtstore::wire::codec::Writer;
use gtstore::wire::manager::ManagerToNode;
use gtstore::wire::peer::{PeerReply, PeerRequest, Place};
use gtstore::wire::{Message, encode_table};
use std::collections::{BTreeMap, VecDeque};

const SECTORS: usize = 1024;
const VALUE_BYTES: usize = 100;
const KEY_BYTES: usize = 16;
const CLUSTER: ClusterId = ClusterId(1);
/// Keys in one message that fills a node.
const CHUNK: usize = 256;

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let mut keys = 1_000_000;
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--keys" => keys = args.next().and_then(|text| text.parse().ok()).expect("--keys COUNT"),
            other => panic!("unknown argument {other}: --keys COUNT"),
        }
    }
    let data = keys as f64 * (KEY_BYTES + VALUE_BYTES) as f64;
    println!("{keys} keys, {:.1} MB of keys and values on each of two owners", data / 1e6);
    println!(
        "{:>11} {:>14} {:>12} {:>14} {:>10}",
        "differences", "bytes", "of the data", "bytes each", "CPU s"
    );
    let mut pair = Pair::new();
    pair.fill(0..keys, 1, &[0, 1]);
    pair.settle();
    for (round, missed) in (2..).zip([0, 10, 1000, 100_000]) {
        // Spread over all keys.
        let step = (keys / missed.max(1)).max(1);
        pair.fill((0..missed.min(keys)).map(|at| at * step), round, &[0]);
        let spent = pair.settle();
        println!(
            "{missed:>11} {:>14} {:>11.3}% {:>14.0} {:>10.2}",
            spent.bytes,
            spent.bytes as f64 * 100.0 / data,
            spent.bytes as f64 / missed.max(1) as f64,
            spent.cpu
        );
    }
}

/// What an exchange took.
struct Spent {
    bytes: u64,
    cpu: f64,
}

/// Two nodes, and the messages between them.
struct Pair {
    nodes: [Node; 2],
    now_us: u64,
    table: Table,
    /// To whom, and what happens to it.
    queue: VecDeque<(usize, Input)>,
    bytes: u64,
    by_kind: BTreeMap<u8, u64>,
}

fn table() -> Table {
    let mut table = Table::new(CLUSTER, 2, SECTORS as u16);
    table.epoch = Epoch(1);
    for id in 1..=2u32 {
        let member = Member {
            addr: format!("node{id}"),
            disk_uuid: DiskUuid(u128::from(id)),
            zone: String::new(),
            weight: 100,
            state: MemberState::Normal,
        };
        table.members.insert(NodeId(id), member);
    }
    table.next_node = NodeId(3);
    let settings = KeyspaceSettings { durability: Durability::Memory, ..KeyspaceSettings::majority(2) };
    table.keyspaces.get_mut(&KeyspaceId(0)).unwrap().settings = settings;
    for (at, sector) in table.sectors.iter_mut().enumerate() {
        sector.conf_epoch = Epoch(1);
        // Each leads half of them.
        let order = if at % 2 == 0 { [1, 2] } else { [2, 1] };
        sector.slots = order.map(|node| Slot::Settled(NodeId(node))).to_vec();
    }
    table
}

fn open(id: usize) -> Node {
    let options = Options {
        addr: format!("node{id}"),
        zone: String::new(),
        weight: 100,
        manual: false,
        leave_on_stop: false,
        transfer_bytes_per_second: 0,
        cache_bytes: 1 << 30,
        segment_bytes: 64 << 20,
        scrub_bytes_per_second: 0,
        hint_bytes_max: 1 << 20,
        compare_every_ms: 10_000,
        reap_after_ms: u64::MAX,
        allow_fault_injection: false,
        disk_reserve_bytes: 0,
        fresh_uuid: DiskUuid(id as u128),
        boot_id: 1,
        planted: Planted::NONE,
    };
    Node::open(&mut SimDisk::default(), options).unwrap()
}

impl Pair {
    fn new() -> Self {
        let mut pair = Self {
            nodes: [open(1), open(2)],
            now_us: 1_000_000,
            table: table(),
            queue: VecDeque::new(),
            bytes: 0,
            by_kind: BTreeMap::new(),
        };
        for at in 0..2 {
            let joined = ManagerToNode::Joined { node: NodeId(at as u32 + 1), cluster_id: CLUSTER };
            pair.tell(at, Input::Manager(joined));
            let bytes = encode_table(&pair.table);
            pair.tell(at, Input::Manager(ManagerToNode::Table(bytes)));
            for lane in [gtstore::node::io::Lane::Foreground, gtstore::node::io::Lane::Bulk] {
                pair.tell(at, Input::LinkUp { peer: NodeId(2 - at as u32), lane });
            }
        }
        pair.deliver();
        pair
    }

    /// These keys get a new value, on these nodes.
    fn fill(&mut self, keys: impl Iterator<Item = u64>, round: u64, nodes: &[usize]) {
        let mut chunks: BTreeMap<SectorId, Vec<(Key, Object)>> = BTreeMap::new();
        let value = Bytes::from(vec![b'v'; VALUE_BYTES]);
        for at in keys {
            let key = Key::from(format!("key-{at:012}"));
            let dot = Dot {
                actor: Actor { node: NodeId(1), incarnation: Incarnation(1) },
                seq: round * 1_000_000_000 + at + 1,
            };
            let (nothing, mut object) = (VersionVector::default(), Object::default());
            let stamp = Stamp::at(WallMs(round));
            let content = Content::Value(value.clone());
            object.put(Replaces::All, &nothing, Sibling { dot, stamp, expiry: None, content });
            let sector = sector_of(&key, SECTORS);
            let chunk = chunks.entry(sector).or_default();
            chunk.push((key, object));
            if chunk.len() >= CHUNK {
                let entries = std::mem::take(chunk);
                self.store(sector, entries, nodes);
            }
        }
        for (sector, entries) in chunks {
            self.store(sector, entries, nodes);
        }
        (self.bytes, self.by_kind) = (0, BTreeMap::new());
    }

    fn store(&mut self, sector: SectorId, entries: Vec<(Key, Object)>, nodes: &[usize]) {
        let place = Place { keyspace: KeyspaceId(0), sector, conf_epoch: Epoch(1) };
        for &at in nodes {
            let message = PeerRequest::Transfer { place, fence: Fence(0), entries: entries.clone() };
            let (conn, from, request) = (ConnId(7), NodeId(2 - at as u32), RequestId(0));
            let now = self.now();
            let mut out = Vec::new();
            self.nodes[at].handle(now, Input::Peer { conn, from, request, message }, &mut out);
            self.nodes[at].handle(now, Input::TurnEnd, &mut out);
        }
    }

    fn now(&self) -> Now {
        Now { mono: Instant(self.now_us), wall: WallMs(1_700_000_000_000 + self.now_us / 1000) }
    }

    fn tell(&mut self, at: usize, input: Input) {
        let (now, mut out) = (self.now(), Vec::new());
        self.nodes[at].handle(now, input, &mut out);
        self.nodes[at].handle(now, Input::TurnEnd, &mut out);
        for output in out {
            let (other, from) = (1 - at, NodeId(at as u32 + 1));
            match output {
                Output::Peer { request, message, .. } => {
                    let body = self.count(&message);
                    let message = PeerRequest::decode(message.kind(), body).unwrap();
                    self.queue.push_back((other, Input::Peer { conn: ConnId(1), from, request, message }));
                }
                Output::PeerReply { request, message, .. } => {
                    let body = self.count(&message);
                    let message = PeerReply::decode(message.kind(), body).unwrap();
                    self.queue.push_back((other, Input::PeerReply { from, request, message }));
                }
                _ => {}
            }
        }
    }

    /// A message on its way: its body, counted with a frame's head.
    fn count(&mut self, message: &impl Message) -> Bytes {
        let mut out = Writer::default();
        message.encode(&mut out);
        let body = out.into_bytes();
        // Probes and gossip are there whether copies differ or not.
        let of_comparing = matches!(message.kind(), 0x44 | 0x4a..=0x4c | 0x62 | 0x6f..=0x71);
        if of_comparing {
            self.bytes += body.len() as u64 + 20;
            *self.by_kind.entry(message.kind()).or_default() += body.len() as u64 + 20;
        }
        body
    }

    fn deliver(&mut self) {
        while let Some((at, input)) = self.queue.pop_front() {
            self.now_us += 20;
            self.tell(at, input);
        }
    }

    fn is_equal(&self) -> bool {
        (0..SECTORS as u16).all(|at| {
            let place = (KeyspaceId(0), SectorId(at));
            self.nodes[0].engine().tree_root(place) == self.nodes[1].engine().tree_root(place)
        })
    }

    /// Both compare until they are equal, and once round when they are.
    fn settle(&mut self) -> Spent {
        let began = cpu();
        let mut rounds_left = 12_000;
        while !self.is_equal() || rounds_left > 11_000 {
            rounds_left -= 1;
            assert!(rounds_left > 0, "the copies never become equal");
            self.now_us += 10_000;
            for at in 0..2 {
                self.tell(at, Input::Tick);
            }
            self.deliver();
        }
        Spent { bytes: self.bytes, cpu: cpu() - began }
    }
}

/// CPU seconds of this thread.
fn cpu() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}
