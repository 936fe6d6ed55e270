//! What is wrong with a configuration, and what is only worth a word.

use std::fmt;

/// Nobody reads more at once, and looking for known ones costs the square.
pub(crate) const PROBLEMS_MAX: usize = 500;

/// Of a foreign text in a message: enough to find it in the file.
const SHOWN_CHARS_MAX: usize = 64;

/// One mistake, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `routes[0].cache.ttl`, a flag (`--listen`), or `line 3, column 7`.
    pub path: String,
    /// What is wrong and what would be right; lower case, no full stop.
    pub message: String,
}

/// Everything that is wrong (the first 500), in the order of the file's sections. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub(crate) Vec<Problem>);

/// Something an operator should know, though the configuration is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub path: String,
    pub message: String,
    pub kind: WarningKind,
}

/// Whether a warning stops a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WarningKind {
    /// Never.
    Advice,
    /// A secret or file that is not on this machine: fine where a file is only
    /// checked, an error where it is run.
    Missing,
}

impl Problems {
    /// One per line of [`fmt::Display`].
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a *start* has to refuse of what a check only warned about.
    ///
    /// # Errors
    /// Every warning of kind [`WarningKind::Missing`]; the others are given back.
    pub fn at_run(warnings: Vec<Warning>) -> Result<Vec<Warning>, Self> {
        let (missing, advice): (Vec<_>, Vec<_>) =
            warnings.into_iter().partition(|warning| warning.kind == WarningKind::Missing);
        if missing.is_empty() {
            return Ok(advice);
        }
        let problem = |warning: Warning| Problem { path: warning.path, message: warning.message };
        Err(Self(missing.into_iter().map(problem).collect()))
    }
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            let line_end = if i == 0 { "" } else { "\n" };
            write!(f, "{line_end}{problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// Foreign text in a message, all of it harmless to a terminal.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// The path of a member: `upstreams.model`, `upstreams."my model"`.
pub(crate) fn member(path: &str, key: &str) -> String {
    let is_plain = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    let dot = if path.is_empty() { "" } else { "." };
    if is_plain && !key.is_empty() {
        format!("{path}{dot}{key}")
    } else {
        format!("{path}{dot}{}", quoted(key))
    }
}

/// Foreign text in quotes, escaped and not too long to read.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        None => format!("{text:?}"),
        Some((cut, _)) => format!("{:?}…", text.split_at(cut).0),
    }
}
