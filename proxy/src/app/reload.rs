//! A new configuration for a running process: all of it, or none.

use super::{App, Parts, Snapshot, limits_of, run};
use crate::admin::ConfigSource;
use std::sync::{Arc, PoisonError};
use tollgate_config::Config;

impl App {
    /// Brings `config` into force. What needs a restart is named and left as it was.
    ///
    /// # Errors
    /// Why it cannot be in force; the old one stays.
    pub fn reload(&self, config: Config) -> Result<Vec<String>, String> {
        self.parts.reload(config)
    }

    /// Where the configuration can be read again when an administrator says so; a line
    /// for every mistake. Only the first source counts.
    pub fn set_source(
        &self,
        read: impl Fn() -> Result<Config, Vec<String>> + Send + Sync + 'static,
    ) {
        self.parts.admin.source.set(ConfigSource::new(read)).ok();
    }

    /// A new configuration could not even be read: counted, as it is one that is not in
    /// force.
    pub(crate) fn reload_failed(&self) {
        self.parts.metrics.reloaded(false);
    }
}

impl Parts {
    /// Reads the configuration where it came from and brings it into force; `None` where
    /// it came from nowhere that could be read again. Blocks on the disk.
    pub(crate) fn read_again(&self) -> Option<Result<Vec<String>, Vec<String>>> {
        let config = match self.admin.source.get()?.read() {
            Ok(config) => config,
            Err(problems) => {
                self.metrics.reloaded(false);
                return Some(Err(problems));
            }
        };
        Some(self.reload(config).map_err(|problem| vec![problem]))
    }

    fn reload(&self, config: Config) -> Result<Vec<String>, String> {
        let reloaded = self.replace(config);
        self.metrics.reloaded(reloaded.is_ok());
        reloaded
    }

    fn replace(&self, config: Config) -> Result<Vec<String>, String> {
        let _turn = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.snapshot.load_full();
        let left = tollgate_config::needs_restart(&before.config, &config);
        let config = tollgate_config::keep_what_needs_a_restart(&before.config, config);
        let prices = run::prices(&config).map_err(|error| error.to_string())?;
        let config = Arc::new(config);
        let next = Snapshot::new(config, &self.meter, &self.metrics, &self.tasks, Some(&before))
            .map_err(|error| run::with_causes(&error))?;
        let traces = &self.cache.traces;
        let wanted = next.config.cache.trace.is_some();
        let is_other = next.config.cache.trace != before.config.cache.trace;
        // One that could not begin is tried again, though its rule is the same.
        if (is_other || wanted != traces.is_written())
            && let Err(error) = traces.begin(&next.config, self.cache.tiers.memory())
        {
            if is_other {
                return Err(format!("cache.trace: {error}; none is written now"));
            }
            // It was so before: nothing else has to wait until its disk is mended.
            tracing::warn!(%error, "cache.trace: none is written; see that its directory can be");
        }
        self.meter.prices.store(Arc::new(prices));
        let next = Arc::new(next);
        self.snapshot.store(next.clone());
        self.forecasts.set_rules(&next.config.forecast);
        // Not before it is in force: one that is refused must not change a queue.
        for destination in &next.destinations {
            destination.admission.set_classes(&next.classes);
            destination.admission.set_limits(limits_of(&destination.config));
            destination.take_over_gate();
        }
        Ok(left)
    }
}
