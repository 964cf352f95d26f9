//! `fulmar support-bundle`: one file with what somebody needs who is to find out what is wrong with a Cluster.
//!
//! Owns what is gathered and in which order. What cannot be had is told and left out, the rest goes on; only an API server that does not
//! answer at all, or a file that cannot be written, ends it. Never changes anything, and never holds the contents of a Secret.

mod brokers;
mod bundle;
mod dev;
mod kubernetes;
mod redact;

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use crate::exit::Failed;
use crate::kubectl::{Bound, Kubectl};
use crate::stop::unless_stopped;
use bundle::Bundle;

/// What kubectl says of itself and of the API server.
const VERSION_BYTES_MAX: usize = 64 * 1024;

/// Gather what is needed to find out what is wrong, in one file
///
/// Reads objects, Events, logs, metrics and what brokers say of themselves, through kubectl and with your rights. No records, no contents
/// of Secrets. What cannot be had is told, and left out. Look through the file before you send it.
#[derive(Debug, Args)]
pub(crate) struct SupportBundle {
    /// The namespace of the operator
    #[arg(long, value_name = "NAME", default_value = "fulmar-system")]
    operator_namespace: String,
    /// Where to write it, - for standard output [default: fulmar-support-TIME.tar.gz here]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// How far back logs are read
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = humantime::parse_duration)]
    since: Duration,
    /// Not of Kubernetes: the folder of a `fulmar dev`
    #[arg(long, value_name = "DIR", conflicts_with_all = ["operator_namespace", "since"])]
    dev: Option<PathBuf>,
}

impl SupportBundle {
    /// `typed` are the flags for kubectl that stand on the command line.
    pub(crate) async fn run(self, kubectl: &Kubectl, typed: &[String]) -> Result<(), Failed> {
        if let (Some(_), Some(flag)) = (&self.dev, typed.first()) {
            return Err(Failed::Usage(format!("--dev is not of Kubernetes: {flag} means nothing there")));
        }
        let to_stdout = self.output.as_deref() == Some(Path::new("-"));
        if to_stdout && io::stdout().is_terminal() {
            return Err(Failed::Usage(
                "standard output is a terminal: -o FILE says where to write".to_owned(),
            ));
        }
        if self.dev.is_some() {
            return self.gathered(kubectl).await;
        }
        unless_stopped(self.gathered(kubectl)).await
    }

    async fn gathered(&self, kubectl: &Kubectl) -> Result<(), Failed> {
        let to_stdout = self.output.as_deref() == Some(Path::new("-"));
        let now = jiff::Timestamp::now();
        let folder = format!("fulmar-support-{}", now.strftime("%Y%m%dT%H%M%SZ"));
        // First, so that nothing is made where nothing can be gathered.
        let source = self.source(kubectl).await?;
        let written = if to_stdout { None } else { Some(self.path(&folder)) };
        let (unfinished, output): (_, Box<dyn Write + Send>) = match &written {
            None => (None, Box::new(io::stdout())),
            Some(path) => {
                let (unfinished, file) = Unfinished::create(path)?;
                (Some(unfinished), Box::new(file))
            }
        };
        let seconds = u64::try_from(now.as_second()).unwrap_or_default();
        let mut bundle = Bundle::new(output, folder, seconds, progress());
        let gathered = self.gather(kubectl, &source, &mut bundle).await;
        let (_closed, files, gaps) = gathered.and_then(|()| bundle.finish(&self.head(&now, &source)))?;
        if let (Some(path), Some(unfinished)) = (written, unfinished) {
            unfinished.finish(&path)?;
            let missing =
                if gaps == 0 { String::new() } else { format!(", {gaps} missing (see errors.txt in it)") };
            writeln!(io::stdout().lock(), "{}: {files} files{missing}", path.display())?;
        }
        Ok(())
    }

    fn path(&self, folder: &str) -> PathBuf {
        self.output.clone().unwrap_or_else(|| PathBuf::from(format!("{folder}.tar.gz")))
    }

    async fn source(&self, kubectl: &Kubectl) -> Result<Source, Failed> {
        if let Some(folder) = &self.dev {
            dev::check(folder)?;
            return Ok(Source::Dev(folder.clone()));
        }
        let asked = kubectl.run(&["version", "-o", "json"], Bound::Whole(VERSION_BYTES_MAX)).await;
        let versions = asked.map_err(|error| Failed::Unavailable(format!("kubectl version: {error}")))?;
        let namespace = match &kubectl.namespace {
            Some(namespace) => namespace.clone(),
            None => own_namespace(kubectl).await?,
        };
        Ok(Source::Kubernetes { namespace, versions })
    }

    async fn gather<W: Write>(
        &self,
        kubectl: &Kubectl,
        source: &Source,
        bundle: &mut Bundle<W>,
    ) -> io::Result<()> {
        match source {
            Source::Dev(folder) => dev::gather(folder, bundle),
            Source::Kubernetes { namespace, versions } => {
                bundle.text("kubernetes-version.json", versions)?;
                let place = kubernetes::Place {
                    kubectl,
                    namespace,
                    operator_namespace: &self.operator_namespace,
                    since: self.since,
                };
                kubernetes::gather(&place, bundle).await
            }
        }
    }

    fn head(&self, now: &jiff::Timestamp, source: &Source) -> String {
        let version = env!("CARGO_PKG_VERSION");
        let of = match source {
            Source::Dev(folder) => format!("the fulmar dev in {}", folder.display()),
            Source::Kubernetes { namespace, .. } => format!(
                "namespace {namespace}, operator in {}, logs of the last {}",
                self.operator_namespace,
                humantime::format_duration(self.since)
            ),
        };
        format!("Support bundle of {of}.\nTaken at {now:.0} by fulmar {version}.")
    }
}

/// That of the context.
async fn own_namespace(kubectl: &Kubectl) -> Result<String, Failed> {
    let arguments = ["config", "view", "--minify", "-o", "jsonpath={..namespace}"];
    let told = kubectl.run(&arguments, Bound::Whole(VERSION_BYTES_MAX)).await;
    let told = told.map_err(|error| Failed::Failure(format!("kubectl config view: {error}")))?;
    let told = String::from_utf8_lossy(&told).trim().to_owned();
    Ok(if told.is_empty() { "default".to_owned() } else { told })
}

/// What is looked at.
enum Source {
    Dev(PathBuf),
    Kubernetes { namespace: String, versions: Vec<u8> },
}

/// A bundle that is half written has another name; dropped before it got its own it is removed, for half of one would only mislead.
struct Unfinished(Option<PathBuf>);

impl Unfinished {
    /// Logs are not for everybody on the machine.
    fn create(path: &Path) -> Result<(Self, File), Failed> {
        use std::os::unix::fs::OpenOptionsExt;
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".unfinished");
        let path = path.with_file_name(name);
        let created = File::options().write(true).create(true).truncate(true).mode(0o600).open(&path);
        let failed = |error| Failed::Failure(format!("cannot write {}: {error}", path.display()));
        let file = created.map_err(failed)?;
        Ok((Self(Some(path)), file))
    }

    fn finish(mut self, to: &Path) -> io::Result<()> {
        self.0.take().map_or(Ok(()), |path| std::fs::rename(path, to))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _gone = std::fs::remove_file(path);
        }
    }
}

/// A line on a terminal; elsewhere nothing is shown.
fn progress() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}");
    ProgressBar::new_spinner().with_style(style.expect("the template is written above"))
}
