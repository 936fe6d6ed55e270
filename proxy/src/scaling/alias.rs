//! A latency quantile under a name, unit and window of the operator's choosing,
//! for autoscalers that already ask for that name.

use std::time::Duration;

/// The shortest and the longest window of an alias.
const WINDOW_MIN: Duration = Duration::from_secs(1);
const WINDOW_MAX: Duration = Duration::from_secs(3600);
const NAME_BYTES_MAX: usize = 128;
/// Endings by which the text formats tell the samples of one family apart.
const RESERVED_ENDINGS: [&str; 7] =
    ["_total", "_bucket", "_sum", "_count", "_created", "_info", "_gsum"];

/// One entry of `telemetry.metrics.aliases`.
#[derive(Clone, Debug, PartialEq)]
pub struct Alias {
    /// The metric's name, unlabelled.
    pub name: String,
    /// Above 0, at most 1.
    pub quantile: f64,
    pub unit: Unit,
    /// How far back it looks; 1 s to 1 h.
    pub window: Duration,
    /// The routes it covers; empty = all.
    pub routes: Vec<String>,
}

/// What an alias counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Milliseconds,
    Seconds,
}

/// Why an alias is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AliasError {
    #[error(
        "alias `{0}`: a metric's name is 1 to 128 of a-z A-Z 0-9 _ : and does not begin with a digit; rename it"
    )]
    Name(String),
    #[error("alias `{0}`: the name is taken by a metric of Tollgate; choose another")]
    Taken(String),
    #[error(
        "alias `{0}`: names that begin with `tollgate_` or `process_` are reserved; choose another"
    )]
    Reserved(String),
    #[error(
        "alias `{name}`: the ending `{ending}` means something else in the metric text formats; choose another"
    )]
    Ending { name: String, ending: &'static str },
    #[error("alias `{0}` is defined twice; remove one")]
    Twice(String),
    #[error("alias `{name}`: quantile {quantile} is not above 0 and at most 1")]
    Quantile { name: String, quantile: f64 },
    #[error("alias `{name}`: window {window:?} is not between 1s and 1h")]
    Window { name: String, window: Duration },
    #[error("alias `{name}`: there is no route `{route}`; name one of the configured routes")]
    Route { name: String, route: String },
}

impl Unit {
    /// `latency` in this unit, for a gauge.
    #[expect(clippy::float_arithmetic, reason = "a gauge's value, not money")]
    pub fn of(self, latency: Duration) -> f64 {
        match self {
            Self::Milliseconds => latency.as_nanos() as f64 / 1e6,
            Self::Seconds => latency.as_nanos() as f64 / 1e9,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Milliseconds => "milliseconds",
            Self::Seconds => "seconds",
        }
    }
}

impl Alias {
    /// What the metric's HELP line says: quantile, unit, window, routes.
    pub fn help(&self) -> String {
        let routes = if self.routes.is_empty() {
            "all routes".to_owned()
        } else {
            format!("routes {}", self.routes.join(", "))
        };
        format!(
            "Quantile {} of the duration of calls that reached an upstream in the last {:?}, in {}, {routes}; within 2 %.",
            self.quantile,
            self.window,
            self.unit.name(),
        )
    }

    /// Every mistake in `aliases`; `routes` are the configured ones, `taken`
    /// says whether a name belongs to another metric.
    pub fn mistakes(
        aliases: &[Self],
        routes: &[String],
        taken: impl Fn(&str) -> bool,
    ) -> Vec<AliasError> {
        let mut mistakes = Vec::new();
        for (place, alias) in aliases.iter().enumerate() {
            let name = || alias.name.clone();
            mistakes.extend(alias.name_mistake(&taken));
            if aliases.iter().take(place).any(|earlier| earlier.name == alias.name) {
                mistakes.push(AliasError::Twice(name()));
            }
            if !(alias.quantile > 0.0 && alias.quantile <= 1.0) {
                mistakes.push(AliasError::Quantile { name: name(), quantile: alias.quantile });
            }
            if !(WINDOW_MIN..=WINDOW_MAX).contains(&alias.window) {
                mistakes.push(AliasError::Window { name: name(), window: alias.window });
            }
            let unknown = alias.routes.iter().filter(|route| !routes.contains(route));
            mistakes.extend(
                unknown.map(|route| AliasError::Route { name: name(), route: route.clone() }),
            );
        }
        mistakes
    }

    fn name_mistake(&self, taken: impl Fn(&str) -> bool) -> Option<AliasError> {
        let name = self.name.clone();
        let well_formed = name.len() <= NAME_BYTES_MAX
            && name.bytes().enumerate().all(|(place, byte)| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'_' | b':' => true,
                b'0'..=b'9' => place > 0,
                _ => false,
            });
        if name.is_empty() || !well_formed {
            return Some(AliasError::Name(name));
        }
        if taken(&name) {
            return Some(AliasError::Taken(name));
        }
        if name.starts_with("tollgate_") || name.starts_with("process_") {
            return Some(AliasError::Reserved(name));
        }
        let ending = RESERVED_ENDINGS.into_iter().find(|ending| name.ends_with(ending))?;
        Some(AliasError::Ending { name, ending })
    }
}
