use super::*;

const ALLOWED: &[&str] = &["topic", "msg"];

fn refused(query: &str) -> String {
    parse(query, ALLOWED).unwrap_err().message
}

#[test]
fn percent_and_plus_are_decoded_once() {
    let values = parse("topic=a%2Fb&msg=1+%2B+1+%3D+2+%25+%C3%A9%26", ALLOWED).unwrap();
    assert_eq!(values["topic"], "a/b");
    assert_eq!(values["msg"], "1 + 1 = 2 % \u{e9}&");
    assert_eq!(parse("&msg=&", ALLOWED).unwrap()["msg"], "");
    assert_eq!(parse("msg", ALLOWED).unwrap()["msg"], "");
    assert_eq!(parse("msg=a=b", ALLOWED).unwrap()["msg"], "a=b");
}

#[test]
fn what_is_no_text_names_its_parameter_and_byte() {
    let said = refused("topic=t&msg=ab%ff");
    assert!(said.starts_with("msg: byte 2 of it is no UTF-8 (0xff)"), "{said}");
    for (query, shown) in [("msg=%", "%"), ("msg=%4", "%4"), ("msg=%zz9", "%zz"), ("msg=%+1", "%+1")] {
        let said = refused(query);
        assert!(said.starts_with(&format!("msg: {shown} is no percent-encoded byte")), "{said}");
    }
}

#[test]
fn unknown_and_double_parameters_are_named_with_what_there_is() {
    assert_eq!(refused("topic=t&colour=red"), "colour: there is no such parameter; there are topic, msg");
    assert_eq!(refused("topic=a&msg=x&topic=b"), "topic: it is there twice");
}
