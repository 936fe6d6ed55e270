//! What `tollgate what-if` prints, for a reader and for a program. Sums of a sampled trace are
//! multiplied by what was left out.

use super::{Path, Row};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt::Write as _, time::Duration};
use tollgate_cache::{
    memory::Policy,
    replay::{Estimate, Replay, Score},
    trace::{Recording, SAMPLE_ALL},
};
use tollgate_config::{show_duration, show_ppm, show_size};

const PPM: u64 = 1_000_000;

/// What there is to show.
pub(super) struct Page<'a> {
    pub(super) path: &'a Path,
    pub(super) replay: &'a Replay,
    pub(super) as_it_was: &'a Row,
    pub(super) rows: &'a [Row],
    pub(super) routes: BTreeMap<u16, Box<str>>,
}

/// What a reader should know before the numbers are believed.
pub(super) fn notes(recording: &Recording) -> Vec<String> {
    let mut notes = Vec::new();
    if recording.lost > 0 {
        notes.push(format!(
            "{} calls are missing from the trace: its queue or its disk was full",
            recording.lost
        ));
    }
    if recording.unread_bytes > 0 {
        notes.push(format!(
            "the last {} bytes are torn or damaged and were left out: was the process killed?",
            recording.unread_bytes
        ));
    }
    if recording.left_alone {
        notes.push(
            "the folder's other file is of another start, and was left out: name it to replay it"
                .to_owned(),
        );
    }
    notes
}

/// A policy in the words of the configuration.
pub(super) fn name(policy: Policy) -> &'static str {
    match policy {
        Policy::Lfu => "lfu",
        Policy::Lru => "lru",
        Policy::Cost => "cost",
    }
}

impl Page<'_> {
    pub(super) fn text(&self) -> String {
        let Self { replay, .. } = self;
        let recorded = replay.recorded();
        let mut text = String::new();
        let keys = match replay.sample() {
            SAMPLE_ALL => "all keys".to_owned(),
            _ => format!("{} of the keys; sums are of all", self.sampled()),
        };
        let span = show_duration(Duration::from_secs(replay.span_ms() / 1_000));
        writeln!(
            text,
            "trace      {}: {} calls in {span}, {keys}",
            self.path.display(),
            replay.calls()
        )
        .ok();
        writeln!(text, "recorded   {}", self.sums(recorded)).ok();
        let apart = [
            (recorded.from_before, "answered from what was in memory before the trace"),
            (u64::try_from(replay.warming()).unwrap_or(u64::MAX), "while memory was being filled"),
            (recorded.elsewhere, "of routes without memory"),
            (recorded.passed, "passed the cache by"),
        ];
        for (calls, what) in apart.into_iter().filter(|(calls, _)| *calls > 0) {
            writeln!(text, "not in it  {} calls {what}", self.whole(calls)).ok();
        }
        let was = &self.as_it_was;
        let was_ppm = self.estimate(&was.score).ratio_ppm;
        let off = was_ppm.abs_diff(replay.recorded_ratio_ppm());
        writeln!(
            text,
            "replayed   {} {}: hit ratio {}, recorded {}: off by {} points\n",
            show_size(was.setting.memory_bytes_max),
            name(was.setting.policy),
            percent(was_ppm),
            percent(replay.recorded_ratio_ppm()),
            tenths(off),
        )
        .ok();
        writeln!(
            text,
            "{:>9} {:>7} {:>6} {:>9} {:>7} {:>10} {:>9} {:>14} {:>13} {:>11} {:>10}",
            "size",
            "ttl",
            "policy",
            "hit ratio",
            "±",
            "hits",
            "joined",
            "saved USD",
            "upstream time",
            "from memory",
            "pushed out"
        )
        .ok();
        for row in self.rows {
            self.row(&mut text, row);
        }
        text
    }

    fn row(&self, text: &mut String, Row { setting, score }: &Row) {
        let Estimate { ratio_ppm, error_ppm } = self.estimate(score);
        let ttl = setting.ttl_ms.map_or_else(
            || "as it was".to_owned(),
            |ttl_ms| show_duration(Duration::from_millis(ttl_ms)),
        );
        let ttl = if setting.ttl_ms.is_none() { "–" } else { &ttl };
        writeln!(
            text,
            "{:>9} {ttl:>7} {:>6} {:>9} {:>7} {:>10} {:>9} {:>14} {:>13} {:>11} {:>10}",
            show_size(setting.memory_bytes_max),
            name(setting.policy),
            percent(ratio_ppm),
            tenths(error_ppm),
            self.whole(score.hits),
            self.whole(score.joined),
            usd(self.whole(score.nano_usd)),
            time(self.whole(score.upstream_ms)),
            bytes(self.whole(score.bytes)),
            self.whole(score.pushed_out),
        )
        .ok();
    }

    fn sums(&self, score: &Score) -> String {
        format!(
            "hit ratio {} of {} calls: {} hits, {} joined, {} from tiers behind memory; saved {} USD, {} of the upstream",
            percent(self.replay.recorded_ratio_ppm()),
            self.whole(score.calls),
            self.whole(score.hits),
            self.whole(score.joined),
            self.whole(score.behind),
            usd(self.whole(score.nano_usd)),
            time(self.whole(score.upstream_ms)),
        )
    }

    pub(super) fn json(&self, notes: &[String]) -> Value {
        let replay = self.replay;
        let was = self.as_it_was;
        let recorded_ppm = replay.recorded_ratio_ppm();
        json!({
            "trace": {
                "path": self.path.display().to_string(),
                "calls": replay.calls(),
                "span_ms": replay.span_ms(),
                "sample": self.sampled(),
                "warming": replay.warming(),
                "notes": notes,
            },
            "recorded": self.score(replay.recorded(), Estimate { ratio_ppm: recorded_ppm, error_ppm: 0 }),
            "as_it_was": self.setting(was),
            "error_of_method": ratio(self.estimate(&was.score).ratio_ppm.abs_diff(recorded_ppm)),
            "settings": self.rows.iter().map(|row| self.setting(row)).collect::<Vec<_>>(),
        })
    }

    fn setting(&self, row: &Row) -> Value {
        let Row { setting, score } = row;
        let mut shown = self.score(score, self.estimate(score));
        if let Some(shown) = shown.as_object_mut() {
            shown.insert("size".to_owned(), setting.memory_bytes_max.into());
            shown.insert("ttl_ms".to_owned(), setting.ttl_ms.into());
            shown.insert("policy".to_owned(), name(setting.policy).into());
            for (name, count) in [
                ("pushed_out", score.pushed_out),
                ("too_large", score.too_large),
                ("held_bytes", score.held_bytes),
            ] {
                shown.insert(name.to_owned(), self.whole(count).into());
            }
        }
        shown
    }

    fn score(&self, score: &Score, estimate: Estimate) -> Value {
        let routes = score.by_route.iter().map(|(number, part)| {
            let name = self.routes.get(number).map_or("", |name| &**name);
            json!({
                "route": name,
                "calls": self.whole(part.calls),
                "answered": self.whole(part.answered),
            })
        });
        json!({
            "calls": self.whole(score.calls),
            "hits": self.whole(score.hits),
            "joined": self.whole(score.joined),
            "behind": self.whole(score.behind),
            "hit_ratio": ratio(estimate.ratio_ppm),
            "error": ratio(estimate.error_ppm),
            "bytes": self.whole(score.bytes),
            "saved_usd": usd(self.whole(score.nano_usd)),
            "saved_upstream_ms": self.whole(score.upstream_ms),
            "from_before": self.whole(score.from_before),
            "elsewhere": self.whole(score.elsewhere),
            "passed": self.whole(score.passed),
            "routes": routes.collect::<Vec<_>>(),
        })
    }

    fn estimate(&self, score: &Score) -> Estimate {
        self.replay.estimate(score, &self.as_it_was.score)
    }

    /// Of a sample, what it comes to for all.
    fn whole(&self, count: u64) -> u64 {
        let whole =
            u128::from(count) * u128::from(SAMPLE_ALL) / u128::from(self.replay.sample().max(1));
        u64::try_from(whole).unwrap_or(u64::MAX)
    }

    fn sampled(&self) -> String {
        let ppm = self.replay.sample().saturating_mul(PPM).div_ceil(SAMPLE_ALL);
        show_ppm(u32::try_from(ppm).unwrap_or(u32::MAX))
    }
}

/// `61.2 %`
fn percent(ppm: u64) -> String {
    format!("{} %", tenths(ppm))
}

/// Hundredths with one decimal place, rounded.
fn tenths(ppm: u64) -> String {
    let tenths = ppm.saturating_add(500) / 1_000;
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// For a program: a number from 0 to 1.
fn ratio(ppm: u64) -> Value {
    let digits = format!("{}.{:06}", ppm / PPM, ppm % PPM);
    digits.parse::<f64>().map_or(Value::Null, Value::from)
}

/// Of billionths of a dollar, four decimal places.
fn usd(nano_usd: u64) -> String {
    format!("{}.{:04}", nano_usd / 1_000_000_000, nano_usd % 1_000_000_000 / 100_000)
}

/// `1h02m`, `4m10s`, `3.2s`
fn time(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0..60 => format!("{seconds}.{}s", ms % 1_000 / 100),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
    }
}

/// `12.3 MiB`
fn bytes(bytes: u64) -> String {
    let units = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1_u64 << 10, "KiB")];
    let unit = units.into_iter().find(|(unit, _)| bytes >= *unit);
    let Some((unit, name)) = unit else { return format!("{bytes} B") };
    format!("{}.{} {name}", bytes / unit, u128::from(bytes % unit) * 10 / u128::from(unit))
}
