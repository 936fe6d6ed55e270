//! What may be said of the load to come, and to whom else what waits is told.

use super::*;
use tollgate_config::{Forecast, redacted};

fn file(rule: &str) -> String {
    with(&format!("telemetry: {{ forecast: {{ {rule} }} }}"))
}

fn forecast(rule: &str) -> Forecast {
    valid(&file(rule)).forecast
}

fn without_path(rule: &str) -> String {
    problems(&file(rule)).replace("telemetry.forecast.", "")
}

#[test]
fn a_forecast_needs_nothing_said_and_takes_what_is_said() {
    assert_eq!(valid(SMALLEST).forecast, Forecast::default());
    let said = "horizons: [2m, 6h], raise_max: 1.5, time_zone: Europe/Berlin, schedules: [\
        { name: night, from: '22:00', to: '06:30', share: 10% }, \
        { name: peak, days: [mon, fri], from: '08:30', to: '10:00', share: 80% }]";
    let told = forecast(said);
    assert_eq!(told.rules.horizons, [2, 360]);
    assert_eq!(told.time_zone.iana_name(), Some("Europe/Berlin"));
    let [night, peak] = &told.rules.schedules[..] else { panic!("{told:?}") };
    assert_eq!((night.days, night.from, night.lasts, night.share), ([true; 7], 1320, 510, 0.1));
    assert_eq!(peak.days, [true, false, false, false, true, false, false]);
    assert_eq!((peak.from, peak.lasts, peak.share), (510, 90, 0.8));
    // What is told of it is what would be read again.
    let redacted = redacted(&valid(&file(said)))["telemetry"]["forecast"].to_string();
    let written = redacted.trim_start_matches('{').trim_end_matches('}');
    assert_eq!(forecast(written), told);
}

#[test]
fn what_cannot_be_meant_by_a_forecast_is_said() {
    let wrong = [
        "horizons: [90s, 7h, 5m, 5m]",
        "raise_max: 0.5",
        "time_zone: Mars, schedules: [{ name: a b, from: '8', to: '24:00', share: 0% }]",
        "schedules: [{ name: a, from: '08:00', to: '09:00', share: 5% }, { name: a, days: [mon], from: '08:00', to: '09:00', share: 5% }]",
        "horizons: [], schedules: [{ days: [monday] }]",
    ];
    insta::assert_snapshot!(wrong.map(without_path).join("\n"), @r#"
    horizons[0]: must be whole minutes, not "90s"
    horizons[1]: must be 1m to 6h, not 7h
    horizons[3]: 5m appears twice
    raise_max: must be 1 to 20
    schedules[0].name: must be 1 to 64 letters, digits or - _, not "a b"
    schedules[0].from: must be a time of day like "08:30", not "8"
    schedules[0].to: must be a time of day like "08:30", not "24:00"
    schedules[0].share: must be 0.0001% to 1000%, not 0%
    time_zone: must be a time zone like Europe/Berlin, not "Mars"
    schedules[1].name: a appears twice
    horizons: needs at least 1
    schedules[0].days[0]: must be one of mon, tue, wed, thu, fri, sat, sun, not "monday"
    schedules[0].name: missing
    schedules[0].from: missing
    schedules[0].to: missing
    schedules[0].share: missing
    "#);
}

#[test]
fn other_systems_endpoints_are_named_one_by_one() {
    let profiles =
        |rule: &str| with(&format!("telemetry: {{ metrics: {{ profiles: {{ {rule} }} }} }}"));
    assert_eq!(valid(SMALLEST).metrics.profiles, Default::default());
    let told = valid(&profiles("keda: { host: ns/app }, gie: { upstream: model }"));
    assert_eq!(told.metrics.profiles.keda_host.as_deref(), Some("ns/app"));
    assert_eq!(told.metrics.profiles.gie.unwrap().path, "/metrics");
    let wrong = [
        "keda: {}, gie: {}",
        "keda: { host: a b }, gie: { upstream: modle, path: x }",
        "gie: { upstream: model, path: x }",
        "knative: {}, orca: {}",
    ];
    insta::assert_snapshot!(wrong.map(|rule| problems(&profiles(rule))).join("\n"), @r#"
    telemetry.metrics.profiles.gie.upstream: missing
    telemetry.metrics.profiles.keda.host: missing
    telemetry.metrics.profiles.keda.host: must be 1 to 253 visible characters, not "a b"
    telemetry.metrics.profiles.gie.upstream: no such upstream: "modle"; there are model
    telemetry.metrics.profiles.gie.path: must be a path like /metrics, not "x"
    telemetry.metrics.profiles.knative: not in this version
    telemetry.metrics.profiles.orca: not in this version
    "#);
}
