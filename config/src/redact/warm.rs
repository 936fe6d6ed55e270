//! What is asked before somebody wants it, written back.

use super::{file, list};
use crate::{
    Warm, WarmRun, WarmWhen,
    text::{show_duration, show_rate},
};
use serde_json::{Value, json};

pub(super) fn warm(warm: &Warm) -> Value {
    json!({
        "file": warm.file.as_ref().map(|path| file(path)),
        "restore_hot": warm.restore_hot,
        "rate": show_rate(warm.interval),
        "concurrency": warm.concurrency,
        "time_zone": warm.schedule.iter().any(is_daily).then(|| warm.time_zone.iana_name()),
        "schedule": list(&warm.schedule, run),
    })
}

fn is_daily(run: &WarmRun) -> bool {
    matches!(run.when, WarmWhen::Daily { .. })
}

fn run(run: &WarmRun) -> Value {
    let (at, every) = match run.when {
        WarmWhen::Daily { hour, minute } => (Some(format!("{hour:02}:{minute:02}")), None),
        WarmWhen::Every(length) => (None, Some(show_duration(length))),
    };
    json!({ "file": file(&run.file), "at": at, "every": every, "refresh": run.refresh })
}
