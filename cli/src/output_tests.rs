use super::table;

#[test]
fn a_table_has_no_blanks_at_its_ends() {
    let text = table(["A", "LONGER"], [["1".to_owned(), "2".to_owned()]]);
    assert_eq!(text.lines().count(), 2);
    assert!(text.lines().all(|line| line == line.trim()));
}
