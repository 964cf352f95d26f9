use k8s_openapi::api::core::v1::ServiceAccount;
use serde_json::json;

use super::*;
use crate::names::ClusterKey;

fn account(owner: Option<&str>) -> ServiceAccount {
    let key = ClusterKey { namespace: "shop".to_owned(), name: "orders".to_owned() };
    let mut account = ServiceAccount {
        metadata: key.child_metadata("orders".to_owned(), "u1"),
        ..ServiceAccount::default()
    };
    account.metadata.owner_references = owner.map(|uid| vec![key.controller(uid)]);
    account
}

fn live(wanted: &ServiceAccount) -> ServiceAccount {
    serde_json::from_value(marked(wanted)).unwrap()
}

#[test]
fn what_the_api_server_adds_is_no_difference() {
    let wanted = account(Some("u1"));
    let mut live = live(&wanted);
    live.metadata.resource_version = Some("7".to_owned());
    live.metadata.uid = Some("child".to_owned());
    live.secrets = Some(vec![]);
    assert!(is_as_wanted(&marked(&wanted), &live));
}

#[test]
fn a_field_that_was_changed_by_hand_and_one_that_is_no_longer_wanted_are_differences() {
    let wanted = account(Some("u1"));
    let mut edited = live(&wanted);
    edited.automount_service_account_token = Some(true);
    let mut expected = wanted.clone();
    expected.automount_service_account_token = Some(false);
    assert!(!is_as_wanted(&marked(&expected), &edited));
    // An earlier version of us wanted more: only its hash tells.
    assert!(!is_as_wanted(&marked(&wanted), &live(&expected)));
}

#[test]
fn quantities_are_compared_by_what_they_say() {
    let cases = [("1Gi", "1024Mi", true), ("500m", "0.5", true), ("2", "2000m", true), ("1Gi", "1G", false)];
    for (live, wanted, same) in cases {
        assert_eq!(covers(&json!({"memory": live}), &json!({"memory": wanted})), same, "{live} {wanted}");
    }
}

#[test]
fn lists_are_compared_item_by_item() {
    assert!(covers(&json!([{"a": 1, "b": 2}]), &json!([{"a": 1}])));
    assert!(!covers(&json!([{"a": 1}, {"a": 2}]), &json!([{"a": 1}])));
}

#[test]
fn only_what_is_ours_may_be_touched() {
    let wanted = account(Some("u1"));
    assert!(check_owner(&wanted, &account(Some("u1"))).is_ok());
    let foreign = check_owner(&wanted, &account(None)).unwrap_err();
    assert!(matches!(foreign, ApplyError::NameTaken { .. }), "{foreign}");
    let earlier = check_owner(&wanted, &account(Some("u0"))).unwrap_err();
    assert!(matches!(earlier, ApplyError::Leaving { .. }), "{earlier}");
    let mut other = account(Some("u2"));
    other.metadata.owner_references.as_mut().unwrap()[0].kind = "Deployment".to_owned();
    let taken = check_owner(&wanted, &other).unwrap_err().to_string();
    assert_eq!(
        taken,
        "ServiceAccount orders exists and belongs to Deployment orders: rename the Cluster, or delete that ServiceAccount"
    );
}

#[test]
fn an_operator_that_was_replaced_keeps_its_hands_off() {
    let mut account = account(Some("u1"));
    account.metadata.annotations = Some([(ANNOTATION_CONTROLLER_EPOCH.to_owned(), "12".to_owned())].into());
    assert!(check_tenure(&account, 12).is_ok());
    assert!(check_tenure(&account, 13).is_ok());
    assert!(matches!(check_tenure(&account, 11), Err(ApplyError::Deposed { epoch: 12, .. })));
}
