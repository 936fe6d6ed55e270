//! Asking several servers the same thing at once, and not waiting for the slowest.
//!
//! Sentinels and the nodes of a cluster each have a view of their own of who holds what; one that
//! is cut off from the others goes on believing what was. So all are asked, and as soon as more
//! than half have answered the caller may judge, by the epoch that each view carries. One that is
//! dead or stands still holds nobody up for longer than the time-out, and only where half are.

use super::site::Clients;
use redis::{
    AsyncConnectionConfig, ConnectionInfo, Pipeline, RedisError, Value, aio::MultiplexedConnection,
};
use std::time::Duration;
use tokio::{task::JoinSet, time};

/// Who is asked: more than these add no certainty.
const WITNESSES_MAX: usize = 16;

/// One who is asked, and the connection kept for the next time.
struct Witness {
    server: ConnectionInfo,
    connection: Option<MultiplexedConnection>,
}

pub(super) struct Survey {
    witnesses: Vec<Witness>,
    timeout: Duration,
}

/// One answer to each command of the question.
pub(super) struct Testimony {
    /// Who said it.
    pub(super) server: ConnectionInfo,
    pub(super) answers: Vec<Value>,
}

impl Survey {
    pub(super) fn of(servers: &[ConnectionInfo], timeout: Duration) -> Self {
        let witnesses = servers
            .iter()
            .take(WITNESSES_MAX)
            .map(|server| Witness { server: server.clone(), connection: None });
        Self { witnesses: witnesses.collect(), timeout }
    }

    /// Has `servers` asked from now on; connections to those that are in both are kept.
    pub(super) fn turn_to(&mut self, servers: impl Iterator<Item = ConnectionInfo>) {
        let mut before = std::mem::take(&mut self.witnesses);
        for server in servers {
            let known = |one: &Witness| one.server.addr() == server.addr();
            if self.witnesses.len() >= WITNESSES_MAX || self.witnesses.iter().any(known) {
                continue;
            }
            let place = before.iter().position(known);
            let kept = place.map(|place| before.swap_remove(place));
            self.witnesses.push(kept.unwrap_or(Witness { server, connection: None }));
        }
    }

    /// What more than half of them say, or fewer where fewer answer in time; and why one did not.
    pub(super) async fn ask(
        &mut self,
        question: &Pipeline,
    ) -> (Vec<Testimony>, Option<RedisError>) {
        let mut asked = JoinSet::new();
        for (place, witness) in self.witnesses.iter_mut().enumerate() {
            let (server, kept) = (witness.server.clone(), witness.connection.take());
            let (question, timeout) = (question.clone(), self.timeout);
            asked.spawn(async move {
                let answer = time::timeout(timeout, hear(&server, kept, &question, timeout)).await;
                (place, answer.unwrap_or_else(|_elapsed| Err(late())))
            });
        }
        let (mut said, mut why) = (Vec::new(), None);
        let enough = self.witnesses.len() / 2 + 1;
        while said.len() < enough
            && let Some(heard) = asked.join_next().await
        {
            match heard {
                Ok((place, Ok((connection, answers)))) => {
                    if let Some(witness) = self.witnesses.get_mut(place) {
                        witness.connection = Some(connection);
                        said.push(Testimony { server: witness.server.clone(), answers });
                    }
                }
                Ok((_, Err(error))) => why = Some(error),
                Err(_aborted) => {}
            }
        }
        (said, why)
    }
}

async fn hear(
    server: &ConnectionInfo,
    kept: Option<MultiplexedConnection>,
    question: &Pipeline,
    timeout: Duration,
) -> Result<(MultiplexedConnection, Vec<Value>), RedisError> {
    if let Some(mut connection) = kept
        && let Ok(answers) = question.query_async(&mut connection).await
    {
        return Ok((connection, answers));
    }
    // None yet, or it was lost meanwhile.
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(timeout))
        .set_response_timeout(Some(timeout));
    let client = Clients::of(server)?;
    let mut connection =
        client.commands.get_multiplexed_async_connection_with_config(&config).await?;
    let answers = question.query_async(&mut connection).await?;
    Ok((connection, answers))
}

fn late() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}
