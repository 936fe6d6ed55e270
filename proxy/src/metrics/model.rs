//! Tokens and money by model, for a bounded number of models.
//!
//! Names come from callers' bodies, so the caller of [`Models`] says which are
//! admissible, and the table ends at [`MODELS_MAX`]: what comes later is `other`.
//! Money arrives in pico-dollars and is shown in micro-dollars; the remainder is
//! carried, so that a million calls of 0.3 µ$ are 300 000 µ$ and not nothing.

use super::{
    Families,
    labels::{CostCategory, SavedHow, TokenKind},
};
use arc_swap::ArcSwap;
use prometheus::{IntCounter, IntCounterVec};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};
use tollgate_core::{
    money::{MicroUsdCarry, PicoUsd},
    price::Cost,
    usage::Usage,
};

/// How many models have series of their own.
pub const MODELS_MAX: usize = 100;
/// How many of them may be names that only answers know: the rest is kept for the
/// operator's, whatever an upstream calls itself.
pub const FOREIGN_MAX: usize = 50;
const MODEL_BYTES_MAX: usize = 128;
/// The label of every further model.
const OTHER: &str = "other";

/// What one call used and cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spending {
    /// Nothing for a call that was answered without the upstream.
    pub usage: Usage,
    /// Zero for a hit, and where the price is unknown.
    pub cost: Cost,
    /// The share of the operator's own resources.
    pub compute: PicoUsd,
    /// What the call would have cost, had it not been answered this way.
    pub saved: Option<(SavedHow, PicoUsd)>,
    /// The cost is unknown, in whole or in part.
    pub unpriced: bool,
    /// The use was not reported but estimated.
    pub estimated: bool,
}

/// Whose word a model's name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// Of the price book: one of a bounded set that the operator chose.
    Own,
    /// An answer was given under it.
    Answered,
    /// A caller said it, and nobody confirmed it.
    Asked,
}

/// The handles of one model on one route.
#[derive(Debug)]
pub struct ModelMetrics {
    tokens: Box<[Option<IntCounter>]>,
    cost: Box<[Money]>,
    saved: Box<[Money]>,
    unpriced: IntCounter,
    estimated: IntCounter,
}

/// An exact counter of money: what is less than a micro-dollar waits for the next call.
#[derive(Debug)]
struct Money {
    micro: Option<IntCounter>,
    carry: MicroUsdCarry,
}

/// The models seen, and their handles on every route.
#[derive(Debug)]
pub(super) struct Models {
    tokens: IntCounterVec,
    cost: IntCounterVec,
    saved: IntCounterVec,
    unpriced: IntCounter,
    estimated: IntCounter,
    /// Name → place; read on every call, written at most [`MODELS_MAX`] times.
    names: ArcSwap<Names>,
    /// The handles outlive a reload: a remainder must not be lost.
    handles: Mutex<HashMap<(String, usize), Arc<ModelMetrics>>>,
}

#[derive(Clone, Debug, Default)]
struct Names {
    places: HashMap<Box<str>, usize>,
    foreign: usize,
}

/// The models of one route; place [`MODELS_MAX`] is `other`.
#[derive(Debug)]
pub(super) struct RouteModels {
    route: String,
    models: Arc<Models>,
    cells: Box<[OnceLock<Arc<ModelMetrics>>]>,
}

impl ModelMetrics {
    /// Adds what one call used, cost or saved.
    pub fn spent(&self, spending: &Spending) {
        for kind in TokenKind::ALL {
            let tokens = used(&spending.usage, *kind);
            if let (1.., Some(Some(count))) = (tokens, self.tokens.get(kind.place())) {
                count.inc_by(tokens);
            }
        }
        for category in CostCategory::ALL {
            if let Some(money) = self.cost.get(category.place()) {
                money.add(cost(spending, *category));
            }
        }
        if let Some((how, amount)) = spending.saved
            && let Some(money) = self.saved.get(how.place())
        {
            money.add(amount);
        }
        if spending.unpriced {
            self.unpriced.inc();
        }
        if spending.estimated {
            self.estimated.inc();
        }
    }
}

/// The tokens of one kind.
fn used(usage: &Usage, kind: TokenKind) -> u64 {
    match kind {
        TokenKind::Input => usage.input,
        TokenKind::CachedInput => usage.cached_input,
        TokenKind::CacheWrite => usage.cache_write,
        TokenKind::CacheWrite1h => usage.cache_write_1h,
        TokenKind::AudioInput => usage.audio_input,
        TokenKind::Output => usage.output,
        TokenKind::Reasoning => usage.reasoning,
        TokenKind::AudioOutput => usage.audio_output,
    }
}

/// The money of one category.
fn cost(spending: &Spending, category: CostCategory) -> PicoUsd {
    match category {
        CostCategory::Input => spending.cost.input,
        CostCategory::CachedInput => spending.cost.cached_input,
        CostCategory::CacheWrite => spending.cost.cache_write,
        CostCategory::Output => spending.cost.output,
        CostCategory::Request => spending.cost.request,
        CostCategory::Compute => spending.compute,
    }
}

impl Money {
    fn add(&self, amount: PicoUsd) {
        if let Some(micro) = &self.micro
            && amount > PicoUsd::ZERO
        {
            micro.inc_by(self.carry.add(amount));
        }
    }
}

impl Models {
    pub(super) fn new(families: &Families) -> Arc<Self> {
        Arc::new(Self {
            tokens: families.tokens.clone(),
            cost: families.cost.clone(),
            saved: families.saved.clone(),
            unpriced: families.unpriced.clone(),
            estimated: families.estimated.clone(),
            names: ArcSwap::default(),
            handles: Mutex::default(),
        })
    }

    /// The place of `model`, given one if it may have one; `None` = other.
    fn place(&self, model: &str, naming: impl FnOnce() -> Naming) -> Option<usize> {
        if let Some(place) = self.names.load().places.get(model) {
            return Some(*place);
        }
        let naming = naming();
        if naming == Naming::Asked || model.is_empty() || model.len() > MODEL_BYTES_MAX {
            return None;
        }
        // The lock makes adding one at a time; the look-up above never waits for it.
        let _adding = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names = Names::clone(&self.names.load());
        let place = names.places.len();
        if let Some(place) = names.places.get(model) {
            return Some(*place);
        }
        let is_foreign = naming != Naming::Own;
        if place >= MODELS_MAX || (is_foreign && names.foreign >= FOREIGN_MAX) {
            return None;
        }
        names.places.insert(model.into(), place);
        names.foreign += usize::from(is_foreign);
        self.names.store(Arc::new(names));
        Some(place)
    }

    fn handle(&self, route: &str, model: &str, place: usize) -> Arc<ModelMetrics> {
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        let handle = handles
            .entry((route.to_owned(), place))
            .or_insert_with(|| Arc::new(self.resolve(route, model)));
        Arc::clone(handle)
    }

    fn resolve(&self, route: &str, model: &str) -> ModelMetrics {
        let count = |family: &IntCounterVec, label: &str| {
            family.get_metric_with_label_values(&[route, model, label]).ok()
        };
        let money =
            |family, label| Money { micro: count(family, label), carry: MicroUsdCarry::default() };
        ModelMetrics {
            tokens: TokenKind::ALL.iter().map(|kind| count(&self.tokens, kind.label())).collect(),
            cost: CostCategory::ALL
                .iter()
                .map(|category| money(&self.cost, category.label()))
                .collect(),
            saved: SavedHow::ALL.iter().map(|how| money(&self.saved, how.label())).collect(),
            unpriced: self.unpriced.clone(),
            estimated: self.estimated.clone(),
        }
    }
}

impl RouteModels {
    pub(super) fn new(route: &str, models: Arc<Models>) -> Self {
        Self {
            route: route.to_owned(),
            models,
            cells: (0..=MODELS_MAX).map(|_| OnceLock::new()).collect(),
        }
    }

    pub(super) fn resolve(
        &self,
        model: &str,
        naming: impl FnOnce() -> Naming,
    ) -> Arc<ModelMetrics> {
        let (place, label) = match self.models.place(model, naming) {
            Some(place) => (place, model),
            None => (MODELS_MAX, OTHER),
        };
        let resolve = || self.models.handle(&self.route, label, place);
        match self.cells.get(place) {
            Some(cell) => Arc::clone(cell.get_or_init(resolve)),
            None => resolve(),
        }
    }
}
