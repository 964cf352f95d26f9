//! What counts as a command of a page, and what becomes of its quotes.

use super::{Command, OPERATIONS, commands, line, typed, words};

const PAGE: &str = "Type `kubectl get flc`, not `flc`.\n\n```sh\nhelm install a b\nkill %1\n```\n\n| `fulmar dev` | see |\n\n```\n\
    kubectl get flt\nno such thing\n```\n";

#[test]
fn commands_are_the_lines_of_marked_blocks_and_whatever_else_begins_with_a_program() {
    let marked = |text| Command { text, is_marked: true };
    let unmarked = |text| Command { text, is_marked: false };
    let expected = [
        unmarked("kubectl get flc"),
        marked("helm install a b"),
        marked("kill %1"),
        unmarked("fulmar dev"),
        unmarked("kubectl get flt"),
    ];
    assert_eq!(commands(PAGE), expected);
}

#[test]
fn no_quotation_of_the_page_goes_over_the_end_of_a_line() {
    let mut is_block = false;
    for line in OPERATIONS.lines() {
        is_block ^= line.starts_with("```");
        let backticks = line.matches('`').count();
        assert!(is_block || backticks % 2 == 0 || line.starts_with("```"), "it would be overlooked: {line}");
    }
}

#[test]
fn quotes_hold_words_together_wherever_they_begin() {
    let line = r#"a --for=jsonpath='{.b}'=1  -p '{"c": "d e"}' "f 'g'" ''"#;
    let expected = ["a", "--for=jsonpath={.b}=1", "-p", r#"{"c": "d e"}"#, "f 'g'", ""];
    assert_eq!(words(line).unwrap(), expected);
    assert!(words("a 'b").unwrap_err().to_string().contains("left open"));
}

#[test]
fn a_command_is_found_by_its_beginning_if_that_says_which() {
    assert_eq!(line("kubectl drain ").unwrap().split(' ').nth(1), Some("drain"));
    assert!(line("kubectl fly ").unwrap_err().to_string().contains("no command"));
    assert!(line("kubectl ").unwrap_err().to_string().contains("which is"));
    let twice = "helm upgrade fulmar charts/fulmar --namespace fulmar-system";
    assert_eq!(typed(twice, &[("fulmar-system", "a b")]).unwrap().len(), 7);
    assert!(typed(twice, &[("payments", "orders")]).unwrap_err().to_string().contains("payments"));
}
