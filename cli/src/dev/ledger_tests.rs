use fulmar_core::id::ClusterId;
use fulmar_steward::{Document, DocumentName, Ledger, LedgerError};

use super::FileLedger;

fn document(name: DocumentName, lines: &[&str]) -> Document {
    let lines = lines.iter().map(|line| (*line).to_owned()).collect();
    Document { name, cluster_id: ClusterId(7), controller_epoch: 3, lines }
}

#[tokio::test]
async fn documents_are_replaced_by_compare_and_swap_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = FileLedger::new(dir.path().to_owned());
    assert_eq!(ledger.load().await, Ok(Vec::new()));
    let root = document(DocumentName::Root, &["a b", "", "c"]);
    let page = document(DocumentName::Page(12), &[]);
    let first = ledger.write(root.clone(), None).await.unwrap();
    assert_eq!(ledger.write(root.clone(), None).await, Err(LedgerError::Conflict));
    let second = ledger.write(root.clone(), Some(first.clone())).await.unwrap();
    assert_eq!(ledger.write(root.clone(), Some(first.clone())).await, Err(LedgerError::Conflict));
    assert_eq!(ledger.delete(DocumentName::Root, first).await, Err(LedgerError::Conflict));
    let third = ledger.write(page.clone(), None).await.unwrap();

    let again = FileLedger::new(dir.path().to_owned());
    let mut found = again.load().await.unwrap();
    found.sort_by_key(|(document, _)| document.name);
    assert_eq!(found, [(root, second.clone()), (page, third)]);
    again.delete(DocumentName::Root, second).await.unwrap();
    assert_eq!(again.load().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_damaged_document_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = FileLedger::new(dir.path().to_owned());
    ledger.write(document(DocumentName::Root, &["x"]), None).await.unwrap();
    let path = dir.path().join("root");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, &text[..text.len() - 1]).unwrap();
    let Err(LedgerError::Refused(why)) = ledger.load().await else { panic!("it is damaged") };
    assert!(why.contains("root is damaged"), "{why}");
}

#[tokio::test]
async fn documents_are_written_side_by_side_and_each_of_them_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = FileLedger::new(dir.path().to_owned());
    let writes = |document: Document| {
        let ledger = ledger.clone();
        tokio::spawn(async move { ledger.write(document, None).await })
    };
    let pages: Vec<_> = (0..20).map(|page| writes(document(DocumentName::Page(page), &["x"]))).collect();
    let rivals: Vec<_> = (0..20).map(|_| writes(document(DocumentName::Root, &["y"]))).collect();
    let mut revisions = std::collections::BTreeSet::new();
    for page in pages {
        assert!(revisions.insert(page.await.unwrap().unwrap().0), "a number was given twice");
    }
    let mut won = 0;
    for rival in rivals {
        match rival.await.unwrap() {
            Ok(revision) => {
                won += 1;
                assert!(revisions.insert(revision.0), "a number was given twice");
            }
            Err(error) => assert_eq!(error, LedgerError::Conflict),
        }
    }
    assert_eq!((won, ledger.load().await.unwrap().len()), (1, 21));
}
