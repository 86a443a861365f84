//! The engine alone, one thread: puts in batches, gets from the cache and from the page cache,
//! reopening, and memory; beside the same loop over a plain hash map and `write`.
//!
//! `cargo bench --bench engine [-- --keys 1000000 --dir DIR]`. Keys have 16 bytes, values 100.
//! Each figure is the CPU time of this thread and of the kernel on its behalf, per operation.

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
    DiskEvent, Engine, EngineSettings, Fetched, FileName, Loaded, LogWriter, ReadDone, ReadRequest, Storage,
    Stretch, index_file,
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
const VALUE_BYTES: usize = 100;
const SECTORS: usize = 1024;

struct Args {
    keys: u64,
    dir: PathBuf,
    /// Only open an existing directory, and say how long it took.
    open: bool,
    /// Only fill a directory.
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
    let (mut engine, mut files) = fill(&args, &filled);
    if args.fill {
        return;
    }
    plain_map(&args);
    get_cached(&args, &mut engine);
    drop(engine);
    files.sync_directory().expect("sync");
    drop(files);
    get_from_page_cache(&args, &filled);
    reopen(&filled);
    let _ = std::fs::remove_dir_all(&filled);
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

/// The keys in an order that jumps about.
fn order(keys: u64) -> impl Iterator<Item = u64> {
    // A prime that divides no round number: each key comes once.
    (0..keys).map(move |at| at.wrapping_mul(7_368_787) % keys)
}

/// CPU time of this process, user and system.
fn cpu() -> time::Duration {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let nanos = stat.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or(0);
    time::Duration::from_nanos(nanos)
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn report(what: &str, count: u64, began: time::Duration) {
    let nanos = (cpu() - began).as_nanos() as f64 / count as f64;
    println!("{what:<44} {:>8.3} us", nanos / 1000.0);
}

fn fill(args: &Args, dir: &Path) -> (Engine, Files) {
    let mut files = Files::open(dir).expect("open");
    let before = resident_bytes();
    let (mut engine, _) = Engine::open(&mut files, settings(4 << 30)).expect("open");
    let mut writer = LogWriter::default();
    for round in ["put, new key", "put, over an old value"] {
        let value = Bytes::from(vec![b'v'; VALUE_BYTES]);
        let mut seq = if round == "put, new key" { 0 } else { args.keys };
        let requests: Vec<(Key, Object)> = Vec::with_capacity(BATCH);
        let mut requests = requests;
        let mut spent = time::Duration::ZERO;
        let mut keys = order(args.keys).peekable();
        while keys.peek().is_some() {
            for at in keys.by_ref().take(BATCH) {
                seq += 1;
                requests.push((key(at), object(seq, &value)));
            }
            let began = cpu();
            for (key, object) in requests.drain(..) {
                engine.merge(place(&key), &key, &object, Durability::Os);
            }
            engine.work(Now { mono: Instant(seq), wall: WallMs(0) });
            if let Some(request) = engine.take_batch() {
                writer.write(&mut files, &request).expect("write");
            }
            engine.on_disk(DiskEvent::Written(writer.written()));
            spent += cpu() - began;
            index_files(&mut engine, &mut files);
        }
        println!("{round:<44} {:>8.3} us", spent.as_secs_f64() * 1e6 / args.keys as f64);
        if round == "put, new key" {
            let figures = engine.figures();
            println!(
                "{:<44} {:>8.1} bytes a key, {:.1} resident",
                "memory, key and value included",
                figures.memory_bytes as f64 / args.keys as f64,
                (resident_bytes() - before) as f64 / args.keys as f64
            );
            if args.fill {
                break;
            }
        }
    }
    writer.sync(&mut files).expect("sync");
    engine.on_disk(DiskEvent::Synced(writer.synced()));
    (0..100).for_each(|_| index_files(&mut engine, &mut files));
    (engine, files)
}

/// What a node's background thread does meanwhile.
fn index_files(engine: &mut Engine, files: &mut Files) {
    engine.work(Now { mono: Instant(0), wall: WallMs(0) });
    let reads: Vec<ReadRequest> = engine.take_reads().collect();
    for request in reads {
        if let ReadRequest::Index { id, segment, end } = request {
            index_file::build(files, segment, end).expect("an index file");
            engine.on_read(ReadDone { id, result: Ok(Bytes::new()) });
        }
    }
}

/// The same puts into a hash map and a file, with nothing of what makes a store.
fn plain_map(args: &Args) {
    let path = args.dir.join("plain");
    let mut file = std::fs::File::create(&path).expect("create");
    let mut map: AHashMap<Key, Bytes> = AHashMap::new();
    let value = Bytes::from(vec![b'v'; VALUE_BYTES]);
    let mut keys = order(args.keys).peekable();
    let mut spent = time::Duration::ZERO;
    while keys.peek().is_some() {
        let batch: Vec<Key> = keys.by_ref().take(BATCH).map(key).collect();
        let began = cpu();
        let mut out = Vec::with_capacity(BATCH * 150);
        for key in batch {
            out.extend_from_slice(&key);
            out.extend_from_slice(&value);
            map.insert(key, Bytes::copy_from_slice(&value));
        }
        file.write_all(&out).expect("write");
        spent += cpu() - began;
    }
    println!("{:<44} {:>8.3} us", "plain hash map and write", spent.as_secs_f64() * 1e6 / args.keys as f64);
    let _ = std::fs::remove_file(path);
}

fn get_cached(args: &Args, engine: &mut Engine) {
    let keys: Vec<Key> = order(args.keys).map(key).collect();
    let loaded = Loaded::new();
    let began = cpu();
    for key in &keys {
        match engine.read(place(key), key, |_| true, &loaded) {
            Fetched::Whole(object) => drop(std::hint::black_box(object)),
            other => panic!("not in the cache: {other:?}"),
        }
    }
    report("get, from the cache", args.keys, began);
}

fn get_from_page_cache(args: &Args, dir: &Path) {
    let mut files = Files::open(dir).expect("open");
    let (mut engine, _) = Engine::open(&mut files, settings(1 << 20)).expect("open");
    let mut open = BTreeMap::new();
    let keys: Vec<Key> = order(args.keys).take(200_000).map(key).collect();
    let (mut turn, mut missed) = (0, 0u64);
    let began = cpu();
    for key in &keys {
        turn += 1;
        if let Fetched::OnDisk(_) = engine.read(place(key), key, |_| true, &Loaded::new()) {
            missed += 1;
            let mut loaded = Loaded::new();
            let reads: Vec<ReadRequest> = engine.take_reads().collect();
            for request in reads {
                let ReadRequest::Value(stretch) = request else { continue };
                let result = Ok(read(&mut open, dir, &stretch));
                if let Some((dot, value)) = engine.on_read(ReadDone { id: stretch.id, result }) {
                    loaded.insert(dot, value.expect("readable"));
                }
            }
            match engine.read(place(key), key, |_| true, &loaded) {
                Fetched::Whole(object) => drop(std::hint::black_box(object)),
                other => panic!("{other:?}"),
            }
        }
        if turn % 64 == 0 {
            engine.work(Now { mono: Instant(turn), wall: WallMs(0) });
            engine.take_reads().for_each(drop);
        }
    }
    report("get, from the page cache", keys.len() as u64, began);
    println!("{:<44} {missed:>8} of {}", "   of which read from the file", keys.len());
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
