//! What a file says of a PostgreSQL, as it is written.

use crate::{
    raw::{RawCompression, RawEncryption, RawSecret, RawStoreUrl, RawUpstreamTls},
    text::{DurationText, SizeText},
};
use schemars::JsonSchema;
use serde::Deserialize;

/// A database, version 12 or newer, in which answers are shared. Tables are made in it, or are to
/// be made by their owner.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPostgres {
    /// `postgres://[user[:password]@]host[:port][,…]/database[?sslmode=…]`; with a password, better
    /// a reference. sslmode is disable, or require, verify-ca or verify-full, which all verify the
    /// certificate and its name; default: verify-full where tls is set, else disable. Of several
    /// hosts the one that takes writes.
    #[schemars(required)]
    pub(crate) url: Option<RawStoreUrl>,
    /// Default: the URL's.
    pub(crate) user: Option<String>,
    /// Default: the URL's.
    pub(crate) password: Option<RawSecret>,
    pub(crate) tls: Option<RawUpstreamTls>,
    /// Of the tables. Default: the first of the user's search path, mostly public.
    pub(crate) schema: Option<String>,
    /// For look-ups; each instance has three more at most. Default: 2.
    #[schemars(range(min = 1, max = 32))]
    pub(crate) connections: Option<u32>,
    /// What one look-up may cost a caller. Default: 20ms.
    pub(crate) timeout: Option<DurationText>,
}

/// How entries are written to PostgreSQL.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawCachePostgres {
    /// Of all entries in the schema, 1MiB to 16TiB; beyond it those go that would go first anyway.
    /// Default: 1GiB.
    pub(crate) size: Option<SizeText>,
    /// Default: none. Compressed values are read either way.
    pub(crate) compression: Option<RawCompression>,
    pub(crate) encryption: Option<RawEncryption>,
}
