//! What a call costs: the price book, and one model's price applied to its usage.
//!
//! The book is compiled in (`data/prices.csv`), and files of the operator's own
//! lie over it. Rows carry the day they come into force, and a call is priced by
//! what was in force when it started: a new price never rewrites history.
//!
//! # Which row
//!
//! 1. a row with exactly the model's name, or with `provider/name`;
//! 2. the name without what stands before its first `/` (`openai/gpt-4o` → `gpt-4o`);
//! 3. the name without a date at its end (`gpt-4o-mini-2024-07-18` → `gpt-4o-mini`;
//!    also `…-20250929`, `…-2025-09`, `…@20250929`). Nothing but a date: a
//!    `-finetune` or `-audio` is another product with another price.
//!
//! Steps 1 and 2 are asked of the operator's files first, then of the built-in
//! book; only then step 3, in the same order. Within a name the latest
//! `effective_from` not after the call's start is taken; the operator's rows that
//! are not in force yet leave the built-in price standing. Of several providers
//! in one file that share a name, the first keeps the bare name and the others
//! answer to `provider/name`.
//!
//! # What is missing
//!
//! No row is no price (`None`: the call is *unpriced*, which is not free). A price
//! missing inside a row is never zero either: cached input, cache writes and audio
//! fall back to the price of the plain tokens they are, because a provider that
//! publishes no discount gives none. `0` must be written to be meant.
//!
//! Not in this version: prices by service tier (batch, flex, priority) and by
//! length of the context. Such calls cost the standard price here, which for
//! `priority` and for very long prompts is less than the provider's bill; columns
//! for them are refused by name.

mod date;
mod file;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::money::{PicoUsd, PicoUsdPerToken};
use crate::usage::Usage;
pub use file::Problem;

const BUILTIN: &str = include_str!("../data/prices.csv");

/// Prices by model and day. Share it in an `Arc`; a reload builds a new one.
#[derive(Clone, Debug, Default)]
pub struct PriceBook {
    own: Layer,
    builtin: Layer,
}

/// One model's price from one day on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    model: Box<str>,
    provider: Box<str>,
    /// Milliseconds since 1970; `i64::MIN` for always.
    effective_from_unix_ms: i64,
    charge: Charge,
    id: PriceId,
}

/// Names a price by its content: the same row has the same id in every process,
/// and any change of the row changes it. For stamping usage records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PriceId(pub u64);

/// What one call cost, by category, exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Text and audio the model read afresh.
    pub input: PicoUsd,
    pub cached_input: PicoUsd,
    /// Both lifetimes of the provider's prompt cache.
    pub cache_write: PicoUsd,
    /// Text, reasoning and audio the model wrote.
    pub output: PicoUsd,
    /// A fixed price per call.
    pub request: PicoUsd,
}

/// How a row charges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Charge {
    Tokens(Rates),
    Request(PicoUsd),
}

/// Every fallback is already applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Rates {
    input: PicoUsdPerToken,
    cached_input: PicoUsdPerToken,
    cache_write: PicoUsdPerToken,
    cache_write_1h: PicoUsdPerToken,
    audio_input: PicoUsdPerToken,
    output: PicoUsdPerToken,
    audio_output: PicoUsdPerToken,
}

/// Rows of one authority, by every name they answer to; oldest first.
#[derive(Clone, Debug, Default)]
struct Layer {
    by_name: HashMap<Box<str>, Vec<Arc<Price>>>,
}

impl PriceBook {
    /// The prices Tollgate comes with.
    pub fn builtin() -> Self {
        // That every row is good is a test's business, not a start's.
        let (prices, _) = file::read("prices.csv (built in)", BUILTIN);
        let mut builtin = Layer::default();
        builtin.add(prices);
        Self { own: Layer::default(), builtin }
    }

    /// Lays an operator's file over what is there; `name` is for the problems'
    /// texts. Later files win over earlier ones where model, provider and day are
    /// the same. With any error nothing is taken; otherwise says what looks like
    /// a slip of the unit (see [`Problem`]).
    pub fn with_csv(&mut self, name: &str, text: &str) -> Result<Vec<Problem>, Vec<Problem>> {
        let (prices, problems) = file::read(name, text);
        if problems.iter().any(|problem| !problem.is_warning) {
            return Err(problems.into_iter().filter(|problem| !problem.is_warning).collect());
        }
        self.own.add(prices);
        Ok(problems)
    }

    /// Whether `name` stands in the book, as it is written: one of a bounded set.
    pub fn names(&self, name: &str) -> bool {
        [&self.own, &self.builtin].iter().any(|layer| layer.by_name.contains_key(name))
    }

    /// The price of `model` for a call that started at `at_unix_ms`. `None` is
    /// unpriced. A few hash look-ups: call it once per call.
    pub fn resolve(&self, model: &str, at_unix_ms: i64) -> Option<&Arc<Price>> {
        let layers = [&self.own, &self.builtin];
        let dateless = without_date(model);
        std::iter::once(model).chain(dateless).find_map(|name| {
            layers.iter().find_map(|layer| {
                let bare = name.split_once('/').map(|(_, bare)| bare);
                layer.at(name, at_unix_ms).or_else(|| layer.at(bare?, at_unix_ms))
            })
        })
    }
}

impl Price {
    /// What every call costs, if that is how the row charges.
    pub fn per_request(&self) -> Option<PicoUsd> {
        match &self.charge {
            Charge::Request(fixed) => Some(*fixed),
            Charge::Tokens(_) => None,
        }
    }

    /// The name in the book: one of a bounded set, so fit for a metric's label.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Empty where the file did not say.
    pub fn provider(&self) -> &str {
        &self.provider
    }

    pub fn id(&self) -> PriceId {
        self.id
    }

    /// What `usage` costs. Reasoning is priced as the output it is part of.
    pub fn cost(&self, usage: &Usage) -> Cost {
        self.cost_of(usage, 1)
    }

    /// What an answer costs that the provider charges as so many requests.
    pub fn cost_of(&self, usage: &Usage, requests: u64) -> Cost {
        match &self.charge {
            Charge::Tokens(rates) => rates.cost(usage),
            Charge::Request(fixed) => Cost { request: fixed.times(requests), ..Cost::default() },
        }
    }
}

impl Cost {
    pub fn total(&self) -> PicoUsd {
        self.input + self.cached_input + self.cache_write + self.output + self.request
    }
}

impl Rates {
    fn cost(&self, usage: &Usage) -> Cost {
        Cost {
            input: self.input.cost(usage.input) + self.audio_input.cost(usage.audio_input),
            cached_input: self.cached_input.cost(usage.cached_input),
            cache_write: self.cache_write.cost(usage.cache_write)
                + self.cache_write_1h.cost(usage.cache_write_1h),
            output: self.output.cost(usage.output.saturating_add(usage.reasoning))
                + self.audio_output.cost(usage.audio_output),
            request: PicoUsd::ZERO,
        }
    }
}

impl Layer {
    /// `prices` in the order of their file.
    fn add(&mut self, prices: Vec<Price>) {
        for price in prices {
            let price = Arc::new(price);
            if !price.provider.is_empty() {
                self.put(format!("{}/{}", price.provider, price.model).into(), &price);
            }
            self.put(price.model.clone(), &price);
        }
    }

    fn put(&mut self, name: Box<str>, price: &Arc<Price>) {
        let rows = self.by_name.entry(name).or_default();
        // The bare name belongs to the provider that came first.
        if rows.first().is_some_and(|first| first.provider != price.provider) {
            return;
        }
        let from = price.effective_from_unix_ms;
        match rows.binary_search_by_key(&from, |row| row.effective_from_unix_ms) {
            Ok(same) => {
                if let Some(row) = rows.get_mut(same) {
                    *row = Arc::clone(price);
                }
            }
            Err(place) => rows.insert(place, Arc::clone(price)),
        }
    }

    fn at(&self, name: &str, at_unix_ms: i64) -> Option<&Arc<Price>> {
        let rows = self.by_name.get(name)?;
        rows.iter().rev().find(|row| row.effective_from_unix_ms <= at_unix_ms)
    }
}

/// Sixteen hex digits.
impl fmt::Display for PriceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// `name` without a date of this century at its end, if it has one.
fn without_date(name: &str) -> Option<&str> {
    let cut = name.rmatch_indices(['-', '@']).find_map(|(at, _)| {
        let (model, date) = name.split_at_checked(at)?;
        date::is_suffix(date.get(1..)?).then_some(model)
    });
    cut.filter(|model| !model.is_empty())
}

#[cfg(test)]
mod tests;
