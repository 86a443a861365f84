//! Chance, from the operating system: ids, and the jitter of retries.

use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read};

/// A random 128-bit number, for an id that nobody else has; never 0, which means "not known".
///
/// # Errors
/// The system has no random source to read.
pub fn id() -> io::Result<u128> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u128::from_le_bytes(bytes).max(1))
}

/// A number of milliseconds between half of `ms` and all of it, so that those who failed together
/// do not try again together.
#[must_use]
pub fn jittered(ms: u64) -> u64 {
    let chance = RandomState::new().build_hasher().finish();
    ms - chance % (ms / 2 + 1)
}

/// The machine's boot as a number; 0 where the system does not tell it.
#[must_use]
pub fn boot_id() -> u128 {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    u128::from_str_radix(&text.trim().replace('-', ""), 16).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_are_never_unknown() {
        let (a, b) = (id().unwrap(), id().unwrap());
        assert!(a != b && a != 0 && b != 0);
    }

    #[test]
    fn jitter_stays_between_half_and_all() {
        for ms in [0, 1, 2, 50, 1000] {
            for _ in 0..100 {
                assert!((ms / 2..=ms).contains(&jittered(ms)));
            }
        }
    }

    #[test]
    fn a_boot_has_one_id() {
        assert_eq!(boot_id(), boot_id());
    }
}
