use fulmar_core::id::Ordinal;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::*;
use crate::cluster::fixture;

/// Of broker 4, bound.
fn claim(change: impl FnOnce(&mut Value)) -> Claim {
    let mut claim = json!({
        "metadata": {"namespace": "shop", "name": "data-orders-4", "uid": "uid-4", "annotations": {}},
        "spec": {"volumeName": "pv-4"},
        "status": {"phase": "Bound"},
    });
    change(&mut claim);
    serde_json::from_value(claim).unwrap()
}

fn marked() -> Claim {
    claim(|claim| claim["metadata"]["annotations"][ANNOTATION_EMPTY] = "uid-4".into())
}

fn wanted(replicas: i32, when_scaled: WhenScaled) -> Wanted {
    fixture::wanted(|cluster| {
        cluster.spec.replicas = replicas;
        cluster.spec.storage.when_scaled = when_scaled;
    })
}

fn pod(ordinal: u16) -> BrokerPod {
    BrokerPod {
        ordinal,
        name: format!("orders-{ordinal}"),
        uid: format!("pod-{ordinal}"),
        created: None,
        address: None,
        zone: None,
        node: None,
        volume: Some(format!("uid-{ordinal}")),
        running: true,
        ready: true,
        unready_since: None,
        leaving: false,
        revision: None,
        certificates: None,
        trouble: None,
    }
}

/// Five brokers that serve; who holds nothing is said.
fn view(empty: &[u16], holding: u16) -> View {
    let broker = |ordinal: u16| BrokerView {
        ordinal: Ordinal(ordinal),
        incarnation: None,
        zone: None,
        state: BrokerState::Serving,
        replicas: if empty.contains(&ordinal) { 0 } else { 12 },
        is_empty: empty.contains(&ordinal),
        message: String::new(),
        certificates: String::new(),
        disk: None,
    };
    let brokers = (0..5).map(broker).collect();
    View { controller_epoch: 7, wished: 3, holding, named: holding, brokers, ..View::default() }
}

/// Five brokers run, and three are wanted.
fn leaving<T>(
    view: Option<&View>,
    change: impl FnOnce(&mut Look<'_>),
    then: impl FnOnce(&Look<'_>) -> T,
) -> T {
    let wanted = wanted(3, WhenScaled::Delete);
    let pods: Vec<BrokerPod> = (0..5).map(pod).collect();
    let standing = [0, 1, 2, 3, 4];
    let scale = Scale::Held(5);
    let mut look = Look { wanted: &wanted, scale, set: Some(5), pods: &pods, standing: &standing, view };
    change(&mut look);
    then(&look)
}

/// Three are left, and three are wanted.
fn left<T>(when_scaled: WhenScaled, view: Option<&View>, then: impl FnOnce(&Look<'_>) -> T) -> T {
    let wanted = wanted(3, when_scaled);
    let pods: Vec<BrokerPod> = (0..3).map(pod).collect();
    let standing = [0, 1, 2];
    let scale = Scale::AsWanted(3);
    then(&Look { wanted: &wanted, scale, set: Some(3), pods: &pods, standing: &standing, view })
}

#[test]
fn a_claim_is_marked_only_while_its_broker_is_to_go_and_says_itself_that_it_holds_nothing() {
    let empty = view(&[4], 4);
    let mark = |view: Option<&View>, change: fn(&mut Look<'_>)| {
        leaving(view, change, |look| look.mark(&claim(|_| ())))
    };
    assert_eq!(mark(Some(&empty), |_| ()), Some(Mark::Set));
    assert_eq!(mark(None, |_| ()), None, "the table was not read, or the wish is another one");
    assert_eq!(mark(Some(&view(&[], 5)), |_| ()), None, "it holds something");
    assert_eq!(mark(Some(&empty), |look| look.pods = &look.pods[..4]), None, "it has no pod");
    // By the table alone it holds nothing, and it does not answer.
    let mut silent = view(&[4], 4);
    (silent.brokers[4].state, silent.brokers[4].is_empty) = (BrokerState::Dead, false);
    assert_eq!(mark(Some(&silent), |_| ()), None);
    // It says that it holds nothing, and the table gives it something that it has not heard of.
    let mut given = view(&[4], 5);
    given.brokers[4].replicas = 1;
    assert_eq!(mark(Some(&given), |_| ()), None);
    let other = |claim: &mut Value| claim["metadata"]["uid"] = "uid-of-another".into();
    assert_eq!(
        leaving(Some(&empty), |_| (), |look| look.mark(&claim(other))),
        None,
        "it runs on another one"
    );
    assert_eq!(leaving(Some(&empty), |_| (), |look| look.mark(&marked())), None, "once is enough");
}

#[test]
fn a_mark_goes_as_soon_as_its_broker_is_wanted_again_or_holds_something() {
    let five = wanted(5, WhenScaled::Delete);
    let mark = |view: Option<&View>, five: Option<&Wanted>| {
        let change = |look: &mut Look<'_>| look.scale = Scale::AsWanted(five.map_or(3, |_| 5));
        let (wanted, set) = (five.cloned(), Some(3));
        leaving(view, change, |look| {
            let wanted = wanted.as_ref().unwrap_or(look.wanted);
            Look { wanted, set, ..*look }.mark(&marked())
        })
    };
    assert_eq!(mark(None, Some(&five)), Some(Mark::Remove), "before it is known what is placed where");
    assert_eq!(mark(Some(&view(&[4], 4)), Some(&five)), Some(Mark::Remove));
    assert_eq!(mark(Some(&view(&[], 5)), None), Some(Mark::Remove));
    assert_eq!(mark(Some(&view(&[4], 4)), None), None);
    assert_eq!(mark(None, None), None);
}

#[test]
fn a_claim_is_deleted_only_if_that_is_asked_for_and_its_broker_is_gone_and_was_empty() {
    let settled = View { holding: 3, named: 3, ..view(&[], 3) };
    let fate = |claim: &Claim| left(WhenScaled::Delete, Some(&settled), |look| look.fate(claim));
    assert_eq!(fate(&marked()), Fate::Goes);
    assert_eq!(fate(&claim(|_| ())), Fate::Unproven, "no broker said that it is empty");
    let copied = claim(|claim| claim["metadata"]["annotations"][ANNOTATION_EMPTY] = "uid-of-another".into());
    assert_eq!(fate(&copied), Fate::Unproven);
    assert_eq!(left(WhenScaled::Retain, Some(&settled), |look| look.fate(&marked())), Fate::Kept);
    assert_eq!(left(WhenScaled::Delete, None, |look| look.fate(&marked())), Fate::Waits);
    // An older table came back, by which it holds something.
    let held = view(&[], 5);
    assert_eq!(left(WhenScaled::Delete, Some(&held), |look| look.fate(&marked())), Fate::Waits);
    let mut going = marked();
    going.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
    assert_eq!(fate(&going), Fate::Going);
    assert_eq!(left(WhenScaled::Retain, None, |look| look.fate(&going)), Fate::Going);
}

#[test]
fn a_claim_of_a_broker_that_is_wanted_or_runs_is_never_deleted() {
    let settled = View { holding: 3, named: 3, ..view(&[4], 3) };
    let own = |ordinal: u16| {
        claim(|claim| {
            claim["metadata"]["name"] = format!("data-orders-{ordinal}").into();
            claim["metadata"]["annotations"][ANNOTATION_EMPTY] = "uid-4".into();
        })
    };
    for ordinal in 0..3 {
        assert_eq!(left(WhenScaled::Delete, Some(&settled), |look| look.fate(&own(ordinal))), Fate::InUse);
    }
    let fate = |change: fn(&mut Look<'_>)| leaving(Some(&settled), change, |look| look.fate(&marked()));
    assert_eq!(fate(|_| ()), Fate::InUse);
    assert_eq!(fate(|look| look.scale = Scale::AsWanted(3)), Fate::InUse, "the set has not heard of it");
    let pod_left = |look: &mut Look<'_>| (look.scale, look.set) = (Scale::AsWanted(3), Some(3));
    assert_eq!(fate(pod_left), Fate::InUse, "its pod is still there");
    let no_set = |look: &mut Look<'_>| {
        (look.scale, look.set, look.standing) = (Scale::AsWanted(3), None, &[]);
    };
    assert_eq!(fate(no_set), Fate::InUse, "without a set nobody knows whose pods come next");
    let stranger = claim(|claim| claim["metadata"]["name"] = "data-others-4".into());
    assert_eq!(left(WhenScaled::Delete, Some(&settled), |look| look.fate(&stranger)), Fate::InUse);
}

#[test]
fn a_claim_that_never_had_a_volume_is_known_to_be_empty() {
    let settled = View { holding: 3, named: 3, ..view(&[], 3) };
    let fate = |change: &dyn Fn(&mut Value)| {
        left(WhenScaled::Delete, Some(&settled), |look| look.fate(&claim(|claim| change(claim))))
    };
    let unbound = |claim: &mut Value| {
        claim["status"]["phase"] = "Pending".into();
        claim["spec"] = json!({});
    };
    assert_eq!(fate(&unbound), Fate::Goes);
    assert_eq!(fate(&|claim| claim["status"]["phase"] = "Pending".into()), Fate::Unproven, "it names one");
    assert_eq!(fate(&|claim| claim["spec"] = json!({})), Fate::Unproven, "it is bound");
    let restored = |claim: &mut Value| {
        unbound(claim);
        claim["spec"]["dataSource"] = json!({"kind": "VolumeSnapshot", "name": "of-yesterday"});
    };
    assert_eq!(fate(&restored), Fate::Unproven, "a copy of something is about to be made");
}

#[test]
fn the_condition_names_what_is_left_and_why() {
    let settled = View { holding: 3, named: 3, ..view(&[], 3) };
    let claims = [marked(), claim(|claim| claim["metadata"]["name"] = "data-orders-3".into())];
    let said = |when_scaled, claims: &[Claim]| {
        let claims: Vec<&Claim> = claims.iter().collect();
        let (leftovers, deleting) = left(when_scaled, Some(&settled), |look| Leftovers::look(look, &claims));
        (leftovers.condition(), deleting.iter().map(|claim| claim.name_any()).collect::<Vec<_>>())
    };
    let (condition, deleting) = said(WhenScaled::Retain, &claims);
    assert_eq!((condition.truth, condition.reason.as_str()), (Truth::True, "Retained"));
    assert_eq!(condition.message, "kept, as spec.storage.whenScaled says: data-orders-3, data-orders-4");
    assert!(deleting.is_empty());
    let (condition, deleting) = said(WhenScaled::Delete, &claims);
    assert_eq!((condition.truth, condition.reason.as_str()), (Truth::False, "NotKnownEmpty"));
    assert!(condition.message.contains("data-orders-3; their brokers did not say"), "{}", condition.message);
    assert_eq!(deleting, ["data-orders-4"]);
    assert_eq!(said(WhenScaled::Delete, &[]).0.reason, "NoneLeft");
    let going = Leftovers { going: vec!["data-orders-4".to_owned()], ..Leftovers::default() };
    assert_eq!(going.condition().reason, "DeletingVolumes");
    let refusal = Refusal { reason: "DeletionRefused", message: "no".to_owned() };
    assert_eq!(Leftovers { refusal: Some(refusal), ..going }.condition().reason, "DeletionRefused");
}
