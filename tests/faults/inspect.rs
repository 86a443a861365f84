//! What `gtstore-storage --check` and `--dump` say of a directory whose node was killed.

use crate::common::STORAGE;
use bytes::Bytes;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

fn inspect(flag: &str, dir: &Path) -> Output {
    Command::new(STORAGE).arg(flag).arg(dir).output().unwrap()
}

/// The directory is sound: what a kill leaves is no damage.
pub fn assert_sound(dir: &Path) {
    let check = inspect("--check", dir);
    assert_eq!(check.status.code(), Some(0), "{}", String::from_utf8_lossy(&check.stdout));
}

/// Every value is in the directory's dump, which is JSON Lines.
pub fn assert_dumped(dir: &Path, values: &BTreeMap<String, Bytes>) {
    let dump = inspect("--dump", dir);
    assert_eq!(dump.status.code(), Some(0), "{}", String::from_utf8_lossy(&dump.stderr));
    let mut dumped: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in String::from_utf8(dump.stdout).unwrap().lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        if record["kind"] == "merge" {
            let key = record["key"].as_str().unwrap().to_owned();
            let added = record["added"].as_array().unwrap().iter();
            let of_record = added.filter_map(|sibling| Some(sibling["value"].as_str()?.to_owned()));
            dumped.entry(key).or_default().extend(of_record);
        }
    }
    for (key, value) in values {
        let all = dumped.get(key).map(Vec::as_slice).unwrap_or_default();
        assert!(all.iter().any(|one| one.as_bytes() == value), "{key} is not in the dump with its value");
    }
}
