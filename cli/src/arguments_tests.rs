use super::*;

fn leaves<'a>(command: &'a Command, path: &[&'a str], found: &mut Vec<(Vec<&'a str>, &'a Command)>) {
    let below: Vec<_> = command.get_subcommands().filter(|below| below.get_name() != "help").collect();
    if below.is_empty() {
        found.push((path.to_vec(), command));
    }
    for below in below {
        leaves(below, &[path, &[below.get_name()]].concat(), found);
    }
}

#[test]
fn help_of_a_command_shows_those_shared_flags_that_it_takes_and_no_others() {
    let tree = tree(Called::Fulmar);
    let mut found = Vec::new();
    leaves(&tree, &[], &mut found);
    assert!(found.len() > 12, "{} commands", found.len());
    for (path, command) in found {
        let shown: Vec<&str> = SHARED
            .into_iter()
            .filter(|id| command.get_arguments().any(|arg| arg.get_id() == id && !arg.is_hide_set()))
            .collect();
        let expected: &[&str] = match path[0] {
            "publish" | "consume" | "topic" | "discover" | "bench" => &SHARED,
            "cluster" if path[1] == "status" => &SHARED,
            "cluster" => &["cluster", "namespace", "context", "kubeconfig", "kubectl"],
            "support-bundle" => &FOR_KUBECTL,
            _ => &[],
        };
        assert_eq!(shown, expected, "{path:?}");
    }
}

#[test]
fn a_shared_flag_counts_before_and_behind_the_command_and_a_default_does_not() {
    for words in ["fulmar -n shop topic list", "fulmar topic list -n shop", "fulmar topic -n shop list"] {
        let matches = tree(Called::Fulmar).get_matches_from(words.split(' '));
        assert_eq!(typed(&matches).unwrap(), ["namespace"], "{words}");
    }
    let matches = tree(Called::Plugin).get_matches_from(["kubectl-fulmar", "topic", "list"]);
    assert_eq!(typed(&matches).unwrap(), [""; 0]);
}

#[test]
fn kubectl_is_recognised_by_the_name_that_it_calls() {
    for (word, called) in [
        (Some("/usr/local/bin/kubectl-fulmar"), Called::Plugin),
        (Some("kubectl-fulmar"), Called::Plugin),
        (Some("/opt/kubectl-fulmar/fulmar"), Called::Fulmar),
        (Some("fulmar"), Called::Fulmar),
        (None, Called::Fulmar),
    ] {
        assert_eq!(Called::by(word.map(OsStr::new)), called, "{word:?}");
    }
}
