//! The accept loop that every server of this project runs on.
//!
//! What it promises, also against clients that mean harm:
//!
//! * At most [`Limits::max_connections`] connections are open. Beyond, the oldest that has not made a request makes room
//!   (`quiet`); when all have, accepting waits, and those that do nothing are closed early. What one address has beyond
//!   its share is closed at once ([`Door::clients`]).
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
mod quiet;
mod socket;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::body::Pace;
use crate::http::per_client::PerClient;
use crate::telemetry::names;
use crate::tls::PortTls;
use connection::Shared;

/// How long the accept loop rests after an error that is not the client's, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Room is looked for this often.
const ROOM_PAUSE: Duration = Duration::from_millis(50);
/// A connection has so much time for its first request, whoever else comes.
const QUIET_GRACE: Duration = Duration::from_millis(200);

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

/// Who gets in, and how.
#[derive(Clone, Default)]
pub struct Door {
    /// The certificate, where TLS is spoken.
    pub tls: Option<PortTls>,
    /// How many connections one address may have.
    pub clients: Option<PerClient>,
}

/// Serves `router` over plain HTTP; else as [`serve_over`].
pub async fn serve(
    listener: TcpListener,
    router: axum::Router,
    limits: Limits,
    shutdown: CancellationToken,
) -> io::Result<()> {
    serve_over(Door::default(), listener, router, limits, shutdown).await
}

/// Serves `router` on `listener` until `shutdown` is cancelled, then accepts no more, lets requests in flight finish,
/// and returns when they have, or when [`Limits::drain`] is over. Requests of clients that showed a certificate have a
/// [`TlsPeer`](crate::tls::TlsPeer) among their extensions.
///
/// # Errors
/// None so far: what goes wrong with one connection ends that connection, and when accepting fails it is tried again.
pub async fn serve_over(
    door: Door,
    listener: TcpListener,
    router: axum::Router,
    limits: Limits,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let slots = Arc::new(Semaphore::new(limits.max_connections));
    let shared = Arc::new(Shared::new(router, door.tls, limits, shutdown.clone(), slots));
    let connections = TaskTracker::new();
    let open = metrics::gauge!(names::CONNECTIONS);
    loop {
        match unless(&shutdown, listener.accept()).await {
            None => break,
            Some(Ok((stream, peer))) => {
                let of_client = door.clients.as_ref().map(|clients| clients.connect(peer));
                // Closed without a word: who fills a port with connections does not read answers.
                let Some(of_client) = of_client.map_or(Some(None), |counted| counted.map(Some)) else {
                    continue;
                };
                let Some(slot) = unless(&shutdown, room(&shared)).await else { break };
                let shared = Arc::clone(&shared);
                let open = open.clone();
                connections.spawn(async move {
                    open.increment(1);
                    connection::serve(stream, peer, &shared).await;
                    open.decrement(1);
                    drop((slot, of_client));
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

/// A place for one connection more, which others make if they have to.
async fn room(shared: &Shared) -> OwnedSemaphorePermit {
    loop {
        if let Ok(slot) = Arc::clone(&shared.slots).try_acquire_owned() {
            return slot;
        }
        shared.quiet.make_room();
        let freed = Arc::clone(&shared.slots).acquire_owned();
        if let Ok(Ok(slot)) = tokio::time::timeout(ROOM_PAUSE, freed).await {
            return slot;
        }
    }
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
