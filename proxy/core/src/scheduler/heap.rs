//! Small numbers in the order of a key, of which any may leave or change its key.
//!
//! A binary heap that remembers where each number stands. A B-tree would do as well,
//! but it takes and gives back memory as it breathes; here both tables only grow, so that a
//! queue at its busiest hour allocates nothing.

/// Of numbers that stand nowhere.
const NOWHERE: usize = usize::MAX;

#[derive(Debug)]
pub(super) struct Heap<K> {
    order: Vec<(K, usize)>,
    /// Where in `order` each number stands.
    places: Vec<usize>,
}

impl<K> Default for Heap<K> {
    fn default() -> Self {
        Self { order: Vec::new(), places: Vec::new() }
    }
}

impl<K: Ord + Copy> Heap<K> {
    /// The number with the least key.
    pub(super) fn first(&self) -> Option<(K, usize)> {
        self.order.first().copied()
    }

    pub(super) fn key(&self, number: usize) -> Option<K> {
        self.order.get(self.place(number)?).map(|(key, _)| *key)
    }

    /// Puts a number in, or gives the one that is in another key.
    pub(super) fn set(&mut self, number: usize, key: K) {
        let at = if let Some(at) = self.place(number) {
            if let Some(entry) = self.order.get_mut(at) {
                entry.0 = key;
            }
            at
        } else {
            if self.places.len() <= number {
                self.places.resize(number + 1, NOWHERE);
            }
            self.order.push((key, number));
            self.order.len() - 1
        };
        self.settle(at, (key, number));
    }

    /// Takes a number out, if it is in.
    pub(super) fn remove(&mut self, number: usize) {
        let Some(at) = self.place(number) else { return };
        self.note(number, NOWHERE);
        // The last takes its place.
        if let Some(last) = self.order.pop()
            && at < self.order.len()
        {
            self.settle(at, last);
        }
    }

    pub(super) fn clear(&mut self) {
        self.order.clear();
        self.places.fill(NOWHERE);
    }

    fn place(&self, number: usize) -> Option<usize> {
        self.places.get(number).copied().filter(|at| *at != NOWHERE)
    }

    /// Moves the hole at `at` up or down to where `entry` belongs, and fills it.
    fn settle(&mut self, mut at: usize, entry: (K, usize)) {
        while let Some(above) = at.checked_sub(1).map(|below| below / 2)
            && let Some(parent) = self.order.get(above).copied()
            && entry.0 < parent.0
        {
            self.put(at, parent);
            at = above;
        }
        while let Some(below) = self.lesser_below(at)
            && let Some(child) = self.order.get(below).copied()
            && child.0 < entry.0
        {
            self.put(at, child);
            at = below;
        }
        self.put(at, entry);
    }

    fn lesser_below(&self, at: usize) -> Option<usize> {
        let left = 2 * at + 1;
        let (left_key, _) = self.order.get(left)?;
        let right_is_less = self.order.get(left + 1).is_some_and(|(key, _)| key < left_key);
        Some(if right_is_less { left + 1 } else { left })
    }

    fn put(&mut self, at: usize, entry: (K, usize)) {
        if let Some(slot) = self.order.get_mut(at) {
            *slot = entry;
        }
        self.note(entry.1, at);
    }

    fn note(&mut self, number: usize, at: usize) {
        if let Some(place) = self.places.get_mut(number) {
            *place = at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Heap;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn the_first_is_the_least_whatever_came_changed_and_left(
            steps in prop::collection::vec((0_usize..12, prop::option::weighted(0.7, 0_u8..20)), 0..200),
        ) {
            let (mut heap, mut model) = (Heap::default(), BTreeMap::new());
            for (number, key) in steps {
                if let Some(key) = key {
                    heap.set(number, key);
                    model.insert(number, key);
                } else {
                    heap.remove(number);
                    model.remove(&number);
                }
                let least = model.values().min().copied();
                prop_assert_eq!(heap.first().map(|(key, _)| key), least);
                let first = heap.first().map(|(_, number)| number);
                prop_assert!(first.is_none_or(|number| model.get(&number).copied() == least));
                for number in 0..12 {
                    prop_assert_eq!(heap.key(number), model.get(&number).copied());
                }
            }
        }
    }
}
