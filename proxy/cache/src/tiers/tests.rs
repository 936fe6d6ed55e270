//! The order of the tiers, without a store outside memory.

use super::*;
use crate::{
    entry::{
        HttpRule, Rule,
        tests::{entry, key},
        with_url,
    },
    generations::{About, CheckedAt},
    rfc9111::store::Stored,
};

fn plan() -> Plan {
    Plan::new([TierUse::new(TierName::Memory, 10_000), TierUse::new(TierName::Redis, 60_000)])
}

/// An entry that fits everywhere.
pub(super) fn small() -> Entry {
    entry(key(1), b"{}")
}

fn with_one() -> (Tiers, Arc<Entry>) {
    let memory = MemoryTier::new(1 << 20);
    let tiers = Tiers::new(memory, Vec::new(), Arc::default(), Arc::default());
    let entry = Arc::new(Entry { stamp: tiers.stamp(), ..small() });
    assert!(tiers.store(key(1), entry.clone(), &plan(), 2_000).is_kept());
    (tiers, entry)
}

#[test]
fn memory_keeps_an_entry_for_the_lesser_of_its_time_and_the_tiers() {
    let (tiers, entry) = with_one();
    let there = |now_ms| tiers.look_up_now(&key(1), &entry.check, now_ms).is_some();
    assert!(there(11_999));
    assert!(!there(12_000));
    assert!(!tiers.store(key(1), entry.clone(), &plan(), 61_000).is_kept(), "past its own time");
    assert!(tiers.store(key(1), entry.clone(), &plan(), 60_000).is_kept());
    assert!(there(60_999));
    assert!(!there(61_000));
}

#[test]
fn a_route_that_does_not_use_memory_is_not_kept_there() {
    let (tiers, entry) = with_one();
    tiers.sweep(u64::MAX);
    assert!(tiers.store(key(1), entry, &Plan::default(), 2_000).is_kept());
    assert_eq!(tiers.memory().entries(), 0);
}

#[test]
fn a_tier_keeps_nothing_larger_than_the_route_lets_it() {
    let (tiers, entry) = with_one();
    tiers.sweep(u64::MAX);
    let memory = TierUse::new(TierName::Memory, 10_000);
    let bounded = TierUse { entry_bytes_max: entry.weight() - 1, ..memory };
    tiers.store(key(1), entry.clone(), &Plan::new([bounded]), 2_000);
    assert_eq!(tiers.memory().entries(), 0);
    let bounded = TierUse { entry_bytes_max: entry.weight(), ..memory };
    tiers.store(key(1), entry, &Plan::new([bounded]), 2_000);
    assert_eq!(tiers.memory().entries(), 1);
}

/// Goal: who may change what it likes takes nobody's answers but those kept by URL.
#[tokio::test]
async fn where_strangers_have_changed_too_much_their_changes_void_a_place_of_urls_and_nothing_else()
{
    let (tiers, by_content) = with_one();
    let kept = |path: &str, number: u8| {
        let named = Url::of(b"host", path, None);
        let stored = Stored::default();
        let rule = Rule::Http(Box::new(HttpRule { stored, url: key(number), named }));
        let subjects = with_url(Box::default(), &rule);
        let entry = Entry { stamp: tiers.stamp(), rule, subjects, ..entry(key(number), b"page") };
        assert!(tiers.store(key(number), Arc::new(entry), &plan(), 2_000).is_kept());
        named
    };
    let changed = Url::of(b"host", "/changed", None);
    let other = (0..)
        .map(|n| format!("/{n}"))
        .find(|path| Url::of(b"host", path, None).void_place() == changed.void_place());
    kept("/changed", 2);
    kept(&other.unwrap(), 3);
    kept("/elsewhere", 4);
    let there = |number: u8| {
        let check = if number == 1 { by_content.check } else { small().check };
        tiers.look_up_now(&key(number), &check, 3_000).is_some()
    };
    let mut n = 0_u32;
    while !tiers.generations.is_crowded(SUBJECTS_MAX) {
        tiers.generations.purge_here(Subject::of(Target::Tag(&n.to_string())));
        n += 1;
    }
    assert!((1..=4).all(there), "all are told apart so far");
    tiers.purge_changed(changed).await;
    assert_eq!([1, 2, 3, 4].map(there), [true, false, false, true]);
}

#[tokio::test]
async fn a_change_voids_its_url_alone_while_there_is_room() {
    let (tiers, _) = with_one();
    let (changed, other) = (Url::of(b"host", "/a", None), Url::of(b"host", "/b", None));
    let before = tiers.stamp();
    tiers.purge_changed(changed).await;
    let is_void = |target| {
        let subjects = [Subject::of(target)];
        let about = About { subjects: &subjects, tags: &[] };
        let standing = tiers.generations.standing(before, about, &CheckedAt::default());
        standing == Standing::Void
    };
    assert!(is_void(Target::Url(changed)) && !is_void(Target::Url(other)));
    assert!(!is_void(Target::UrlPlace(changed.void_place())));
}

#[tokio::test]
async fn without_redis_a_purge_reaches_this_instance_and_waits_for_nothing() {
    let alone = Purged { reach: Reach::Instance, pending: false };
    for target in [Target::Key(key(1)), Target::Tag("kb:7"), Target::All] {
        let (tiers, entry) = with_one();
        assert_eq!(tiers.purge(target).await, alone);
        assert!(tiers.look_up_now(&key(1), &entry.check, 2_000).is_none(), "{target:?}");
        assert_eq!(tiers.memory().bytes(), 0, "{target:?}");
    }
}
