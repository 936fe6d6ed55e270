//! The closed sets of label values. Text a caller controls never becomes a
//! label, or a caller could fill our memory and the scraper's.

/// An enum whose variants are the only values of one label.
macro_rules! closed {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $label:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $variant),+ }

        impl $name {
            /// Every value, in the order of [`Self::place`].
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The value as it stands in the metric text.
            pub fn label(self) -> &'static str {
                match self { $(Self::$variant => $label),+ }
            }

            /// The index in [`Self::ALL`]: tables of handles are flat arrays.
            pub fn place(self) -> usize {
                self as usize
            }
        }
    };
}

closed! {
    /// How the cache answered a call.
    CacheOutcome {
        Hit = "hit",
        /// Answered with an entry past its freshness.
        Stale = "stale",
        /// Answered with the answer another call was already fetching.
        Collapsed = "collapsed",
        Miss = "miss",
        /// The cache was not asked.
        Bypass = "bypass",
    }
}

closed! {
    /// The tier that answered.
    TierLabel {
        None = "none",
        Memory = "memory",
        Redis = "redis",
        Memcached = "memcached",
        Postgres = "postgres",
        Disk = "disk",
    }
}

closed! {
    /// Why Tollgate called by itself.
    OwnPurpose {
        Warm = "warm",
        Refresh = "refresh",
        Prefetch = "prefetch",
    }
}

closed! {
    /// What came of a call of Tollgate's own.
    OwnOutcome {
        /// It was there, or on its way.
        Hit = "hit",
        Stored = "stored",
        /// Answered, and not kept.
        NotStored = "not_stored",
        Failed = "failed",
    }
}

closed! {
    /// What became of an event that said that something has changed.
    EventOutcome {
        Purged = "purged",
        /// It is about nothing that a rule names.
        Nothing = "nothing",
        /// It cannot be read.
        Unclear = "unclear",
        /// Beyond the source's rate, and refused.
        Limited = "limited",
        /// Some may not have been heard.
        Lost = "lost",
        /// It is about more than can be named, or by a name that cannot be: treated as lost.
        Unnamed = "unnamed",
    }
}

closed! {
    /// What became of a caller's word that an answer is bad.
    VoteOutcome {
        Counted = "counted",
        /// Of who may, and beyond how often.
        Limited = "limited",
        /// Nothing was held that it could be about.
        Nothing = "nothing",
        /// Of who may not.
        Refused = "refused",
    }
}

closed! {
    /// How an item of a call with many was answered.
    ItemOutcome {
        /// From the cache, or by the same item of its own call.
        Hit = "hit",
        /// By the upstream.
        Miss = "miss",
        /// By the upstream, which was asked for the whole call after its answers to the items that
        /// were missing did not fit those that were there.
        Unfit = "unfit",
    }
}

closed! {
    /// What became of a call's claim to a class.
    ClaimOutcome {
        Obeyed = "obeyed",
        /// Its caller may be of no more important class.
        Lowered = "lowered",
        /// The route names no class for it.
        Unknown = "unknown",
        /// Of who is not believed.
        Untrusted = "untrusted",
    }
}

closed! {
    /// What a check of a hit against the upstream came to.
    ShadowOutcome {
        Same = "same",
        Differs = "differs",
        /// One of the two cannot be read.
        Unread = "unread",
        /// No whole answer came that would be kept.
        Failed = "failed",
    }
}

closed! {
    /// Why the head of an answer keeps it from being kept, in content mode.
    NotKept {
        /// Its `vary` names a field that no key has.
        Vary = "vary",
        NoStore = "no_store",
        /// It has a `content-encoding` that was not asked for.
        Encoded = "encoded",
        /// A rule would have to read it, and nobody can.
        Unread = "unread",
    }
}

closed! {
    /// Which part of a budget for asking ahead is spent.
    BudgetLabel {
        /// Of this minute.
        Calls = "calls",
        /// Of this hour.
        Money = "money",
    }
}

closed! {
    /// What became of an answer that was asked for ahead.
    PrefetchOutcome {
        /// Somebody asked for it in time.
        Used = "used",
        Wasted = "wasted",
        /// No answer came, or none that is kept.
        Failed = "failed",
    }
}

closed! {
    /// How a call's wait in the queue ended.
    QueueOutcome {
        Served = "served",
        /// Refused: full, waited too long, or too late.
        Shed = "shed",
        /// The caller left.
        Cancelled = "cancelled",
    }
}

closed! {
    /// Kinds of tokens; disjoint: no token counts in two. As `tollgate_core::usage::Usage`.
    TokenKind {
        Input = "input",
        CachedInput = "cached_input",
        CacheWrite = "cache_write",
        CacheWrite1h = "cache_write_1h",
        AudioInput = "audio_input",
        Output = "output",
        Reasoning = "reasoning",
        AudioOutput = "audio_output",
    }
}

closed! {
    /// What money was spent on. As `tollgate_core::price::Cost`, and our own resources.
    CostCategory {
        Input = "input",
        CachedInput = "cached_input",
        CacheWrite = "cache_write",
        Output = "output",
        /// A fixed price per call.
        Request = "request",
        /// Busy time of the operator's own resources.
        Compute = "compute",
    }
}

closed! {
    /// Why a call cost nothing.
    SavedHow {
        Hit = "hit",
        Stale = "stale",
        Collapsed = "collapsed",
    }
}

/// The reasons of refusal of the contract's §4 that this version can give;
/// a reason that is not listed counts as the last one.
pub const REASONS: &[&str] = &[
    "no_route",
    "bad_request",
    "body_too_large",
    "headers_too_large",
    "unauthenticated",
    "forbidden",
    "method_not_allowed",
    "request_timeout",
    "queue_full",
    "pushed_out",
    "queue_timeout",
    "deadline_unmeetable",
    "upstream_timeout",
    "not_cached",
    "upstream_unreachable",
    "upstream_reset",
    "upstream_protocol",
    "breaker_open",
    "no_healthy_endpoint",
    "draining",
    "preempted",
    "memory",
    "internal",
    "other",
];

/// The index of `reason` in [`REASONS`].
pub(super) fn reason_place(reason: &str) -> usize {
    REASONS.iter().position(|known| *known == reason).unwrap_or(REASONS.len() - 1)
}

/// The status codes with a series of their own; sorted.
const CODES: &[u16] = &[
    101, 200, 201, 202, 203, 204, 206, 207, 300, 301, 302, 303, 304, 307, 308, 400, 401, 402, 403,
    404, 405, 406, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 421, 422, 424, 425, 426, 428,
    429, 431, 451, 499, 500, 501, 502, 503, 504, 505, 507, 508, 511, 529,
];
/// Where the rest goes: an upstream may invent codes, but not series.
const REST: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// How many values the label `code` can have.
pub(super) const CODE_PLACES: usize = CODES.len() + REST.len();

/// The place of a status code among the values of `code`; 0 = no answer was begun.
pub(super) fn code_place(code: u16) -> usize {
    CODES.binary_search(&code).unwrap_or_else(|_| {
        CODES.len()
            + Some(usize::from(code / 100)).filter(|hundred| *hundred < REST.len()).unwrap_or(0)
    })
}

/// The label of a place.
pub(super) fn code_label(place: usize) -> String {
    match CODES.get(place) {
        Some(code) => code.to_string(),
        None => REST.get(place.saturating_sub(CODES.len())).copied().unwrap_or("none").to_owned(),
    }
}
