//! One request and its answer over a plain TCP connection, with nothing between that could tidy them up.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use super::{ValueError, Variables};

/// A server that is silent for so long has failed.
const SILENCE: Duration = Duration::from_secs(60);
/// How much of a body goes into one chunk where a body is sent in chunks.
const CHUNK: usize = 1000;

/// A request as bytes.
#[derive(Debug, Clone)]
pub struct Request {
    bytes: Vec<u8>,
    is_head: bool,
}

impl Request {
    /// From a step's `request`, with its body filled in.
    pub fn read(
        step: &Value,
        body: &str,
        variables: &Variables<'_>,
        address: SocketAddr,
    ) -> Result<Self, ValueError> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let method = text(&step["method"]);
        let in_chunks = step["transfer_encoding"] == "chunked";
        let host = step["host"].as_str().map_or_else(|| address.to_string(), str::to_owned);

        let mut head =
            format!("{method} {} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n", text(&step["path"]));
        for (name, value) in step["headers"].as_object().into_iter().flatten() {
            head += &format!("{name}: {}\r\n", variables.fill(&text(value))?);
        }
        if in_chunks {
            head += "Transfer-Encoding: chunked\r\n";
        } else if !body.is_empty() || method == "POST" || method == "PUT" || method == "PATCH" {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        let mut bytes = (head + "\r\n").into_bytes();
        if in_chunks {
            for chunk in body.as_bytes().chunks(CHUNK) {
                bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
        } else {
            bytes.extend_from_slice(body.as_bytes());
        }
        Ok(Self { bytes, is_head: method == "HEAD" })
    }

    /// Sends it on a connection of its own and reads until the server closes.
    pub fn send(&self, address: SocketAddr) -> io::Result<Answer> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        // A server may refuse before it has read everything: its answer counts.
        let sent = stream.write_all(&self.bytes);
        let mut bytes = Vec::new();
        let received = stream.read_to_end(&mut bytes);
        match (Answer::read(&bytes, self.is_head), received, sent) {
            (Some(answer), _, _) => Ok(answer),
            (None, Err(error), _) | (None, _, Err(error)) => Err(error),
            (None, Ok(_), Ok(())) => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                Err(io::Error::new(io::ErrorKind::InvalidData, format!("not a whole answer: {text:.300}")))
            }
        }
    }
}

/// An answer, taken apart.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers as they came.
    pub headers: Vec<(String, String)>,
    /// Its body, without the marks of chunks.
    pub body: Vec<u8>,
}

impl Answer {
    /// The header of that name, in whatever case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(one, _)| one.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// `None` when it is cut, or none at all.
    fn read(bytes: &[u8], is_head: bool) -> Option<Self> {
        let end = memchr::memmem::find(bytes, b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..end]).ok()?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        let header =
            |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
        let headers = lines.map(header).collect::<Option<Vec<_>>>()?;
        let mut answer = Self { status, headers, body: Vec::new() };
        let rest = &bytes[end + 4..];
        answer.body = if is_head {
            // Whatever follows the head of such an answer is a fault, and shows as a body.
            rest.to_vec()
        } else if answer.header("transfer-encoding") == Some("chunked") {
            unchunk(rest)?
        } else if let Some(length) = answer.header("content-length") {
            let length: usize = length.parse().ok()?;
            (rest.len() == length).then(|| rest.to_vec())?
        } else {
            rest.to_vec()
        };
        Some(answer)
    }
}

fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = memchr::memmem::find(rest, b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?, 16).ok()?;
        rest = &rest[line + 2..];
        if length == 0 {
            return (rest == b"\r\n").then_some(body);
        }
        body.extend_from_slice(rest.get(..length)?);
        rest = rest[length..].strip_prefix(b"\r\n")?;
    }
}
