//! What the instances of a fleet say to each other through Redis, as scripts, keys and messages.
//!
//! ```text
//!   tollgate:{NS}:purges    hash   "epoch" → 16 hex, "sequence" → n, SUBJECT (16 bytes) → n
//!   tollgate:{NS}:versions  hash   MODEL (16 bytes) → "oldest\n…newest\n"
//!   tollgate:{NS}:events    hash   FEED → the place up to which a stream's entries were acted upon
//!   tollgate:{NS}:nothing   never there
//!   tollgate:{NS}:news      channel
//!   tollgate:NS:e:KEY       an entry, with its time to live
//!   tollgate:l{tollgate:NS:e:KEY}   the lease of who fills it ([`super::lease`])
//! ```
//!
//! In a cluster the braces put purges and versions on one node, and each entry on that of its own
//! slot. PUBLISH reaches the subscribers of every node (a sharded channel would need Redis 7 and
//! save nothing: everybody subscribes where it is said).
//!
//! Epoch, sequence and purges are one hash on purpose: a Redis that evicts keys evicts all of it or
//! nothing, and a missing epoch is noticed. Each change is one script, so the number a purge gets,
//! the table and the message cannot disagree. Messages may be lost; the sequence shows it.
//!
//! A full Redis refuses what takes memory, but not in a script whose first write takes none (Redis'
//! manual, of all versions; a script that says `flags=allow-oom` is no script to Redis 6). So what a
//! fleet must hear of begins with a DEL, of nothing where there is nothing to delete: it is bounded,
//! and what it takes is less than a purge may free.
//!
//! **Invariant:** neither content nor a credential is in a key, a field or a message; subjects and
//! models are digests. (But for the pieces of patterns that were purged, which an administrator wrote.)

use super::news::News as LeaseNews;
use crate::{
    generations::{FleetStamp, FleetTable, SUBJECTS_MAX, Subject},
    key::CacheKey,
    outer,
    versions::{MODELS_MAX, ModelId, News, VERSIONS_MAX},
};
use redis::Cmd;
use std::sync::Arc;

/// Gives a purge its number, notes it and tells everybody. Where nobody makes room ([`FORGET`]), it
/// becomes one of everything. → {epoch, sequence, subject, how many fields there are}
const PURGE: &str = "
redis.call('DEL', KEYS[2])
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if not epoch then
  epoch = ARGV[1]
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'epoch', epoch)
end
local sequence = redis.call('HINCRBY', KEYS[1], 'sequence', 1)
local subject = ARGV[2]
if redis.call('HLEN', KEYS[1]) > tonumber(ARGV[4]) then subject = ARGV[3] end
if subject == ARGV[3] then
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'sequence', sequence)
end
redis.call('HSET', KEYS[1], subject, sequence)
redis.call('PUBLISH', ARGV[5], 'p' .. epoch .. string.format('%016x', sequence) .. subject)
return {epoch, sequence, subject, redis.call('HLEN', KEYS[1])}";

/// Raises the floor of an epoch, and forgets those of its arguments from the fourth on that were not
/// purged after it. → 1, or 0 in another epoch
const FORGET: &str = "
redis.call('DEL', KEYS[2])
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 0 end
local floor = tonumber(ARGV[2])
if tonumber(redis.call('HGET', KEYS[1], ARGV[3]) or '0') < floor then
  redis.call('HSET', KEYS[1], ARGV[3], ARGV[2])
end
for place = 4, #ARGV do
  local number = redis.call('HGET', KEYS[1], ARGV[place])
  if number and tonumber(number) <= floor then redis.call('HDEL', KEYS[1], ARGV[place]) end
end
return 1";

/// Reads the table; begins a new epoch if there is none, or if it is the one its second
/// argument names. → HGETALL
const READ: &str = "
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if (not epoch) or epoch == ARGV[2] then
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'sequence', 0)
  redis.call('PUBLISH', ARGV[4], 'p' .. ARGV[1] .. string.format('%016x', 0) .. ARGV[3])
end
return redis.call('HGETALL', KEYS[1])";

/// Appends a version to its model's list, unless it is in it. A third argument
/// of 1 moves it to the end. → list
const OBSERVE: &str = "
local list = redis.call('HGET', KEYS[1], ARGV[1])
local kept = {}
if list then
  for version in string.gmatch(list, '([^\\n]*)\\n') do
    if version ~= ARGV[2] then
      kept[#kept + 1] = version
    elseif ARGV[3] ~= '1' then
      return list
    end
  end
elseif redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[5]) then
  redis.call('DEL', KEYS[1])
end
kept[#kept + 1] = ARGV[2]
while #kept > tonumber(ARGV[4]) do table.remove(kept, 1) end
list = table.concat(kept, '\\n') .. '\\n'
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[1], ARGV[1], list)
redis.call('PUBLISH', ARGV[6], 'v' .. ARGV[1] .. list)
return list";

/// Where instances that make room ([`SUBJECTS_MAX`]) do not come to it, more than this become a
/// purge of everything.
const SUBJECTS_MOST: usize = 2 * SUBJECTS_MAX;

/// The names in Redis of one namespace.
#[derive(Clone, Debug)]
pub(super) struct Names {
    purges: String,
    versions: String,
    events: String,
    nothing: String,
    pub(super) channel: String,
    entries: String,
}

/// Something another instance said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    Purged(FleetStamp, Subject),
    Versions(ModelId, Vec<Arc<str>>),
    /// A lease is over.
    Lease(CacheKey, LeaseNews),
}

impl Names {
    pub(super) fn new(namespace: &str) -> Self {
        Self {
            purges: format!("tollgate:{{{namespace}}}:purges"),
            versions: format!("tollgate:{{{namespace}}}:versions"),
            events: format!("tollgate:{{{namespace}}}:events"),
            nothing: format!("tollgate:{{{namespace}}}:nothing"),
            channel: format!("tollgate:{{{namespace}}}:news"),
            entries: format!("tollgate:{namespace}:e:"),
        }
    }

    /// Where the places of feeds are kept.
    pub(super) fn events(&self) -> &str {
        &self.events
    }

    /// In the slot of all that is the fleet's; for a script to begin with its DEL.
    pub(super) fn nothing(&self) -> &str {
        &self.nothing
    }

    /// The key that decides which node of a cluster is home.
    pub(super) fn home_key(&self) -> &[u8] {
        self.purges.as_bytes()
    }

    pub(super) fn entry(&self, key: CacheKey) -> String {
        format!("{}{}", self.entries, key.to_hex())
    }

    /// The lease of a key: in the slot of its entry.
    pub(super) fn lease(&self, key: CacheKey) -> String {
        format!("tollgate:l{{{}}}", self.entry(key))
    }

    pub(super) fn purge(&self, subject: Subject) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command
            .arg(PURGE)
            .arg(2)
            .arg(&self.purges)
            .arg(&self.nothing)
            .arg(new_epoch())
            .arg(subject.as_bytes())
            .arg(Subject::ALL.as_bytes())
            .arg(SUBJECTS_MOST)
            .arg(&self.channel);
        command
    }

    /// Of the epoch, those of `subjects` that were not purged after `floor`. What began before it is
    /// void.
    pub(super) fn forget(&self, epoch: u64, floor: u64, subjects: &[Subject]) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command
            .arg(FORGET)
            .arg(2)
            .arg(&self.purges)
            .arg(&self.nothing)
            .arg(epoch_text(epoch))
            .arg(floor)
            .arg(Subject::ALL.as_bytes());
        for subject in subjects {
            command.arg(subject.as_bytes());
        }
        command
    }

    /// `lost` names an epoch that is to end.
    pub(super) fn read(&self, lost: Option<u64>) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command
            .arg(READ)
            .arg(1)
            .arg(&self.purges)
            .arg(new_epoch())
            .arg(lost.map(epoch_text).unwrap_or_default())
            .arg(Subject::ALL.as_bytes())
            .arg(&self.channel);
        command
    }

    /// Only the place, as a probe. → [epoch, sequence]
    pub(super) fn place(&self) -> Cmd {
        let mut command = redis::cmd("HMGET");
        command.arg(&self.purges).arg("epoch").arg("sequence");
        command
    }

    pub(super) fn observe(&self, news: &News) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command
            .arg(OBSERVE)
            .arg(2)
            .arg(&self.versions)
            .arg(&self.nothing)
            .arg(&news.model.0)
            .arg(&*news.version)
            .arg(i32::from(news.again))
            .arg(VERSIONS_MAX)
            .arg(MODELS_MAX)
            .arg(&self.channel);
        command
    }

    pub(super) fn read_versions(&self) -> Cmd {
        let mut command = redis::cmd("HGETALL");
        command.arg(&self.versions);
        command
    }
}

/// Reads [`Names::place`]'s answer; `None` where there is no epoch.
pub(super) fn read_place(epoch: Option<&[u8]>, sequence: Option<&[u8]>) -> Option<FleetStamp> {
    let sequence = std::str::from_utf8(sequence?).ok()?.parse().ok()?;
    Some(FleetStamp { epoch: epoch_of(epoch?)?, sequence })
}

/// Reads [`Names::read`]'s answer; `None` if it is not one of ours.
pub(super) fn read_table(fields: &[(Vec<u8>, Vec<u8>)]) -> Option<FleetTable> {
    let find =
        |name: &[u8]| fields.iter().find(|(field, _)| field == name).map(|(_, value)| &**value);
    let at = read_place(find(b"epoch"), find(b"sequence"))?;
    let purges = fields.iter().filter_map(|(field, value)| {
        let subject = Subject::from_bytes(field.as_slice().try_into().ok()?);
        Some((subject, std::str::from_utf8(value).ok()?.parse().ok()?))
    });
    Some(FleetTable { at, purges: purges.collect() })
}

pub(super) fn read_versions(fields: &[(Vec<u8>, Vec<u8>)]) -> Vec<(ModelId, Vec<Arc<str>>)> {
    let models = fields.iter().filter_map(|(field, list)| {
        Some((ModelId(field.as_slice().try_into().ok()?), read_list(list)?))
    });
    models.take(MODELS_MAX).collect()
}

pub(super) fn read_list(list: &[u8]) -> Option<Vec<Arc<str>>> {
    let list = std::str::from_utf8(list).ok()?;
    let versions = list.split_terminator('\n');
    Some(versions.take(VERSIONS_MAX).map(Arc::from).collect())
}

/// Reads a message of the channel; `None` for what is not ours (a later version's, say).
pub(super) fn read_message(payload: &[u8]) -> Option<Message> {
    let (kind, rest) = payload.split_first()?;
    match kind {
        b'p' => {
            let (epoch, rest) = rest.split_at_checked(16)?;
            let (sequence, subject) = rest.split_at_checked(16)?;
            let at = FleetStamp { epoch: epoch_of(epoch)?, sequence: hex(sequence)? };
            Some(Message::Purged(at, Subject::from_bytes(subject.try_into().ok()?)))
        }
        b'v' => {
            let (model, list) = rest.split_at_checked(16)?;
            Some(Message::Versions(ModelId(model.try_into().ok()?), read_list(list)?))
        }
        b'l' => {
            let (key, news) = LeaseNews::read(rest)?;
            Some(Message::Lease(key, news))
        }
        _ => None,
    }
}

pub(super) fn epoch_of(text: &[u8]) -> Option<u64> {
    hex(text).filter(|epoch| *epoch != 0)
}

fn hex(text: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()
}

fn epoch_text(epoch: u64) -> String {
    format!("{epoch:016x}")
}

/// A name nobody has used: 64 bits of the hasher's random keys, which are the system's.
fn new_epoch() -> String {
    epoch_text(outer::new_epoch())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generations::Target;
    use proptest::prelude::*;

    #[test]
    fn messages_are_read_as_the_scripts_write_them() {
        let subject = Subject::of(Target::Tag("a"));
        let mut payload = b"p00000000000000ff000000000000000a".to_vec();
        payload.extend_from_slice(subject.as_bytes());
        let at = FleetStamp { epoch: 255, sequence: 10 };
        assert_eq!(read_message(&payload), Some(Message::Purged(at, subject)));
        let versions = vec!["1".into(), "".into(), "2".into()];
        let expected = Some(Message::Versions(ModelId([b'm'; 16]), versions));
        assert_eq!(read_message(b"vmmmmmmmmmmmmmmmm1\n\n2\n"), expected);
    }

    #[test]
    fn an_epoch_is_never_nothing() {
        assert_eq!(epoch_of(b"0000000000000000"), None);
        assert_ne!(new_epoch(), new_epoch());
        assert!(epoch_of(new_epoch().as_bytes()).is_some());
    }

    proptest! {
        #[test]
        fn foreign_messages_never_panic(payload in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = read_message(&payload);
            let _ = read_message(&[b"p", payload.as_slice()].concat());
            let _ = read_table(&[(payload.clone(), payload)]);
        }
    }
}
