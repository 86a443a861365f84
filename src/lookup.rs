//! A hash map that can only be asked, never walked.
//!
//! The pure core must not depend on the order of a hash map: it differs between builds and
//! machines, and a simulated run would no longer repeat. What has to be walked lives in a
//! `BTreeMap`.

use ahash::RandomState;
use std::collections::VecDeque;
use std::hash::Hash;

/// A bounded map that forgets its oldest entry when it is full.
#[derive(Debug)]
pub struct Lookup<K, V> {
    map: std::collections::HashMap<K, V, RandomState>,
    order: VecDeque<K>,
    capacity: usize,
}

impl<K: Hash + Eq + Clone, V> Lookup<K, V> {
    /// An empty map for at most `capacity` entries.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let map = std::collections::HashMap::with_hasher(RandomState::with_seeds(1, 2, 3, 4));
        Self { map, order: VecDeque::new(), capacity: capacity.max(1) }
    }

    /// Remembers an entry; one of the same key is replaced and keeps its age.
    pub fn insert(&mut self, key: K, value: V) {
        if self.map.insert(key.clone(), value).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            self.map.remove(&oldest);
        }
    }

    /// The entry of a key.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        self.map.get(key)
    }

    /// The entry of a key, to change.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.map.get_mut(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_when_it_is_full() {
        let mut lookup = Lookup::new(2);
        lookup.insert(1, 'a');
        lookup.insert(2, 'b');
        lookup.insert(1, 'c');
        lookup.insert(3, 'd');
        assert_eq!((lookup.get(&1), lookup.get(&2), lookup.get(&3)), (None, Some(&'b'), Some(&'d')));
    }
}
