//! A client that sends its bytes one way or another: over TCP or TLS, in any pieces, several requests on one connection.

use crate::gateway::{Gateway, KEY, PATIENCE};
use bytes::Bytes;
use http::Request;
use orbyt::sim::client::{Answer, BodyEnd};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// The head of a chat request with the gateway's key; `framing` is `content-length: N` or `transfer-encoding: chunked`,
/// and whatever other lines there shall be.
pub fn chat_head(framing: &str) -> String {
    format!("POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {KEY}\r\n{framing}\r\n\r\n")
}

/// A whole chat request with its length.
pub fn chat_request(body: &str) -> String {
    format!("{}{body}", chat_head(&format!("content-length: {}", body.len())))
}

/// A connection on which HTTP/1 is spoken by hand.
pub struct Connection<S> {
    pub stream: S,
    buffer: Vec<u8>,
}

impl Connection<TcpStream> {
    /// A plain one to a gateway.
    pub async fn to(gateway: &Gateway) -> Self {
        let stream = TcpStream::connect(gateway.address()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub fn over(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// The next head, `100 Continue` too: its lines, the status line first.
    pub async fn head(&mut self) -> Vec<String> {
        let end = loop {
            if let Some(end) = memchr::memmem::find(&self.buffer, b"\r\n\r\n") {
                break end;
            }
            assert!(self.more().await, "the connection ended in {:?}", String::from_utf8_lossy(&self.buffer));
        };
        let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
        String::from_utf8(head).unwrap().trim_end().split("\r\n").map(str::to_owned).collect()
    }

    /// The next whole answer. The connection is good for the next one if that was framed.
    pub async fn answer(&mut self) -> Answer {
        let started = Instant::now();
        let head = self.head().await;
        let status = head[0].split(' ').nth(1).unwrap().parse().unwrap();
        let header = |line: &String| {
            line.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        let headers: Vec<(String, String)> = head[1..].iter().filter_map(header).collect();
        let mut answer = Answer {
            status,
            headers,
            body: Vec::new(),
            end: BodyEnd::Clean,
            head_after: started.elapsed(),
            took: Duration::ZERO,
        };
        if answer.header("transfer-encoding") == "chunked" {
            self.chunks(&mut answer).await;
        } else if let Ok(length) = answer.header("content-length").parse::<usize>() {
            while self.buffer.len() < length && self.more().await {}
            answer.end = if self.buffer.len() < length { BodyEnd::Cut } else { BodyEnd::Clean };
            answer.body = self.buffer.drain(..length.min(self.buffer.len())).collect();
        } else if status != 204 && status != 304 {
            while self.more().await {}
            answer.body = std::mem::take(&mut self.buffer);
        }
        answer.took = started.elapsed();
        answer
    }

    async fn chunks(&mut self, answer: &mut Answer) {
        loop {
            match self.chunk().await {
                Some(chunk) if chunk.is_empty() => return,
                Some(chunk) => answer.body.extend_from_slice(&chunk),
                None => return answer.end = BodyEnd::Cut,
            }
        }
    }

    /// The next chunk, an empty one at the end; `None` when the connection ended before it.
    pub async fn chunk(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(line) = memchr::memmem::find(&self.buffer, b"\r\n") {
                let size = usize::from_str_radix(std::str::from_utf8(&self.buffer[..line]).unwrap(), 16).unwrap();
                let whole = line + 2 + size + 2;
                if self.buffer.len() >= whole {
                    let chunk = self.buffer[line + 2..line + 2 + size].to_vec();
                    self.buffer.drain(..whole);
                    return Some(chunk);
                }
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// Reads more; false at the end of the connection.
    async fn more(&mut self) -> bool {
        let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await;
        matches!(read.expect("nothing more came"), Ok(read) if read > 0)
    }
}

/// A connection on which HTTP/2 is spoken. It is closed when nothing holds it any more.
pub struct H2 {
    sender: h2::client::SendRequest<Bytes>,
}

impl H2 {
    /// With prior knowledge, over whatever transport there is.
    pub async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(async move {
            // How it ends is seen in the answers.
            let _ = connection.await;
        });
        Self { sender }
    }

    /// The same connection, for a request beside others.
    pub fn again(&self) -> Self {
        Self { sender: self.sender.clone() }
    }

    pub async fn to(gateway: &Gateway) -> Self {
        Self::over(TcpStream::connect(gateway.address()).await.unwrap()).await
    }

    /// Sends a chat request with the gateway's key and reads the whole answer. A stream that is reset is [`BodyEnd::Cut`].
    pub async fn chat(&mut self, body: Bytes) -> Answer {
        tokio::time::timeout(PATIENCE, self.exchange(body)).await.expect("no answer over HTTP/2")
    }

    async fn exchange(&mut self, body: Bytes) -> Answer {
        let started = Instant::now();
        let request = Request::post("http://gateway/v1/chat/completions");
        let request = request.header("authorization", format!("Bearer {KEY}")).body(()).unwrap();
        let mut sender = self.sender.clone().ready().await.unwrap();
        let (response, mut stream) = sender.send_request(request, false).unwrap();
        // The window of a stream is smaller than a large body: what fits is sent, the rest waits for its turn.
        stream.send_data(body, true).unwrap();
        let (parts, mut incoming) = response.await.unwrap().into_parts();
        let head_after = started.elapsed();
        let (mut body, mut end) = (Vec::new(), BodyEnd::Clean);
        while let Some(piece) = incoming.data().await {
            let Ok(piece) = piece else {
                end = BodyEnd::Cut;
                break;
            };
            incoming.flow_control().release_capacity(piece.len()).unwrap();
            body.extend_from_slice(&piece);
        }
        let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            (name.to_string(), value.to_str().unwrap_or_default().to_owned())
        };
        let headers = parts.headers.iter().map(header).collect();
        Answer { status: parts.status.as_u16(), headers, body, end, head_after, took: started.elapsed() }
    }
}
