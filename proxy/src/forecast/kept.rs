//! Announced events on disk: who was told that an event is in force may count on it, also after
//! a restart.
//!
//! One small file, written whole beside the old one and renamed over it. Without it the process
//! runs all the same, and says so.

use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};
use tollgate_core::forecast::{EVENTS_MAX, Event, FACTOR_MAX};

const FILE: &str = "forecast-events.json";
const FILE_NEW: &str = "forecast-events.json.new";
/// Of the file: many times what as many events as may be take.
const BYTES_MAX: u64 = 256 * 1024;

/// Where they are kept.
#[derive(Debug)]
pub(super) struct Kept {
    dir: PathBuf,
    writing: Mutex<()>,
}

/// The right to write the file.
#[derive(Debug)]
pub(super) struct Writing<'a> {
    dir: &'a Path,
    _turn: MutexGuard<'a, ()>,
}

/// An event as the file has it, with times in minutes since the epoch.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Line {
    name: String,
    from: i64,
    until: i64,
    factor: f64,
}

impl Kept {
    /// Those of the process before. A file that cannot be understood is as none, and is said.
    pub(super) fn open(dir: &Path) -> (Self, Vec<Event>) {
        let events = read(&dir.join(FILE)).unwrap_or_else(|error| {
            tracing::warn!(
                %error,
                dir = %dir.display(),
                "announced events cannot be read and are forgotten; announce them again"
            );
            Vec::new()
        });
        (Self { dir: dir.to_owned(), writing: Mutex::default() }, events)
    }

    /// Waits for whoever writes just now.
    pub(super) fn begin(&self) -> Writing<'_> {
        let turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        Writing { dir: &self.dir, _turn: turn }
    }
}

impl Writing<'_> {
    /// Whether they are on disk, in place of those before.
    pub(super) fn write(&self, events: &[Event]) -> bool {
        write(self.dir, events)
            .inspect_err(|error| {
                tracing::warn!(
                    %error,
                    dir = %self.dir.display(),
                    "announced events are in force and would be lost with the process"
                );
            })
            .is_ok()
    }
}

fn read(path: &Path) -> io::Result<Vec<Event>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut text)?;
    let lines: Vec<Line> = serde_json::from_slice(&text)?;
    let events = lines
        .into_iter()
        .filter(|line| line.factor > 1.0 && line.factor <= FACTOR_MAX && line.from < line.until);
    let events = events.take(EVENTS_MAX).map(|line| {
        let Line { name, from, until, factor } = line;
        Event { name, from, until, factor }
    });
    Ok(events.collect())
}

fn write(dir: &Path, events: &[Event]) -> io::Result<()> {
    let lines: Vec<Line> = events
        .iter()
        .map(|event| Line {
            name: event.name.clone(),
            from: event.from,
            until: event.until,
            factor: event.factor,
        })
        .collect();
    let path_new = dir.join(FILE_NEW);
    let mut file = File::create(&path_new)?;
    file.write_all(&serde_json::to_vec(&lines)?)?;
    file.sync_all()?;
    fs::rename(&path_new, dir.join(FILE))?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn event(name: &str) -> Event {
        Event { name: name.to_owned(), from: 10, until: 20, factor: 1.5 }
    }

    #[test]
    fn what_was_written_last_is_read() {
        let dir = TempDir::new().unwrap();
        let (kept, events) = Kept::open(dir.path());
        assert!(events.is_empty());
        assert!(kept.begin().write(&[event("a"), event("b")]));
        assert!(kept.begin().write(&[event("b")]));
        assert_eq!(Kept::open(dir.path()).1, [event("b")]);
    }

    #[test]
    fn a_file_of_somebody_else_is_as_none() {
        let dir = TempDir::new().unwrap();
        for text in
            ["", "{", "[{\"name\":1}]", "[{\"name\":\"a\",\"from\":1,\"until\":2,\"factor\":99}]"]
        {
            fs::write(dir.path().join(FILE), text).unwrap();
            assert!(Kept::open(dir.path()).1.is_empty(), "{text}");
        }
    }

    #[test]
    fn where_nothing_can_be_written_it_is_said() {
        let dir = TempDir::new().unwrap();
        let (kept, _) = Kept::open(&dir.path().join("gone"));
        assert!(!kept.begin().write(&[event("a")]));
    }
}
