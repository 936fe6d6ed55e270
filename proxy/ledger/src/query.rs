//! What can be asked of the ledger: sums by dimensions over a time, in steps.

use crate::{
    codes::{CacheOutcome, CacheTier, Quality, Reason},
    dimension::{DimId, OTHER_TEXT},
    error::LedgerError,
    record::{Dims, UsageRecord},
    sums::{ROLLUP_MS, RollupKey, Sums},
};

/// Something rows can be kept apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    Route,
    Tenant,
    User,
    Tier,
    Project,
    Business,
    Class,
    Model,
    Version,
    /// The status the caller was answered.
    Status,
    Reason,
    /// What the cache did.
    Cache,
    /// The tier that answered.
    CacheTier,
    Quality,
}

const NAMES: &str = "route, tenant, user, tier, project, business, class, model, version, \
                     status, reason, cache, cache_tier, quality";

impl Dim {
    pub const ALL: [Self; 14] = [
        Self::Route,
        Self::Tenant,
        Self::User,
        Self::Tier,
        Self::Project,
        Self::Business,
        Self::Class,
        Self::Model,
        Self::Version,
        Self::Status,
        Self::Reason,
        Self::Cache,
        Self::CacheTier,
        Self::Quality,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Route => "route",
            Self::Tenant => "tenant",
            Self::User => "user",
            Self::Tier => "tier",
            Self::Project => "project",
            Self::Business => "business",
            Self::Class => "class",
            Self::Model => "model",
            Self::Version => "version",
            Self::Status => "status",
            Self::Reason => "reason",
            Self::Cache => "cache",
            Self::CacheTier => "cache_tier",
            Self::Quality => "quality",
        }
    }

    /// `"model,user"`; the empty text is no dimension.
    ///
    /// # Errors
    /// A name that is none, or that comes twice.
    pub fn parse_list(names: &str) -> Result<Vec<Self>, LedgerError> {
        let mut dims = Vec::new();
        if names.trim().is_empty() {
            return Ok(dims);
        }
        for name in names.split(',').map(str::trim) {
            let dim = Self::ALL.into_iter().find(|dim| dim.name() == name).ok_or_else(|| {
                LedgerError::UnknownDimension { name: name.to_owned(), known: NAMES }
            })?;
            if dims.contains(&dim) {
                return Err(LedgerError::RepeatedDimension { name: dim.name() });
            }
            dims.push(dim);
        }
        Ok(dims)
    }

    /// Whether the rollups know it.
    fn in_rollups(self) -> bool {
        match self {
            Self::Route
            | Self::Tenant
            | Self::Tier
            | Self::Project
            | Self::Business
            | Self::Class
            | Self::Model
            | Self::Version
            | Self::Cache
            | Self::CacheTier => true,
            Self::User | Self::Status | Self::Reason | Self::Quality => false,
        }
    }
}

/// Sums over calls that *started* in `from_ms..to_ms` (Unix milliseconds).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageQuery {
    pub from_ms: i64,
    pub to_ms: i64,
    pub by: Vec<Dim>,
    /// Rows per step of so many milliseconds, counted from `from_ms`.
    pub step_ms: Option<i64>,
}

/// Sums of the calls that have these words in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageRow {
    /// Where the step begins, when the query has steps.
    pub at_ms: Option<i64>,
    /// One word per dimension of the query, in its order; empty = the calls have none.
    pub dims: Vec<String>,
    pub sums: Sums,
}

/// Steps in one answer.
const STEPS_MAX: i64 = 10_000;

/// Part of the time of a query, and where its sums are exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) from_ms: i64,
    pub(crate) to_ms: i64,
    pub(crate) rollups: bool,
}

impl UsageQuery {
    pub(crate) fn check(&self) -> Result<(), LedgerError> {
        let length = self.to_ms.saturating_sub(self.from_ms);
        match self.step_ms {
            Some(step) if step < 1 || length / step > STEPS_MAX => {
                Err(LedgerError::BadStep { rows_max: STEPS_MAX })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whole 5 minutes from the rollups where these know the answer, the rest from
    /// the records.
    pub(crate) fn pieces(&self) -> Vec<Piece> {
        let Self { from_ms, to_ms, .. } = *self;
        let piece = |from_ms, to_ms, rollups| Piece { from_ms, to_ms, rollups };
        let first = from_ms.saturating_add(ROLLUP_MS - 1).div_euclid(ROLLUP_MS) * ROLLUP_MS;
        let last = to_ms.div_euclid(ROLLUP_MS) * ROLLUP_MS;
        let steps_fit = self.step_ms.is_none_or(|step| step % ROLLUP_MS == 0 && first == from_ms);
        let known = self.by.iter().all(|dim| dim.in_rollups());
        let pieces = if known && steps_fit && first < last {
            vec![piece(from_ms, first, false), piece(first, last, true), piece(last, to_ms, false)]
        } else {
            vec![piece(from_ms, to_ms, false)]
        };
        pieces.into_iter().filter(|piece| piece.from_ms < piece.to_ms).collect()
    }

    /// Where `at_ms` falls: the number of its step.
    pub(crate) fn step(&self, at_ms: i64) -> u32 {
        let step = self.step_ms.map_or(0, |step| (at_ms - self.from_ms) / step);
        u32::try_from(step).unwrap_or(0)
    }
}

/// What a record or a rollup says about every dimension.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    dims: Dims,
    outcome: CacheOutcome,
    tier: CacheTier,
    /// Status, reason, quality; collapsed calls have none.
    rest: Option<(u16, Reason, Quality)>,
}

/// In place of a code, for calls whose detail was given up.
const NOT_KEPT: u32 = u32::MAX;

impl From<&UsageRecord> for Facts {
    fn from(record: &UsageRecord) -> Self {
        Self {
            dims: record.dims,
            outcome: record.outcome,
            tier: record.tier,
            rest: Some((record.status, record.reason, record.quality)),
        }
    }
}

impl Facts {
    pub(crate) fn of_key(key: &[u8]) -> Self {
        let (dims, outcome, tier) = RollupKey::parts(key);
        Self { dims, outcome, tier, rest: None }
    }

    /// The word's number, or the code.
    pub(crate) fn number(&self, dim: Dim) -> u32 {
        let word = |id: DimId| id.0;
        match dim {
            Dim::Route => word(self.dims.route),
            Dim::Tenant => word(self.dims.tenant),
            Dim::User => word(self.dims.user),
            Dim::Tier => word(self.dims.tier),
            Dim::Project => word(self.dims.project),
            Dim::Business => word(self.dims.business),
            Dim::Class => word(self.dims.class),
            Dim::Model => word(self.dims.model),
            Dim::Version => word(self.dims.version),
            Dim::Cache => u32::from(self.outcome.code()),
            Dim::CacheTier => u32::from(self.tier.code()),
            Dim::Status => self.rest.map_or(NOT_KEPT, |(status, ..)| u32::from(status)),
            Dim::Reason => self.rest.map_or(NOT_KEPT, |(_, reason, _)| reason.code().into()),
            Dim::Quality => self.rest.map_or(NOT_KEPT, |(.., quality)| quality.code().into()),
        }
    }
}

/// The text of a number that [`Facts::number`] gave; `word` looks words up.
pub(crate) fn text(
    dim: Dim,
    number: u32,
    word: impl FnOnce(DimId) -> Result<String, LedgerError>,
) -> Result<String, LedgerError> {
    let code = u8::try_from(number).ok();
    let name = match dim {
        Dim::Cache => code.and_then(CacheOutcome::from_code).map(CacheOutcome::name),
        Dim::CacheTier => code.and_then(CacheTier::from_code).map(CacheTier::name),
        Dim::Reason => code.and_then(Reason::from_code).map(Reason::name),
        Dim::Quality => code.and_then(Quality::from_code).map(Quality::name),
        Dim::Status => {
            return Ok(match number {
                0 => "unknown".to_owned(),
                NOT_KEPT => OTHER_TEXT.to_owned(),
                status => status.to_string(),
            });
        }
        Dim::Route
        | Dim::Tenant
        | Dim::User
        | Dim::Tier
        | Dim::Project
        | Dim::Business
        | Dim::Class
        | Dim::Model
        | Dim::Version => return word(DimId(number)),
    };
    Ok(name.unwrap_or(OTHER_TEXT).to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_cover_the_time_once_and_only_whole_windows_come_from_rollups(
            from_ms in 0..4_000_000i64, length in 0..4_000_000i64, step in prop::option::of(1..900_000i64),
        ) {
            let query = UsageQuery { from_ms, to_ms: from_ms + length, by: vec![Dim::Model], step_ms: step };
            let pieces = query.pieces();
            let mut at = from_ms;
            for piece in &pieces {
                prop_assert_eq!(piece.from_ms, at);
                prop_assert!(!piece.rollups || (piece.from_ms % ROLLUP_MS == 0 && piece.to_ms % ROLLUP_MS == 0));
                at = piece.to_ms;
            }
            prop_assert_eq!(at, from_ms + length);
        }
    }

    #[test]
    fn dimensions_are_read_by_name_and_an_unknown_one_is_refused_with_the_list() {
        assert_eq!(Dim::parse_list("model, user").unwrap(), [Dim::Model, Dim::User]);
        assert_eq!(Dim::parse_list("").unwrap(), []);
        for (names, part) in [("model,user,model", "twice"), ("model,", "\"\""), (",", "\"\"")] {
            let error = Dim::parse_list(names).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let error = Dim::parse_list("modle").unwrap_err().to_string();
        assert!(error.contains("modle") && error.contains("cache_tier"), "{error}");
        for dim in Dim::ALL {
            assert!(NAMES.split(", ").any(|name| name == dim.name()));
        }
    }
}
