//! TLS on every HTTP link: servers' and clients' sides, from files in PEM that may be replaced while they are in use.
//!
//! # Guarantees
//! - One library and one way to read files: rustls, with the versions and the algorithms that it holds to be safe; TLS 1.3
//!   unless 1.2 is asked for.
//! - Files are looked at again every [`LOOK_EVERY`]. What replaces them is used for connections that begin from then on;
//!   connections that are there go on. What cannot be used (half written, of another key, not in force) changes nothing:
//!   what was read before stays, and an alarm says so.
//! - With new files nothing of the old ones is left for new connections: sessions are not resumed across a change, so a
//!   client whose authority was taken out is not let in again.
//! - A certificate that is not in force is not loaded, neither at the start nor later.

mod clients;
mod files;
mod outgoing;
mod peer;
mod reload;
mod server;
mod settings;

pub use clients::AllowedClients;
pub use files::{TlsError, TlsVersion};
pub use outgoing::{ClientIdentity, TlsFiles, client_config};
pub use peer::{TlsPeer, explain};
pub use reload::LOOK_EVERY;
pub use server::{KnownClients, PortTls, ServerFiles, ServerTls};
pub use settings::{OutgoingTlsOptions, Port, RpcTlsOptions, TlsOptions};

pub(crate) use reload::{Look, Reloaded};

#[cfg(test)]
mod tests;
