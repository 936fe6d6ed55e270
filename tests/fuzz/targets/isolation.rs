//! Nobody is given what another's question brought, whoever asks whatever way.

use std::{cell::RefCell, process::ExitCode};

fn main() -> ExitCode {
    match tollgate::isolation::Laboratory::new() {
        Err(error) => {
            eprintln!("isolation: {error}");
            ExitCode::FAILURE
        }
        Ok(laboratory) => {
            let laboratory = RefCell::new(laboratory);
            tollgate_fuzz::fuzz("isolation", |input| {
                laboratory.borrow_mut().assert_no_answer_crosses(input);
            })
        }
    }
}
