//! What of the calls that ask the cache is written down, for who asks what another cache would do.

/// `cache.trace`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyTrace {
    /// Of both files together.
    pub bytes_max: u64,
    /// The part of all keys whose calls are noted, in millionths; never 0.
    pub sample_ppm: u32,
}
