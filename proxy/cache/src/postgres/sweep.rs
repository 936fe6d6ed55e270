//! What PostgreSQL does not do: forgetting.
//!
//! Rows past their time are deleted, and where the rest is more than it may be, those that would go
//! first anyway. In batches, so that nobody waits for one that deletes a million; over a connection
//! of its own, so that no look-up stands behind it; and by one instance, the one whose session has
//! an advisory lock, so that a fleet of a hundred does not count the same table a hundred times.

use super::{
    Store,
    connect::{SessionError, within},
};
use std::{sync::Arc, time::Duration};
use tokio::{task::JoinSet, time::Instant};
use tokio_postgres::{Client, types::ToSql};

/// Rows of one batch: some tens of milliseconds.
const BATCH_ROWS: i64 = 1_000;
/// Of one sweep; more wait for the next one.
const BATCHES_MAX: usize = 1_000;
/// Of one statement. To add up ten million rows takes seconds.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(60);
/// To add up all rows may take a hundredth of the time: after a second, a hundred without.
const COUNT_SHARE: u32 = 100;

/// Of one session; what is under way ends with it.
pub(super) struct Sweeper {
    store: Arc<Store>,
    is_ours: bool,
    /// Gives the time before which the rows are not to be counted again.
    under_way: JoinSet<Instant>,
    count_not_before: Instant,
}

impl Sweeper {
    pub(super) fn new(store: Arc<Store>) -> Self {
        let count_not_before = Instant::now();
        Self { store, is_ours: false, under_way: JoinSet::new(), count_not_before }
    }

    pub(super) fn is_ours(&self) -> bool {
        self.is_ours
    }

    /// This session has the lock, or has not.
    pub(super) fn is_given(&mut self, ours: bool) {
        self.is_ours = ours;
    }

    /// Begins a sweep, if it is ours and the last is over.
    pub(super) fn sweep(&mut self) {
        while let Some(Ok(not_before)) = self.under_way.try_join_next() {
            self.count_not_before = not_before;
        }
        if !self.is_ours || !self.under_way.is_empty() {
            return;
        }
        let (store, not_before) = (self.store.clone(), self.count_not_before);
        self.under_way.spawn(async move {
            sweep(&store, not_before).await.unwrap_or_else(|error| {
                tracing::debug!(%error, "entries past their time stay for now");
                not_before
            })
        });
    }
}

/// Before when the rows are not to be counted again.
async fn sweep(store: &Store, not_before: Instant) -> Result<Instant, SessionError> {
    let (client, connection) = store.site.connect(store.limits.probe_timeout).await?;
    let work = async {
        let limit = format!("SET statement_timeout = {}", STATEMENT_TIMEOUT.as_millis());
        within(STATEMENT_TIMEOUT, client.batch_execute(&limit)).await?;
        delete_expired(store, &client).await?;
        let most = i64::try_from(store.size_max).unwrap_or(i64::MAX);
        let parameters: [&(dyn ToSql + Sync); 1] = [&most];
        let is_over = client.query_one(&store.sql.is_over, &parameters);
        let is_over: bool = within(STATEMENT_TIMEOUT, is_over).await?.try_get(0)?;
        let began = Instant::now();
        if !is_over || began < not_before {
            return Ok(not_before);
        }
        let over = bytes_over(store, &client).await?;
        let counted = Instant::now();
        delete_for_room(store, &client, over).await?;
        Ok(counted + counted.saturating_duration_since(began) * COUNT_SHARE)
    };
    tokio::select! {
        done = work => done,
        _ = connection => Err(SessionError::Lost),
    }
}

async fn delete_expired(store: &Store, client: &Client) -> Result<(), SessionError> {
    for _ in 0..BATCHES_MAX {
        let parameters: [&(dyn ToSql + Sync); 1] = [&BATCH_ROWS];
        let deleted = client.execute(&store.sql.delete_expired, &parameters);
        let deleted = within(STATEMENT_TIMEOUT, deleted).await?;
        store.values.counters.evicted_expired.add(deleted);
        if deleted < BATCH_ROWS.cast_unsigned() {
            break;
        }
    }
    Ok(())
}

async fn bytes_over(store: &Store, client: &Client) -> Result<u64, SessionError> {
    let size = within(STATEMENT_TIMEOUT, client.query_one(&store.sql.size, &[])).await?;
    let size: i64 = size.try_get(0)?;
    Ok(size.cast_unsigned().saturating_sub(store.size_max))
}

async fn delete_for_room(
    store: &Store,
    client: &Client,
    mut over: u64,
) -> Result<(), SessionError> {
    for _ in 0..BATCHES_MAX {
        if over == 0 {
            break;
        }
        // Few at a time: the last batch frees more than it must.
        let parameters: [&(dyn ToSql + Sync); 1] = [&(BATCH_ROWS / 10)];
        let freed = client.query_one(&store.sql.delete_soonest, &parameters);
        let freed: i64 = within(STATEMENT_TIMEOUT, freed).await?.try_get(0)?;
        if freed <= 0 {
            break;
        }
        over = over.saturating_sub(freed.cast_unsigned());
        store.values.counters.evicted_for_room.add(BATCH_ROWS.cast_unsigned() / 10);
    }
    Ok(())
}
