//! The examples are taken as they are.

use std::fs;
use std::path::Path;

use fulmar_crds::admission::{self, Document};
use fulmar_crds::{ClusterSettings, TopicSettings};

#[test]
fn every_example_is_taken_and_makes_good_settings() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        for verdict in admission::read(&fs::read_to_string(&path).unwrap()) {
            let checked = match verdict.unwrap_or_else(|rejection| panic!("{}: {rejection}", path.display()))
            {
                Document::Cluster(cluster) => ClusterSettings::of(&cluster).map(drop),
                Document::Topic(topic) => TopicSettings::of(&topic).map(drop),
            };
            assert_eq!(checked, Ok(()), "{}", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 2, "{seen} documents");
}
