//! How often a wrong token may be tried: who guesses should not be told much.
//!
//! Counted by where it comes from, so that a stranger's guesses lock out nobody else. As
//! long as somebody is locked out the right token is refused like a wrong one, or guessing
//! would go on. A session of the console is no guess, and is never locked out.

use crate::aside::PeerIp;
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// Wrong tokens within [`WINDOW`]. A person who mistypes needs three.
const FAILURES_MAX: u32 = 10;

/// Counted from the first wrong token.
const WINDOW: Duration = Duration::from_secs(60);

/// Networks that are counted one by one; those beyond share one count.
const NETWORKS_MAX: usize = 1024;

/// What became of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    Right,
    Wrong,
    /// Too many were wrong: it is not said what this one is, before that much time.
    Later(Duration),
}

/// The wrong tokens of the last minute.
#[derive(Debug)]
pub(crate) struct Tries(Mutex<Table>);

#[derive(Debug)]
struct Table {
    /// `None`: the socket in the file system.
    networks: HashMap<PeerIp, Failures>,
    others: Failures,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    since: Instant,
    count: u32,
}

impl Default for Tries {
    fn default() -> Self {
        let others = Failures { since: Instant::now(), count: 0 };
        Self(Mutex::new(Table { networks: HashMap::new(), others }))
    }
}

impl Tries {
    /// Counts a try from an address, and says what may be known of it.
    pub(crate) fn judge(&self, from: PeerIp, is_right: bool) -> Judged {
        let now = Instant::now();
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = table.failures(from.map(network), now);
        if failures.are_over(now) {
            *failures = Failures { since: now, count: 0 };
        }
        if failures.count >= FAILURES_MAX {
            return Judged::Later((failures.since + WINDOW).saturating_duration_since(now));
        }
        if is_right {
            return Judged::Right;
        }
        failures.count += 1;
        if failures.count == FAILURES_MAX {
            tracing::warn!(?from, "too many wrong admin tokens: no more are looked at for a while");
        }
        Judged::Wrong
    }
}

impl Table {
    fn failures(&mut self, network: PeerIp, now: Instant) -> &mut Failures {
        if self.networks.len() >= NETWORKS_MAX && !self.networks.contains_key(&network) {
            self.networks.retain(|_, failures| !failures.are_over(now));
            if self.networks.len() >= NETWORKS_MAX {
                return &mut self.others;
            }
        }
        self.networks.entry(network).or_insert(Failures { since: now, count: 0 })
    }
}

impl Failures {
    fn are_over(&self, now: Instant) -> bool {
        now >= self.since + WINDOW
    }
}

/// Who has one address of IPv6 has 2⁶⁴ of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time;

    fn from(address: &str) -> PeerIp {
        Some(address.parse().unwrap())
    }

    fn lock_out(tries: &Tries, from: PeerIp) {
        for _ in 0..FAILURES_MAX {
            assert_eq!(tries.judge(from, false), Judged::Wrong);
        }
        assert!(matches!(tries.judge(from, true), Judged::Later(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn after_ten_wrong_tokens_the_right_one_waits_for_the_end_of_the_minute() {
        let (tries, here) = (Tries::default(), from("192.0.2.1"));
        assert_eq!(tries.judge(here, true), Judged::Right);
        time::advance(WINDOW).await;
        assert_eq!(tries.judge(here, false), Judged::Wrong);
        time::advance(Duration::from_secs(20)).await;
        for _ in 1..FAILURES_MAX {
            assert_eq!(tries.judge(here, false), Judged::Wrong);
        }
        for is_right in [true, false] {
            assert_eq!(tries.judge(here, is_right), Judged::Later(Duration::from_secs(40)));
        }
        time::advance(Duration::from_millis(39_999)).await;
        assert_eq!(tries.judge(here, true), Judged::Later(Duration::from_millis(1)));
        time::advance(Duration::from_millis(1)).await;
        assert_eq!(tries.judge(here, true), Judged::Right);
    }

    #[tokio::test(start_paused = true)]
    async fn a_right_token_now_and_then_does_not_let_guessing_go_on() {
        let (tries, here) = (Tries::default(), from("192.0.2.1"));
        for _ in 0..FAILURES_MAX {
            assert_eq!(tries.judge(here, true), Judged::Right);
            assert_eq!(tries.judge(here, false), Judged::Wrong);
        }
        assert!(matches!(tries.judge(here, true), Judged::Later(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stranger_locks_out_its_own_network_and_no_other() {
        let tries = Tries::default();
        lock_out(&tries, from("2001:db8::1"));
        assert!(matches!(tries.judge(from("2001:db8::ffff:2"), true), Judged::Later(_)));
        assert_eq!(tries.judge(from("2001:db8:0:1::1"), true), Judged::Right);
        lock_out(&tries, from("192.0.2.1"));
        assert!(matches!(tries.judge(from("::ffff:192.0.2.1"), true), Judged::Later(_)));
        assert_eq!(tries.judge(from("192.0.2.2"), true), Judged::Right);
        assert_eq!(tries.judge(None, true), Judged::Right);
        lock_out(&tries, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_guesser_with_many_addresses_fills_no_memory() {
        let tries = Tries::default();
        let address = |n: u32| Some(IpAddr::from(n.to_be_bytes()));
        let known = u32::try_from(NETWORKS_MAX).unwrap();
        for n in 0..known {
            assert_eq!(tries.judge(address(n), false), Judged::Wrong);
        }
        for n in known..known + FAILURES_MAX {
            assert_eq!(tries.judge(address(n), false), Judged::Wrong);
        }
        assert!(matches!(tries.judge(address(known + FAILURES_MAX), true), Judged::Later(_)));
        assert_eq!(tries.judge(address(0), true), Judged::Right, "it has its own count");
        assert_eq!(tries.0.lock().unwrap().networks.len(), NETWORKS_MAX);
        time::advance(WINDOW).await;
        assert_eq!(tries.judge(address(known), true), Judged::Right);
        assert_eq!(tries.0.lock().unwrap().networks.len(), 1);
    }
}
