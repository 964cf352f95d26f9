//! `/v1/topics/{topic}/messages`: publish one message or several, and read one partition.

use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use fulmar_proto::v1::PublishRequest;

use super::super::carried::Carried;
use super::super::error::Failure;
use super::super::inflow::Received;
use super::super::outflow::{self, Outflow};
use super::super::pull::{Pull, Pulled};
use super::super::{DEADLINE_DEFAULT, Door};
use super::document::{MESSAGES_MAX, Messages, NewMessage, NewMessages, Outcome, Outcomes, Published};
use super::{Http, body, query};

/// Read as messages, JSON takes at most about so many times its bytes: a header with a name of one letter does.
const JSON_GROWTH: usize = 8;
/// One answer's messages, unless said otherwise, and the most.
const READ_DEFAULT: usize = 100;
const READ_MAX: usize = 10_000;
/// The parameters of a read's query.
const PARAMETERS: [&str; 4] = ["partition", "offset", "max", "wait"];
/// How long a reader may wait: proxies give up after a minute.
const WAIT_MAX: Duration = Duration::from_secs(50);

/// Publish one message or several
///
/// Answers when all of them are committed, or are known not to be. `application/json`: a message, or an object with
/// `messages`; those of one partition become one batch, in their order. Any other type: the body is the value of one message,
/// byte for byte, and `key` and `partition` stand in the query.
#[utoipa::path(
    post,
    path = "/v1/topics/{topic}/messages",
    tag = "messages",
    params(
        ("topic" = String, Path, description = "The topic's name"),
        ("key" = Option<String>, Query, description = "Of a raw body: its key"),
        ("partition" = Option<u32>, Query, description = "Of a raw body: publish to this partition, whatever the key"),
        ("traceparent" = Option<String>, Header, description = "W3C Trace Context: becomes a header of each message that has no `traceparent`"),
    ),
    request_body(content(
        (NewMessage = "application/json"),
        (NewMessages = "application/json"),
        (Vec<u8> = "application/octet-stream"),
    )),
    responses(
        (status = 200, description = "All are committed. One message: where it stands; several: an object with `messages`", body = Published),
        (status = 207, description = "Several messages, and some are not known to be committed", body = Outcomes),
        (status = "default", description = "A problem document (RFC 9457) with a `reason`; of several messages none is known to be committed"),
    )
)]
pub(super) async fn publish(
    State(http): State<Http>,
    Path(topic): Path<String>,
    request: Request<Body>,
) -> Response {
    match take(http, topic, request).await {
        Ok(answer) => answer,
        Err(failure) => failure.into_response(),
    }
}

async fn take(http: Http, topic: String, request: Request<Body>) -> Result<Response, Failure> {
    let deadline = Instant::now() + DEADLINE_DEFAULT;
    let door = http.door()?;
    let (kind, carried) = (kind_of(request.headers())?, Carried::by(request.headers()));
    let query = request.uri().query().unwrap_or_default().to_owned();
    match kind {
        Kind::Raw => {
            let mut query = query::parse(&query, &["key", "partition"])?;
            let partition = query.remove("partition");
            let partition = partition.map(|text| query::number("partition", &text)).transpose()?;
            let key = query.remove("key").map(Bytes::from);
            let (value, received) = body::read(&door, request, 1).await?;
            let message = PublishRequest { topic, key, value, partition, ..PublishRequest::default() };
            let published = door.publish((carried.onto(message), received), false, deadline).await?;
            Ok(Json(Published::from(published)).into_response())
        }
        Kind::Json => {
            query::parse(&query, &[])?;
            let (bytes, received) = body::read(&door, request, JSON_GROWTH).await?;
            match read_json(&bytes)? {
                Given::One(message) => {
                    let message = carried.onto(message.read(&topic)?);
                    let published = door.publish((message, received), false, deadline).await?;
                    Ok(Json(Published::from(published)).into_response())
                }
                Given::Several(messages) => {
                    publish_all(&door, &topic, (messages, carried), received, deadline).await
                }
            }
        }
    }
}

async fn publish_all(
    door: &Door,
    topic: &str,
    (NewMessages { messages }, carried): (NewMessages, Carried),
    received: Received,
    deadline: Instant,
) -> Result<Response, Failure> {
    if messages.is_empty() {
        return Err(Failure::invalid("messages", "messages: there are none in it"));
    }
    let requests = messages.into_iter().enumerate().map(|(at, message)| {
        let read = message.read(topic).map_err(|failure| failure.about(&format!("messages[{at}]")));
        read.map(|message| carried.onto(message))
    });
    let requests = requests.collect::<Result<Vec<_>, _>>()?;
    let outcomes = door.publish_all(topic, (requests, received), deadline).await?;
    let failed = outcomes.iter().filter(|outcome| outcome.is_err()).count();
    if failed == outcomes.len() {
        return Err(outcomes.into_iter().find_map(Result::err).expect("all of at least one have failed"));
    }
    let status = if failed == 0 { StatusCode::OK } else { StatusCode::MULTI_STATUS };
    let outcome = |outcome: Result<_, Failure>| match outcome {
        Ok(published) => Outcome::Published(Published::from(published)),
        Err(failure) => Outcome::Failed { error: failure.to_problem() },
    };
    Ok((status, Json(Outcomes { messages: outcomes.into_iter().map(outcome).collect() })).into_response())
}

/// What a body is.
enum Kind {
    Json,
    Raw,
}

fn kind_of(headers: &HeaderMap) -> Result<Kind, Failure> {
    let kind = headers.get(header::CONTENT_TYPE).map(|kind| kind.to_str().unwrap_or("?")).unwrap_or_default();
    match kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "application/json" => Ok(Kind::Json),
        // What curl says unless it is told otherwise: JSON that is meant as such must not be published as text.
        "application/x-www-form-urlencoded" => {
            let message = "content-type: a form is no message; say application/json, or application/octet-stream for the \
                           body as it is";
            Err(Failure::invalid("content-type", message))
        }
        _ => Ok(Kind::Raw),
    }
}

/// For the fuzzer: a body of JSON, read as far as it goes.
pub(super) fn fuzzed(body: &[u8]) {
    match read_json(body) {
        Ok(Given::One(message)) => drop(message.read("orders")),
        Ok(Given::Several(several)) => {
            assert!(several.messages.len() <= MESSAGES_MAX);
            for message in several.messages {
                drop(message.read("orders"));
            }
        }
        Err(_) => {}
    }
}

enum Given {
    One(Box<NewMessage>),
    Several(NewMessages),
}

fn read_json(bytes: &[u8]) -> Result<Given, Failure> {
    let wrong = |error: serde_json::Error| Failure::invalid("body", format!("body: {error}"));
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        let message = "body: an object is needed, a message or {\"messages\": [...]}";
        return Err(Failure::invalid("body", message));
    }
    // First as an object with any fields: the second reading tells of the right ones.
    let fields: Fields = serde_json::from_slice(bytes).map_err(wrong)?;
    if fields.messages.is_some() {
        serde_json::from_slice(bytes).map(Given::Several).map_err(wrong)
    } else {
        serde_json::from_slice(bytes).map(|message| Given::One(Box::new(message))).map_err(wrong)
    }
}

/// Whether a body has several messages.
#[derive(serde::Deserialize)]
struct Fields {
    messages: Option<serde::de::IgnoredAny>,
}

/// Read a partition
///
/// Committed messages from an offset on. With `wait`, an answer that would be empty waits for messages so long.
#[utoipa::path(
    get,
    path = "/v1/topics/{topic}/messages",
    tag = "messages",
    params(
        ("topic" = String, Path, description = "The topic's name"),
        ("partition" = Option<u32>, Query, description = "The partition; may be left out for a topic that has one"),
        ("offset" = Option<String>, Query, description = "A number, `earliest` (the default) or `latest`"),
        ("max" = Option<u32>, Query, description = "At most so many messages, 1 to 10000; 100 unless said otherwise. About 512 KiB are one answer at most"),
        ("wait" = Option<f64>, Query, description = "Seconds, 0 to 50; 0 unless said otherwise"),
    ),
    responses(
        (status = 200, description = "The messages; none if there are none yet", body = Messages),
        (status = 416, description = "The offset is not kept any more, or not there yet; the range is told"),
        (status = "default", description = "A problem document (RFC 9457) with a `reason`"),
    )
)]
pub(super) async fn read(State(http): State<Http>, Path(topic): Path<String>, request: Parts) -> Response {
    match look(http, &topic, &request).await {
        Ok(answer) => answer,
        Err(failure) => failure.into_response(),
    }
}

async fn look(http: Http, topic: &str, request: &Parts) -> Result<Response, Failure> {
    let deadline = Instant::now() + DEADLINE_DEFAULT;
    let door = http.door()?;
    let mut query = query::parse(request.uri.query().unwrap_or_default(), &PARAMETERS)?;
    let max = query::count("max", query.get("max").map(String::as_str), READ_DEFAULT, READ_MAX)?;
    let wait = wait(query.remove("wait"))?;
    let at = query::start("offset", query.get("offset").map_or("earliest", String::as_str))?;
    let partition = query.remove("partition").map(|text| query::number("partition", &text)).transpose()?;
    let connection = request.extensions.get::<Outflow>().cloned();
    let (queue, answered) =
        outflow::stream::<Bytes>(1, door.shared.answers.clone(), connection, door.shared.stall_max);
    let pulled = door.pull(topic, Pull { partition, at, max, wait }, &queue, deadline).await?;
    let Pulled { messages, next, room } = pulled;
    let document = Messages { messages: messages.into_iter().map(Into::into).collect(), next_offset: next.0 };
    let json = serde_json::to_vec(&document).expect("a document without maps is JSON");
    // The queue is new, and the program may be gone already.
    let _gone = queue.send(Ok(Bytes::from(json)), room).await;
    drop(queue);
    let mut response = ([(header::CONTENT_TYPE, "application/json")], ()).into_response();
    response.extensions_mut().insert(answered.handed());
    *response.body_mut() = Body::from_stream(answered);
    Ok(response)
}

fn wait(text: Option<String>) -> Result<Duration, Failure> {
    let Some(text) = text else { return Ok(Duration::ZERO) };
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.0..=WAIT_MAX.as_secs_f64()).contains(seconds));
    let wrong =
        || Failure::invalid("wait", format!("wait: seconds, 0 to {}, not {text:?}", WAIT_MAX.as_secs()));
    Ok(Duration::from_secs_f64(seconds.ok_or_else(wrong)?))
}
