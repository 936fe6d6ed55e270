//! A PostgreSQL that answers are shared in.

use crate::{CacheStore, Secret, StoreUrl, UpstreamTls};
use std::time::Duration;

/// Where it is, and what may be spent on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postgres {
    /// Checked: a scheme, hosts, and no parameter that would have no effect.
    pub url: StoreUrl,
    /// Instead of the URL's.
    pub user: Option<String>,
    /// Instead of the URL's.
    pub password: Option<Secret>,
    /// Meaningful unless the URL says `sslmode=disable`.
    pub tls: UpstreamTls,
    /// Of the tables. `None`: the first of the user's search path.
    pub schema: Option<String>,
    /// For look-ups; beside them one for writes and one for purges. At least 1.
    pub connections: usize,
    /// What one look-up may cost a caller.
    pub timeout: Duration,
}

/// How entries lie there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachePostgres {
    /// Of all entries in the schema together.
    pub bytes_max: u64,
    pub store: CacheStore,
}
