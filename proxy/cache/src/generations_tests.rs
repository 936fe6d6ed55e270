//! Purges: what they void, what they leave, and what survives a lost Redis.

use super::*;
use proptest::prelude::*;

fn tag(name: &str) -> Subject {
    Subject::of(Target::Tag(name))
}

fn at(epoch: u64, sequence: u64) -> FleetStamp {
    FleetStamp { epoch, sequence }
}

fn of(subjects: &[Subject]) -> About<'_> {
    About { subjects, tags: &[] }
}

fn valid(generations: &Generations, stamp: Stamp, subjects: &[Subject]) -> bool {
    generations.standing(stamp, of(subjects), &CheckedAt::default()) != Standing::Void
}

#[test]
fn a_purge_voids_what_began_before_it_and_nothing_else() {
    let generations = Generations::default();
    let before = generations.stamp();
    generations.purge_here(tag("a"));
    let after = generations.stamp();
    assert!(!valid(&generations, before, &[tag("b"), tag("a")]));
    assert!(valid(&generations, before, &[tag("b")]));
    assert!(valid(&generations, after, &[tag("a")]));
    generations.purge_here(Subject::ALL);
    assert!(!valid(&generations, after, &[]));
}

#[test]
fn an_entry_once_found_valid_is_still_voided_by_the_next_purge() {
    let generations = Generations::default();
    let (stamp, checked) = (generations.stamp(), CheckedAt::default());
    assert_eq!(generations.standing(stamp, of(&[tag("a")]), &checked), Standing::Valid);
    assert_eq!(generations.standing(stamp, of(&[tag("a")]), &checked), Standing::Valid);
    generations.purge_here(tag("a"));
    assert_eq!(generations.standing(stamp, of(&[tag("a")]), &checked), Standing::Void);
}

#[test]
fn a_redis_that_numbered_another_purge_in_the_place_of_one_has_lost_it() {
    let generations = Generations::default();
    let (a, b, all) = (tag("a"), tag("b"), Subject::ALL);
    generations.adopt(&FleetTable { at: at(7, 3), purges: vec![(a, 3), (all, 1)] });
    let lost = |sequence, purges: &[(Subject, u64)]| {
        generations.has_lost(&FleetTable { at: at(7, sequence), purges: purges.to_vec() })
    };
    assert!(!lost(3, &[(a, 3), (all, 1)]));
    assert!(!lost(9, &[(a, 4), (b, 9), (all, 1)]));
    assert!(!lost(4, &[(all, 4)]), "of all it is a purge of that, too");
    assert!(lost(2, &[(all, 1)]), "fewer");
    assert!(lost(3, &[(b, 3), (all, 1)]), "as many, but another");
    assert!(lost(8, &[(b, 8), (a, 2), (all, 1)]), "an older one of it");
    assert!(lost(8, &[(b, 8), (a, 3)]), "of all");
    let other_epoch = FleetTable { at: at(8, 0), purges: Vec::new() };
    assert!(!generations.has_lost(&other_epoch), "that is told by its name");
}

#[test]
fn one_name_is_another_subject_in_each_role() {
    let subjects = [
        tag("x"),
        Subject::of(Target::Route("x")),
        Subject::of(Target::Model("x")),
        Subject::of(Target::Tenant("x")),
        Subject::ALL,
    ];
    for (place, one) in subjects.iter().enumerate() {
        assert!(!subjects[place + 1..].contains(one));
    }
}

#[test]
fn a_purge_heard_from_the_fleet_voids_memory_and_what_others_wrote() {
    let generations = Generations::default();
    generations.adopt(&FleetTable { at: at(7, 3), purges: vec![] });
    let before = generations.stamp();
    assert_eq!(before.fleet, at(7, 3));
    assert!(generations.admit(at(7, 3), of(&[tag("a")])).is_some());
    assert_eq!(generations.hear(at(7, 4), tag("a")), Heard::Applied);
    assert_eq!(generations.hear(at(7, 4), tag("a")), Heard::Known);
    assert!(!valid(&generations, before, &[tag("a")]));
    assert!(generations.admit(at(7, 3), of(&[tag("a")])).is_none());
    assert!(generations.admit(at(7, 4), of(&[tag("a")])).is_some());
    assert!(generations.admit(at(7, 3), of(&[tag("b")])).is_some());
}

#[test]
fn a_missed_message_is_noticed() {
    let generations = Generations::default();
    generations.adopt(&FleetTable { at: at(7, 3), purges: vec![] });
    assert_eq!(generations.hear(at(7, 5), tag("a")), Heard::Gap);
    assert!(!generations.is_complete(at(7, 5)));
    let before = generations.stamp();
    generations.adopt(&FleetTable { at: at(7, 5), purges: vec![(tag("a"), 5), (tag("b"), 4)] });
    assert!(generations.is_complete(at(7, 5)));
    assert!(!valid(&generations, before, &[tag("b")]));
    assert!(valid(&generations, before, &[tag("a")]), "it was known already");
}

#[test]
fn another_epoch_voids_everything_older() {
    let generations = Generations::default();
    let lonely = generations.stamp();
    generations.adopt(&FleetTable { at: at(7, 3), purges: vec![(tag("a"), 2)] });
    assert!(valid(&generations, lonely, &[tag("b")]), "the first epoch is no other epoch");
    assert!(!valid(&generations, lonely, &[tag("a")]));
    let before = generations.stamp();
    assert_eq!(generations.hear(at(8, 1), tag("a")), Heard::OtherEpoch);
    generations.adopt(&FleetTable { at: at(8, 0), purges: vec![] });
    assert!(!valid(&generations, before, &[]));
    assert!(generations.admit(at(7, 3), of(&[])).is_none());
    assert!(generations.admit(at(8, 0), of(&[])).is_some());
}

#[test]
fn a_redis_restored_from_an_older_state_is_noticed() {
    let generations = Generations::default();
    assert!(!generations.is_behind(at(7, 0)));
    generations.adopt(&FleetTable { at: at(7, 9), purges: vec![] });
    assert!(generations.is_behind(at(7, 8)));
    assert!(!generations.is_behind(at(7, 9)));
    assert!(!generations.is_behind(at(8, 1)));
}

#[test]
fn before_redis_was_heard_nothing_of_others_is_admitted() {
    assert!(Generations::default().admit(FleetStamp::default(), of(&[])).is_none());
}

#[test]
fn when_there_are_too_many_subjects_only_what_is_older_than_the_oldest_quarter_is_void() {
    let generations = Generations::with_subjects_max(8);
    let mut before = Vec::new();
    for n in 0..=8 {
        before.push(generations.stamp());
        generations.purge_here(tag(&n.to_string()));
    }
    let never = [tag("never purged")];
    assert!(!valid(&generations, before[0], &never) && !valid(&generations, before[2], &never));
    assert!(valid(&generations, before[3], &never), "it began after the oldest quarter was purged");
    for (n, before) in before.iter().enumerate() {
        assert!(!valid(&generations, *before, &[tag(&n.to_string())]), "{n}");
    }
    assert!(generations.read().subjects.len() < 8);
}

#[test]
fn a_soft_purge_makes_old_and_not_void_wherever_the_entry_comes_from() {
    let generations = Generations::default();
    generations.adopt(&FleetTable { at: at(7, 3), purges: vec![] });
    let before = generations.stamp();
    let standing =
        |stamp, name| generations.standing(stamp, of(&[tag(name)]), &CheckedAt::default());
    let is_soft = |standing| matches!(standing, Standing::Soft { since_ms } if since_ms > 0);
    assert_eq!(standing(before, "a"), Standing::Valid);
    generations.hear(at(7, 4), tag("a").softly());
    assert!(is_soft(standing(before, "a")));
    assert_eq!(standing(before, "b"), Standing::Valid);
    assert_eq!(standing(generations.stamp(), "a"), Standing::Valid);
    // What another instance wrote before it is as old, and stays so here.
    let admitted = generations.admit(at(7, 3), of(&[tag("a")])).unwrap();
    assert!(admitted.soft_since_ms.is_some_and(|since_ms| since_ms > 0));
    assert!(is_soft(standing(admitted, "a")));
    assert_eq!(generations.admit(at(7, 4), of(&[tag("a")])).unwrap().soft_since_ms, None);

    generations.hear(at(7, 5), Subject::ALL.softly());
    assert!(is_soft(standing(before, "b")));
    generations.hear(at(7, 6), tag("a"));
    assert_eq!(standing(before, "a"), Standing::Void);
}

#[test]
fn a_soft_purge_that_was_heard_of_late_counts_as_long_ago() {
    let generations = Generations::default();
    generations.adopt(&FleetTable { at: at(7, 3), purges: vec![] });
    let before = generations.stamp();
    generations.adopt(&FleetTable { at: at(7, 4), purges: vec![(tag("a").softly(), 4)] });
    let standing = generations.standing(before, of(&[tag("a")]), &CheckedAt::default());
    assert_eq!(standing, Standing::Soft { since_ms: 0 });
    assert_eq!(generations.admit(at(7, 3), of(&[tag("a")])).unwrap().soft_since_ms, Some(0));
}

#[derive(Clone, Debug)]
enum Step {
    Fill(u8),
    Purge(u8),
    PurgeAll,
    Look,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6_u8).prop_map(Step::Fill),
        3 => (0..6_u8).prop_map(Step::Purge),
        1 => Just(Step::PurgeAll),
        3 => Just(Step::Look),
    ]
}

proptest! {
    /// Against a model that remembers every purge; a small bound may only void more.
    #[test]
    fn nothing_purged_is_ever_served(steps in proptest::collection::vec(step(), 1..60), subjects_max in 1..8_usize) {
        let generations = Generations::with_subjects_max(subjects_max);
        let exact = Generations::default();
        let mut entries: Vec<(u8, Stamp, Stamp, bool, CheckedAt)> = Vec::new();
        for step in steps {
            match step {
                Step::Fill(name) => entries.push((name, generations.stamp(), exact.stamp(), true, CheckedAt::default())),
                Step::Purge(name) => {
                    generations.purge_here(tag(&name.to_string()));
                    exact.purge_here(tag(&name.to_string()));
                    entries.iter_mut().filter(|e| e.0 == name).for_each(|e| e.3 = false);
                }
                Step::PurgeAll => {
                    generations.purge_here(Subject::ALL);
                    exact.purge_here(Subject::ALL);
                    entries.iter_mut().for_each(|e| e.3 = false);
                }
                Step::Look => {}
            }
            for (name, stamp, exact_stamp, expected, checked) in &entries {
                let subjects = [tag(&name.to_string())];
                let served = generations.standing(*stamp, of(&subjects), checked) != Standing::Void;
                prop_assert!(*expected || !served);
                prop_assert_eq!(valid(&exact, *exact_stamp, &subjects), *expected);
            }
        }
    }
}

/// Goal: what was purged here does not come back from another store while the keeper is away.
#[test]
fn a_purge_without_a_number_holds_against_what_other_stores_have() {
    let generations = Generations::default();
    generations.adopt(&FleetTable { at: at(7, 3), purges: vec![] });
    let admitted = |subject| {
        generations.admit(at(7, 3), of(&[subject])).map(|stamp| stamp.soft_since_ms.is_some())
    };
    generations.purge_here(tag("hard"));
    generations.await_number(tag("hard"));
    generations.purge_here(tag("soft").softly());
    generations.await_number(tag("soft").softly());
    assert_eq!(admitted(tag("hard")), None);
    assert_eq!(admitted(tag("soft")), Some(true));
    assert_eq!(admitted(tag("other")), Some(false));

    // Another of the same subject is still on its way.
    generations.await_number(tag("hard"));
    generations.hear(at(7, 4), tag("hard"));
    generations.number_came(tag("hard"));
    assert!(generations.admit(at(7, 4), of(&[tag("hard")])).is_none());
    generations.hear(at(7, 5), tag("hard"));
    generations.number_came(tag("hard"));
    assert!(generations.admit(at(7, 4), of(&[tag("hard")])).is_none(), "by its number now");
    assert!(generations.admit(at(7, 5), of(&[tag("hard")])).is_some());
    generations.await_number(Subject::ALL);
    assert_eq!(admitted(tag("other")), None);
}
