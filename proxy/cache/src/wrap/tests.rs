//! What is written is read, whoever wrote it; what nobody wrote is a miss.

use super::*;
use proptest::{collection::vec, prelude::*};

const MIB: usize = 1 << 20;

fn wrapping(compress: bool) -> Wrapping {
    Wrapping { compress, bytes_max: MIB }
}

fn wrap(plain: &[u8]) -> Vec<u8> {
    Wrapper::new(wrapping(true)).wrap(plain.to_vec())
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
    assert_eq!(wrapping(false).unwrap(wrapped.into()).unwrap(), plain);
    assert_eq!(Wrapper::new(wrapping(false)).wrap(plain.clone()), plain);
    assert_eq!(wrapping(true).unwrap(plain.clone().into()).unwrap(), plain);
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
    assert_eq!(wrapping(true).unwrap(bomb.clone().into()), Err(Unreadable::Oversized));
    // And one that lies about its length stops there.
    for said in [0_u32, 1, 1024] {
        let mut liar = bomb.clone();
        liar[5..9].copy_from_slice(&said.to_le_bytes());
        assert_eq!(wrapping(true).unwrap(liar.into()), Err(Unreadable::Oversized), "{said}");
    }
    let room = Wrapping { compress: true, bytes_max: MIB + 1 };
    assert_eq!(room.unwrap(bomb.into()).unwrap(), plain);
}

#[test]
fn a_length_that_is_too_long_or_a_torn_frame_is_foreign() {
    let whole = wrap(&vec![7; 5000]);
    let mut long = whole.clone();
    long[5..9].copy_from_slice(&6000_u32.to_le_bytes());
    assert_eq!(wrapping(true).unwrap(long.into()), Err(Unreadable::Foreign));
    for len in MAGIC.len()..whole.len() {
        let torn = Bytes::copy_from_slice(&whole[..len]);
        assert_eq!(wrapping(true).unwrap(torn), Err(Unreadable::Foreign), "{len}");
    }
    let mut newer = whole;
    newer[4] = 0x80;
    assert_eq!(wrapping(true).unwrap(newer.into()), Err(Unreadable::Foreign));
}

proptest! {
    #[test]
    fn whatever_is_wrapped_is_unwrapped(
        plain in vec(any::<u8>(), 0..200), times in 1..50_usize, compress in any::<bool>(),
    ) {
        let plain = [b"TGE".as_slice(), &plain.repeat(times)].concat();
        let wrapped = Wrapper::new(wrapping(compress)).wrap(plain.clone());
        prop_assert_eq!(wrapping(true).unwrap(wrapped.into()).unwrap(), plain);
    }

    #[test]
    fn foreign_bytes_never_panic_nor_unpack_beyond_the_bound(
        tail in vec(any::<u8>(), 0..300), twist in 1..=255_u8, place in any::<prop::sample::Index>(),
    ) {
        let foreign = [MAGIC.as_slice(), &[COMPRESSED], &tail].concat();
        prop_assert!(wrapping(true).unwrap(foreign.into()).is_err());
        let mut value = wrap(&tail.repeat(40));
        let place = place.index(value.len().max(1));
        if let Some(byte) = value.get_mut(place) {
            *byte ^= twist;
        }
        if let Ok(plain) = wrapping(true).unwrap(value.into()) {
            prop_assert!(plain.len() <= MIB);
        }
    }
}
