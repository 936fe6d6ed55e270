//! What may be typed, and what is said of it.

use super::*;
use clap::CommandFactory as _;

#[test]
fn every_command_that_is_shown_has_an_example() {
    Cli::command().debug_assert();
    let cli = Cli::command();
    let shown: Vec<_> = cli.get_subcommands().filter(|command| !command.is_hide_set()).collect();
    for command in &shown {
        let name = command.get_name();
        let example = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(example.contains(&format!("tollgate {name}")), "{name} has no example");
        assert!(command.get_about().is_some(), "{name} does not say what it does");
    }
    let names: Vec<&str> = shown.iter().map(|command| command.get_name()).collect();
    let built = [
        "run", "demo", "check", "schema", "explain", "stats", "purge", "warm", "what-if", "report",
    ];
    assert_eq!(names, built);
}

#[test]
fn commands_of_later_versions_are_refused_by_name() {
    for words in [&["tollgate", "scaler", "--help"][..], &["tollgate", "scaler", "x", "-y"]] {
        let cli = Cli::try_parse_from(words).unwrap();
        let Err(Failure::Input(lines)) = cli.command.execute() else { panic!("{words:?}") };
        assert_eq!(lines, [format!("{}: not in this version", words[1])]);
    }
    assert!(Cli::try_parse_from(["tollgate", "wram"]).is_err());
}

#[test]
fn wrong_input_ends_with_1_and_a_failing_environment_with_2() {
    assert_eq!(Failure::Input(vec![String::new()]).code(), 1);
    assert_eq!(Failure::Environment(String::new()).code(), 2);
}

#[test]
fn a_mistake_is_told_in_one_line() {
    let told = |words: &[&str]| in_a_line(&Cli::try_parse_from(words).unwrap_err().to_string());
    assert_eq!(told(&["tollgate", "rnu"]), "unrecognized subcommand 'rnu'; see --help");
    let purge = told(&["tollgate", "purge"]);
    assert!(purge.contains("--tag") && !purge.contains('\n'), "{purge}");
    let flag = told(&["tollgate", "demo", "--quick"]);
    assert_eq!(flag, "unexpected argument '--quick' found; see --help");
}
