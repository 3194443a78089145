//! The accept loop that every server of this project runs on.
//!
//! What it promises, also against clients that mean harm:
//!
//! * At most [`Limits::max_connections`] connections are open; beyond, accepting waits, and connections that do nothing
//!   are closed early to make room.
//! * A connection that sends a request's head too slowly, takes an answer too slowly or idles is closed; how slowly an
//!   answer may be taken depends on whether others wait for its memory ([`crate::http::answers`]). How slowly a
//!   body may come is for its reader to say ([`crate::http::body`]).
//! * A request that was begun is finished even when its client has stopped sending; only the deadline of a shutdown or a
//!   broken connection ends it early.
//! * An answer to a request whose body was not read arrives: the connection is closed only after the client had time to
//!   read it.
//! * Over TLS a connection that does not say who it is in time is closed, and no more than
//!   [`Limits::max_handshakes`] are worked on at once; what says nothing at all is not among them.

mod connection;
mod handshake;
mod socket;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::body::Pace;
use crate::telemetry::names;
use crate::tls::PortTls;
use connection::Shared;

/// How long the accept loop rests after an error that is not the client's, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a connection may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections open at once.
    pub max_connections: usize,
    /// TLS handshakes that are worked on at once; further ones wait within their time.
    pub max_handshakes: usize,
    /// Time for a TLS handshake.
    pub handshake_timeout: Duration,
    /// Time from the first byte of a request's head to its last.
    pub header_timeout: Duration,
    /// Time between requests of one connection.
    pub idle_timeout: Duration,
    /// Takes the place of the three above while no more connections can be accepted.
    pub scarce_timeout: Duration,
    /// How slowly an answer may be taken.
    pub answer_pace: Pace,
    /// Takes its place while other answers wait for memory.
    pub scarce_answer_pace: Pace,
    /// After a shutdown was asked for: how long requests in flight may take to finish.
    pub drain: Duration,
    /// After an answer that ends the connection: how long the client may take to read it.
    pub linger: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 4096,
            max_handshakes: 64,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(20),
            idle_timeout: Duration::from_secs(120),
            scarce_timeout: Duration::from_secs(2),
            answer_pace: Pace::default(),
            scarce_answer_pace: Pace { grace: Duration::from_secs(2), bytes_per_second: 1024 * 1024 },
            drain: Duration::from_secs(30),
            linger: Duration::from_secs(1),
        }
    }
}

impl Limits {
    /// How often a connection looks whether one of its times is over.
    fn look(&self) -> Duration {
        let answer = self.answer_pace.grace.min(self.scarce_answer_pace.grace);
        let shortest = self.header_timeout.min(self.idle_timeout).min(self.scarce_timeout);
        let shortest = shortest.min(self.handshake_timeout).min(answer);
        (shortest / 4).clamp(Duration::from_millis(10), Duration::from_secs(5))
    }
}

/// Serves `router` over plain HTTP; else as [`serve_over`].
pub async fn serve(
    listener: TcpListener,
    router: axum::Router,
    limits: Limits,
    shutdown: CancellationToken,
) -> io::Result<()> {
    serve_over(None, listener, router, limits, shutdown).await
}

/// Serves `router` on `listener`, over TLS or without, until `shutdown` is cancelled, then accepts no more, lets requests in flight finish, and
/// returns when they have, or when [`Limits::drain`] is over. Requests of clients that showed a certificate have a
/// [`TlsPeer`](crate::tls::TlsPeer) among their extensions.
///
/// # Errors
/// None so far: what goes wrong with one connection ends that connection, and when accepting fails it is tried again.
pub async fn serve_over(
    tls: Option<PortTls>,
    listener: TcpListener,
    router: axum::Router,
    limits: Limits,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let slots = Arc::new(Semaphore::new(limits.max_connections));
    let shared = Arc::new(Shared::new(router, tls, limits, shutdown.clone(), Arc::clone(&slots)));
    let connections = TaskTracker::new();
    let open = metrics::gauge!(names::CONNECTIONS);
    while let Some(slot) = unless(&shutdown, Arc::clone(&slots).acquire_owned()).await {
        let Ok(slot) = slot else { break };
        match unless(&shutdown, listener.accept()).await {
            None => break,
            Some(Ok((stream, peer))) => {
                let shared = Arc::clone(&shared);
                let open = open.clone();
                connections.spawn(async move {
                    open.increment(1);
                    connection::serve(stream, peer, &shared).await;
                    open.decrement(1);
                    drop(slot);
                });
            }
            Some(Err(error)) if is_of_one_connection(&error) => {}
            Some(Err(error)) => {
                tracing::warn!(%error, "cannot accept connections, trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(limits.drain, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "requests in flight are cut off by the shutdown");
        shared.cut_off();
        connections.wait().await;
    }
    Ok(())
}

async fn unless<T>(shutdown: &CancellationToken, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = shutdown.cancelled() => None,
        done = work => Some(done),
    }
}

/// The client gave up before it was accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}
