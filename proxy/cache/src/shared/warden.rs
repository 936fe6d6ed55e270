//! Who waits for which lease here, and the task that renews leases and gives them back.
//!
//! A lease is given back where it is dropped, which may be anywhere and cannot wait; so it is an
//! errand for this task. The line of errands is bounded: what finds no room ends by itself, when
//! its time is over.

use super::{
    lease::{self, Token},
    link::Link,
    news::News,
};
use crate::key::CacheKey;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    task::{JoinError, JoinSet},
    time::{self, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

/// Errands that wait. As many as leases may be taken in the time of one slow answer.
pub(super) const ERRANDS_MAX: usize = 8192;
/// Errands under way at a time.
const AT_ONCE_MAX: usize = 64;

#[derive(Debug)]
pub(super) enum Errand {
    /// To be renewed from now on.
    Taken {
        token: Token,
        key: CacheKey,
    },
    /// Redis knows that it is over.
    Forget(Token),
    Release {
        token: Token,
        key: CacheKey,
        news: News,
    },
}

type Held = HashMap<Token, CacheKey>;

/// Does errands until `stop`, then those that wait by then.
pub(super) async fn keep(
    mut errands: mpsc::Receiver<Errand>,
    ttl: Duration,
    link: Arc<Link>,
    stop: CancellationToken,
) {
    let mut held = Held::new();
    let mut under_way = JoinSet::<Vec<Token>>::new();
    // Twice a renewal may fail before the lease ends.
    let mut renewals = time::interval(ttl / 3);
    renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            errand = errands.recv() => match errand {
                None => break,
                Some(Errand::Taken { token, key }) => {
                    held.insert(token, key);
                }
                Some(Errand::Forget(token)) => {
                    held.remove(&token);
                }
                Some(Errand::Release { token, key, news }) => {
                    held.remove(&token);
                    if under_way.len() >= AT_ONCE_MAX {
                        forget(&mut held, under_way.join_next().await);
                    }
                    under_way.spawn(give_back(link.clone(), token, key, news));
                }
            },
            ended = under_way.join_next(), if !under_way.is_empty() => forget(&mut held, ended),
            _ = renewals.tick(), if !held.is_empty() => {
                let all = held.iter().map(|(token, key)| (token.clone(), *key)).collect();
                under_way.spawn(renew(link.clone(), ttl, all));
            }
            () = stop.cancelled(), if !errands.is_closed() => errands.close(),
        }
    }
    while under_way.join_next().await.is_some() {}
}

/// Leases that another has by now are not renewed any more.
fn forget(held: &mut Held, ended: Option<Result<Vec<Token>, JoinError>>) {
    for lost in ended.into_iter().flatten().flatten() {
        held.remove(&lost);
    }
}

async fn give_back(link: Arc<Link>, token: Token, key: CacheKey, news: News) -> Vec<Token> {
    let command = lease::release(&link.names, &token, key, &news);
    if let Ok(0_i64) | Err(_) = link.ask(&link.names.lease(key), &command).await {
        link.leases.lost.add_one();
    }
    Vec::new()
}

/// One after the other: they are small, and callers' questions come first.
async fn renew(link: Arc<Link>, ttl: Duration, all: Vec<(Token, CacheKey)>) -> Vec<Token> {
    let mut lost = Vec::new();
    for (token, key) in all {
        let command = lease::renew(&link.names, &token, key, ttl);
        // No answer is no loss: the next renewal may come in time.
        if let Ok(0_i64) = link.ask(&link.names.lease(key), &command).await {
            lost.push(token);
        }
    }
    lost
}
