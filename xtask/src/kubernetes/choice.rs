//! Which Kubernetes the end-to-end tests get, from what the person said: what was not named is not touched.

use std::process::Command;
use std::str::FromStr;

use anyhow::Result;

use super::context;
use crate::process;

/// `--kubernetes`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Our own where it can be, else the kind or k3d cluster of this machine, else a failure.
    Auto,
    /// Started here, taken down afterwards.
    Own,
    /// A context of the person's kubeconfig.
    Context(String),
    /// End to end is left out, as asked.
    None,
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "own" => Ok(Self::Own),
            "none" => Ok(Self::None),
            _ => match text.strip_prefix("context:") {
                Some(name) if !name.is_empty() => Ok(Self::Context(name.to_owned())),
                _ => Err("it is one of auto, own, none and context:NAME".to_owned()),
            },
        }
    }
}

/// What the choice came to.
#[derive(Debug)]
pub(crate) enum Cluster {
    /// Ours to start.
    Own,
    /// There already, and cleared for use.
    Context(context::Cleared),
    /// Left out as asked.
    LeftOut,
}

/// Finds the cluster, or says why there is none.
pub(crate) fn resolve(choice: &Choice, confirmed: Option<&str>) -> Result<Cluster> {
    match choice {
        Choice::None => Ok(Cluster::LeftOut),
        Choice::Own => match why_not_own() {
            None => Ok(Cluster::Own),
            Some(reason) => anyhow::bail!("--kubernetes own {reason}"),
        },
        Choice::Context(name) => context::clear(name, confirmed).map(Cluster::Context),
        Choice::Auto => match why_not_own() {
            None => Ok(Cluster::Own),
            Some(reason) => match context::only_one_on_this_machine() {
                Ok(cleared) => Ok(Cluster::Context(cleared)),
                Err(error) => anyhow::bail!("one of its own {reason}, and {error:#}"),
            },
        },
    }
}

fn why_not_own() -> Option<String> {
    if !cfg!(target_os = "linux") {
        return Some(format!("needs Linux, this is {}", std::env::consts::OS));
    }
    match process::output(Command::new("id").arg("-u")).as_deref() {
        Ok("0") => None,
        Ok(user) => Some(format!("needs root, this is user {user}")),
        Err(error) => Some(format!("needs root, and who this is cannot be told: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::Choice;

    #[test]
    fn every_choice_is_read_from_its_name() {
        assert_eq!("auto".parse(), Ok(Choice::Auto));
        assert_eq!("own".parse(), Ok(Choice::Own));
        assert_eq!("none".parse(), Ok(Choice::None));
        assert_eq!("context:kind-a".parse(), Ok(Choice::Context("kind-a".to_owned())));
    }

    #[test]
    fn an_unknown_choice_and_a_context_without_a_name_are_refused_with_what_is_allowed() {
        for text in ["", "context:", "context", "kind-a", "Own"] {
            let refused = text.parse::<Choice>().unwrap_err();
            assert!(refused.contains("context:NAME"), "{text:?} gave {refused:?}");
        }
    }
}
