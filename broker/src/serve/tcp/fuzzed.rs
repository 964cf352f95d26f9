//! For the fuzzer (`fuzz/`): frames that programs sent, with what has to hold of what is taken.

use bytes::Bytes;
use fulmar_proto::v1::{Header, PublishRequest};

use super::frame::{HEAD_BYTES, Head, body};
use super::request::{Request, memory};

/// A frame; its body also as if its length and CRC were right, for who sends on purpose computes them.
pub fn frame(bytes: &[u8]) {
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() else { return };
    let Ok(told) = Head::parse(head) else { return };
    if let Some(rest) = rest.get(..told.rest())
        && let Ok(body) = body(head, Bytes::copy_from_slice(rest))
    {
        request(told.kind, body);
    }
    request(told.kind, Bytes::copy_from_slice(rest));
}

/// What a request takes is no more than was counted for it before it was read.
fn request(kind: u8, body: Bytes) {
    let counted = memory(body.len());
    let whole = body.len();
    let Ok(Request::Publish { topic, messages, .. }) = Request::parse(kind, body) else { return };
    let headers = messages.iter().flat_map(|message| &message.headers);
    let names: usize = headers.map(|header| header.name.capacity()).sum();
    let headers: usize =
        messages.iter().map(|message| message.headers.capacity() * size_of::<Header>()).sum();
    let taken = topic.capacity() + messages.capacity() * size_of::<PublishRequest>() + headers + names;
    assert!(whole + taken <= counted, "{whole} bytes take {taken} more, and {counted} were counted");
}
