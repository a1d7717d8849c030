//! CPU time and memory of processes, from /proc.

use std::collections::BTreeMap;
use std::fs;

/// Ticks of /proc in a second: what Linux has shown to programs for as long as there has been /proc.
const TICKS: f64 = 100.0;

/// Seconds of CPU that the processes of these ids have used, with those of their children that they have waited for.
pub(crate) fn cpu_seconds(pids: &[u32]) -> f64 {
    pids.iter()
        .filter_map(|pid| stat(*pid))
        .map(|stat| stat.cpu)
        .sum()
}

/// The most memory that these processes have held at once each, in MiB.
pub(crate) fn peak_mib(pids: &[u32]) -> f64 {
    pids.iter().filter_map(|pid| memory(*pid, "VmHWM:")).sum()
}

/// The memory that these processes hold now, in MiB.
pub(crate) fn resident_mib(pids: &[u32]) -> f64 {
    pids.iter().filter_map(|pid| memory(*pid, "VmRSS:")).sum()
}

/// A process and all that it has started, itself first.
pub(crate) fn family(pid: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(child) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Some(stat) = stat(child) {
            children.entry(stat.parent).or_default().push(child);
        }
    }
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(pid) = family.get(next).copied() {
        family.extend(children.get(&pid).into_iter().flatten());
        next += 1;
    }
    family
}

/// Seconds of CPU that this machine has spent on anything since it began.
pub(crate) fn busy_seconds() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields = text.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let ticks: Vec<f64> = fields.filter_map(|field| field.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; guests are in user.
    let idle = [3, 4].iter().filter_map(|index| ticks.get(*index)).sum::<f64>();
    (ticks.iter().take(8).sum::<f64>() - idle) / TICKS
}

struct Stat {
    parent: u32,
    cpu: f64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let fields: Vec<&str> = text.rsplit(')').next()?.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        cpu: (ticks(11)? + ticks(12)? + ticks(13)? + ticks(14)?) / TICKS,
    })
}

fn memory(pid: u32, field: &str) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_time_and_memory() {
        let family = family(std::process::id());
        assert_eq!(family[0], std::process::id());
        assert!(resident_mib(&family) > 1.0);
        assert!(peak_mib(&family) >= resident_mib(&family[..1]));
        assert!(cpu_seconds(&family) < 3600.0);
    }
}
