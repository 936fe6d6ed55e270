//! What validation carries along: everything that is wrong, and the parsers of the
//! small things (durations, names, addresses, files) that report where they fail.
//!
//! Each gives a value even where it reported, so that validation always goes on to the
//! end. **Invariant:** such a stand-in never leaves the crate: with a problem there is no
//! [`crate::Config`].

use crate::{
    Environment, Secret, SecretSource, Warning, WarningKind,
    defaults::{DURATION_MAX, SECRET_BYTES_MAX},
    problem::{PROBLEMS_MAX, Problem, quoted},
    raw::RawSecret,
    shape::SECRET_IS,
    text::{self, DURATION_IS, DurationText, PERCENT_IS, PercentText, SIZE_IS, SizeText},
};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

/// Of names that become metric labels or parts of keys.
const NAME_BYTES_MAX: usize = 64;

/// One validation.
pub(crate) struct Review<'a> {
    pub(crate) problems: Vec<Problem>,
    /// How many of them are mistakes of shape: what stands below one of those was taken out,
    /// and validation sees a stand-in.
    pub(crate) n_of_shape: usize,
    pub(crate) warnings: Vec<Warning>,
    pub(crate) environment: &'a dyn Environment,
    /// What relative paths are relative to.
    pub(crate) base_dir: &'a Path,
}

impl Review<'_> {
    pub(crate) fn report(&mut self, path: impl Into<String>, message: impl Into<String>) {
        let path = path.into();
        // The first mistake at a place is the cause, a second its consequence.
        let of_shape = self.problems.iter().take(self.n_of_shape);
        let is_known = of_shape.map(|problem| &problem.path).any(|above| is_within(&path, above))
            || self.problems.iter().any(|problem| problem.path == path);
        if !is_known && self.problems.len() < PROBLEMS_MAX {
            self.problems.push(Problem { path, message: message.into() });
        }
    }

    /// Something at or below `path` has been reported already.
    pub(crate) fn is_reported(&self, path: &str) -> bool {
        self.problems.iter().any(|problem| is_within(&problem.path, path))
    }

    pub(crate) fn advise(&mut self, path: impl Into<String>, message: impl Into<String>) {
        let (path, message) = (path.into(), message.into());
        self.warnings.push(Warning { path, message, kind: WarningKind::Advice });
    }

    /// Something that must be on the machine where this runs.
    pub(crate) fn missing(&mut self, path: impl Into<String>, message: impl Into<String>) {
        let (path, message) = (path.into(), message.into());
        self.warnings.push(Warning { path, message, kind: WarningKind::Missing });
    }

    /// Never zero.
    pub(crate) fn duration(
        &mut self,
        path: String,
        raw: Option<&DurationText>,
        default: Duration,
    ) -> Duration {
        self.duration_within(path, raw, default, Duration::from_millis(1)..=DURATION_MAX)
    }

    pub(crate) fn duration_within(
        &mut self,
        path: String,
        raw: Option<&DurationText>,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let Some(DurationText(written)) = raw else { return default };
        let (min, max) = (range.start(), range.end());
        match text::duration(written) {
            None => self.report(path, format!("must be {DURATION_IS}, not {}", quoted(written))),
            Some(length) if range.contains(&length) => return length,
            Some(_) => {
                let (min, max) = (text::show_duration(*min), text::show_duration(*max));
                self.report(path, format!("must be {min} to {max}, not {written}"));
            }
        }
        default
    }

    pub(crate) fn size_within(
        &mut self,
        path: String,
        raw: Option<&SizeText>,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> u64 {
        let Some(SizeText(written)) = raw else { return default };
        match text::size(written) {
            None => self.report(path, format!("must be {SIZE_IS}, not {}", quoted(written))),
            Some(bytes) if range.contains(&bytes) => return bytes,
            Some(_) => {
                let (min, max) = (text::show_size(*range.start()), text::show_size(*range.end()));
                self.report(path, format!("must be {min} to {max}, not {written}"));
            }
        }
        default
    }

    /// In millionths.
    pub(crate) fn ppm_within(
        &mut self,
        path: String,
        raw: Option<&PercentText>,
        default: u32,
        range: RangeInclusive<u32>,
    ) -> u32 {
        let Some(PercentText(written)) = raw else { return default };
        match text::ppm(written) {
            None => self.report(path, format!("must be {PERCENT_IS}, not {}", quoted(written))),
            Some(ppm) if range.contains(&ppm) => return ppm,
            Some(_) => {
                let (min, max) = (text::show_ppm(*range.start()), text::show_ppm(*range.end()));
                self.report(path, format!("must be {min} to {max}, not {written}"));
            }
        }
        default
    }

    /// IP address and port. A name is refused: what it resolves to may change under us.
    pub(crate) fn address(&mut self, path: impl Into<String>, text: &str) -> SocketAddr {
        text.parse().unwrap_or_else(|_| {
            let message = format!(
                "must be an IP address and a port like 127.0.0.1:8080, not {}",
                quoted(text)
            );
            self.report(path, message);
            SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)
        })
    }

    /// A name that becomes a label or part of a key; `extra` are allowed besides letters and digits.
    pub(crate) fn name(
        &mut self,
        path: impl Into<String>,
        raw: Option<String>,
        extra: &str,
    ) -> String {
        let name = raw.unwrap_or_default(); // its absence was reported
        let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c));
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !is_plain {
            let message = format!(
                "must be 1 to {NAME_BYTES_MAX} letters, digits or {}, not {}",
                extra.chars().map(String::from).collect::<Vec<_>>().join(" "),
                quoted(&name)
            );
            self.report(path, message);
        }
        name
    }

    /// The name of a header, in lower case.
    pub(crate) fn header(&mut self, path: impl Into<String>, raw: Option<&str>) -> String {
        let name = raw.unwrap_or_default();
        if !is_token(name) || name.len() > NAME_BYTES_MAX {
            self.report(path, format!("must be the name of a header, not {}", quoted(name)));
        }
        name.to_ascii_lowercase()
    }

    /// A file that whoever runs this will read.
    pub(crate) fn file(&mut self, path: impl Into<String>, raw: Option<&str>) -> PathBuf {
        let path = path.into();
        let written = raw.unwrap_or_default();
        if written.is_empty() || written.contains('\0') {
            self.report(path, "must be the path of a file");
            return PathBuf::new();
        }
        let file = self.base_dir.join(written);
        if !self.environment.is_file(&file) {
            self.missing(path, format!("no such file: {}", file.display()));
        }
        file
    }

    /// Reads what a reference leads to. Never quotes it.
    pub(crate) fn secret(&mut self, path: &str, raw: &RawSecret) -> Secret {
        let (source, found) = match (&raw.env, &raw.file) {
            (Some(name), None) => {
                let missing = || format!("environment variable {} is not set", quoted(name));
                let found = self.environment.var(name).ok_or_else(missing);
                (SecretSource::Env(name.clone()), found)
            }
            (None, Some(written)) => {
                let file = self.base_dir.join(written);
                let missing = |error| format!("cannot read {}: {error}", file.display());
                let found = self.environment.read(&file, SECRET_BYTES_MAX).map_err(missing);
                (SecretSource::File(file), found)
            }
            (None, None) | (Some(_), Some(_)) => {
                self.report(path, SECRET_IS);
                return Secret::new(SecretSource::Inline, None);
            }
        };
        // Files end with a line end that nobody means.
        match found.as_ref().map(|found| found.trim_end_matches(['\r', '\n'])) {
            Ok("") => self.missing(path, format!("{source} is empty")),
            Ok(value) => return Secret::new(source, Some(value)),
            Err(message) => self.missing(path, message.clone()),
        }
        Secret::new(source, None)
    }
}

/// Whether `path` is `above` or leads on from there.
fn is_within(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// RFC 9110's `token`: a header's name, a method.
pub(crate) fn is_token(text: &str) -> bool {
    let is_token_byte =
        |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_token_byte)
}
