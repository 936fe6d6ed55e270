//! The fleet's purges as one value in memcached.
//!
//! ```text
//!   "TGP" version │ namespace 16 │ epoch 8 │ sequence 8 │ count 4 │ (subject 16, number 8)… │ checksum 16
//! ```
//!
//! One value, so that memcached forgets all of it or nothing, and a missing epoch is noticed. Each
//! change replaces it if nobody else did meanwhile (compare and swap): what a purge's number is and
//! what the table says cannot disagree.

use crate::generations::{FleetStamp, FleetTable, Subject, forget_oldest};
use std::collections::HashMap;

/// The last byte is the version: bump it with any change of the layout.
const MAGIC: &[u8; 4] = b"TGP\x01";
/// Of more purged subjects than this the oldest are forgotten. 8,192 take 192 KiB, a fifth of
/// what memcached stores by default and what an instance reads after each purge of another.
pub(crate) const SUBJECTS_MAX: usize = 8_192;
const ITEM_LEN: usize = 16 + 8;
const DIGEST_LEN: usize = 16;

/// The table with the next numbers for `subjects`.
pub(super) fn with_purges(table: &FleetTable, subjects: &[Subject]) -> FleetTable {
    let mut purges: HashMap<Subject, u64> = table.purges.iter().copied().collect();
    let mut at = table.at;
    for subject in subjects {
        at.sequence += 1;
        if *subject == Subject::ALL {
            purges.clear();
        } else if purges.len() >= SUBJECTS_MAX && !purges.contains_key(subject) {
            forget_oldest(&mut purges);
        }
        purges.insert(*subject, at.sequence);
    }
    FleetTable { at, purges: purges.into_iter().collect() }
}

pub(super) fn write(namespace: &str, table: &FleetTable) -> Vec<u8> {
    let mut out = Vec::with_capacity(60 + table.purges.len() * ITEM_LEN);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&digest(namespace.as_bytes()));
    out.extend_from_slice(&table.at.epoch.to_le_bytes());
    out.extend_from_slice(&table.at.sequence.to_le_bytes());
    let count = u32::try_from(table.purges.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&count.to_le_bytes());
    for (subject, number) in &table.purges {
        out.extend_from_slice(subject.as_bytes());
        out.extend_from_slice(&number.to_le_bytes());
    }
    let sum = digest(&out);
    out.extend_from_slice(&sum);
    out
}

/// `None` for what is not a whole table of this version and namespace.
pub(super) fn read(namespace: &str, value: &[u8]) -> Option<FleetTable> {
    let (rest, sum) = value.split_last_chunk::<DIGEST_LEN>()?;
    if digest(rest) != *sum {
        return None;
    }
    let rest = rest.strip_prefix(MAGIC)?.strip_prefix(&digest(namespace.as_bytes()))?;
    let (epoch, rest) = rest.split_first_chunk()?;
    let (sequence, rest) = rest.split_first_chunk()?;
    let (count, items) = rest.split_first_chunk()?;
    let at =
        FleetStamp { epoch: u64::from_le_bytes(*epoch), sequence: u64::from_le_bytes(*sequence) };
    let (items, odd) = items.as_chunks::<ITEM_LEN>();
    let whole = u32::from_le_bytes(*count) == u32::try_from(items.len()).ok()? && odd.is_empty();
    if at.epoch == 0 || !whole {
        return None;
    }
    let purges = items.iter().filter_map(|item| {
        let (subject, number) = item.split_first_chunk()?;
        Some((Subject::from_bytes(*subject), u64::from_le_bytes(*number.first_chunk()?)))
    });
    Some(FleetTable { at, purges: purges.collect() })
}

fn digest(bytes: &[u8]) -> [u8; DIGEST_LEN] {
    blake3::hash(bytes).as_bytes().first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generations::Target;
    use proptest::{collection::vec, prelude::*};

    fn tag(name: &str) -> Subject {
        Subject::of(Target::Tag(name))
    }

    fn empty() -> FleetTable {
        FleetTable { at: FleetStamp { epoch: 7, sequence: 0 }, purges: Vec::new() }
    }

    #[test]
    fn purges_are_numbered_in_order_and_everything_takes_their_place() {
        let table = with_purges(&empty(), &[tag("a"), tag("b"), tag("a")]);
        assert_eq!(table.at.sequence, 3);
        let mut numbers = table.purges.clone();
        numbers.sort_by_key(|(_, number)| *number);
        assert_eq!(numbers, [(tag("b"), 2), (tag("a"), 3)]);
        let table = with_purges(&table, &[Subject::ALL, tag("c")]);
        let mut numbers = table.purges;
        numbers.sort_by_key(|(_, number)| *number);
        assert_eq!(numbers, [(Subject::ALL, 4), (tag("c"), 5)]);
    }

    #[test]
    fn a_full_table_forgets_its_oldest_quarter_under_a_floor_and_fits_into_an_item() {
        let subjects: Vec<_> = (0..SUBJECTS_MAX).map(|n| tag(&n.to_string())).collect();
        let full = with_purges(&empty(), &subjects);
        assert_eq!(full.purges.len(), SUBJECTS_MAX);
        assert!(write("ns", &full).len() < 256 * 1024);
        let again = with_purges(&full, &subjects[..1]);
        assert_eq!(again.purges.len(), SUBJECTS_MAX, "known subjects need no room");
        let over = with_purges(&full, &[tag("one more")]);
        let (quarter, number) = (SUBJECTS_MAX as u64 / 4, SUBJECTS_MAX as u64 + 1);
        let number_of = |subject| {
            over.purges.iter().find(|(other, _)| *other == subject).map(|(_, number)| *number)
        };
        assert_eq!(number_of(Subject::ALL), Some(quarter), "what began before it is void");
        assert_eq!(number_of(tag("one more")), Some(number));
        assert_eq!(number_of(subjects[SUBJECTS_MAX / 4 - 1]), None);
        assert_eq!(number_of(subjects[SUBJECTS_MAX / 4]), Some(quarter + 1));
        assert!(write("ns", &over).len() < 256 * 1024);
    }

    #[test]
    fn a_table_torn_twisted_or_of_another_namespace_is_none() {
        let value = write("ns", &with_purges(&empty(), &[tag("a"), tag("b")]));
        assert_eq!(read("ns", &value).map(|table| table.purges.len()), Some(2));
        assert!(read("other", &value).is_none());
        for place in 0..value.len() {
            assert!(read("ns", &value[..place]).is_none());
            let mut twisted = value.clone();
            twisted[place] ^= 1;
            assert!(read("ns", &twisted).is_none());
        }
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(mut value in vec(any::<u8>(), 0..200)) {
            prop_assert!(read("ns", &value).is_none());
            let sum = digest(&value);
            value.extend_from_slice(&sum);
            let _ = read("ns", &value);
        }
    }
}
