//! A new configuration for a running process: all of it, or none.

use super::{App, Snapshot, run};
use std::sync::Arc;
use tollgate_config::Config;

impl App {
    /// Brings `config` into force. What needs a restart is named and left as it was.
    ///
    /// # Errors
    /// Why it cannot be in force; the old one stays.
    pub fn reload(&self, config: Config) -> Result<Vec<String>, String> {
        let reloaded = self.replace(config);
        self.parts.metrics.reloaded(reloaded.is_ok());
        reloaded
    }

    /// A new configuration could not even be read: counted, as it is one that is not in
    /// force.
    pub(crate) fn reload_failed(&self) {
        self.parts.metrics.reloaded(false);
    }

    fn replace(&self, config: Config) -> Result<Vec<String>, String> {
        let parts = &self.parts;
        let before = parts.snapshot.load_full();
        let left = tollgate_config::needs_restart(&before.config, &config);
        let config = tollgate_config::keep_what_needs_a_restart(&before.config, config);
        let prices = run::prices(&config).map_err(|error| error.to_string())?;
        let config = Arc::new(config);
        let tasks = &parts.tasks;
        let next = Snapshot::new(config, &parts.meter, &parts.metrics, tasks, Some(&before))
            .map_err(|error| run::with_causes(&error))?;
        parts.meter.prices.store(Arc::new(prices));
        parts.snapshot.store(Arc::new(next));
        Ok(left)
    }
}
