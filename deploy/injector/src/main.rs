//! The binary: hands the command line to the library and ends with its code.

use std::process::ExitCode;

fn main() -> ExitCode {
    tollgate_injector::cli::main()
}
