//! One fill per fleet: before a leader asks the upstream, it asks Redis whether another instance
//! does already, and waits for that one's answer.
//!
//! It happens before the call queues: who waits here holds no permit and no place. Who leads in this
//! instance waits for all who follow it; if it leaves, one of them takes its place.

use super::Fetch;
use crate::cache::{self, Hit, Question};
use tollgate_cache::shared::{Lease, Step};

/// What came of it.
pub(super) enum Turn {
    /// The other's answer.
    Found(Hit),
    /// Ask the upstream: for the fleet, where there is a lease.
    Lead(Box<Question>, Option<Lease>),
}

/// Waits until this call may ask the upstream, or need not.
pub(super) async fn turn(fetch: &Fetch, mut question: Box<Question>) -> Turn {
    let Some(mut turn) = cache::turn(fetch, &question) else {
        return Turn::Lead(question, None);
    };
    if question.is_fresh() {
        // It waits for nobody, and those who may be given its answer need not ask as well.
        return Turn::Lead(question, turn.leads_anew().await);
    }
    loop {
        let (version, lease) = match turn.next().await {
            Step::Lead(lease) => return Turn::Lead(question, lease),
            Step::Look { version, lease } => (version, lease),
        };
        match cache::look_again(fetch, question, version).await {
            Ok(hit) => {
                turn.found();
                return Turn::Found(hit);
            }
            Err(same) => question = same,
        }
        if lease.is_some() {
            turn.leads();
            return Turn::Lead(question, lease);
        }
    }
}
