use super::*;

fn key() -> ClusterKey {
    ClusterKey { namespace: "shop".to_owned(), name: "orders".to_owned() }
}

fn document(name: DocumentName) -> Document {
    let lines = vec!["format 1".to_owned(), "cluster …".to_owned()];
    Document { name, cluster_id: ClusterId(7), controller_epoch: 1_795_000_000, lines }
}

#[test]
fn a_document_comes_back_from_its_object_as_it_was() {
    for name in [DocumentName::Root, DocumentName::Page(0), DocumentName::Page(12)] {
        let mut object = to_object(&key(), document(name), None, None).unwrap();
        assert_eq!(object.metadata.resource_version, None, "a new object is created");
        object.metadata.resource_version = Some("99".to_owned());
        let (back, revision) = from_object(&key(), object).unwrap().unwrap();
        assert_eq!((back, revision), (document(name), Revision("99".to_owned())));
    }
}

#[test]
fn a_write_is_bound_to_the_version_that_its_writer_knows() {
    let object =
        to_object(&key(), document(DocumentName::Root), Some(Revision("41".to_owned())), None).unwrap();
    assert_eq!(object.name_any(), "orders-table");
    assert_eq!(object.metadata.resource_version.as_deref(), Some("41"));
}

#[test]
fn no_cluster_owns_the_table_unless_its_volumes_go_with_it() {
    let owner = key().owner("uid-orders");
    let kept = to_object(&key(), document(DocumentName::Page(0)), None, None).unwrap();
    assert_eq!(kept.metadata.owner_references, None);
    let goes = to_object(&key(), document(DocumentName::Page(0)), None, Some(owner.clone())).unwrap();
    assert_eq!(goes.metadata.owner_references, Some(vec![owner]));
}

#[test]
fn a_page_that_was_spoilt_is_named() {
    let mut object = to_object(&key(), document(DocumentName::Page(3)), None, None).unwrap();
    object.spec.cluster_id = "no id".to_owned();
    let error = from_object(&key(), object).unwrap_err().to_string();
    assert!(error.contains("PartitionTable orders-table-3") && error.contains("no id"), "{error}");
    let mut object = to_object(&key(), document(DocumentName::Root), None, None).unwrap();
    object.spec.role = PageRole::Page;
    assert!(from_object(&key(), object).is_err());
}

#[test]
fn an_object_that_is_no_page_of_ours_is_left_alone() {
    let mut object = to_object(&key(), document(DocumentName::Root), None, None).unwrap();
    object.metadata.name = Some("orders-table-of-contents".to_owned());
    assert_eq!(from_object(&key(), object).unwrap(), None);
}

#[test]
fn what_came_of_a_timeout_is_not_known_and_a_conflict_is_certain() {
    let what = "write";
    let ledger = |error| unwritten(&Metrics::new(), &error);
    let unknown = ledger(ApiError::OutcomeUnknown { what, message: String::new() });
    assert!(matches!(unknown, LedgerError::OutcomeUnknown(_)));
    assert_eq!(ledger(ApiError::Conflict { what, message: String::new() }), LedgerError::Conflict);
    assert_eq!(ledger(ApiError::NotFound { what }), LedgerError::Conflict);
    let not_now = ledger(ApiError::NotNow { what, message: String::new(), rest: None });
    assert!(matches!(not_now, LedgerError::Unavailable(_)));
}
