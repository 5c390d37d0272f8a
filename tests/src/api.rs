//! A small blocking HTTP/1.1 client that shows every byte: the Docker API over its unix socket, and a registry
//! over TCP.
//!
//! It follows no redirect, hides no header, and never repeats a request.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Makes one connection for each request.
#[derive(Debug, Clone)]
pub struct Client {
    to: Address,
    patience: Duration,
}

#[derive(Debug, Clone)]
enum Address {
    Unix(PathBuf),
    Tcp(String),
}

/// What is sent behind the head.
#[derive(Clone, Copy)]
pub enum Body<'a> {
    /// Nothing, and `Content-Length: 0`.
    Empty,
    /// JSON with its content type.
    Json(&'a Value),
    /// Bytes of a content type.
    Bytes(&'a str, &'a [u8]),
}

/// Status line and headers of an answer.
#[derive(Debug, Clone)]
pub struct Head {
    /// Status code.
    pub status: u16,
    /// Text behind the status code.
    pub reason: String,
    headers: Vec<(String, String)>,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// Request line, for messages.
    pub request: String,
    /// Status line and headers.
    pub head: Head,
    /// The body, unchunked.
    pub body: Vec<u8>,
}

/// One connection, usable for several requests.
pub struct Connection {
    stream: BufReader<Box<dyn Wire>>,
}

/// An answer's body while it arrives.
pub struct Arriving {
    /// Status line and headers.
    pub head: Head,
    stream: BufReader<Box<dyn Wire>>,
    framing: Framing,
}

/// A connection after `101` or a raw-stream `200`: bytes both ways.
pub struct Hijacked {
    /// Status line and headers.
    pub head: Head,
    stream: BufReader<Box<dyn Wire>>,
}

/// A stream socket of any family.
trait Wire: Read + Write + Send {
    fn close(&self, how: Shutdown);
}

impl Wire for UnixStream {
    fn close(&self, how: Shutdown) {
        let _ = self.shutdown(how);
    }
}

impl Wire for TcpStream {
    fn close(&self, how: Shutdown) {
        let _ = self.shutdown(how);
    }
}

enum Framing {
    /// So many bytes are left.
    Length(u64),
    /// So many bytes are left of this chunk; the next head follows.
    Chunk(u64),
    /// To the end of the connection.
    Close,
}

impl Client {
    /// The Docker API at a unix socket.
    pub fn unix(socket: &Path, patience: Duration) -> Client {
        Client { to: Address::Unix(socket.to_owned()), patience }
    }

    /// A server at `host:port`.
    pub fn tcp(address: &str, patience: Duration) -> Client {
        Client { to: Address::Tcp(address.to_owned()), patience }
    }

    /// A new connection.
    #[track_caller]
    pub fn connect(&self) -> Connection {
        self.try_connect().unwrap_or_else(|error| panic!("cannot connect to {:?}: {error}", self.to))
    }

    /// A new connection, if one is to be had.
    pub fn try_connect(&self) -> std::io::Result<Connection> {
        let patience = Some(self.patience);
        let stream: Box<dyn Wire> = match &self.to {
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(patience)?;
                Box::new(stream)
            }
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_read_timeout(patience)?;
                Box::new(stream)
            }
        };
        Ok(Connection { stream: BufReader::new(stream) })
    }

    /// GET on a new connection.
    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        self.call("GET", path, Body::Empty)
    }

    /// POST without a body.
    #[track_caller]
    pub fn post(&self, path: &str) -> Response {
        self.call("POST", path, Body::Empty)
    }

    /// POST of JSON.
    #[track_caller]
    pub fn post_json(&self, path: &str, json: Value) -> Response {
        self.call("POST", path, Body::Json(&json))
    }

    /// DELETE.
    #[track_caller]
    pub fn delete(&self, path: &str) -> Response {
        self.call("DELETE", path, Body::Empty)
    }

    /// Any request on a new connection.
    #[track_caller]
    pub fn call(&self, method: &str, path: &str, body: Body<'_>) -> Response {
        self.connect().call(method, path, body)
    }

    /// Asks for the stream of attach and exec, by `Connection: Upgrade`.
    #[track_caller]
    pub fn hijack(&self, path: &str, body: Body<'_>) -> Hijacked {
        self.connect().into_raw(path, &[("Connection", "Upgrade"), ("Upgrade", "tcp")], body)
    }

    /// Asks for the stream of attach and exec as older clients do, without an upgrade.
    #[track_caller]
    pub fn raw(&self, path: &str, body: Body<'_>) -> Hijacked {
        self.connect().into_raw(path, &[], body)
    }

    /// Asks for a websocket with RFC 6455's sample key.
    #[track_caller]
    pub fn websocket(&self, path: &str) -> Hijacked {
        let headers = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let mut connection = self.connect();
        connection.send("GET", path, &headers, Body::Empty);
        let head = connection.head();
        Hijacked { head, stream: connection.stream }
    }

    /// Sends a request and hands out the body as it arrives.
    #[track_caller]
    pub fn stream(&self, method: &str, path: &str) -> Arriving {
        let mut connection = self.connect();
        connection.send(method, path, &[], Body::Empty);
        connection.arriving(method)
    }
}

impl Connection {
    /// One request and its whole answer; the connection can be used again.
    #[track_caller]
    pub fn call(&mut self, method: &str, path: &str, body: Body<'_>) -> Response {
        self.call_with(method, path, &[], body)
    }

    /// The same with headers.
    #[track_caller]
    pub fn call_with(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Body<'_>,
    ) -> Response {
        self.send(method, path, headers, body);
        let head = self.head();
        let mut framing = head.framing(method);
        let mut body = Vec::new();
        read_all(&mut self.stream, &mut framing, &mut body).expect("the answer's body is whole");
        Response { request: format!("{method} {path}"), head, body }
    }

    /// Sends a request in one write.
    #[track_caller]
    pub fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: Body<'_>) {
        let json;
        let (kind, bytes): (&str, &[u8]) = match body {
            Body::Empty => ("", b""),
            Body::Json(value) => {
                json = value.to_string();
                ("application/json", json.as_bytes())
            }
            Body::Bytes(kind, bytes) => (kind, bytes),
        };
        let mut out =
            format!("{method} {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n", bytes.len());
        if !kind.is_empty() {
            out += &format!("Content-Type: {kind}\r\n");
        }
        out.extend(headers.iter().map(|(key, value)| format!("{key}: {value}\r\n")));
        out += "\r\n";
        self.send_raw(&[out.as_bytes(), bytes].concat());
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("the server reads the request");
    }

    /// Sends bytes and tells the first line of the answer, without a panic.
    pub fn try_call(mut self, bytes: &[u8]) -> std::io::Result<String> {
        self.stream.get_mut().write_all(bytes)?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        Ok(line)
    }

    /// Reads status line and headers of an answer.
    #[track_caller]
    pub fn head(&mut self) -> Head {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).expect("the server answers");
            assert!(
                line.ends_with('\n'),
                "the server closed the connection inside the head: {lines:?} {line:?}"
            );
            match line.trim_end() {
                "" => return Head::parse(&lines),
                line => lines.push(line.to_owned()),
            }
        }
    }

    /// A POST after whose answer's head the connection carries raw bytes.
    #[track_caller]
    pub fn into_raw(mut self, path: &str, headers: &[(&str, &str)], body: Body<'_>) -> Hijacked {
        self.send("POST", path, headers, body);
        let head = self.head();
        Hijacked { head, stream: self.stream }
    }

    /// Reads the head, and the body later.
    #[track_caller]
    pub fn arriving(mut self, method: &str) -> Arriving {
        let head = self.head();
        let framing = head.framing(method);
        Arriving { head, stream: self.stream, framing }
    }
}

impl Head {
    fn parse(lines: &[String]) -> Head {
        let mut words = lines[0].splitn(3, ' ');
        assert_eq!(words.next(), Some("HTTP/1.1"), "{lines:?}");
        let status = words.next().and_then(|word| word.parse().ok()).expect("a status is a number");
        let reason = words.next().unwrap_or_default().to_owned();
        let header = |line: &String| {
            let (key, value) = line.split_once(':').expect("a header has a colon");
            (key.to_owned(), value.trim().to_owned())
        };
        Head { status, reason, headers: lines[1..].iter().map(header).collect() }
    }

    /// A header's value; names are the same in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// RFC 9112 section 6.3.
    fn framing(&self, method: &str) -> Framing {
        if method == "HEAD" || matches!(self.status, 100..=199 | 204 | 304) {
            return Framing::Length(0);
        }
        match (self.header("Transfer-Encoding"), self.header("Content-Length")) {
            (Some(coding), _) if coding.eq_ignore_ascii_case("chunked") => Framing::Chunk(0),
            (_, Some(length)) => Framing::Length(length.parse().expect("Content-Length is a number")),
            _ => Framing::Close,
        }
    }
}

impl Response {
    /// The status is this.
    #[track_caller]
    pub fn is(self, status: u16) -> Response {
        assert_eq!(self.head.status, status, "{}: {}", self.request, self.text());
        self
    }

    /// A refusal: this status, and Docker's JSON error whose message contains `part`.
    #[track_caller]
    pub fn refuses(self, status: u16, part: &str) -> Response {
        let answer = self.is(status);
        // The Go client compares the header for equality and otherwise shows the raw body.
        assert_eq!(answer.head.header("Content-Type"), Some("application/json"), "{}", answer.request);
        let message = answer.json()["message"].as_str().unwrap_or_default().to_owned();
        assert!(message.contains(part), "{}: {part:?} is not in {message:?}", answer.request);
        answer
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{}: {error} in {:?}", self.request, self.text()))
    }
}

impl Arriving {
    /// The next line as JSON; nothing at the end.
    #[track_caller]
    pub fn next_json(&mut self) -> Option<Value> {
        let mut line = Vec::new();
        let mut byte = [0];
        while self.read(&mut byte).expect("the body can be read") == 1 {
            match byte[0] {
                b'\n' if line.iter().all(u8::is_ascii_whitespace) => line.clear(),
                b'\n' => break,
                byte => line.push(byte),
            }
        }
        (!line.is_empty()).then(|| serde_json::from_slice(&line).expect("a line is one JSON object"))
    }
}

impl Read for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        read_some(&mut self.stream, &mut self.framing, buffer)
    }
}

impl Hijacked {
    /// Says that nothing more will be written.
    pub fn half_close(&mut self) {
        self.stream.get_ref().close(Shutdown::Write);
    }
}

impl Read for Hijacked {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl Write for Hijacked {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.stream.get_mut().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.get_mut().flush()
    }
}

fn read_all(
    stream: &mut BufReader<Box<dyn Wire>>,
    framing: &mut Framing,
    body: &mut Vec<u8>,
) -> std::io::Result<()> {
    let mut buffer = [0; 16384];
    loop {
        match read_some(stream, framing, &mut buffer)? {
            0 => return Ok(()),
            n => body.extend_from_slice(&buffer[..n]),
        }
    }
}

fn read_some(
    stream: &mut BufReader<Box<dyn Wire>>,
    framing: &mut Framing,
    buffer: &mut [u8],
) -> std::io::Result<usize> {
    if let Framing::Chunk(0) = framing {
        *framing = next_chunk(stream)?;
    }
    let left = match framing {
        Framing::Close => return stream.read(buffer),
        Framing::Length(left) | Framing::Chunk(left) => left,
    };
    let most = buffer.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
    if most == 0 {
        return Ok(0);
    }
    let n = stream.read(&mut buffer[..most])?;
    if n == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    *left -= n as u64;
    if let Framing::Chunk(0) = framing {
        stream.read_line(&mut String::new())?;
    }
    Ok(n)
}

/// RFC 9112 section 7.1: the length in hex; a chunk of length 0 and an empty line are the end.
fn next_chunk(stream: &mut BufReader<Box<dyn Wire>>) -> std::io::Result<Framing> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let length = u64::from_str_radix(line.trim(), 16)
        .map_err(|_| std::io::Error::other(format!("not a chunk's head: {line:?}")))?;
    if length > 0 {
        return Ok(Framing::Chunk(length));
    }
    stream.read_line(&mut String::new())?;
    Ok(Framing::Length(0))
}
