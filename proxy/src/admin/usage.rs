//! `GET /api/usage` and `GET /api/usage/records`: what was used, what it cost and saved.

use super::{Problem, query::Query, read_ledger, reading::problem};
use crate::{
    app::Parts,
    aside::{self, Answer},
    meter::unix_ms,
};
use http::StatusCode;
use serde::Serialize;
use tollgate_config::Config;
use tollgate_ledger::{
    Dim, Period, RecordView, Report, ReportFormat, ReportQuery, Resource, Uuid, Window, Zone,
};

pub(super) const SUMS_QUERY: &[&str] = &["from", "to", "by", "step"];
pub(super) const RECORDS_QUERY: &[&str] = &["limit", "before"];

/// Rows of one answer: some four megabytes of JSON.
const ROWS_MAX: usize = 10_000;

/// The longest time of one question; a year, and a leap day.
const SPAN_MS_MAX: i64 = 366 * 24 * 3600 * 1000;

const RECORDS_DEFAULT: usize = 100;
const RECORDS_MAX: usize = 1000;

/// Sums by dimensions and steps, as `tollgate report --format json` shows them.
pub(super) async fn sums(parts: &Parts, config: &Config, query: Query) -> Result<Answer, Problem> {
    let query = sums_query(config, &query, unix_ms())?;
    let report = read_ledger(parts, move |reader| Report::build(reader, query)).await?;
    if report.rows.len() > ROWS_MAX {
        return Err(Problem::bad(format!(
            "more than {ROWS_MAX} rows: ask for fewer dimensions, a longer step or a shorter time"
        )));
    }
    let text = report.render(ReportFormat::Json);
    Ok(aside::with_type(StatusCode::OK, "application/json", text))
}

fn sums_query(config: &Config, query: &Query, now_ms: i64) -> Result<ReportQuery, Problem> {
    let zone = Zone::utc();
    let time = |name: &str| {
        let parsed = query.get(name).map(|text| zone.parse_time_ms(text)).transpose();
        parsed.map_err(|error| Problem::bad(format!("{name}: {error}")))
    };
    let (from_ms, to_ms) = (time("from")?, time("to")?);
    let around = |at_ms| Period::Day.around(at_ms, &zone).map_err(|error| problem(&error));
    let from_ms = match from_ms {
        Some(from_ms) => from_ms,
        None => around(to_ms.map_or(now_ms, |to_ms| to_ms.saturating_sub(1)))?.from_ms,
    };
    // The end of today, not this moment: whole windows come from the rollups.
    let to_ms = match to_ms {
        Some(to_ms) => to_ms,
        None => around(now_ms)?.to_ms,
    };
    if from_ms >= to_ms {
        return Err(Problem::bad("from: not before to"));
    }
    if to_ms.saturating_sub(from_ms) > SPAN_MS_MAX {
        return Err(Problem::bad("from, to: more than 366 days apart: ask for a shorter time"));
    }
    let by = Dim::parse_list(query.get("by").unwrap_or_default());
    let by = by.map_err(|error| problem(&error))?;
    let step_ms = query.get("step").map(step_ms).transpose()?;
    Ok(ReportQuery { by, step_ms, ..report_query(config, Window { from_ms, to_ms }, now_ms) })
}

/// The question about a whole window, with what a configuration adds to it.
pub(crate) fn report_query(config: &Config, window: Window, now_ms: i64) -> ReportQuery {
    let resources = config.resources.iter().map(|resource| Resource {
        name: resource.name.clone(),
        hourly_pico: i64::try_from(resource.hourly_pico_usd).unwrap_or(i64::MAX),
        replicas: resource.replicas,
    });
    // One upstream without a limit: its calls are measured by the time they took.
    let limits = config.upstreams.iter().map(|upstream| upstream.concurrency_limit);
    let concurrency = limits.map(|limit| limit.map(|limit| u64::from(limit.get()))).sum();
    ReportQuery {
        window,
        by: Vec::new(),
        step_ms: None,
        zone: Zone::utc(),
        currency: "USD".to_owned(),
        resources: resources.collect(),
        concurrency: Option::<u64>::unwrap_or_default(concurrency),
        now_ms,
    }
}

/// `500ms`, `30s`, `5m`, `1h`, `7d`.
fn step_ms(text: &str) -> Result<i64, Problem> {
    let bad = || Problem::bad(format!("step: {text:?} is no length: write 5m, 1h or 1d"));
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (count, unit) = text.split_at_checked(digits).ok_or_else(bad)?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(bad()),
    };
    let count: i64 = count.parse().map_err(|_| bad())?;
    count.checked_mul(unit_ms).filter(|step| *step > 0).ok_or_else(bad)
}

/// A page of records.
#[derive(Debug, Serialize)]
struct Page {
    records: Vec<RecordView>,
    /// The next page's `before`; `null` on the last one.
    next: Option<String>,
}

/// Single records, newest first.
pub(super) async fn records(parts: &Parts, query: Query) -> Result<Answer, Problem> {
    let limit = match query.get("limit") {
        None => RECORDS_DEFAULT,
        Some(text) => {
            let limit = text.parse().ok().filter(|limit| (1..=RECORDS_MAX).contains(limit));
            limit.ok_or_else(|| Problem::bad(format!("limit: a number from 1 to {RECORDS_MAX}")))?
        }
    };
    let before = query.get("before").map(Uuid::parse_str).transpose();
    let before = before.map_err(|_| Problem::bad("before: the id of a record"))?;
    let records = read_ledger(parts, move |reader| reader.records(limit, before)).await?;
    let is_full = records.len() == limit;
    let next = records.last().filter(|_| is_full).map(|last| last.record.id.to_string());
    let page = serde_json::to_vec(&Page { records, next });
    let page = page.map_err(|error| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the answer: {error}"))
    })?;
    Ok(aside::with_type(StatusCode::OK, "application/json", page))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(raw: &str) -> Result<ReportQuery, String> {
        let environment = tollgate_config::ProcessEnvironment;
        let upstream = "http://127.0.0.1:1";
        let (config, _) =
            Config::for_upstream(upstream, &Default::default(), &environment).unwrap();
        let query = Query::parse(Some(raw), SUMS_QUERY).unwrap();
        let now_ms = Zone::utc().parse_time_ms("2026-11-21T13:00").unwrap();
        sums_query(&config, &query, now_ms).map_err(|problem| problem.detail)
    }

    #[track_caller]
    fn covers(raw: &str, from: &str, to: &str) {
        let Window { from_ms, to_ms } = ask(raw).unwrap().window;
        let zone = Zone::utc();
        assert_eq!([zone.format_ms(from_ms), zone.format_ms(to_ms)], [from, to], "{raw}");
    }

    #[test]
    fn without_times_the_question_is_about_today() {
        covers("", "2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z");
        covers("from=2026-11-01", "2026-11-01T00:00:00Z", "2026-11-22T00:00:00Z");
        covers("to=2026-11-02", "2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z");
        covers(
            "from=2026-11-01T01%3A00%3A00%2B01%3A00&to=2026-11-02T05:00:00Z",
            "2026-11-01T00:00:00Z",
            "2026-11-02T05:00:00Z",
        );
    }

    #[test]
    fn a_question_that_is_none_is_refused_by_the_name_of_its_part() {
        for (raw, part) in [
            ("from=yesterday", "from: "),
            ("to=2026-13-01", "to: "),
            ("from=2026-11-02&to=2026-11-02", "not before"),
            ("from=2020-01-01", "366 days"),
            ("by=modle", "modle"),
            ("step=1", "step: "),
            ("step=0h", "step: "),
            ("step=99999999999999999999h", "step: "),
            ("step=%C3%A4", "step: "),
        ] {
            let detail = ask(raw).unwrap_err();
            assert!(detail.contains(part), "{raw}: {detail}");
        }
        assert_eq!(ask("step=90m&by=model,user").unwrap().step_ms, Some(5_400_000));
    }
}
