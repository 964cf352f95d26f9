use super::*;

#[test]
fn levels_and_directives_are_filters() {
    for text in [
        "off",
        "error",
        "WARN",
        "info",
        "debug,fulmar_broker::replica=trace",
        " info , fulmar_broker=debug ",
        "info,[publish]=trace",
        "fulmar_core[step{partition=3}]=debug",
    ] {
        let filter: Filter = text.parse().unwrap();
        assert!(!filter.to_string().contains(' '), "{filter}");
        let _built = filter.build(&["kube_client::client=off"]);
    }
}

#[test]
fn what_is_no_filter_is_refused_with_the_directive_by_number_and_word() {
    for (text, number, directive) in [
        ("debgu", 1, "debgu"),
        ("info,fulmar_broker", 2, "fulmar_broker"),
        ("info,fulmar_broker=loud", 2, "fulmar_broker=loud"),
        ("info,,debug", 2, ""),
        ("info,=debug", 2, "=debug"),
        ("info;fulmar_broker=debug=x", 1, "info;fulmar_broker=debug=x"),
    ] {
        let refused = text.parse::<Filter>().unwrap_err();
        assert_eq!(refused, FilterError::Directive { number, directive: directive.to_owned() }, "{text}");
        assert!(refused.to_string().contains("off, error, warn, info, debug, trace"), "{refused}");
    }
    assert_eq!(" ".parse::<Filter>(), Err(FilterError::Empty));
    let long = format!("info,{}=debug", "a".repeat(FILTER_BYTES_MAX));
    assert_eq!(long.parse::<Filter>(), Err(FilterError::TooLong(long.len())));
}
