//! A directory for a ledger that nobody keeps.

use crate::meter::unix_ms;
use std::{
    fs, io,
    path::{Path, PathBuf},
};
use tollgate_ledger::mint_id;

/// Goes with all that is in it when it is dropped.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> io::Result<Self> {
        let unique = mint_id(u64::try_from(unix_ms()).unwrap_or(0)).simple();
        let dir = std::env::temp_dir().join(format!("tollgate-{unique}"));
        fs::create_dir(&dir)?;
        Ok(Self(dir))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}
