//! What Redis says of streams, and bytes that it would never say.

use super::*;
use proptest::prelude::*;

fn text(text: &str) -> Value {
    Value::BulkString(text.as_bytes().to_vec())
}

fn place(ms: u64, sequence: u64) -> Place {
    Place { ms, sequence }
}

#[test]
fn entries_are_read_as_redis_tells_them() {
    let one = |at: &str, fields: &[&str]| {
        let fields = fields.iter().map(|field| text(field)).collect();
        Value::Array(vec![text(at), Value::Array(fields)])
    };
    let told = Value::Array(vec![one("5-0", &["id", "7", "op", "put"]), one("5-1", &[])]);
    let answer = Value::Array(vec![Value::Array(vec![text("kb"), told])]);
    let pair = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
    let expected =
        vec![(place(5, 0), vec![pair("id", "7"), pair("op", "put")]), (place(5, 1), Vec::new())];
    assert_eq!(entries(answer), Some(expected));
    assert_eq!(entries(Value::Nil), Some(Vec::new()), "nothing came");
    assert_eq!(entries(Value::Int(7)), None);
    let odd = one("5-0", &["id"]);
    assert_eq!(entry(odd), None, "a name without a value");
}

#[test]
fn a_stream_is_what_redis_says_it_is_and_whole_only_if_it_says_so() {
    let told = |more: &[(&str, i64)]| {
        let last = [Value::SimpleString("last-generated-id".into()), text("1700000000000-3")];
        let more = more.iter().flat_map(|(name, n)| [text(name), Value::Int(*n)]);
        read_told(&Value::Array(more.chain(last).collect()))
    };
    let is = |is_whole| Some(Told { last: place(1_700_000_000_000, 3), is_whole });
    assert_eq!(told(&[("length", 2), ("entries-added", 2)]), is(true));
    assert_eq!(told(&[("length", 1), ("entries-added", 2)]), is(false), "one is gone");
    assert_eq!(told(&[("length", 2)]), is(false), "before redis 7");
    assert_eq!(read_told(&Value::Array(vec![text("last-generated-id")])), None);
}

#[test]
fn places_are_in_their_order() {
    assert!(START < place(0, 1) && place(0, 9) < place(0, 10) && place(0, 10) < place(1, 0));
}

proptest! {
    #[test]
    fn a_place_is_read_as_it_is_written(ms in any::<u64>(), sequence in any::<u64>()) {
        let at = place(ms, sequence);
        prop_assert_eq!(Place::read(at.to_string().as_bytes()), Some(at));
    }

    #[test]
    fn foreign_places_never_panic(text in any::<Vec<u8>>()) {
        let _ = Place::read(&text);
    }
}
