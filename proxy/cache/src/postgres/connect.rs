//! Connections to PostgreSQL, and what can be wrong with them: for the tier's session and for those
//! that only listen.

use super::Store;
use std::{future::poll_fn, time::Duration};
use tokio::{task::JoinSet, time};
use tokio_postgres::{AsyncMessage, Client, Error, Notification};

#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error("postgresql cannot be used; see that it is up and lets us in")]
    Postgres(#[from] Error),
    #[error("postgresql did not answer within {0:?}")]
    Timeout(Duration),
    #[error("the connection to postgresql was lost")]
    Lost,
    #[error("postgresql is a standby now, or its tables are gone")]
    Refused,
    #[error(
        "its tables are not there and this user may not create them; have their owner say: {sql}"
    )]
    NoTables { sql: String, source: Error },
    #[error("the table of purges in postgresql is not tollgate's, or larger than it lets it be")]
    ForeignTable,
}

/// Connects, and has the connection driven by a task, which shows `hear` what others say.
pub(super) async fn connect(
    store: &Store,
    drivers: &mut JoinSet<()>,
    hear: impl Fn(Notification) + Send + 'static,
) -> Result<Client, SessionError> {
    let timeout = store.limits.probe_timeout;
    let (client, mut connection) = store.site.connect(timeout).await?;
    drivers.spawn(async move {
        while let Some(Ok(came)) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(note) = came {
                hear(note);
            }
        }
    });
    // What nobody waits for any more is not to go on for long.
    let limit = format!("SET statement_timeout = {}", store.limits.write_timeout.as_millis());
    within(timeout, client.batch_execute(&limit)).await?;
    Ok(client)
}

/// Unless they are there.
pub(super) async fn make_tables(store: &Store, home: &Client) -> Result<(), SessionError> {
    let timeout = store.limits.probe_timeout;
    let row = within(timeout, home.query_one(&store.sql.are_there, &[])).await?;
    if row.try_get(0)? {
        return Ok(());
    }
    match time::timeout(timeout, home.batch_execute(&store.sql.create)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(source)) => Err(SessionError::NoTables { sql: store.sql.create.clone(), source }),
        Err(_elapsed) => Err(SessionError::Timeout(timeout)),
    }
}

/// Waits no longer than that.
pub(super) async fn within<T>(
    timeout: Duration,
    asked: impl Future<Output = Result<T, Error>>,
) -> Result<T, SessionError> {
    match time::timeout(timeout, asked).await {
        Ok(answer) => Ok(answer?),
        Err(_elapsed) => Err(SessionError::Timeout(timeout)),
    }
}
