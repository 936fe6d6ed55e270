//! Which version of each model the entries are of, beside them: keys are made with it, and after a
//! restart it would not be known before the upstream has said it again.

use crate::versions::{ModelId, Versions};
use std::{
    collections::HashMap,
    fmt::Write as _,
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

const HEAD: &str = "tollgate versions 1\n";
const FILE: &str = "versions";
/// More is none of ours: so many models with names of a few hundred bytes.
const BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The file, and what was last written to it.
#[derive(Debug)]
pub(super) struct Remembered {
    path: PathBuf,
    versions: Arc<Versions>,
    written: Mutex<String>,
}

impl Remembered {
    /// Takes over what stands in the file. One that cannot be read or understood says nothing.
    pub(super) fn read(dir: &Path, versions: Arc<Versions>, now_ms: u64) -> Self {
        let path = dir.join(FILE);
        let mut text = String::new();
        let read =
            fs::File::open(&path).and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text));
        if read.is_err() {
            text.clear();
        }
        for (model, version) in parse(&text) {
            // Nobody has said anything yet, so there is nothing to tell the fleet.
            let _nothing = versions.learn(model, vec![version], now_ms);
        }
        Self { path, versions, written: Mutex::new(text) }
    }

    /// Writes the file if it would be another.
    pub(super) fn write(&self) -> io::Result<()> {
        let mut lines: Vec<_> = self.versions.missing_from(&HashMap::new());
        lines.sort_unstable_by_key(|news| news.model);
        let mut text = HEAD.to_owned();
        for news in lines {
            for byte in news.model.0 {
                // To a string it does not fail.
                write!(text, "{byte:02x}").unwrap_or_default();
            }
            writeln!(text, " {}", news.version).unwrap_or_default();
        }
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if *written == text {
            return Ok(());
        }
        let new = self.path.with_extension("new");
        fs::write(&new, &text)?;
        fs::rename(&new, &self.path)?;
        *written = text;
        Ok(())
    }
}

fn parse(text: &str) -> impl Iterator<Item = (ModelId, Arc<str>)> {
    let lines = text.strip_prefix(HEAD).unwrap_or_default().lines();
    lines.filter_map(|line| {
        let (model, version) = line.split_once(' ')?;
        let number = u128::from_str_radix(model, 16).ok().filter(|_| model.len() == 32)?;
        Some((ModelId(number.to_be_bytes()), Arc::from(version)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::versions::{Current, Said};
    use proptest::prelude::*;
    use tempfile::TempDir;

    #[test]
    fn what_was_said_is_known_after_a_restart() {
        let dir = TempDir::new().unwrap();
        let versions = Arc::<Versions>::default();
        let remembered = Remembered::read(dir.path(), versions.clone(), 1);
        versions.observe("up", "m", Said::Version("2026 11"), 1);
        versions.observe("up", "n", Said::Nothing, 1);
        remembered.write().unwrap();

        let versions = Arc::<Versions>::default();
        Remembered::read(dir.path(), versions.clone(), 2);
        assert_eq!(versions.current("up", "m"), Current::Known("2026 11".into()));
        assert_eq!(versions.current("up", "n"), Current::Known("".into()));
        assert_eq!(versions.current("up", "o"), Current::Unknown);
        assert!(versions.take_news().is_empty());
    }

    proptest! {
        #[test]
        fn foreign_text_never_panics(text in ".{0,100}") {
            let _ = parse(&format!("{HEAD}{text}")).count();
            prop_assert_eq!(parse(&text).count(), 0);
        }
    }
}
