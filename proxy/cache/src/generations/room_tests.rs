//! What making room costs, and what it never does.

use super::super::{
    About, CheckedAt, FleetStamp, FleetTable, Generations, SUBJECTS_MAX, Stamp, Standing, Subject,
    Target, forget_oldest,
};
use crate::{clock::unix_ms, urls::VOID_PLACES};
use proptest::prelude::*;
use std::collections::HashMap;

fn tag(n: u64) -> Subject {
    Subject::of(Target::Tag(&n.to_string()))
}

fn at(sequence: u64) -> FleetStamp {
    FleetStamp { epoch: 7, sequence }
}

fn is_void(generations: &Generations, stamp: Stamp, subject: Subject) -> bool {
    let about = About { subjects: &[subject], tags: &[] };
    generations.standing(stamp, about, &CheckedAt::default()) == Standing::Void
}

fn admits(generations: &Generations, sequence: u64, subject: Subject) -> bool {
    generations.admit(at(sequence), About { subjects: &[subject], tags: &[] }).is_some()
}

/// Purges of tags 1 to `n`, each with its own number.
fn table(n: u64) -> FleetTable {
    FleetTable { at: at(n), purges: (1..=n).map(|n| (tag(n), n)).collect() }
}

/// The same, of which those up to `floor` were forgotten.
fn shortened(n: u64, floor: u64) -> FleetTable {
    let left = (floor + 1..=n).map(|n| (tag(n), n)).chain([(Subject::ALL, floor)]);
    FleetTable { at: at(n), purges: left.collect() }
}

#[test]
fn who_has_heard_of_all_that_its_keeper_forgets_loses_nothing_but_what_is_older() {
    let generations = Generations::default();
    generations.adopt(&table(4));
    let (before, older) = (generations.stamp(), 2);
    generations.adopt(&table(8));
    let now = generations.stamp();
    generations.adopt(&shortened(8, 3));
    assert!(!is_void(&generations, now, tag(1)), "it is no purge of everything");
    assert!(!is_void(&generations, before, tag(1)) && is_void(&generations, before, tag(5)));
    assert!(!admits(&generations, older, tag(99)), "older than what was forgotten");
    assert!(admits(&generations, 3, tag(99)) && !admits(&generations, 3, tag(4)));
    assert!(!generations.has_lost(&shortened(8, 3)), "nor has the keeper lost any");
    assert_eq!(generations.read().subjects.len(), 5);
}

#[test]
fn who_has_not_heard_of_what_its_keeper_forgets_gives_nothing_older() {
    let generations = Generations::default();
    generations.adopt(&table(2));
    let before = generations.stamp();
    // The third was purged, and forgotten, while nothing was heard.
    generations.adopt(&shortened(8, 3));
    assert!(is_void(&generations, before, tag(3)) && is_void(&generations, before, tag(99)));
    assert!(!is_void(&generations, generations.stamp(), tag(3)));
}

#[test]
fn a_keeper_of_another_history_is_not_believed_to_have_made_room() {
    let generations = Generations::default();
    generations.adopt(&table(4));
    let before = generations.stamp();
    // It was set back to 2, and has numbered others since: the fourth was never heard here.
    let others = vec![(Subject::ALL, 4), (tag(50), 5)];
    generations.adopt(&FleetTable { at: at(5), purges: others });
    assert!(is_void(&generations, before, tag(99)));
}

#[test]
fn its_own_room_is_no_sign_that_the_keeper_has_lost_anything() {
    let generations = Generations::with_subjects_max(8);
    generations.adopt(&table(8));
    generations.purge_here(tag(100));
    assert!(generations.read().subjects.len() <= 8);
    assert!(!generations.has_lost(&table(8)));
    assert!(!admits(&generations, 1, tag(99)), "what it has forgotten is void");
}

#[test]
fn who_came_late_forgets_in_the_fleets_order() {
    let generations = Generations::with_subjects_max(8);
    generations.adopt(&table(8));
    generations.purge_here(tag(100));
    assert!(!admits(&generations, 1, tag(99)), "the oldest are forgotten");
    assert!(admits(&generations, 4, tag(99)), "and the younger are not");
}

#[test]
fn what_no_entry_is_as_old_as_is_forgotten_before_anything_else() {
    let generations = Generations::with_subjects_max(16);
    let nothing = About { subjects: &[], tags: &[] };
    let old = generations.stamp();
    (0..10).for_each(|n| generations.purge_here(tag(n)));
    let later_ms = unix_ms() + 60_000;
    generations.forget_outlived(later_ms);
    assert_eq!(generations.read().subjects.len(), 10, "how long entries live is not known");
    generations.lives(nothing, 120_000);
    generations.forget_outlived(later_ms);
    assert_eq!(generations.read().subjects.len(), 10, "some may be older than these");
    let young = generations.stamp();
    generations.forget_outlived(later_ms + 120_000);
    assert_eq!(generations.read().subjects.len(), 0);
    assert!(is_void(&generations, old, tag(3)), "nothing that was purged comes back");
    assert!(is_void(&generations, old, tag(99)) && !is_void(&generations, young, tag(3)));
}

#[test]
fn strangers_leave_a_quarter_of_every_table_to_others() {
    for most in [SUBJECTS_MAX, crate::memcached::SUBJECTS_MAX] {
        let generations = Generations::default();
        let mut named = 0;
        while !generations.is_crowded(most) {
            generations.purge_here(tag(named));
            named += 1;
        }
        let places = (0..VOID_PLACES).map(|place| Subject::of(Target::UrlPlace(place)));
        places.for_each(|place| generations.purge_here(place));
        let taken = generations.read().subjects.len();
        assert!(named > 0 && taken <= most / 4 * 3, "{named} {taken} of {most}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// An instance begins to fill something about a name.
    Fill(usize, u64),
    /// An instance purges a name, and the keeper numbers it.
    Purge(usize, u64),
    /// An instance hears of all.
    Hear(usize),
    /// An instance forgets what it takes to be outlived.
    Age(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let instance = || 0..3_usize;
    prop_oneof![
        4 => (instance(), 0..12_u64).prop_map(|(one, name)| Step::Fill(one, name)),
        4 => (instance(), 0..12_u64).prop_map(|(one, name)| Step::Purge(one, name)),
        2 => instance().prop_map(Step::Hear),
        1 => instance().prop_map(Step::Age),
    ]
}

proptest! {
    /// Against a model that remembers every purge: however the keeper and the instances make room,
    /// and whatever they miss.
    #[test]
    fn nothing_purged_is_given_by_who_has_heard_of_it(
        steps in proptest::collection::vec(step(), 1..120),
        (subjects_max, own_max) in (2..6_usize, 2..8_usize),
    ) {
        let instances: Vec<_> = (0..3).map(|_| Generations::with_subjects_max(own_max)).collect();
        let (mut purges, mut sequence) = (HashMap::new(), 0);
        let table = |purges: &HashMap<Subject, u64>, sequence| FleetTable {
            at: at(sequence),
            purges: purges.iter().map(|(subject, number)| (*subject, *number)).collect(),
        };
        instances.iter().for_each(|one| one.adopt(&table(&purges, 0)));
        let mut entries: Vec<(usize, u64, Stamp, bool)> = Vec::new();
        for step in steps {
            let heard = match step {
                Step::Fill(one, name) => {
                    entries.push((one, name, instances[one].stamp(), false));
                    continue;
                }
                Step::Purge(one, name) => {
                    instances[one].purge_here(tag(name));
                    instances[one].await_number(tag(name));
                    sequence += 1;
                    if purges.len() >= subjects_max && !purges.contains_key(&tag(name)) {
                        forget_oldest(&mut purges);
                    }
                    purges.insert(tag(name), sequence);
                    instances[one].adopt(&table(&purges, sequence));
                    instances[one].number_came(tag(name));
                    entries.iter_mut().filter(|entry| entry.1 == name).for_each(|entry| entry.3 = true);
                    one
                }
                Step::Hear(one) => {
                    instances[one].adopt(&table(&purges, sequence));
                    one
                }
                Step::Age(one) => {
                    instances[one].lives(About { subjects: &[], tags: &[] }, 1);
                    instances[one].forget_outlived(unix_ms() + 10);
                    continue;
                }
            };
            for (filler, name, stamp, _) in entries.iter().filter(|entry| entry.3) {
                prop_assert!(!admits(&instances[heard], stamp.fleet.sequence, tag(*name)));
                prop_assert!(*filler != heard || is_void(&instances[heard], *stamp, tag(*name)));
            }
            // What begins now is never void.
            prop_assert!(!is_void(&instances[heard], instances[heard].stamp(), tag(0)));
            prop_assert!(admits(&instances[heard], sequence, tag(0)));
        }
    }
}
