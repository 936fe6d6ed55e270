//! `GET /api/forecast` and `POST /api/forecast/events`: the load to come, and what an operator
//! knows about it.

use super::{Ask, Problem};
use crate::{
    app::Parts,
    forecast::{Announced, minute_of},
    meter::unix_ms,
};
use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tollgate_core::forecast::{EVENTS_MAX, Event, FACTOR_MAX, Outlook};

/// How far ahead an event may be announced; beyond it is a typing mistake.
const AHEAD_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// How long it may last.
const LASTS_MAX: Duration = Duration::from_secs(31 * 24 * 60 * 60);
const NAME_BYTES_MAX: usize = 128;

/// What is sent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    name: Option<String>,
    at: Option<String>,
    r#for: Option<String>,
    factor: Option<f64>,
    #[serde(default)]
    withdraw: bool,
}

/// What is meant.
#[derive(Debug, PartialEq)]
enum Meant {
    Announce(Event),
    Withdraw(String),
}

/// Both: what is sent is an order.
pub(super) async fn answer(parts: &Arc<Parts>, ask: &Ask) -> Result<Value, Problem> {
    if ask.head.method == http::Method::POST {
        announce(parts, &ask.body).await
    } else {
        Ok(show(parts))
    }
}

/// `GET /api/forecast`.
fn show(parts: &Parts) -> Value {
    let (now, at_ms) = (Instant::now(), unix_ms());
    let rate = parts.metrics.arrival_rate(now);
    let horizons = parts.forecasts.outlook(at_ms, rate);
    let events = parts.forecasts.events(at_ms);
    json!({
        "unit": "calls/s",
        "arrival_rate": rate,
        "highest_rate": parts.forecasts.highest(at_ms),
        "horizons": horizons.iter().map(horizon).collect::<Vec<_>>(),
        "events": events.iter().map(event).collect::<Vec<_>>(),
    })
}

fn horizon(outlook: &Outlook) -> Value {
    json!({
        "horizon_s": outlook.horizon * 60,
        "load": outlook.load,
        "model": outlook.model,
        "error_ratio": outlook.error,
        "in_force": outlook.in_force,
        "floor": outlook.floor,
    })
}

fn event(event: &Event) -> Value {
    let time = |minute: i64| Timestamp::from_second(minute.saturating_mul(60)).ok();
    json!({
        "name": event.name,
        "at": time(event.from).map(|at| at.to_string()),
        "until": time(event.until).map(|at| at.to_string()),
        "factor": event.factor,
    })
}

/// `POST /api/forecast/events`.
async fn announce(parts: &Arc<Parts>, body: &Bytes) -> Result<Value, Problem> {
    let meant = read(body, unix_ms())?;
    let own = parts.clone();
    let told = match &meant {
        Meant::Announce(event) => format!("{event:?}"),
        Meant::Withdraw(name) => format!("withdrawn: {name:?}"),
    };
    let changing = tokio::task::spawn_blocking(move || match meant {
        Meant::Announce(event) => own.forecasts.announce(event),
        Meant::Withdraw(name) => own.forecasts.withdraw(&name),
    });
    let changed = changing.await.map_err(|_| Problem::busy("it could not be noted; try again"))?;
    match changed {
        Announced::InForce { kept } => {
            tracing::info!(event = told, kept, "an administrator announced an event");
            let events = parts.forecasts.events(unix_ms());
            Ok(json!({ "events": events.iter().map(event).collect::<Vec<_>>(), "kept": kept }))
        }
        Announced::TooMany => Err(Problem::new(
            http::StatusCode::CONFLICT,
            format!("{EVENTS_MAX} events are announced; withdraw one, or wait for the end of one"),
        )),
        Announced::Unknown => Err(Problem::not_found("name: no event of that name is announced")),
    }
}

fn read(body: &[u8], now_ms: i64) -> Result<Meant, Problem> {
    if body.trim_ascii_start().first().is_some_and(|first| *first != b'{') {
        // serde takes a list for the members in their order.
        return Err(Problem::bad("body: not a JSON object"));
    }
    let order: Order =
        serde_json::from_slice(body).map_err(|error| Problem::bad(format!("body: {error}")))?;
    let name = order.name.as_deref().map(known_name).transpose()?;
    match (order.withdraw, name, &order.at, &order.r#for, order.factor) {
        (true, Some(name), None, None, None) => Ok(Meant::Withdraw(name)),
        (true, ..) => Err(Problem::bad("withdraw: needs name, and nothing else")),
        (false, name, Some(at), Some(length), Some(factor)) => {
            let event = announced(name, at, length, factor, now_ms)?;
            Ok(Meant::Announce(event))
        }
        (false, ..) => Err(Problem::bad("an event has at, for and factor")),
    }
}

/// It is shown, logged and kept.
fn known_name(name: &str) -> Result<String, Problem> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        let detail =
            format!("name: must be 1 to {NAME_BYTES_MAX} bytes, without control characters");
        return Err(Problem::bad(detail));
    }
    Ok(name.to_owned())
}

fn announced(
    name: Option<String>,
    at: &str,
    length: &str,
    factor: f64,
    now_ms: i64,
) -> Result<Event, Problem> {
    let from_ms = if at == "now" {
        now_ms
    } else {
        let at: Timestamp = at.parse().map_err(|_| {
            Problem::bad("at: must be now or a time like 2026-11-27T08:00:00Z or …+01:00")
        })?;
        at.as_millisecond()
    };
    let lasts = tollgate_config::duration(length)
        .filter(|lasts| !lasts.is_zero() && *lasts <= LASTS_MAX)
        .ok_or_else(|| Problem::bad("for: must be a duration like 2h, at most 31d"))?;
    if !(factor > 1.0 && factor <= FACTOR_MAX) {
        let detail = format!("factor: must be above 1 and at most {FACTOR_MAX}");
        return Err(Problem::bad(detail));
    }
    let ms = |length: Duration| i64::try_from(length.as_millis()).unwrap_or(i64::MAX);
    let until_ms = from_ms.saturating_add(ms(lasts));
    if until_ms <= now_ms {
        return Err(Problem::bad("at: the event is over already"));
    }
    if from_ms.saturating_sub(now_ms) > ms(AHEAD_MAX) {
        return Err(Problem::bad("at: more than a year ahead"));
    }
    let from = minute_of(from_ms);
    let until = minute_of(until_ms.saturating_add(59_999)).max(from + 1);
    let name = name.unwrap_or_else(|| {
        Timestamp::from_second(from.saturating_mul(60))
            .map_or_else(|_| at.to_owned(), |at| at.to_string())
    });
    Ok(Event { name, from, until, factor })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-22T02:00:30Z.
    const NOW_MS: i64 = 1_795_312_830_000;

    #[track_caller]
    fn refused(body: &str) -> String {
        read(body.as_bytes(), NOW_MS).unwrap_err().detail
    }

    #[track_caller]
    fn event(body: &str) -> Event {
        match read(body.as_bytes(), NOW_MS) {
            Ok(Meant::Announce(event)) => event,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_event_covers_the_whole_minutes_it_touches() {
        let found = event(r#"{"at":"2026-11-22T09:00:59+01:00","for":"90s","factor":3}"#);
        let eight: Timestamp = "2026-11-22T08:00:00Z".parse().unwrap();
        let minute = eight.as_second() / 60;
        let name = "2026-11-22T08:00:00Z".to_owned();
        assert_eq!(found, Event { name, from: minute, until: minute + 3, factor: 3.0 });
        let found = event(r#"{"name":"sale","at":"now","for":"1h","factor":1.5}"#);
        assert_eq!((found.name.as_str(), found.from), ("sale", NOW_MS / 60_000));
        // One that is under way can still be announced.
        event(r#"{"at":"2026-11-22T01:00:00Z","for":"2h","factor":2}"#);
        let withdrawn = read(br#"{"name":"sale","withdraw":true}"#, NOW_MS).unwrap();
        assert_eq!(withdrawn, Meant::Withdraw("sale".to_owned()));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (body, part) in [
            ("[]", "not a JSON object"),
            ("{}", "at, for and factor"),
            (r#"{"at":"now","for":"1h"}"#, "at, for and factor"),
            (r#"{"at":"soon","for":"1h","factor":2}"#, "at: must be"),
            (r#"{"at":"now","for":"1","factor":2}"#, "for: must be"),
            (r#"{"at":"now","for":"32d","factor":2}"#, "at most 31d"),
            (r#"{"at":"now","for":"0s","factor":2}"#, "for: must be"),
            (r#"{"at":"now","for":"1h","factor":1}"#, "factor: must be"),
            (r#"{"at":"now","for":"1h","factor":21}"#, "factor: must be"),
            (r#"{"at":"2026-11-21T00:00:00Z","for":"1h","factor":2}"#, "over already"),
            (r#"{"at":"2027-12-21T00:00:00Z","for":"1h","factor":2}"#, "a year"),
            (r#"{"at":"now","for":"1h","factor":2,"name":""}"#, "name: must be"),
            (r#"{"at":"now","for":"1h","factor":2,"name":"a\nb"}"#, "control"),
            (r#"{"at":"now","for":"1h","factor":2,"when":1}"#, "when"),
            (r#"{"withdraw":true}"#, "needs name"),
            (r#"{"withdraw":true,"name":"a","factor":2}"#, "nothing else"),
        ] {
            assert!(refused(body).contains(part), "{body}: {}", refused(body));
        }
    }
}
