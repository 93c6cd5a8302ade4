//! Reads the client's body whole, however it is framed.

use super::core::Stop;
use super::error::{ApiError, Reason};
use bytes::{Bytes, BytesMut};
use pingora::protocols::http::ServerSession as Session;
use std::time::Duration;

/// How long the next piece of a body may take: a client that sends slower than this holds a connection for nothing.
const PIECE_TIMEOUT: Duration = Duration::from_secs(30);

/// The whole body.
///
/// # Errors
/// 413 beyond `max` bytes, 408 when it stalls, or `Gone` when the client hangs up.
pub(super) async fn read(session: &mut Session, max: u64) -> Result<Bytes, Stop> {
    let headers = &session.req_header().headers;
    let announced =
        headers.get(http::header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > max) {
        return Err(too_large(max));
    }
    let waits =
        headers.get(http::header::EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if waits {
        session.write_continue_response().await.map_err(|_| Stop::Gone)?;
    }
    let mut whole: Option<BytesMut> = None;
    let mut first: Option<Bytes> = None;
    loop {
        let piece = match tokio::time::timeout(PIECE_TIMEOUT, session.read_request_body()).await {
            Ok(Ok(Some(piece))) => piece,
            Ok(Ok(None)) => break,
            Ok(Err(_)) => return Err(Stop::Gone),
            Err(_) => {
                let message = "the request body stalled for 30 seconds";
                return Err(ApiError::new(Reason::RequestTimeout, message).into());
            }
        };
        let so_far = whole.as_ref().map_or(first.as_ref().map_or(0, Bytes::len), BytesMut::len);
        if (so_far + piece.len()) as u64 > max {
            return Err(too_large(max));
        }
        // A body that comes in one piece, as most do, is not copied.
        match (&mut whole, first.take()) {
            (None, None) => first = Some(piece),
            (None, Some(start)) => {
                let capacity = announced.map_or(2 * (start.len() + piece.len()), |length| length as usize);
                let mut buffer = BytesMut::with_capacity(capacity);
                buffer.extend_from_slice(&start);
                buffer.extend_from_slice(&piece);
                whole = Some(buffer);
            }
            (Some(buffer), _) => buffer.extend_from_slice(&piece),
        }
    }
    Ok(whole.map(BytesMut::freeze).or(first).unwrap_or_default())
}

fn too_large(max: u64) -> Stop {
    ApiError::new(
        Reason::RequestTooLarge,
        format!("the request body is larger than {max} bytes (server.max_body_bytes)"),
    )
    .into()
}
