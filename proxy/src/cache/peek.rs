//! What the cache would say to a call, and why, for who asks about it: nothing is sent, voided,
//! renewed, counted or copied.

use super::{
    Ask, Consulted, Explained, Mode, Question,
    answer::{Hit, Wanted},
    held::terms,
    http_mode::{self, How},
    items, looking,
    neighbours::Story,
    now_ms,
    vote::VOTE,
    wishes,
};
use crate::{app::Parts, identity::Caller, route::Route};
use http::{HeaderValue, Method, header, request};
use std::sync::Arc;
use tollgate_cache::{
    cache_control::RequestControl,
    freshness::{Left, Verdict},
    tiers::{Found, Peeked, TierName},
};

/// What a call would be told.
#[derive(Debug)]
pub(crate) struct Would {
    /// `hit`, `stale`, `miss`, `bypass` or `not_cached`.
    pub(crate) outcome: &'static str,
    pub(crate) why: &'static str,
    pub(crate) tags: Vec<String>,
    /// `None`: nothing is looked for.
    pub(crate) explained: Option<Explained>,
    /// In the order in which they are asked.
    pub(crate) tiers: Vec<Place>,
    /// Of a list that is looked up item by item: how many of them are there, and of how many.
    pub(crate) items: Option<(usize, usize)>,
    /// `None`: it was not noted what questions are made of.
    pub(crate) story: Option<Story>,
}

/// What one tier has for it.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) tier: TierName,
    pub(crate) is_up: bool,
    pub(crate) lies: Option<Lying>,
}

#[derive(Debug)]
pub(crate) struct Lying {
    pub(crate) age_ms: u64,
    /// Of its time; below 0 for one that is past it.
    pub(crate) left_ms: i64,
    pub(crate) is_soft: bool,
    /// `given`, `given-while-renewed`, `given-as-old`, or why not: `unwanted`, `past-its-time`,
    /// `for-a-failure`, `other-form`.
    pub(crate) verdict: &'static str,
}

impl Would {
    fn without(outcome: &'static str, why: &'static str) -> Self {
        let (tags, explained, tiers) = (Vec::new(), None, Vec::new());
        Self { outcome, why, tags, explained, tiers, items: None, story: None }
    }

    pub(crate) fn bypass(why: &'static str) -> Self {
        Self::without("bypass", why)
    }

    fn about(parts: &Parts, question: &Question, head: &request::Parts) -> Self {
        let host = head.headers.get(header::HOST).map(HeaderValue::as_bytes);
        let version = question.version.as_deref().unwrap_or_default();
        let neighbours = &parts.cache.neighbours;
        let story = neighbours.asked(question);
        Self {
            explained: Some(question.explain(version, host)),
            tags: question.tags.iter().map(ToString::to_string).collect(),
            story: story.map(|asked| neighbours.story(&asked, &parts.cache.tiers, u64::MAX)),
            ..Self::without("miss", question.forwarded())
        }
    }
}

/// Asks as [`consult`](super::consult) does, and changes nothing.
pub(crate) async fn peek(
    parts: &Arc<Parts>,
    route: &Arc<Route>,
    ask: &Ask,
    head: &request::Parts,
    caller: &Caller,
) -> Would {
    let mut head = head.clone();
    // Who asks about a call does not vote.
    head.headers.remove(VOTE);
    let wish = wishes(&head.headers);
    if ask.mode == Mode::Content && !wish.no_store {
        // So that nothing is looked for yet: all that is wanted is the question.
        head.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    }
    let consulted = match ask.mode {
        Mode::Http => Box::pin(http_mode::peek(parts, route, ask, &head, caller)).await,
        Mode::Content | Mode::Off => super::consult(parts, route, ask, &head, caller).await,
    };
    match consulted {
        Consulted::Bypass(_) if wish.only_if_cached => {
            Would::without("not_cached", "only-if-cached")
        }
        Consulted::Bypass(why) => Would::bypass(why),
        Consulted::NotCached => Would::without("not_cached", "only-if-cached"),
        Consulted::Hit(_) | Consulted::Given(_) => {
            Box::pin(given(parts, route, ask, &head, caller)).await
        }
        Consulted::Renewed(_, question) => {
            let tiers = http_mode::places(parts, &question, &head, caller).await;
            let about = Would::about(parts, &question, &head);
            Would { outcome: "stale", why: "renewed", tiers, ..about }
        }
        Consulted::Miss(question) if question.mode == Mode::Content => {
            let would = Would::about(parts, &question, &head);
            Box::pin(content(parts, &question, ask, &wish, would)).await
        }
        Consulted::Miss(question) => {
            let tiers = http_mode::places(parts, &question, &head, caller).await;
            Would { tiers, ..Would::about(parts, &question, &head) }
        }
    }
}

/// Of mode http, what is given makes no question: the same is asked once more as by who wants none
/// of what there is.
async fn given(
    parts: &Arc<Parts>,
    route: &Arc<Route>,
    ask: &Ask,
    head: &request::Parts,
    caller: &Caller,
) -> Would {
    let mut anew = head.clone();
    // HEAD is answered from what GET stored.
    anew.method = Method::GET;
    anew.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    match Box::pin(http_mode::peek(parts, route, ask, &anew, caller)).await {
        Consulted::Miss(question) | Consulted::Renewed(_, question) => {
            let tiers = http_mode::places(parts, &question, head, caller).await;
            let lies = tiers.iter().find_map(|place| place.lies.as_ref());
            let (outcome, why) = match lies.map(|lies| lies.verdict) {
                Some(verdict @ ("given-as-old" | "given-while-renewed")) => ("stale", verdict),
                Some(_) | None => ("hit", "found"),
            };
            Would { outcome, why, tiers, ..Would::about(parts, &question, head) }
        }
        // It has gone, or come, in between.
        Consulted::Hit(_) | Consulted::Given(_) | Consulted::Bypass(_) | Consulted::NotCached => {
            Would::without("hit", "found")
        }
    }
}

async fn content(
    parts: &Parts,
    question: &Question,
    ask: &Ask,
    wish: &RequestControl,
    would: Would,
) -> Would {
    let miss = |why| if wish.only_if_cached { ("not_cached", why) } else { ("miss", why) };
    if question.version.is_none() {
        let (outcome, why) = miss("version-unknown");
        return Would { outcome, why, ..would };
    }
    let now_ms = now_ms();
    let plan = &question.route.plan;
    let peeked = parts.cache.tiers.peek(question.key, &question.check, plan, now_ms).await;
    let place = |Peeked { tier, is_up, found }| {
        let lies = found.map(|found: Found| lying(&found, question, ask, wish, now_ms));
        Place { tier, is_up, lies }
    };
    let tiers: Vec<Place> = peeked.into_iter().map(place).collect();
    let mut lies = tiers.iter().filter_map(|place| place.lies.as_ref().map(|lies| lies.verdict));
    let given = lies.clone().find(|verdict| verdict.starts_with("given"));
    let items = if given.is_none() && !wish.no_cache {
        let looking = looking(&question.route, (ask, question.fitting), wish);
        items::known(parts, question, looking).await
    } else {
        None
    };
    let (outcome, why) = match (given, lies.next()) {
        _ if wish.no_cache => miss("no-cache"),
        (Some("given"), _) => ("hit", "found"),
        (Some(given), _) => ("stale", given),
        _ if items.is_some_and(|items| items.new == items.all) => ("hit", "item-by-item"),
        _ if items.is_some_and(|items| items.new + items.old == items.all) => {
            ("stale", "item-by-item")
        }
        _ if items.is_some() => miss("item-by-item"),
        (None, Some(verdict)) => miss(verdict),
        (None, None) => match would.story.as_ref().and_then(|story| story.was.as_ref()) {
            Some(was) => miss(was.ended.unwrap_or("evicted")),
            None => miss("not-there"),
        },
    };
    let items = items.map(|items| (items.new, items.all));
    Would { outcome, why, tiers, items, ..would }
}

fn lying(
    found: &Found,
    question: &Question,
    ask: &Ask,
    wish: &RequestControl,
    now_ms: u64,
) -> Lying {
    let windows = question.route.freshness.windows;
    let terms = terms(&question.route, question.fitting, &found.entry);
    let left = found.entry.left(found.soft_since_ms, &terms, now_ms);
    let has_form = || Hit::of(found, Wanted::of(ask), (How::Hit, left), now_ms).is_some();
    let verdict = match found.entry.judge(left, wish, windows, now_ms) {
        Verdict::Held if matches!(left, Left::Fresh { .. }) => "unwanted",
        Verdict::Held if windows.longest_ms() == 0 => "past-its-time",
        Verdict::Held => "for-a-failure",
        Verdict::Fresh { .. } | Verdict::Stale { .. } if !has_form() => "other-form",
        Verdict::Fresh { .. } => "given",
        Verdict::Stale { renew: true, .. } => "given-while-renewed",
        Verdict::Stale { renew: false, .. } => "given-as-old",
    };
    let left_ms = match left {
        Left::Fresh { for_ms, .. } => i64::try_from(for_ms).unwrap_or(i64::MAX),
        Left::Stale { by_ms } => i64::try_from(by_ms).map_or(i64::MIN, |by_ms| -by_ms),
    };
    let age_ms = found.entry.age_ms(now_ms);
    Lying { age_ms, left_ms, is_soft: found.soft_since_ms.is_some(), verdict }
}
