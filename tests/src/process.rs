//! The binary, run as an operator runs it: for signals, exit codes and sudden death.

use crate::{Settings, until, within};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};
use tokio_util::task::TaskTracker;

/// A running `tollgate run -c FILE`. Dropped, it is killed.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    reader: TaskTracker,
    config: PathBuf,
    pub addr: SocketAddr,
    pub metrics: SocketAddr,
    pub admin: SocketAddr,
}

/// The binary beside the test's own executable.
///
/// # Panics
/// It was not built.
pub(crate) fn binary() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    // target/debug/deps/scenarios-0123 → target/debug/tollgate
    let path = own.parent().and_then(Path::parent).unwrap().join("tollgate");
    assert!(path.is_file(), "{}: run `cargo build -p tollgate` first", path.display());
    path
}

impl Process {
    /// The command, for what need not come as far as serving.
    pub fn command(arguments: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(binary());
        command.args(arguments).env_clear().stdin(Stdio::null());
        command
    }

    /// Starts it with these settings, written to a file in `dir`, and waits until it serves.
    ///
    /// # Panics
    /// It does not come to serve; the panic shows what it said.
    pub async fn start(dir: &Path, settings: &Settings) -> Self {
        Self::run(dir, settings, Command::new(binary())).await
    }

    /// As [`Self::start`], begun with a soft limit of `open_files_max`.
    pub async fn start_with_soft_limit(
        dir: &Path,
        settings: &Settings,
        open_files_max: u32,
    ) -> Self {
        let mut shell = Command::new("/bin/sh");
        shell
            .arg("-c")
            .arg(format!("ulimit -Sn {open_files_max}; exec \"$0\" \"$@\""))
            .arg(binary());
        Self::run(dir, settings, shell).await
    }

    async fn run(dir: &Path, settings: &Settings, mut command: Command) -> Self {
        let config = dir.join("tollgate.yaml");
        fs::write(&config, settings.text()).unwrap();
        let mut child = command
            .args(["run".as_ref(), "-c".as_ref(), config.as_os_str()])
            .env_clear()
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let log = Arc::<Mutex<Vec<String>>>::default();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let kept = log.clone();
        let reader = TaskTracker::new();
        reader.spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                kept.lock().unwrap().push(line);
            }
        });
        reader.close();
        let said = until(
            "the line `serving`",
            || async { all(&log) },
            |lines: &Vec<String>| lines.iter().any(|line| line.contains("\"serving\"")),
        )
        .await;
        let line = said.iter().find(|line| line.contains("\"serving\"")).unwrap();
        let line: Value = serde_json::from_str(line).unwrap();
        let address = |name: &str| {
            let text = line[name].as_str().unwrap_or_else(|| panic!("no {name} in {line}"));
            text.split(", ").next().unwrap().parse().unwrap_or_else(|_| panic!("{name} in {line}"))
        };
        let (addr, metrics) = (address("listeners"), address("metrics"));
        let admin = address("admin");
        Self { child, log, reader, config, addr, metrics, admin }
    }

    /// The configuration file, to be changed before a SIGHUP.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// # Panics
    /// The process has gone.
    pub fn id(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(self.id().try_into().unwrap()).unwrap();
        kill_process(id, signal).unwrap();
    }

    /// Waits until it has gone, and its last words have been read.
    pub async fn gone(&mut self) -> ExitStatus {
        let log = self.log.clone();
        let what = "the process to end";
        let gone = within(what, self.child.wait()).await.unwrap();
        within("the end of its log", self.reader.wait()).await;
        // Seen only when the test fails, which is when it is needed.
        for line in all(&log) {
            std::io::Write::write_all(&mut std::io::stderr(), format!("{line}\n").as_bytes()).ok();
        }
        gone
    }

    /// What it has said on stderr.
    pub fn log(&self) -> Vec<String> {
        all(&self.log)
    }

    /// Waits until it has said a line with `text` in it.
    pub async fn says(&self, text: &str) -> String {
        let has = |line: &String| line.contains(text);
        let lines = until(
            &format!("a line with {text:?}"),
            || async { all(&self.log) },
            |lines: &Vec<String>| lines.iter().any(has),
        )
        .await;
        lines.into_iter().find(has).unwrap()
    }
}

fn all(log: &Mutex<Vec<String>>) -> Vec<String> {
    log.lock().unwrap().clone()
}
