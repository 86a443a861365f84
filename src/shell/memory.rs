//! How much memory this process may have, for defaults that are a share of it.

use std::fs;
use std::path::Path;

/// What is taken for granted where nothing can be found out.
const MEMORY_BYTES_DEFAULT: u64 = 1 << 30;
const CGROUPS: &str = "/sys/fs/cgroup";

/// Bytes of memory: the machine's, or the limit of the control group that we are in.
pub(crate) fn memory_bytes() -> u64 {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limit_of =
        |group: &Path| fs::read_to_string(group.join("memory.max")).ok().and_then(|text| limit(&text));
    // In a container the own group is the root of what can be seen.
    let groups = [Path::new(CGROUPS).to_owned(), Path::new(CGROUPS).join(group_path(&own))];
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let limits = groups.iter().filter_map(|group| limit_of(group));
    limits.chain(machine).min().unwrap_or(MEMORY_BYTES_DEFAULT)
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// `memory.max` of a control group: a number, or `max` for none.
fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// Our group below the root, from `/proc/self/cgroup`.
fn group_path(text: &str) -> &str {
    let line = text.lines().find_map(|line| line.strip_prefix("0::"));
    line.unwrap_or_default().trim().trim_start_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_of_memory_is_understood() {
        assert_eq!(total("MemTotal:       16314412 kB\nMemFree: 1 kB\n"), Some(16_314_412 * 1024));
        assert_eq!((total(""), total("MemTotal: many kB"), total("MemTotal: 1")), (None, None, None));
        assert_eq!((limit("536870912\n"), limit("max\n")), (Some(512 << 20), None));
        assert_eq!(
            group_path("1:cpu:/x\n0::/system.slice/gtstore.service\n"),
            "system.slice/gtstore.service"
        );
        assert_eq!(group_path(""), "");
        assert!(memory_bytes() > 1 << 20);
    }
}
