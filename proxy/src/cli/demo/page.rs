//! What the demo shows: plain text that fits 80 columns.

use super::{
    load::{KEYS, Load, Progress},
    stage::{LIMIT, Stage},
    tally::{Books, CLASSES, Line, Pair, Tally},
};
use std::fmt::Write as _;

pub(super) fn opening(stage: &Stage, load: &Load) -> String {
    format!(
        "Tollgate demo: everything in this process, nothing leaves this machine\n\n  \
         provider  {}   a stand-in: OpenAI and Anthropic,\n            \
         {}   answers {LIMIT} calls at once, fails at one more\n  \
         tollgate  http://{}   {LIMIT} permits, a queue per class\n\n\
         {} callers of {} tenants call for {} s: chat and messages, streamed and whole,\n\
         many questions twice, and together more than the provider can take\n",
        stage.provider_url(),
        " ".repeat(stage.provider_url().len()),
        stage.proxy(),
        load.callers(),
        KEYS.len(),
        load.length.as_secs(),
    )
}

pub(super) fn progress(progress: &Progress) -> String {
    let Progress { elapsed, answers, hits, waiting } = progress;
    let seconds = elapsed.as_secs();
    format!(
        "  {seconds:>2} s  {answers:>5} answers  {hits:>5} without the provider  {waiting:>4} waiting"
    )
}

pub(super) fn tables(tally: &Tally) -> String {
    let mut text = String::new();
    let total = &tally.total;
    let mut line = |label: &str, calls: u64| {
        let share = percent(calls, total.calls);
        writeln!(text, "{label:<44}{calls:>7}  {share:>4}").ok();
    };
    line("\nanswered from the memory tier", total.memory);
    line("answered by another's call in flight", total.collapsed);
    line("answered by the provider", total.upstream);
    line("calls", total.calls);
    text.push_str(&classes(tally));
    text.push_str(&models(tally));
    text
}

fn classes(tally: &Tally) -> String {
    let mut text = format!(
        "\n{:<12}{:>7}{:>10}{:>11}{:>12}{:>12}{:>12}\n",
        "class", "calls", "cached", "sent on", "wait p50", "wait p99", "longest"
    );
    for (name, line) in CLASSES.iter().zip(&tally.classes) {
        let spared = line.calls.saturating_sub(line.upstream);
        let [p50, p99, longest] = [50, 99, 100].map(|percent| wait(line.wait_us(percent)));
        let (calls, upstream) = (line.calls, line.upstream);
        writeln!(
            text,
            "{name:<12}{calls:>7}{spared:>10}{upstream:>11}{p50:>12}{p99:>12}{longest:>12}"
        )
        .ok();
    }
    text
}

fn models(tally: &Tally) -> String {
    let mut text = format!(
        "\n{:<20}{:>7}{:>12}{:>12}{:>12}{:>12}\n",
        "model", "calls", "tokens in", "tokens out", "spent", "saved"
    );
    let all = ("total".to_owned(), tally.total.clone());
    for (name, line) in tally.models.iter().chain([(&all.0, &all.1)]) {
        let Line { calls, tokens_in, tokens_out, .. } = line;
        let (spent, saved) = (dollars(line.spent), dollars(line.saved));
        writeln!(text, "{name:<20}{calls:>7}{tokens_in:>12}{tokens_out:>12}{spent:>12}{saved:>12}")
            .ok();
    }
    text
}

pub(super) fn audit(books: &Books) -> String {
    let mut text =
        format!("{:<20}{:>14}{:>14}\n", "do the books agree?", "our ledger", "their count");
    for Pair { what, ours, theirs, they } in &books.pairs {
        let verdict = if ours == theirs { "agree" } else { "DO NOT AGREE" };
        writeln!(text, "{what:<20}{ours:>14}{theirs:>14}   {they}: {verdict}").ok();
    }
    let (limit, most) = (u64::from(LIMIT), books.most_at_once);
    let verdict = match books.limit_exceeded {
        0 => "never more",
        _ => "EXCEEDED",
    };
    write!(text, "{:<20}{limit:>14}{most:>14}   provider: {verdict}", "most at once").ok();
    if books.failures > 0 {
        write!(text, "\n{} calls were not answered", books.failures).ok();
    }
    text
}

pub(super) fn invitation(stage: &Stage) -> String {
    let proxy = stage.proxy();
    let console = stage.console().map_or_else(String::new, |at| format!("http://{at}/"));
    format!(
        "\nstill up until Ctrl-C:\n  \
         proxy     http://{proxy}\n  \
         console   {console}\n  \
         metrics   http://{}/metrics\n\n\
         ask twice; the second answer says `cache-status: tollgate; hit`:\n  \
         curl -si http://{proxy}/v1/chat/completions \\\n    \
         -H 'content-type: application/json' -H 'x-priority: vip' \\\n    \
         -d '{{\"model\":\"gpt-4o-mini\",\"messages\":[{{\"role\":\"user\",\"content\":\"Hello\"}}]}}'",
        stage.metrics(),
    )
}

fn percent(part: u64, of: u64) -> String {
    let share = part.saturating_mul(200).saturating_add(of).checked_div(of.saturating_mul(2));
    share.map_or_else(|| "–".to_owned(), |share| format!("{share} %"))
}

/// Microseconds as people read them.
fn wait(us: Option<u64>) -> String {
    match us {
        None => "–".to_owned(),
        Some(us) if us < 1000 => format!("{us} µs"),
        Some(us) if us < 10_000 => format!("{}.{} ms", us / 1000, us % 1000 / 100),
        Some(us) => format!("{} ms", us / 1000),
    }
}

/// Trillionths of a dollar, rounded to hundredths of a cent.
fn dollars(pico: i128) -> String {
    const TEN_THOUSANDTH: i128 = 100_000_000;
    let rounded = pico.saturating_add(TEN_THOUSANDTH / 2).div_euclid(TEN_THOUSANDTH);
    format!("${}.{:04}", rounded.div_euclid(10_000), rounded.rem_euclid(10_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_as_people_read_them() {
        assert_eq!(dollars(0), "$0.0000");
        assert_eq!(dollars(1_234_549_999_999), "$1.2345");
        assert_eq!(dollars(99_999_950_000_000), "$100.0000");
        assert_eq!(percent(1, 3), "33 %");
        assert_eq!(percent(2, 3), "67 %");
        assert_eq!(percent(0, 0), "–");
        assert_eq!(wait(Some(999)), "999 µs");
        assert_eq!(wait(Some(9_970)), "9.9 ms");
        assert_eq!(wait(Some(10_400)), "10 ms");
        assert_eq!(wait(None), "–");
    }
}
