//! The ways to a [`Config`]: a text, or just the URL of an upstream.

use crate::{
    Config, Environment, Overrides, Problem, Problems, Warning, WarningKind, defaults,
    raw::{RawCacheRule, RawConfig, RawEndpoint, RawRoute, RawUpstream},
    review::Review,
    shape, validate, yaml,
};
use serde_json::Value;
use std::{collections::BTreeMap, path::Path, sync::LazyLock};

/// The schema of the file this version reads, as JSON Schema 2020-12.
pub fn schema() -> Value {
    SCHEMA.clone()
}

static SCHEMA: LazyLock<Value> = LazyLock::new(|| schemars::schema_for!(RawConfig).to_value());

/// Reads a configuration. Relative paths of files in it (not `data_dir`) are relative to `base_dir`,
/// the directory it was read from.
///
/// Opens no socket. A secret or file that is not there is a warning; whoever goes on
/// to run the configuration asks [`Problems::at_run`].
///
/// # Errors
/// Everything that is wrong, at once.
pub fn load(
    text: &str,
    base_dir: &Path,
    overrides: &Overrides,
    environment: &dyn Environment,
) -> Result<(Config, Vec<Warning>), Problems> {
    let mut tree = yaml::read(text).map_err(|problem| Problems(vec![problem]))?;
    let mut problems = shape::fit(&mut tree, &SCHEMA);
    let raw = serde_json::from_value(tree).unwrap_or_else(|error| {
        // A bug of ours: what `shape` lets through fits. Still, an error and no panic.
        debug_assert!(false, "shape and serde disagree: {error}");
        problems.push(Problem { path: "file".to_owned(), message: error.to_string() });
        RawConfig::default()
    });
    validated(raw, base_dir, overrides, environment, problems)
}

impl Config {
    /// What `tollgate run --upstream URL` runs: every path goes to `url`, the dialect is
    /// detected, model calls are answered from memory, nobody raises its class.
    ///
    /// # Errors
    /// Everything that is wrong, at once; the URL's mistakes are those of `--upstream`.
    pub fn for_upstream(
        url: &str,
        overrides: &Overrides,
        environment: &dyn Environment,
    ) -> Result<(Config, Vec<Warning>), Problems> {
        let endpoint = RawEndpoint { url: Some(url.to_owned()) };
        let upstream = RawUpstream { endpoints: Some(vec![endpoint]), ..RawUpstream::default() };
        let name = defaults::UPSTREAM_NAME.to_owned();
        let route = RawRoute {
            name: Some(defaults::ROUTE_NAME.to_owned()),
            upstream: Some(name.clone()),
            cache: Some(RawCacheRule::Policy(Box::default())),
            ..RawRoute::default()
        };
        let raw = RawConfig {
            upstreams: Some(BTreeMap::from([(name, upstream)])),
            routes: Some(vec![route]),
            ..RawConfig::default()
        };
        validated(raw, Path::new(""), overrides, environment, Vec::new()).map_err(|mut problems| {
            for problem in &mut problems.0 {
                if problem.path.starts_with("upstreams.") {
                    problem.path = "--upstream".to_owned();
                }
            }
            problems
        })
    }
}

/// The text of `TOLLGATE_CONFIG`, which is read when there is no `-c`.
pub fn text_from(environment: &dyn Environment) -> Option<String> {
    environment.var(defaults::ENV_CONFIG).filter(|text| !text.is_empty())
}

fn validated(
    raw: RawConfig,
    base_dir: &Path,
    overrides: &Overrides,
    environment: &dyn Environment,
    problems: Vec<Problem>,
) -> Result<(Config, Vec<Warning>), Problems> {
    let n_of_shape = problems.len();
    let mut review = Review { problems, n_of_shape, warnings: Vec::new(), environment, base_dir };
    let config = validate::config(&mut review, raw, overrides);
    if review.problems.is_empty() {
        // What is missing comes first: it stops a start.
        let order =
            |warning: &Warning| (warning.kind != WarningKind::Missing, place(&warning.path));
        review.warnings.sort_by_key(order);
        return Ok((config, review.warnings));
    }
    review.problems.sort_by_key(|problem| place(&problem.path));
    Err(Problems(review.problems))
}

/// Sections in the order of the contract, and items of a list in theirs.
fn place(path: &str) -> (usize, usize) {
    const SECTIONS: [&str; 13] = [
        "listeners",
        "admin",
        "telemetry",
        "data_dir",
        "drain",
        "stores",
        "upstreams",
        "identity",
        "classes",
        "routes",
        "cache",
        "prices",
        "resources",
    ];
    let end = path.find(['.', '[']).unwrap_or(path.len());
    let (section, rest) = path.split_at(end);
    let item = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')?.0.parse().ok());
    let section = SECTIONS.iter().position(|own| *own == section);
    (section.unwrap_or(SECTIONS.len()), item.unwrap_or(0))
}

/// For fuzzing: no text makes the reader panic, and nothing invalid comes out of it.
#[doc(hidden)]
pub fn assert_never_panics(bytes: &[u8]) {
    struct Nothing;
    impl Environment for Nothing {
        fn var(&self, _: &str) -> Option<String> {
            None
        }
        fn read(&self, _: &Path, _: u64) -> std::io::Result<String> {
            Err(std::io::ErrorKind::NotFound.into())
        }
        fn is_file(&self, _: &Path) -> bool {
            false
        }
        fn memory_limit(&self) -> Option<u64> {
            None
        }
    }
    let text = String::from_utf8_lossy(bytes);
    match load(&text, Path::new("/"), &Overrides::default(), &Nothing) {
        Ok((config, _)) => {
            let known = config.routes.iter().all(|route| config.upstream(route.upstream).is_some());
            assert!(known && !config.routes.is_empty(), "{config:?}");
        }
        Err(problems) => assert!(!problems.is_empty() && !problems.to_string().is_empty()),
    }
}
