//! Runs the cases of the table, through sockets on both sides of the proxy.

use super::case::{Answer, Case, Check, Expect, Step};
use crate::cache_stage::by_url;
use http::Method;
use std::{
    fmt::Write as _,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::task::JoinSet;
use tollgate_tests::{Reply, Scripted, Seen, World, until};

/// A proxy that caches, and an upstream that answers as the step at hand has it.
struct Bench {
    world: World,
    upstream: Scripted,
    plan: Arc<Mutex<Plan>>,
}

/// The upstream's next answer; `None`: it hangs up.
#[derive(Default)]
struct Plan(Option<Bytes>);

struct Bytes {
    head: String,
    body: String,
}

impl Bench {
    async fn start() -> Arc<Self> {
        let plan = Arc::<Mutex<Plan>>::default();
        let planned = plan.clone();
        let upstream = Scripted::start(move |mut line| {
            let plan = planned.clone();
            async move {
                while let Some(seen) = line.request().await {
                    let Some(bytes) = plan.lock().unwrap().answer(&seen) else { return };
                    line.wire.send(bytes).await;
                }
            }
        })
        .await;
        let world = by_url().upstream(upstream.url()).start().await;
        Arc::new(Self { world, upstream, plan })
    }
}

impl Plan {
    fn answer(&self, seen: &Seen) -> Option<Vec<u8>> {
        let Bytes { head, body } = self.0.as_ref()?;
        let body = if seen.line().starts_with("HEAD ") { "" } else { body };
        Some(format!("{head}\r\n{body}").into_bytes())
    }
}

/// Runs them all; what fails is reported together.
///
/// # Panics
/// A case fails, or two have one name.
pub(super) async fn check(cases: &[Case]) {
    let mut names: Vec<&str> = cases.iter().map(|case| case.name).collect();
    names.sort_unstable();
    let twice = names.windows(2).find(|pair| pair[0] == pair[1]);
    assert_eq!(twice, None, "two cases of one name");

    let mut shared = Bench::start().await;
    let mut report = String::new();
    let mut failed = 0;
    for (number, case) in cases.iter().enumerate() {
        // What looks like an upstream in trouble may be remembered, and must not meet others.
        let bench = if harms(case) { Bench::start().await } else { shared.clone() };
        // A task of its own: a case that panics is a case that fails.
        let mut tasks = JoinSet::new();
        let case = *case;
        tasks.spawn(async move { run(&bench, number, &case).await });
        let why = match tasks.join_next().await {
            Some(Ok(Ok(()))) => continue,
            Some(Ok(Err(why))) => why,
            Some(Err(error)) => {
                shared = Bench::start().await;
                error.to_string()
            }
            None => unreachable!("there is one task"),
        };
        failed += 1;
        writeln!(report, "{}: {why}", case.name).unwrap();
    }
    let all = cases.len();
    assert!(failed == 0, "{} of {all} cases hold; these do not:\n{report}", all - failed);
}

fn harms(case: &Case) -> bool {
    case.steps.iter().flatten().any(|step| step.answer.hangs_up || step.answer.status >= 500)
}

/// Where a case is: what the words in its values mean.
pub(super) struct Place {
    pub(super) base: String,
    origin: String,
    pub(super) now_s: u64,
}

pub(super) fn place(number: usize, origin: String) -> Place {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Place { base: format!("/c/{number}"), origin, now_s: now.as_secs() }
}

async fn run(bench: &Bench, number: usize, case: &Case) -> Result<(), String> {
    let place = place(number, format!("http://{}", bench.world.addr()));
    let steps: Vec<&Step> = case.steps.iter().flatten().collect();
    for (at, step) in steps.iter().enumerate() {
        let seen_before = bench.asked(&place).len();
        if !matches!(step.expect, Expect::Settles(_)) {
            *bench.plan.lock().unwrap() = Plan(place.bytes(&step.answer, at));
        }
        let reply = bench.send(step, &place, &steps).await;
        let asked = bench.asked(&place).split_off(seen_before);
        judge(step, at, &steps, &reply, &asked, &place)
            .map_err(|why| format!("step {at}: {why}\n    {reply:?}\n    {asked:?}"))?;
    }
    Ok(())
}

impl Bench {
    /// What the upstream was asked for this case.
    fn asked(&self, place: &Place) -> Vec<Seen> {
        let is_ours = |seen: &Seen| {
            let path = seen.line().split(' ').nth(1).unwrap_or_default();
            path.strip_prefix(&place.base)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
        };
        self.upstream.seen().into_iter().filter(is_ours).collect()
    }

    async fn send(&self, step: &Step, place: &Place, steps: &[&Step]) -> Reply {
        let path = format!("{}{}", place.base, step.at);
        let lines: Vec<(&str, String)> =
            step.lines.iter().map(|(name, value)| (*name, place.fill(value))).collect();
        let mut lines: Vec<(&str, &str)> =
            lines.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let method: Method = step.method.parse().unwrap();
        let Expect::Settles(of) = step.expect else {
            return self.world.client.send(method, &path, &lines, step.sent).await;
        };
        lines.push(("cache-control", "only-if-cached"));
        let wanted = place.body(&steps[of].answer, of);
        let look = || self.world.client.send(method.clone(), &path, &lines, step.sent);
        until("the newer answer", look, |reply: &Reply| reply.text() == wanted).await
    }
}

/// Whether a step went as it should.
pub(super) fn judge(
    step: &Step,
    at: usize,
    steps: &[&Step],
    reply: &Reply,
    asked: &[Seen],
    place: &Place,
) -> Result<(), String> {
    let troubled = step.answer.hangs_up || step.answer.status >= 500;
    let once = asked.len() == 1 || troubled && !asked.is_empty();
    let asks = |seen: &Seen| {
        ["if-none-match", "if-modified-since"].iter().any(|name| !seen.fields(name).is_empty())
    };
    let (source, fine, what) = match step.expect {
        Expect::Asked => (Some(at), once, "the upstream's own answer"),
        Expect::Cached(of) => (Some(of), asked.is_empty(), "a kept answer without a question"),
        Expect::Validated(of) => {
            (Some(of), once && asked.iter().all(asks), "a kept answer after a validation")
        }
        Expect::Stale(of) => (Some(of), true, "a stale answer"),
        Expect::Settles(of) => (Some(of), true, "the newer answer at last"),
        Expect::Refused(_) => (None, asked.is_empty(), "a refusal without a question"),
        Expect::Failed(_) => (None, !asked.is_empty(), "a failure"),
    };
    if !fine {
        return Err(format!("not {what}: the upstream was asked {} times", asked.len()));
    }
    let mut status = source.map_or(0, |of| steps[of].answer.status);
    if let Expect::Refused(own) | Expect::Failed(own) = step.expect {
        status = own;
    }
    let mut body = source.map(|of| place.body(&steps[of].answer, of));
    for check in step.checks {
        match check {
            Check::Status(wanted) => status = *wanted,
            Check::Body(wanted) => body = Some((*wanted).to_owned()),
            Check::Has(..)
            | Check::Lacks(_)
            | Check::Age(..)
            | Check::Says(..)
            | Check::Sent(..)
            | Check::NotSent(_) => verify(check, reply, asked, place)?,
        }
    }
    if reply.status.as_u16() != status {
        return Err(format!("not {what}: the status is {} and not {status}", reply.status));
    }
    let has_body = step.method != "HEAD" && !matches!(status, 204 | 205 | 304);
    match body.filter(|_| has_body) {
        Some(body) if body != reply.text() => {
            Err(format!("not {what}: the body is {:?} and not {body:?}", reply.text()))
        }
        _ => Ok(()),
    }
}

fn verify(check: &Check, reply: &Reply, asked: &[Seen], place: &Place) -> Result<(), String> {
    let values = |name: &str| -> Vec<String> {
        let all = reply.headers.get_all(name).iter();
        all.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
    };
    let sent = |name: &str| -> Vec<String> {
        asked
            .last()
            .map(|seen| seen.fields(name).iter().map(|v| (*v).to_owned()).collect())
            .unwrap_or_default()
    };
    let fine = match check {
        Check::Has(name, value) => values(name) == [place.fill(value)],
        Check::Lacks(name) => values(name).is_empty(),
        Check::Age(from, to) => {
            let ages = values("age");
            let age = ages.first().and_then(|age| age.parse::<u64>().ok());
            ages.len() == 1 && age.is_some_and(|age| (*from..=*to).contains(&age))
        }
        Check::Says(name, part) => values(name).iter().any(|value| value.contains(part)),
        Check::Sent(name, value) => sent(name) == [place.fill(value)],
        Check::NotSent(name) => sent(name).is_empty(),
        Check::Status(_) | Check::Body(_) => true,
    };
    if fine { Ok(()) } else { Err(format!("not so: {check:?}")) }
}

impl Place {
    pub(super) fn body(&self, answer: &Answer, at: usize) -> String {
        let own = || format!("{} {at}", self.base);
        answer.body.map_or_else(own, str::to_owned)
    }

    fn bytes(&self, answer: &Answer, at: usize) -> Option<Bytes> {
        if answer.hangs_up {
            return None;
        }
        let mut head = answer.early.to_owned();
        write!(head, "HTTP/1.1 {} Scripted\r\n", answer.status).unwrap();
        for (name, value) in answer.fields {
            write!(head, "{name}: {}\r\n", self.fill(value)).unwrap();
        }
        let mut body = self.body(answer, at);
        if matches!(answer.status, 204 | 304) {
            body.clear();
        } else {
            write!(head, "content-length: {}\r\n", body.len()).unwrap();
        }
        Some(Bytes { head, body })
    }

    /// The value with its words filled in.
    pub(super) fn fill(&self, value: &str) -> String {
        let mut filled = String::new();
        let mut rest = value;
        while let Some((before, after)) = rest.split_once('{') {
            let (word, after) = after.split_once('}').expect("an open word");
            filled.push_str(before);
            filled.push_str(&self.word(word));
            rest = after;
        }
        filled + rest
    }

    fn word(&self, word: &str) -> String {
        let sign = word.find(['+', '-']).unwrap_or(word.len());
        let (name, offset) = word.split_at(sign);
        let offset: i64 = if offset.is_empty() { 0 } else { offset.parse().unwrap() };
        let at_s = self.now_s.saturating_add_signed(offset);
        match name {
            "base" => self.base.clone(),
            "origin" => self.origin.clone(),
            "now" | "rfc850" | "asctime" => date(name, at_s),
            _ => panic!("no such word: {word}"),
        }
    }
}

/// A date in one of its three forms.
fn date(form: &str, at_s: u64) -> String {
    const DAYS: [&str; 7] =
        ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let days = at_s / 86_400;
    let name = DAYS[usize::try_from(days % 7).unwrap()];
    let short: String = name.chars().take(3).collect();
    let (mut year, mut left) = (1970, days);
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    while left >= 365 + u64::from(leap(year)) {
        left -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while left >= lengths[month] {
        left -= lengths[month];
        month += 1;
    }
    let (day, month) = (left + 1, MONTHS[month]);
    let clock = format!("{:02}:{:02}:{:02}", at_s / 3600 % 24, at_s / 60 % 60, at_s % 60);
    match form {
        "rfc850" => format!("{name}, {day:02}-{month}-{:02} {clock} GMT", year % 100),
        "asctime" => format!("{short} {month} {day:>2} {clock} {year}"),
        _ => format!("{short}, {day:02} {month} {year} {clock} GMT"),
    }
}

#[test]
fn a_date_is_written_in_each_of_its_forms() {
    assert_eq!(date("now", 784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
    assert_eq!(date("rfc850", 784_111_777), "Sunday, 06-Nov-94 08:49:37 GMT");
    assert_eq!(date("asctime", 784_111_777), "Sun Nov  6 08:49:37 1994");
    assert_eq!(date("now", 951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
}
