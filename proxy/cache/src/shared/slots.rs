//! Which node of a cluster holds which key.
//!
//! Written here and not left to the crate's cluster connection: that holds one lock over all nodes
//! while it asks a dead one who is left, waits between attempts, and queues without bound. Here a
//! node that is away is one breaker, and the others do not notice (decision 10).

use super::{
    finder::FindError,
    site::{Address, address_of},
    survey::{Survey, Testimony},
};
use redis::{FromRedisValue, Pipeline, Value};
use std::{collections::HashMap, sync::Arc};

/// So many slots every cluster has.
pub(super) const SLOTS: usize = 16384;

/// The owner of a slot that nobody serves.
const NOBODY: u16 = u16::MAX;

/// Who serves which slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SlotMap {
    /// Masters.
    pub(super) nodes: Vec<Address>,
    /// An index of `nodes` for each slot.
    owners: Arc<[u16]>,
}

impl SlotMap {
    /// The index of the node that serves `key`.
    pub(super) fn owner(&self, key: &[u8]) -> Option<usize> {
        let owner = self.owners.get(slot(key)).copied().filter(|owner| *owner != NOBODY);
        owner.map(usize::from)
    }
}

/// The slot of a key: a sum of the part between braces, if there is one, else of all.
pub(super) fn slot(key: &[u8]) -> usize {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = key.get(open + 1..)?;
        let close = rest.iter().position(|byte| *byte == b'}')?;
        rest.get(..close).filter(|tag| !tag.is_empty())
    });
    usize::from(crc16(tag.unwrap_or(key))) % SLOTS
}

/// CRC-16/XMODEM, as the cluster specification names it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum, byte| {
        (0..8).fold(sum ^ (u16::from(*byte) << 8), |sum, _| {
            if sum & 0x8000 == 0 { sum << 1 } else { (sum << 1) ^ 0x1021 }
        })
    })
}

/// The map as the node with the newest view has it.
pub(super) async fn map(survey: &mut Survey) -> Result<SlotMap, FindError> {
    let (said, why) = survey.ask(&question()).await;
    let heard = !said.is_empty();
    let believed = said.iter().filter_map(view).max_by_key(|(rank, _)| *rank);
    match (believed, why) {
        (Some((_, map)), _) => Ok(map),
        (None, Some(error)) if !heard => Err(FindError::Redis(error)),
        (None, _) => Err(FindError::NoMap),
    }
}

fn question() -> Pipeline {
    let mut question = redis::pipe();
    question.cmd("CLUSTER").arg("INFO").cmd("CLUSTER").arg("SLOTS").ignore_errors();
    question
}

/// What a node sees, and how much that is worth: first whether it sees the cluster working, then
/// how new its view is.
fn view(said: &Testimony) -> Option<((bool, u64), SlotMap)> {
    let [info, slots] = said.answers.as_slice() else { return None };
    let info = String::from_redis_value_ref(info).ok()?;
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let is_ok = field("cluster_state:") == Some("ok");
    let epoch = field("cluster_current_epoch:").and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
    let asked = address_of(&said.server)?;
    Some(((is_ok, epoch), read(slots, &asked)?))
}

/// Reads the answer of `CLUSTER SLOTS`; `None` for what is none, or serves nothing. A node that
/// does not say where it is itself is where it was asked.
fn read(slots: &Value, asked: &Address) -> Option<SlotMap> {
    let Value::Array(ranges) = slots else { return None };
    let mut owners = vec![NOBODY; SLOTS];
    let (mut nodes, mut places) = (Vec::<Address>::new(), HashMap::<Address, u16>::new());
    for range in ranges {
        let Value::Array(parts) = range else { return None };
        let [first, last, Value::Array(master), ..] = parts.as_slice() else { return None };
        let [host, port, ..] = master.as_slice() else { return None };
        let host = Option::<String>::from_redis_value_ref(host).ok()?;
        let host = host.filter(|host| !host.is_empty() && host != "?");
        let host = host.unwrap_or_else(|| asked.0.clone());
        let address = (host, u16::try_from(number(port)?).ok()?);
        let place = match places.get(&address) {
            Some(place) => *place,
            None => {
                let place = u16::try_from(nodes.len()).ok().filter(|place| *place != NOBODY)?;
                nodes.push(address.clone());
                places.insert(address, place);
                place
            }
        };
        let first = usize::try_from(number(first)?).ok()?;
        let last = usize::try_from(number(last)?).ok()?;
        owners.get_mut(first..=last.max(first))?.fill(place);
    }
    (!nodes.is_empty()).then(|| SlotMap { nodes, owners: owners.into() })
}

/// The crate's own conversions to smaller numbers cut bits off.
fn number(value: &Value) -> Option<i64> {
    i64::from_redis_value_ref(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(first: i64, last: i64, host: Value, port: i64) -> Value {
        let node = Value::Array(vec![host, Value::Int(port), Value::BulkString(b"id".to_vec())]);
        Value::Array(vec![Value::Int(first), Value::Int(last), node])
    }

    fn host(name: &str) -> Value {
        Value::BulkString(name.into())
    }

    /// The numbers are of the cluster specification and of `CLUSTER KEYSLOT`.
    #[test]
    fn a_keys_slot_is_what_redis_says() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot(b"foo"), 12182);
        assert_eq!(slot(b"somekey"), 11058);
        assert_eq!(slot(b"foo{hash_tag}"), 2515);
        assert_eq!(slot(b"{user1000}.following"), slot(b"{user1000}.followers"));
        assert_eq!(slot(b"foo{}{bar}"), usize::from(crc16(b"foo{}{bar}")) % SLOTS);
        assert_eq!(slot(b"foo{bar}{zap}"), slot(b"bar"));
        assert_eq!(slot(b"foo{{bar}}zap"), slot(b"{bar"));
    }

    #[test]
    fn each_key_has_the_node_of_its_range_and_some_have_none() {
        let asked = ("asked".to_owned(), 1);
        let slots = Value::Array(vec![
            range(0, 99, host("a"), 7000),
            range(12000, 12181, host(""), 7001),
            range(12182, 12182, Value::Nil, 7001),
            range(100, 200, host("a"), 7000),
        ]);
        let map = read(&slots, &asked).unwrap();
        assert_eq!(map.nodes, [("a".to_owned(), 7000), ("asked".to_owned(), 7001)]);
        assert_eq!(map.owner(b"foo"), Some(1));
        assert_eq!(map.owner(b"somekey"), None);
        assert_eq!(map.owners.iter().filter(|owner| **owner == 0).count(), 201);
    }

    #[test]
    fn what_is_no_map_is_none() {
        let asked = ("asked".to_owned(), 1);
        for wrong in [
            Value::Nil,
            Value::Array(Vec::new()),
            Value::Array(vec![range(0, 16384, host("a"), 1)]),
            Value::Array(vec![range(-1, 5, host("a"), 1)]),
            Value::Array(vec![range(0, 5, host("a"), 70_000)]),
            Value::Array(vec![Value::Array(vec![Value::Int(1)])]),
        ] {
            assert_eq!(read(&wrong, &asked), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn every_key_has_a_slot(key in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(slot(&key) < SLOTS);
        }
    }
}
