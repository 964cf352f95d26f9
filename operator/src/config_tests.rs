use super::*;

fn parse(more: &[&str]) -> Result<Config, clap::Error> {
    let own = ["fulmar-operator", "--broker-image=b:1", "--pod-name=p", "--pod-namespace=system"];
    Line::try_parse_from(own.iter().chain(more)).map(|line| line.config.expect("settings are given"))
}

fn scopes(value: &str) -> Vec<Option<String>> {
    parse(&["--watch-namespaces", value]).unwrap().scopes()
}

#[test]
fn no_namespace_named_means_all_of_them() {
    assert_eq!(parse(&[]).unwrap().scopes(), [None]);
    assert_eq!(scopes(""), [None]);
    assert_eq!(scopes(" , "), [None]);
}

#[test]
fn namespaces_are_watched_once_each_whatever_the_blanks_between_them() {
    assert_eq!(scopes("b, a,b"), [Some("a".to_owned()), Some("b".to_owned())]);
}

#[test]
fn nodes_are_read_unless_told_not_to() {
    assert!(parse(&[]).unwrap().read_nodes);
    assert!(parse(&["--read-nodes=true"]).unwrap().read_nodes);
    assert!(!parse(&["--read-nodes=false"]).unwrap().read_nodes);
    let refused = parse(&["--read-nodes=no"]).unwrap_err().to_string();
    assert!(refused.contains("--read-nodes") && refused.contains("true, false"), "{refused}");
}

#[test]
fn a_log_level_that_is_no_level_is_refused_by_its_directive() {
    let refused = parse(&["--log-level=info,fulmar_operator"]).unwrap_err().to_string();
    assert!(refused.contains("directive 2, \"fulmar_operator\", is neither a level"), "{refused}");
    let asked = Line::try_parse_from(["fulmar-operator", "log-level", "debug", "--for", "5m"]).unwrap();
    assert!(matches!(asked.command, Some(Command::LogLevel { .. })) && asked.config.is_none());
}
