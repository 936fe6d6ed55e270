//! `tollgate report`: what was used and what it cost, from the ledger on disk, beside a
//! running instance or after it.

use super::{Failure, settings::ConfigFile, write_text};
use crate::{app::with_causes, meter::unix_ms};
use std::path::PathBuf;
use tollgate_config::Config;
use tollgate_ledger::{
    Dim, LedgerError, Period, Reader, Report as LedgerReport, ReportFormat, ReportQuery, Resource,
    Window, Zone,
};

/// Where a ledger is when nobody says.
const DATA_DIR: &str = "./tollgate-data";

/// Formats of later versions.
const LATER: [&str; 3] = ["md", "html", "focus"];

/// Report usage, cost and savings from the ledger
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tollgate report -c tollgate.yaml --period month --by model,tenant\n  \
    tollgate report --data-dir ./tollgate-data --from 2026-11-01 --to 2026-11-08 --format csv\n\n\
Resources (with -c):\n  \
    They cost for the time that an instance ran, as the ledger knows it. Calls of all upstreams\n  \
    share that: by the time they held a place, where every upstream has a concurrency limit;\n  \
    else by the time they ran, those of one moment sharing it. What nobody used is idle.")]
pub(super) struct Report {
    #[command(flatten)]
    config: ConfigFile,
    /// Directory of the ledger, in place of the configuration's
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The day, week or month that holds --from, or this moment [default: month]
    #[arg(long, value_name = "day|week|month")]
    period: Option<String>,
    /// First moment: a date, a local time or an RFC 3339 time
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Moment after the last
    #[arg(long, value_name = "TIME", conflicts_with = "period")]
    to: Option<String>,
    /// Time zone of days and of what is shown, such as Europe/Berlin
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    tz: String,
    /// Keep rows apart by these: route, tenant, user, tier, project, business, class,
    /// model, version, status, reason, cache, cache_tier, quality
    #[arg(long, value_name = "DIM,…", default_value = "model")]
    by: String,
    /// How it is written
    #[arg(long, value_name = "table|json|csv", default_value = "table")]
    format: String,
}

impl Report {
    pub(super) fn execute(self) -> Result<(), Failure> {
        let format = format_of(&self.format)?;
        let config = match self.config.clone().source()? {
            Some(source) => Some(source.read()?.0),
            None => None,
        };
        let query = self.query(config.as_ref(), unix_ms())?;
        let dir = self.data_dir.or_else(|| config.map(|config| config.data_dir));
        let dir = dir.unwrap_or_else(|| PathBuf::from(DATA_DIR));
        let report = Reader::open(&dir)
            .and_then(|reader| LedgerReport::build(&reader, query))
            .map_err(failure)?;
        write_text(&report.render(format));
        Ok(())
    }

    fn query(&self, config: Option<&Config>, now_ms: i64) -> Result<ReportQuery, Failure> {
        let zone = Zone::parse(&self.tz).map_err(|error| wrong("--tz", &error))?;
        Ok(ReportQuery {
            window: self.window(&zone, now_ms)?,
            by: self.dims()?,
            step_ms: None,
            zone,
            currency: "USD".to_owned(),
            resources: config.map(resources).unwrap_or_default(),
            concurrency: config.map_or(0, permits),
            now_ms,
        })
    }

    fn dims(&self) -> Result<Vec<Dim>, Failure> {
        if self.by.trim().is_empty() {
            return Err(Failure::Input(vec![
                "--by: empty: name a dimension, such as model".to_owned(),
            ]));
        }
        Dim::parse_list(&self.by).map_err(|error| wrong("--by", &error))
    }

    fn window(&self, zone: &Zone, now_ms: i64) -> Result<Window, Failure> {
        let time = |flag: &str, text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => zone.parse_time_ms(text).map(Some).map_err(|error| wrong(flag, &error)),
        };
        let (from, to) = (time("--from", &self.from)?, time("--to", &self.to)?);
        let period = match (&self.period, from, to) {
            (None, Some(from_ms), to) => {
                // Without an end: until now.
                let window = Window { from_ms, to_ms: to.unwrap_or(now_ms) };
                return if window.from_ms < window.to_ms {
                    Ok(window)
                } else {
                    Err(Failure::Input(vec![
                        "--from: must be before --to and before now".to_owned(),
                    ]))
                };
            }
            (None, None, Some(_)) => {
                return Err(Failure::Input(vec!["--to: needs --from".to_owned()]));
            }
            (period, ..) => period.as_deref().unwrap_or("month"),
        };
        let period = Period::parse(period).map_err(|error| wrong("--period", &error))?;
        period.around(from.unwrap_or(now_ms), zone).map_err(|error| wrong("--period", &error))
    }
}

fn format_of(name: &str) -> Result<ReportFormat, Failure> {
    match name {
        "table" => Ok(ReportFormat::Table),
        "json" => Ok(ReportFormat::Json),
        "csv" => Ok(ReportFormat::Csv),
        later if LATER.contains(&later) => {
            Err(Failure::Input(vec![format!("--format {later}: not in this version")]))
        }
        other => Err(Failure::Input(vec![format!(
            "--format: not a format: {other:?}: use table, json or csv"
        )])),
    }
}

fn resources(config: &Config) -> Vec<Resource> {
    let resources = config.resources.iter();
    resources
        .map(|resource| Resource {
            name: resource.name.clone(),
            // Nine million dollars an hour is as much as a ledger can say.
            hourly_pico: i64::try_from(resource.hourly_pico_usd).unwrap_or(i64::MAX),
            replicas: resource.replicas,
        })
        .collect()
}

/// Permits of all upstreams together; 0 where one has no limit.
fn permits(config: &Config) -> u64 {
    let limits = config.upstreams.iter().map(|upstream| upstream.concurrency_limit);
    let limits: Option<Vec<u64>> = limits.map(|limit| Some(u64::from(limit?.get()))).collect();
    limits.map_or(0, |limits| limits.iter().sum())
}

fn wrong(flag: &str, error: &LedgerError) -> Failure {
    Failure::Input(vec![format!("{flag}: {error}")])
}

fn failure(error: LedgerError) -> Failure {
    if matches!(error, LedgerError::Missing { .. }) {
        return Failure::Input(vec![error.to_string()]);
    }
    Failure::Environment(with_causes(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(Debug, clap::Parser)]
    struct Typed {
        #[command(flatten)]
        report: Report,
    }

    /// Sunday, 2026-11-22T12:00:00Z.
    const NOW_MS: i64 = 1_795_348_800_000;

    #[track_caller]
    fn check(flags: &str, expected: Result<(&str, &str), &str>) {
        let words = std::iter::once("report").chain(flags.split_whitespace());
        let typed = Typed::try_parse_from(words).unwrap();
        let found = typed.report.query(None, NOW_MS).map(|query| {
            let show = |ms| query.zone.format_ms(ms);
            (show(query.window.from_ms), show(query.window.to_ms))
        });
        match (found, expected) {
            (Ok((from, to)), Ok(expected)) => assert_eq!((&*from, &*to), expected, "{flags}"),
            (Err(Failure::Input(lines)), Err(part)) => {
                assert!(lines[0].contains(part), "{lines:?}")
            }
            (found, _) => panic!("{flags}: {found:?}"),
        }
    }

    #[test]
    fn a_window_is_what_the_flags_say_it_is() {
        check("", Ok(("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z")));
        check("--period day", Ok(("2026-11-22T00:00:00Z", "2026-11-23T00:00:00Z")));
        check("--period week", Ok(("2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z")));
        let october = Ok(("2026-10-01T00:00:00Z", "2026-11-01T00:00:00Z"));
        check("--period month --from 2026-10-15", october);
        check("--from 2026-11-20", Ok(("2026-11-20T00:00:00Z", "2026-11-22T12:00:00Z")));
        let two_days = Ok(("2026-11-20T00:00:00Z", "2026-11-22T00:00:00Z"));
        check("--from 2026-11-20 --to 2026-11-22", two_days);
        check("--from 2026-11-22 --to 2026-11-20", Err("--from"));
        check("--to 2026-11-20", Err("--to: needs --from"));
        check("--period year", Err("--period: "));
        check("--from yesterday", Err("--from: "));
        check("--tz Atlantis/Capital", Err("--tz: "));
        check("--by colour", Err("--by: not a dimension"));
        check("--by model,model", Err("--by: model stands there twice"));
        check("--by=", Err("--by: empty"));
    }

    #[test]
    fn formats_of_later_versions_are_refused_by_name() {
        for name in LATER {
            let Err(Failure::Input(lines)) = format_of(name) else { panic!("{name}") };
            assert_eq!(lines, [format!("--format {name}: not in this version")]);
        }
        assert!(matches!(format_of("pdf"), Err(Failure::Input(_))));
        assert_eq!(format_of("json").unwrap(), ReportFormat::Json);
    }

    #[test]
    fn a_directory_without_a_ledger_is_the_callers_mistake() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap();
        let typed = Typed::try_parse_from(["report", "--data-dir", path]).unwrap();
        let Err(Failure::Input(lines)) = typed.report.execute() else { panic!("no failure") };
        assert!(lines[0].contains("no ledger in"), "{lines:?}");
    }
}
