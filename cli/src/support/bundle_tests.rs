use std::collections::BTreeMap;
use std::io::Read;

use serde_json::json;

use super::*;

fn unpacked(bytes: &[u8]) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes));
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_string_lossy().into_owned();
        assert_eq!((entry.header().mode().unwrap(), entry.header().mtime().unwrap()), (0o600, 7));
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        files.insert(path, text);
    }
    files
}

#[test]
fn what_is_missing_is_in_the_readme_and_in_errors_and_secrets_are_nowhere() {
    let mut bundle = Bundle::new(Vec::new(), "f".to_owned(), 7, ProgressBar::hidden());
    bundle.text("a.log", b"password=hunter2 \xff\n").unwrap();
    bundle.object("b.json", json!({"said": "http://a:hunter2@b", "n": 1})).unwrap();
    bundle.text_or_gap("c.txt", Err::<Vec<u8>, _>("no\nway, token=hunter2")).unwrap();
    let long = format!("{}/d.txt", "x".repeat(200));
    bundle.text_or_gap(&long, Ok::<_, String>("d")).unwrap();
    let (bytes, files, gaps) = bundle.finish("Head.").unwrap();
    assert_eq!((files, gaps), (5, 1));
    let found = unpacked(&bytes);
    assert_eq!(found["f/a.log"], "password=(redacted) \u{fffd}\n");
    assert_eq!(found["f/errors.txt"], "c.txt: no way, token=(redacted)\n");
    let readme = &found["f/README.txt"];
    assert!(
        readme.starts_with("Head.\n") && readme.contains("c.txt: no way") && readme.contains("a.log"),
        "{readme}"
    );
    assert!(found.contains_key(&format!("f/{long}")) && found.len() == 5, "{:?}", found.keys());
    assert!(found.values().all(|text| !text.contains("hunter2")));
}

#[test]
fn a_bundle_that_is_full_says_what_did_not_fit_and_ends_whole() {
    let mut bundle = Bundle::new(Vec::new(), "f".to_owned(), 7, ProgressBar::hidden());
    bundle.bytes = BUNDLE_BYTES_MAX - 4;
    bundle.text("fits", b"1234").unwrap();
    bundle.text("large", b"1").unwrap();
    let (bytes, _, gaps) = bundle.finish("").unwrap();
    assert_eq!(gaps, 1);
    let found = unpacked(&bytes);
    assert!(found.contains_key("f/fits") && !found.contains_key("f/large"));
    assert!(found["f/errors.txt"].contains("large: the bundle would have more than 512 MiB"));
}
