//! A list that nearly always has one element, which then needs no allocation.

use std::fmt;
use std::mem;
use std::ops::{Deref, DerefMut};

/// A list, used through its slice.
#[derive(Clone)]
pub enum Few<T> {
    /// One element.
    One(T),
    /// Any number of them. An empty one has no allocation either.
    Many(Vec<T>),
}

impl<T> Few<T> {
    /// Adds an element at a place, before what is there.
    ///
    /// # Panics
    /// There is no such place.
    pub fn insert(&mut self, at: usize, element: T) {
        match mem::take(self) {
            Self::Many(many) if many.is_empty() => *self = Self::One(element),
            Self::Many(mut many) => {
                many.insert(at, element);
                *self = Self::Many(many);
            }
            Self::One(first) => {
                let mut many = vec![first];
                many.insert(at, element);
                *self = Self::Many(many);
            }
        }
    }

    /// Adds an element at the end.
    pub fn push(&mut self, element: T) {
        self.insert(self.len(), element);
    }

    /// Keeps those elements that `keep` says yes to.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        match self {
            Self::One(only) if keep(only) => {}
            Self::One(_) => self.clear(),
            Self::Many(many) => many.retain(keep),
        }
    }

    /// Of neighbours that are the same by their key, keeps the first.
    pub fn dedup_by_key<K: PartialEq>(&mut self, key: impl FnMut(&mut T) -> K) {
        match self {
            Self::One(_) => {}
            Self::Many(many) => many.dedup_by_key(key),
        }
    }

    /// Forgets all elements.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::One(only) => std::slice::from_ref(only),
            Self::Many(many) => many,
        }
    }
}

impl<T> DerefMut for Few<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match self {
            Self::One(only) => std::slice::from_mut(only),
            Self::Many(many) => many,
        }
    }
}

impl<T> From<Vec<T>> for Few<T> {
    fn from(mut many: Vec<T>) -> Self {
        match many.pop() {
            Some(only) if many.is_empty() => Self::One(only),
            Some(last) => {
                many.push(last);
                Self::Many(many)
            }
            None => Self::default(),
        }
    }
}

impl<T> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        let mut elements = elements.into_iter();
        match (elements.next(), elements.next()) {
            (Some(first), Some(second)) => Self::Many([first, second].into_iter().chain(elements).collect()),
            (Some(only), None) => Self::One(only),
            (None, _) => Self::default(),
        }
    }
}

impl<T: PartialEq> PartialEq for Few<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Eq> Eq for Few<T> {}

impl<T: fmt::Debug> fmt::Debug for Few<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_a_list_like_any_other(
            elements in prop::collection::vec(0_u8..4, 0..4),
            steps in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..4, 0_u8..4), 0..12),
        ) {
            let (mut few, mut many): (Few<u8>, Vec<u8>) = (elements.iter().copied().collect(), elements);
            for (at, element, step) in steps {
                let at = at.index(many.len() + 1);
                match step {
                    0 => {
                        few.push(element);
                        many.push(element);
                    }
                    1 => {
                        few.insert(at, element);
                        many.insert(at, element);
                    }
                    2 => {
                        few.retain(|&held| held != element);
                        many.retain(|&held| held != element);
                    }
                    _ => {
                        few.dedup_by_key(|held| *held);
                        many.dedup_by_key(|held| *held);
                    }
                }
                prop_assert_eq!(&*few, &*many);
                prop_assert_eq!(&few, &many.iter().copied().collect());
                prop_assert_eq!(&few, &many.clone().into());
            }
        }
    }
}
