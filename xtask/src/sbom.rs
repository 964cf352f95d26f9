//! What is linked into a program: a bill of materials beside its image, as `CycloneDX` 1.5 in JSON.
//!
//! Owns the reading of `cargo tree`, which alone knows the features of a build and so the crates of it; licences come from `cargo
//! metadata`, checksums from `Cargo.lock`. The same source gives the same bytes: there is no date and no random number in it.
//! Never: looks for vulnerabilities; that is what others do with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::process;
use crate::workspace::Workspace;

/// Packages of other platforms are not asked for: they may not have been downloaded.
const METADATA: [&str; 3] = ["--locked", "--format-version", "1"];

/// A crate in one version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Crate {
    name: String,
    version: String,
}

impl Crate {
    /// Package URL, by which scanners know it: <https://github.com/package-url/purl-spec>.
    fn purl(&self) -> String {
        format!("pkg:cargo/{}@{}", self.name, self.version.replace('+', "%2B"))
    }

    /// Its folder in cargo's cache, which debug information names.
    fn folder(&self) -> String {
        format!("{}-{}", self.name, self.version)
    }
}

/// Which crates are linked into which others.
type Links = BTreeMap<Crate, BTreeSet<Crate>>;

/// All that is known of what a build links, for each of its programs.
pub(crate) struct Materials {
    links: Links,
    licences: BTreeMap<Crate, String>,
    checksums: BTreeMap<Crate, String>,
    /// What is linked and is no crate: the standard library, and the C library of the machine that links.
    others: Vec<Value>,
}

impl Materials {
    /// Of what `build` links for the workspace's target, with these words for the packages.
    pub(crate) fn of(workspace: &Workspace, packages: &[&str]) -> Result<Self> {
        let triple = workspace.triple();
        let mut tree = workspace.cargo("tree");
        // What only runs while it is compiled is not linked.
        tree.args(packages).args(["--locked", "--edges", "normal,no-proc-macro", "--target", triple]);
        let tree = process::output(tree.args(["--prefix", "depth", "--format", " {p}"]))?;
        let metadata =
            process::output(workspace.cargo("metadata").args(METADATA).args(["--filter-platform", triple]))?;
        let lock = fs::read_to_string(workspace.path("Cargo.lock")).context("could not read Cargo.lock")?;
        let about = process::output(Command::new("rustc").current_dir(workspace.root()).arg("--version"))?;
        let rust = about.split(' ').nth(1).with_context(|| format!("rustc --version said {about:?}"))?;
        let mut others = vec![library("rust-std", rust, "MIT OR Apache-2.0")];
        // glibc says its own name and version.
        if let Ok(libc) = process::output(Command::new("getconf").arg("GNU_LIBC_VERSION"))
            && let Some((name, version)) = libc.split_once(' ')
        {
            others.push(library(name, version, "LGPL-2.1-or-later"));
        }
        Ok(Self {
            links: read_tree(&tree)?,
            licences: read_licences(&serde_json::from_str(&metadata).context("cargo metadata")?),
            checksums: read_checksums(&lock),
            others,
        })
    }

    /// Everything that is linked into a program of this package, itself included.
    pub(crate) fn linked_into(&self, package: &str) -> Result<BTreeSet<Crate>> {
        let root = self.links.keys().find(|one| one.name == package);
        let root = root.with_context(|| format!("cargo tree does not name {package}"))?;
        let (mut linked, mut next) = (BTreeSet::new(), vec![root]);
        while let Some(one) = next.pop() {
            if linked.insert(one.clone()) {
                next.extend(&self.links[one]);
            }
        }
        Ok(linked)
    }

    /// The bill of a program of this package.
    pub(crate) fn bill(&self, package: &str) -> Result<Value> {
        let linked = self.linked_into(package)?;
        let (program, libraries): (Vec<&Crate>, Vec<&Crate>) =
            linked.iter().partition(|one| one.name == package);
        let [program] = program[..] else { bail!("there are {} packages {package}", program.len()) };
        let mut components: Vec<Value> =
            libraries.into_iter().map(|one| self.component(one, "library")).collect::<Result<_>>()?;
        components.extend(self.others.iter().cloned());
        let dependencies = linked.iter().map(|one| {
            let of: Vec<String> = self.links[one].iter().map(Crate::purl).collect();
            json!({"ref": one.purl(), "dependsOn": of})
        });
        Ok(json!({
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "version": 1,
            "metadata": {"component": self.component(program, "application")?},
            "components": components,
            "dependencies": dependencies.collect::<Vec<Value>>(),
        }))
    }

    fn component(&self, one: &Crate, kind: &str) -> Result<Value> {
        let licence = self.licences.get(one).with_context(|| format!("{one:?} names no licence"))?;
        let mut component = library(&one.name, &one.version, licence);
        component["type"] = kind.into();
        component["purl"] = one.purl().into();
        component["bom-ref"] = one.purl().into();
        if let Some(checksum) = self.checksums.get(one) {
            component["hashes"] = json!([{"alg": "SHA-256", "content": checksum}]);
        }
        Ok(component)
    }

    /// Writes the bill of a package's program, after a look into the program itself: each crate that left a trace there has to be
    /// in it. Gives how many crates it names.
    pub(crate) fn write(&self, package: &str, binary: &Path, to: &Path) -> Result<usize> {
        let linked = self.linked_into(package)?;
        let program = fs::read(binary).with_context(|| format!("could not read {}", binary.display()))?;
        let listed: BTreeSet<String> = linked.iter().map(Crate::folder).collect();
        let unlisted: Vec<String> =
            traces(&program).into_iter().filter(|trace| !listed.contains(trace)).collect();
        ensure!(
            unlisted.is_empty(),
            "{} was linked with what `cargo tree` does not name: {unlisted:?}",
            binary.display()
        );
        let bill = serde_json::to_string_pretty(&self.bill(package)?).context("a bill is JSON")?;
        fs::write(to, bill + "\n").with_context(|| format!("could not write {}", to.display()))?;
        Ok(linked.len())
    }
}

/// The bill of a program beside the archive of its image.
pub(crate) fn path(folder: &Path, package: &str) -> PathBuf {
    folder.join(format!("{package}.cdx.json"))
}

fn library(name: &str, version: &str, licence: &str) -> Value {
    json!({"type": "library", "name": name, "version": version, "licenses": [{"expression": licence}]})
}

/// Lines of `DEPTH NAME vVERSION …`, in the order of a walk. What was printed before is marked, and its own lines are not repeated.
fn read_tree(text: &str) -> Result<Links> {
    let mut links = Links::new();
    let mut above: Vec<Crate> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let mut words = line.split(' ');
        let depth = words.next().and_then(|word| word.parse::<usize>().ok());
        let (name, version) = (words.next(), words.next().and_then(|word| word.strip_prefix('v')));
        let (Some(depth), Some(name), Some(version)) = (depth, name, version) else {
            bail!("cargo tree said {line:?}, and not a depth, a name and a version");
        };
        ensure!(depth <= above.len(), "cargo tree said {line:?} below nothing");
        above.truncate(depth);
        let one = Crate { name: name.to_owned(), version: version.to_owned() };
        if let Some(parent) = above.last() {
            links.entry(parent.clone()).or_default().insert(one.clone());
        }
        links.entry(one.clone()).or_default();
        above.push(one);
    }
    Ok(links)
}

fn read_licences(metadata: &Value) -> BTreeMap<Crate, String> {
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let read = |package: &Value| {
        let text = |field: &str| package[field].as_str().map(str::to_owned);
        // Before there were expressions, a slash meant a choice.
        let licence = text("license")?.replace('/', " OR ");
        Some((Crate { name: text("name")?, version: text("version")? }, licence))
    };
    packages.filter_map(read).collect()
}

/// Of `[[package]]`s with `name = "…"`, `version = "…"` and, if they come from a registry, `checksum = "…"`.
fn read_checksums(lock: &str) -> BTreeMap<Crate, String> {
    let read = |package: &str| {
        let field = |name: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \""))?;
            line.strip_suffix('"').map(str::to_owned)
        };
        Some((Crate { name: field("name")?, version: field("version")? }, field("checksum")?))
    };
    lock.split("[[package]]").filter_map(read).collect()
}

/// Folders of crates in cargo's cache that debug information names: `…/registry/src/REGISTRY/NAME-VERSION/…`.
fn traces(program: &[u8]) -> BTreeSet<String> {
    const CACHE: &[u8] = b"/registry/src/";
    let mut found = BTreeSet::new();
    for (at, _) in program.windows(CACHE.len()).enumerate().filter(|(_, window)| *window == CACHE) {
        let rest = &program[at + CACHE.len()..];
        let is_path = |byte: &u8| byte.is_ascii_graphic();
        let path = &rest[..rest.iter().position(|byte| !is_path(byte)).unwrap_or(rest.len())];
        let mut parts = std::str::from_utf8(path).unwrap_or_default().splitn(3, '/');
        if let (Some(_), Some(folder), Some(_)) = (parts.next(), parts.next(), parts.next()) {
            found.insert(folder.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, version: &str) -> Crate {
        Crate { name: name.to_owned(), version: version.to_owned() }
    }

    #[test]
    fn a_crate_is_linked_into_whatever_its_users_are_linked_into() {
        let tree = "0 app v0.1.0 (/source/app)\n1 tls v1.2.0\n2 sys v0.3.0+c\n1 log v0.4.0\n\n0 other v0.1.0 (/source/other)\n1 tls v1.2.0 (*)\n";
        let links = read_tree(tree).unwrap();
        assert_eq!(links[&named("tls", "1.2.0")], BTreeSet::from([named("sys", "0.3.0+c")]));
        let (licences, checksums, others) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        let materials = Materials { links, licences, checksums, others };
        let names = |package: &str| -> Vec<String> {
            materials.linked_into(package).unwrap().into_iter().map(|one| one.name).collect()
        };
        assert_eq!(names("other"), ["other", "sys", "tls"]);
        assert_eq!(names("app"), ["app", "log", "sys", "tls"]);
        assert!(materials.linked_into("absent").is_err());
        let unlicensed = materials.bill("app").unwrap_err().to_string();
        assert!(unlicensed.contains("names no licence"), "{unlicensed}");
        assert_eq!(named("sys", "0.3.0+c").purl(), "pkg:cargo/sys@0.3.0%2Bc");
        assert!(read_tree("1 tls v1.2.0").is_err());
        assert!(read_tree("what is this").is_err());
    }

    #[test]
    fn what_a_program_was_linked_with_leaves_traces() {
        let program = b"\0/registry/src/mirror-1/redb-4.1.0/src/db.rs\0/registry/src/short\0\
                        /registry/src/mirror-2/aws-lc-sys-0.47.0/x.c\0/registry/src/a/\xff\xfe/b";
        let found: Vec<String> = traces(program).into_iter().collect();
        assert_eq!(found, ["aws-lc-sys-0.47.0", "redb-4.1.0"]);
        let (licences, checksums) = (BTreeMap::new(), BTreeMap::new());
        let links = Links::from([(named("app", "0.1.0"), BTreeSet::new())]);
        let materials = Materials { links, licences, checksums, others: Vec::new() };
        let folder = std::env::temp_dir().join(format!("fulmar-sbom-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("app"), program).unwrap();
        let refused = materials.write("app", &folder.join("app"), &path(&folder, "app")).unwrap_err();
        assert!(refused.to_string().contains("aws-lc-sys-0.47.0"), "{refused}");
        assert!(!path(&folder, "app").exists());
        fs::remove_dir_all(&folder).unwrap();
    }

    /// That none is missing is seen where a program is there: each that left a trace in it has to be listed.
    #[test]
    fn the_bills_of_broker_and_operator_name_every_linked_crate_with_version_licence_and_checksum() {
        let workspace = Workspace::locate().unwrap();
        let materials = Materials::of(&workspace, &["--workspace"]).unwrap();
        for (program, needs) in [
            ("fulmar-broker", ["redb", "tokio", "tonic", "rustls", "aws-lc-sys", "fulmar-core"]),
            ("fulmar-operator", ["kube", "tokio", "hyper", "rustls", "aws-lc-sys", "fulmar-crds"]),
        ] {
            let bill = materials.bill(program).unwrap();
            let lock = fs::read_to_string(workspace.path("Cargo.lock")).unwrap();
            let components = bill["components"].as_array().unwrap();
            let mut libraries = BTreeSet::new();
            for component in components {
                let text = |field: &str| component[field].as_str().unwrap_or_default();
                let (name, version) = (text("name"), text("version"));
                assert!(component["licenses"][0]["expression"].is_string(), "{component}");
                if !component["purl"].is_string() {
                    assert!(["rust-std", "glibc"].contains(&name), "{component}");
                    continue;
                }
                let locked = format!("name = \"{name}\"\nversion = \"{version}\"\n");
                let (_, rest) =
                    lock.split_once(&locked).unwrap_or_else(|| panic!("{component} is not locked"));
                let is_ours = name.starts_with("fulmar");
                assert_eq!(component["hashes"].is_null(), is_ours, "{component}");
                if !is_ours {
                    let package = rest.split("[[package]]").next().unwrap();
                    assert!(
                        package.contains(component["hashes"][0]["content"].as_str().unwrap()),
                        "{component}"
                    );
                }
                assert!(
                    libraries.insert(name.to_owned()) || components.len() > 100,
                    "{component} stands twice"
                );
            }
            for name in needs {
                assert!(libraries.contains(name), "{program} is linked with {name}");
            }
            for name in ["clap_derive", "serde_derive", "prost-build", "tonic-build", "cc"] {
                assert!(
                    !libraries.contains(name),
                    "{name} runs while {program} is compiled, and is not linked"
                );
            }
            // Each that is linked into something else is a component itself.
            let known: BTreeSet<&str> = components
                .iter()
                .chain([&bill["metadata"]["component"]])
                .filter_map(|one| one["bom-ref"].as_str())
                .collect();
            for dependency in bill["dependencies"].as_array().unwrap() {
                for of in dependency["dependsOn"].as_array().unwrap() {
                    assert!(known.contains(of.as_str().unwrap()), "{of} is no component");
                }
            }
            assert!(components.len() > 100, "{program}: {}", components.len());
        }
    }
}
