use super::fitted;

#[test]
fn no_more_is_drawn_than_can_be_erased_again() {
    let text = "1\n2\n3\n4\n5";
    for rows in [0, 6, 7, 100] {
        assert_eq!(fitted(text, rows), text);
    }
    assert_eq!(fitted(text, 5), "1\n2\n3\n… and 2 more lines");
    assert_eq!(fitted(text, 2), "… and 5 more lines");
}
