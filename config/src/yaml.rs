//! From text to a tree, strictly: YAML 1.2, one document, nothing twice, nothing big.
//!
//! YAML has traps that a configuration must not fall into: `on` and `no` are words
//! here, not booleans; merge keys (`<<`), duplicate keys and own tags are errors; what anchors
//! may blow up to is bounded. Errors of this stage have no path yet, so they name
//! line and column. There is at most one: after it the text has no known meaning.

use crate::{defaults::FILE_BYTES_MAX, problem::Problem};
use serde_json::Value;
use serde_saphyr::{
    MessageFormatter, Options, UserMessageFormatter,
    options::{DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy},
};

/// Deep enough for every key of the schema, twice; a recursive walk may trust it.
const DEPTH_MAX: usize = 32;

/// An empty document is an empty tree, not an error: what is missing is said later.
pub(crate) fn read(text: &str) -> Result<Value, Problem> {
    if text.len() > FILE_BYTES_MAX {
        let message = format!("longer than {FILE_BYTES_MAX} bytes; is it the right file?");
        return Err(Problem { path: "file".to_owned(), message });
    }
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| problem(&error))
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            max_documents: 16, // two are refused in plainer words than a budget has
            max_nodes: 100_000,
            max_events: 300_000,
            max_anchors: 1_000,
            max_aliases: 1_000,
            max_total_scalar_bytes: 4 * FILE_BYTES_MAX,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
            max_replay_stack_depth: 8,
        },
        emit_comments: false,
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        reject_unsupported_tags: true,
        non_finite_float_policy: NonFiniteFloatPolicy::Reject,
        with_snippet: false,
    }
}

fn problem(error: &serde_saphyr::Error) -> Problem {
    let message = UserMessageFormatter.format_message(error.without_snippet());
    let message = crate::problem::printable(&message);
    let path = match error.location() {
        Some(place) => format!("line {}, column {}", place.line(), place.column()),
        None => "file".to_owned(),
    };
    Problem { path, message }
}
