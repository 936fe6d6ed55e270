//! Where a configuration comes from: a file, standard input, the environment, or
//! `--upstream` alone.

use super::{Failure, unreadable};
use std::{
    fs, io,
    path::{Path, PathBuf},
};
use tollgate_config::{Config, Overrides, ProcessEnvironment, Warning, load};

/// The variable that holds YAML text when there is no `-c`.
const VARIABLE: &str = "TOLLGATE_CONFIG";

/// What the command line says about the configuration.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Settings {
    /// Configuration file (YAML); `-` reads standard input
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// The service behind: a complete set-up without any file
    #[arg(long, value_name = "URL", conflicts_with = "file")]
    upstream: Option<String>,
    /// Address that callers connect to
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Address of the admin API and console, or `unix:/PATH`
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,
    /// Address of metrics and probes
    #[arg(long, value_name = "ADDR")]
    metrics: Option<String>,
    /// Directory of the ledger
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// The configuration of commands that can do without one.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ConfigFile {
    /// Configuration file (YAML); `-` reads standard input
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    file: Option<PathBuf>,
}

impl ConfigFile {
    /// `None`: there is no `-c` and the environment has none.
    pub(crate) fn source(self) -> Result<Option<Source>, Failure> {
        let (upstream, listen, admin, metrics, data_dir) = (None, None, None, None, None);
        let is_given =
            self.file.is_some() || tollgate_config::text_from(&ProcessEnvironment).is_some();
        let settings = Settings { file: self.file, upstream, listen, admin, metrics, data_dir };
        is_given.then(|| settings.source()).transpose()
    }
}

/// A source that can be read again.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    text: Text,
    overrides: Overrides,
}

#[derive(Clone, Debug)]
enum Text {
    File(PathBuf),
    /// Standard input or the environment: the same for ever.
    Given(String),
    Upstream(String),
}

impl Settings {
    /// Finds the configuration that is meant.
    ///
    /// # Errors
    /// There is none, or standard input cannot be read.
    pub(crate) fn source(self) -> Result<Source, Failure> {
        let overrides = Overrides {
            listen: self.listen,
            admin: self.admin,
            metrics: self.metrics,
            data_dir: self.data_dir,
        };
        let text = match (self.file, self.upstream) {
            (Some(file), _) if file == Path::new("-") => {
                let text = io::read_to_string(io::stdin())
                    .map_err(|error| Failure::Environment(format!("standard input: {error}")))?;
                Text::Given(text)
            }
            (Some(file), _) => Text::File(file),
            (None, Some(url)) => Text::Upstream(url),
            (None, None) => match tollgate_config::text_from(&ProcessEnvironment) {
                Some(text) => Text::Given(text),
                None => {
                    return Err(Failure::Input(vec![format!(
                        "no configuration: give -c FILE, --upstream URL, or {VARIABLE}"
                    )]));
                }
            },
        };
        Ok(Source { text, overrides })
    }
}

impl Source {
    /// The file, if it is one that may change.
    pub(crate) fn file(&self) -> Option<&Path> {
        match &self.text {
            Text::File(file) => Some(file),
            Text::Given(_) | Text::Upstream(_) => None,
        }
    }

    /// Reads it.
    ///
    /// # Errors
    /// Everything that is wrong with it, a line each.
    pub(crate) fn read(&self) -> Result<(Config, Vec<Warning>), Failure> {
        let environment = ProcessEnvironment;
        let input = |problems: tollgate_config::Problems| {
            Failure::Input(problems.iter().map(ToString::to_string).collect())
        };
        match &self.text {
            Text::Upstream(url) => {
                Config::for_upstream(url, &self.overrides, &environment).map_err(input)
            }
            Text::Given(text) => {
                load(text, Path::new("."), &self.overrides, &environment).map_err(input)
            }
            Text::File(file) => {
                let text = fs::read_to_string(file)
                    .map_err(|error| unreadable(&file.display().to_string(), &error))?;
                let dir = file.parent().unwrap_or(Path::new("."));
                load(&text, dir, &self.overrides, &environment).map_err(input)
            }
        }
    }

    /// What to call it in a message.
    pub(crate) fn name(&self) -> String {
        match &self.text {
            Text::File(file) => file.display().to_string(),
            Text::Given(_) => "the configuration".to_owned(),
            Text::Upstream(url) => format!("--upstream {url}"),
        }
    }

    /// Reads it to be run: what a check only warns about (a secret that is not on this
    /// machine) is an error here. What is left are words of advice.
    pub(crate) fn read_to_run(&self) -> Result<(Config, Vec<Warning>), Failure> {
        let (config, warnings) = self.read()?;
        let advice = tollgate_config::Problems::at_run(warnings).map_err(|problems| {
            Failure::Input(problems.iter().map(ToString::to_string).collect())
        })?;
        Ok((config, advice))
    }
}
