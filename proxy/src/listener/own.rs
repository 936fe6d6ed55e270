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
        atomic::{AtomicBool, Ordering},
    },
};

/// No listener has this place, so no listener's list of trusted peers is about it.
const NO_LISTENER: usize = usize::MAX;

/// One call of our own.
#[derive(Debug, Default)]
pub(crate) struct Own {
    kept: AtomicBool,
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
