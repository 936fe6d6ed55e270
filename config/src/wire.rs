//! How stored answers go out, after validation.

use std::{num::NonZeroU32, time::Duration};

/// In which content codings stored answers are given to callers who ask for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encodings {
    /// Best first; never empty, none twice.
    pub codings: Vec<Coding>,
    /// Of the answer as it is kept; never 0. A shorter one is given as it is.
    pub bytes_min: u64,
}

/// A content coding (RFC 9110 §8.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    Zstd,
    Br,
    Gzip,
}

impl Coding {
    /// As the file and `content-encoding` write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Br => "br",
            Self::Gzip => "gzip",
        }
    }
}

/// At what pace a stored stream is given to a caller who wants a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pacing {
    /// `None`: as it came.
    pub tokens_per_second: Option<NonZeroU32>,
    /// Of the whole stream; never zero. What would take longer goes that much faster.
    pub max: Duration,
}

impl Pacing {
    /// The times at which a stream comes are to be kept with it.
    pub fn is_original(self) -> bool {
        self.tokens_per_second.is_none()
    }
}
