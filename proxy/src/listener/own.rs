//! The mark of a call that nobody's connection carries: one that we make ourselves, to have an
//! answer before somebody asks for it.
//!
//! It stands where a connection's peer stands, so that such a call goes the way of all others. What
//! it says of itself is believed: an administrator wrote it, or it is a believed caller's.

use super::{Peer, Watch};
use http::HeaderValue;
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// No listener has this place, so no listener's list of trusted peers is about it.
const NO_LISTENER: usize = usize::MAX;

/// One call of our own.
#[derive(Debug, Default)]
pub(crate) struct Own {
    kept: AtomicBool,
    /// In pico-USD.
    cost: AtomicU64,
    is_unpriced: AtomicBool,
}

impl Own {
    /// Its answer has been stored.
    pub(crate) fn keep(&self) {
        self.kept.store(true, Ordering::Release);
    }

    /// Whether its answer has been stored. Final once the answer's body has ended.
    pub(crate) fn is_kept(&self) -> bool {
        self.kept.load(Ordering::Acquire)
    }

    /// Its record says that it cost so much, in pico-USD; `None`: nobody knows.
    pub(crate) fn costs(&self, pico: Option<u64>) {
        self.is_unpriced.fetch_or(pico.is_none(), Ordering::Release);
        self.cost.fetch_add(pico.unwrap_or(0), Ordering::Release);
    }

    /// What it cost, as its record says. Final once the answer's body has ended.
    pub(crate) fn cost(&self) -> Option<u64> {
        let is_unpriced = self.is_unpriced.load(Ordering::Acquire);
        (!is_unpriced).then(|| self.cost.load(Ordering::Acquire))
    }
}

impl Peer {
    /// Nobody at the other end of no connection.
    pub(crate) fn unconnected(address: IpAddr, listener: usize) -> Self {
        let shown = HeaderValue::from_str(&address.to_string());
        Self {
            address,
            forwarded_for: shown.unwrap_or(HeaderValue::from_static("unknown")),
            is_tls: false,
            listener,
            watch: Arc::new(Watch::default()),
            place: Weak::new(),
            own: None,
        }
    }

    /// Ourselves. `is_tls`: the callers who will want the answer come by https.
    pub(crate) fn ourselves(own: Arc<Own>, is_tls: bool) -> Self {
        let nobody = Self::unconnected(Ipv4Addr::LOCALHOST.into(), NO_LISTENER);
        Self { is_tls, own: Some(own), ..nobody }
    }
}
