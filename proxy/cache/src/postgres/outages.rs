//! What is told of a PostgreSQL that is away, and how often it is asked whether it is back.
//!
//! Each kind of failure is told once in an outage: a server that is only just starting, and then
//! refuses what it is asked for, has two things to say, and the second is the one to be mended.

use super::connect::SessionError;
use std::{
    error::Error,
    mem::{Discriminant, discriminant},
};
use tokio_postgres::error::SqlState;

/// While nothing answers, attempts come ever later, up to so many times the first interval: each
/// costs the server a process.
pub(super) const SLOWER_MAX: u32 = 16;

/// Kinds told of in one outage; a server may invent reasons.
const KINDS_MAX: usize = 16;

/// What failed and why: where the server has said it, by its code; else (no connection, no TLS, a
/// standby) in the words of who tried.
type Kind = (Discriminant<SessionError>, Option<SqlState>, Option<Box<str>>);

/// The outage that goes on, if one does.
#[derive(Debug, Default)]
pub(super) struct Outages {
    /// How many sessions there were before it.
    after: Option<u64>,
    told: Vec<Kind>,
    slower: u32,
}

impl Outages {
    /// Has a failure after `sessions` that succeeded told, with its cause, if it is news. How many
    /// times the first interval it is until the next attempt.
    pub(super) fn failed(
        &mut self,
        sessions: u64,
        error: &SessionError,
        tell: impl FnOnce(Option<String>),
    ) -> u32 {
        if self.is_news(sessions, error) {
            tell(error.source().map(cause));
        }
        self.slower
    }

    fn is_news(&mut self, sessions: u64, error: &SessionError) -> bool {
        if self.after.replace(sessions) == Some(sessions) {
            self.slower = (self.slower * 2).min(SLOWER_MAX);
        } else {
            self.slower = 1;
            self.told.clear();
        }
        let kind = kind(error);
        let is_news = self.told.len() < KINDS_MAX && !self.told.contains(&kind);
        self.told.extend(is_news.then_some(kind));
        is_news
    }
}

fn kind(error: &SessionError) -> Kind {
    let (state, words) = match error {
        SessionError::Postgres(source) | SessionError::NoTables { source, .. } => {
            let words = || cause(source).into_boxed_str();
            (source.code().cloned(), source.code().is_none().then(words))
        }
        SessionError::Timeout(_)
        | SessionError::Lost
        | SessionError::Refused
        | SessionError::ForeignTable => (None, None),
    };
    (discriminant(error), state, words)
}

/// The crate's errors say what was done, and what went wrong only one further down.
pub(super) fn cause(error: &(dyn Error + 'static)) -> String {
    error.source().map_or_else(|| error.to_string(), |deeper| format!("{error}: {deeper}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Of who connects; no server has said anything.
    async fn failure(config: &str) -> SessionError {
        let connected = tokio_postgres::connect(config, tokio_postgres::NoTls).await;
        connected.err().map(SessionError::from).unwrap()
    }

    #[tokio::test]
    async fn what_fails_on_this_side_is_told_apart() {
        let nobody = tempfile::tempdir().unwrap();
        let missing = format!("host={} user=u", nobody.path().display());
        let missing = failure(&missing).await;
        let bad = failure("host=a,b port=1,2,3 user=u").await;
        let mut outages = Outages::default();
        let mut told = Vec::new();
        for error in [&missing, &missing, &bad, &bad, &missing] {
            outages.failed(0, error, |cause| told.extend(cause));
        }
        let causes = [&missing, &bad].map(|error| cause(error.source().unwrap()));
        assert_eq!(told, causes);
    }

    #[test]
    fn each_kind_of_failure_is_told_once_in_an_outage() {
        let mut outages = Outages::default();
        let late = || SessionError::Timeout(Duration::from_secs(1));
        assert!(outages.is_news(0, &late()));
        assert!(!outages.is_news(0, &late()));
        assert!(outages.is_news(0, &SessionError::Refused), "what it says once it answers");
        assert!(!outages.is_news(0, &late()) && !outages.is_news(0, &SessionError::Refused));
        assert_eq!(outages.slower, 16);
        assert!(outages.is_news(1, &late()), "another outage");
        assert_eq!(outages.slower, 1);
    }
}
