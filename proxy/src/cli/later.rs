//! Commands of the contract that later versions bring: refused by name, shown nowhere.

use super::Failure;
use std::ffi::OsString;

/// Whatever else was typed.
#[derive(Debug, clap::Args)]
pub(super) struct Later {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _rest: Vec<OsString>,
}

impl Later {
    /// # Errors
    /// Always.
    pub(super) fn refuse(&self, name: &str) -> Result<(), Failure> {
        Err(Failure::Input(vec![format!("{name}: not in this version")]))
    }
}
