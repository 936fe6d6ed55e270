//! A small mutational driver for the fuzz targets, on a stable toolchain.
//!
//! It has no coverage feedback: the usual driver needs a sanitizer that only a nightly
//! toolchain links, and a target that CI cannot build rots. So each target is a plain
//! program. Without files it mutates its corpus for a while, from a seed that it prints:
//!
//! ```text
//!   cd tests/fuzz && cargo run --release --bin usage -- --seconds 600 --seed 7
//! ```
//!
//! With files it reads each of them once, which is how a finding is repeated, and what
//! AFL++ and honggfuzz need (`afl-fuzz … -- usage @@`).

mod mutate;

use mutate::{Mutator, Random};
use std::{
    fs,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

const SECONDS_DEFAULT: u64 = 10;
const SEED_DEFAULT: u64 = 1;

/// What the command line asks for.
struct Orders {
    seconds: u64,
    seed: u64,
    files: Vec<PathBuf>,
}

/// The `main` of the target `name`: `property` panics if an input breaks it.
pub fn fuzz(name: &str, property: impl Fn(&[u8])) -> ExitCode {
    let outcome = orders().and_then(|orders| {
        if orders.files.is_empty() {
            mutate_corpus(name, &orders, &property)
        } else {
            orders.files.iter().try_for_each(|file| {
                property(&read(file)?);
                println!("{}: fine", file.display());
                Ok(())
            })
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{name}: {message}");
            ExitCode::FAILURE
        }
    }
}

fn orders() -> Result<Orders, String> {
    let mut orders = Orders { seconds: SECONDS_DEFAULT, seed: SEED_DEFAULT, files: Vec::new() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || {
            let number = words.next().and_then(|number| number.parse().ok());
            number.ok_or_else(|| format!("{word} needs a whole number"))
        };
        match word.as_str() {
            "--seconds" => orders.seconds = number()?,
            "--seed" => orders.seed = number()?,
            _ if word.starts_with('-') => return Err(format!("{word}: not an option")),
            _ => orders.files.push(word.into()),
        }
    }
    Ok(orders)
}

fn mutate_corpus(name: &str, orders: &Orders, property: &impl Fn(&[u8])) -> Result<(), String> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let corpus = corpus(&home.join("corpus").join(name))?;
    // One seed is one sequence of inputs, however fast the machine is.
    println!("{name}: {} files in the corpus, seed {}", corpus.len(), orders.seed);
    for input in &corpus {
        try_one(name, home, input, property)?;
    }
    let mut mutator = Mutator::new(corpus, Random::new(orders.seed));
    let start = Instant::now();
    let time = Duration::from_secs(orders.seconds);
    let mut inputs_n: u64 = 0;
    while start.elapsed() < time {
        for _ in 0..100 {
            try_one(name, home, &mutator.next_input(), property)?;
            inputs_n += 1;
        }
    }
    println!("{name}: {inputs_n} inputs, no finding");
    Ok(())
}

/// Keeps an input that breaks the property.
fn try_one(name: &str, home: &Path, input: &[u8], property: &impl Fn(&[u8])) -> Result<(), String> {
    if panic::catch_unwind(AssertUnwindSafe(|| property(input))).is_ok() {
        return Ok(());
    }
    let dir = home.join("found");
    let file = dir.join(format!("{name}-{:016x}", mutate::digest(input)));
    fs::create_dir_all(&dir)
        .and_then(|()| fs::write(&file, input))
        .map_err(|error| format!("{}: {error}", file.display()))?;
    Err(format!("the property does not hold for {}", file.display()))
}

/// In order of name, so that a seed means the same everywhere.
fn corpus(dir: &Path) -> Result<Vec<Vec<u8>>, String> {
    let failed = |error| format!("{}: {error}", dir.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        files.push(entry.map_err(failed)?.path());
    }
    files.sort();
    if files.is_empty() {
        return Err(format!("{}: no files", dir.display()));
    }
    files.iter().map(|file| read(file)).collect()
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|error| format!("{}: {error}", file.display()))
}
