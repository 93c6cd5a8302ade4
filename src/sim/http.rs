//! HTTP/1.1 by hand: reads requests, writes heads. No framework, so that every byte of a fault is meant.

use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const MAX_HEAD: usize = 256 * 1024;
const MAX_BODY: usize = 256 * 1024 * 1024;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub method: String,
    pub path: String,
    pub query: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// The first value of a header, whose name is given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Reads the next request of a connection; what was read beyond it stays in `buffer`. `None` when the client closed the
/// connection between two requests.
///
/// # Errors
/// The connection's own, and `InvalidData` for anything that is not HTTP/1.
pub(super) async fn read_request<R, W>(
    reader: &mut R,
    writer: &mut W,
    buffer: &mut Vec<u8>,
) -> io::Result<Option<Request>>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let head_end = loop {
        if let Some(end) = find(buffer, b"\r\n\r\n") {
            break end;
        }
        if buffer.len() > MAX_HEAD {
            return Err(invalid("the head is too large"));
        }
        if reader.read_buf(buffer).await? == 0 {
            return if buffer.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
    };
    let mut request = parse_head(&buffer[..head_end])?;
    buffer.drain(..head_end + 4);
    if request.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
        writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    let chunked =
        request.header("transfer-encoding").is_some_and(|value| value.to_ascii_lowercase().contains("chunked"));
    if chunked {
        request.body = read_chunks(reader, buffer).await?;
    } else if let Some(length) = request.header("content-length") {
        let length: usize = length.trim().parse().map_err(|_| invalid("content-length is not a number"))?;
        fill(reader, buffer, length).await?;
        request.body = buffer.drain(..length).collect();
    }
    Ok(Some(request))
}

fn parse_head(head: &[u8]) -> io::Result<Request> {
    let head = std::str::from_utf8(head).map_err(|_| invalid("the head is not text"))?;
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version)) = (first.next(), first.next(), first.next()) else {
        return Err(invalid("not a request line"));
    };
    if !version.starts_with("HTTP/1.") {
        return Err(invalid("not HTTP/1"));
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut headers = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or_else(|| invalid("a header without a colon"))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Ok(Request { method: method.to_owned(), path: path.to_owned(), query: query.to_owned(), headers, body: Vec::new() })
}

async fn read_chunks<R: AsyncRead + Unpin>(reader: &mut R, buffer: &mut Vec<u8>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line_end = loop {
            if let Some(end) = find(buffer, b"\r\n") {
                break end;
            }
            fill(reader, buffer, buffer.len() + 1).await?;
        };
        let line = std::str::from_utf8(&buffer[..line_end]).map_err(|_| invalid("not a chunk size"))?;
        let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)
            .map_err(|_| invalid("not a chunk size"))?;
        if size + body.len() > MAX_BODY {
            return Err(invalid("the body is too large"));
        }
        let chunk_start = line_end + 2;
        fill(reader, buffer, chunk_start + size + 2).await?;
        body.extend_from_slice(&buffer[chunk_start..chunk_start + size]);
        buffer.drain(..chunk_start + size + 2);
        if size == 0 {
            return Ok(body);
        }
    }
}

async fn fill<R: AsyncRead + Unpin>(reader: &mut R, buffer: &mut Vec<u8>, length: usize) -> io::Result<()> {
    if length > MAX_BODY {
        return Err(invalid("the body is too large"));
    }
    while buffer.len() < length {
        if reader.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(haystack, needle)
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(usize),
    Chunked,
    /// By the end of the connection.
    Close,
}

/// A response head.
pub(super) fn head(status: u16, content_type: &str, headers: &[(&str, String)], framing: Framing) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} {}\r\ncontent-type: {content_type}\r\n", reason(status));
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    match framing {
        Framing::Length(length) => head.push_str(&format!("content-length: {length}\r\n\r\n")),
        Framing::Chunked => head.push_str("transfer-encoding: chunked\r\n\r\n"),
        Framing::Close => head.push_str("connection: close\r\n\r\n"),
    }
    head.into_bytes()
}

/// One chunk of a chunked body. Never the last one: that is [`LAST_CHUNK`].
pub(super) fn chunk(bytes: &[u8]) -> Vec<u8> {
    let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
    chunk.extend_from_slice(bytes);
    chunk.extend_from_slice(b"\r\n");
    chunk
}

/// The clean end of a chunked body.
pub(super) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Payload Too Large",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        529 => "Overloaded",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> io::Result<Vec<Request>> {
        let (mut reader, mut sent, mut buffer, mut requests) = (bytes, Vec::new(), Vec::new(), Vec::new());
        while let Some(request) = read_request(&mut reader, &mut sent, &mut buffer).await? {
            requests.push(request);
        }
        Ok(requests)
    }

    #[tokio::test]
    async fn reads_bodies_with_a_length_and_chunked_one_after_the_other() -> io::Result<()> {
        let bytes = b"POST /a?b=c HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabcPOST /d HTTP/1.1\r\n\
            Transfer-Encoding: chunked\r\n\r\n2\r\nxy\r\n1;e=1\r\nz\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n";
        let requests = read(bytes).await?;
        let seen: Vec<_> = requests.iter().map(|r| (r.path.as_str(), r.query.as_str(), r.body.as_slice())).collect();
        assert_eq!(seen, [("/a", "b=c", &b"abc"[..]), ("/d", "", b"xyz"), ("/", "", b"")]);
        assert_eq!(requests[0].header("host"), Some("h"));
        Ok(())
    }

    #[tokio::test]
    async fn refuses_what_is_not_http() {
        for bytes in
            [&b"hello\r\n\r\n"[..], b"GET / HTTP/2\r\n\r\n", b"POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\nabc"]
        {
            assert!(read(bytes).await.is_err());
        }
    }
}
