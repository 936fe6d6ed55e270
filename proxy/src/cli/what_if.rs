//! `tollgate what-if`: replays a key trace against caches of other sizes, times to live and policies.
//!
//! It reads files and asks no instance: a replay takes all of a processor for a while, which is
//! better not the one that calls wait for.

mod page;

use self::page::Page;
use super::{Failure, print_line, settings::ConfigFile, warn_line, write_text};
use crate::{app::with_causes, cache::dir_of};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::Instant;
use tollgate_cache::{
    memory::Policy,
    replay::{Replay, Score, Setting},
    trace::{self, TraceError},
};

/// Where an instance writes when nobody says.
const DATA_DIR: &str = "./tollgate-data";
/// More at once are not looked at by anybody.
const SETTINGS_MAX: usize = 200;
/// Between two lines about how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);
const SIZES: std::ops::RangeInclusive<u64> = 1 << 20..=1 << 40;

/// Tell what other sizes, times to live and policies of the memory tier would have answered and
/// saved, from a key trace (cache.trace)
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Every combination of --size, --ttl and --policy is a row; what is left out is as it was, and\n\
without --size there are half, the same, twice and four times the size. The hit ratio is memory's\n\
own (answered from memory, or by what an equal call brought; not from tiers behind it), with one line\n\
for each item of a list and our own calls among them, so tollgate_cache_hit_ratio may be another.\n\
± is how far it may be off: by how much the replay of the configuration as it was differs from what was recorded,\n\
and, of a sampled trace, twice the standard error. A replay takes at most as much memory as the\n\
cache that it plays, and 300 MB for the trace.\n\
\n\
Examples:\n  \
    tollgate what-if -c tollgate.yaml\n  \
    tollgate what-if --trace tollgate-data/trace --size 128MiB,256MiB --policy lfu,cost\n  \
    tollgate what-if --trace trace.copy --ttl 10m,1h --json")]
pub(super) struct WhatIf {
    #[command(flatten)]
    config: ConfigFile,
    /// File or folder of a key trace [default: trace in the configuration's data_dir]
    #[arg(long, value_name = "PATH")]
    trace: Option<PathBuf>,
    /// Sizes of the memory tier
    #[arg(long, value_name = "SIZE,…", value_delimiter = ',')]
    size: Vec<String>,
    /// Times to live, in place of those of all answers that are keyed by content
    #[arg(long, value_name = "TIME,…", value_delimiter = ',')]
    ttl: Vec<String>,
    /// What is kept when there is no room for everything
    #[arg(long, value_name = "lfu|lru|cost,…", value_delimiter = ',')]
    policy: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A row: what was played, and what it came to.
#[derive(Debug)]
struct Row {
    setting: Setting,
    score: Score,
}

impl WhatIf {
    pub(super) fn execute(self) -> Result<(), Failure> {
        let path = self.path()?;
        let recording = trace::read(&path).map_err(failure)?;
        let notes = page::notes(&recording);
        let routes = recording.routes.clone();
        let replay = Replay::new(recording);
        let settings = self.settings(replay.as_it_was())?;
        let mut progress = Progress::new(settings.len() + 1, replay.calls());
        let mut play = |setting: Setting| {
            let score = replay.play(&setting, |calls| progress.tell(calls));
            progress.done += 1;
            Row { setting, score }
        };
        let as_it_was = play(replay.as_it_was());
        let rows: Vec<Row> = settings.into_iter().map(play).collect();
        let page =
            Page { path: &path, replay: &replay, as_it_was: &as_it_was, rows: &rows, routes };
        if self.json {
            print_line(&format!("{:#}", page.json(&notes)));
        } else {
            notes.iter().for_each(|note| warn_line(note));
            write_text(&page.text());
        }
        Ok(())
    }

    fn path(&self) -> Result<PathBuf, Failure> {
        if let Some(path) = &self.trace {
            return Ok(path.clone());
        }
        let config = match self.config.clone().source()? {
            Some(source) => Some(source.read()?.0),
            None => None,
        };
        let data_dir = config.map_or_else(|| PathBuf::from(DATA_DIR), |config| config.data_dir);
        Ok(dir_of(&data_dir))
    }

    fn settings(&self, was: Setting) -> Result<Vec<Setting>, Failure> {
        let own = was.memory_bytes_max;
        let sizes = list("--size", &self.size, "a size from 1MiB to 1TiB, like 256MiB", |text| {
            tollgate_config::size(text).filter(|size| SIZES.contains(size))
        })?;
        let ttls = list("--ttl", &self.ttl, "a time like 10m, 1h or 7d", |text| {
            let ttl = tollgate_config::duration(text)?;
            Some(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX))
        })?;
        let policies = list("--policy", &self.policy, "lfu, lru or cost", policy)?;
        let or = |own, given: Vec<u64>| if given.is_empty() { own } else { given };
        let sizes = or(vec![own / 2, own, own.saturating_mul(2), own.saturating_mul(4)], sizes);
        let ttls: Vec<Option<u64>> =
            if ttls.is_empty() { vec![None] } else { ttls.into_iter().map(Some).collect() };
        let policies = if policies.is_empty() { vec![was.policy] } else { policies };
        let mut all = Vec::new();
        for memory_bytes_max in sizes {
            for ttl_ms in &ttls {
                let of = |policy: &Policy| Setting {
                    memory_bytes_max,
                    ttl_ms: *ttl_ms,
                    policy: *policy,
                };
                all.extend(policies.iter().map(of));
            }
        }
        if all.len() > SETTINGS_MAX {
            let line = format!("{} combinations: give fewer, at most {SETTINGS_MAX}", all.len());
            return Err(Failure::Input(vec![line]));
        }
        Ok(all)
    }
}

fn policy(text: &str) -> Option<Policy> {
    [Policy::Lfu, Policy::Lru, Policy::Cost].into_iter().find(|policy| page::name(*policy) == text)
}

fn list<T>(
    flag: &str,
    texts: &[String],
    wanted: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, Failure> {
    let mut all = Vec::with_capacity(texts.len());
    for text in texts {
        let Some(one) = read(text.trim()) else {
            let line = format!("{flag}: must be {wanted}, not {}", text.escape_debug());
            return Err(Failure::Input(vec![line]));
        };
        all.push(one);
    }
    Ok(all)
}

fn failure(error: TraceError) -> Failure {
    Failure::Input(vec![with_causes(&error)])
}

/// Says how far it is, where that takes a while.
struct Progress {
    told: Instant,
    replays: usize,
    done: usize,
    calls: usize,
}

impl Progress {
    fn new(replays: usize, calls: usize) -> Self {
        Self { told: Instant::now(), replays, done: 0, calls: calls.max(1) }
    }

    fn tell(&mut self, calls: usize) {
        let now = Instant::now();
        if now.saturating_duration_since(self.told) >= PROGRESS_INTERVAL {
            self.told = now;
            super::eprint_line(&self.line(calls));
        }
    }

    fn line(&self, calls: usize) -> String {
        let played = self.done.saturating_mul(self.calls).saturating_add(calls);
        let percent = played.saturating_mul(100) / self.replays.saturating_mul(self.calls).max(1);
        format!("what-if: {percent} % ({} of {} replays)", self.done, self.replays)
    }
}

#[cfg(test)]
mod tests;
