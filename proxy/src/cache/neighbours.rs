//! What the questions of late were made of, as digests: to say why a call found nothing, and in
//! what it differs from the nearest answer that was kept.
//!
//! Nothing is noted unless the operator gives it room (`cache.explain.entries`), and then only what
//! was stored, missed or passed by: a hit costs nothing. Of every part of a question there is its
//! name and 32 bits of a digest under a key of this process, so that no value can be read or
//! compared elsewhere. Questions of two scopes are never compared: who asks is told nothing of what
//! others asked.

use super::{Ask, Mode, Question, now_ms};
use crate::{app::Parts, exchange::Fetch, inspect::AskBody};
use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, PoisonError},
};
use tollgate_cache::{
    canonical::{Bounds, canonicalise_without},
    entry::Entry,
    generations::{About, Stamp, Standing, Subject},
    key::{CacheKey, KeyParts, Scope},
    pointer::{Pointer, pieces},
    tiers::Tiers,
};
use tollgate_config::KeyPart;
use tollgate_ledger::Uuid;

/// Of a body; what comes after them is one part.
const PIECES_MAX: usize = 64;
/// Of all parts of a question: what a head says may be many lines.
const PARTS_MAX: usize = 96;
/// The longest name of a part that is shown; longer ones are cut.
const NAME_BYTES_MAX: usize = 64;
/// The most differences that are told.
const DIFFERENCES_MAX: usize = 16;

/// The questions of late.
#[derive(Debug)]
pub(crate) struct Neighbours {
    secret: [u8; 32],
    kept: Mutex<VecDeque<Kept>>,
    missed: Mutex<VecDeque<Missed>>,
}

/// What a question is made of, but for the version of the model, which its answer says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Made {
    scope: u64,
    /// A line for each part.
    names: Box<str>,
    digests: Box<[u32]>,
}

/// An answer that was stored.
#[derive(Clone, Debug)]
struct Kept {
    key: CacheKey,
    made: Arc<Made>,
    version: u32,
    stored_at_ms: u64,
    until_ms: u64,
    stamp: Stamp,
    subjects: Box<[Subject]>,
    tags: Box<[Box<str>]>,
}

/// A call that was not answered from the cache.
#[derive(Clone, Debug)]
pub(crate) struct Missed {
    pub(crate) record: Uuid,
    pub(crate) at_ms: u64,
    pub(crate) route: Arc<str>,
    /// The cache had nothing to do with it.
    pub(crate) is_bypass: bool,
    pub(crate) why: &'static str,
    pub(crate) question: Option<Asked>,
}

/// What was looked for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) key: CacheKey,
    made: Arc<Made>,
    /// `None`: no answer had said one.
    version: Option<u32>,
}

/// What is known about a question that has no answer in the cache.
#[derive(Debug)]
pub(crate) struct Story {
    /// The same question was answered, and its answer kept.
    pub(crate) was: Option<Was>,
    pub(crate) nearest: Option<Nearest>,
}

#[derive(Debug)]
pub(crate) struct Was {
    pub(crate) stored_at_ms: u64,
    /// Why it is not given; `None`: it should still be there, unless there was no room for it.
    pub(crate) ended: Option<&'static str>,
}

/// The answer in the same scope whose question differs least.
#[derive(Debug)]
pub(crate) struct Nearest {
    pub(crate) key: CacheKey,
    pub(crate) stored_at_ms: u64,
    /// And how; empty where they differ in nothing that was noted.
    pub(crate) differs: Vec<(String, &'static str)>,
}

impl Default for Neighbours {
    fn default() -> Self {
        let mut secret = [0; 32];
        for (place, word) in secret.chunks_exact_mut(8).zip(0_u64..) {
            place.copy_from_slice(&RandomState::new().hash_one(word).to_le_bytes());
        }
        Self { secret, kept: Mutex::default(), missed: Mutex::default() }
    }
}

impl Neighbours {
    /// What `question` is made of. `host`: part of the key where the URL is the question.
    pub(super) fn made(&self, question: &Question, ask: &Ask, host: Option<&[u8]>) -> Arc<Made> {
        let mut making = Making { secret: &self.secret, names: String::new(), digests: Vec::new() };
        let scope = question.with_parts("", host, |parts| {
            making.head(parts);
            making.scope(parts)
        });
        if question.mode == Mode::Content
            && let AskBody::Whole(bytes, _) = &ask.body
        {
            making.body(question, bytes);
        }
        let Making { names, digests, .. } = making;
        Arc::new(Made { scope, names: names.into(), digests: digests.into() })
    }

    /// Of an answer that is to be kept under `key`.
    pub(super) fn kept(
        &self,
        parts: &Parts,
        made: Option<Arc<Made>>,
        key: CacheKey,
        entry: Entry,
    ) -> Arc<Entry> {
        let entry = Arc::new(entry);
        let Some(made) = made else { return entry };
        let kept = Kept {
            key,
            made,
            version: self.version(&entry.model_version),
            stored_at_ms: entry.stored_at_ms,
            until_ms: entry.stored_at_ms.saturating_add(entry.ttl_ms),
            stamp: entry.stamp,
            subjects: entry.subjects.clone(),
            tags: entry.tags.as_slice().into(),
        };
        push(&self.kept, kept, parts.snapshot.load().config.cache.explain_entries_max);
        entry
    }

    /// A call goes to the upstream.
    pub(crate) fn missed(&self, fetch: &Fetch, record: Uuid, question: &Question) {
        let why = match &question.version {
            None if question.mode == Mode::Content => "version-unknown",
            _ if question.fresh => "no-cache",
            _ => question.forwarded(),
        };
        self.note(fetch, record, (false, why), self.asked(question));
    }

    /// A call goes to the upstream, and the cache has nothing to do with it.
    pub(crate) fn passed(&self, fetch: &Fetch, record: Uuid, why: &'static str) {
        if fetch.peer.own.is_none() {
            fetch.parts.cache.traces.passed(fetch, record, why);
        }
        self.note(fetch, record, (true, why), None);
    }

    fn note(
        &self,
        fetch: &Fetch,
        record: Uuid,
        (is_bypass, why): (bool, &'static str),
        question: Option<Asked>,
    ) {
        let entries_max = fetch.parts.snapshot.load().config.cache.explain_entries_max;
        if entries_max == 0 {
            return;
        }
        let route = fetch.route.name.clone();
        let missed = Missed { record, at_ms: now_ms(), route, is_bypass, why, question };
        push(&self.missed, missed, entries_max);
    }

    /// What is to be compared; `None`: it was not noted what it is made of.
    pub(super) fn asked(&self, question: &Question) -> Option<Asked> {
        let version = question.version.as_deref().map(|version| self.version(version));
        let made = question.made.clone()?;
        Some(Asked { key: question.key, made, version })
    }

    /// The call with this record, if it is one of late that missed.
    pub(crate) fn recall(&self, record: Uuid) -> Option<Missed> {
        let missed = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
        missed.iter().rev().find(|one| one.record == record).cloned()
    }

    /// What is known of answers to it, and to what is nearest, that were stored before `before_ms`.
    pub(crate) fn story(&self, asked: &Asked, tiers: &Tiers, before_ms: u64) -> Story {
        let in_scope: Vec<Kept> = {
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let is_near =
                |one: &&Kept| one.made.scope == asked.made.scope && one.stored_at_ms < before_ms;
            kept.iter().rev().filter(is_near).cloned().collect()
        };
        let was = in_scope
            .iter()
            .find(|one| one.key == asked.key)
            .map(|one| Was { stored_at_ms: one.stored_at_ms, ended: one.ended(tiers) });
        let others = in_scope.iter().filter(|one| one.key != asked.key);
        let own: HashMap<&str, u32> = asked.made.parts().collect();
        // The first of equals, which is the latest.
        let nearest = others.min_by_key(|one| asked.distance(&own, one)).map(|one| Nearest {
            key: one.key,
            stored_at_ms: one.stored_at_ms,
            differs: asked.differences(&own, one),
        });
        Story { was, nearest }
    }

    fn version(&self, version: &str) -> u32 {
        digest(&self.secret, "model version", version.as_bytes())
    }
}

fn push<T>(all: &Mutex<VecDeque<T>>, one: T, entries_max: usize) {
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    all.push_back(one);
    // More than one where a reload has made the room smaller.
    let surplus = all.len().saturating_sub(entries_max);
    all.drain(..surplus);
}

impl Kept {
    fn ended(&self, tiers: &Tiers) -> Option<&'static str> {
        if self.until_ms <= now_ms() {
            return Some("expired");
        }
        let about = About { subjects: &self.subjects, tags: &self.tags };
        match tiers.standing(self.stamp, about) {
            Standing::Void => Some("purged"),
            Standing::Soft { .. } => Some("purged softly"),
            Standing::Valid => None,
        }
    }
}

impl Made {
    fn parts(&self) -> impl Iterator<Item = (&str, u32)> {
        self.names.lines().zip(self.digests.iter().copied())
    }
}

impl Asked {
    fn is_of_another_version(&self, other: &Kept) -> bool {
        self.version.is_some_and(|version| version != other.version)
    }

    /// In how many parts they differ.
    fn distance(&self, own: &HashMap<&str, u32>, other: &Kept) -> usize {
        let alike = other.made.parts().filter(|(name, digest)| own.get(name) == Some(digest));
        let alike = alike.count();
        let named = other.made.parts().filter(|(name, _)| own.contains_key(name)).count();
        let all = own.len() + other.made.digests.len() - named;
        all - alike + usize::from(self.is_of_another_version(other))
    }

    fn differences(&self, own: &HashMap<&str, u32>, other: &Kept) -> Vec<(String, &'static str)> {
        let theirs: HashMap<&str, u32> = other.made.parts().collect();
        let version =
            self.is_of_another_version(other).then_some(("model version", "another value"));
        let here = self.made.parts().filter_map(|(name, digest)| match theirs.get(name) {
            None => Some((name, "only here")),
            Some(theirs) if *theirs != digest => Some((name, "another value")),
            Some(_) => None,
        });
        let there = other.made.parts().filter(|(name, _)| !own.contains_key(name));
        let there = there.map(|(name, _)| (name, "only there"));
        let all = version.into_iter().chain(here).chain(there);
        all.take(DIFFERENCES_MAX).map(|(name, how)| (name.to_owned(), how)).collect()
    }
}

/// A question while it is taken to pieces.
struct Making<'a> {
    secret: &'a [u8; 32],
    names: String,
    digests: Vec<u32>,
}

impl Making<'_> {
    fn scope(&self, parts: &KeyParts<'_>) -> u64 {
        let (kind, tenant, user) = match parts.scope {
            Scope::Shared => ("shared", "", ""),
            Scope::Tenant(tenant) => ("tenant", tenant, ""),
            Scope::User { tenant, user } => ("user", tenant, user),
        };
        let mut hasher = blake3::Hasher::new_keyed(self.secret);
        for word in [parts.namespace, kind, tenant, user] {
            hasher.update(&tollgate_cache::key::len_u64(word.as_bytes()).to_le_bytes());
            hasher.update(word.as_bytes());
        }
        let scope = hasher.finalize();
        u64::from_le_bytes(scope.as_bytes().first_chunk().copied().unwrap_or_default())
    }

    fn head(&mut self, parts: &KeyParts<'_>) {
        let words = [
            ("upstream", parts.upstream),
            ("method", parts.method),
            ("path", parts.path),
            ("model", parts.model),
        ];
        for (name, word) in words {
            self.add(name, word.as_bytes());
        }
        if let Some(query) = parts.query {
            self.add("query", query.as_bytes());
        }
        for (name, value) in parts.versions {
            // As `explain` calls it.
            self.add(if name.is_empty() { "host" } else { name }, value);
        }
        for (name, value) in parts.headers {
            self.add(&format!("header {name}"), value);
        }
    }

    fn body(&mut self, question: &Question, bytes: &[u8]) {
        let route = &question.route;
        let form_members = question.operation.form_members();
        let form = canonicalise_without(bytes, &route.key.without(form_members), Bounds::default());
        let Ok(form) = form else { return self.add("body", bytes) };
        let Some(of) = &route.config.cache.key.of else {
            for (name, value) in pieces(&form, PIECES_MAX) {
                self.add(if name.is_empty() { "body" } else { &name }, value);
            }
            return;
        };
        for part in of {
            match part {
                KeyPart::Body(text) => {
                    let pointer = Pointer::parse(text).ok();
                    let value = pointer.as_ref().and_then(|pointer| pointer.find(&form));
                    self.add(text, value.unwrap_or_default());
                }
                KeyPart::Bytes | KeyPart::Field(_) => self.add("body", bytes),
                // Lines of the key.
                KeyPart::Header(_) | KeyPart::Query(_) | KeyPart::Segment(_) => {}
            }
        }
    }

    /// Lines of one name that follow each other are one part.
    fn add(&mut self, name: &str, value: &[u8]) {
        let len = name.char_indices().map(|(at, one)| at + one.len_utf8());
        let len = len.take_while(|end| *end <= NAME_BYTES_MAX).last().unwrap_or_default();
        let name = name.get(..len).unwrap_or_default();
        if name.contains('\n') {
            return;
        }
        let own = digest(self.secret, name, value);
        let is_more =
            self.digests.len() >= PARTS_MAX || self.names.lines().next_back() == Some(name);
        match self.digests.last_mut() {
            Some(before) if is_more => {
                let both = [before.to_le_bytes(), own.to_le_bytes()].concat();
                *before = digest(self.secret, name, &both);
            }
            _ => {
                self.names.push_str(name);
                self.names.push('\n');
                self.digests.push(own);
            }
        }
    }
}

fn digest(secret: &[u8; 32], name: &str, value: &[u8]) -> u32 {
    let mut hasher = blake3::Hasher::new_keyed(secret);
    hasher.update(name.as_bytes()).update(b"\n").update(value);
    let digest = hasher.finalize();
    u32::from_le_bytes(digest.as_bytes().first_chunk().copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    const SECRET: [u8; 32] = [7; 32];

    fn made(parts: &[(&str, &str)]) -> Arc<Made> {
        let mut making = Making { secret: &SECRET, names: String::new(), digests: Vec::new() };
        parts.iter().for_each(|(name, value)| making.add(name, value.as_bytes()));
        let Making { names, digests, .. } = making;
        Arc::new(Made { scope: 0, names: names.into(), digests: digests.into() })
    }

    fn kept(parts: &[(&str, &str)]) -> Kept {
        Kept {
            key: CacheKey::from_hex(&"01".repeat(32)).unwrap(),
            made: made(parts),
            version: 1,
            stored_at_ms: 0,
            until_ms: 1,
            stamp: Stamp::default(),
            subjects: Box::default(),
            tags: Box::default(),
        }
    }

    fn differences(own: &[(&str, &str)], other: &[(&str, &str)]) -> Vec<(String, &'static str)> {
        let key = CacheKey::from_hex(&"02".repeat(32)).unwrap();
        let asked = Asked { key, made: made(own), version: Some(1) };
        let (own, other) = (asked.made.parts().collect(), kept(other));
        let found = asked.differences(&own, &other);
        assert_eq!(asked.distance(&own, &other), found.len());
        found
    }

    #[test]
    fn every_line_of_a_field_counts_and_no_value_is_kept() {
        let one = [("path", "/a"), ("header x", "1"), ("header x", "2")];
        let other = [("path", "/a"), ("header x", "1"), ("header x", "3"), ("query", "q")];
        let expected =
            [("header x".to_owned(), "another value"), ("query".to_owned(), "only there")];
        assert_eq!(differences(&one, &other), expected);
        assert_eq!(differences(&one, &one), []);
        assert_eq!(&*made(&one).names, "path\nheader x\n");
    }

    #[test]
    fn what_is_noted_of_a_question_has_a_bound() {
        let long = "n\u{e9}".repeat(NAME_BYTES_MAX);
        let names: Vec<String> = (0..3 * PARTS_MAX).map(|i| format!("{i}{long}")).collect();
        let parts: Vec<(&str, &str)> = names.iter().map(|name| (&**name, "x")).collect();
        let made = made(&parts);
        assert_eq!(made.digests.len(), PARTS_MAX);
        assert!(made.names.len() <= PARTS_MAX * (NAME_BYTES_MAX + 1));
    }

    /// The number that decision 0034 and the configuration's text give.
    #[test]
    fn a_chat_question_is_noted_in_some_four_hundred_bytes() {
        let parts =
            ["upstream", "method", "path", "model", "/max_tokens", "/messages/0", "/messages/1"];
        let parts = parts.into_iter().chain(["/model", "/temperature", "/tools/0"]);
        let made = made(&parts.map(|name| (name, "x")).collect::<Vec<_>>());
        let subjects = 4 * size_of::<Subject>();
        let counts = 2 * size_of::<usize>();
        let noted = size_of::<Kept>() + subjects + counts + size_of::<Made>();
        let all = noted + made.names.len() + 4 * made.digests.len();
        assert!((300..=500).contains(&all), "{all}");
    }

    proptest! {
        #[test]
        fn two_questions_differ_in_what_is_told_and_in_nothing_else(
            one in proptest::collection::btree_map("[a-d]", "[xy]", 0..5),
            other in proptest::collection::btree_map("[a-d]", "[xy]", 0..5),
        ) {
            fn borrow(all: &BTreeMap<String, String>) -> Vec<(&str, &str)> {
                all.iter().map(|(name, value)| (&**name, &**value)).collect()
            }
            let told: BTreeSet<String> =
                differences(&borrow(&one), &borrow(&other)).into_iter().map(|(name, _)| name).collect();
            let all = one.keys().chain(other.keys());
            let expected = all.filter(|name| one.get(*name) != other.get(*name)).cloned().collect();
            prop_assert_eq!(told, expected);
        }
    }
}
