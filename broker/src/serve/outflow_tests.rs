use futures::StreamExt as _;

use super::*;

const KIB: usize = 1024;
const STALL_MAX: Duration = Duration::from_mins(1);

fn taken(budget: &Budget) -> usize {
    budget.taken_bytes() / KIB
}

fn under_test(all_bytes: usize, share_bytes: usize) -> (Budget, Outflow) {
    (Budget::new(all_bytes), Outflow::new(share_bytes))
}

#[tokio::test]
async fn room_that_is_not_needed_is_given_back_and_the_rest_with_the_answer() {
    let (all, connection) = under_test(64 * KIB, 16 * KIB);
    let (answers, _answered) = stream::<()>(4, all.clone(), Some(connection.clone()), STALL_MAX);
    let mut held = answers.room(32 * KIB).await;
    assert_eq!((taken(&all), taken(&connection.share)), (32, 16), "no more than the whole of a share");
    held.keep(24 * KIB);
    assert_eq!((taken(&all), taken(&connection.share)), (24, 16));
    held.keep(KIB + 1);
    assert_eq!((taken(&all), taken(&connection.share)), (2, 2));
    drop(held);
    assert_eq!((taken(&all), taken(&connection.share)), (0, 0));
}

#[tokio::test]
async fn an_answer_in_base64_holds_what_its_text_takes() {
    let (all, mut connection) = under_test(64 * KIB, 64 * KIB);
    connection.write_base64();
    let (answers, _answered) = stream::<()>(4, all.clone(), Some(connection), STALL_MAX);
    let mut held = answers.room(12 * KIB).await;
    assert_eq!(taken(&all), 16);
    held.keep(3 * KIB);
    assert_eq!(taken(&all), 4);
}

#[tokio::test]
async fn an_answer_holds_its_memory_until_its_bytes_are_gone() {
    let (all, connection) = under_test(64 * KIB, 16 * KIB);
    let (answers, mut answered) = stream::<u8>(4, all.clone(), Some(connection), STALL_MAX);
    let held = answers.room(8 * KIB).await;
    answers.send(Ok(1), Some(held)).await.unwrap();
    assert_eq!(taken(&all), 8, "in the queue");
    assert_eq!(answered.next().await.unwrap().unwrap(), 1);
    assert_eq!(taken(&all), 8, "in HTTP's hands");
    drop(answered.handed.take());
    assert_eq!(taken(&all), 0);
}

#[tokio::test]
async fn who_reads_nothing_is_cut_off_also_when_the_stream_has_ended() {
    let (all, connection) = under_test(64 * KIB, 16 * KIB);
    let stall_max = Duration::from_millis(100);
    let (answers, mut answered) = stream::<u8>(4, all, Some(connection.clone()), stall_max);
    let held = answers.room(KIB).await;
    let began = Instant::now();
    answers.send(Ok(1), Some(held)).await.unwrap();
    drop(answers);
    answered.next().await.unwrap().unwrap();
    let handed = answered.handed.clone();
    assert!(answered.next().await.is_none());
    drop(answered);
    connection.is_cut().await;
    assert!(began.elapsed() >= stall_max, "{:?}", began.elapsed());
    drop(handed);
}

#[tokio::test]
async fn under_pressure_only_who_holds_memory_is_hurried() {
    let (all, connection) = under_test(64 * KIB, 64 * KIB);
    let (answers, _answered) = stream::<u8>(4, all.clone(), Some(connection.clone()), STALL_MAX);
    let (others, _other) = stream::<u8>(4, all, Some(connection), STALL_MAX);
    others.send(Ok(1), None).await.unwrap();
    assert_eq!(answers.watch(STALL_MAX).patience(), STALL_MAX);
    let held = answers.room(64 * KIB).await;
    assert_eq!(
        answers.watch(STALL_MAX).patience(),
        STALL_MAX,
        "what is being read is not the program's fault"
    );
    answers.send(Ok(1), Some(held)).await.unwrap();
    assert_eq!(answers.watch(STALL_MAX).patience(), PRESSED_MAX);
    assert_eq!(others.watch(STALL_MAX).patience(), STALL_MAX);
}

#[test]
fn every_step_and_every_pause_without_answers_begins_the_wait_anew() {
    let began = Instant::now();
    let mut unread = Unread { steps_before: 0, since: began };
    let mut judge = |seconds, waiting, steps| {
        unread.judge(began + Duration::from_secs(seconds), waiting, steps).as_secs()
    };
    assert_eq!(judge(30, 1, 0), 30);
    assert_eq!(judge(40, 1, 1), 0);
    assert_eq!(judge(90, 1, 1), 50);
    assert_eq!(judge(95, 0, 1), 0, "nothing waits");
    assert_eq!(judge(99, 1, 1), 4);
}
