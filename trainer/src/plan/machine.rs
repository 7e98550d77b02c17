//! What this machine has left: its memory, and that of the control group that a container or a Slurm job lives in.
//!
//! Sources: `proc(5)`; the kernel's `Documentation/admin-guide/cgroup-v2.rst` and `cgroup-v1/memory.rst`.

use std::fs;
use std::path::{Path, PathBuf};

/// The bytes that a new process may take now: the least of what the machine and each control group above this process
/// has left. `None` where neither tells.
pub fn available_memory() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let left_in_groups = group_folders(&groups).into_iter().filter_map(|folder| left_in_group(&folder)).min();
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| field(&text, "MemAvailable:"));
    machine.map(|kibibytes| kibibytes * 1024).into_iter().chain(left_in_groups).min()
}

/// The number behind a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}

/// The folders of the control groups that a `/proc/self/cgroup` names, each with those above it.
fn group_folders(groups: &str) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let mut folders = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let top = match controllers {
            "" => root.to_owned(),
            names if names.split(',').any(|name| name == "memory") => root.join("memory"),
            _ => continue,
        };
        let own = top.join(path.trim_start_matches('/'));
        // Inside a container the path may be the host's; then the group is seen at the top alone.
        folders.extend(own.ancestors().take_while(|folder| folder.starts_with(&top)).map(Path::to_owned));
    }
    folders
}

/// What a group's limit leaves, the pages that it caches and would give back counted as left.
fn left_in_group(folder: &Path) -> Option<u64> {
    let number = |name: &str| fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
    let limit = number("memory.max").or_else(|| number("memory.limit_in_bytes"))?;
    let used = number("memory.current").or_else(|| number("memory.usage_in_bytes"))?;
    let statistics = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let cached =
        field(&statistics, "total_inactive_file ").or_else(|| field(&statistics, "inactive_file ")).unwrap_or(0);
    Some(limit.saturating_sub(used.saturating_sub(cached)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_of_both_versions_are_found() {
        let groups = "12:cpuset:/a\n5:cpu,memory:/slurm/job_7\n0::/user.slice\n";
        let folders: Vec<String> = group_folders(groups).iter().map(|folder| folder.display().to_string()).collect();
        assert_eq!(
            folders,
            [
                "/sys/fs/cgroup/memory/slurm/job_7",
                "/sys/fs/cgroup/memory/slurm",
                "/sys/fs/cgroup/memory",
                "/sys/fs/cgroup/user.slice",
                "/sys/fs/cgroup",
            ]
        );
    }

    #[test]
    fn a_group_with_a_limit_leaves_what_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("memory.max", "max\n");
        write("memory.current", "700\n");
        assert_eq!(left_in_group(folder.path()), None, "no limit");
        write("memory.max", "1000\n");
        assert_eq!(left_in_group(folder.path()), Some(300));
        write("memory.stat", "anon 500\ninactive_file 200\n");
        assert_eq!(left_in_group(folder.path()), Some(500));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_tells() {
        assert!(available_memory().is_some_and(|bytes| bytes > 1 << 20));
    }
}
