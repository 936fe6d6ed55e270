//! Usage records made durable: shared mapping, SQLite, rollups, reports.
//!
//! A finished call is stored with one `memcpy` into memory that the kernel owns,
//! so that a killed process loses nothing and the request's task waits for
//! nothing. A thread of the ledger carries records on into SQLite, each once.
//!
//! ```text
//! close() ─▶ mapping (survives kill -9) ─▶ writer: disk each ≤ 2 ms ─▶ SQLite each ≤ 250 ms ─▶ Reader
//! ```
//!
//! The crate knows no HTTP exchange: it is handed finished [`UsageRecord`]s.
//! Money is in pico units of the price book's currency (1 = 10⁻¹²): `i64` in a
//! record, `i128` in a sum, and never a float.

// Words of the trade.
mod codes;
mod dimension;
mod id;
mod record;
mod sums;
mod error;
// From the request's task to the disk.
mod entry;
mod mapping;
mod overflow;
mod wake;
mod recovery;
mod batch;
mod runs;
mod store;
mod writer;
mod ledger;
// From the disk to a reader.
mod query;
mod reader;
mod decimal;
mod pages;
mod period;
mod busy;
mod compute;
mod report;

pub use codes::{CacheOutcome, CacheTier, Quality, Reason};
pub use compute::{ComputeRow, Resource, compute_cost};
pub use decimal::decimal;
pub use dimension::{DIM_TEXT_BYTES_MAX, DimId};
pub use error::LedgerError;
pub use id::mint_id;
pub use ledger::{Ledger, Options, Stats};
pub use pages::RecordView;
pub use period::{Period, Window, Zone};
pub use query::{Dim, UsageQuery, UsageRow};
pub use reader::Reader;
pub use record::{COST_CATEGORIES, Cost, Dims, OpenCall, TOKEN_KINDS, Times, Tokens, UsageRecord};
pub use report::{Report, ReportFormat, ReportQuery};
pub use sums::Sums;
pub use uuid::Uuid;
