//! A cluster that is started here: calls the scripts of `e2e/kubernetes` and knows what they print and keep. What happens
//! inside is theirs.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process;
use crate::workspace::Workspace;

/// Where the cluster's folder is seen from inside, whatever its path is outside.
pub(crate) const ROOM: &str = "/run/fulmar";
const NODES: u32 = 3;
/// It takes 5 s on an idle machine with two cores; a busy one may need several times that.
const START_AT_MOST: Duration = Duration::from_mins(3);

/// One cluster by its folder; whether it runs is another matter.
pub(crate) struct Own {
    scripts: PathBuf,
    folder: PathBuf,
}

/// A cluster that ends when this value does, and when this process does, however.
pub(crate) struct Running {
    own: Own,
    holder: Child,
    _lock: File,
}

impl Own {
    /// The cluster by that name of this checkout.
    pub(crate) fn at(workspace: &Workspace, name: &str) -> Self {
        Self {
            scripts: workspace.path("e2e/kubernetes"),
            folder: workspace.target().join("kubernetes").join(name),
        }
    }

    /// Builds the cluster's programs unless they are there; gives the folder that has them.
    pub(crate) fn programs(&self) -> Result<PathBuf> {
        process::output(self.script("build").stderr(Stdio::inherit())).map(PathBuf::from)
    }

    /// Starts it to run until [`Own::end`].
    pub(crate) fn start_detached(&self) -> Result<()> {
        process::run(self.script("up").arg(&self.folder))
    }

    /// Starts it for as long as the value lives. The kernel ends it if this process is killed. Another run on the same folder is
    /// waited for.
    pub(crate) fn start(self) -> Result<Running> {
        let lock = self.lock()?;
        // What an earlier run left must not be taken for what starts now.
        self.end()?;
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "bash"])
            .arg(self.scripts.join("up"))
            .arg("--foreground")
            .arg(&self.folder);
        let holder =
            command.stdin(Stdio::null()).spawn().context("could not start setpriv (of util-linux)")?;
        let mut running = Running { own: self, holder, _lock: lock };
        running.await_ready()?;
        Ok(running)
    }

    /// Ends it if it runs, and removes its data; its logs stay.
    pub(crate) fn end(&self) -> Result<()> {
        process::run(self.script("down").arg(&self.folder))
    }

    /// A command that will run inside.
    pub(crate) fn enter(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.script("enter");
        command.arg(&self.folder).arg(program);
        command
    }

    /// `kubectl` inside.
    pub(crate) fn kubectl(&self) -> impl Fn() -> Command + '_ {
        || self.enter("kubectl")
    }

    /// Gives the terminal to a command inside, or to a shell.
    pub(crate) fn shell(&self, command: &[String]) -> Result<()> {
        let mut entered = self.script("enter");
        entered.arg(&self.folder).args(command);
        let status = entered.status().context("could not start e2e/kubernetes/enter")?;
        if status.success() {
            return Ok(());
        }
        // The command has said what is wrong; its exit code goes on to who called us.
        std::process::exit(status.code().unwrap_or(1));
    }

    /// Whether it is up.
    pub(crate) fn is_up(&self) -> bool {
        process::succeeds(&mut self.enter("true"))
    }

    /// Puts an image's archive into every node.
    pub(crate) fn import(&self, archive: &Path) -> Result<()> {
        for node in 1..=NODES {
            let socket = format!("{ROOM}/node{node}/containerd.sock");
            let mut command = self.enter("ctr");
            command.args(["--address", &socket, "--namespace", "k8s.io", "images", "import"]).arg(archive);
            process::output(&mut command)?;
        }
        Ok(())
    }

    /// Its folder as it is seen outside: logs are in `log`.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The scripts that act inside.
    pub(crate) fn inside(&self) -> PathBuf {
        self.scripts.join("inside")
    }

    fn lock(&self) -> Result<File> {
        let path = self.folder.with_extension("lock");
        let parent = self.folder.parent().context("the cluster's folder is below the target folder")?;
        fs::create_dir_all(parent).with_context(|| format!("could not make {}", parent.display()))?;
        let lock = File::create(&path).with_context(|| format!("could not make {}", path.display()))?;
        if lock.try_lock().is_err() {
            println!("waiting for another run, which holds {}", path.display());
            lock.lock().with_context(|| format!("could not lock {}", path.display()))?;
        }
        Ok(lock)
    }

    fn script(&self, name: &str) -> Command {
        let mut command = Command::new("bash");
        command.arg(self.scripts.join(name));
        command
    }
}

impl Running {
    /// The cluster that runs.
    pub(crate) fn own(&self) -> &Own {
        &self.own
    }

    fn await_ready(&mut self) -> Result<()> {
        let ready = self.own.folder.join("ready");
        let log = self.own.folder.join("log/init.log");
        let started = Instant::now();
        while !ready.exists() {
            if let Some(status) = self.holder.try_wait().context("could not wait for the cluster")? {
                let said = fs::read_to_string(&log).unwrap_or_default();
                bail!("the cluster did not start ({status}); {} says:\n{said}", log.display());
            }
            if started.elapsed() > START_AT_MOST {
                bail!("the cluster is not ready after {START_AT_MOST:?}; see {}", log.display());
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.own.end() {
            eprintln!("xtask: could not take the cluster down: {error:#}");
        }
        // `end` has killed it; this waits for it, so that no zombie is left to a caller that goes on.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
