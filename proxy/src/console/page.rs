//! The page itself: sections of one figure or one table each.
//!
//! No inline style and no inline script, which the policy of the answer forbids; bars
//! are `meter` elements, whose numbers stand beside them for who cannot see them.

use super::{
    money::{dollars, grouped},
    view::{ClassView, EndpointView, QueueView, TierView, Today, View},
};
use crate::upstream::Health;
use maud::{DOCTYPE, Markup, html};
use tollgate_ledger::{Stats, Sums, Zone, decimal};

/// The whole page.
pub(super) fn render(view: &View) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "Tollgate" }
                link rel="icon" href="data:,";
                link rel="stylesheet" href="/console.css";
                script src="/console.js" defer {}
            }
            body {
                header {
                    h1 { "Tollgate" }
                    button #pause type="button" hidden { "Pause" }
                    @if view.has_token {
                        form method="post" action="/logout" {
                            button type="submit" { "Sign out" }
                        }
                    }
                }
                main #main { (sections(view)) }
                footer {
                    p {
                        "Version " (view.version) ". Days are UTC. What ended within the last "
                        "quarter of a second may not be counted yet. "
                        a href="/api/openapi.json" { "API" } " · "
                        a href="/metrics" { "metrics" }
                    }
                }
            }
        }
    }
}

fn sections(view: &View) -> Markup {
    let waiting: usize =
        view.queues.iter().flat_map(|queue| &queue.classes).map(|it| it.waiting).sum();
    let running: u64 = view.queues.iter().map(|queue| queue.inflight).sum();
    let spent = view.today.as_ref().ok().map(|today| today.total.cost_known());
    let saved = view.today.as_ref().ok().map(|today| today.total.saved_known());
    html! {
        @if view.is_draining {
            p.notice role="status" {
                strong { "Draining." } " What is in flight ends; nothing new should come."
            }
        }
        dl.figures aria-label="At a glance" {
            (figure("Calls a second", &html! { (rate(view.rates.calls_per_second)) }, "last 10 s"))
            (figure("Hit ratio", &html! { (percent(view.rates.hit_ratio.all)) }, "last 5 min"))
            (figure("Spent today", &money(spent.flatten()), "by upstream calls"))
            (figure("Saved today", &money(saved.flatten()), "by the cache"))
            (figure("Running", &html! { (grouped(running.into())) }, "at upstreams"))
            (figure("Waiting", &html! { (grouped(len(waiting))) }, "for their turn"))
        }
        (models(&view.today))
        (cache(view))
        @for queue in &view.queues { (queue_section(queue)) }
        (upstreams(view))
        (ledger(view))
        p.when {
            "As of " time #when { (Zone::utc().format_ms(view.now_ms / 1000 * 1000)) }
            ", up for " (span(view.now_ms.saturating_sub(view.started_ms))) "."
        }
    }
}

fn figure(name: &str, value: &Markup, note: &str) -> Markup {
    html! { div { dt { (name) } dd { strong { (value) } span { (note) } } } }
}

fn money(pico: Option<i128>) -> Markup {
    let exact = pico.map(|pico| format!("${} exactly", decimal(pico)));
    html! { data value=[pico.map(decimal)] title=[exact] { (dollars(pico)) } }
}

fn models(today: &Result<Today, String>) -> Markup {
    let row = |name: &Markup, sums: &Sums| {
        html! {
            th scope="row" { (name) }
            td { (money(sums.cost_known())) }
            td { (money(sums.saved_known())) }
            td { (grouped(sums.calls.into())) }
            td { (grouped(sums.hits.into())) }
            td { (grouped(sums.tokens.iter().map(|count| u128::from(*count)).sum())) }
            td { @if sums.unpriced_calls > 0 { (grouped(sums.unpriced_calls.into())) } @else { "0" } }
        }
    };
    html! {
        section aria-labelledby="models" {
            h2 #models { "Spent and saved today" }
            @match today {
                Err(why) => p.bad { "The ledger cannot be read: " (why) }
                Ok(today) if today.models.is_empty() => p { "No call has ended today." }
                Ok(today) => {
                    div.wide { table {
                        thead { tr {
                            th scope="col" { "Model" } th scope="col" { "Spent" }
                            th scope="col" { "Saved" } th scope="col" { "Calls" }
                            th scope="col" { "Hits" } th scope="col" { "Tokens" }
                            th scope="col" { "Unpriced" }
                        } }
                        tbody {
                            @for model in &today.models {
                                tr { (row(&word(&model.name), &model.sums)) }
                            }
                        }
                        tfoot { tr { (row(&html! { "All" }, &today.total)) } }
                    } }
                    @if today.models_left > 0 {
                        p { (today.models_left) " more: see " a href="/api/usage?by=model" { "the API" } "." }
                    }
                }
            }
        }
    }
}

/// A longer name is cut: it would push the numbers off the screen.
const WORD_CHARS_MAX: usize = 48;

/// A name that a caller or the operator chose; escaped as all text is.
fn word(name: &str) -> Markup {
    let shown: String = name.chars().take(WORD_CHARS_MAX).collect();
    let rest = if shown.len() < name.len() { "…" } else { "" };
    html! { @if name.is_empty() { span.none { "no model" } } @else { bdi { (shown) (rest) } } }
}

fn cache(view: &View) -> Markup {
    let recent = &view.rates.hit_ratio;
    let ratios = [
        ("memory", recent.memory),
        ("redis", recent.redis),
        ("memcached", recent.memcached),
        ("postgres", recent.postgres),
        ("disk", recent.disk),
        ("joined in flight", recent.collapsed),
    ];
    // A store that is not there has no line.
    let is_there = |name: &str| {
        let is_store = ["redis", "memcached", "postgres", "disk"].contains(&name);
        !is_store || view.tiers.iter().any(|tier| tier.name == name)
    };
    html! {
        section aria-labelledby="cache" {
            h2 #cache { "Cache" }
            div.wide { table {
                thead { tr {
                    th scope="col" { "Answered by" } th scope="col" { "Last 5 min" } td.bar {}
                } }
                tbody {
                    @for (name, ratio) in ratios {
                        @if is_there(name) {
                            tr {
                                th scope="row" { (name) }
                                td { (percent(ratio)) }
                                td.bar { meter min="0" max="1" value=(ratio) { (percent(ratio)) } }
                            }
                        }
                    }
                }
            } }
            div.wide { table {
                thead { tr {
                    th scope="col" { "Tier" } th scope="col" { "State" } th scope="col" { "Found" }
                    th scope="col" { "Of look-ups" } th scope="col" { "Entries" } th scope="col" { "Held" }
                } }
                tbody { @for tier in &view.tiers { tr { (tier_row(tier)) } } }
            } }
            p {
                @for held in view.tiers.iter().filter_map(|tier| tier.held.as_ref()) {
                    "The memory tier may hold " (bytes(held.bytes_max)) ". "
                }
                (grouped(len(view.flights))) " fills under way."
            }
        }
    }
}

fn tier_row(tier: &TierView) -> Markup {
    html! {
        th scope="row" { (tier.name) }
        td { @match tier.is_up {
            None | Some(true) => span.good { "up" },
            Some(false) => span.bad { "away" },
        } }
        td { (grouped(tier.hits.into())) }
        td { @match tier.hit_ratio { Some(ratio) => (percent(ratio)), None => "—" } }
        @match &tier.held {
            Some(held) => {
                td { (grouped(len(held.entries))) }
                td { (bytes(held.bytes)) }
            }
            None => { td { "—" } td { "—" } }
        }
    }
}

fn queue_section(queue: &QueueView) -> Markup {
    html! {
        section {
            h2 { "Queue of " bdi { (queue.upstream) } }
            p {
                (grouped(queue.inflight.into())) " running"
                @match queue.limit {
                    Some(limit) => { " of " (limit) " at once" }
                    None => ", without a limit",
                }
                @if let Some(why) = queue.limit_why { " (adaptive: " (why.replace('_', " ")) ")" }
                @if let Some(oldest_s) = queue.oldest_s { ", the oldest waits for " (format!("{oldest_s:.1}")) " s" }
                "."
            }
            div.wide { table {
                thead { tr {
                    th scope="col" { "Class" } th scope="col" { "Running" } th scope="col" { "Waiting" }
                    th scope="col" { "Oldest" } th scope="col" { "For" } th scope="col" { "Who waits" }
                    th scope="col" { "Let in, last min" } th scope="col" { "Turned away" }
                    th scope="col" { "Told to wait" }
                } }
                tbody { @for class in &queue.classes { tr { (class_row(class)) } } }
            } }
        }
    }
}

fn class_row(class: &ClassView) -> Markup {
    let waits_for = class.waits_for.map(|why| match why {
        "breaker" => "the upstream, which fails",
        "limit" => "a slot",
        "class_max" => "its class's cap",
        "reserve" => "what is not reserved",
        _ => "the budget",
    });
    html! {
        th scope="row" { bdi { (class.name) } }
        td { (grouped(class.inflight.into())) }
        td { (grouped(len(class.waiting))) }
        td { @match class.oldest_s { Some(oldest_s) => { (format!("{oldest_s:.1}")) " s" } None => "—" } }
        td { (waits_for.unwrap_or("—")) }
        td {
            @for (tenant, waiting) in &class.tenants { (word(tenant)) " " (grouped(len(*waiting))) " " }
            @if class.tenants_left > 0 { "and " (grouped(len(class.tenants_left))) " more" }
            @if class.tenants.is_empty() { "—" }
        }
        td { (grouped(class.granted.into())) }
        td { (grouped(class.shed.into())) }
        td { (class.retry_after_s) " s" }
    }
}

fn upstreams(view: &View) -> Markup {
    let row = |endpoint: &EndpointView| {
        html! {
            th scope="row" { bdi { (endpoint.upstream) } " " span.note { bdi { (endpoint.name) } } }
            td { @match endpoint.health {
                Health::Answering => span.good { "answering" },
                Health::Failing => span.bad { "failing" },
                Health::Open => span.bad { "left alone" },
                Health::Unused => span.none { "not used yet" },
            } }
            td { (grouped(endpoint.inflight.into())) }
            td { (grouped(endpoint.answered.into())) }
            td { (grouped(endpoint.failed.into())) }
        }
    };
    html! {
        section aria-labelledby="upstreams" {
            h2 #upstreams { "Upstreams" }
            div.wide { table {
                thead { tr {
                    th scope="col" { "Endpoint" } th scope="col" { "State" } th scope="col" { "In flight" }
                    th scope="col" { "Answered" } th scope="col" { "Failed" }
                } }
                tbody { @for endpoint in &view.endpoints { tr { (row(endpoint)) } } }
            } }
            div.wide { table {
                thead { tr {
                    th scope="col" { "Route" } th scope="col" { "p99, last min" } th scope="col" { "Errors" }
                } }
                tbody {
                    @for route in &view.rates.routes {
                        tr {
                            th scope="row" { bdi { (route.route) } }
                            td { @if route.p99.is_zero() { "—" } @else { (millis(route.p99.as_secs_f64())) } }
                            td { (percent(route.error_ratio)) }
                        }
                    }
                }
            } }
        }
    }
}

fn ledger(view: &View) -> Markup {
    let Stats { queue_records, wal_bytes, dropped, failures, .. } = view.ledger;
    html! {
        section aria-labelledby="ledger" {
            h2 #ledger { "Ledger" }
            p {
                @if dropped > 0 {
                    strong.bad { (grouped(dropped.into())) " records were lost." }
                } @else if failures > 0 {
                    strong.bad { "Writing failed " (grouped(failures.into())) " times; nothing is lost yet." }
                } @else {
                    span.good { "Every call is kept." }
                }
                " " (grouped(queue_records.into())) " records on their way to the database, "
                (bytes(wal_bytes)) " of journal."
            }
        }
    }
}

fn len(count: usize) -> u128 {
    u128::try_from(count).unwrap_or(u128::MAX)
}

#[expect(clippy::float_arithmetic, reason = "a ratio for a screen")]
fn percent(ratio: f64) -> String {
    format!("{:.1} %", ratio * 100.0)
}

fn rate(per_second: f64) -> String {
    if per_second >= 100.0 { format!("{per_second:.0}") } else { format!("{per_second:.1}") }
}

#[expect(clippy::float_arithmetic, reason = "a time for a screen")]
fn millis(seconds: f64) -> String {
    if seconds >= 1.0 { format!("{seconds:.2} s") } else { format!("{:.1} ms", seconds * 1000.0) }
}

/// Whole units of 1024, rounded down.
fn bytes(count: u64) -> String {
    let units = [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let unit = units.iter().find(|(_, size)| count >= *size);
    unit.map_or_else(|| format!("{count} B"), |(name, size)| format!("{} {name}", count / size))
}

/// `3 d 4 h`, `12 min`, `40 s`.
fn span(millis: i64) -> String {
    let seconds = millis.max(0) / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {} min", minutes % 60),
        (days, hours, _) => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests;
