//! The engine alone, one thread: puts in batches, gets from the cache and from the page cache,
//! reopening, and memory; each beside the same loop over a plain hash map and a file.
//!
//! `cargo bench --bench engine [-- --keys 1000000 --dir DIR]`. Keys have 16 bytes, values 100.
//! Each figure is the CPU time of this thread and of the kernel on its behalf, per operation. The
//! two take turns, a slice of the keys each, so that whatever else runs slows both down. `--fill`
//! fills the engine alone, and tells its memory; `--open` opens what is there.

#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench reports and may give up"
)]

use ahash::AHashMap;
use bytes::Bytes;
use gtstore::engine::{
    DiskEvent, DiskRequest, Engine, EngineSettings, Fetched, FileName, Loaded, LogWriter, ReadDone,
    ReadRequest, Storage, Stretch, index_file, read_stretch,
};
use gtstore::mutant::Planted;
use gtstore::ring::{Durability, sector_of};
use gtstore::shell::files::Files;
use gtstore::types::{
    Actor, Dot, Incarnation, Instant, Key, KeyspaceId, NodeId, Now, SectorId, Stamp, WallMs,
};
use gtstore::version::{Content, Object, Replaces, Sibling, VersionVector};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time;

const BATCH: usize = 64;
const KEY_BYTES: usize = 16;
const VALUE_BYTES: usize = 100;
const SECTORS: usize = 1024;
/// The engine and the plain map take turns so many times.
const SLICES: usize = 50;

struct Args {
    keys: u64,
    dir: PathBuf,
    /// Only open an existing directory, and say how long it took.
    open: bool,
    /// Only fill a directory, and say how much memory that took.
    fill: bool,
}

fn main() {
    let args = parse();
    std::fs::create_dir_all(&args.dir).expect("cannot make the directory");
    if args.open {
        return reopen(&args.dir);
    }
    let filled = args.dir.join("engine");
    let _ = std::fs::remove_dir_all(&filled);
    let value = Bytes::from(vec![b'v'; VALUE_BYTES]);
    let resident = resident_bytes();
    let mut store = Store::open(&filled, 4 << 30);
    if args.fill {
        for slice in slices(&args) {
            put(slice, |at| (key(at), object(at + 1, &value)), |batch| store.put(batch));
        }
        let resident = (resident_bytes() - resident) as f64 / args.keys as f64;
        return println!("{:<32} {resident:>8.1} bytes a key, resident", "memory, key and value included");
    }
    let mut plain = Plain::create(&args.dir.join("plain"), &value);
    for (round, what) in ["put, new key", "put, over an old value"].into_iter().enumerate() {
        let (mut spent, before) = (Spent::default(), round as u64 * args.keys);
        for slice in slices(&args) {
            let request = |at| (key(at), object(before + at + 1, &value));
            spent.ours += put(slice.clone(), request, |batch| store.put(batch));
            spent.plain += put(slice, key, |batch| plain.put(batch));
        }
        spent.report(what, args.keys);
        if round == 0 {
            let bytes = store.engine.figures().memory_bytes as f64 / args.keys as f64;
            println!("{:<32} {bytes:>8.1} bytes a key", "memory, key and value included");
        }
    }
    let mut spent = Spent::default();
    for slice in slices(&args) {
        let keys: Vec<Key> = slice.map(key).collect();
        spent.ours += timed(|| store.get_cached(&keys));
        spent.plain += timed(|| plain.get(&keys));
    }
    spent.report("get, from the cache", args.keys);
    store.close();
    let mut store = Store::open(&filled, 1 << 20);
    let (mut spent, mut missed, reads) = (Spent::default(), 0, args.keys / 5);
    for (number, slice) in (0..).zip(slices(&args)) {
        let keys: Vec<Key> = slice.map(key).take(reads as usize / SLICES).collect();
        spent.ours += timed(|| missed += store.get_from_file(&keys));
        spent.plain += timed(|| plain.get_from_file(&keys, args.keys + number * (args.keys / SLICES as u64)));
    }
    spent.report("get, from the page cache", reads);
    println!("{:<32} {missed:>8} of {reads}", "   of which read from the file");
    drop(store);
    reopen(&filled);
    let _ = std::fs::remove_dir_all(&filled);
    let _ = std::fs::remove_file(args.dir.join("plain"));
}

fn parse() -> Args {
    let mut args = Args {
        keys: 1_000_000,
        dir: std::env::temp_dir().join(format!("gtstore-bench-{}", std::process::id())),
        open: false,
        fill: false,
    };
    let mut given = std::env::args().skip(1);
    while let Some(arg) = given.next() {
        match arg.as_str() {
            "--keys" => args.keys = given.next().and_then(|text| text.parse().ok()).expect("--keys COUNT"),
            "--dir" => args.dir = given.next().expect("--dir DIR").into(),
            "--open" => args.open = true,
            "--fill" => args.fill = true,
            "--bench" => {}
            other => panic!("unknown argument {other}: --keys COUNT --dir DIR --fill --open"),
        }
    }
    args
}

fn settings(cache_bytes: usize) -> EngineSettings {
    EngineSettings { cache_bytes, segment_bytes: 64 << 20, scrub_bytes_per_second: 0, planted: Planted::NONE }
}

fn key(at: u64) -> Key {
    Key::from(format!("key-{at:012}"))
}

fn place(key: &[u8]) -> (KeyspaceId, SectorId) {
    (KeyspaceId(0), sector_of(key, SECTORS))
}

/// An object as a coordinator would make it.
fn object(seq: u64, value: &Bytes) -> Object {
    let dot = Dot { actor: Actor { node: NodeId(1), incarnation: Incarnation(1) }, seq };
    let nothing = VersionVector::default();
    let mut object = Object::default();
    let content = Content::Value(value.clone());
    let stamp = Stamp::at(WallMs(1_700_000_000_000 + seq));
    object.put(Replaces::Seen(&nothing), &nothing, Sibling { dot, stamp, expiry: None, content });
    object
}

/// The keys in an order that jumps about, in slices of equal length.
fn slices(args: &Args) -> impl Iterator<Item = impl Iterator<Item = u64> + Clone> {
    let (keys, slice) = (args.keys, args.keys / SLICES as u64);
    // A prime that divides no round number: each key comes once.
    (0..SLICES as u64).map(move |number| {
        (number * slice..(number + 1) * slice).map(move |at| at.wrapping_mul(7_368_787) % keys)
    })
}

/// CPU time of this thread, user and system.
fn cpu() -> time::Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time::Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fn timed(work: impl FnOnce()) -> time::Duration {
    let began = cpu();
    work();
    cpu() - began
}

/// CPU time of the engine, and of the plain map beside it.
#[derive(Default)]
struct Spent {
    ours: time::Duration,
    plain: time::Duration,
}

impl Spent {
    fn report(&self, what: &str, count: u64) {
        let each = |spent: time::Duration| spent.as_secs_f64() * 1e6 / count as f64;
        let (ours, plain) = (each(self.ours), each(self.plain));
        println!(
            "{what:<32} {ours:>8.3} us   plain map and file {plain:>6.3} us   {:>5.2} times",
            ours / plain
        );
    }
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Hands over a batch for each so many keys, and tells how long that took, making them apart.
fn put<T>(
    mut keys: impl Iterator<Item = u64>,
    request: impl Fn(u64) -> T,
    mut put: impl FnMut(&mut Vec<T>),
) -> time::Duration {
    let mut spent = time::Duration::ZERO;
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        batch.extend(keys.by_ref().take(BATCH).map(&request));
        if batch.is_empty() {
            return spent;
        }
        spent += timed(|| put(&mut batch));
    }
}

/// The engine over a directory.
struct Store {
    engine: Engine,
    files: Files,
    writer: LogWriter,
    dir: PathBuf,
    open: BTreeMap<u64, File>,
    turn: u64,
}

impl Store {
    fn open(dir: &Path, cache_bytes: usize) -> Self {
        let mut files = Files::open(dir).expect("open");
        let (engine, _) = Engine::open(&mut files, settings(cache_bytes)).expect("open");
        let (writer, open) = (LogWriter::default(), BTreeMap::new());
        Self { engine, files, writer, dir: dir.to_owned(), open, turn: 0 }
    }

    #[inline(never)]
    fn put(&mut self, batch: &mut Vec<(Key, Object)>) {
        for (key, object) in batch.drain(..) {
            self.engine.merge(place(&key), &key, &object, Durability::Os);
        }
        self.work();
        if let Some(request) = self.engine.take_batch() {
            self.writer.write(&mut self.files, &request).expect("write");
        }
        self.engine.on_disk(DiskEvent::Written(self.writer.written()));
    }

    fn work(&mut self) {
        self.turn += 1;
        self.engine.work(Now { mono: Instant(self.turn), wall: WallMs(0) });
    }

    #[inline(never)]
    fn get_cached(&mut self, keys: &[Key]) {
        let loaded = Loaded::new();
        for key in keys {
            match self.engine.read(place(key), key, |_| true, &loaded) {
                Fetched::Whole(object) => drop(std::hint::black_box(object)),
                other => panic!("not in the cache: {other:?}"),
            }
        }
    }

    /// Returns how many were not in the cache.
    #[inline(never)]
    fn get_from_file(&mut self, keys: &[Key]) -> u64 {
        let mut missed = 0;
        for (turn, key) in keys.iter().enumerate() {
            if let Fetched::OnDisk(_) = self.engine.read(place(key), key, |_| true, &Loaded::new()) {
                missed += 1;
                let mut loaded = Loaded::new();
                let reads: Vec<ReadRequest> = self.engine.take_reads().collect();
                for request in reads {
                    let ReadRequest::Value(stretch) = request else { continue };
                    let result = Ok(read(&mut self.open, &self.dir, &stretch));
                    if let Some((dot, value)) = self.engine.on_read(ReadDone { id: stretch.id, result }) {
                        loaded.insert(dot, value.expect("readable"));
                    }
                }
                match self.engine.read(place(key), key, |_| true, &loaded) {
                    Fetched::Whole(object) => drop(std::hint::black_box(object)),
                    other => panic!("{other:?}"),
                }
            }
            if turn % BATCH == 0 {
                self.work();
            }
        }
        missed
    }

    /// As a node that ends well leaves it: synced, with its manifest and its index files.
    fn close(mut self) {
        self.sync();
        loop {
            self.work();
            let (batch, requests) = (self.engine.take_batch(), self.engine.take_requests());
            let requests: Vec<DiskRequest> = batch.into_iter().chain(requests).collect();
            requests.iter().for_each(|request| self.writer.write(&mut self.files, request).expect("write"));
            self.sync();
            let reads: Vec<ReadRequest> = self.engine.take_reads().collect();
            if requests.is_empty() && reads.is_empty() {
                break;
            }
            for request in reads {
                self.carry_out(&request);
            }
        }
        let last = self.engine.close().expect("nothing is damaged");
        self.writer.write(&mut self.files, &last).expect("write");
        self.files.sync_directory().expect("sync");
    }

    fn sync(&mut self) {
        self.writer.sync(&mut self.files).expect("sync");
        self.engine.on_disk(DiskEvent::Synced(self.writer.synced()));
    }

    /// What a node's other threads read.
    fn carry_out(&mut self, request: &ReadRequest) {
        let (id, result) = match request {
            ReadRequest::Index { id, segment, end } => {
                index_file::build(&mut self.files, *segment, *end).expect("an index file");
                (*id, Bytes::new())
            }
            ReadRequest::Scan(stretch) | ReadRequest::Value(stretch) => {
                (stretch.id, read_stretch(&mut self.files, stretch).expect("read"))
            }
        };
        self.engine.on_read(ReadDone { id, result: Ok(result) });
    }
}

/// The same puts and gets with nothing of what makes a store: values in a map, and in a file.
struct Plain {
    map: AHashMap<Key, Bytes>,
    file: File,
    value: Bytes,
}

impl Plain {
    fn create(path: &Path, value: &Bytes) -> Self {
        let mut options = File::options();
        let file = options.create(true).truncate(true).read(true).write(true).open(path).expect("create");
        Self { map: AHashMap::new(), file, value: value.clone() }
    }

    #[inline(never)]
    fn put(&mut self, batch: &mut Vec<Key>) {
        let mut out = Vec::with_capacity(BATCH * (KEY_BYTES + VALUE_BYTES));
        for key in batch.drain(..) {
            out.extend_from_slice(&key);
            out.extend_from_slice(&self.value);
            self.map.insert(key, Bytes::copy_from_slice(&self.value));
        }
        self.file.write_all(&out).expect("write");
    }

    fn get(&self, keys: &[Key]) {
        for key in keys {
            let value = self.map.get(key).expect("it is there");
            drop(std::hint::black_box(Bytes::copy_from_slice(value)));
        }
    }

    /// The values from the `first` on that were written, one for each key.
    fn get_from_file(&self, keys: &[Key], first: u64) {
        for (at, key) in (first..).zip(keys) {
            std::hint::black_box(self.map.get(key).expect("it is there"));
            let mut value = vec![0; VALUE_BYTES];
            let position = at * (KEY_BYTES + VALUE_BYTES) as u64 + KEY_BYTES as u64;
            self.file.read_exact_at(&mut value, position).expect("read");
            drop(std::hint::black_box(Bytes::from(value)));
        }
    }
}

/// One `pread` on a file that is open, as a node makes it.
fn read(open: &mut BTreeMap<u64, File>, dir: &Path, stretch: &Stretch) -> Bytes {
    let file = open.entry(stretch.segment).or_insert_with(|| {
        File::open(dir.join(FileName::Segment(stretch.segment).to_text())).expect("open a segment")
    });
    let mut bytes = vec![0; stretch.length as usize];
    file.read_exact_at(&mut bytes, stretch.offset().expect("an offset")).expect("read");
    bytes.into()
}

fn reopen(dir: &Path) {
    let mut files = Files::open(dir).expect("open");
    let wall = time::Instant::now();
    let (engine, found) = Engine::open(&mut files, settings(4 << 30)).expect("open");
    println!(
        "{:<44} {:>8.3} s   {} keys, {} records, {} segments without an index file",
        "reopen",
        wall.elapsed().as_secs_f64(),
        engine.size().0,
        found.records,
        found.unindexed.len()
    );
}
