//! Promise: a partition that has lost more volumes than its settings survive waits, says what is missing and what a person can type
//! to give it up; the word works once, and what was given up is said.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use anyhow::ensure;
use fulmar_client::Record;
use fulmar_crds::topic::ACCEPT_DATA_LOSS;
use fulmar_e2e::brokers::{Brokers, READY_WITHIN, SOON, cluster, topic};
use fulmar_e2e::clients::producer;
use fulmar_e2e::environment::Environment;
use fulmar_e2e::records::Acknowledged;
use fulmar_e2e::{page, wait};

const TOPIC: &str = "events";
const RESOURCE: &str = "flt/events";

/// What everybody had, what only the two had that are lost, and who is left.
struct Ruin {
    kept: Acknowledged,
    gone: Acknowledged,
    survivor: u32,
}

/// One broker is cut from the others, which go on; then these lose their volumes.
async fn ruin(brokers: &Brokers) -> Ruin {
    let leader = brokers.await_whole(TOPIC).await.unwrap()[0];
    let (survivor, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let client = brokers.client(leader).await.unwrap();
    let (mut kept, mut gone) = (Acknowledged::default(), Acknowledged::default());
    kept.publish(&client, TOPIC, 400, 1).await.unwrap();
    brokers.await_whole(TOPIC).await.unwrap();

    let nodes = Environment::get().unwrap().nodes().unwrap();
    let address = |ordinal| brokers.pod_ip(ordinal).unwrap();
    let cuts = [leader, other].map(|one| nodes.cut(&address(survivor), &address(one)).unwrap());
    gone.publish(&client, TOPIC, 200, 2).await.unwrap();
    // Whoever comes in their place has other addresses.
    brokers.lose_volumes(&[leader, other]).unwrap();
    drop(cuts);
    Ruin { kept, gone, survivor }
}

/// What the condition says once it has a line to type, both new volumes are there, and the operator has heard what is `left`: brokers
/// report their logs now and then, and the condition may be of an older report.
fn told(brokers: &Brokers, left: &str) -> String {
    wait::until("the condition has a line to type", READY_WITHIN, || {
        let ready = brokers.condition(RESOURCE, "Ready")?;
        let message = ready.map(|ready| ready.2).unwrap_or_default();
        let replaced = message.matches("(its volume was replaced)").count();
        // The line is of the table as it is now.
        let newest = brokers.epochs()?.iter().all(|epoch| message.ends_with(&format!("=0:{epoch}")));
        let is_whole = replaced == 2 && message.contains(ACCEPT_DATA_LOSS) && newest;
        ensure!(is_whole && message.contains(left), "it says: {message}; not all of it, or not {left:?}");
        Ok(Some(message))
    })
    .unwrap()
}

/// As a person who repeats it in the hope that it helps.
fn annotate(brokers: &Brokers, value: &str) {
    let resource = ["annotate", RESOURCE, "--overwrite"];
    brokers.kubectl(&[&resource[..], &[&format!("{ACCEPT_DATA_LOSS}-")]].concat()).unwrap();
    brokers.kubectl(&[&resource[..], &[&format!("{ACCEPT_DATA_LOSS}={value}")]].concat()).unwrap();
}

/// What does not name this partition at this epoch does nothing, and the conditions say what is wrong with it.
fn nothing_else_helps(brokers: &Brokers, epoch: &str) {
    for (value, said) in [
        ("everything", "\"everything\" is not PARTITION:EPOCH"),
        (&*format!("7:{epoch}"), "there is no partition 7"),
    ] {
        annotate(brokers, value);
        wait::until_so(&format!("the condition says what is wrong with {value}"), SOON, || {
            let stalled = brokers.condition(RESOURCE, "Stalled")?;
            Ok(stalled.is_some_and(|stalled| stalled.1 == "InvalidAnnotation" && stalled.2.contains(said)))
        })
        .unwrap();
    }
    annotate(brokers, "0:1.1");
    wait::until_so("the condition says that the epoch is another one", SOON, || {
        let said = format!("the annotation for 0:1.1 names another epoch than {epoch}, and does nothing");
        Ok(brokers.condition(RESOURCE, "Ready")?.is_some_and(|ready| ready.2.contains(&said)))
    })
    .unwrap();
    assert_eq!(brokers.epochs().unwrap(), [epoch], "nothing was decided");
    let ready = brokers.condition(RESOURCE, "Ready").unwrap().unwrap();
    assert_eq!((&*ready.0, &*ready.1), ("False", "QuorumLost"));
}

/// A word for the partition as it works now is refused, which is an epoch of its own. A leader that goes home before it is heard makes
/// another one, too: then it is said again, for that.
fn refused_while_it_works(brokers: &Brokers, given_up: &str) {
    let mut named: Vec<String> = Vec::new();
    wait::until_so("an Event says that it is refused", SOON, || {
        // Events that are alike are told together, with the words of the first.
        let notes = brokers.events("DataLossRefused")?.0;
        let is_refused = |epoch: &String| {
            let said = format!("the annotation for 0:{epoch} is refused");
            notes.iter().any(|note| note.contains(&said))
        };
        if named.iter().any(is_refused) {
            return Ok(true);
        }
        let working = brokers.epochs()?.remove(0);
        assert_ne!(working, given_up);
        if named.last() != Some(&working) {
            annotate(brokers, &format!("0:{working}"));
            named.push(working);
        }
        Ok(false)
    })
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_word_that_names_partition_and_epoch_gives_up_what_is_lost_once_and_nothing_else_does() {
    let brokers = Brokers::apply("given-up", &(cluster(3) + &topic(TOPIC, 1, ""))).unwrap();
    brokers.await_ready(RESOURCE).unwrap();
    let Ruin { mut kept, gone, survivor } = ruin(&brokers).await;

    let end = kept.last(0).unwrap() + 1;
    let left = format!("broker {survivor} has the longest log that is left, up to {end}");
    let message = told(&brokers, &left);
    println!("told: {message}");
    assert!(message.starts_with("partition 0 has no quorum: broker "), "{message}");
    let stalled = brokers.condition(RESOURCE, "Stalled").unwrap().unwrap();
    assert_eq!((&*stalled.0, &*stalled.1), ("True", "QuorumLost"));
    let (_, command) = message.split_once("give up what only it has: kubectl ").expect("a line to type");
    let (_, epoch) = command.split_once("=0:").expect("partition 0, and its epoch");
    assert_eq!(brokers.epochs().unwrap(), [epoch]);
    nothing_else_helps(&brokers, epoch);

    // The very line that it says, which is that of the page.
    let names = [("shop", brokers.namespace()), ("orders.v1", TOPIC), ("1763750000.4", epoch)];
    let of_page = page::typed("kubectl --namespace shop annotate ", &names).unwrap();
    let words: Vec<&str> = command.split(' ').collect();
    assert_eq!(of_page[1..], words[..]);
    Environment::get().unwrap().kubectl(&words).unwrap();
    brokers.await_ready(RESOURCE).unwrap();
    let said = wait::until("the condition says from where on records are given up", SOON, || {
        let ready = brokers.condition(RESOURCE, "Ready")?.map(|ready| ready.2).unwrap_or_default();
        Ok(ready.contains("may lack").then_some(ready))
    })
    .unwrap();
    println!("given up: {said}");
    let (_, from) = said.split_once("; partition 0 may lack acknowledged records from offset ").unwrap();
    let from: u64 = from.strip_suffix(" on").unwrap().parse().unwrap();
    assert!(from <= end && gone.first(0).unwrap() >= from, "{from}: {end}, {:?}", gone.first(0));
    wait::until_so("Events say it", SOON, || {
        let (accepted, given_up) = (brokers.events("DataLossAccepted")?, brokers.events("RecordsGivenUp")?);
        let word = accepted.0.iter().any(|note| note.contains(&format!("the annotation for 0:{epoch}")));
        let range = given_up.0.iter().any(|note| note.contains(&format!("from offset {from} on")));
        Ok(word && range)
    })
    .unwrap();
    let client = brokers.client(survivor).await.unwrap();
    kept.publish(&client, TOPIC, 100, 3).await.unwrap();
    brokers.await_whole(TOPIC).await.unwrap();
    kept.compare(&client, TOPIC).await.unwrap();

    // Once: the same word again is nothing, and one for the partition as it works now is refused.
    annotate(&brokers, &format!("0:{epoch}"));
    refused_while_it_works(&brokers, epoch);
    assert_eq!(brokers.events("DataLossAccepted").unwrap().1, 1, "it worked once");
    let producer = producer(&client, TOPIC).await.unwrap();
    producer.publish(Record::new("it goes on")).await.unwrap();
    brokers.await_ready(RESOURCE).unwrap();
}
