//! `tollgate check`: every problem of a configuration at once, and no socket.
//!
//! What only a start would find (a price file, a certificate) is looked at here too, by
//! the code that a start runs.

use super::{Failure, block_on, print_line, scratch::Scratch, settings::Settings, warn_line};
use crate::{
    app::{self, with_causes},
    listener,
};
use std::{collections::BTreeSet, fs, sync::Arc};
use tollgate_config::{Config, Warning, WarningKind};
use tollgate_core::price::PriceBook;

/// Check a configuration: every problem at once, nothing is started
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tollgate check -c tollgate.yaml\n  cat tollgate.yaml | tollgate check -c -"
)]
pub(super) struct Check {
    #[command(flatten)]
    settings: Settings,
}

impl Check {
    pub(super) fn execute(self) -> Result<(), Failure> {
        let source = self.settings.source()?;
        let (config, warnings) = source.read()?;
        for warning in &warnings {
            warn_line(&warning.to_string());
        }
        let Found { problems, odd } = look_closer(&config, &warnings)?;
        for line in odd {
            warn_line(&line);
        }
        if !problems.is_empty() {
            return Err(Failure::Input(problems));
        }
        print_line(&format!("{}: fine: {}", source.name(), summary(&config)));
        Ok(())
    }
}

/// What a valid configuration names, looked at.
#[derive(Debug, Default)]
struct Found {
    problems: Vec<String>,
    /// Worth a word.
    odd: Vec<String>,
}

fn look_closer(config: &Config, warnings: &[Warning]) -> Result<Found, Failure> {
    let mut found = prices(config);
    // What is not on this machine was a warning, and a start would stop there.
    let is_complete = warnings.iter().all(|warning| warning.kind != WarningKind::Missing);
    if is_complete && found.problems.is_empty() {
        for listener in &config.listeners {
            let tls = listener.tls.as_ref().map(listener::acceptor).transpose();
            let problem = |error| format!("listeners[].tls: {}", with_causes(&error));
            found.problems.extend(tls.err().map(problem));
        }
        found.problems.extend(assemble(config)?);
    }
    Ok(found)
}

fn prices(config: &Config) -> Found {
    let mut found = Found::default();
    for file in &config.prices.files {
        let path = file.display().to_string();
        // A missing file was a warning already.
        let Ok(text) = fs::read_to_string(file) else { continue };
        match PriceBook::default().with_csv(&path, &text) {
            Ok(odd) => found.odd.extend(odd.iter().map(ToString::to_string)),
            Err(problems) => found.problems.extend(problems.iter().map(ToString::to_string)),
        }
    }
    found
}

/// Puts together what a start puts together, but for sockets and stores.
fn assemble(config: &Config) -> Result<Option<String>, Failure> {
    let scratch = Scratch::new()
        .map_err(|error| Failure::Environment(format!("a temporary directory: {error}")))?;
    let data_dir = scratch.path().to_owned();
    let config =
        Config { redis: None, memcached: None, postgres: None, data_dir, ..config.clone() };
    let parts = block_on(app::parts(Arc::new(config)))?;
    Ok(parts.err().map(|error| with_causes(&error)))
}

fn summary(config: &Config) -> String {
    let count =
        |n: usize, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
    let tiers: BTreeSet<&str> = config
        .routes
        .iter()
        .flat_map(|route| &route.cache.tiers)
        .map(|used| used.tier.name())
        .collect();
    let cache = match tiers.is_empty() {
        true => "no cache".to_owned(),
        false => format!("cache in {}", tiers.into_iter().collect::<Vec<_>>().join(" and ")),
    };
    [
        count(config.listeners.len(), "listener", "listeners"),
        count(config.upstreams.len(), "upstream", "upstreams"),
        count(config.routes.len(), "route", "routes"),
        count(config.classes.len(), "class", "classes"),
        cache,
    ]
    .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use tollgate_config::{Overrides, ProcessEnvironment, load};

    const GOOD: &str = "
upstreams: { model: { endpoints: [{ url: 'http://127.0.0.1:8000' }] } }
routes: [{ name: all, upstream: model }]
";

    fn looked_at(more: &str) -> (Config, Found) {
        let text = format!("{GOOD}{more}");
        let (config, warnings) =
            load(&text, Path::new("."), &Overrides::default(), &ProcessEnvironment).unwrap();
        let found = look_closer(&config, &warnings).unwrap();
        (config, found)
    }

    #[test]
    fn a_good_configuration_is_summed_up_in_a_line() {
        let (config, found) = looked_at("");
        assert_eq!(found.problems, Vec::<String>::new());
        let summary = summary(&config);
        assert!(summary.starts_with("1 listener, 1 upstream, 1 route, "), "{summary}");
        assert!(!summary.contains('\n'));
    }

    #[test]
    fn a_price_file_is_read_and_every_bad_line_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("prices.csv");
        let lines = "model,per,input,output\na,1M,x,1\nb,1M,1,y\n";
        fs::write(&file, lines).unwrap();
        let (_, found) = looked_at(&format!("prices: {{ files: ['{}'] }}", file.display()));
        assert_eq!(found.problems.len(), 2, "{:?}", found.problems);
        assert!(found.problems[0].contains("prices.csv:2: input"), "{:?}", found.problems);
    }
}
