use serde_json::{Value, json};

use super::*;
use crate::cluster::fixture;

const GIB: u64 = 1 << 30;

fn claim(ordinal: u16, asked: &str, has: &str, status: &Value) -> PersistentVolumeClaim {
    let mut claim = json!({
        "metadata": {"namespace": "shop", "name": format!("data-orders-{ordinal}"), "uid": format!("uid-{ordinal}")},
        "spec": {"storageClassName": "fast", "resources": {"requests": {"storage": asked}}},
        "status": {"phase": "Bound", "capacity": {"storage": has}},
    });
    for (key, value) in status.as_object().unwrap() {
        claim["status"][key] = value.clone();
    }
    serde_json::from_value(claim).unwrap()
}

fn step_of(asked: &str, has: &str, status: &Value) -> Step {
    step(&claim(0, asked, has, status), 20 * GIB)
}

fn condition(kind: &str, message: &str) -> Value {
    json!({"conditions": [{"type": kind, "status": "True", "message": message}]})
}

#[test]
fn a_claim_that_asks_for_less_is_to_ask_for_the_wanted_size() {
    assert_eq!(step_of("10Gi", "10Gi", &json!({})), Step::Ask);
    // A volume may be larger than what was asked for; the claim says what is wanted all the same.
    assert_eq!(step_of("10Gi", "30Gi", &json!({})), Step::Ask);
}

#[test]
fn a_claim_that_has_the_size_or_more_is_left_alone() {
    assert_eq!(step_of("20Gi", "20Gi", &json!({})), Step::Nothing);
    assert_eq!(step_of("20Gi", "21474836480", &json!({})), Step::Nothing);
    assert_eq!(step_of("100Gi", "100Gi", &json!({})), Step::Nothing);
}

#[test]
fn a_slip_of_the_pen_is_taken_back_while_the_volume_has_not_grown() {
    assert_eq!(step_of("2000Gi", "10Gi", &json!({})), Step::Ask);
    assert_eq!(step_of("2000Gi", "20Gi", &json!({})), Step::Nothing, "Kubernetes refuses it");
}

#[test]
fn a_claim_that_is_unbound_or_going_is_not_touched() {
    assert_eq!(step_of("10Gi", "10Gi", &json!({"phase": "Pending"})), Step::Pending);
    let mut going = claim(0, "10Gi", "10Gi", &json!({}));
    going.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
    assert_eq!(step(&going, 20 * GIB), Step::Nothing);
}

#[test]
fn how_far_a_resize_is_is_told_in_order() {
    let told = |status: &Value| match step_of("20Gi", "10Gi", status) {
        Step::Wait(how) => how,
        other => panic!("{other:?}"),
    };
    assert_eq!(told(&json!({})), "data-orders-0 has 10Gi of 20Gi: its driver was asked");
    assert_eq!(told(&condition("Resizing", "")), "data-orders-0 has 10Gi of 20Gi: the volume grows");
    assert!(told(&condition("FileSystemResizePending", "")).contains("its file system not yet"));
    assert!(told(&condition("ControllerResizeError", "no space in pool")).ends_with("no space in pool"));
}

#[test]
fn a_resize_that_the_driver_cannot_do_needs_a_person() {
    let mut status = condition("ControllerResizeError", "over the limit");
    status["allocatedResourceStatuses"] = json!({"storage": "ControllerResizeInfeasible"});
    let Step::Stuck(why) = step_of("20Gi", "10Gi", &status) else { panic!("it waits") };
    assert!(why.contains("over the limit") && why.contains("take spec.storage.size back"), "{why}");
}

#[test]
fn only_claims_of_brokers_that_there_are_to_be_grow_and_the_largest_volume_is_told() {
    let wanted = fixture::wanted(|cluster| cluster.spec.storage.size = "20Gi".to_owned());
    let claims = [
        claim(0, "20Gi", "20Gi", &json!({})),
        claim(1, "10Gi", "10Gi", &json!({})),
        claim(2, "20Gi", "10Gi", &condition("Resizing", "")),
        claim(3, "10Gi", "40Gi", &json!({})),
    ];
    let claims: Vec<&PersistentVolumeClaim> = claims.iter().collect();
    let (volumes, asking) = Volumes::look(&wanted, 3, &claims);
    assert_eq!(asking, [claims[1]]);
    assert_eq!(volumes.capacity.as_deref(), Some("20Gi"));
    assert_eq!(volumes.growing, ["data-orders-2 has 10Gi of 20Gi: the volume grows"]);
    let condition = volumes.condition();
    assert_eq!((condition.truth, condition.reason.as_str()), (Truth::False, "Growing"));
}

#[test]
fn refusals_say_what_to_do() {
    let of = |said| Refusal::of("data-orders-0", Some("fast"), "20Gi", said);
    let class = of(
        "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
    );
    assert_eq!(class.reason, "ClassCannotGrow");
    assert!(
        class.message.contains("StorageClass fast does not let its volumes grow, or is gone"),
        "{class:?}"
    );
    let quota = of("exceeded quota: small, requested: requests.storage=10Gi, used: requests.storage=30Gi");
    assert_eq!(quota.reason, "QuotaExceeded");
    assert!(quota.message.contains("exceeded quota: small"), "{quota:?}");
    assert_eq!(of("a policy of your company says no").reason, "VolumeRefused");
}

#[test]
fn what_was_refused_is_asked_for_again_after_a_minute_or_another_wish() {
    let mut memory = Memory::default();
    let now = Instant::now();
    let refusal = Refusal { reason: "ClassCannotGrow", message: String::new() };
    memory.remember("20Gi", refusal.clone(), now);
    assert_eq!(memory.recall("20Gi", now + ASK_AGAIN / 2), Some(&refusal));
    assert_eq!(memory.recall("20Gi", now + ASK_AGAIN), None);
    memory.remember("20Gi", refusal, now);
    assert_eq!(memory.recall("30Gi", now), None);
}

#[test]
fn a_claim_is_missing_only_after_a_while() {
    let mut memory = Memory::default();
    let (now, patience) = (Instant::now(), Duration::from_secs(10));
    assert_eq!(memory.missing_for(&[1, 2], patience, now), [0; 0]);
    assert_eq!(memory.missing_for(&[2], patience, now + patience), [2]);
    assert_eq!(memory.missing_for(&[1], patience, now + patience), [0; 0], "it was there meanwhile");
}
