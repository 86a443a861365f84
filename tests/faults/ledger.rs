//! One writer's account: what it wrote, what of it was acknowledged, and so what may be read.
//!
//! A key belongs to one ledger, and its writes are numbered. What is read of it must be the last
//! write that was acknowledged or a later one of unknown outcome: nothing older, nothing foreign.

use bytes::Bytes;
use gtstore::client::{Answer, Call, Error, ErrorKind, Item, Outcome, Store};
use gtstore::sim::Rng;
use std::collections::BTreeMap;

/// Longest value that is written.
const VALUE_BYTES_MAX: u64 = 2500;
/// One write in so many deletes.
const DELETE_ONE_IN: u64 = 8;

/// What a key holds: the value of its write of this number, or nothing.
type State = Option<u64>;

/// A writer and its keys.
pub struct Ledger {
    store: Store,
    name: String,
    histories: Vec<History>,
    rng: Rng,
    /// Writes that were acknowledged. A delete that found nothing wrote nothing, and is not counted.
    pub stored: u64,
    /// The last error that was answered.
    pub refusal: Option<Error>,
}

/// What is known of a key.
#[derive(Clone, Default)]
struct History {
    /// What the last acknowledged write left.
    settled: State,
    /// What later writes would leave, whose outcome is not known.
    possible: Vec<State>,
    /// Number of the last write.
    last: u64,
}

impl Ledger {
    /// One whose keys begin with its name. Their count must not be a multiple of 7.
    pub fn new(store: Store, name: &str, keys: usize, seed: u64) -> Self {
        let histories = vec![History::default(); keys];
        let rng = Rng::new(seed);
        Self { store, name: name.to_owned(), histories, rng, stored: 0, refusal: None }
    }

    fn key(&self, at: usize) -> String {
        format!("{}:{at}", self.name)
    }

    /// Keys that hold a value as far as is known, with that value.
    pub fn values(&self) -> BTreeMap<String, Bytes> {
        let known = self.histories.iter().enumerate().filter(|(_, history)| history.possible.is_empty());
        known
            .filter_map(|(at, history)| Some((self.key(at), value(&self.key(at), history.settled?))))
            .collect()
    }

    /// Writes so many different keys, all at once: mostly values, some deletes. Returns how many
    /// were answered well.
    pub fn write(&mut self, count: usize) -> u64 {
        let start = self.rng.below(self.histories.len() as u64) as usize;
        let keys: Vec<usize> = (0..count).map(|step| (start + 7 * step) % self.histories.len()).collect();
        self.write_keys(&keys, false)
    }

    /// Deletes so many of the keys that hold a value, all at once. Returns as `write` does.
    pub fn delete(&mut self, count: usize) -> u64 {
        let keys: Vec<usize> =
            (0..self.histories.len()).filter(|&at| self.histories[at].settled.is_some()).collect();
        self.write_keys(&keys[..count.min(keys.len())], true)
    }

    fn write_keys(&mut self, keys: &[usize], only_delete: bool) -> u64 {
        let mut calls = BTreeMap::new();
        for &at in keys {
            let key = self.key(at);
            self.histories[at].last += 1;
            let number = self.histories[at].last;
            let item: Item = self.store.item(&key, 0);
            let deletes = only_delete || self.rng.once_in(DELETE_ONE_IN);
            let (request, state) = if deletes {
                (Call::Delete { item, context: None }, None)
            } else {
                (Call::Put { item, value: value(&key, number), context: None }, Some(number))
            };
            calls.insert(self.store.submit(request), (at, state));
        }
        let mut done = 0;
        while let Some((call, outcome)) = self.store.next_done().unwrap() {
            let (at, state) = calls.remove(&call).unwrap();
            done += u64::from(outcome.is_ok());
            self.note(at, state, outcome);
        }
        assert!(calls.is_empty(), "{} calls were never answered", calls.len());
        done
    }

    fn note(&mut self, at: usize, state: State, outcome: Outcome) {
        let history = &mut self.histories[at];
        match outcome {
            Ok(Answer::Stored { .. }) => {
                (history.settled, history.possible) = (state, Vec::new());
                self.stored += 1;
            }
            // A delete that found nothing has looked at what is there.
            Ok(Answer::Missing { .. }) => (history.settled, history.possible) = (None, Vec::new()),
            Ok(other @ (Answer::Found { .. } | Answer::Told(_))) => panic!("{other:?}"),
            Err(error) => {
                // What failed is provably not there.
                if error.kind != ErrorKind::Failed {
                    assert_eq!(error.kind, ErrorKind::Unknown, "{error}");
                    history.possible.push(state);
                }
                self.refusal = Some(error);
            }
        }
    }

    /// Reads one key that holds a value.
    pub fn read_one(&mut self) -> Result<(), Error> {
        let start = self.rng.below(self.histories.len() as u64) as usize;
        let count = self.histories.len();
        let mut keys = (start..count).chain(0..start);
        let at = keys.find(|&at| self.histories[at].settled.is_some()).unwrap();
        let entry = self.store.get(self.key(at))?;
        self.judge(at, entry.value());
        Ok(())
    }

    /// Reads every key. No write may be under way. Returns how many there are.
    pub fn check(&mut self) -> u64 {
        let keys: Vec<_> = (0..self.histories.len()).map(|at| self.key(at)).collect();
        for (at, entry) in self.store.get_many(keys).into_iter().enumerate() {
            let state =
                self.judge(at, entry.unwrap_or_else(|error| panic!("{}: {error}", self.key(at))).value());
            // What is read after a restart is settled: it must not go back either.
            (self.histories[at].settled, self.histories[at].possible) = (state, Vec::new());
        }
        self.histories.len() as u64
    }

    /// Whether this can be what the key holds.
    fn judge(&self, at: usize, found: Option<&Bytes>) -> State {
        let (key, history) = (self.key(at), &self.histories[at]);
        let state = found.map(|found| number_of(&key, found));
        let is_right = state == history.settled || history.possible.contains(&state);
        let History { settled, possible, last } = history;
        assert!(
            is_right,
            "{key} holds write {state:?}: the last acknowledged is {settled:?}, possible are {possible:?}, \
             {last} were tried"
        );
        state
    }
}

/// The value of a key's write of this number. Lengths differ from write to write.
fn value(key: &str, number: u64) -> Bytes {
    let mut text = format!("{key}#{number}:").into_bytes();
    let mut rng = Rng::new(number.wrapping_mul(31).wrapping_add(text.len() as u64));
    let filling = rng.below(VALUE_BYTES_MAX) as usize;
    text.resize(text.len() + filling, b'a' + rng.below(26) as u8);
    text.into()
}

/// The number of the write that this is the value of.
fn number_of(key: &str, found: &Bytes) -> u64 {
    let text = String::from_utf8_lossy(found);
    let number = text.strip_prefix(&format!("{key}#")).and_then(|rest| rest.split_once(':')?.0.parse().ok());
    let number = number.unwrap_or_else(|| panic!("{key} holds a foreign value: {text}"));
    assert_eq!(*found, value(key, number), "{key} holds a value of write {number} that was never written");
    number
}
