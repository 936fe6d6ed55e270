//! `process_*`: what the kernel says about this process, read at the scrape.
//!
//! A file that cannot be read leaves its metric out: an absent number is
//! better than a wrong one.

use super::{names, readings::family};
use prometheus::proto::MetricFamily;
use std::fs;
use tollgate_config::{Environment, ProcessEnvironment};

/// The kernel reports CPU time to user space in hundredths of a second on every
/// architecture we build for (`USER_HZ`), whatever its own timer does.
const TICKS_PER_SECOND: u64 = 100;

/// Every family that could be read.
pub(super) fn families() -> Vec<MetricFamily> {
    let read = |path| fs::read_to_string(path).ok();
    let stat = read("/proc/self/stat");
    let status = read("/proc/self/status");
    let field = |place| stat.as_deref().and_then(|stat| stat_field(stat, place));
    let bytes = |name| status.as_deref().and_then(|status| status_bytes(status, name));
    let cpu = field(UTIME).zip(field(STIME)).map(|(user, system)| user + system);
    let boot = read("/proc/stat").as_deref().and_then(boot_seconds);
    let start = field(STARTTIME).zip(boot).map(|(ticks, boot)| boot * TICKS_PER_SECOND + ticks);
    let limits = read("/proc/self/limits");
    let one = |of, value: Option<f64>| value.map(|value| family(of, &[(&[], value)]));
    let count = |value: u64| value as f64;
    [
        one(&names::CPU_SECONDS, cpu.map(seconds)),
        one(&names::RESIDENT_BYTES, bytes("VmRSS:").map(count)),
        one(&names::VIRTUAL_BYTES, bytes("VmSize:").map(count)),
        // Read each time: a container can be resized while it runs.
        one(&names::MEMORY_LIMIT, Some(count(ProcessEnvironment.memory_limit().unwrap_or(0)))),
        one(&names::OPEN_FDS, open_fds().map(count)),
        one(&names::MAX_FDS, limits.as_deref().and_then(soft_limit_of_fds).map(count)),
        one(&names::START_TIME, start.map(seconds)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Places after the command's closing parenthesis in `/proc/self/stat`.
const UTIME: usize = 11;
const STIME: usize = 12;
const STARTTIME: usize = 19;

/// The command may hold spaces and parentheses, so fields are counted from its end.
fn stat_field(stat: &str, place: usize) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(place)?.parse().ok()
}

/// `VmRSS:     1234 kB` in bytes.
fn status_bytes(status: &str, name: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

fn boot_seconds(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn soft_limit_of_fds(limits: &str) -> Option<u64> {
    let rest = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

fn open_fds() -> Option<u64> {
    let entries = fs::read_dir("/proc/self/fd").ok()?;
    // One of them is the listing itself.
    Some((entries.count() as u64).saturating_sub(1))
}

#[expect(clippy::float_arithmetic, reason = "ticks to seconds, for a gauge")]
fn seconds(ticks: u64) -> f64 {
    ticks as f64 / TICKS_PER_SECOND as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b)) S 1 2 3 4 5 6 7 8 9 10 250 50 13 14 15 16 17 18 900 1";
        assert_eq!(stat_field(stat, UTIME), Some(250));
        assert_eq!(stat_field(stat, STIME), Some(50));
        assert_eq!(stat_field(stat, STARTTIME), Some(900));
        assert_eq!(stat_field("7 (a S 1", UTIME), None);
    }

    #[test]
    fn every_number_of_this_process_is_there_and_plausible() {
        let families = families();
        let value = |name: &str| {
            let family = families.iter().find(|family| family.name() == name).unwrap();
            let metric = &family.get_metric()[0];
            metric.get_gauge().get_value() + metric.get_counter().get_value()
        };
        assert_eq!(families.len(), 7);
        assert!(value("process_resident_memory_bytes") > 100_000.0);
        assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
        let limit = value("process_memory_limit_bytes");
        assert!(limit == 0.0 || limit > value("process_resident_memory_bytes"));
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_max_fds") >= value("process_open_fds"));
        // After 2020: seconds of the epoch, not since boot.
        assert!(value("process_start_time_seconds") > 1.5e9);
        assert!(value("process_cpu_seconds_total") >= 0.0);
    }
}
