//! How often keys were seen that are held no more, in a few bytes and about right.
//!
//! A count-min sketch of 8-bit counters: a key has four places, and the least of them is its
//! count, too high if others share all four, never too low. Everything is halved now and then, so
//! that yesterday fades. Keys are digests, so their own bytes are the hashes.

use crate::key::CacheKey;

const PLACES: usize = 4;

#[derive(Debug)]
pub(super) struct Sketch {
    /// A power of two of them.
    counters: Box<[u8]>,
    seen: usize,
}

impl Sketch {
    /// At least `counters` of one byte each; as many keys seen, and all is halved.
    pub(super) fn new(counters: usize) -> Self {
        Self { counters: vec![0; counters.next_power_of_two()].into(), seen: 0 }
    }

    /// How often `key` was seen, about.
    pub(super) fn count(&self, key: &CacheKey) -> u32 {
        let counts = self.places(key).map(|place| self.counters.get(place).copied().unwrap_or(0));
        counts.into_iter().min().unwrap_or(0).into()
    }

    /// From now on `key` counts as seen `times` at least (255 at most).
    pub(super) fn raise(&mut self, key: &CacheKey, times: u32) {
        let times = u8::try_from(times).unwrap_or(u8::MAX);
        for place in self.places(key) {
            if let Some(counter) = self.counters.get_mut(place) {
                *counter = times.max(*counter);
            }
        }
        self.seen += 1;
        if self.seen >= self.counters.len() {
            self.seen = 0;
            self.counters.iter_mut().for_each(|counter| *counter /= 2);
        }
    }

    fn places(&self, key: &CacheKey) -> [usize; PLACES] {
        let words = key.as_bytes().as_chunks::<8>().0;
        let mask = self.counters.len().saturating_sub(1);
        let mut places = [0; PLACES];
        for (place, word) in places.iter_mut().zip(words) {
            *place = usize::try_from(u64::from_le_bytes(*word)).unwrap_or(usize::MAX) & mask;
        }
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::tests::key;

    #[test]
    fn a_count_is_never_too_low() {
        let mut sketch = Sketch::new(256);
        for n in 1..50 {
            sketch.raise(&key(n), n.into());
        }
        for n in 1..50 {
            assert!(sketch.count(&key(n)) >= n.into(), "{n}");
        }
        assert_eq!(sketch.count(&key(99)), 0);
        sketch.raise(&key(99), 1_000);
        assert_eq!(sketch.count(&key(99)), 255);
    }

    #[test]
    fn what_is_not_seen_again_fades() {
        let mut sketch = Sketch::new(64);
        sketch.raise(&key(1), 9);
        for _ in 1..64 {
            sketch.raise(&key(2), 1);
        }
        assert_eq!(sketch.count(&key(1)), 4);
    }
}
