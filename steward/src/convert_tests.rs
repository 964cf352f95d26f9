use fulmar_core::id::Incarnation;

use super::*;

fn report() -> proto::ReplicaReport {
    let replica = "1:00000000-0000-0000-0000-000000000007";
    proto::ReplicaReport {
        partition: "00000000-0000-0000-0000-000000000001/3".to_owned(),
        entry: format!(
            "00000000-0000-0000-0000-000000000001/3 epoch=7.2 leader={replica} members=1of[{replica}]"
        ),
        term: "7.2/9/00000000000000ff".to_owned(),
        leading: "7.2/9/00000000000000ff".to_owned(),
        in_sync: vec![replica.to_owned()],
        log_end: 12,
        may_have_lost: Some(4),
        set_aside: Some(proto::OffsetRange { from: 7, to: 9 }),
        ..proto::ReplicaReport::default()
    }
}

#[test]
fn a_report_is_read_whole() {
    let (key, report) = report_from_proto(report()).unwrap();
    let term = Term {
        epoch: Epoch { generation: 7, counter: 2 },
        process: Process { session: Session(9), boot: BootId(255) },
    };
    assert_eq!(key.to_string(), "00000000-0000-0000-0000-000000000001/3");
    assert_eq!((report.leading, report.promise.term, report.last_term), (Some(term), Some(term), None));
    assert_eq!(report.promise.entry.unwrap().leader, Some(report.in_sync[0]));
    assert_eq!((report.log_end, report.may_have_lost, report.halted), (Offset(12), Some(Offset(4)), None));
}

#[test]
fn what_does_not_parse_names_its_field() {
    let broken = |change: fn(&mut proto::ReplicaReport)| {
        let mut report = report();
        change(&mut report);
        report_from_proto(report).unwrap_err().to_string()
    };
    assert_eq!(broken(|report| report.partition = "x".to_owned()), "partition: \"x\" is not TOPIC/PARTITION");
    assert!(broken(|report| report.term = "7.2/9".to_owned()).starts_with("term: "));
    assert!(broken(|report| report.entry.push('!')).starts_with("entry: "));
    assert!(broken(|report| report.in_sync.push(String::new())).starts_with("in_sync: "));
    assert!(topics_from_proto(&["nonsense".to_owned()]).unwrap_err().to_string().starts_with("topics: "));
}

#[test]
fn a_broker_that_speaks_no_common_protocol_does_not_fit() {
    let hello = proto::BrokerHello {
        protocol: Some(proto::ProtocolRange { minimum: 7, maximum: 9 }),
        version: "9.0.0".to_owned(),
        ..proto::BrokerHello::default()
    };
    let why = hello_from_proto(&hello).unwrap_err();
    assert_eq!(why, "it is version 9.0.0 and speaks protocols 7 to 9, this side speaks 1 to 2");
}

#[test]
fn a_greeting_carries_what_is_remembered() {
    let process = Process { session: Session(3), boot: BootId(4) };
    let greeting = Greeting {
        cluster_id: None,
        controller_epoch: 5,
        known: Some((Incarnation(6), process)),
        restored: true,
        lost: Some(Incarnation(7)),
    };
    let hello = hello_to_proto(Ordinal(2), &greeting);
    assert_eq!((hello.cluster_id.as_str(), hello.controller_epoch, hello.ordinal), ("", 5, 2));
    assert_eq!((hello.known_session, hello.known_boot, hello.restored), (3, 4, true));
    assert_eq!(hello.known_incarnation, "00000000-0000-0000-0000-000000000006");
    assert_eq!(hello.lost_incarnation, "00000000-0000-0000-0000-000000000007");
}
