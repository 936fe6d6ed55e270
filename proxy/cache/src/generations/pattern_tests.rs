//! Purges by patterns among others: what they void, what is never lost, what they cost.

use super::super::{
    About, CheckedAt, FleetStamp, FleetTable, Generations, Glob, PATTERNS_MAX, Stamp, Standing,
    Subject, Target,
};
use proptest::prelude::*;
use std::cell::Cell;

thread_local! {
    /// How often a pattern was held against a tag.
    pub(super) static MATCHES: Cell<usize> = const { Cell::new(0) };
}

type Tags = [Box<str>];

fn glob(text: &str) -> Glob {
    Glob::parse(text).unwrap()
}

fn at(sequence: u64) -> FleetStamp {
    FleetStamp { epoch: 7, sequence }
}

fn tags(names: &[&str]) -> Vec<Box<str>> {
    names.iter().map(|name| (*name).into()).collect()
}

fn subjects(tags: &Tags) -> Vec<Subject> {
    tags.iter().map(|tag| Subject::of(Target::Tag(tag))).collect()
}

fn purge_here(generations: &Generations, pattern: &str, softly: bool) {
    for subject in Subject::told(Target::Pattern(&glob(pattern)), softly) {
        generations.purge_here(subject);
    }
}

fn standing(generations: &Generations, stamp: Stamp, tags: &Tags) -> Standing {
    let about = About { subjects: &subjects(tags), tags };
    generations.standing(stamp, about, &CheckedAt::default())
}

fn admit(generations: &Generations, stamp: FleetStamp, tags: &Tags) -> Option<Stamp> {
    generations.admit(stamp, About { subjects: &subjects(tags), tags })
}

/// What a keeper has after these purges, in an order of its own.
fn table(patterns: &[String]) -> FleetTable {
    let told = patterns.iter().flat_map(|text| Subject::told(Target::Pattern(&glob(text)), false));
    let numbered = (1..).zip(told).map(|(sequence, subject)| (subject, sequence));
    let mut newest: std::collections::HashMap<Subject, u64> = numbered.collect();
    let sequence = newest.values().copied().max().unwrap_or(0);
    FleetTable { at: at(sequence), purges: newest.drain().collect() }
}

fn adopted(table: &FleetTable) -> Generations {
    let generations = Generations::default();
    generations.adopt(table);
    generations
}

#[test]
fn a_purge_by_pattern_voids_what_began_before_it_and_fits_and_nothing_else() {
    let generations = Generations::default();
    let before = generations.stamp();
    purge_here(&generations, "kb:42:*", false);
    let after = generations.stamp();
    let (fits, not) = (tags(&["user:1", "kb:42:page"]), tags(&["kb:43:page", "xkb:42:page"]));
    assert_eq!(standing(&generations, before, &fits), Standing::Void);
    assert_eq!(standing(&generations, before, &not), Standing::Valid);
    assert_eq!(standing(&generations, before, &[]), Standing::Valid, "without tags");
    assert_eq!(standing(&generations, after, &fits), Standing::Valid);
    purge_here(&generations, "kb:42:*", false);
    assert_eq!(standing(&generations, after, &fits), Standing::Void, "again");
}

#[test]
fn an_entry_found_valid_is_held_against_no_pattern_twice() {
    let generations = Generations::default();
    let (stamp, checked, tags) = (generations.stamp(), CheckedAt::default(), tags(&["kb:1"]));
    let about = About { subjects: &subjects(&tags), tags: &tags };
    purge_here(&generations, "kb:2*", false);
    assert_eq!(generations.standing(stamp, about, &checked), Standing::Valid);
    purge_here(&generations, "kb:3*", false);
    assert_eq!(generations.standing(stamp, about, &checked), Standing::Valid);
    purge_here(&generations, "kb:?", false);
    assert_eq!(generations.standing(stamp, about, &checked), Standing::Void);
}

#[test]
fn softly_a_pattern_ends_the_time_of_what_it_fits() {
    let generations = Generations::default();
    let before = generations.stamp();
    purge_here(&generations, "kb:*", true);
    assert!(matches!(
        standing(&generations, before, &tags(&["kb:1"])),
        Standing::Soft { since_ms: 1.. }
    ));
    assert_eq!(standing(&generations, before, &tags(&["other"])), Standing::Valid);
    purge_here(&generations, "kb:*", false);
    assert_eq!(standing(&generations, before, &tags(&["kb:1"])), Standing::Void);
}

#[test]
fn a_pattern_heard_from_the_fleet_is_about_what_others_wrote() {
    let generations = adopted(&FleetTable { at: at(3), purges: Vec::new() });
    let told = Subject::told(Target::Pattern(&glob("kb:42:*")), false);
    for (sequence, subject) in (4..).zip(&told) {
        generations.hear(at(sequence), *subject);
    }
    let newest = generations.stamp().fleet;
    let (fits, not) = (tags(&["kb:42:page"]), tags(&["kb:43:page"]));
    assert!(admit(&generations, at(3), &fits).is_none());
    assert!(admit(&generations, at(3), &not).is_some());
    assert!(admit(&generations, newest, &fits).is_some());
}

#[test]
fn a_pattern_whose_text_was_lost_is_about_everything() {
    let told = Subject::told(Target::Pattern(&glob("kb:42:*")), false);
    let (purge, _pieces) = told.split_last().unwrap();
    let generations = adopted(&FleetTable { at: at(3), purges: vec![(*purge, 2)] });
    assert!(admit(&generations, at(1), &tags(&["other"])).is_none());
    assert!(admit(&generations, at(2), &tags(&["kb:42:page"])).is_some());
}

#[test]
fn while_a_pattern_waits_for_its_number_nothing_that_it_fits_comes_in() {
    let generations = adopted(&FleetTable { at: at(3), purges: Vec::new() });
    let (fits, not) = (tags(&["kb:42:page"]), tags(&["kb:43:page"]));
    for softly in [true, false] {
        let told = Subject::told(Target::Pattern(&glob("kb:42:*")), softly);
        for subject in &told {
            generations.purge_here(*subject);
            generations.await_number(*subject);
        }
        let found = admit(&generations, at(9), &fits);
        assert_eq!(found.is_none(), !softly);
        assert!(found.is_none_or(|stamp| stamp.soft_since_ms > Some(0)));
        assert_eq!(admit(&generations, at(9), &not).map(|stamp| stamp.soft_since_ms), Some(None));
        for subject in &told {
            generations.number_came(*subject);
        }
        assert_eq!(admit(&generations, at(9), &fits).map(|stamp| stamp.soft_since_ms), Some(None));
    }
}

#[test]
fn beyond_so_many_patterns_what_began_before_the_older_half_is_void() {
    let generations = Generations::default();
    let mut stamps = Vec::new();
    for n in 0..=PATTERNS_MAX {
        stamps.push(generations.stamp());
        purge_here(&generations, &format!("p{n}:*"), false);
    }
    let (other, last) = (tags(&["other"]), tags(&["p256:x"]));
    let is_void = |n: usize, tags| standing(&generations, stamps[n], tags) == Standing::Void;
    assert!(is_void(0, &other) && is_void(PATTERNS_MAX / 2 - 1, &other), "fail closed");
    assert!(!is_void(PATTERNS_MAX / 2, &other), "what is younger is told apart");
    assert!(is_void(PATTERNS_MAX / 2, &last) && !is_void(PATTERNS_MAX / 2, &tags(&["p1:x"])));
}

#[test]
fn beyond_so_many_soft_patterns_what_began_before_is_past_its_time_and_not_void() {
    let generations = Generations::default();
    let before = generations.stamp();
    for n in 0..=PATTERNS_MAX {
        purge_here(&generations, &format!("p{n}:*"), true);
    }
    assert!(matches!(
        standing(&generations, before, &tags(&["other"])),
        Standing::Soft { since_ms: 1.. }
    ));
    assert_eq!(generations.patterns_forgotten(), 128);
    assert_eq!(standing(&generations, before, &[]), Standing::Valid, "it has no tags");
    let after = generations.stamp();
    assert_eq!(standing(&generations, after, &tags(&["other"])), Standing::Valid);
}

#[test]
fn what_is_past_its_time_by_a_forgotten_pattern_stays_so_since_the_first_of_them() {
    let generations = Generations::default();
    let before = generations.stamp();
    let since = |generations: &Generations| match standing(generations, before, &tags(&["other"])) {
        Standing::Soft { since_ms } => since_ms,
        other @ (Standing::Valid | Standing::Void) => panic!("{other:?}"),
    };
    for n in 0..=PATTERNS_MAX {
        purge_here(&generations, &format!("p{n}:*"), true);
    }
    generations.write().patterns.set_forgotten_softly_ms(7);
    assert_eq!(since(&generations), 7);
    for n in 0..=PATTERNS_MAX {
        purge_here(&generations, &format!("q{n}:*"), true);
    }
    assert_eq!(since(&generations), 7, "its stale time began anew");
}

#[test]
fn what_has_no_tags_outlives_any_number_of_patterns() {
    let generations = Generations::default();
    let before = generations.stamp();
    for n in 0..3 * PATTERNS_MAX {
        purge_here(&generations, &format!("p{n}:*"), false);
    }
    assert_eq!(standing(&generations, before, &[]), Standing::Valid);
    assert_eq!(standing(&generations, before, &tags(&["other"])), Standing::Void);
}

#[test]
fn patterns_older_than_any_entry_make_room_and_void_nothing_that_lives() {
    let generations = Generations::default();
    let tagged = tags(&["p"]);
    generations.lives(About { subjects: &[], tags: &tagged }, 60_000);
    let old = generations.stamp();
    for n in 0..PATTERNS_MAX {
        purge_here(&generations, &format!("p{n}:*"), false);
    }
    generations.write().patterns.age(60_001);
    let young = generations.stamp();
    for n in 0..PATTERNS_MAX {
        purge_here(&generations, &format!("q{n}:*"), false);
    }
    assert_eq!(generations.patterns_forgotten(), 0);
    let other = tags(&["other"]);
    assert_eq!(standing(&generations, young, &other), Standing::Valid);
    assert_eq!(standing(&generations, young, &tags(&["q0:x"])), Standing::Void);
    assert_eq!(standing(&generations, old, &other), Standing::Void, "it should be gone");
    purge_here(&generations, "r:*", false);
    assert_eq!(generations.patterns_forgotten(), 128, "now there is no other way");
    assert_eq!(generations.patterns_forgotten_lately(), 128);
    assert_eq!(generations.patterns_forgotten_lately(), 0, "it was told");
}

#[test]
fn an_entry_is_held_against_a_soft_pattern_once_however_many_purges_come() {
    let generations = Generations::default();
    let (stamp, checked, tags) = (generations.stamp(), CheckedAt::default(), tags(&["kb:1"]));
    let about = About { subjects: &subjects(&tags), tags: &tags };
    for n in 0..100 {
        purge_here(&generations, &format!("p{n}:*"), true);
    }
    let matches = |generations: &Generations| {
        let before = MATCHES.get();
        assert_eq!(generations.standing(stamp, about, &checked), Standing::Valid);
        MATCHES.get() - before
    };
    assert_eq!(matches(&generations), 100);
    for _ in 0..10 {
        generations.purge_here(Subject::of(Target::Tag("other")));
        assert_eq!(matches(&generations), 0);
    }
    purge_here(&generations, "q:*", true);
    assert_eq!(matches(&generations), 1);
}

#[test]
fn a_purge_by_a_pattern_is_remembered_of_what_it_fits() {
    let generations = Generations::default();
    purge_here(&generations, "kb:*", false);
    purge_here(&generations, "user:*", true);
    let was_purged = |names: &[&str]| {
        let tags = tags(names);
        generations.was_purged(About { subjects: &subjects(&tags), tags: &tags })
    };
    assert!(was_purged(&["kb:1"]));
    assert!(!was_purged(&["other"]) && !was_purged(&["user:1"]) && !was_purged(&[]));
}

/// A keeper has all patterns that were ever purged; who starts knows the texts of the newest.
#[test]
fn of_a_table_of_many_patterns_the_newest_are_told_apart() {
    let patterns: Vec<String> = (0..5_000).map(|n| format!("kb:{n}:*")).collect();
    let generations = adopted(&table(&patterns));
    let newest = generations.stamp().fleet.sequence;
    // Two pieces and a purge each.
    let recent = at(newest - 3 * 100);
    assert!(admit(&generations, recent, &tags(&["kb:4999:x"])).is_none());
    assert!(admit(&generations, recent, &tags(&["kb:4901:x"])).is_none());
    assert!(admit(&generations, recent, &tags(&["kb:4800:x"])).is_some());
    assert!(admit(&generations, at(newest - 3 * 1_000), &tags(&["other"])).is_none());
}

#[test]
fn a_purge_of_everything_lets_go_of_the_patterns_before_it() {
    let generations = adopted(&table(&["a*".to_owned(), "b*".to_owned()]));
    let newest = generations.stamp().fleet.sequence;
    generations.hear(at(newest + 1), Subject::ALL);
    assert!(admit(&generations, at(newest), &tags(&["c"])).is_none());
    assert!(admit(&generations, at(newest + 1), &tags(&["a"])).is_some());
    assert_eq!(generations.read().patterns.len(), 0);
}

#[derive(Clone, Debug)]
enum Step {
    Purge { pattern: String, softly: bool },
    Begin(Vec<String>),
}

fn step() -> impl Strategy<Value = Step> {
    let tag = "[ab]{1,3}";
    prop_oneof![
        ("[ab*?]{1,9}", any::<bool>())
            .prop_map(|(pattern, softly)| Step::Purge { pattern, softly }),
        proptest::collection::vec(tag, 0..3).prop_map(Step::Begin),
    ]
}

proptest! {
    /// The same steps by an oracle that knows each purge: an instance that made them, one that
    /// heard of them, and one that started afterwards, agree.
    #[test]
    fn no_entry_outlives_a_pattern_that_fits_it(steps in proptest::collection::vec(step(), 1..40)) {
        let (here, heard) = (Generations::default(), Generations::default());
        let empty = FleetTable { at: at(0), purges: Vec::new() };
        here.adopt(&empty);
        heard.adopt(&empty);
        let (mut sequence, mut known) = (0, std::collections::HashMap::new());
        let mut begun: Vec<(Stamp, Vec<Box<str>>, bool, bool)> = Vec::new();
        for step in &steps {
            match step {
                Step::Purge { pattern, softly } => {
                    for subject in Subject::told(Target::Pattern(&glob(pattern)), *softly) {
                        sequence += 1;
                        here.purge_here(subject);
                        here.hear(at(sequence), subject);
                        heard.hear(at(sequence), subject);
                        known.insert(subject, sequence);
                    }
                    let is_meant = |tags: &Tags| tags.iter().any(|tag| glob(pattern).matches(tag));
                    for (_, tags, is_void, is_soft) in &mut begun {
                        *is_void |= !softly && is_meant(tags);
                        *is_soft |= *softly && is_meant(tags);
                    }
                }
                Step::Begin(names) => {
                    let tags: Vec<Box<str>> = names.iter().map(|name| name.as_str().into()).collect();
                    begun.push((here.stamp(), tags, false, false));
                }
            }
        }
        let started = adopted(&FleetTable { at: at(sequence), purges: known.into_iter().collect() });
        for (stamp, tags, is_void, is_soft) in begun {
            let found = standing(&here, stamp, &tags);
            prop_assert_eq!(found == Standing::Void, is_void);
            prop_assert_eq!(matches!(found, Standing::Soft { .. }), is_soft && !is_void);
            for other in [&heard, &started] {
                let found = admit(other, stamp.fleet, &tags);
                prop_assert_eq!(found.is_none(), is_void);
                prop_assert_eq!(found.is_some_and(|it| it.soft_since_ms.is_some()), is_soft && !is_void);
            }
        }
    }
}
