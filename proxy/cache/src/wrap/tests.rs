//! What is written is read, whoever wrote it; what nobody wrote is a miss.

use super::{
    pack::{COMPRESS_BYTES_MIN, DICTIONARY_FOR_BYTES_MAX},
    *,
};
use crate::entry::tests::key;
use proptest::{collection::vec, prelude::*};

const MIB: usize = 1 << 20;

fn wrapping(compress: bool) -> Wrapping {
    Wrapping { compress, seals: None, bytes_max: MIB }
}

fn wrap(plain: &[u8]) -> Vec<u8> {
    Wrapper::new(wrapping(true)).wrap(key(1), plain.to_vec()).unwrap()
}

/// Bytes that no compression can make fewer.
fn noise(len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().finalize_xof().fill(&mut out);
    out
}

#[test]
fn a_value_is_compressed_where_it_pays_and_read_by_those_who_do_not_compress() {
    let plain = b"an answer, and again ".repeat(500);
    let wrapped = wrap(&plain);
    assert!(wrapped.len() < plain.len() / 10, "{}", wrapped.len());
    assert_eq!(wrapping(false).unwrap(key(1), wrapped.into()).unwrap(), plain);
    assert_eq!(Wrapper::new(wrapping(false)).wrap(key(1), plain.clone()).unwrap(), plain);
    assert_eq!(wrapping(true).unwrap(key(1), plain.clone().into()).unwrap(), plain);
}

#[test]
fn what_gains_nothing_goes_as_it_is() {
    assert_eq!(wrap(&[b'a'; COMPRESS_BYTES_MIN - 1]), [b'a'; COMPRESS_BYTES_MIN - 1]);
    assert_ne!(wrap(&[b'a'; COMPRESS_BYTES_MIN]), [b'a'; COMPRESS_BYTES_MIN]);
    // Nine parts of noise, one of nothing: less than a tenth is gained.
    let plain = [noise(90_000), vec![0; 9_000]].concat();
    assert_eq!(wrap(&plain), plain);
    let plain = [noise(90_000), vec![0; 12_000]].concat();
    assert!(wrap(&plain).len() < plain.len());
}

#[test]
fn a_bomb_is_refused_before_it_is_unpacked() {
    let plain = vec![0; MIB + 1];
    let bomb = wrap(&plain);
    assert!(bomb.len() < 200);
    assert_eq!(wrapping(true).unwrap(key(1), bomb.clone().into()), Err(Unreadable::Oversized));
    // And one that lies about its length stops there.
    for said in [0_u32, 1, 1024] {
        let mut liar = bomb.clone();
        liar[5..9].copy_from_slice(&said.to_le_bytes());
        assert_eq!(
            wrapping(true).unwrap(key(1), liar.into()),
            Err(Unreadable::Oversized),
            "{said}"
        );
    }
    let room = Wrapping { compress: true, seals: None, bytes_max: MIB + 1 };
    assert_eq!(room.unwrap(key(1), bomb.into()).unwrap(), plain);
}

#[test]
fn a_length_that_is_too_long_or_a_torn_frame_is_foreign() {
    let whole = wrap(&vec![7; 5000]);
    let mut long = whole.clone();
    long[5..9].copy_from_slice(&6000_u32.to_le_bytes());
    assert_eq!(wrapping(true).unwrap(key(1), long.into()), Err(Unreadable::Foreign));
    for len in MAGIC.len()..whole.len() {
        let torn = Bytes::copy_from_slice(&whole[..len]);
        assert_eq!(wrapping(true).unwrap(key(1), torn), Err(Unreadable::Foreign), "{len}");
    }
    let mut newer = whole;
    newer[4] = 0x80;
    assert_eq!(wrapping(true).unwrap(key(1), newer.into()), Err(Unreadable::Foreign));
}

fn seals(current: u8, previous: &[u8]) -> Wrapping {
    let seals = Seals {
        current: SealKey::new([current; 32]),
        previous: previous.iter().map(|n| SealKey::new([*n; 32])).collect(),
    };
    Wrapping { seals: Some(seals), ..wrapping(true) }
}

fn seal(with: u8, plain: &[u8]) -> Bytes {
    Wrapper::new(seals(with, &[])).wrap(key(1), plain.to_vec()).unwrap().into()
}

#[test]
fn a_sealed_value_opens_under_its_keys_at_its_place_and_nowhere_else() {
    for plain in [b"an answer".as_slice(), &b"again ".repeat(500), b""] {
        let sealed = seal(1, plain);
        assert!(!sealed.windows(5).any(|bytes| bytes == b"again" || bytes == b"answe"));
        let open = |with: Wrapping, n| with.unwrap(key(n), sealed.clone());
        assert_eq!(open(seals(1, &[]), 1).unwrap(), plain);
        assert_eq!(open(seals(2, &[3, 1]), 1).unwrap(), plain, "a previous key reads");
        assert_eq!(open(seals(2, &[3]), 1), Err(Unreadable::Locked), "an unknown one does not");
        assert_eq!(open(seals(1, &[]), 2), Err(Unreadable::Locked), "it was moved");
        assert_eq!(open(wrapping(true), 1), Err(Unreadable::Locked), "there is no key");
    }
}

#[test]
fn with_seals_nothing_is_believed_that_lies_in_the_clear() {
    for plain in [b"TGE short".as_slice(), &b"again ".repeat(500)] {
        let value = wrap(plain);
        assert_eq!(seals(1, &[]).unwrap(key(1), value.into()), Err(Unreadable::Locked));
    }
}

#[test]
fn equal_values_are_sealed_differently() {
    assert_ne!(seal(1, b"answer"), seal(1, b"answer"));
}

#[test]
fn a_bomb_under_a_seal_is_one_too() {
    let bomb = seal(1, &vec![0; MIB + 1]);
    assert_eq!(seals(1, &[]).unwrap(key(1), bomb), Err(Unreadable::Oversized));
}

#[test]
fn no_way_of_printing_shows_a_key() {
    let shown = format!("{:?} {:?}", seals(7, &[8]), Wrapper::new(seals(7, &[8])));
    assert!(!shown.contains("[7, 7") && !shown.contains("0707"), "{shown}");
}

proptest! {
    #[test]
    fn whatever_is_wrapped_is_unwrapped(
        plain in vec(any::<u8>(), 0..200), times in 1..50_usize, compress in any::<bool>(),
    ) {
        let plain = [b"TGE".as_slice(), &plain.repeat(times)].concat();
        let wrapped = Wrapper::new(wrapping(compress)).wrap(key(1), plain.clone()).unwrap();
        prop_assert_eq!(wrapping(true).unwrap(key(1), wrapped.into()).unwrap(), plain);
    }

    #[test]
    fn foreign_bytes_never_panic_nor_unpack_beyond_the_bound(
        tail in vec(any::<u8>(), 0..300), twist in 1..=255_u8, place in any::<prop::sample::Index>(),
    ) {
        for packing in [Packing::Zstd, Packing::WithDictionary] {
            let foreign = [MAGIC.as_slice(), &[packing.flags()], &tail].concat();
            prop_assert!(wrapping(true).unwrap(key(1), foreign.into()).is_err());
        }
        let mut value = wrap(&tail.repeat(40));
        let place = place.index(value.len().max(1));
        if let Some(byte) = value.get_mut(place) {
            *byte ^= twist;
        }
        if let Ok(plain) = wrapping(true).unwrap(key(1), value.into()) {
            prop_assert!(plain.len() <= MIB);
        }
    }

    #[test]
    fn a_sealed_value_twisted_or_torn_anywhere_does_not_open(
        plain in vec(any::<u8>(), 0..100), times in prop::sample::select(vec![1_usize, 40]),
        twist in 1..=255_u8,
    ) {
        let sealed = seal(1, &plain.repeat(times));
        prop_assert_eq!(seals(1, &[]).unwrap(key(1), sealed.clone()).unwrap(), plain.repeat(times));
        for place in 0..sealed.len() {
            let mut twisted = sealed.to_vec();
            twisted[place] ^= twist;
            prop_assert!(seals(1, &[]).unwrap(key(1), twisted.into()).is_err());
            prop_assert!(seals(1, &[]).unwrap(key(1), sealed.slice(..place)).is_err());
        }
    }
}

/// What a provider answers, with a text that no dictionary has.
fn answer(text: &str) -> Vec<u8> {
    format!(
        r#"{{"id":"chatcmpl-9","object":"chat.completion","created":1790000000,"model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}","refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}},"system_fingerprint":"fp_1"}}"#
    )
    .into_bytes()
}

#[test]
fn a_small_answer_is_packed_with_the_dictionary_and_half_of_what_it_is_without() {
    let plain = answer("Zwolf Boxkampfer jagen Viktor quer uber den Sylter Deich.");
    let wrapped = wrap(&plain);
    assert_eq!(wrapped[4], Packing::WithDictionary.flags());
    let without = zstd::bulk::compress(&plain, 1).unwrap();
    assert!(wrapped.len() < without.len() * 6 / 10, "{} {}", wrapped.len(), without.len());
    assert_eq!(wrapping(false).unwrap(key(1), wrapped.into()).unwrap(), plain);
    let sealed = seal(1, &plain);
    assert!(sealed.len() < plain.len() * 6 / 10);
    assert_eq!(seals(1, &[]).unwrap(key(1), sealed).unwrap(), plain);
    // Values of before are read as ever.
    let len = u32::try_from(plain.len()).unwrap().to_le_bytes();
    let before = [&MAGIC[..], &[Packing::Zstd.flags()], &len, &without].concat();
    assert_eq!(wrapping(true).unwrap(key(1), before.into()).unwrap(), plain);
}

#[test]
fn one_wrapper_packs_long_ones_without_the_dictionary_and_small_ones_with_it_in_any_order() {
    let mut wrapper = Wrapper::new(wrapping(true));
    let small = answer("Zwolf Boxkampfer.");
    let longest = [small.as_slice(), &[b' '; 4096]].concat();
    let longest = &longest[..DICTIONARY_FOR_BYTES_MAX];
    let long = answer(&"again and again ".repeat(4000));
    for (plain, packing) in [
        (small.as_slice(), Packing::WithDictionary),
        (&long, Packing::Zstd),
        (longest, Packing::WithDictionary),
        (&long[..=DICTIONARY_FOR_BYTES_MAX], Packing::Zstd),
        (&small, Packing::WithDictionary),
    ] {
        let wrapped = wrapper.wrap(key(1), plain.to_vec()).unwrap();
        assert_eq!(wrapped[4], packing.flags(), "{}", plain.len());
        assert_eq!(wrapped, wrap(plain), "as one that packs nothing else");
        assert_eq!(wrapping(false).unwrap(key(1), wrapped.into()).unwrap(), plain);
    }
}

#[test]
fn a_value_of_another_dictionary_is_a_miss() {
    let samples: Vec<Vec<u8>> = (0..300).map(|n| answer(&format!("of another {n}"))).collect();
    let other = zstd::dict::from_samples(&samples, 2048).unwrap();
    let plain = answer("unknown");
    let mut packer = zstd::bulk::Compressor::with_dictionary(1, &other).unwrap();
    let frame = packer.compress(&plain).unwrap();
    let len = u32::try_from(plain.len()).unwrap().to_le_bytes();
    let value = [&MAGIC[..], &[Packing::WithDictionary.flags()], &len, &frame].concat();
    assert_eq!(wrapping(true).unwrap(key(1), value.into()), Err(Unreadable::Foreign));
}

#[test]
fn a_small_bomb_is_refused_before_it_is_unpacked() {
    let mut bomb = wrap(&[0; 4000]);
    assert_eq!(bomb[4], Packing::WithDictionary.flags());
    bomb[5..9].copy_from_slice(&100_u32.to_le_bytes());
    assert_eq!(wrapping(true).unwrap(key(1), bomb.into()), Err(Unreadable::Oversized));
}
