use std::collections::BTreeMap;

use fulmar_crds::Cluster;
use serde::Serialize;

use super::*;
use crate::certificates::Kept;
use crate::cluster::fixture::wanted;

/// Certificates that say what they are: the golden files hold no keys.
fn certificates() -> Certificates {
    let kept = |keys: &[&str]| Kept {
        data: keys.iter().map(|key| ((*key).to_owned(), format!("<{key}>"))).collect(),
        annotations: BTreeMap::from([("fulmar.dev/not-after".to_owned(), "2027-02-19T12:00:00Z".to_owned())]),
    };
    Certificates {
        ca: kept(&["ca.crt", "ca.key"]),
        brokers: kept(&["ca.crt", "tls.crt", "tls.key", "gossip.key"]),
        renew_at: jiff::Timestamp::UNIX_EPOCH,
    }
}

fn children(change: impl FnOnce(&mut Cluster)) -> Children {
    build(&wanted(change), &certificates(), 3, 0)
}

/// Compares with a golden file, as YAML. A difference in the pod's template restarts every broker of every Cluster when
/// an operator is upgraded: accept one only together with a line in the changelog.
fn golden(name: &str, object: &impl Serialize) {
    let yaml = serde_yaml::to_string(object).unwrap();
    insta::assert_snapshot!(name, yaml);
}

#[test]
fn the_children_of_a_cluster_of_defaults_are_what_they_were() {
    let children = children(|_| ());
    golden("service_account", &children.service_account);
    golden("ca_secret", &children.ca);
    golden("tls_secret", &children.tls);
    golden("headless_service", &children.headless_service);
    golden("client_service", &children.client_service);
    golden("pod_disruption_budget", &children.budget);
    golden("network_policy", &children.policy);
    golden("stateful_set", &children.stateful_set);
}

#[test]
fn every_field_of_the_spec_that_concerns_pods_reaches_them() {
    let full = include_str!("full_cluster.yaml");
    let children = children(|cluster| {
        let metadata = cluster.metadata.clone();
        *cluster = serde_yaml::from_str(full).unwrap();
        cluster.metadata = metadata;
    });
    golden("stateful_set_with_everything", &children.stateful_set);
}

#[test]
fn the_template_depends_on_neither_the_tenure_nor_the_number_of_brokers() {
    let wanted = wanted(|_| ());
    let template = |brokers, epoch| {
        let set = build(&wanted, &certificates(), brokers, epoch).stateful_set;
        set.spec.unwrap().template
    };
    assert_eq!(template(3, 0), template(7, 1_795_000_000));
}

#[test]
fn the_tenure_is_stamped_on_the_set() {
    let set = build(&wanted(|_| ()), &certificates(), 3, 1_795_000_000).stateful_set;
    let annotations = set.metadata.annotations.unwrap();
    assert_eq!(annotations["fulmar.dev/controller-epoch"], "1795000000");
}

#[test]
fn every_child_says_whose_it_is() {
    let children = children(|_| ());
    let owners = [
        children.service_account.metadata.owner_references,
        children.ca.metadata.owner_references,
        children.tls.metadata.owner_references,
        children.headless_service.metadata.owner_references,
        children.client_service.metadata.owner_references,
        children.budget.metadata.owner_references,
        children.policy.metadata.owner_references,
        children.stateful_set.metadata.owner_references,
    ];
    for owner in owners {
        let owner = owner.unwrap();
        assert_eq!((owner[0].uid.as_str(), owner[0].controller), ("uid-orders", Some(true)));
    }
}

#[test]
fn the_claim_has_no_label_that_could_ever_change() {
    let set = children(|_| ()).stateful_set.spec.unwrap();
    let claim = &set.volume_claim_templates.unwrap()[0];
    assert_eq!((&claim.metadata.labels, &claim.metadata.annotations), (&None, &None));
    assert_eq!(set.selector.match_labels.unwrap().len(), 2);
}

#[test]
fn no_pod_mounts_the_key_of_the_ca() {
    let set = serde_json::to_string(&children(|_| ()).stateful_set).unwrap();
    assert!(set.contains("orders-tls") && !set.contains("orders-ca"));
}

#[test]
fn the_journal_takes_its_part_of_a_small_volume_and_no_more_than_64_mi_of_a_slot() {
    for (size, slot) in [("64Mi", "16Mi"), ("512Mi", "32Mi"), ("10Gi", "64Mi")] {
        let set = serde_json::to_string(
            &children(|cluster| cluster.spec.storage.size = size.to_owned()).stateful_set,
        );
        assert!(set.unwrap().contains(&format!(r#""FULMAR_JOURNAL_SLOT_SIZE","value":"{slot}""#)), "{size}");
    }
}

#[test]
fn volumes_that_are_to_grow_change_nothing_of_the_set_and_restart_nobody() {
    let small = |cluster: &mut Cluster| cluster.spec.storage.size = "512Mi".to_owned();
    let live = children(small).stateful_set;
    let grown = wanted(|cluster| cluster.spec.storage.size = "100Gi".to_owned());
    let again = build(&stateful_set::as_made(&grown, Some(&live)), &certificates(), 3, 7).stateful_set;
    assert_eq!(again.spec, live.spec);
    // A claim that the set has yet to make is made with the size that is wanted.
    let claim = stateful_set::missing_claim(&grown, 4);
    let requests = claim.spec.unwrap().resources.unwrap().requests.unwrap();
    assert_eq!(
        (claim.metadata.name.as_deref(), requests["storage"].0.as_str()),
        (Some("data-orders-4"), "100Gi")
    );
    assert_eq!(claim.metadata.labels, Some(grown.key.selector()));
    assert_eq!(stateful_set::as_made(&grown, None), grown);
}
