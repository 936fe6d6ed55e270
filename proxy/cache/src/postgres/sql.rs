//! What is said to PostgreSQL, and its tables.
//!
//! ```text
//!   tollgate_entries   key → value, expires_at                      UNLOGGED
//!   tollgate_fleet     namespace → epoch, sequence
//!   tollgate_purges    (namespace, subject) → sequence
//!   tollgate_versions  (namespace, model) → seen (oldest first), seen_at
//!   channel tollgate_DIGEST     'p' EPOCH SEQUENCE SUBJECT, or 'v' MODEL, in hexadecimal
//! ```
//!
//! Entries are not logged: a crash of the server empties the table, which is misses and no more, and
//! a write costs half of what it costs with the log. Purges are: one that was numbered must not be
//! forgotten. Each change of the table of purges is one statement that first locks the namespace's
//! row, so the number a purge gets, the table and the message cannot disagree, and numbers become
//! visible in their order.
//!
//! **Invariant:** neither content nor a credential is in a key or a message; subjects and models are
//! digests (but for the pieces of patterns that were purged, which an administrator wrote), and what
//! a value holds is [`crate::wrap`]'s to say.

use crate::{
    generations::{FleetStamp, SUBJECTS_MAX, Subject},
    versions::{MODELS_MAX, ModelId, VERSIONS_MAX},
};

/// A row is some 150 bytes more than its value: its head, the key twice, two indexes.
const ROW_OVERHEAD: usize = 150;

/// Purges that are read at most. Longer, the table is not ours: of more than [`SUBJECTS_MAX`] the
/// oldest are forgotten.
pub(super) const TABLE_ROWS_MAX: usize = 2 * SUBJECTS_MAX;

/// Of the sweepers' lock, beside the table's own number: "toll".
const SWEEP: i32 = 0x746f_6c6c;

/// All statements, for the tables of one schema.
#[derive(Debug)]
pub(super) struct Sql {
    /// Whether all tables are there. A user who may not create any needs them made beforehand.
    pub(super) are_there: String,
    /// Makes them.
    pub(super) create: String,
    /// namespace, key, the largest value → epoch, sequence, whether it is there, value.
    /// No row: there is no epoch.
    pub(super) read: String,
    /// The same, for who does not ask here what was purged.
    pub(super) read_alone: String,
    /// keys, values, milliseconds. No key twice, and in one order: or two of these would wait for
    /// each other.
    pub(super) write: String,
    /// namespace, a number, rows → epoch, sequence, subject, its sequence: of purges after that
    /// number. One row without a subject if there are none; none if there is no epoch.
    pub(super) table: String,
    /// namespace, epoch, the one that is to end (or null), channel, everything. Begins an epoch
    /// where there is none or the one that is to end.
    pub(super) begin_epoch: String,
    /// namespace, subjects, channel, everything → epoch, sequence, subject. Numbers purges. No
    /// subject twice; everything alone. No row: there is no epoch.
    pub(super) purge: String,
    /// namespace, everything, how many. Forgets the oldest purges, and has everything before the
    /// newest of them void.
    pub(super) forget: String,
    /// namespace → how many subjects are noted.
    pub(super) subjects: String,
    /// namespace, model, version, whether it is the newest again, channel.
    pub(super) observe: String,
    /// namespace, model or null → model, its versions.
    pub(super) versions: String,
    /// namespace. Leaves [`MODELS_MAX`].
    pub(super) forget_models: String,
    /// The sweepers' lock → whether it is ours now.
    pub(super) try_sweep: String,
    /// Rows. Deletes what is past its time, at most so many.
    pub(super) delete_expired: String,
    /// A number → whether the table, with what is dead in it, takes more bytes on the disk. Costs
    /// nothing.
    pub(super) is_over: String,
    /// → bytes of all entries. Reads all rows, though not what is long in them.
    pub(super) size: String,
    /// Rows → bytes that were freed: of those that would go first anyway.
    pub(super) delete_soonest: String,
}

impl Sql {
    /// `schema`: of the tables; none: the first of the user's search path.
    pub(super) fn new(schema: Option<&str>) -> Self {
        let quoted = schema.map(|schema| format!("\"{}\"", schema.replace('"', "\"\"")));
        let prefix = quoted.as_ref().map_or(String::new(), |quoted| format!("{quoted}."));
        let [entries, fleet, purges, versions] = ["entries", "fleet", "purges", "versions"]
            .map(|table| format!("{prefix}tollgate_{table}"));
        let number = |table: &str| format!("to_regclass('{}')", table.replace('\'', "''"));
        let there = [&entries, &fleet, &purges, &versions]
            .map(|table| format!("{} IS NOT NULL", number(table)));
        let value = "CASE WHEN octet_length(e.value) <= $3::int THEN e.value END";
        let soonest = |what: &str| {
            format!(
                "DELETE FROM {entries} WHERE ctid = ANY (ARRAY (SELECT ctid FROM {entries} {what}
                 ORDER BY expires_at LIMIT $1::bigint FOR UPDATE SKIP LOCKED))"
            )
        };
        Self {
            are_there: format!("SELECT {}", there.join(" AND ")),
            create: create(quoted.as_deref(), &prefix),
            read: format!(
                "SELECT f.epoch, f.sequence, e.key IS NOT NULL, {value}
                 FROM {fleet} f LEFT JOIN {entries} e ON e.key = $2::bytea AND e.expires_at > now()
                 WHERE f.namespace = $1::text"
            ),
            read_alone: format!(
                "SELECT NULL::bigint, NULL::bigint, e.key IS NOT NULL, {value}
                 FROM (SELECT $1::text) n LEFT JOIN {entries} e
                 ON e.key = $2::bytea AND e.expires_at > now()"
            ),
            write: format!(
                "INSERT INTO {entries} (key, value, expires_at)
                 SELECT n.key, n.value, now() + n.ttl_ms * interval '1 millisecond'
                 FROM unnest($1::bytea[], $2::bytea[], $3::bigint[]) AS n(key, value, ttl_ms)
                 ON CONFLICT (key) DO UPDATE
                 SET value = EXCLUDED.value, expires_at = EXCLUDED.expires_at"
            ),
            table: format!(
                "SELECT f.epoch, f.sequence, p.subject, p.sequence
                 FROM {fleet} f LEFT JOIN {purges} p
                 ON p.namespace = f.namespace AND p.sequence > $2::bigint
                 WHERE f.namespace = $1::text LIMIT $3::bigint"
            ),
            begin_epoch: begin_epoch(&fleet, &purges),
            purge: purge(&fleet, &purges),
            forget: forget(&fleet, &purges),
            subjects: format!("SELECT count(*) FROM {purges} WHERE namespace = $1::text"),
            observe: observe(&versions),
            versions: format!(
                "SELECT model, seen FROM {versions} WHERE namespace = $1::text
                 AND ($2::bytea IS NULL OR model = $2::bytea) LIMIT {MODELS_MAX}"
            ),
            forget_models: format!(
                "DELETE FROM {versions} WHERE namespace = $1::text AND model = ANY (ARRAY (
                 SELECT model FROM {versions} WHERE namespace = $1::text
                 ORDER BY seen_at DESC OFFSET {MODELS_MAX}))"
            ),
            try_sweep: format!(
                "SELECT pg_try_advisory_lock({SWEEP}, {}::oid::int)",
                number(&entries)
            ),
            delete_expired: soonest("WHERE expires_at <= now()"),
            is_over: format!("SELECT pg_total_relation_size({}) > $1::bigint", number(&entries)),
            size: format!(
                "SELECT coalesce(sum(octet_length(value)) + {ROW_OVERHEAD} * count(*), 0)::bigint
                 FROM {entries}"
            ),
            delete_soonest: format!(
                "WITH gone AS ({} RETURNING octet_length(value) + {ROW_OVERHEAD} AS bytes)
                 SELECT coalesce(sum(bytes), 0)::bigint FROM gone",
                soonest("")
            ),
        }
    }
}

/// Values are compressed before they come, or not at all: PostgreSQL is not to try. Rows come and
/// go quickly, so what is dead is to be found when it is a twentieth.
fn create(schema: Option<&str>, prefix: &str) -> String {
    let schema =
        schema.map_or(String::new(), |schema| format!("CREATE SCHEMA IF NOT EXISTS {schema}; "));
    format!(
        "BEGIN; SELECT pg_advisory_xact_lock({}); {schema}\
         CREATE UNLOGGED TABLE IF NOT EXISTS {prefix}tollgate_entries (key bytea PRIMARY KEY, \
         value bytea NOT NULL, expires_at timestamptz NOT NULL) \
         WITH (autovacuum_vacuum_scale_factor = 0.05, toast.autovacuum_vacuum_scale_factor = 0.05); \
         ALTER TABLE {prefix}tollgate_entries ALTER COLUMN value SET STORAGE EXTERNAL; \
         CREATE INDEX IF NOT EXISTS tollgate_entries_expires_at ON {prefix}tollgate_entries (expires_at); \
         CREATE TABLE IF NOT EXISTS {prefix}tollgate_fleet (namespace text PRIMARY KEY, \
         epoch bigint NOT NULL, sequence bigint NOT NULL); \
         CREATE TABLE IF NOT EXISTS {prefix}tollgate_purges (namespace text NOT NULL, \
         subject bytea NOT NULL, sequence bigint NOT NULL, PRIMARY KEY (namespace, subject)); \
         CREATE TABLE IF NOT EXISTS {prefix}tollgate_versions (namespace text NOT NULL, \
         model bytea NOT NULL, seen text[] NOT NULL, seen_at timestamptz NOT NULL DEFAULT now(), \
         PRIMARY KEY (namespace, model)); COMMIT",
        lock(prefix)
    )
}

fn begin_epoch(fleet: &str, purges: &str) -> String {
    format!(
        "WITH begun AS (
           INSERT INTO {fleet} AS f (namespace, epoch, sequence) VALUES ($1::text, $2::bigint, 0)
           ON CONFLICT (namespace) DO UPDATE SET epoch = EXCLUDED.epoch, sequence = 0
           WHERE f.epoch = $3::bigint RETURNING f.epoch),
         cleared AS (
           DELETE FROM {purges} WHERE namespace = $1::text AND EXISTS (SELECT 1 FROM begun))
         SELECT pg_notify($4::text, 'p' || lpad(to_hex(epoch), 16, '0') || repeat('0', 16)
           || encode($5::bytea, 'hex'))::text FROM begun"
    )
}

fn purge(fleet: &str, purges: &str) -> String {
    format!(
        "WITH place AS (
           UPDATE {fleet} SET sequence = sequence + cardinality($2::bytea[])
           WHERE namespace = $1::text
           RETURNING epoch, sequence - cardinality($2::bytea[]) AS before),
         numbered AS (
           SELECT place.epoch, n.subject, place.before + n.place AS sequence
           FROM place, unnest($2::bytea[]) WITH ORDINALITY AS n(subject, place)),
         cleared AS (
           DELETE FROM {purges} WHERE namespace = $1::text AND $4::bytea = ANY ($2::bytea[]) AND subject <> $4::bytea
           AND EXISTS (SELECT 1 FROM place)),
         noted AS (
           INSERT INTO {purges} (namespace, subject, sequence)
           SELECT $1::text, subject, sequence FROM numbered
           ON CONFLICT (namespace, subject) DO UPDATE SET sequence = EXCLUDED.sequence)
         SELECT epoch, sequence, subject, pg_notify($3::text, 'p' || lpad(to_hex(epoch), 16, '0')
           || lpad(to_hex(sequence), 16, '0') || encode(subject, 'hex'))::text
         FROM (SELECT * FROM numbered ORDER BY sequence) n"
    )
}

/// A subject that is purged anew meanwhile has another number when the row is come to, and stays.
fn forget(fleet: &str, purges: &str) -> String {
    format!(
        "WITH place AS (
           SELECT epoch FROM {fleet} WHERE namespace = $1::text FOR UPDATE),
         floor AS (
           SELECT max(sequence) AS number FROM (
             SELECT sequence FROM {purges} WHERE namespace = $1::text AND subject <> $2::bytea
             ORDER BY sequence LIMIT $3::bigint) oldest),
         gone AS (
           DELETE FROM {purges} p USING floor WHERE p.namespace = $1::text
           AND p.subject <> $2::bytea AND p.sequence <= floor.number
           AND EXISTS (SELECT 1 FROM place))
         INSERT INTO {purges} AS p (namespace, subject, sequence)
         SELECT $1::text, $2::bytea, floor.number FROM floor, place WHERE floor.number IS NOT NULL
         ON CONFLICT (namespace, subject) DO UPDATE
         SET sequence = greatest(p.sequence, EXCLUDED.sequence)"
    )
}

fn observe(versions: &str) -> String {
    format!(
        "WITH told AS (
           INSERT INTO {versions} AS v (namespace, model, seen)
           VALUES ($1::text, $2::bytea, ARRAY[$3::text])
           ON CONFLICT (namespace, model) DO UPDATE SET seen_at = now(),
           seen = (array_append(array_remove(v.seen, $3::text), $3::text))
             [greatest(1, cardinality(array_remove(v.seen, $3::text)) + 2 - {VERSIONS_MAX}):]
           WHERE $4::bool OR NOT ($3::text = ANY (v.seen)) RETURNING v.model)
         SELECT pg_notify($5::text, 'v' || encode(model, 'hex'))::text FROM told"
    )
}

/// For who makes the tables with this prefix. None of them has a number yet.
fn lock(prefix: &str) -> i64 {
    let digest = blake3::hash(format!("tollgate create {prefix}").as_bytes());
    digest.as_bytes().first_chunk().copied().map_or(0, i64::from_le_bytes)
}

/// An identifier that needs no quotes, whatever schema and namespace.
pub(super) fn channel(schema: Option<&str>, namespace: &str) -> String {
    let name = format!("{} {namespace}", schema.unwrap_or_default());
    let digest = blake3::hash(name.as_bytes()).to_hex();
    format!("tollgate_{}", digest.as_str().chars().take(32).collect::<String>())
}

/// Something another instance said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    Purged(FleetStamp, Subject),
    /// A model has another version; the table says which.
    Version(ModelId),
}

/// Reads a message of the channel; `None` for what is not ours (a later version's, say).
pub(super) fn read_message(payload: &str) -> Option<Message> {
    if let Some(model) = payload.strip_prefix('v') {
        return Some(Message::Version(ModelId(read_digest(model)?)));
    }
    let rest = payload.strip_prefix('p')?;
    let (epoch, rest) = rest.split_at_checked(16)?;
    let (sequence, subject) = rest.split_at_checked(16)?;
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    let at = FleetStamp { epoch: number(epoch)?, sequence: number(sequence)? };
    Some(Message::Purged(at, Subject::from_bytes(read_digest(subject)?)))
}

fn read_digest(text: &str) -> Option<[u8; 16]> {
    let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits.then(|| u128::from_str_radix(text, 16).ok())?.map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generations::Target;
    use proptest::prelude::*;

    #[test]
    fn a_message_is_read_as_the_statements_write_it() {
        let subject = Subject::of(Target::Tag("a"));
        let hex: String = subject.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let payload = format!("p{:016x}{:016x}{hex}", u64::MAX, 10);
        let at = FleetStamp { epoch: u64::MAX, sequence: 10 };
        assert_eq!(read_message(&payload), Some(Message::Purged(at, subject)));
        assert_eq!(payload.strip_suffix(char::is_alphanumeric).and_then(read_message), None);
        let model = ModelId(*subject.as_bytes());
        assert_eq!(read_message(&format!("v{hex}")), Some(Message::Version(model)));
    }

    #[test]
    fn a_schema_stays_a_name_whatever_is_in_it() {
        let sql = Sql::new(Some("a\"; DROP TABLE x; --"));
        assert!(sql.write.contains("\"a\"\"; DROP TABLE x; --\".tollgate_entries"));
        assert!(Sql::new(None).write.contains(" tollgate_entries"));
    }

    proptest! {
        #[test]
        fn foreign_messages_never_panic(payload in ".{0,80}") {
            prop_assert!(read_message(&payload).is_none());
            let ours = format!("p{payload}");
            prop_assert!(read_message(&ours).is_none());
        }
    }
}
