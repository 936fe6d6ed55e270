//! Where others reach us: listeners, admin, metrics; and how we leave.

use super::SECOND;
use crate::{
    Admin, AdminAddress, Alias, AliasUnit, Certificate, Drain, Limits, Listener, ListenerTls,
    LogFormat, LogLevel, Logs, Metrics, Overrides, Profiles, Route, Secret, SecretSource,
    defaults::{self, DURATION_MAX},
    problem::quoted,
    raw::{
        RawAdmin, RawAlias, RawAliasOf, RawCertificate, RawDrain, RawLimits, RawListener,
        RawListenerTls, RawLogFormat, RawLogLevel, RawLogs, RawMetrics, RawUnit,
    },
    review::Review,
};
use ipnet::IpNet;
use std::{
    collections::HashSet,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

/// Series without a prefix that autoscalers ask Tollgate for (§6 of the contract), by
/// their beginning: an alias that begins like one could meet it, or a later one.
const OWN_METRICS: [&str; 12] = [
    "tollgate_",
    "process_",
    "request_queue_",
    "request_concurrency",
    "request_inflight",
    "request_error_ratio",
    "request_latency_p50_seconds",
    "request_latency_p95_seconds",
    "request_latency_p99_seconds",
    "request_load_forecast",
    "request_arrival_rate",
    "concurrency_limit",
];

pub(super) fn listeners(
    review: &mut Review<'_>,
    raws: Option<Vec<RawListener>>,
    overrides: &Overrides,
) -> Vec<Listener> {
    let raws = raws.unwrap_or_else(|| {
        vec![RawListener { address: Some(defaults::LISTEN.to_owned()), ..RawListener::default() }]
    });
    raws.into_iter()
        .enumerate()
        .map(|(i, raw)| {
            let over = overrides.listen.as_deref().filter(|_| i == 0);
            listener(review, &format!("listeners[{i}]"), raw, over)
        })
        .collect()
}

fn listener(review: &mut Review<'_>, path: &str, raw: RawListener, over: Option<&str>) -> Listener {
    let address = match over {
        Some(typed) => review.address("--listen", typed),
        None => review.address(format!("{path}.address"), &raw.address.unwrap_or_default()),
    };
    Listener {
        address,
        tls: raw.tls.map(|tls| listener_tls(review, &format!("{path}.tls"), tls)),
        trusted: raw.trusted.map(|nets| trusted(review, path, &nets)),
        limits: limits(review, &format!("{path}.limits"), &raw.limits.unwrap_or_default()),
    }
}

fn listener_tls(review: &mut Review<'_>, path: &str, raw: RawListenerTls) -> ListenerTls {
    let certificates = raw.certificates.unwrap_or_default();
    let certificates = certificates
        .iter()
        .enumerate()
        .map(|(i, raw)| certificate(review, &format!("{path}.certificates[{i}]"), raw))
        .collect();
    let client_ca = raw.client_ca.map(|file| review.file(format!("{path}.client_ca"), Some(&file)));
    ListenerTls { certificates, client_ca }
}

fn certificate(review: &mut Review<'_>, path: &str, raw: &RawCertificate) -> Certificate {
    Certificate {
        certificate: review.file(format!("{path}.certificate"), raw.certificate.as_deref()),
        private_key: review.file(format!("{path}.private_key"), raw.private_key.as_deref()),
    }
}

fn trusted(review: &mut Review<'_>, path: &str, raws: &[String]) -> Vec<IpNet> {
    let mut nets = Vec::new();
    for (i, raw) in raws.iter().enumerate() {
        let net = raw.parse::<IpNet>().ok();
        // One address is a network, too.
        match net.or_else(|| raw.parse::<IpAddr>().ok().map(IpNet::from)) {
            Some(net) => nets.push(net.trunc()),
            None => {
                let message = format!("must be a network like 10.0.0.0/8, not {}", quoted(raw));
                review.report(format!("{path}.trusted[{i}]"), message);
            }
        }
    }
    nets
}

fn limits(review: &mut Review<'_>, path: &str, raw: &RawLimits) -> Limits {
    let header_range = defaults::HEADER_BYTES_MIN..=defaults::HEADER_BYTES_MAX;
    let header_bytes_max = review.size_within(
        format!("{path}.header_bytes"),
        raw.header_bytes.as_ref(),
        defaults::HEADER_BYTES,
        header_range,
    );
    let body_range = 1..=1 << 40;
    let body_bytes_max = review.size_within(
        format!("{path}.body"),
        raw.body.as_ref(),
        defaults::BODY_BYTES,
        body_range.clone(),
    );
    let held_default = defaults::HELD_BYTES.max(body_bytes_max);
    let held_bytes_max =
        review.size_within(format!("{path}.held"), raw.held.as_ref(), held_default, body_range);
    if held_bytes_max < body_bytes_max {
        review.report(format!("{path}.held"), "must be at least body: one body must fit");
    }
    let number = |raw: Option<u32>, default: u32| {
        usize::try_from(raw.unwrap_or(default)).unwrap_or(usize::MAX)
    };
    Limits {
        header_bytes_max,
        headers_max: number(raw.headers, defaults::HEADERS),
        body_bytes_max,
        held_bytes_max,
        connections_max: number(raw.connections, defaults::CONNECTIONS),
        header_timeout: review.duration(
            format!("{path}.header_timeout"),
            raw.header_timeout.as_ref(),
            defaults::HEADER_TIMEOUT,
        ),
        idle_timeout: review.duration(
            format!("{path}.idle_timeout"),
            raw.idle_timeout.as_ref(),
            defaults::IDLE_TIMEOUT,
        ),
    }
}

pub(super) fn admin(review: &mut Review<'_>, raw: RawAdmin, overrides: &Overrides) -> Admin {
    let (path, text) = match (&overrides.admin, &raw.address) {
        (Some(typed), _) => ("--admin", typed.as_str()),
        (None, Some(address)) => ("admin.address", address.as_str()),
        (None, None) => ("admin.address", defaults::ADMIN),
    };
    let address = match text.strip_prefix("unix:") {
        Some(socket) if Path::new(socket).is_absolute() => {
            AdminAddress::Unix(PathBuf::from(socket))
        }
        Some(_) => {
            review.report(path, "must be unix: and an absolute path");
            AdminAddress::Unix(PathBuf::new())
        }
        None => AdminAddress::Tcp(review.address(path, text)),
    };
    let token = match raw.token {
        Some(reference) => Some(review.secret("admin.token", &reference)),
        None => review
            .environment
            .var(defaults::ENV_ADMIN_TOKEN)
            .filter(|token| !token.is_empty())
            .map(|token| {
                Secret::new(SecretSource::Env(defaults::ENV_ADMIN_TOKEN.to_owned()), Some(&token))
            }),
    };
    if let AdminAddress::Tcp(address) = address
        && !address.ip().is_loopback()
        && token.is_none()
    {
        let message = format!(
            "off loopback a token is needed: set admin.token or {}",
            defaults::ENV_ADMIN_TOKEN
        );
        review.report("admin.token", message);
    }
    Admin { address, token }
}

pub(super) fn metrics(
    review: &mut Review<'_>,
    raw: RawMetrics,
    overrides: &Overrides,
    routes: &[Route],
) -> Metrics {
    let address = match (&overrides.metrics, &raw.address) {
        (Some(typed), _) => review.address("--metrics", typed),
        (None, Some(address)) => review.address("telemetry.metrics.address", address),
        (None, None) => review.address("telemetry.metrics.address", defaults::METRICS),
    };
    let mut seen = HashSet::new();
    let mut aliases = Vec::new();
    for (i, raw) in raw.aliases.into_iter().flatten().enumerate() {
        let path = format!("telemetry.metrics.aliases[{i}]");
        let alias = alias(review, &path, raw, routes);
        if !seen.insert(alias.name.clone()) {
            review.report(format!("{path}.name"), format!("{} appears twice", alias.name));
        }
        aliases.push(alias);
    }
    Metrics { address, aliases, profiles: Profiles::default() }
}

fn alias(review: &mut Review<'_>, path: &str, raw: RawAlias, routes: &[Route]) -> Alias {
    let (None | Some(RawAliasOf::RequestDuration)) = raw.of;
    let name = review.name(format!("{path}.name"), raw.name, "_");
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        review.report(format!("{path}.name"), "must not begin with a digit");
    }
    if OWN_METRICS.iter().any(|own| name.starts_with(own)) {
        review.report(format!("{path}.name"), format!("{name} is a name of Tollgate's own"));
    }
    // Its absence was reported.
    let quantile = raw.quantile.unwrap_or(0.5);
    if !(quantile > 0.0 && quantile < 1.0) {
        review.report(
            format!("{path}.quantile"),
            format!("must be above 0 and below 1, not {quantile}"),
        );
    }
    let names = raw.routes.unwrap_or_default();
    for (i, name) in names.iter().enumerate() {
        if !routes.iter().any(|route| route.name == *name) {
            let known = routes.iter().map(|route| route.name.as_str());
            let message = super::no_such("route", name, known);
            review.report(format!("{path}.routes[{i}]"), message);
        }
    }
    Alias {
        name,
        quantile,
        unit: match raw.unit {
            Some(RawUnit::Ms) => AliasUnit::Milliseconds,
            Some(RawUnit::S) | None => AliasUnit::Seconds,
        },
        window: review.duration_within(
            format!("{path}.window"),
            raw.window.as_ref(),
            defaults::ALIAS_WINDOW,
            SECOND..=defaults::ALIAS_WINDOW_MAX,
        ),
        routes: names,
    }
}

pub(super) fn logs(raw: &RawLogs) -> Logs {
    Logs {
        format: match raw.format {
            Some(RawLogFormat::Json) | None => LogFormat::Json,
            Some(RawLogFormat::Text) => LogFormat::Text,
        },
        level: match raw.level {
            Some(RawLogLevel::Error) => LogLevel::Error,
            Some(RawLogLevel::Warn) => LogLevel::Warn,
            Some(RawLogLevel::Info) | None => LogLevel::Info,
            Some(RawLogLevel::Debug) => LogLevel::Debug,
            Some(RawLogLevel::Trace) => LogLevel::Trace,
        },
        access: raw.access.unwrap_or(false),
    }
}

pub(super) fn drain(review: &mut Review<'_>, raw: &RawDrain) -> Drain {
    let deadline = review.duration(
        "drain.deadline".to_owned(),
        raw.deadline.as_ref(),
        defaults::DRAIN_DEADLINE,
    );
    let quiet_default = defaults::DRAIN_QUIET.min(deadline / 2);
    let quiet = review.duration_within(
        "drain.quiet".to_owned(),
        raw.quiet.as_ref(),
        quiet_default,
        Duration::ZERO..=DURATION_MAX,
    );
    if quiet >= deadline {
        review.report("drain.quiet", "must be less than drain.deadline: both count from SIGTERM");
    }
    Drain { quiet, deadline }
}
