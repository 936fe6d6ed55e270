//! `tollgate schema`: what an editor needs to check a configuration while it is written.

use super::{Failure, print_line};

/// Print the JSON Schema of the configuration
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tollgate schema > tollgate.schema.json")]
pub(super) struct Schema {}

impl Schema {
    pub(super) fn execute(&self) -> Result<(), Failure> {
        print_line(&format!("{:#}", tollgate_config::schema()));
        Ok(())
    }
}
