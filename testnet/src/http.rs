//! A small blocking HTTP/1.1 client for load and fault tests.
//!
//! It keeps its connection open, sends a body that was built before without copying it, and takes a few microseconds
//! itself, so that what is measured is the server. It understands what our servers and Nitro's send: bodies with a
//! length, in chunks, or up to the end of the connection. It speaks TLS to servers that it knows ([`crate::tls::know`]).

use std::io::{self, BufRead, BufReader, IoSlice, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::tls;

/// The longest answer that is read: a batch of several megabytes in base64 or hex fits many times.
pub const MAX_ANSWER: u64 = 256 * 1024 * 1024;

/// How long a read or write may make no progress.
pub const STALL_LIMIT: Duration = Duration::from_secs(60);

/// Why an exchange failed.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The URL is not `http://host:port[/path]`, or `https` of a server that is known.
    #[error(
        "{url} is not an http:// URL with a host and a port, nor an https:// URL of a testnet that is known"
    )]
    BadUrl {
        /// What was given.
        url: String,
    },
    /// The connection could not be made or broke.
    #[error("{action} {address}: {source}")]
    Connection {
        /// What was being done.
        action: &'static str,
        /// The server.
        address: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The server sent something that is not HTTP.
    #[error("{address} sent no valid HTTP: {got:?}")]
    NotHttp {
        /// The server.
        address: String,
        /// The beginning of what it sent.
        got: String,
    },
    /// The answer is longer than [`MAX_ANSWER`].
    #[error("{address} sent an answer of {got} bytes, more than {MAX_ANSWER}")]
    TooLong {
        /// The server.
        address: String,
        /// The announced length.
        got: u64,
    },
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text, for messages.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection to one server, made when first needed and again after it broke.
#[derive(Debug)]
pub struct Connection {
    address: String,
    base_path: String,
    tls: Option<Arc<ClientConfig>>,
    stream: Option<BufReader<Wire>>,
    stall_limit: Duration,
}

/// What requests go over.
#[derive(Debug)]
enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(into),
            Self::Tls(stream) => stream.read(into),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(data),
            Self::Tls(stream) => stream.write(data),
        }
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write_vectored(pieces),
            Self::Tls(stream) => stream.write_vectored(pieces),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

impl Connection {
    /// For the server at `http://host:port[/path]`, or `https` of one that is known; connects with the first request.
    pub fn new(url: &str) -> Result<Self, HttpError> {
        let bad = || HttpError::BadUrl { url: url.to_owned() };
        let (rest, is_tls) = match url.strip_prefix("https://") {
            Some(rest) => (rest, true),
            None => (url.strip_prefix("http://").ok_or_else(bad)?, false),
        };
        let (address, path) = rest.split_once('/').unwrap_or((rest, ""));
        let tls = if is_tls { Some(tls::known(address).ok_or_else(bad)?) } else { None };
        if !address.contains(':') {
            return Err(bad());
        }
        let base_path = format!("/{path}").trim_end_matches('/').to_owned();
        Ok(Self { address: address.to_owned(), base_path, tls, stream: None, stall_limit: STALL_LIMIT })
    }

    /// Gives up when nothing moves for that long.
    pub fn stall_limit(mut self, limit: Duration) -> Self {
        self.stall_limit = limit;
        self
    }

    /// `GET <url><path>`.
    pub fn get(&mut self, path: &str) -> Result<Answer, HttpError> {
        let head = format!("GET {}{path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.base_path, self.address);
        self.exchange(head.as_bytes(), &[])
    }

    /// `POST <url>` with a JSON body given in pieces.
    pub fn post_json(&mut self, body: &[&[u8]]) -> Result<Answer, HttpError> {
        let length: usize = body.iter().map(|piece| piece.len()).sum();
        let path = if self.base_path.is_empty() { "/" } else { &self.base_path };
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n",
            self.address
        );
        self.exchange(head.as_bytes(), body)
    }

    fn exchange(&mut self, head: &[u8], body: &[&[u8]]) -> Result<Answer, HttpError> {
        // A kept connection may have been closed by the server meanwhile; nothing of the answer has arrived then, and
        // every request sent here may be repeated.
        let kept = self.stream.is_some();
        match self.exchange_once(head, body) {
            Err(HttpError::Connection { source, .. }) if kept && !is_stall(&source) => {
                self.exchange_once(head, body)
            }
            result => result,
        }
    }

    fn exchange_once(&mut self, head: &[u8], body: &[&[u8]]) -> Result<Answer, HttpError> {
        // Taken out, so that a failed exchange leaves no half-read connection behind.
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connect().map_err(|e| self.failed("connect to", e))?,
        };
        let sent = send_all(stream.get_mut(), head, body);
        // A server may refuse without reading everything; its answer is worth more than our broken pipe.
        let (answer, reusable) = match self.receive(&mut stream) {
            Ok(answer) => answer,
            Err(error) => return Err(sent.err().map_or(error, |e| self.failed("send to", e))),
        };
        if reusable && sent.is_ok() {
            self.stream = Some(stream);
        }
        Ok(answer)
    }

    fn connect(&self) -> io::Result<BufReader<Wire>> {
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in self.address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, self.stall_limit) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(self.stall_limit))?;
                    stream.set_write_timeout(Some(self.stall_limit))?;
                    return Ok(BufReader::with_capacity(64 * 1024, self.wire(stream)?));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn wire(&self, stream: TcpStream) -> io::Result<Wire> {
        let Some(config) = &self.tls else { return Ok(Wire::Plain(stream)) };
        let host = self.address.rsplit_once(':').map_or("", |(host, _)| host).to_owned();
        let name = ServerName::try_from(host).map_err(io::Error::other)?;
        let session = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        Ok(Wire::Tls(Box::new(StreamOwned::new(session, stream))))
    }

    fn failed(&self, action: &'static str, source: io::Error) -> HttpError {
        let source = if is_stall(&source) {
            io::Error::new(io::ErrorKind::TimedOut, format!("nothing moved for {:?}", self.stall_limit))
        } else {
            source
        };
        HttpError::Connection { action, address: self.address.clone(), source }
    }

    fn not_http(&self, got: &[u8]) -> HttpError {
        let got = String::from_utf8_lossy(&got[..got.len().min(200)]).into_owned();
        HttpError::NotHttp { address: self.address.clone(), got }
    }

    /// Reads one answer; the flag says whether the connection can carry another exchange.
    fn receive(&self, stream: &mut BufReader<Wire>) -> Result<(Answer, bool), HttpError> {
        let failed = |e| self.failed("read the answer of", e);
        let mut line = Vec::new();
        let read_line = |stream: &mut BufReader<Wire>, line: &mut Vec<u8>| -> Result<(), HttpError> {
            line.clear();
            let n = stream.take(64 * 1024).read_until(b'\n', line).map_err(failed)?;
            if n == 0 { Err(failed(io::ErrorKind::UnexpectedEof.into())) } else { Ok(()) }
        };
        read_line(stream, &mut line)?;
        let status = std::str::from_utf8(&line).ok().and_then(|l| l.strip_prefix("HTTP/1."));
        let status = status.and_then(|l| l.split(' ').nth(1)).and_then(|s| s.trim().parse::<u16>().ok());
        let status = status.ok_or_else(|| self.not_http(&line))?;
        let (mut length, mut chunked, mut close) = (None, false, false);
        loop {
            read_line(stream, &mut line)?;
            let header = std::str::from_utf8(&line).map_err(|_| self.not_http(&line))?.trim_end();
            if header.is_empty() {
                break;
            }
            let (name, value) = header.split_once(':').ok_or_else(|| self.not_http(&line))?;
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => {
                    length = Some(value.parse::<u64>().map_err(|_| self.not_http(&line))?);
                }
                "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
                "connection" => close = value.eq_ignore_ascii_case("close"),
                _ => {}
            }
        }
        let mut body = Vec::new();
        let mut append = |stream: &mut BufReader<Wire>, n: u64| -> Result<(), HttpError> {
            let total = body.len() as u64 + n;
            if total > MAX_ANSWER {
                return Err(HttpError::TooLong { address: self.address.clone(), got: total });
            }
            let start = body.len();
            body.resize(start + n as usize, 0);
            stream.read_exact(&mut body[start..]).map_err(failed)
        };
        if chunked {
            loop {
                read_line(stream, &mut line)?;
                let size = std::str::from_utf8(&line).ok().and_then(|l| l.trim().split(';').next());
                let size = size.and_then(|s| u64::from_str_radix(s, 16).ok());
                let size = size.ok_or_else(|| self.not_http(&line))?;
                append(stream, size)?;
                read_line(stream, &mut line)?;
                if size == 0 {
                    break;
                }
            }
        } else if let Some(length) = length {
            append(stream, length)?;
        } else if status != 204 && status != 304 {
            close = true;
            stream.take(MAX_ANSWER).read_to_end(&mut body).map_err(failed)?;
        }
        Ok((Answer { status, body }, !close))
    }
}

/// Did nothing move for too long? The server may still be at work on the request then.
fn is_stall(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Writes the pieces one after another, in as few system calls as the socket allows.
fn send_all(stream: &mut Wire, head: &[u8], body: &[&[u8]]) -> io::Result<()> {
    let mut pieces: Vec<IoSlice<'_>> = Vec::with_capacity(1 + body.len());
    pieces.push(IoSlice::new(head));
    pieces.extend(body.iter().map(|piece| IoSlice::new(piece)));
    let mut rest = pieces.as_mut_slice();
    while !rest.is_empty() {
        match stream.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => IoSlice::advance_slices(&mut rest, n),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    stream.flush()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A server that answers the n-th request on one connection with the n-th text.
    fn scripted(answers: Vec<&'static str>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut stream = BufReader::new(stream);
            for answer in answers {
                let mut length = 0;
                let mut line = String::new();
                while stream.read_line(&mut line).unwrap() > 2 {
                    if let Some(n) = line.strip_prefix("Content-Length: ") {
                        length = n.trim().parse().unwrap();
                    }
                    line.clear();
                }
                io::copy(&mut (&mut stream).take(length), &mut io::sink()).unwrap();
                stream.get_mut().write_all(answer.as_bytes()).unwrap();
            }
        });
        url
    }

    #[test]
    fn answers_of_every_framing_are_read_on_one_connection() {
        let url = scripted(vec![
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
            "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n1;x=y\r\nf\r\n0\r\n\r\n",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nto the end",
        ]);
        let mut connection = Connection::new(&url).unwrap();
        assert_eq!(connection.get("/a").unwrap(), Answer { status: 200, body: b"abc".to_vec() });
        let big = vec![b'x'; 3_000_000];
        assert_eq!(
            connection.post_json(&[b"{", &big, b"}"]).unwrap(),
            Answer { status: 404, body: b"def".to_vec() }
        );
        assert_eq!(connection.get("/").unwrap().status, 204);
        assert_eq!(connection.get("/").unwrap().text(), "to the end");
    }

    #[test]
    fn what_is_not_http_is_an_error() {
        let url = scripted(vec!["SSH-2.0\r\n"]);
        let answer = Connection::new(&url).unwrap().get("/");
        assert!(matches!(answer, Err(HttpError::NotHttp { .. })), "{answer:?}");
        let url = scripted(vec!["HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n"]);
        let answer = Connection::new(&url).unwrap().get("/");
        assert!(matches!(answer, Err(HttpError::TooLong { .. })), "{answer:?}");
        for url in ["https://a:1", "a:1", "http://name"] {
            assert!(matches!(Connection::new(url), Err(HttpError::BadUrl { .. })), "{url}");
        }
    }
}
