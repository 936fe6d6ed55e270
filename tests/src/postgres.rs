//! A real PostgreSQL of a test's own.
//!
//! It listens on a socket in a folder of the test: no port can be taken by another. It refuses to
//! run as root, so then it runs as nobody. Whoever says over that socket to be `tollgate` is
//! believed and may everything; all others need their password, or what the test's settings want.
//!
//! To lay out a cluster takes a second, so it is done once and copied. This file stands for itself:
//! the tests of `tollgate-cache`, which this crate depends on, have it as a module of theirs.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::{
        fs::{MetadataExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};
use tempfile::TempDir;

const NOBODY: u32 = 65_534;

/// Who may come in how.
const ACCESS: &str = "local all tollgate trust\nlocal all all md5\n\
    hostssl all all all scram-sha-256\n";

/// For a busy machine; it is only reached when there is something wrong.
const PATIENCE: Duration = Duration::from_secs(60);

/// The server, and the folder with all that it keeps.
#[derive(Debug)]
pub struct Postgres {
    dir: TempDir,
    child: Child,
    settings: Vec<String>,
    port: u16,
}

impl Postgres {
    /// With what `files` holds, by name, in its data folder, and `settings`, each `NAME=VALUE`.
    /// `port`: of its socket's name, and where the settings let it listen.
    pub fn start(port: u16, files: &[(&str, &str)], settings: &[&str]) -> Self {
        let dir = TempDir::new().unwrap();
        let data = dir.path().join("data");
        copy(&template(), &data);
        for (name, text) in files.iter().chain([&("pg_hba.conf", ACCESS)]) {
            fs::write(data.join(name), text).unwrap();
            run(Command::new("chmod").arg("600").arg(data.join(name)));
        }
        if is_root() {
            run(Command::new("chown").args(["-R", &NOBODY.to_string()]).arg(dir.path()));
        }
        let settings: Vec<_> = settings.iter().map(|one| (*one).to_owned()).collect();
        let child = spawn(dir.path(), port, &settings);
        Self { dir, child, settings, port }
    }

    /// The socket, named by PostgreSQL's rule.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join(format!(".s.PGSQL.{}", self.port))
    }

    /// Of the user who may everything.
    pub fn url(&self) -> String {
        Self::url_of(self.dir.path(), self.port)
    }

    /// Of a server whose socket lies in `dir`.
    pub fn url_of(dir: &Path, port: u16) -> String {
        let dir = dir.display().to_string().replace('/', "%2F");
        format!("postgres://tollgate@{dir}:{port}/postgres")
    }

    /// To all its processes.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id();
        // One of its children may have ended meanwhile.
        let all = format!("kill -{name} {pid} $(cat /proc/{pid}/task/{pid}/children)");
        run(Command::new("sh").arg("-c").arg(format!("{all} 2>/dev/null || kill -0 {pid}")));
    }

    /// As in a crash: nothing is written any more.
    pub fn kill(&mut self) {
        // One that stands still is to go on, or it would not hear that it is to end. Killed
        // outright, it would leave its memory with the system.
        self.signal("CONT");
        run(Command::new("kill").arg("-QUIT").arg(self.child.id().to_string()));
        self.child.wait().unwrap();
    }

    /// Returns when it answers.
    pub fn start_again(&mut self) {
        self.child = spawn(self.dir.path(), self.port, &self.settings);
    }

    /// What `psql` prints, as that user: a row a line.
    pub fn sql(&self, text: &str) -> String {
        let output = Command::new("psql")
            .args(["-U", "tollgate", "-d", "postgres", "-v", "ON_ERROR_STOP=1", "-qAt", "-p"])
            .arg(self.port.to_string())
            .arg("-h")
            .arg(self.dir.path())
            .args(["-c", text])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{text}: {said}");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
        }
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

fn run(command: &mut Command) {
    let status = command.stdout(Stdio::null()).status();
    assert!(status.unwrap().success(), "{command:?}");
}

fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").arg("-a").arg(from).arg(to));
}

/// A cluster that was never started, beside the test's own executable. Whoever comes first lays it
/// out.
fn template() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let beside = own.parent().unwrap();
    let template = beside.join("postgres-template");
    if !template.exists() {
        let dir = TempDir::new().unwrap();
        if is_root() {
            chown(dir.path(), Some(NOBODY), None).unwrap();
        }
        let made = dir.path().join("data");
        run(program(dir.path(), "initdb")
            .args(["--no-sync", "--locale=C", "-E", "UTF8", "--wal-segsize=1", "-U", "tollgate"])
            .args(["-A", "trust", "-D"])
            .arg(&made));
        let copied = beside.join(format!("postgres-template-{}", std::process::id()));
        copy(&made, &copied);
        // Another may have been faster; its one is as good.
        if fs::rename(&copied, &template).is_err() {
            fs::remove_dir_all(&copied).unwrap();
        }
    }
    template
}

/// One of PostgreSQL's own, which Debian keeps off the path; `dir` is the one it may write.
fn program(dir: &Path, name: &str) -> Command {
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let debian = debian.map(|version| version.path().join("bin").join(name));
    let path = debian.filter(|path| path.exists()).max().unwrap_or_else(|| name.into());
    let mut command = Command::new(path);
    command.current_dir(dir).env("LC_ALL", "C");
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// Returns when it answers.
fn spawn(dir: &Path, port: u16, settings: &[String]) -> Child {
    let mut command = program(dir, "postgres");
    command.arg("-D").arg(dir.join("data")).arg("-k").arg(dir).args(["-p", &port.to_string()]);
    for setting in ["listen_addresses=", "shared_buffers=16MB", "fsync=off"] {
        command.args(["-c", setting]);
    }
    for setting in settings {
        command.args(["-c", setting]);
    }
    let mut child = command
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{error}; (Debian: apt-get install postgresql)"));
    let log = BufReader::new(child.stderr.take().unwrap());
    let (tell, told) = mpsc::channel();
    // Read to the end, or it would wait for us to; who listens is gone by then.
    thread::spawn(move || {
        log.lines().map_while(Result::ok).for_each(|line| tell.send(line).unwrap_or_default());
    });
    let mut said = Vec::new();
    while let Ok(line) = told.recv_timeout(PATIENCE) {
        if line.contains("ready to accept connections") {
            return child;
        }
        said.push(line);
    }
    let ended = child.kill().and_then(|()| child.wait());
    panic!("it does not start: {ended:?} {said:#?}")
}
