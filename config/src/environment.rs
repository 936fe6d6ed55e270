//! What the process was given besides its configuration: variables, files, limits.
//!
//! A trait, because tests own their environment: nothing else in Tollgate reads
//! variables, and reading them twice could give two answers.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

/// Of a memory limit file; they hold one number.
const LIMIT_FILE_BYTES_MAX: u64 = 64;
/// Of `/proc/self/cgroup`; a line per hierarchy.
const MEMBERSHIP_BYTES_MAX: u64 = 16 * 1024;
/// cgroup v1 writes "no limit" as the largest multiple of a page.
const NO_LIMIT_BYTES: u64 = 1 << 60;

/// Where references in a configuration lead.
pub trait Environment {
    /// The value of an environment variable; `None` also where it is not UTF-8.
    fn var(&self, name: &str) -> Option<String>;

    /// The text of a file.
    ///
    /// # Errors
    /// It cannot be read, is not UTF-8, or is longer than `bytes_max`.
    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<String>;

    /// Whether there is a file to be read. Its contents are somebody else's business.
    fn is_file(&self, path: &Path) -> bool;

    /// What the container may use, in bytes. `None`: no limit.
    fn memory_limit(&self) -> Option<u64>;
}

/// The real one.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads it")]
    fn var(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<String> {
        let mut text = String::new();
        let len = File::open(path)?.take(bytes_max.saturating_add(1)).read_to_string(&mut text)?;
        if u64::try_from(len).is_ok_and(|len| len <= bytes_max) {
            return Ok(text);
        }
        Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {bytes_max} bytes")))
    }

    fn is_file(&self, path: &Path) -> bool {
        path.is_file()
    }

    fn memory_limit(&self) -> Option<u64> {
        let membership = self.read(Path::new("/proc/self/cgroup"), MEMBERSHIP_BYTES_MAX).ok()?;
        memory_limit(self, Path::new("/sys/fs/cgroup"), &membership)
    }
}

/// The least limit on the way from our cgroup up to `root`, where cgroups are mounted.
/// `membership` is the text of `/proc/self/cgroup`.
///
/// In a container the path of our own cgroup may not exist under `root`, which then *is*
/// our cgroup: so the walk takes what it finds.
pub fn memory_limit(environment: &dyn Environment, root: &Path, membership: &str) -> Option<u64> {
    let limits = membership.lines().flat_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, own) = (fields.next().unwrap_or(""), fields.next().unwrap_or(""));
        let (base, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            v1 if v1.split(',').any(|name| name == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => return Vec::new(),
        };
        let own = Path::new(own.trim_start_matches('/'));
        // A path out of the mount (`/../x`) is that of another namespace.
        let is_inside =
            own.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        let levels = if is_inside { own.ancestors().collect() } else { vec![Path::new("")] };
        levels.into_iter().map(|level| base.join(level).join(file)).collect::<Vec<_>>()
    });
    limits
        .filter_map(|path| environment.read(&path, LIMIT_FILE_BYTES_MAX).ok())
        .filter_map(|text| text.trim().parse::<u64>().ok()) // "max" is no number
        .filter(|limit| *limit < NO_LIMIT_BYTES)
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[track_caller]
    fn check(files: &[(&str, &str)], membership: &str, expected: Option<u64>) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let found = memory_limit(&ProcessEnvironment, root.path(), membership);
        assert_eq!(found, expected);
    }

    #[test]
    fn the_least_limit_on_the_way_up_counts() {
        check(
            &[
                ("memory.max", "max\n"),
                ("pod/memory.max", "1000\n"),
                ("pod/c/memory.max", "4000\n"),
            ],
            "0::/pod/c\n",
            Some(1000),
        );
    }

    #[test]
    fn in_a_container_the_mount_itself_is_our_cgroup() {
        check(&[("memory.max", "5000\n")], "0::/not/mounted/here\n", Some(5000));
        check(&[("memory.max", "5000\n")], "0::/../other\n", Some(5000));
    }

    #[test]
    fn no_limit_is_none() {
        check(&[("memory.max", "max\n")], "0::/\n", None);
        check(&[], "0::/\n", None);
        check(&[], "", None);
        check(
            &[("memory/memory.limit_in_bytes", "9223372036854771712\n")],
            "4:memory:/\n0::/\n",
            None,
        );
    }

    #[test]
    fn the_old_hierarchy_is_understood() {
        check(
            &[("memory/docker/x/memory.limit_in_bytes", "700\n")],
            "5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n0::/\n",
            Some(700),
        );
    }

    #[test]
    fn a_file_that_is_too_long_is_not_read_whole() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "12345").unwrap();
        assert_eq!(ProcessEnvironment.read(file.path(), 5).unwrap(), "12345");
        assert!(ProcessEnvironment.read(file.path(), 4).is_err());
    }
}
