//! What the machine is doing, by the kernel's word; in a container, what the kernel shows there.

use std::fs;

/// Counters and gauges of a machine. What the system does not tell is zero.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct MachineUse {
    /// Processors.
    pub processors: u64,
    /// Seconds that processors were busy since the start.
    pub busy: f64,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of it that programs could still get.
    pub available: u64,
    /// Bytes received by network interfaces other than the loopback.
    pub received: u64,
    /// Bytes sent by them.
    pub sent: u64,
    /// Bytes read from disks.
    pub read: u64,
    /// Bytes written to disks.
    pub written: u64,
}

/// Bytes of a sector in `/proc/diskstats`, whatever the disk's own are.
const SECTOR: u64 = 512;
/// Ticks of a second in `/proc/stat`.
const TICKS: f64 = 100.0;

impl MachineUse {
    /// As it is now.
    pub fn now() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let is_disk = |name: &str| {
            let path = format!("/sys/block/{name}");
            // Of what stands for other disks (dm, md, loop) only the others are counted.
            fs::exists(&path).unwrap_or(false)
                && fs::read_dir(format!("{path}/slaves")).map_or(true, |mut slaves| slaves.next().is_none())
                && !name.starts_with("loop")
                && !name.starts_with("ram")
        };
        Self::of(
            &read("/proc/stat"),
            &read("/proc/meminfo"),
            &read("/proc/net/dev"),
            &read("/proc/diskstats"),
            is_disk,
        )
    }

    fn of(stat: &str, memory: &str, network: &str, disks: &str, is_disk: impl Fn(&str) -> bool) -> Self {
        let mut found = Self::default();
        for line in stat.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("cpu") => {
                    let times: Vec<f64> = words.filter_map(|word| word.parse().ok()).collect();
                    // user, nice, system, idle, iowait, irq, softirq, steal; guests are within user.
                    let busy: f64 = times
                        .iter()
                        .take(8)
                        .enumerate()
                        .filter(|(n, _)| *n != 3 && *n != 4)
                        .map(|(_, t)| t)
                        .sum();
                    found.busy = busy / TICKS;
                }
                Some(name) if name.starts_with("cpu") => found.processors += 1,
                _ => {}
            }
        }
        let kilobytes = |key: &str| -> u64 {
            let line = memory.lines().find_map(|line| line.strip_prefix(key));
            line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        found.memory = kilobytes("MemTotal:") * 1024;
        found.available = kilobytes("MemAvailable:") * 1024;
        for line in network.lines() {
            let Some((name, counts)) = line.split_once(':').filter(|(name, _)| name.trim() != "lo") else {
                continue;
            };
            let counts: Vec<u64> = counts.split_whitespace().filter_map(|word| word.parse().ok()).collect();
            if let (false, [received, ..], Some(sent)) =
                (name.contains('|'), counts.as_slice(), counts.get(8))
            {
                found.received += received;
                found.sent += sent;
            }
        }
        for line in disks.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
            if words.get(2).is_some_and(|name| is_disk(name)) {
                found.read += number(5) * SECTOR;
                found.written += number(9) * SECTOR;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        let stat = "cpu  100 20 30 4000 500 6 7 8 50 0\ncpu0 1 2 3 4\ncpu1 1 2 3 4\nintr 5\n";
        let memory = "MemTotal:       1000 kB\nMemFree: 1 kB\nMemAvailable:    400 kB\n";
        let network = "Inter-|   Receive                                                |  Transmit\n\
             face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n\
             lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n  eth0: 100 1 0 0 0 0 0 0 200 1 0 0 0 0 0 0\n";
        let disks = "254 0 vda 1 0 10 0 1 0 20 0 0 0 0\n254 1 vda1 1 0 10 0 1 0 20 0 0 0 0\n7 0 loop0 1 0 4 0 1 0 4 0 0 0 0\n";
        let found = MachineUse::of(stat, memory, network, disks, |name| name == "vda");
        let expected = MachineUse {
            processors: 2,
            busy: 1.71,
            memory: 1_024_000,
            available: 409_600,
            received: 100,
            sent: 200,
            read: 5_120,
            written: 10_240,
        };
        assert_eq!(found, expected);
        assert!(MachineUse::now().memory > 0);
    }
}
