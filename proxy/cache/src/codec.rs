//! An entry as bytes, for stores outside the process.
//!
//! ```text
//! "TGE" version │ key 32 │ check 8+16 │ fields, each with its length │ BLAKE3 of all before, 16
//! ```
//!
//! What comes back is believed only if all of it is there: version, key, checksum, every length,
//! and nothing after. A value that is torn, older, newer, of another key or of another program is
//! no error but a miss ([`Foreign`]), counted. Numbers are little-endian. The body is not copied.
//!
//! The subjects are made anew from the names, and the local half of the stamp is left out: it means
//! nothing in another process.

mod rule;

use crate::{
    delivery::Delivery,
    entry::{Entry, Form, Hits, Rule, of_variant, subjects, with_url},
    generations::{CheckedAt, FleetStamp, Stamp},
    key::{CacheKey, Check},
};
use bytes::{Buf, Bytes};
use std::sync::Arc;

/// The last byte is the format's version: bump it with any change of the layout.
const MAGIC: &[u8; 4] = b"TGE\x03";
const CHECKSUM_LEN: usize = 16;
/// Forms. A stream that is kept with the times of its frames has a number of its own, so that
/// streams without are read as ever, and who does not know of these misses.
const WHOLE: u8 = 0;
const STREAM: u8 = 1;
const PACED_STREAM: u8 = 2;

/// The value is not a whole entry of this version under this key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a whole entry of this version and key; treated as a miss")]
pub struct Foreign;

/// Writes `entry` as it is stored under `key`.
pub fn encode(key: CacheKey, entry: &Entry) -> Vec<u8> {
    let mut out = Vec::with_capacity(usize::try_from(entry.weight()).unwrap_or(0));
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(&entry.check.len.to_le_bytes());
    out.extend_from_slice(&entry.check.digest128);
    out.extend_from_slice(&entry.status.to_le_bytes());
    let gaps_ms = entry.delivery.gaps_ms().filter(|gaps| gaps.len() == entry.frame_ends.len());
    out.push(match (entry.form, gaps_ms) {
        (Form::Whole, _) => WHOLE,
        (Form::Stream, None) => STREAM,
        (Form::Stream, Some(_)) => PACED_STREAM,
    });
    let FleetStamp { epoch, sequence } = entry.stamp.fleet;
    for number in [entry.stored_at_ms, entry.ttl_ms, entry.worth, epoch, sequence] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    rule::put(&mut out, &entry.rule);
    for name in [&*entry.model, &entry.model_version, &entry.tenant, &entry.route] {
        put(&mut out, name.as_bytes());
    }
    put_count(&mut out, entry.tags.len());
    for tag in &entry.tags {
        put(&mut out, tag.as_bytes());
    }
    put_count(&mut out, entry.headers.len());
    for (name, value) in &entry.headers {
        put(&mut out, name);
        put(&mut out, value);
    }
    put_count(&mut out, entry.frame_ends.len());
    for end in &entry.frame_ends {
        out.extend_from_slice(&end.to_le_bytes());
    }
    for gap_ms in gaps_ms.filter(|_| entry.form == Form::Stream).unwrap_or_default() {
        out.extend_from_slice(&gap_ms.to_le_bytes());
    }
    put(&mut out, &entry.note);
    put(&mut out, &entry.body);
    let checksum = checksum(&out);
    out.extend_from_slice(&checksum);
    out
}

/// Reads what [`encode`] wrote for `key`.
pub fn decode(key: CacheKey, value: &Bytes) -> Result<Entry, Foreign> {
    let len = value.len().checked_sub(CHECKSUM_LEN).ok_or(Foreign)?;
    let (payload, sum) = value.split_at_checked(len).ok_or(Foreign)?;
    // The cheap refusals first: the checksum reads it all.
    let header_len = MAGIC.len() + key.as_bytes().len();
    let header = payload.split_at_checked(header_len).ok_or(Foreign)?.0;
    if !header.starts_with(MAGIC) || !header.ends_with(key.as_bytes()) || checksum(payload) != sum {
        return Err(Foreign);
    }
    let mut input = Input(value.slice(header_len..len));
    let check = Check { len: input.u64()?, digest128: input.array()? };
    let status = u16::from_le_bytes(input.array()?);
    let (form, is_paced) = match input.array()? {
        [WHOLE] => (Form::Whole, false),
        [STREAM] => (Form::Stream, false),
        [PACED_STREAM] => (Form::Stream, true),
        [_] => return Err(Foreign),
    };
    let (stored_at_ms, ttl_ms, worth) = (input.u64()?, input.u64()?, input.u64()?);
    let fleet = FleetStamp { epoch: input.u64()?, sequence: input.u64()? };
    let rule = rule::take(&mut input)?;
    let (model, model_version): (Arc<str>, Arc<str>) = (input.text()?, input.text()?);
    let (tenant, route): (Box<str>, Arc<str>) = (input.text()?, input.text()?);
    let tags = input.list(4, Input::text)?;
    let headers = input.list(8, |input| Ok((input.field()?, input.field()?)))?;
    let frame_ends = input.list(4, Input::u32)?;
    let gaps_ms = match is_paced {
        true => Some((0..frame_ends.len()).map(|_| input.u32()).collect::<Result<_, _>>()?),
        false => None,
    };
    let (note, body) = (input.field()?, input.field()?);
    if input.0.has_remaining() {
        return Err(Foreign);
    }
    let about = match &rule {
        Rule::Http(http) => http.url,
        Rule::Ttl | Rule::Timed(_) | Rule::Variants(_) => key,
    };
    Ok(Entry {
        status,
        headers,
        body,
        frame_ends: frame_ends.into(),
        form,
        check,
        stored_at_ms,
        ttl_ms,
        subjects: with_url(
            of_variant(subjects(about, &route, &model, &tenant, &tags), about, key),
            &rule,
        ),
        rule,
        model,
        model_version,
        tenant,
        route,
        tags,
        note,
        worth,
        stamp: Stamp { fleet, ..Stamp::default() },
        checked: CheckedAt::default(),
        hits: Hits::default(),
        delivery: Delivery::of_gaps(gaps_ms),
    })
}

fn checksum(payload: &[u8]) -> [u8; CHECKSUM_LEN] {
    blake3::hash(payload).as_bytes().first_chunk().copied().unwrap_or_default()
}

fn put(out: &mut Vec<u8>, field: &[u8]) {
    put_count(out, field.len());
    out.extend_from_slice(field);
}

/// An entry beyond 4 GiB is never made (the tiers refuse it); were it, it would not decode.
fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}

struct Input(Bytes);

impl Input {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Foreign> {
        let array = self.0.first_chunk().copied().ok_or(Foreign)?;
        self.0.advance(N);
        Ok(array)
    }

    fn u32(&mut self) -> Result<u32, Foreign> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, Foreign> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn count(&mut self) -> Result<usize, Foreign> {
        usize::try_from(self.u32()?).map_err(|_| Foreign)
    }

    fn field(&mut self) -> Result<Bytes, Foreign> {
        let len = self.count()?;
        if len > self.0.len() {
            return Err(Foreign);
        }
        Ok(self.0.split_to(len))
    }

    fn text<T: for<'a> From<&'a str>>(&mut self) -> Result<T, Foreign> {
        let field = self.field()?;
        std::str::from_utf8(&field).map(T::from).map_err(|_| Foreign)
    }

    /// As many as the count says, which must fit into what is left at `len_min` bytes each: a
    /// count alone must not make us allocate.
    fn list<T>(
        &mut self,
        len_min: usize,
        one: impl Fn(&mut Self) -> Result<T, Foreign>,
    ) -> Result<Vec<T>, Foreign> {
        let count = self.count()?;
        if count.saturating_mul(len_min) > self.0.len() {
            return Err(Foreign);
        }
        (0..count).map(|_| one(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::tests::{entry, key};
    use proptest::{collection::vec, prelude::*};

    fn entries() -> impl Strategy<Value = Entry> {
        let bytes = || vec(any::<u8>(), 0..20).prop_map(Bytes::from);
        let text = || ".{0,6}".prop_map(String::into_boxed_str);
        let names = (text(), text(), text(), text(), vec(text(), 0..4));
        let numbers = (any::<u16>(), any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>());
        let check = (any::<u64>(), any::<[u8; 16]>());
        let payload = (vec((bytes(), bytes()), 0..4), vec(any::<u32>(), 0..5), bytes(), bytes());
        let rule = rule::tests::rules();
        (names, numbers, check, payload, 0..3_u8, rule).prop_map(
            |(names, numbers, check, payload, stream, rule)| {
                let (model, model_version, tenant, route, tags) = names;
                let (model, model_version): (Arc<str>, Arc<str>) =
                    (model.into(), model_version.into());
                let route: Arc<str> = route.into();
                let (status, stored_at_ms, ttl_ms, epoch, sequence) = numbers;
                let (headers, frame_ends, note, body) = payload;
                let gaps_ms = (stream > 1).then(|| frame_ends.iter().map(|end| end / 3).collect());
                let stamp = Stamp { fleet: FleetStamp { epoch, sequence }, ..Stamp::default() };
                Entry {
                    status,
                    headers,
                    body,
                    frame_ends: frame_ends.into(),
                    form: if stream > 0 { Form::Stream } else { Form::Whole },
                    check: Check { len: check.0, digest128: check.1 },
                    stored_at_ms,
                    ttl_ms,
                    subjects: with_url(subjects(key(7), &route, &model, &tenant, &tags), &rule),
                    rule,
                    model,
                    model_version,
                    tenant,
                    route,
                    tags,
                    note,
                    worth: ttl_ms ^ 7,
                    stamp,
                    checked: CheckedAt::default(),
                    hits: Hits::default(),
                    delivery: Delivery::of_gaps(gaps_ms),
                }
            },
        )
    }

    #[test]
    fn an_entry_of_another_key_or_version_is_foreign() {
        let value = encode(key(1), &entry(key(1), b"{}"));
        assert!(decode(key(1), &value.clone().into()).is_ok());
        assert_eq!(decode(key(2), &value.clone().into()), Err(Foreign));
        let mut newer = value;
        newer[3] += 1;
        let len = newer.len() - CHECKSUM_LEN;
        let sum = checksum(&newer[..len]);
        newer[len..].copy_from_slice(&sum);
        assert_eq!(decode(key(1), &newer.into()), Err(Foreign));
    }

    #[test]
    fn a_count_beyond_the_bytes_is_foreign_even_under_a_right_checksum() {
        let value = encode(key(1), &entry(key(1), b"{}"));
        for place in 0..value.len() - CHECKSUM_LEN {
            let mut twisted = value.clone();
            twisted[place] = 0xff;
            let len = twisted.len() - CHECKSUM_LEN;
            let sum = checksum(&twisted[..len]);
            twisted[len..].copy_from_slice(&sum);
            // Must not panic, nor allocate by a count that lies.
            if let Ok(entry) = decode(key(1), &twisted.into()) {
                assert!(entry.weight() < 4096);
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(entry in entries()) {
            let value = Bytes::from(encode(key(7), &entry));
            prop_assert_eq!(decode(key(7), &value), Ok(entry));
        }

        #[test]
        fn a_torn_or_twisted_value_is_a_miss_at_every_byte(entry in entries(), twist in 1..=255_u8) {
            let value = encode(key(7), &entry);
            for place in 0..value.len() {
                let torn = Bytes::copy_from_slice(&value[..place]);
                prop_assert_eq!(decode(key(7), &torn), Err(Foreign));
                let mut twisted = value.clone();
                twisted[place] ^= twist;
                prop_assert_eq!(decode(key(7), &twisted.into()), Err(Foreign));
            }
            let mut longer = value;
            longer.push(0);
            prop_assert_eq!(decode(key(7), &longer.into()), Err(Foreign));
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(decode(key(7), &bytes.into()), Err(Foreign));
        }
    }
}
