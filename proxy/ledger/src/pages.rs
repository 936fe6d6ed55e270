//! Single records, newest first, a page at a time.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::params;
use serde::{Serialize, Serializer, ser::SerializeMap};
use uuid::Uuid;

use crate::{
    decimal::decimal,
    error::LedgerError,
    query::Dim,
    reader::Reader,
    record::{COST_CATEGORIES, TOKEN_KINDS, UsageRecord},
    store,
};

/// Records of one page.
const PAGE_MAX: usize = 10_000;

/// A record with its words. Serialises as the admin API shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordView {
    pub record: UsageRecord,
    /// Route, tenant, user, tier, project, business, class, model, version; empty = none.
    pub words: [String; 9],
}

/// The dimensions of [`RecordView::words`], in its order.
const WORDS: [Dim; 9] = [
    Dim::Route,
    Dim::Tenant,
    Dim::User,
    Dim::Tier,
    Dim::Project,
    Dim::Business,
    Dim::Class,
    Dim::Model,
    Dim::Version,
];

impl Reader {
    /// Up to `limit` records (at most 10 000) that started before the call `before`,
    /// newest first. The id of the last one is the next page's `before`.
    pub fn records(
        &self,
        limit: usize,
        before: Option<Uuid>,
    ) -> Result<Vec<RecordView>, LedgerError> {
        let limit = limit.min(PAGE_MAX);
        let before = before.unwrap_or(Uuid::max());
        let snapshot = self.connection().unchecked_transaction()?;
        // Ids are UUIDv7: their order is that of the starts. Blocks overlap, because
        // calls end in another order, so blocks are read until no further one can
        // have a newer record than the page's last.
        let sql = "SELECT max_id, records FROM block WHERE min_id < ?1 ORDER BY max_id DESC";
        let mut statement = snapshot.prepare_cached(sql)?;
        let mut rows = statement.query(params![before.as_bytes().as_slice()])?;
        let mut page: BTreeMap<Uuid, UsageRecord> = BTreeMap::new();
        while let Some(row) = rows.next()? {
            let blob = |column| row.get_ref(column)?.as_blob().map_err(rusqlite::Error::from);
            let newest = blob(0)?;
            let is_full = page.len() >= limit;
            if is_full && page.keys().next().is_none_or(|last| last.as_bytes().as_slice() > newest)
            {
                break;
            }
            for record in store::decode_block(blob(1)?).filter(|record| record.id < before) {
                page.insert(record.id, record);
                if page.len() > limit {
                    page.pop_first();
                }
            }
        }
        page.into_values().rev().map(|record| self.view(record)).collect()
    }

    fn view(&self, record: UsageRecord) -> Result<RecordView, LedgerError> {
        let mut words: [String; 9] = Default::default();
        for (word, id) in words.iter_mut().zip(record.dims.as_array()) {
            *word = self.word(id)?;
        }
        Ok(RecordView { record, words })
    }
}

impl Serialize for RecordView {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let record = &self.record;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &record.id.as_hyphenated().to_string())?;
        let started = Timestamp::from_millisecond(record.started_at_ms);
        map.serialize_entry("started_at", &started.map(|at| at.to_string()).ok())?;
        for (dim, word) in WORDS.iter().zip(&self.words) {
            map.serialize_entry(dim.name(), &(!word.is_empty()).then_some(word))?;
        }
        map.serialize_entry("status", &(record.status != 0).then_some(record.status))?;
        map.serialize_entry("reason", record.reason.name())?;
        map.serialize_entry("cache", record.outcome.name())?;
        map.serialize_entry("cache_tier", record.tier.name())?;
        map.serialize_entry("own", &record.own)?;
        map.serialize_entry("fallback", &record.fallback)?;
        map.serialize_entry("quality", record.quality.name())?;
        let tokens = record.tokens.as_array();
        map.serialize_entry("tokens", &Named(TOKEN_KINDS.into_iter().zip(tokens).collect()))?;
        map.serialize_entry("bytes_in", &record.bytes_in)?;
        map.serialize_entry("bytes_out", &record.bytes_out)?;
        map.serialize_entry("queue_us", &record.times.queue_us)?;
        map.serialize_entry("upstream_us", &record.times.upstream_us)?;
        map.serialize_entry("first_byte_us", &record.times.first_byte_us)?;
        map.serialize_entry("total_us", &record.times.total_us)?;
        let priced = |pico: i128| (!record.unpriced).then(|| decimal(pico));
        map.serialize_entry("cost", &priced(record.cost.total()))?;
        let costs = record.cost.as_array().map(|pico| priced(i128::from(pico)));
        map.serialize_entry("costs", &Named(COST_CATEGORIES.into_iter().zip(costs).collect()))?;
        map.serialize_entry("saved", &priced(i128::from(record.saved_pico)))?;
        map.end()
    }
}

/// Pairs as an object, in their order.
pub(crate) struct Named<T>(pub(crate) Vec<(&'static str, T)>);

impl<T: Serialize> Serialize for Named<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}
