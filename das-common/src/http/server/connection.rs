//! One connection: hyper's protocol, and a watch over how long its parts take.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use super::handshake::{Handshakes, shake};
use super::quiet::{OfOne, Quiet};
use super::socket::Socket;
use super::{Limits, QUIET_GRACE};
use crate::http::answers::AnswerBudget;
use crate::http::per_client::Peer;
use crate::tls::{PortTls, TlsPeer};

/// The largest read from a socket, and the largest head of a request. Larger reads are slower: they leave the cache
/// before they are copied to their place.
const READ_BUFFER: usize = 64 * 1024;
/// A client whose answer was sent early is listened to for this many bytes more.
const LINGER_BYTES: u64 = 64 * 1024 * 1024;

/// What the connections of one server have in common.
pub(super) struct Shared {
    router: axum::Router,
    tls: Option<PortTls>,
    pub(super) handshakes: Handshakes,
    pub(super) limits: Limits,
    /// Accept no more, and end connections after their requests in flight.
    pub(super) shutdown: CancellationToken,
    /// End connections at once.
    cut_off: CancellationToken,
    pub(super) slots: Arc<Semaphore>,
    /// Those that have not made a request yet.
    pub(super) quiet: Quiet,
    http: http1::Builder,
}

impl Shared {
    pub(super) fn new(
        router: axum::Router,
        tls: Option<PortTls>,
        limits: Limits,
        shutdown: CancellationToken,
        slots: Arc<Semaphore>,
    ) -> Self {
        let handshakes = Handshakes::new(limits.max_handshakes);
        let mut http = http1::Builder::new();
        // A client that has sent its request and closed its side still gets its answer. The times are kept by the watch
        // below, which costs nothing per request.
        http.half_close(true).header_read_timeout(None).max_buf_size(READ_BUFFER).title_case_headers(true);
        let cut_off = CancellationToken::new();
        let quiet = Quiet::new(QUIET_GRACE.min(limits.scarce_timeout));
        Self { router, tls, handshakes, limits, shutdown, cut_off, slots, quiet, http }
    }

    /// Must connections that do nothing be closed early? Not as long as there are some that never said anything.
    pub(super) fn is_scarce(&self) -> bool {
        self.slots.available_permits() == 0 && self.quiet.is_empty()
    }

    /// Ends all connections.
    pub(super) fn cut_off(&self) {
        self.cut_off.cancel();
    }
}

/// Whose connection it is.
struct About {
    client: Option<TlsPeer>,
    peer: Peer,
}

/// Serves one connection to its end.
pub(super) async fn serve(stream: TcpStream, peer: SocketAddr, shared: &Shared) {
    let peer = Peer(peer);
    // An answer is written whole, so nothing is gained by waiting for more. A socket that refuses is broken and will
    // say so when it is read.
    let _ = stream.set_nodelay(true);
    let quiet = shared.quiet.enter();
    let must_go = quiet.must_go();
    let stream = match &shared.tls {
        None => Socket::Plain(stream),
        Some(tls) => match must_go.run_until_cancelled(shake(stream, tls, shared)).await {
            Some(Some(stream)) => stream,
            _ => return,
        },
    };
    let about = About { client: stream.client(), peer };
    let watch = Arc::new(Watch::new(quiet));
    let way_back = Arc::new(Mutex::new(None));
    let io = WatchedIo {
        stream: Some(TokioIo::new(stream)),
        watch: Arc::clone(&watch),
        way_back: Arc::clone(&way_back),
    };
    let finished = converse(io, about, &watch, shared).await;
    let stream = way_back.lock().take();
    if let (true, Some(stream)) = (finished, stream) {
        linger(stream, shared.limits.linger).await;
    }
}

/// Runs the protocol. True when it came to its end, false when the connection is to be dropped as it is.
async fn converse(io: WatchedIo, about: About, watch: &Arc<Watch>, shared: &Shared) -> bool {
    let service = service_fn(|mut request: http::Request<Incoming>| {
        let watch = Arc::clone(watch);
        watch.enter(Stage::Serving);
        drop(watch.quiet.lock().take());
        request.extensions_mut().insert(about.peer);
        if let Some(client) = &about.client {
            request.extensions_mut().insert(client.clone());
        }
        let answer = shared.router.clone().call(request.map(Body::new));
        async move {
            let answer = answer.await;
            let answer: Result<Response, Infallible> = answer;
            watch.answers_with(answer.as_ref().ok().and_then(|answer| answer.extensions().get()));
            answer
        }
    });
    let mut connection = pin!(shared.http.serve_connection(io, service));
    let mut shutdown = pin!(shared.shutdown.cancelled());
    let mut shutting_down = false;
    let mut cut_off = pin!(shared.cut_off.cancelled());
    let must_go = watch.must_go();
    let mut must_go = pin!(must_go.cancelled());
    let mut stays = false;
    let mut look = tokio::time::interval(shared.limits.look());
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = &ended {
                    tracing::debug!(%error, "connection ended");
                }
                return ended.is_ok();
            }
            () = &mut shutdown, if !shutting_down => {
                shutting_down = true;
                connection.as_mut().graceful_shutdown();
            }
            () = &mut cut_off => return false,
            () = &mut must_go, if !stays => {
                if watch.is_quiet() {
                    return false;
                }
                stays = true;
            }
            _ = look.tick() => {
                if watch.is_overdue(&shared.limits, shared.is_scarce()) {
                    return false;
                }
            }
        }
    }
}

/// Says that nothing more comes, and gives the client time to read what was sent: closing a socket on which unread data
/// lies discards what is still on its way out.
pub(super) async fn linger(mut stream: Socket, time: Duration) {
    let farewell = async {
        stream.shutdown().await?;
        let mut scrap = [0; 16 * 1024];
        let mut left = LINGER_BYTES;
        while left > 0 {
            match stream.read(&mut scrap).await? {
                0 => break,
                read => left = left.saturating_sub(read as u64),
            }
        }
        Ok::<(), io::Error>(())
    };
    // However it ends, the connection is closed now.
    let _ = tokio::time::timeout(time, farewell).await;
}

/// Where a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Stage {
    /// Nothing has come since the beginning.
    Idle,
    /// Some of a head has come.
    Head,
    /// A request is being worked on.
    Serving,
    /// The answer is going out, or has gone out.
    Answering,
}

/// What the watch over a connection knows. Written by the connection's task only; the atomics are for the compiler.
struct Watch {
    born: Instant,
    stage: AtomicU8,
    /// When the stage was entered, in milliseconds after `born`.
    since: AtomicU64,
    /// Bytes written in this stage.
    written: AtomicU64,
    /// The client does not take what is to be written.
    blocked: AtomicBool,
    /// Of which the answer that is going out holds some.
    memory: Mutex<Option<AnswerBudget>>,
    /// There until the first request.
    quiet: Mutex<Option<OfOne>>,
}

impl Watch {
    fn new(quiet: OfOne) -> Self {
        Self {
            quiet: Mutex::new(Some(quiet)),
            born: Instant::now(),
            stage: AtomicU8::new(Stage::Idle as u8),
            since: AtomicU64::new(0),
            written: AtomicU64::new(0),
            blocked: AtomicBool::new(false),
            memory: Mutex::new(None),
        }
    }

    fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Relaxed);
        self.since.store(self.now(), Ordering::Relaxed);
        self.written.store(0, Ordering::Relaxed);
    }

    /// Has it made no request so far?
    fn is_quiet(&self) -> bool {
        self.quiet.lock().is_some()
    }

    /// Cancelled when it has to make room.
    fn must_go(&self) -> CancellationToken {
        self.quiet.lock().as_ref().map(OfOne::must_go).unwrap_or_default()
    }

    fn answers_with(&self, memory: Option<&AnswerBudget>) {
        self.enter(Stage::Answering);
        *self.memory.lock() = memory.cloned();
    }

    fn is(&self, stage: Stage) -> bool {
        self.stage.load(Ordering::Relaxed) == stage as u8
    }

    fn has_read(&self) {
        if self.is(Stage::Idle) || self.is(Stage::Answering) {
            self.enter(Stage::Head);
        }
    }

    fn has_written(&self, outcome: &Poll<io::Result<usize>>) {
        self.blocked.store(outcome.is_pending(), Ordering::Relaxed);
        if let Poll::Ready(Ok(count)) = outcome {
            self.written.fetch_add(*count as u64, Ordering::Relaxed);
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn is_overdue(&self, limits: &Limits, scarce: bool) -> bool {
        let allowed = if self.is(Stage::Serving) {
            // Whoever serves keeps the time.
            return false;
        } else if self.blocked.load(Ordering::Relaxed) {
            let wanted = self.memory.lock().as_ref().is_some_and(AnswerBudget::is_wanted);
            let pace = if wanted { limits.scarce_answer_pace } else { limits.answer_pace };
            pace.allowance(self.written.load(Ordering::Relaxed))
        } else if scarce {
            limits.scarce_timeout
        } else if self.is(Stage::Head) {
            limits.header_timeout
        } else {
            limits.idle_timeout
        };
        let taken = Duration::from_millis(self.now().saturating_sub(self.since.load(Ordering::Relaxed)));
        taken > allowed
    }
}

/// The socket under the watch. When hyper is done with it, the stream goes back instead of being closed.
struct WatchedIo {
    /// There until this is dropped.
    stream: Option<TokioIo<Socket>>,
    watch: Arc<Watch>,
    way_back: Arc<Mutex<Option<Socket>>>,
}

impl WatchedIo {
    fn stream(self: Pin<&mut Self>) -> Pin<&mut TokioIo<Socket>> {
        Pin::new(self.get_mut().stream.as_mut().expect("taken only when this is dropped"))
    }
}

impl Drop for WatchedIo {
    fn drop(&mut self) {
        *self.way_back.lock() = self.stream.take().map(TokioIo::into_inner);
    }
}

impl Read for WatchedIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let outcome = self.as_mut().stream().poll_read(context, buffer);
        if matches!(outcome, Poll::Ready(Ok(()))) {
            self.watch.has_read();
        }
        outcome
    }
}

impl Write for WatchedIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = self.as_mut().stream().poll_write(context, data);
        self.watch.has_written(&outcome);
        outcome
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = self.as_mut().stream().poll_write_vectored(context, data);
        self.watch.has_written(&outcome);
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The lingering close does it.
        Poll::Ready(Ok(()))
    }
}
