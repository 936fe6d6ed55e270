//! Rules about the code itself that no lint knows. They run with `cargo test`, so
//! nobody needs to remember them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

const FILE_LINES_MAX: usize = 500;

/// The order in which a request meets them; `ARCHITECTURE.md` has the same list.
const WAY: [&str; 11] = [
    "listener",
    "exchange",
    "route",
    "identity",
    "inspect",
    "cache",
    "meter",
    "admission",
    "upstream",
    "relay",
    "respond",
];

/// `tollgate-core` decides and never waits: see its crate documentation.
#[test]
fn the_core_knows_no_io() {
    let banned = [
        "tokio",
        "tokio-util",
        "hyper",
        "hyper-util",
        "http",
        "redis",
        "rusqlite",
        "rustls",
        "socket2",
        "rustix",
        "tracing",
        "tollgate-cache",
        "tollgate-config",
        "tollgate-ledger",
    ];
    let own = dependencies("proxy/core");
    for banned in banned {
        assert!(!own.contains(banned), "tollgate-core must not depend on {banned}");
    }
    for path in rust_files(&root().join("proxy/core/src")) {
        let text = read(&path);
        for banned in ["std::net", "std::fs", "std::thread", "SystemTime", "Instant::now"] {
            assert!(!text.contains(banned), "{}: the core must not know {banned}", path.display());
        }
    }
}

/// Arrows between crates point one way: what decides knows nothing of what serves.
#[test]
fn crates_know_only_what_stands_below_them() {
    let crates = [
        ("proxy/core", &[][..]),
        ("config", &["tollgate-core"]),
        ("proxy/cache", &["tollgate-core"]),
        ("proxy/ledger", &["tollgate-core"]),
        ("proxy", &["tollgate-core", "tollgate-config", "tollgate-cache", "tollgate-ledger"]),
    ];
    for (folder, may) in crates {
        let knows = dependencies(folder).into_iter().filter(|name| name.starts_with("tollgate"));
        for name in knows {
            assert!(may.contains(&&*name), "{folder} must not depend on {name}");
        }
    }
    for (folder, banned) in [
        ("config", &["tokio", "hyper", "redis", "rusqlite"][..]),
        ("proxy/ledger", &["tokio", "hyper", "http", "redis"]),
        ("proxy/cache", &["hyper", "rusqlite"]),
    ] {
        let own = dependencies(folder);
        for name in banned {
            assert!(!own.contains(*name), "{folder} must not depend on {name}");
        }
    }
}

#[test]
fn every_file_says_what_it_is_for_and_is_not_too_long() {
    let files = rust_files(&root());
    assert!(files.len() > 100, "the project is not where it is looked for");
    for path in files {
        let text = read(&path);
        let name = path.display();
        assert!(
            text.starts_with("//!"),
            "{name}: begin with a `//!` line that says what it is for"
        );
        let lines = text.lines().count();
        assert!(lines <= FILE_LINES_MAX, "{name}: {lines} lines, split it");
    }
}

/// The reading order in `lib.rs` is the order of the way.
#[test]
fn the_library_lists_the_way_of_a_request_in_order() {
    let library = read(root().join("proxy/src/lib.rs"));
    let (way, _beside) = library.split_once("// Beside the way.").unwrap();
    let listed: Vec<&str> = way
        .lines()
        .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'))
        .collect();
    assert_eq!(listed, WAY);
}

/// The list in the document (`1. \`listener\` – …`) is the order of the way.
#[test]
fn the_architecture_document_lists_the_modules_in_order() {
    let document = read(root().join("proxy/ARCHITECTURE.md"));
    let listed: Vec<&str> = document
        .lines()
        .filter(|line| line.starts_with(|first: char| first.is_ascii_digit()))
        .filter_map(|line| line.split_once(". `")?.1.split_once('`').map(|(name, _)| name))
        .collect();
    assert_eq!(listed, WAY);
}

/// Where a stage knows a later one all the same. A list to be made shorter: a line of it
/// that is no longer true fails the test below.
const KNOWS_LATER: [(&str, &str, &str); 5] = [
    ("route", "identity", "a class is claimed by a tenant whom the route trusts"),
    ("route", "meter", "a route holds its ready-made series and dimensions"),
    ("cache", "meter", "a hit is billed by what the answer had cost"),
    ("cache", "relay", "a hit is handed on by the relay's replay"),
    ("cache", "respond", "a hit says its cache-status in the words of the answers"),
];

/// A stage knows what came before it, never what comes after: so stages can be read,
/// tested and replaced one by one. Only `exchange` knows all of them, and is known to
/// those whose part of the way it is.
#[test]
fn uses_point_up_the_list() {
    let source = root().join("proxy/src");
    let mut excused = BTreeSet::new();
    for (place, stage) in WAY.iter().enumerate().filter(|(_, stage)| **stage != "exchange") {
        let mut files = vec![source.join(format!("{stage}.rs"))];
        let folder = source.join(stage);
        if folder.is_dir() {
            files.extend(rust_files(&folder));
        }
        for path in files {
            let text = read(&path);
            let code = text.split("#[cfg(test)]").next().unwrap();
            let known = known_modules(code);
            for later in WAY.iter().skip(place + 1).filter(|later| **later != "exchange") {
                if !known.contains(*later) {
                    continue;
                }
                assert!(
                    KNOWS_LATER.iter().any(|(one, other, _)| one == stage && other == later),
                    "{}: {stage} must not know {later}, which comes after it",
                    path.display()
                );
                excused.insert((*stage, *later));
            }
        }
    }
    for (stage, later, _) in KNOWS_LATER {
        assert!(excused.contains(&(stage, later)), "{stage} does not know {later} any more");
    }
}

/// The modules of the crate that `code` names: in `use crate::{…}` and in paths.
fn known_modules(code: &str) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    for after in code.split("crate::").skip(1) {
        let statement = after.split(';').next().unwrap_or_default();
        match statement.strip_prefix('{') {
            None => known.extend(first_word(after)),
            Some(list) => {
                let mut depth = 0;
                let mut starts = true;
                for (at, character) in list.char_indices() {
                    match character {
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        ',' if depth == 0 => starts = true,
                        letter if starts && depth == 0 && letter.is_alphabetic() => {
                            known.extend(list.get(at..).and_then(first_word));
                            starts = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    known
}

fn first_word(text: &str) -> Option<String> {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    text.get(..end).filter(|word| !word.is_empty()).map(str::to_owned)
}

#[test]
fn modules_are_found_where_a_file_names_them() {
    let code = "use crate::{\n a,\n b::{x, y as z},\n c::{self, d},\n};\nuse crate::e::f;\nfn g() { crate::h::i() }";
    let known: Vec<String> = known_modules(code).into_iter().collect();
    assert_eq!(known, ["a", "b", "c", "e", "h"]);
}

/// Unfinished work, and tests that do not test.
#[test]
fn nothing_is_left_for_later() {
    // Put together here, so that this file does not name what it forbids.
    let everywhere = [["to", "do!"].concat(), ["unimple", "mented!"].concat()];
    let in_tests =
        [["#[ig", "nore"].concat(), ["thread::", "sleep"].concat(), ["time::", "sleep("].concat()];
    for path in rust_files(&root()) {
        let text = read(&path);
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        for word in &everywhere {
            assert!(!text.contains(word), "{name}: {word} is not an answer");
        }
        // A stage's own tests pause time, and may sleep as long as they like.
        let is_test = name.starts_with("tests/");
        if is_test {
            for word in &in_tests {
                assert!(!text.contains(word), "{name}: {word} – wait for an event instead");
            }
        }
    }
}

#[test]
fn the_page_about_caching_names_scenarios_that_exist() {
    let page = read(root().join("config/caching.md"));
    let words = page.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '/');
    let named: BTreeSet<&str> = words.filter(|word| word.starts_with("cache_")).collect();
    assert!(named.len() > 20, "{named:?}");
    for name in named {
        let file = root().join(format!("tests/scenarios/{name}.rs"));
        assert!(file.exists(), "config/caching.md names {name}, which is no scenario");
    }
}

/// What is delivered stands on its own.
#[test]
fn nothing_in_the_project_leads_out_of_it() {
    let outside = [["../", "shared"].concat(), ["/work/", "shared"].concat()];
    for path in all_files(&root()) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for word in &outside {
            assert!(!text.contains(word), "{}: names {word}", path.display());
        }
    }
}

/// The names of what a crate's `[dependencies]` has (not those of its tests).
fn dependencies(folder: &str) -> BTreeSet<String> {
    let manifest = read(root().join(folder).join("Cargo.toml"));
    let (_, after) = manifest.split_once("[dependencies]").unwrap_or_default();
    after
        .lines()
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path.as_ref())
        .unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let is_rust = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "rs");
    all_files(folder).into_iter().filter(is_rust).collect()
}

fn all_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name == "target" || name == ".git" || name == "node_modules" {
            continue;
        }
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            files.extend(all_files(&path));
        } else {
            files.push(path);
        }
    }
    files
}
