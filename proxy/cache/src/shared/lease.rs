//! One fill per fleet: the right to fill a key, for a while.
//!
//! ```text
//!   nothing ── claim ──▶ TOKEN ── stored, or gone ──▶ nothing
//!      ▲                   │  └── claimed by another ──▶ TOKEN "w"   (somebody waits: say when it is over)
//!      └── its time ended ─┴── answer not to be shared ──▶ "-"       (for a while everybody asks alone)
//! ```
//!
//! Who has the lease asks the upstream; who has not waits for news on the fleet's channel, or for
//! the lease to end, and looks again. Nobody's wait is without end, and where Redis is in trouble
//! nobody waits at all. The lease is renewed while its holder works ([`super::warden`]); a holder
//! that died is missed when its lease ends.
//!
//! **Fencing:** what a holder stores is stored by one script that sees that the lease is still its
//! own, so a holder that was away for longer than its lease cannot write over what another brought
//! since. The token is drawn anew for each lease: that it is the same is all the order there is.
//!
//! **Invariant:** the lease's key has the slot of the entry's, as the entry's name is its hash tag.

use super::{
    LinkState, RedisTier, fleet::Names, news::News, reads::Unanswered, waiters::Watch,
    warden::Errand,
};
use crate::{
    counters::{Count, LeaseCounters},
    key::CacheKey,
};
use redis::Cmd;
use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    time::{self, Instant},
};

/// Letters of a [`Token`]; what stands behind them says that somebody waits.
const TOKEN_LEN: usize = 32;

/// For how long everybody asks alone about what turned out not to be shared.
const ALONE: Duration = Duration::from_secs(5);

/// Redis forgets a lease a little later than it says.
const LAPSE: Duration = Duration::from_millis(2);

/// → {1, whether there is an entry} ours; {2, 0} everybody alone; {0, ms left} another's
const CLAIM: &str = "
local held = redis.call('GET', KEYS[1])
if not held then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return {1, redis.call('EXISTS', KEYS[2])}
end
if held == '-' then return {2, 0} end
if #held == tonumber(ARGV[3]) then redis.call('APPEND', KEYS[1], 'w') end
return {0, redis.call('PTTL', KEYS[1])}";

/// Deleted first: a full Redis lets go on what begins so. → whether it was still ours
const RELEASE: &str = "
local held = redis.call('GET', KEYS[1])
if not held or string.sub(held, 1, #ARGV[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
if ARGV[2] ~= '0' then redis.call('SET', KEYS[1], '-', 'PX', ARGV[2]) end
if #held > #ARGV[1] then redis.call('PUBLISH', ARGV[3], ARGV[4]) end
return 1";

/// → whether it was still ours
const RENEW: &str = "
local held = redis.call('GET', KEYS[1])
if not held or string.sub(held, 1, #ARGV[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])";

/// Stores and gives the lease back. Without a lease it stores only what nobody has stored since.
/// → whether it was stored
const STORE: &str = "
local held = redis.call('GET', KEYS[1])
local ours = held and string.sub(held, 1, #ARGV[1]) == ARGV[1]
if not ours and (held or redis.call('EXISTS', KEYS[2]) == 1) then return 0 end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
if ours then
  redis.call('DEL', KEYS[1])
  if #held > #ARGV[1] then redis.call('PUBLISH', ARGV[4], ARGV[5]) end
end
return 1";

/// Stores what was begun later than whatever the lease is held for, and ends that: who waits for it
/// is told of this. → 1
const STORE_NEWER: &str = "
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
local held = redis.call('GET', KEYS[1])
if held and held ~= '-' then
  redis.call('DEL', KEYS[1])
  if #held > #ARGV[1] then redis.call('PUBLISH', ARGV[4], ARGV[5]) end
end
return 1";

/// How long leases and those who wait for them last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTimes {
    /// How long a holder that died is waited for; a living one renews.
    pub ttl: Duration,
    /// The longest that anybody waits for others before it asks the upstream itself.
    pub wait: Duration,
}

/// Names one lease of one holder; nobody has used it before.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Token(Arc<str>);

/// The right to fill a key. Dropped, it is given back, and those who wait are told what
/// became of it: unless something else was said, that its holder left.
#[derive(Debug)]
pub struct Lease {
    key: CacheKey,
    token: Token,
    /// `None`: Redis has heard already, or never did.
    end: Mutex<Option<News>>,
    /// Another has the lease, and what comes under this one is newer.
    is_newer: bool,
    errands: mpsc::Sender<Errand>,
}

/// What a caller is to do now about a key that no tier holds.
#[derive(Debug)]
pub enum Step {
    /// Ask the upstream; alone, where there is no lease.
    Lead(Option<Lease>),
    /// Look whether Redis has it meanwhile, perhaps under another version of the model. If not:
    /// lead, if there is a lease, else ask for the next step.
    Look { version: Option<Arc<str>>, lease: Option<Lease> },
}

/// A caller's way to lead, or to what another has led to.
#[derive(Debug)]
pub struct Turn<'a> {
    tier: &'a RedisTier,
    key: CacheKey,
    until: Instant,
    /// Its end is the longest that anybody waits, and not its caller's own.
    waits_out: bool,
    times: LeaseTimes,
    watch: Watch,
    state: watch::Receiver<LinkState>,
    has_waited: bool,
}

/// What Redis says to a claim.
enum Claim {
    Ours { lease: Lease, is_stored: bool },
    Theirs { left: Duration },
    Alone,
    NoAnswer,
}

impl Token {
    fn new() -> Self {
        static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0));
        static LEASES: AtomicU64 = AtomicU64::new(0);
        let lease = LEASES.fetch_add(1, Ordering::Relaxed);
        Self(format!("{:016x}{lease:016x}", *PROCESS).into())
    }
}

impl Lease {
    /// Of an answer that others may not be given, or that failed: nobody waits for the next try.
    pub fn unshared(&self) {
        self.ends(Some(News::Unshared));
    }

    /// The answer is there, of this version of the model.
    pub fn stored(&self, version: Arc<str>) {
        self.ends(Some(News::Stored(version)));
    }

    /// Redis knows already that it is over.
    pub(super) fn settled(&self) {
        self.ends(None);
    }

    pub(super) fn is_of(&self, key: CacheKey) -> bool {
        self.key == key
    }

    /// The command that stores an entry under the lease's own key, unless the lease was lost.
    pub(super) fn store(&self, names: &Names, value: &[u8], ttl_ms: u64, version: &str) -> Cmd {
        let text = if self.is_newer { STORE_NEWER } else { STORE };
        let mut command = script(text, &[&names.lease(self.key), &names.entry(self.key)]);
        let said = News::Stored(version.into()).payload(self.key);
        command.arg(&*self.token.0).arg(value).arg(ttl_ms).arg(&names.channel).arg(said);
        command
    }

    fn ends(&self, end: Option<News>) {
        if self.is_newer {
            return;
        }
        *self.end.lock().unwrap_or_else(PoisonError::into_inner) = end;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let end = self.end.lock().unwrap_or_else(PoisonError::into_inner).take();
        let token = self.token.clone();
        let errand = match end {
            Some(news) => Errand::Release { token, key: self.key, news },
            None => Errand::Forget(token),
        };
        // Where there is no room it ends by itself.
        let _full = self.errands.try_send(errand);
    }
}

pub(super) fn release(names: &Names, token: &Token, key: CacheKey, news: &News) -> Cmd {
    let alone_ms = match news {
        News::Unshared => ALONE.as_millis(),
        News::Stored(_) | News::Gone => 0,
    };
    let mut command = script(RELEASE, &[&names.lease(key)]);
    command.arg(&*token.0).arg(alone_ms.to_string()).arg(&names.channel).arg(news.payload(key));
    command
}

pub(super) fn renew(names: &Names, token: &Token, key: CacheKey, ttl: Duration) -> Cmd {
    let mut command = script(RENEW, &[&names.lease(key)]);
    command.arg(&*token.0).arg(ttl.as_millis().to_string());
    command
}

fn script(text: &str, keys: &[&str]) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(text).arg(keys.len()).arg(keys);
    command
}

impl RedisTier {
    /// A caller's turn to fill `key`, where leases are used: it will wait until `until` at most.
    pub fn turn(&self, key: CacheKey, until: Instant) -> Option<Turn<'_>> {
        let times = self.link.settings.lease?;
        let longest = Instant::now() + times.wait;
        Some(Turn {
            tier: self,
            key,
            until: until.min(longest),
            waits_out: longest <= until,
            times,
            // Before the claim: what is said after it was refused must not be missed.
            watch: self.link.waiters.watch(key),
            state: self.link.state(),
            has_waited: false,
        })
    }

    pub fn lease_counters(&self) -> &LeaseCounters {
        &self.link.leases
    }
}

impl Turn<'_> {
    /// For who may not be given what another brings: the right to fill the key, or, where another
    /// has it, to store over what that brings and never under it. Waits for nobody.
    pub async fn leads_anew(&self) -> Option<Lease> {
        match self.claim().await {
            Claim::Ours { lease, .. } => Some(lease),
            Claim::Theirs { .. } => Some(Lease {
                key: self.key,
                token: Token::new(),
                end: Mutex::new(None),
                is_newer: true,
                errands: self.tier.errands.clone(),
            }),
            Claim::Alone | Claim::NoAnswer => None,
        }
    }

    /// Waits, where another fills the key.
    pub async fn next(&mut self) -> Step {
        let counters = &self.tier.link.leases;
        loop {
            let left = match self.claim().await {
                Claim::Ours { lease, is_stored: false } => {
                    self.ended(&counters.led);
                    return Step::Lead(Some(lease));
                }
                Claim::Ours { lease, is_stored: true } => {
                    return Step::Look { version: None, lease: Some(lease) };
                }
                Claim::Theirs { .. } if self.tier.link.vain.knows(&self.key) => {
                    return Step::Lead(None);
                }
                Claim::Theirs { left } => left,
                Claim::Alone => {
                    self.ended(&counters.unshared);
                    return Step::Lead(None);
                }
                Claim::NoAnswer => {
                    self.ended(&counters.away);
                    return Step::Lead(None);
                }
            };
            self.has_waited = true;
            match self.wait(left).await {
                Waited::Told(News::Stored(version)) => {
                    return Step::Look { version: Some(version), lease: None };
                }
                Waited::Told(News::Unshared) => {
                    self.ended(&counters.unshared);
                    return Step::Lead(None);
                }
                Waited::Away => {
                    self.ended(&counters.away);
                    return Step::Lead(None);
                }
                Waited::Lapsed if Instant::now() >= self.until => {
                    if self.waits_out {
                        self.tier.link.vain.waited(self.key, self.times.wait);
                    }
                    self.ended(&counters.timeouts);
                    return Step::Lead(None);
                }
                Waited::Told(News::Gone) | Waited::Lapsed => {}
            }
        }
    }

    async fn wait(&mut self, left: Duration) -> Waited {
        let lapse = (Instant::now() + left + LAPSE).min(self.until);
        let link = &self.tier.link;
        // Of a cluster's nodes only the one that holds the lease can say that it is over.
        let name = link.names.lease(self.key);
        let node = link.nodes().and_then(|nodes| nodes.of(name.as_bytes()).cloned());
        let Some(node) = node else { return Waited::Away };
        tokio::select! {
            news = self.watch.next() => news.map_or(Waited::Away, Waited::Told),
            () = time::sleep_until(lapse) => Waited::Lapsed,
            _ = self.state.wait_for(|state| *state == LinkState::Down) => Waited::Away,
            () = node.away() => Waited::Away,
        }
    }

    /// A look has found the answer.
    pub fn found(mut self) {
        let counters = &self.tier.link.leases;
        self.ended(&counters.found);
    }

    /// A look has found nothing, and the lease is there.
    pub fn leads(mut self) {
        let counters = &self.tier.link.leases;
        self.ended(&counters.led);
    }

    fn ended(&mut self, how: &Count) {
        if std::mem::take(&mut self.has_waited) {
            how.add_one();
        }
    }

    async fn claim(&self) -> Claim {
        let link = &self.tier.link;
        let (names, token) = (&link.names, Token::new());
        let name = names.lease(self.key);
        let nodes = link.nodes();
        let node = nodes.as_ref().and_then(|nodes| nodes.of(name.as_bytes()));
        if node.is_some_and(|node| node.is_suspected()) {
            // The look-up may have been the one that was late: nobody waits twice.
            return Claim::NoAnswer;
        }
        let mut command = script(CLAIM, &[&name, &names.entry(self.key)]);
        command.arg(&*token.0).arg(self.times.ttl.as_millis().to_string()).arg(TOKEN_LEN);
        match link.ask::<(i64, i64)>(&name, &command).await {
            Ok((1, stored)) => {
                let errands = self.tier.errands.clone();
                // Where there is no room it is not renewed.
                let _full = errands.try_send(Errand::Taken { token: token.clone(), key: self.key });
                link.leases.taken.add_one();
                let end = Mutex::new(Some(News::Gone));
                let lease = Lease { key: self.key, token, end, is_newer: false, errands };
                Claim::Ours { lease, is_stored: stored == 1 }
            }
            Ok((0, left_ms)) => {
                Claim::Theirs { left: Duration::from_millis(u64::try_from(left_ms).unwrap_or(0)) }
            }
            Ok(_) => Claim::Alone,
            Err(Unanswered::Skipped | Unanswered::Late | Unanswered::Failed) => Claim::NoAnswer,
        }
    }
}

/// How a wait ended.
enum Waited {
    Told(News),
    /// The lease should have ended, or nobody waits for longer.
    Lapsed,
    Away,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_lies_in_the_slot_of_its_entry() {
        let names = Names::new("prod/chat");
        for n in 0..100 {
            let key = CacheKey::from_bytes([n; 32]);
            let slots = [names.lease(key), names.entry(key)]
                .map(|name| super::super::slots::slot(name.as_bytes()));
            assert_eq!(slots[0], slots[1]);
        }
    }

    #[test]
    fn no_two_leases_have_one_token() {
        let tokens: std::collections::HashSet<_> = (0..1000).map(|_| Token::new()).collect();
        assert_eq!(tokens.len(), 1000);
        assert!(tokens.iter().all(|token| token.0.len() == TOKEN_LEN));
    }
}
