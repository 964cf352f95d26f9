//! `docs/grpc.md` is what the `.proto` files say.

use std::fs;
use std::path::Path;

#[path = "support/reference.rs"]
mod reference;

#[test]
fn the_reference_page_is_what_the_protos_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/grpc.md");
    let page = fs::read_to_string(&path).unwrap();
    assert!(
        page == reference::page(),
        "{} is old: run `cargo run -p fulmar-proto --example reference`",
        path.display()
    );
}

#[test]
fn every_link_of_the_page_leads_somewhere() {
    let page = reference::page();
    let heads: Vec<String> = page
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_matches(['#', ' ', '`']).to_lowercase())
        .collect();
    let links: Vec<&str> = page.split("](#").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    assert!(links.len() > 20, "{links:?}");
    for link in links {
        assert!(heads.iter().any(|head| head == link), "#{link} is nowhere");
    }
}
