use super::*;
use crate::cluster::fixture;

fn claim(owners: Vec<OwnerReference>) -> Claim {
    let mut claim = Claim::default();
    claim.metadata.owner_references = Some(owners);
    claim
}

#[test]
fn claims_of_a_retained_cluster_have_no_owner() {
    let wanted = fixture::wanted(|_| ());
    assert_eq!(owner(&wanted), None);
    assert_eq!(owners_to_write(&wanted, &claim(vec![]), None), None);
    let owned = claim(vec![wanted.key.owner(&wanted.uid)]);
    assert_eq!(owners_to_write(&wanted, &owned, None), Some(vec![]));
}

#[test]
fn claims_go_with_a_cluster_whose_volumes_are_deleted_and_other_owners_stay() {
    let wanted = fixture::wanted(|cluster| cluster.spec.storage.when_deleted = WhenDeleted::Delete);
    let ours = owner(&wanted).unwrap();
    let other = OwnerReference { kind: "Backup".to_owned(), ..OwnerReference::default() };
    let earlier = wanted.key.owner("an earlier uid");
    let written = owners_to_write(&wanted, &claim(vec![other.clone(), earlier]), Some(&ours));
    assert_eq!(written, Some(vec![other.clone(), ours.clone()]));
    assert_eq!(owners_to_write(&wanted, &claim(vec![other, ours.clone()]), Some(&ours)), None);
}
