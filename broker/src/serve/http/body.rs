//! Bodies of requests, whole and counted.

use axum::body::{Body, HttpBody, to_bytes};
use axum::http::Request;
use bytes::Bytes;
use fulmar_core::batch::BATCH_BYTES_MAX;
use fulmar_proto::v1::ErrorReason;
use tokio::time::timeout;

use super::super::error::Failure;
use super::super::inflow::Received;
use super::super::{DEADLINE_DEFAULT, Door};

/// The whole body and its memory, `growth` times its bytes, which is taken first. One that says that it is too large is refused before it is sent.
pub(super) async fn read(
    door: &Door,
    request: Request<Body>,
    growth: usize,
) -> Result<(Bytes, Received), Failure> {
    let limit = BATCH_BYTES_MAX;
    let too_large = || {
        let message = format!("body: it has more than {limit} bytes, the most that any topic takes");
        Failure::new(ErrorReason::RecordTooLarge, message).with("limit", limit)
    };
    let body = request.into_body();
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let says = body.size_hint().upper().and_then(|bytes| usize::try_from(bytes).ok());
    let taken = says.unwrap_or(limit).min(limit) * growth;
    let received = Received::alone(&door.shared.requests, taken).await?;
    let read = timeout(DEADLINE_DEFAULT, to_bytes(body, limit)).await;
    let late = |_| Failure::invalid("body", format!("body: it did not arrive within {DEADLINE_DEFAULT:?}"));
    let bytes = read.map_err(late)?.map_err(|error| {
        let is_too_large = std::error::Error::source(&error)
            .is_some_and(|source| source.to_string().contains("length limit exceeded"));
        if is_too_large {
            return too_large();
        }
        Failure::invalid("body", format!("body: it did not arrive whole: {error}"))
    })?;
    Ok((bytes, received))
}
