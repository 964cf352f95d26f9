//! A cluster that is there already. It is used only when it was named, and is a kind or k3d cluster on this machine or its name
//! was typed a second time with `--yes-destroy`: the tests make and delete whatever they like. The current context of a
//! kubeconfig is never looked at.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;

/// A context that may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cleared {
    name: String,
    maker: Maker,
}

/// What made the cluster: how images are brought there depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Maker {
    Kind,
    K3d,
    /// Confirmed by the person; images are not brought there by us.
    Other,
}

impl Maker {
    fn of(context: &str) -> Self {
        if context.starts_with("kind-") {
            Self::Kind
        } else if context.starts_with("k3d-") {
            Self::K3d
        } else {
            Self::Other
        }
    }
}

/// Whether the named context may be used.
pub(crate) fn clear(name: &str, confirmed: Option<&str>) -> Result<Cleared> {
    let names = contexts()?;
    if !names.iter().any(|known| known == name) {
        bail!("there is no context {name:?} in the kubeconfig; it has: {}", names.join(", "));
    }
    let server = server_of(name)?;
    decide(name, &server, confirmed)
}

/// The kind or k3d cluster of this machine, if there is exactly one.
pub(crate) fn only_one_on_this_machine() -> Result<Cleared> {
    let mut found = Vec::new();
    for name in contexts()?.into_iter().filter(|name| Maker::of(name) != Maker::Other) {
        if is_this_machine(&server_of(&name)?) {
            found.push(name);
        }
    }
    match found.as_slice() {
        [] => bail!(
            "there is no kind or k3d cluster on this machine (make one, or name one with --kubernetes context:NAME)"
        ),
        [name] => Ok(Cleared { name: name.clone(), maker: Maker::of(name) }),
        _ => bail!(
            "there are several kind and k3d clusters, name one with --kubernetes context:NAME: {}",
            found.join(", ")
        ),
    }
}

fn decide(name: &str, server: &str, confirmed: Option<&str>) -> Result<Cleared> {
    let maker = Maker::of(name);
    if let Some(confirmed) = confirmed {
        if confirmed != name {
            bail!("--yes-destroy names {confirmed:?}, but the context is {name:?}");
        }
        return Ok(Cleared { name: name.to_owned(), maker });
    }
    if maker != Maker::Other && is_this_machine(server) {
        return Ok(Cleared { name: name.to_owned(), maker });
    }
    bail!(
        "context {name:?} at {server} is not a kind or k3d cluster on this machine; the tests delete what is there: \
         if that is right, add --yes-destroy {name}"
    )
}

/// Whether an API server's URL leads to this machine. k3d writes the unspecified address, which does.
fn is_this_machine(server: &str) -> bool {
    let Some(rest) = server.strip_prefix("https://") else { return false };
    let authority = rest.split('/').next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next().unwrap_or_default(),
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback() || ip.is_unspecified())
}

fn contexts() -> Result<Vec<String>> {
    let names = process::output(Command::new("kubectl").args(["config", "get-contexts", "-o", "name"]))?;
    Ok(names.lines().map(str::to_owned).collect())
}

fn server_of(context: &str) -> Result<String> {
    let view =
        ["config", "view", "--minify", "--context", context, "-o", "jsonpath={.clusters[0].cluster.server}"];
    process::output(Command::new("kubectl").args(view))
}

impl Cleared {
    /// The context's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Writes a kubeconfig that knows this context alone, so that nothing that is run can stray to another.
    pub(crate) fn write_kubeconfig(&self, folder: &Path) -> Result<PathBuf> {
        let view = ["config", "view", "--minify", "--flatten", "--context", &self.name];
        let text = process::output(Command::new("kubectl").args(view))?;
        let path = folder.join("kubeconfig");
        fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
        fs::write(&path, text).with_context(|| format!("could not write {}", path.display()))?;
        Ok(path)
    }

    /// Brings an image into every node of a kind or k3d cluster.
    pub(crate) fn import(&self, archive: &Path) -> Result<()> {
        match self.maker {
            Maker::Kind => {
                let name = self.name.strip_prefix("kind-").unwrap_or(&self.name);
                process::run(
                    Command::new("kind").args(["load", "image-archive", "--name", name]).arg(archive),
                )
            }
            Maker::K3d => {
                let name = self.name.strip_prefix("k3d-").unwrap_or(&self.name);
                process::run(Command::new("k3d").args(["image", "import", "--cluster", name]).arg(archive))
            }
            Maker::Other => bail!(
                "images can be brought only to kind and k3d clusters: push {} to where {:?} pulls from, and name the images \
                 with FULMAR_E2E_BROKER_IMAGE and FULMAR_E2E_OPERATOR_IMAGE",
                archive.display(),
                self.name
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Cleared, Maker, decide, is_this_machine};

    #[test]
    fn only_addresses_of_this_machine_are_taken_for_it() {
        for server in [
            "https://127.0.0.1:6443",
            "https://[::1]:6443",
            "https://localhost:1/x",
            "https://0.0.0.0:6550",
            "https://127.9.9.9",
        ] {
            assert!(is_this_machine(server), "{server}");
        }
        for server in [
            "https://10.0.0.1:6443",
            "https://127.0.0.1.example.org:6443",
            "http://127.0.0.1:1",
            "",
            "https://localhost.example.org",
        ] {
            assert!(!is_this_machine(server), "{server}");
        }
    }

    #[test]
    fn a_kind_cluster_elsewhere_needs_a_confirmation() {
        assert!(decide("kind-a", "https://127.0.0.1:6443", None).is_ok());
        let refused = decide("kind-a", "https://10.0.0.1:6443", None).unwrap_err().to_string();
        assert!(refused.contains("--yes-destroy kind-a"), "{refused}");
    }

    #[test]
    fn another_cluster_is_used_only_when_its_name_is_typed_twice() {
        assert!(decide("production", "https://127.0.0.1:6443", None).is_err());
        assert!(decide("production", "https://10.0.0.1:6443", Some("staging")).is_err());
        let cleared = decide("staging", "https://10.0.0.1:6443", Some("staging")).unwrap();
        assert_eq!(cleared, Cleared { name: "staging".to_owned(), maker: Maker::Other });
    }
}
