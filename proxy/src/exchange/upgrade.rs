//! WebSockets: the one upgrade that is forwarded.
//!
//! A 101 is taken only if the caller asked for one and its request was sent on; from
//! then on bytes pass both ways, and the call goes on until one side ends.

use crate::{head, relay::Debts};
use http::{HeaderMap, HeaderValue, header, request};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_util::sync::CancellationToken;

/// The upgrade that a request asks for, if it is one that is forwarded.
pub(super) fn asked(head: &mut request::Parts) -> Option<OnUpgrade> {
    if !head::asks_for_websocket(head) {
        return None;
    }
    head.extensions.remove::<OnUpgrade>()
}

/// Says in a head that was cleaned of hop-by-hop fields that the connection changes.
pub(super) fn say(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// Passes bytes until one side ends or the process cuts what is left.
pub(super) async fn tunnel(
    downstream: OnUpgrade,
    upstream: OnUpgrade,
    debts: Debts,
    cut: CancellationToken,
) {
    let passing = async {
        let (downstream, upstream) = tokio::try_join!(downstream, upstream)?;
        let (mut downstream, mut upstream) = (TokioIo::new(downstream), TokioIo::new(upstream));
        let passed = tokio::io::copy_bidirectional(&mut downstream, &mut upstream).await;
        Ok::<_, hyper::Error>(passed.unwrap_or_default())
    };
    let passed = tokio::select! {
        passed = passing => passed,
        () = cut.cancelled() => Ok((0, 0)),
    };
    match passed {
        Ok((bytes_in, bytes_out)) => debts.tunnelled(bytes_in, bytes_out),
        Err(error) => tracing::debug!(%error, "a websocket was not opened"),
    }
}
