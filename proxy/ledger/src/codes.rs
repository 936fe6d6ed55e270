//! Closed lists of what a record can say in one byte, with their names.
//!
//! The byte is on disk, so a number is never used twice: append, do not reorder.

macro_rules! codes {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$about:meta])* $variant:ident = $code:literal $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$about])* $variant,)* }

        impl $name {
            /// Every value, in the order of the codes.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The byte on disk.
            pub const fn code(self) -> u8 {
                match self { $(Self::$variant => $code,)* }
            }

            /// `None` for a byte that a newer version wrote.
            pub const fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }

            /// The word in reports, metrics and headers.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

codes! {
    /// What the cache did for a call.
    pub enum CacheOutcome {
        Hit = 0 "hit",
        /// Answered from an entry past its time.
        Stale = 1 "stale",
        /// Answered by another caller's fill.
        Collapsed = 2 "collapsed",
        Miss = 3 "miss",
        /// The cache was not asked.
        Bypass = 4 "bypass",
        /// Some of its items were answered from the cache, the rest by the upstream.
        Partial = 5 "partial",
    }
}

impl CacheOutcome {
    /// Whether the call was answered without an upstream call of its own.
    pub const fn is_hit(self) -> bool {
        match self {
            Self::Hit | Self::Stale | Self::Collapsed => true,
            Self::Miss | Self::Bypass | Self::Partial => false,
        }
    }
}

codes! {
    /// The tier that answered.
    pub enum CacheTier {
        None = 0 "none",
        Memory = 1 "memory",
        Redis = 2 "redis",
        Memcached = 3 "memcached",
        Disk = 4 "disk",
        Postgres = 5 "postgres",
    }
}

codes! {
    /// How much the token counts of a record can be believed.
    pub enum Quality {
        /// The upstream said them.
        Reported = 0 "reported",
        /// The stream was cut: what was seen so far.
        Partial = 1 "partial",
        /// Computed from bytes, for want of a report.
        Estimated = 2 "estimated",
        /// The call has no tokens (not a model call, or refused).
        Absent = 3 "absent",
        Unknown = 4 "unknown",
    }
}

codes! {
    /// Why a call did not go the plain way; the words of the contract's refusal table and a few beside.
    pub enum Reason {
        /// Nothing to explain.
        None = 0 "none",
        NoRoute = 1 "no_route",
        BadRequest = 2 "bad_request",
        BodyTooLarge = 3 "body_too_large",
        HeadersTooLarge = 4 "headers_too_large",
        Unauthenticated = 5 "unauthenticated",
        Forbidden = 6 "forbidden",
        MethodNotAllowed = 7 "method_not_allowed",
        RequestTimeout = 8 "request_timeout",
        OverBudget = 9 "over_budget",
        RateLimited = 10 "rate_limited",
        QueueFull = 11 "queue_full",
        PushedOut = 12 "pushed_out",
        QueueTimeout = 13 "queue_timeout",
        DeadlineUnmeetable = 14 "deadline_unmeetable",
        UpstreamTimeout = 15 "upstream_timeout",
        NotCached = 16 "not_cached",
        UpstreamUnreachable = 17 "upstream_unreachable",
        UpstreamReset = 18 "upstream_reset",
        UpstreamProtocol = 19 "upstream_protocol",
        BreakerOpen = 20 "breaker_open",
        NoHealthyEndpoint = 21 "no_healthy_endpoint",
        Draining = 22 "draining",
        Memory = 23 "memory",
        Preempted = 24 "preempted",
        Internal = 25 "internal",
        /// The caller hung up.
        DownstreamGone = 26 "downstream_gone",
        /// The process died before the call ended; the record was made at the next start.
        ProcessDied = 27 "process_died",
        /// Not one of these (or written by a newer version).
        Other = 28 "other",
    }
}

impl Reason {
    /// The reason of that name; [`Reason::Other`] for a word that is not listed.
    pub fn from_name(name: &str) -> Self {
        Self::ALL.iter().copied().find(|reason| reason.name() == name).unwrap_or(Self::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_comes_back_as_what_it_was() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_code(reason.code()), Some(*reason));
            assert_eq!(Reason::from_name(reason.name()), *reason);
        }
        for outcome in CacheOutcome::ALL {
            assert_eq!(CacheOutcome::from_code(outcome.code()), Some(*outcome));
        }
        assert_eq!(Quality::from_code(200), None);
    }
}
