//! The beginning of a TLS connection: bounded in time and in number, and with an answer for those who speak plain HTTP.

use std::io;
use std::pin::pin;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::connection::{Shared, linger};
use super::socket::{Buffered, Socket};
use crate::fault;
use crate::telemetry::names;
use crate::tls::PortTls;

/// Of what is read before it is decrypted. A record of TLS has 16 KiB.
const BUFFER: usize = 32 * 1024;
/// The first byte of every TLS connection.
const HANDSHAKE_RECORD: u8 = 0x16;
/// Refused connections are on the log no more often than this: anybody can begin as many as he likes.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// For those who speak plain HTTP here.
const WRONG_PROTOCOL: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 67\r\n\
    Connection: close\r\n\r\nDAS-TLS-005: this port speaks TLS: the URL has to begin with https\n";

/// The handshakes of one server.
pub(super) struct Handshakes {
    /// Those that are worked on.
    turns: Semaphore,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    at: Option<Instant>,
    /// Since then.
    untold: u64,
}

impl Handshakes {
    pub(super) fn new(at_once: usize) -> Self {
        Self { turns: Semaphore::new(at_once.max(1)), told: Mutex::default() }
    }

    fn refused(&self, error: &io::Error) {
        fault::count(fault::TLS_REFUSED);
        count("refused");
        let mut told = self.told.lock();
        if told.at.is_some_and(|at| at.elapsed() < TELL_EVERY) {
            told.untold += 1;
            return;
        }
        let untold = std::mem::take(&mut told.untold);
        told.at = Some(Instant::now());
        drop(told);
        tracing::warn!(code = fault::TLS_REFUSED.code, %error, untold, "a client gets no TLS connection");
    }
}

fn count(result: &'static str) {
    metrics::counter!(names::TLS_HANDSHAKES, "result" => result).increment(1);
}

/// What came of a handshake.
enum Outcome {
    Tls(Socket),
    Refused(io::Error, Option<Buffered>),
    PlainHttp(TcpStream),
}

/// Makes a TLS connection of a stream; none when it did not come about, and the stream is closed.
pub(super) async fn shake(stream: TcpStream, tls: &PortTls, shared: &Shared) -> Option<Socket> {
    // Since when the client has kept us waiting; none while it is we who keep it waiting.
    let since = Mutex::new(Some(Instant::now()));
    let mut work = pin!(handshake(stream, tls, &shared.handshakes, &since));
    let mut shutdown = pin!(shared.shutdown.cancelled());
    let mut look = tokio::time::interval(shared.limits.look());
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let outcome = loop {
        tokio::select! {
            biased;
            outcome = work.as_mut() => break outcome,
            () = &mut shutdown => return None,
            _ = look.tick() => {
                let scarce = shared.is_scarce() || shared.handshakes.turns.available_permits() == 0;
                let allowed = shared.limits.handshake_timeout;
                let allowed = if scarce { allowed.min(shared.limits.scarce_timeout) } else { allowed };
                if since.lock().is_some_and(|since| since.elapsed() > allowed) {
                    count("slow");
                    return None;
                }
            }
        }
    };
    match outcome {
        Outcome::Tls(socket) => {
            count("ok");
            Some(socket)
        }
        Outcome::Refused(error, stream) => {
            shared.handshakes.refused(&error);
            // The client reads why before the connection is closed.
            if let Some(stream) = stream {
                linger(Socket::Failed(stream), shared.limits.linger).await;
            }
            None
        }
        Outcome::PlainHttp(mut stream) => {
            shared.handshakes.refused(&io::Error::other("it speaks plain HTTP"));
            // However that goes, it was told as far as possible.
            let _ = stream.write_all(WRONG_PROTOCOL).await;
            linger(Socket::Plain(stream), shared.limits.linger).await;
            None
        }
    }
}

async fn handshake(
    stream: TcpStream,
    tls: &PortTls,
    handshakes: &Handshakes,
    since: &Mutex<Option<Instant>>,
) -> Outcome {
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(1..) if first[0] == HANDSHAKE_RECORD => {}
        Ok(1..) if first[0].is_ascii_uppercase() => return Outcome::PlainHttp(stream),
        Ok(0) => return Outcome::Refused(io::ErrorKind::UnexpectedEof.into(), None),
        Ok(_) => return Outcome::Refused(io::Error::other("it does not speak TLS"), None),
        Err(error) => return Outcome::Refused(error, None),
    }
    *since.lock() = None;
    // Never closed.
    let _turn = handshakes.turns.acquire().await;
    *since.lock() = Some(Instant::now());
    let stream = BufReader::with_capacity(BUFFER, stream);
    match tls.acceptor().accept(stream).into_fallible().await {
        Ok(stream) => Outcome::Tls(Socket::Tls(Box::new(stream))),
        Err((error, stream)) => Outcome::Refused(error, Some(stream)),
    }
}
