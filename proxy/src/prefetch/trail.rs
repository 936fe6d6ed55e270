//! What follows what: learned from who asks, forgotten by what is newer.
//!
//! Everything here is named by digests that have the scope of their callers in them, so nothing that
//! is learned of one scope is ever found in another. All of it is bounded, and what nobody asks for
//! again is gone after two turns at most.

use super::held::Held;
use std::{collections::HashMap, sync::Arc};

/// A question of one scope, or one who asks.
pub(super) type Name = [u8; 16];

/// Callers whose last question is remembered; about 100 bytes each.
const SESSIONS_MAX: usize = 16 * 1024;
/// Questions whose successors are remembered; about 300 bytes each at the most.
const QUESTIONS_MAX: usize = 16 * 1024;
/// Of all requests that are held to be asked ahead: some thousand questions to a model. The
/// configuration's schema names it.
const HELD_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What is not asked for again is forgotten after that long or twice that long: what people ask
/// today says little of tomorrow, and what they asked is nobody's business for longer than needed.
const TURN_MS: u64 = 60 * 60 * 1000;

/// Different questions that are remembered to follow one.
const SUCCESSORS_MAX: usize = 8;
/// Once is chance.
const SEEN_MIN: u16 = 2;
/// After so many that followed, what is older counts half.
const FOLLOWED_MAX: u16 = 64;

/// What this process has seen follow each other.
#[derive(Debug)]
pub(super) struct Trail {
    sessions: Aging<Last>,
    questions: Aging<Question>,
    held: Aging<Arc<Held>>,
}

/// What somebody asked last.
#[derive(Clone, Copy, Debug)]
struct Last {
    question: Name,
    at_ms: u64,
}

/// What followed a question.
#[derive(Debug, Default)]
struct Question {
    /// How often anything did.
    followed: u16,
    next: Vec<(Name, u16)>,
}

impl Default for Trail {
    fn default() -> Self {
        Self {
            sessions: Aging::new(SESSIONS_MAX),
            questions: Aging::new(QUESTIONS_MAX),
            held: Aging::new(HELD_BYTES_MAX),
        }
    }
}

impl Trail {
    /// `session` asks `question`. Whether its request is worth holding, because it is seen again to
    /// follow what its caller asked before.
    pub(super) fn step(
        &mut self,
        session: Name,
        question: Name,
        now_ms: u64,
        within_ms: u64,
    ) -> bool {
        // Also where nothing of them is asked for.
        self.questions.turn_if_due(now_ms);
        self.held.turn_if_due(now_ms);
        let last = self.sessions.touch(&session, now_ms).copied();
        self.sessions.put(session, Last { question, at_ms: now_ms }, 1, now_ms);
        let follows = last.filter(|last| {
            // Who asks the same again is not asking what comes next.
            last.question != question && now_ms.saturating_sub(last.at_ms) <= within_ms
        });
        let Some(Last { question: before, .. }) = follows else { return false };
        if self.questions.touch(&before, now_ms).is_none() {
            self.questions.put(before, Question::default(), 1, now_ms);
        }
        let seen = self.questions.touch(&before, now_ms).map(|before| before.followed_by(question));
        seen.is_some_and(|seen| seen >= SEEN_MIN) && self.held.touch(&question, now_ms).is_none()
    }

    /// Keeps the request that asks `question`.
    pub(super) fn hold(&mut self, question: Name, held: Arc<Held>, now_ms: u64) {
        let bytes = held.bytes();
        self.held.put(question, held, bytes, now_ms);
    }

    /// What is likely to follow `question` with a chance of `share_ppm` millionths at least, the
    /// likeliest first, as far as its request is held.
    pub(super) fn likely(
        &mut self,
        question: &Name,
        share_ppm: u32,
        now_ms: u64,
    ) -> Vec<(Name, Arc<Held>)> {
        let Some(question) = self.questions.touch(question, now_ms) else { return Vec::new() };
        let followed = u64::from(question.followed);
        let is_likely = |seen: u16| {
            let least = followed.saturating_mul(share_ppm.into());
            seen >= SEEN_MIN && u64::from(seen).saturating_mul(1_000_000) >= least
        };
        let mut likely: Vec<(Name, u16)> =
            question.next.iter().filter(|(_, seen)| is_likely(*seen)).copied().collect();
        likely.sort_by_key(|(_, seen)| std::cmp::Reverse(*seen));
        let held = |(next, _): (Name, u16)| Some((next, self.held.touch(&next, now_ms)?.clone()));
        likely.into_iter().filter_map(held).collect()
    }
}

impl Question {
    /// How often `next` has followed by now, of late.
    fn followed_by(&mut self, next: Name) -> u16 {
        if self.followed >= FOLLOWED_MAX {
            self.followed /= 2;
            self.next.iter_mut().for_each(|(_, seen)| *seen /= 2);
            self.next.retain(|(_, seen)| *seen > 0);
        }
        self.followed += 1;
        if let Some((_, seen)) = self.next.iter_mut().find(|(known, _)| *known == next) {
            *seen += 1;
            return *seen;
        }
        if self.next.len() >= SUCCESSORS_MAX {
            // What was seen once makes room; what was seen more often has to fade first.
            let Some(once) = self.next.iter_mut().find(|(_, seen)| *seen == 1) else { return 0 };
            *once = (next, 1);
        } else {
            self.next.push((next, 1));
        }
        1
    }
}

/// A map that forgets: what was not touched while half of its room was filled, or in an hour, is
/// old; what was not touched while that happened again is gone.
#[derive(Debug)]
struct Aging<V> {
    new: HashMap<Name, (V, usize)>,
    old: HashMap<Name, (V, usize)>,
    /// Of what is new.
    weight: usize,
    weight_max: usize,
    turned_ms: u64,
}

impl<V> Aging<V> {
    /// `weight_max`: of all of it.
    fn new(weight_max: usize) -> Self {
        let (new, old) = (HashMap::new(), HashMap::new());
        Self { new, old, weight: 0, weight_max, turned_ms: 0 }
    }

    fn touch(&mut self, name: &Name, now_ms: u64) -> Option<&mut V> {
        self.turn_if_due(now_ms);
        if let Some((value, weight)) = self.old.remove(name) {
            self.put(*name, value, weight, now_ms);
        }
        self.new.get_mut(name).map(|(value, _)| value)
    }

    fn put(&mut self, name: Name, value: V, weight: usize, now_ms: u64) {
        self.turn_if_due(now_ms);
        self.old.remove(&name);
        let before = self.new.remove(&name).map_or(0, |(_, weight)| weight);
        self.weight = self.weight.saturating_sub(before);
        let half = self.weight_max / 2;
        if weight > half {
            return;
        }
        if self.weight.saturating_add(weight) > half {
            self.turn(now_ms);
        }
        self.new.insert(name, (value, weight));
        self.weight = self.weight.saturating_add(weight);
    }

    fn turn_if_due(&mut self, now_ms: u64) {
        let turns = now_ms.saturating_sub(self.turned_ms) / TURN_MS;
        if turns >= 1 {
            self.turn(now_ms);
        }
        if turns >= 2 {
            self.turn(now_ms);
        }
    }

    fn turn(&mut self, now_ms: u64) {
        self.old = std::mem::take(&mut self.new);
        (self.weight, self.turned_ms) = (0, now_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE_MS: u64 = 60_000;

    fn name(n: u8) -> Name {
        [n; 16]
    }

    /// Somebody asks one question after the other, a second apart.
    fn walk(trail: &mut Trail, session: u8, questions: &[u8], now_ms: &mut u64) {
        for question in questions {
            *now_ms += 1_000;
            if trail.step(name(session), name(*question), *now_ms, 5 * MINUTE_MS) {
                trail.hold(name(*question), Arc::new(Held::of_length(100)), *now_ms);
            }
        }
    }

    fn likely(trail: &mut Trail, question: u8, now_ms: u64) -> Vec<u8> {
        let likely = trail.likely(&name(question), 300_000, now_ms);
        likely.into_iter().map(|(name, _)| name[0]).collect()
    }

    #[test]
    fn what_followed_twice_is_likely_and_once_is_chance() {
        let (mut trail, mut now_ms) = (Trail::default(), 0);
        walk(&mut trail, 1, &[1, 2, 3], &mut now_ms);
        assert!(likely(&mut trail, 1, now_ms).is_empty());
        walk(&mut trail, 2, &[1, 2], &mut now_ms);
        assert_eq!(likely(&mut trail, 1, now_ms), [2]);
        assert!(likely(&mut trail, 2, now_ms).is_empty());
    }

    #[test]
    fn what_follows_seldom_is_not_likely() {
        let (mut trail, mut now_ms) = (Trail::default(), 0);
        for n in 0..2 {
            walk(&mut trail, n, &[1, 2], &mut now_ms);
        }
        for n in 10..15 {
            walk(&mut trail, n, &[1, n], &mut now_ms);
        }
        assert!(likely(&mut trail, 1, now_ms).is_empty(), "2 of 7");
        walk(&mut trail, 9, &[1, 2], &mut now_ms);
        assert_eq!(likely(&mut trail, 1, now_ms), [2], "3 of 8");
    }

    #[test]
    fn who_asks_the_same_again_or_after_a_long_pause_teaches_nothing() {
        let (mut trail, mut now_ms) = (Trail::default(), 0);
        for n in 0..3 {
            walk(&mut trail, n, &[1, 1], &mut now_ms);
            now_ms += 6 * MINUTE_MS;
            walk(&mut trail, n, &[2], &mut now_ms);
        }
        assert!(likely(&mut trail, 1, now_ms).is_empty());
    }

    #[test]
    fn what_people_do_now_takes_the_place_of_what_they_did() {
        let (mut trail, mut now_ms) = (Trail::default(), 0);
        for _ in 0..60 {
            walk(&mut trail, 1, &[1, 2], &mut now_ms);
        }
        assert_eq!(likely(&mut trail, 1, now_ms), [2]);
        for _ in 0..80 {
            walk(&mut trail, 1, &[1, 3], &mut now_ms);
        }
        assert_eq!(likely(&mut trail, 1, now_ms), [3]);
    }

    #[test]
    fn what_nobody_asks_for_is_forgotten() {
        let (mut trail, mut now_ms) = (Trail::default(), 0);
        walk(&mut trail, 1, &[1, 2, 1, 2], &mut now_ms);
        now_ms += TURN_MS;
        assert_eq!(likely(&mut trail, 1, now_ms), [2], "asked for again within two turns");
        now_ms += 2 * TURN_MS;
        walk(&mut trail, 9, &[9], &mut now_ms);
        assert!(likely(&mut trail, 1, now_ms).is_empty());
        assert!(trail.held.new.is_empty() && trail.held.old.is_empty());
    }

    proptest! {
        #[test]
        fn what_is_remembered_stays_within_its_bound(
            puts in prop::collection::vec((0..60_u8, 1..40_usize, 0..TURN_MS), 1..300),
        ) {
            let (mut aging, mut now_ms) = (Aging::new(200), 0);
            for (n, weight, pause_ms) in puts {
                now_ms += pause_ms / 50;
                if n % 3 == 0 {
                    aging.touch(&name(n), now_ms);
                }
                aging.put(name(n), (), weight, now_ms);
                let all = aging.new.values().chain(aging.old.values()).map(|(_, weight)| *weight);
                prop_assert!(all.sum::<usize>() <= 200);
                let new = aging.new.values().map(|(_, weight)| *weight);
                prop_assert_eq!(new.sum::<usize>(), aging.weight);
            }
        }
    }
}
