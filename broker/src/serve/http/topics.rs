//! `/v1/topics` and `/v1/cluster`: what there is.

use std::time::Instant;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use fulmar_proto::v1::MetadataRequest;

use super::super::DEADLINE_DEFAULT;
use super::super::error::Failure;
use super::document::{ClusterDocument, TopicDocument, Topics};
use super::{Http, query};

/// Topics of one answer, unless said otherwise, and the most.
const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 10_000;

/// List topics
#[utoipa::path(
    get,
    path = "/v1/topics",
    tag = "topics",
    params(
        ("after" = Option<String>, Query, description = "Names behind this one: the last answer's `next_after`"),
        ("max" = Option<u32>, Query, description = "At most so many, 1 to 10000; 100 unless said otherwise"),
    ),
    responses(
        (status = 200, description = "Topics by name", body = Topics),
        (status = "default", description = "A problem document (RFC 9457) with a `reason`"),
    )
)]
pub(super) async fn list(
    State(http): State<Http>,
    RawQuery(query): RawQuery,
) -> Result<Json<Topics>, Failure> {
    let door = http.door()?;
    let mut query = query::parse(query.as_deref().unwrap_or_default(), &["after", "max"])?;
    let max = query::count("max", query.get("max").map(String::as_str), PAGE_DEFAULT, PAGE_MAX)?;
    let request = MetadataRequest {
        topics: Vec::new(),
        page_size: u32::try_from(max).expect("at most 10,000"),
        page_token: query.remove("after").unwrap_or_default(),
    };
    let page = door.describe(&request, false, Instant::now() + DEADLINE_DEFAULT).await?;
    let next_after = Some(page.next_page_token).filter(|token| !token.is_empty());
    Ok(Json(Topics { topics: page.topics.into_iter().map(Into::into).collect(), next_after }))
}

/// Describe a topic
///
/// With the state of its partitions; leaders are asked.
#[utoipa::path(
    get,
    path = "/v1/topics/{topic}",
    tag = "topics",
    params(("topic" = String, Path, description = "The topic's name")),
    responses(
        (status = 200, description = "The topic", body = TopicDocument),
        (status = "default", description = "A problem document (RFC 9457) with a `reason`"),
    )
)]
pub(super) async fn describe(
    State(http): State<Http>,
    Path(topic): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<TopicDocument>, Failure> {
    let (door, deadline) = (http.door()?, Instant::now() + DEADLINE_DEFAULT);
    query::parse(query.as_deref().unwrap_or_default(), &[])?;
    let topic = door.find(&topic, false, deadline).await?;
    Ok(Json(door.described(&topic, false, deadline).await?.into()))
}

/// Describe the Cluster
///
/// As the asked broker sees it.
#[utoipa::path(
    get,
    path = "/v1/cluster",
    tag = "cluster",
    responses(
        (status = 200, description = "The Cluster and its brokers", body = ClusterDocument),
        (status = "default", description = "A problem document (RFC 9457) with a `reason`"),
    )
)]
pub(super) async fn cluster(
    State(http): State<Http>,
    RawQuery(query): RawQuery,
) -> Result<Json<ClusterDocument>, Failure> {
    query::parse(query.as_deref().unwrap_or_default(), &[])?;
    Ok(Json(http.door()?.cluster().await.into()))
}
