//! A PostgreSQL, and how entries lie there, in the words of the file.

use super::{secret, store_url, tls_to};
use crate::{
    CachePostgres, Postgres,
    text::{show_duration, show_size},
};
use serde_json::{Value, json};

pub(super) fn postgres(postgres: &Postgres) -> Value {
    json!({
        "url": store_url(&postgres.url),
        "user": postgres.user,
        "password": postgres.password.as_ref().map(secret),
        "tls": tls_to(&postgres.tls),
        "schema": postgres.schema,
        "connections": postgres.connections,
        "timeout": show_duration(postgres.timeout),
    })
}

pub(super) fn entries(cache: &CachePostgres) -> Value {
    let mut shown = super::entries(&cache.store);
    if let Some(shown) = shown.as_object_mut() {
        shown.insert("size".to_owned(), show_size(cache.bytes_max).into());
    }
    shown
}
