//! What the memory tier is measured against.

use super::{Score, traces::Ask};
use crate::draw::Draw;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A cache that is asked, and keeps what it missed if it likes.
pub(super) trait Rival {
    /// Whether it was a hit.
    fn ask(&mut self, ask: &Ask) -> bool;
}

#[derive(Debug, Default)]
pub(super) struct Count {
    asked: u64,
    hits: u64,
    worth: u64,
    saved: u64,
}

impl Count {
    pub(super) fn add(&mut self, ask: &Ask, hit: bool) {
        self.asked += 1;
        self.worth += ask.worth;
        self.hits += u64::from(hit);
        self.saved += if hit { ask.worth } else { 0 };
    }

    pub(super) fn score(&self) -> Score {
        let part = |some: u64, all: u64| some as f64 / all.max(1) as f64;
        Score { hits: part(self.hits, self.asked), worth: part(self.saved, self.worth) }
    }
}

pub(super) fn play(rival: &mut impl Rival, asks: &[Ask]) -> Score {
    let mut count = Count::default();
    for ask in asks {
        let hit = rival.ask(ask);
        count.add(ask, hit);
    }
    count.score()
}

/// Pushes out what is asked for again last.
pub(super) fn belady(asks: &[Ask], bytes_max: u64) -> Score {
    let mut next = vec![usize::MAX; asks.len()];
    let mut latest = HashMap::new();
    for (i, (ask, next)) in asks.iter().zip(&mut next).enumerate().rev() {
        if let Some(later) = latest.insert(ask.name, i) {
            *next = later;
        }
    }
    let mut held: HashMap<u64, (usize, u64)> = HashMap::new();
    let mut by_next = BTreeSet::new();
    let mut bytes = 0;
    let mut count = Count::default();
    for (ask, next) in asks.iter().zip(next) {
        let was = held.remove(&ask.name);
        if let Some((at, size)) = was {
            by_next.remove(&(at, ask.name));
            bytes -= size;
        }
        count.add(ask, was.is_some());
        if next == usize::MAX {
            continue;
        }
        held.insert(ask.name, (next, ask.bytes));
        by_next.insert((next, ask.name));
        bytes += ask.bytes;
        while bytes > bytes_max {
            let Some((_, name)) = by_next.pop_last() else { break };
            bytes -= held.remove(&name).map_or(0, |(_, size)| size);
        }
    }
    count.score()
}

/// W-TinyLFU: a window of one hundredth, and behind it a segmented LRU whose door a sketch keeps.
/// A newcomer is let in if it was asked for more often than all together that it would push out.
#[derive(Debug)]
pub(super) struct TinyLfu {
    held: HashMap<u64, (Segment, u64, u64)>,
    window: Recent,
    probation: Recent,
    protected: Recent,
    sketch: Vec<u8>,
    counted: usize,
    sample: usize,
    now: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Segment {
    Window,
    Probation,
    Protected,
}

/// Names by when they were asked for last.
#[derive(Debug)]
struct Recent {
    names: BTreeMap<u64, u64>,
    bytes: u64,
    bytes_max: u64,
}

impl Recent {
    fn new(bytes_max: u64) -> Self {
        Self { names: BTreeMap::new(), bytes: 0, bytes_max }
    }
}

impl TinyLfu {
    pub(super) fn new(bytes_max: u64, entries: u64) -> Self {
        let entries = usize::try_from(entries).unwrap_or(1).max(16);
        let window = bytes_max / 100;
        let main = bytes_max - window;
        Self {
            held: HashMap::new(),
            window: Recent::new(window),
            probation: Recent::new(main),
            protected: Recent::new(main / 5 * 4),
            sketch: vec![0; (entries * 8).next_power_of_two()],
            counted: 0,
            sample: entries * 10,
            now: 0,
        }
    }

    fn places(&self, name: u64) -> [usize; 4] {
        let mut draw = Draw::new(name);
        [(); 4].map(|()| draw.below(self.sketch.len()))
    }

    fn frequency(&self, name: u64) -> u64 {
        let counts = self.places(name).map(|place| self.sketch.get(place).copied().unwrap_or(0));
        counts.into_iter().min().unwrap_or(0).into()
    }

    fn count(&mut self, name: u64) {
        for place in self.places(name) {
            if let Some(counter) = self.sketch.get_mut(place) {
                *counter = (*counter + 1).min(15);
            }
        }
        self.counted += 1;
        if self.counted >= self.sample {
            self.counted /= 2;
            self.sketch.iter_mut().for_each(|counter| *counter /= 2);
        }
    }

    fn segment(&mut self, segment: Segment) -> &mut Recent {
        match segment {
            Segment::Window => &mut self.window,
            Segment::Probation => &mut self.probation,
            Segment::Protected => &mut self.protected,
        }
    }

    fn take(&mut self, name: u64) -> Option<(Segment, u64)> {
        let (segment, at, bytes) = self.held.remove(&name)?;
        let recent = self.segment(segment);
        recent.names.remove(&at);
        recent.bytes -= bytes;
        Some((segment, bytes))
    }

    fn put(&mut self, name: u64, segment: Segment, bytes: u64) {
        self.now += 1;
        let now = self.now;
        let recent = self.segment(segment);
        recent.names.insert(now, name);
        recent.bytes += bytes;
        self.held.insert(name, (segment, now, bytes));
    }

    fn oldest(&mut self, segment: Segment) -> Option<u64> {
        self.segment(segment).names.first_key_value().map(|(_, name)| *name)
    }

    fn main_is_over(&self, more: u64) -> bool {
        self.probation.bytes + self.protected.bytes + more > self.probation.bytes_max
    }

    /// What falls out of the window knocks at the door.
    fn knock(&mut self, name: u64, bytes: u64) {
        let mine = self.frequency(name);
        let (mut theirs, mut freed, mut victims) = (0, 0, Vec::new());
        let names = self.probation.names.values().chain(self.protected.names.values());
        for victim in names {
            if self.probation.bytes + self.protected.bytes + bytes - freed
                <= self.probation.bytes_max
            {
                break;
            }
            theirs += self.frequency(*victim);
            freed += self.held.get(victim).map_or(0, |(.., bytes)| *bytes);
            victims.push(*victim);
            if theirs >= mine {
                return;
            }
        }
        for victim in victims {
            self.take(victim);
        }
        if !self.main_is_over(bytes) {
            self.put(name, Segment::Probation, bytes);
        }
    }
}

impl Rival for TinyLfu {
    fn ask(&mut self, ask: &Ask) -> bool {
        self.count(ask.name);
        if let Some((segment, bytes)) = self.take(ask.name) {
            let to = match segment {
                Segment::Window => Segment::Window,
                Segment::Probation | Segment::Protected => Segment::Protected,
            };
            self.put(ask.name, to, bytes);
            while self.protected.bytes > self.protected.bytes_max {
                let Some(oldest) = self.oldest(Segment::Protected) else { break };
                let Some((_, bytes)) = self.take(oldest) else { break };
                self.put(oldest, Segment::Probation, bytes);
            }
            return true;
        }
        self.put(ask.name, Segment::Window, ask.bytes);
        while self.window.bytes > self.window.bytes_max {
            let Some(oldest) = self.oldest(Segment::Window) else { break };
            let Some((_, bytes)) = self.take(oldest) else { break };
            self.knock(oldest, bytes);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hit_ratio::traces::{Sizes, Trace};

    fn asks(names: &[u64]) -> Vec<Ask> {
        names.iter().map(|name| Ask { name: *name, bytes: 1, worth: 1 }).collect()
    }

    #[test]
    fn the_optimum_keeps_what_is_asked_for_again_soonest() {
        // By hand: with room for two, 1 and 2 stay for the second half; 3 is never kept.
        let score = belady(&asks(&[1, 2, 3, 1, 2, 3, 1, 2]), 2);
        assert_eq!(score.hits, 0.5);
        assert_eq!(belady(&asks(&[1, 2, 3]), 2).hits, 0.0);
    }

    #[test]
    fn nobody_beats_the_optimum_where_all_sizes_are_equal() {
        for trace in Trace::ALL {
            let asks = trace.draw(12_000, 1_000, Sizes::Equal);
            let (best, rival) = (belady(&asks, 400_000), &mut TinyLfu::new(400_000, 97));
            let score = play(rival, &asks);
            assert!(score.hits <= best.hits, "{}", trace.name());
            assert!(rival.window.bytes + rival.probation.bytes + rival.protected.bytes <= 400_000);
        }
    }
}
