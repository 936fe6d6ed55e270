//! The model epoch: which version of a model an upstream last said it runs.
//!
//! A key binds the model's version, but a caller does not say one: it is what the upstream last
//! answered with. Before its first answer it is unknown, and look-ups miss. Where the upstream
//! never says one, it is the empty string; once it has said one, an answer that says none (of
//! another path, or of a gateway between) is no news and is of no version that could be asked for.
//!
//! While a rollout goes on two versions alternate. Then the newest *first seen* is the epoch, and
//! answers of the older are not stored: else each answer would move the epoch and nothing would
//! ever hit. If the newest has not been seen for [`ROLLED_BACK_MS`], the rollout was rolled back
//! and the older is new again.
//!
//! With Redis the fleet shares one list per model, and the order of first sight is Redis's.

use smallvec::SmallVec;
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::Notify;

/// More models than this, and the one unheard of for longest is forgotten (its look-ups miss once).
pub const MODELS_MAX: usize = 4096;
/// Versions remembered per model.
pub(crate) const VERSIONS_MAX: usize = 8;
/// A newest version unseen for ten minutes was rolled back: longer than any pause between two
/// answers that a rollout in steps makes.
pub const ROLLED_BACK_MS: u64 = 10 * 60 * 1000;
/// A longer version is none that could be remembered.
const NAME_LEN_MAX: usize = 128;
/// News for the fleet beyond this many wait for the next time the whole table is compared.
const NEWS_MAX: usize = 1024;

/// What is known of a model's version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Current {
    /// Empty if the upstream says none.
    Known(Arc<str>),
    Unknown,
}

/// What an answer says of its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said<'a> {
    Nothing,
    Version(&'a str),
    /// Too long, no text, or more than one.
    Unclear,
}

/// Whether the answer that told its version may be stored (under that version).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    Store,
    /// An older version, in a rollout; or nobody knows which.
    DoNotStore,
}

/// The versions of all models of all upstreams.
#[derive(Debug, Default)]
pub struct Versions {
    models: RwLock<HashMap<ModelId, Model>>,
    news: Mutex<VecDeque<News>>,
    news_came: Notify,
}

/// An upstream's model, as a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ModelId(pub(crate) [u8; 16]);

/// A version first seen here, to be told to the fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) model: ModelId,
    pub(crate) version: Arc<str>,
    /// It was known and older, and is the newest again.
    pub(crate) again: bool,
}

#[derive(Debug)]
struct Model {
    /// In the order of first sight; the last is the epoch. Never empty.
    seen: Vec<Arc<str>>,
    /// When the last of `seen` was last said, Unix time.
    newest_said_ms: AtomicU64,
}

impl<'a> Said<'a> {
    /// Of the lines of the field in which versions are said.
    pub fn of(lines: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut lines = lines.into_iter();
        let Some(first) = lines.next() else { return Self::Nothing };
        match std::str::from_utf8(first) {
            _ if lines.any(|line| line != first) => Self::Unclear,
            Ok("") => Self::Nothing,
            // What would end it in a list is no part of a version.
            Ok(version)
                if version.len() <= NAME_LEN_MAX && !version.chars().any(char::is_control) =>
            {
                Self::Version(version)
            }
            Ok(_) | Err(_) => Self::Unclear,
        }
    }

    /// As it is in a key.
    pub fn as_str(self) -> &'a str {
        match self {
            Self::Version(version) => version,
            Self::Nothing | Self::Unclear => "",
        }
    }
}

impl Versions {
    /// The version that a key is made with. Takes a read lock, neither waits nor allocates.
    pub fn current(&self, upstream: &str, model: &str) -> Current {
        let models = self.read();
        match models.get(&ModelId::new(upstream, model)).and_then(|model| model.seen.last()) {
            Some(version) => Current::Known(version.clone()),
            None => Current::Unknown,
        }
    }

    /// Takes note of what a successful answer said.
    pub fn observe(&self, upstream: &str, model: &str, said: Said<'_>, now_ms: u64) -> Observed {
        self.note(upstream, model, said, now_ms, false)
    }

    /// Takes note of a version that the upstream, asked for it, says it has changed to. A rollback is
    /// as good as a rollout: unlike answers, it does not alternate with what was before.
    pub fn moved(&self, upstream: &str, model: &str, said: Said<'_>, now_ms: u64) -> Observed {
        self.note(upstream, model, said, now_ms, true)
    }

    fn note(
        &self,
        upstream: &str,
        model: &str,
        said: Said<'_>,
        now_ms: u64,
        moved: bool,
    ) -> Observed {
        if said == Said::Unclear {
            return Observed::DoNotStore;
        }
        let (id, version) = (ModelId::new(upstream, model), said.as_str());
        if let Some(model) = self.read().get(&id)
            && model.newest_is(version)
        {
            model.newest_said_ms.fetch_max(now_ms, Ordering::Relaxed);
            return Observed::Store;
        }
        let mut models = self.write();
        let known = models.entry(id).or_insert_with(|| Model::new(Vec::new(), 0));
        if version.is_empty() && known.seen.last().is_some_and(|newest| !newest.is_empty()) {
            return Observed::DoNotStore;
        }
        let place = known.seen.iter().position(|seen| **seen == *version);
        if let Some(place) = place {
            let newest_said_ms = known.newest_said_ms.load(Ordering::Relaxed);
            let last = place + 1 == known.seen.len();
            if !last && !moved && now_ms.saturating_sub(newest_said_ms) < ROLLED_BACK_MS {
                return Observed::DoNotStore;
            }
            known.seen.remove(place);
        }
        let version: Arc<str> = version.into();
        known.see(version.clone(), now_ms);
        forget_the_quietest(&mut models);
        drop(models);
        self.tell(News { model: id, version, again: place.is_some() });
        Observed::Store
    }

    /// Takes over the fleet's list for one model. What was seen here and is not in it stays the
    /// newest, and is returned: the fleet is to be told.
    pub(crate) fn learn(&self, id: ModelId, fleet: Vec<Arc<str>>, now_ms: u64) -> Option<News> {
        if fleet.is_empty() {
            return None;
        }
        let mut models = self.write();
        let known = models.entry(id).or_insert_with(|| Model::new(Vec::new(), now_ms));
        let is_news = |newest: &&Arc<str>| !newest.is_empty() && !fleet.contains(newest);
        let unsaid = known.seen.last().filter(is_news).cloned();
        if unsaid.is_none() && fleet.last() != known.seen.last() {
            known.newest_said_ms.store(now_ms, Ordering::Relaxed);
        }
        // Older ones that only we saw stay older: were they forgotten, they would be new again.
        let mut seen = std::mem::take(&mut known.seen);
        seen.retain(|version| !fleet.contains(version) && Some(version) != unsaid.as_ref());
        seen.extend(fleet);
        seen.extend(unsaid.clone());
        // An instance that had heard of no version yet may have told that there is none.
        seen.sort_by_key(|version| !version.is_empty());
        seen.drain(..seen.len().saturating_sub(VERSIONS_MAX));
        known.seen = seen;
        forget_the_quietest(&mut models);
        unsaid.map(|version| News { model: id, version, again: false })
    }

    /// The newest version of every model that is not in `known`: what the fleet has not heard.
    pub(crate) fn missing_from(&self, known: &HashMap<ModelId, Vec<Arc<str>>>) -> Vec<News> {
        let models = self.read();
        let missing = models.iter().filter(|(id, _)| !known.contains_key(id));
        missing
            .filter_map(|(id, model)| {
                let version = model.seen.last()?.clone();
                Some(News { model: *id, version, again: false })
            })
            .collect()
    }

    /// Waits until there is something to tell the fleet.
    pub(crate) async fn news_came(&self) {
        self.news_came.notified().await;
    }

    pub(crate) fn take_news(&self) -> VecDeque<News> {
        std::mem::take(&mut *self.news.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts back what nobody takes at present, without a call to try again.
    pub(crate) fn keep_news(&self, mut untold: VecDeque<News>) {
        let mut queue = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        untold.append(&mut queue);
        untold.truncate(NEWS_MAX);
        *queue = untold;
    }

    pub(crate) fn tell(&self, news: News) {
        let mut queue = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.len() < NEWS_MAX {
            queue.push_back(news);
        }
        drop(queue);
        self.news_came.notify_one();
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<ModelId, Model>> {
        self.models.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<ModelId, Model>> {
        self.models.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ModelId {
    fn new(upstream: &str, model: &str) -> Self {
        let mut buffer = SmallVec::<[u8; 256]>::new();
        buffer.extend_from_slice(&u64::try_from(upstream.len()).unwrap_or(u64::MAX).to_le_bytes());
        buffer.extend_from_slice(upstream.as_bytes());
        buffer.extend_from_slice(model.as_bytes());
        Self(blake3::hash(&buffer).as_bytes().first_chunk().copied().unwrap_or_default())
    }
}

impl Model {
    fn new(seen: Vec<Arc<str>>, now_ms: u64) -> Self {
        Self { seen, newest_said_ms: AtomicU64::new(now_ms) }
    }

    fn newest_is(&self, version: &str) -> bool {
        self.seen.last().is_some_and(|newest| **newest == *version)
    }

    fn see(&mut self, version: Arc<str>, now_ms: u64) {
        self.seen.push(version);
        let surplus = self.seen.len().saturating_sub(VERSIONS_MAX);
        self.seen.drain(..surplus);
        self.newest_said_ms.store(now_ms, Ordering::Relaxed);
    }
}

fn forget_the_quietest(models: &mut HashMap<ModelId, Model>) {
    while models.len() > MODELS_MAX {
        let said = |model: &Model| model.newest_said_ms.load(Ordering::Relaxed);
        let quietest = models.iter().min_by_key(|(_, model)| said(model)).map(|(id, _)| *id);
        match quietest {
            Some(id) => models.remove(&id),
            None => return,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000;

    #[track_caller]
    fn check(versions: &Versions, expected: Option<&str>) {
        let expected = expected.map_or(Current::Unknown, |version| Current::Known(version.into()));
        assert_eq!(versions.current("u", "m"), expected);
    }

    #[test]
    fn it_is_unknown_until_the_upstream_answers() {
        let versions = Versions::default();
        check(&versions, None);
        assert_eq!(versions.observe("u", "m", Said::Nothing, NOW), Observed::Store);
        check(&versions, Some(""));
        assert_eq!(versions.current("um", ""), Current::Unknown);
        assert_eq!(versions.current("u", "other"), Current::Unknown);
    }

    #[test]
    fn while_two_alternate_the_newest_first_seen_wins() {
        let versions = Versions::default();
        assert_eq!(versions.observe("u", "m", Said::Version("1"), NOW), Observed::Store);
        assert_eq!(versions.observe("u", "m", Said::Version("2"), NOW + 1), Observed::Store);
        check(&versions, Some("2"));
        for n in 0..3 {
            assert_eq!(
                versions.observe("u", "m", Said::Version("1"), NOW + n),
                Observed::DoNotStore
            );
            assert_eq!(versions.observe("u", "m", Said::Version("2"), NOW + n), Observed::Store);
            check(&versions, Some("2"));
        }
    }

    #[test]
    fn a_rollout_rolled_back_is_believed_after_a_while() {
        let versions = Versions::default();
        versions.observe("u", "m", Said::Version("1"), NOW);
        versions.observe("u", "m", Said::Version("2"), NOW);
        let later = NOW + ROLLED_BACK_MS;
        assert_eq!(versions.observe("u", "m", Said::Version("1"), later - 1), Observed::DoNotStore);
        assert_eq!(versions.observe("u", "m", Said::Version("1"), later), Observed::Store);
        check(&versions, Some("1"));
        assert!(versions.take_news().pop_back().unwrap().again);
    }

    #[test]
    fn what_the_fleet_saw_later_is_newer() {
        let versions = Versions::default();
        versions.observe("u", "m", Said::Version("1"), NOW);
        let id = ModelId::new("u", "m");
        assert_eq!(versions.learn(id, vec!["1".into(), "2".into()], NOW), None);
        check(&versions, Some("2"));
        assert_eq!(versions.observe("u", "m", Said::Version("1"), NOW), Observed::DoNotStore);
        versions.observe("u", "m", Said::Version("3"), NOW);
        let news = versions.learn(id, vec!["1".into(), "2".into()], NOW).expect("3 is news");
        assert_eq!(&*news.version, "3");
        check(&versions, Some("3"));
    }

    #[test]
    fn an_older_version_that_the_fleet_forgot_is_not_new_again() {
        let versions = Versions::default();
        versions.observe("u", "m", Said::Version("1"), NOW);
        versions.observe("u", "m", Said::Version("2"), NOW);
        assert_eq!(versions.learn(ModelId::new("u", "m"), vec!["2".into()], NOW), None);
        assert_eq!(versions.observe("u", "m", Said::Version("1"), NOW), Observed::DoNotStore);
        check(&versions, Some("2"));
    }

    #[test]
    fn models_and_names_are_bounded() {
        let versions = Versions::default();
        for n in 0..=u64::try_from(MODELS_MAX).unwrap() {
            versions.observe("u", &n.to_string(), Said::Version("1"), NOW + n);
        }
        assert_eq!(versions.read().len(), MODELS_MAX);
        assert_eq!(versions.current("u", "0"), Current::Unknown, "the quietest is forgotten");
        assert_eq!(versions.take_news().len(), NEWS_MAX);
    }

    #[test]
    fn an_answer_that_says_no_version_moves_none_that_was_said() {
        let versions = Versions::default();
        versions.observe("u", "m", Said::Nothing, NOW);
        assert_eq!(versions.observe("u", "m", Said::Version("1"), NOW), Observed::Store);
        for later in [0, 1, ROLLED_BACK_MS, 10 * ROLLED_BACK_MS] {
            let now_ms = NOW + later;
            assert_eq!(versions.observe("u", "m", Said::Nothing, now_ms), Observed::DoNotStore);
            check(&versions, Some("1"));
            assert_eq!(versions.observe("u", "m", Said::Version("1"), now_ms), Observed::Store);
        }
        // Nor one that the fleet has heard of, whoever told it that there is none.
        versions.take_news();
        let fleet = || vec!["1".into(), "2".into(), "".into()];
        assert_eq!(versions.learn(ModelId::new("u", "m"), fleet(), NOW), None);
        check(&versions, Some("2"));
        versions.observe("u", "n", Said::Nothing, NOW);
        assert_eq!(versions.learn(ModelId::new("u", "n"), fleet(), NOW), None);
        assert_eq!(versions.current("u", "n"), Current::Known("2".into()));
    }

    #[test]
    fn what_is_no_version_is_neither_remembered_nor_stored() {
        let long = "x".repeat(NAME_LEN_MAX + 1);
        let unclear: [&[&[u8]]; 4] = [&[long.as_bytes()], &[b"a\nb"], &[b"1", b"2"], &[b"caf\xe9"]];
        for lines in unclear {
            let versions = Versions::default();
            let said = Said::of(lines.iter().copied());
            assert_eq!(versions.observe("u", "m", said, NOW), Observed::DoNotStore, "{lines:?}");
            check(&versions, None);
        }
        assert_eq!(Said::of([b"1".as_slice(), b"1"]), Said::Version("1"));
        assert_eq!(Said::of([b"".as_slice()]), Said::Nothing);
        assert_eq!(Said::of([]), Said::Nothing);
    }
}
