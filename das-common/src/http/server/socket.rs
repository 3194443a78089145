//! A connection as bytes, with or without TLS.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::telemetry::traffic;
use crate::tls::TlsPeer;

/// Under TLS. Without the buffer a large body would be read in pieces of four kilobytes.
pub(super) type Buffered = BufReader<TcpStream>;

/// One connection.
pub(super) enum Socket {
    /// Plain.
    Plain(TcpStream),
    /// TLS, after its handshake.
    Tls(Box<TlsStream<Buffered>>),
    /// TLS that did not come about.
    Failed(Buffered),
}

impl Socket {
    /// Who the client is, if it showed a certificate.
    pub(super) fn client(&self) -> Option<TlsPeer> {
        let Self::Tls(stream) = self else { return None };
        TlsPeer::of(stream.get_ref().1.peer_certificates()?)
    }
}

fn counted(outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
    if let Poll::Ready(Ok(bytes)) = &outcome {
        traffic().sent(*bytes);
    }
    outcome
}

/// Calls a method of whichever stream it is.
macro_rules! with {
    ($socket:expr, $stream:ident => $call:expr) => {
        match $socket.get_mut() {
            Self::Plain($stream) => $call,
            Self::Tls($stream) => $call,
            Self::Failed($stream) => $call,
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = with!(self, stream => Pin::new(stream).poll_read(context, buffer));
        traffic().received(buffer.filled().len().saturating_sub(before));
        outcome
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        counted(with!(self, stream => Pin::new(stream).poll_write(context, data)))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        counted(with!(self, stream => Pin::new(stream).poll_write_vectored(context, data)))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        with!(self, stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        with!(self, stream => Pin::new(stream).poll_shutdown(context))
    }
}
