//! Keys and values as bytes, and whether a value read is one that a load can have written.
//!
//! A key is a prefix and a number. A value vouches for itself:
//! ```text
//!  0                    8             16
//!  +--------------------+-------------+------------------------+
//!  | XXH3-64 of key and | number of   | filler, the same in    |
//!  | all that follows   | the write   | all values of a length |
//!  +--------------------+-------------+------------------------+
//! ```
//! cut off where it is to be shorter; then the checksum is of the key and what is left. So a
//! value of another key, a torn one, or one that nobody wrote is found out, whichever run wrote
//! it and however long it is.
//!
//! Bytes are laid into one buffer that is used again as soon as they have been sent.

use bytes::{BufMut, Bytes, BytesMut};
use std::fmt::Write;
use twox_hash::XxHash3_64;

const SUM_BYTES: usize = 8;
const NUMBER_BYTES: usize = 8;
/// Room for many keys and values before the buffer is used again from its start.
const BUFFER_BYTES: usize = 256 << 10;

/// Lays out keys and values.
#[derive(Debug)]
pub struct Data {
    prefix: String,
    value_bytes: usize,
    filler: Bytes,
    buffer: BytesMut,
}

impl Data {
    /// Of keys with this prefix and values of this size.
    pub fn new(prefix: &str, value_bytes: usize) -> Self {
        let letters = (b'a'..=b'z').cycle();
        Self {
            prefix: prefix.to_owned(),
            value_bytes,
            filler: letters.take(value_bytes.saturating_sub(SUM_BYTES + NUMBER_BYTES)).collect(),
            buffer: BytesMut::with_capacity(BUFFER_BYTES + value_bytes),
        }
    }

    /// The key of this number.
    pub fn key(&mut self, number: u64) -> Bytes {
        self.buffer.put_slice(self.prefix.as_bytes());
        // A buffer that grows takes every number.
        let _ = write!(self.buffer, "{number}");
        self.buffer.split().freeze()
    }

    /// A value of this key, unlike that of any other `write`.
    pub fn value(&mut self, key: &[u8], write: u64) -> Bytes {
        self.buffer.put_bytes(0, self.value_bytes.min(SUM_BYTES));
        let number = write.to_le_bytes();
        let number_bytes = self.value_bytes.saturating_sub(SUM_BYTES).min(NUMBER_BYTES);
        self.buffer.put_slice(number.get(..number_bytes).unwrap_or_default());
        self.buffer.put_slice(&self.filler);
        let mut value = self.buffer.split();
        let (sum, rest) = value.split_at_mut(self.value_bytes.min(SUM_BYTES));
        let right = checksum(key, rest);
        sum.copy_from_slice(right.get(..sum.len()).unwrap_or_default());
        value.freeze()
    }

    /// Whether some load can have written this value of the key of this number.
    pub fn is_right(&mut self, number: u64, value: &[u8]) -> bool {
        let key = self.key(number);
        let (sum, rest) = value.split_at(value.len().min(SUM_BYTES));
        checksum(&key, rest).get(..sum.len()) == Some(sum)
    }
}

fn checksum(key: &[u8], rest: &[u8]) -> [u8; SUM_BYTES] {
    XxHash3_64::oneshot_with_seed(XxHash3_64::oneshot(key), rest).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: [usize; 11] = [0, 1, 7, 8, 9, 15, 16, 17, 100, 5000, 1 << 20];

    #[test]
    fn keys_are_the_prefix_and_the_number() {
        let mut data = Data::new("k{1}:", 0);
        assert_eq!(data.key(0), "k{1}:0");
        assert_eq!(data.key(u64::MAX), "k{1}:18446744073709551615");
    }

    #[test]
    fn a_value_has_its_size_and_is_right_for_its_own_key() {
        for size in SIZES {
            let mut data = Data::new("p", size);
            let key = data.key(5);
            for write in [0, 1, u64::MAX] {
                let value = data.value(&key, write);
                assert_eq!(value.len(), size);
                assert!(data.is_right(5, &value), "{size} bytes, write {write}");
                assert!(Data::new("p", 100).is_right(5, &value), "of a run with another size");
            }
        }
    }

    #[test]
    fn two_writes_of_a_key_differ_where_there_is_room() {
        let mut data = Data::new("p", 16);
        let key = data.key(5);
        assert_ne!(data.value(&key, 1), data.value(&key, 2));
    }

    #[test]
    fn a_value_of_another_key_a_cut_one_and_a_damaged_one_are_wrong() {
        for size in [8, 16, 100, 5000] {
            let mut data = Data::new("p", size);
            let key = data.key(5);
            let value = data.value(&key, 9);
            assert!(!data.is_right(6, &value));
            assert!(!Data::new("q", size).is_right(5, &value));
            for at in (0..size).step_by(1 + size / 50) {
                let mut damaged = value.to_vec();
                damaged[at] ^= 1;
                assert!(!data.is_right(5, &damaged), "byte {at} of {size}");
            }
            if size > SUM_BYTES {
                assert!(!data.is_right(5, &value[..size - 1]));
            }
        }
    }

    #[test]
    fn the_buffer_is_used_again_once_what_was_laid_into_it_is_gone() {
        let mut data = Data::new("p", 100);
        let start = data.buffer.as_ptr() as usize;
        for write in 0..100_000 {
            let key = data.key(write);
            let value = data.value(&key, write);
            assert!((start..start + 2 * BUFFER_BYTES).contains(&(value.as_ptr() as usize)));
        }
    }
}
