//! What a failure is to those who share it, and what a caller is given of what it holds when the
//! upstream fails or there is no turn for it.
//!
//! Callers of one flight hold each its own, and may each be given it or not: a failure is told to
//! all, and each looks at what it has.

use super::{AnswerHead, ExchangeError, Failed, Landed};
use crate::{admission::Shed, cache::Question, respond, upstream::UpstreamError};
use tollgate_cache::{flight::NoHead, freshness::Trouble};

impl ExchangeError {
    /// It says something about this caller (its class, its deadline, its body), and
    /// nothing about the answer: another who asks the same should ask itself.
    pub(crate) fn is_leaders_own(&self) -> bool {
        match self {
            Self::Shed(_) | Self::Inspect(_) | Self::NotCached | Self::Internal => true,
            Self::Upstream(error) => match error {
                UpstreamError::Deadline { .. }
                | UpstreamError::DownstreamCut
                | UpstreamError::TooLarge => true,
                UpstreamError::Unreachable { .. }
                | UpstreamError::ConnectTimeout { .. }
                | UpstreamError::BreakerOpen { .. }
                | UpstreamError::Unavailable { .. }
                | UpstreamError::Reset { .. }
                | UpstreamError::Cut { .. }
                | UpstreamError::Protocol { .. }
                | UpstreamError::Unasked { .. }
                | UpstreamError::FirstByteTimeout { .. } => false,
            },
            Self::Instead(instead) => instead.is_leaders_own(),
            Self::NoRoute(_) | Self::BadHead(_) => false,
        }
    }

    /// The upstream could not be asked, or did not answer.
    pub(crate) fn is_no_answer(&self) -> bool {
        match self {
            Self::Upstream(error) => match error {
                UpstreamError::Unreachable { .. }
                | UpstreamError::ConnectTimeout { .. }
                | UpstreamError::BreakerOpen { .. }
                | UpstreamError::Unavailable { .. }
                | UpstreamError::Reset { .. }
                | UpstreamError::Cut { .. }
                | UpstreamError::Protocol { .. }
                | UpstreamError::FirstByteTimeout { .. } => true,
                UpstreamError::Deadline { .. }
                | UpstreamError::Unasked { .. }
                | UpstreamError::DownstreamCut
                | UpstreamError::TooLarge => false,
            },
            Self::NoRoute(_)
            | Self::BadHead(_)
            | Self::Inspect(_)
            | Self::NotCached
            | Self::Shed(_)
            | Self::Instead(_)
            | Self::Internal => false,
        }
    }

    /// What kept an answer from coming, where something older may be given instead.
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        let is_shed = matches!(self, Self::Shed(refused) if refused.shed != Shed::Draining);
        if is_shed { Some(Trouble::Shed) } else { self.is_no_answer().then_some(Trouble::Upstream) }
    }
}

type Head = Result<AnswerHead, NoHead<Failed>>;

/// What a follower is given in place of what came for it, or what came for it.
pub(super) fn of(head: Head, question: &Question) -> Result<Head, Landed> {
    let held = question.held();
    match &head {
        Ok(answer) => {
            let status = answer.shared.status;
            match held.and_then(|held| held.instead_of_status(status)) {
                Some(hit) => Err(Landed::Instead(Box::new(hit), None)),
                None => Ok(head),
            }
        }
        Err(NoHead::Failed(failure)) => match followed(failure, question) {
            Some(landed) => Err(landed),
            None => Ok(head),
        },
        Err(NoHead::Lead) => Ok(head),
    }
}

fn followed(failure: &Failed, question: &Question) -> Option<Landed> {
    // The leader was given what it holds; who holds nothing asks itself.
    let (trouble, why) = if matches!(**failure, ExchangeError::Instead(_)) {
        (Trouble::Upstream, None)
    } else {
        (failure.trouble()?, Some(respond::verdict(failure).reason))
    };
    match question.held().and_then(|held| held.instead(trouble, None)) {
        Some(hit) => Some(Landed::Instead(Box::new(hit), why)),
        None => why.is_none().then_some(Landed::Again),
    }
}
