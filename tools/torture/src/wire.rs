//! HTTP/1.1 framing over one connection: write a message, read a message.
//!
//! Own code rather than a library's client, because the faults need what a
//! client hides: which bytes had left when the connection broke, the raw message
//! to deliver twice, and half a request on purpose. Speaks only what the runs
//! need: `Content-Length` and `chunked`, no upgrades, no `100 Continue`.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Head and body limits of what is read: a run never needs more.
const MESSAGE_BYTES_MAX: usize = 8 << 20;

/// A message as it stands on the wire: start line, headers, decoded body.
#[derive(Clone, Debug)]
pub struct Message {
    /// Request line or status line.
    pub start: String,
    /// Header names in lower case, values trimmed.
    pub headers: Vec<(String, String)>,
    /// The body, chunks joined.
    pub body: Vec<u8>,
}

impl Message {
    /// A request with a body (perhaps empty) and an optional bearer token.
    pub fn request(method: &str, path: &str, bearer: Option<&str>, body: &[u8]) -> Self {
        let mut headers = vec![("host".to_owned(), "localhost".to_owned())];
        if let Some(token) = bearer {
            headers.push(("authorization".to_owned(), format!("Bearer {token}")));
        }
        if !body.is_empty() {
            headers.push(("content-type".to_owned(), "application/json".to_owned()));
        }
        Self { start: format!("{method} {path} HTTP/1.1"), headers, body: body.to_vec() }
    }

    /// An answer with a JSON body, for proxies that tamper.
    pub fn answer(status: u16, body: Vec<u8>) -> Self {
        Self {
            start: format!("HTTP/1.1 {status} Tampered"),
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
            body,
        }
    }

    /// The value of a header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The status of an answer; 0 when the start line has none.
    pub fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0)
    }

    /// The path of a request, with its query.
    pub fn path(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or("")
    }

    /// The body as JSON; null when it is not.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The bytes to send: framing headers replaced by one `Content-Length`.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!("{}\r\n", self.start);
        for (name, value) in &self.headers {
            if name != "content-length" && name != "transfer-encoding" {
                text.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        text.push_str(&format!("content-length: {}\r\n\r\n", self.body.len()));
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// A connection with what was read ahead.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    ahead: Vec<u8>,
}

impl Connection {
    /// Wraps an accepted or a connected stream.
    pub fn new(stream: TcpStream) -> Self {
        // Without it every small request waits for the peer's delayed ACK.
        let _ = stream.set_nodelay(true);
        Self { stream, ahead: Vec::new() }
    }

    /// Sends raw bytes.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Reads one message; `None` when the peer closed between messages.
    pub async fn receive(&mut self) -> io::Result<Option<Message>> {
        let Some(head_len) = self.read_head().await? else {
            return Ok(None);
        };
        let head: Vec<u8> = self.ahead.drain(..head_len).collect();
        let mut message = parse_head(&head)?;
        let chunked = message.header("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked"));
        message.body = if chunked {
            self.read_chunks().await?
        } else {
            let len = message
                .header("content-length")
                .map_or(Ok(0), str::parse)
                .map_err(|_| broken("content-length"))?;
            self.take(len).await?
        };
        Ok(Some(message))
    }

    /// Fills until the blank line after the headers; its end offset.
    async fn read_head(&mut self) -> io::Result<Option<usize>> {
        let mut searched = 0;
        loop {
            if let Some(at) = find(&self.ahead[searched..], b"\r\n\r\n") {
                return Ok(Some(searched + at + 4));
            }
            searched = self.ahead.len().saturating_sub(3);
            let was_empty = self.ahead.is_empty();
            if self.fill().await? == 0 {
                return if was_empty { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    async fn read_chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.take_line().await?;
            let digits = line.split(';').next().unwrap_or("").trim();
            let len = usize::from_str_radix(digits, 16).map_err(|_| broken("chunk size"))?;
            if len == 0 {
                while !self.take_line().await?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.take(len).await?);
            self.take_line().await?;
        }
    }

    async fn take_line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = find(&self.ahead, b"\r\n") {
                let line: Vec<u8> = self.ahead.drain(..at + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            if self.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn take(&mut self, len: usize) -> io::Result<Vec<u8>> {
        while self.ahead.len() < len {
            if self.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.ahead.drain(..len).collect())
    }

    async fn fill(&mut self) -> io::Result<usize> {
        if self.ahead.len() > MESSAGE_BYTES_MAX {
            return Err(broken("message too large"));
        }
        self.stream.read_buf(&mut self.ahead).await
    }
}

fn parse_head(head: &[u8]) -> io::Result<Message> {
    let text = std::str::from_utf8(head).map_err(|_| broken("head"))?;
    let mut lines = text.split("\r\n");
    let start = lines.next().unwrap_or("").to_owned();
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    Ok(Message { start, headers, body: Vec::new() })
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("bad HTTP: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn received(pieces: &'static [&'static str]) -> Vec<Message> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            for piece in pieces {
                stream.write_all(piece.as_bytes()).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        let mut connection = Connection::new(listener.accept().await.unwrap().0);
        let mut messages = Vec::new();
        while let Some(message) = connection.receive().await.unwrap() {
            messages.push(message);
        }
        messages
    }

    #[tokio::test]
    async fn messages_cut_anywhere_are_read_whole() {
        let messages = received(&[
            "HTTP/1.1 200 OK\r\nContent-Le",
            "ngth: 2\r\n\r",
            "\n{}HTTP/1.1 401 No\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc",
            "\r\n2\r\nde\r\n0\r\n\r\n",
        ])
        .await;
        assert_eq!(messages[0].status(), 200);
        assert_eq!(messages[0].body, b"{}");
        assert_eq!(messages[1].status(), 401);
        assert_eq!(messages[1].body, b"abcde");
    }

    #[test]
    fn a_request_is_framed_once() {
        let mut request = Message::request("POST", "/x", Some("t"), b"{}");
        request.headers.push(("content-length".into(), "9".to_owned()));
        let text = String::from_utf8(request.to_bytes()).unwrap();
        assert_eq!(text.matches("content-length").count(), 1);
        assert!(text.ends_with("\r\n\r\n{}"));
    }
}
