//! `/v1/topics/{topic}/stream`: server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
//!
//! The last event of each piece carries as its id where every partition goes on, so that a browser which connects again
//! misses nothing; what came behind the last id comes once more. A partition of which nothing came yet may be missing: it begins
//! once more where `from` says.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use fulmar_core::offset::Offset;
use fulmar_proto::v1::{ErrorReason, Message, SubscribeResponse};
use futures::{Stream, StreamExt};
use tokio::time::timeout;
use tonic::Status;

use super::super::error::Failure;
use super::super::outflow::Outflow;
use super::super::subscribe::Beginning;
use super::super::{DEADLINE_DEFAULT, Door};
use super::document::MessageDocument;
use super::{Http, query};

/// The id says where each stands; a topic with more is followed a partition at a time, or by gRPC.
const PARTITIONS_MAX: u32 = 100;
/// Something is sent so often, or proxies end the connection.
const QUIET_MAX: Duration = Duration::from_secs(15);
/// What a browser sends when it connects again.
const LAST_EVENT_ID: &str = "last-event-id";

/// Follow a topic
///
/// Server-sent events: the data of each is a message. The id of an event says where every partition goes on of which something
/// came, the others begin where `from` says; a browser sends it back by itself when it connects again (`Last-Event-ID`). An event
/// `error` has a problem document, and is the last.
#[utoipa::path(
    get,
    path = "/v1/topics/{topic}/stream",
    tag = "messages",
    params(
        ("topic" = String, Path, description = "The topic's name"),
        ("partition" = Option<u32>, Query, description = "Only this one; needed for a topic of more than 100 partitions"),
        ("from" = Option<String>, Query, description = "`latest` (the default), `earliest`, or an offset"),
        ("Last-Event-ID" = Option<String>, Header, description = "Goes on there: `PARTITION:OFFSET,...`"),
    ),
    responses(
        (status = 200, description = "Events", content_type = "text/event-stream", body = MessageDocument),
        (status = "default", description = "A problem document (RFC 9457) with a `reason`"),
    )
)]
pub(super) async fn follow(State(http): State<Http>, Path(topic): Path<String>, request: Parts) -> Response {
    match start(http, &topic, &request).await {
        Ok(answer) => answer,
        Err(failure) => failure.into_response(),
    }
}

async fn start(http: Http, topic: &str, request: &Parts) -> Result<Response, Failure> {
    let deadline = Instant::now() + DEADLINE_DEFAULT;
    let door = http.door()?;
    let mut query = query::parse(request.uri.query().unwrap_or_default(), &["partition", "from"])?;
    let at = query::start("from", query.get("from").map_or("latest", String::as_str))?;
    let partition = query.remove("partition").map(|text| query::number("partition", &text)).transpose()?;
    let topic = door.find(topic, false, deadline).await?;
    let partitions = match partition {
        Some(partition) => partition..partition + 1,
        None if topic.partitions <= PARTITIONS_MAX => 0..topic.partitions,
        None => {
            let message = format!(
                "partition: needed, for topic {:?} has {} partitions and a stream follows at most {PARTITIONS_MAX}",
                topic.name, topic.partitions
            );
            return Err(Failure::invalid("partition", message));
        }
    };
    let known = last_event(&request.headers)?;
    let starts = partitions.map(async |partition| {
        let key = Door::partition(&topic, partition)?;
        match known.get(&partition) {
            Some(next) => Ok(Beginning { topic: topic.clone(), key, next: *next, moves_on: false }),
            None => door.beginning(topic.clone(), key, Some(at), deadline).await,
        }
    });
    let starts: Vec<Beginning> = futures::future::try_join_all(starts).await?;
    // One that retention may still move has no place yet: `from` says it again.
    let fixed = starts.iter().filter(|start| !start.moves_on);
    let places = fixed.map(|start| (start.key.partition, start.next)).collect();
    let connection = request.extensions.get::<Outflow>().cloned();
    let grows = partition.is_none().then(Vec::new);
    let answered = door.follow(starts, grows, connection).await;
    let handed = answered.handed();
    let head = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    let mut response = (head, Body::from_stream(events(answered, places))).into_response();
    response.extensions_mut().insert(handed);
    Ok(response)
}

/// `PARTITION:OFFSET,…`, as an event's id said it.
fn last_event(headers: &HeaderMap) -> Result<BTreeMap<u32, Offset>, Failure> {
    // Empty before anything has a place.
    let Some(id) = headers.get(LAST_EVENT_ID).filter(|id| !id.is_empty()) else {
        return Ok(BTreeMap::new());
    };
    let place = |place: &str| {
        let (partition, next) = place.split_once(':')?;
        Some((partition.parse().ok()?, Offset(next.parse().ok()?)))
    };
    let places = id.to_str().ok().and_then(|id| id.split(',').map(place).collect());
    let message = "Last-Event-ID: PARTITION:OFFSET,... as an event's id said it";
    places.ok_or_else(|| Failure::invalid("last-event-id", message))
}

/// The events: a piece of messages is one chunk, so that its memory is given back when all of it is written.
fn events(
    answers: impl Stream<Item = Result<SubscribeResponse, Status>> + Send + Unpin,
    places: BTreeMap<u32, Offset>,
) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> + Send {
    futures::stream::unfold(Some((answers, places)), async |state| {
        let (mut answers, mut places) = state?;
        let (chunk, goes_on) = match timeout(QUIET_MAX, answers.next()).await {
            Err(_) => (":\n\n".to_owned(), true),
            Ok(None) => return None,
            Ok(Some(Ok(SubscribeResponse { messages }))) => (piece(messages, &mut places), true),
            Ok(Some(Err(status))) => {
                let unknown = || Failure::new(ErrorReason::NotServing, status.message());
                let problem = Failure::from_status(&status).unwrap_or_else(unknown).to_problem();
                (format!("event: error\ndata: {problem}\n\n"), false)
            }
        };
        Some((Ok(Bytes::from(chunk)), goes_on.then_some((answers, places))))
    })
}

fn piece(messages: Vec<Message>, places: &mut BTreeMap<u32, Offset>) -> String {
    let mut text = String::new();
    // A String takes whatever is written to it.
    let written = "a String is written to";
    for message in messages {
        places.insert(message.partition, Offset(message.offset + 1));
        let json = serde_json::to_string(&MessageDocument::from(message)).expect("no maps, so it is JSON");
        if !text.is_empty() {
            text.push('\n');
        }
        writeln!(text, "data: {json}").expect(written);
    }
    let places: Vec<String> = places.iter().map(|(partition, next)| format!("{partition}:{next}")).collect();
    writeln!(text, "id: {}\n", places.join(",")).expect(written);
    text
}
