use super::Folder;

#[test]
fn a_folder_is_used_by_one_process_and_belongs_to_one_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let path = Some(dir.path().join("data"));
    let first = Folder::open(path.clone(), "orders").unwrap();
    let refused = Folder::open(path.clone(), "orders").unwrap_err().to_string();
    assert!(refused.contains(&std::process::id().to_string()) && refused.ends_with("data/lock"), "{refused}");
    drop(first);
    let refused = Folder::open(path.clone(), "other").unwrap_err().to_string();
    assert!(refused.contains("belongs to the Cluster \"orders\", not to \"other\""), "{refused}");
    Folder::open(path, "orders").unwrap();
}

#[test]
fn what_was_applied_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::open(Some(dir.path().to_owned()), "orders").unwrap();
    assert!(folder.applied().unwrap().is_empty());
    let text = "apiVersion: fulmar.dev/v1alpha1\nkind: Cluster\nmetadata: {name: orders}\nspec: {}\n";
    let documents: Vec<_> = fulmar_crds::admission::read(text).into_iter().map(Result::unwrap).collect();
    folder.keep_applied(&documents).unwrap();
    assert_eq!(folder.applied().unwrap(), documents);
    std::fs::write(dir.path().join("applied.json"), "[{]").unwrap();
    assert!(folder.applied().unwrap_err().to_string().contains("applied.json is damaged"));
}
