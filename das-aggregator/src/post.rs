//! Posting certificates to the parent chain.
//!
//! ```text
//!  waiting ──► submitted ──► included ──► final
//!  (received,     │  ▲          │
//!   certified)    │  └ vanished ┘
//!      ▲          │
//!      └ reverted ┘      a certificate that became too old is replaced on the way
//! ```
//!
//! Every step is written down before it is acted on, and two numbers guard it on the chain: a sequence number is taken once,
//! and a nonce is used once. So a batch is posted in its turn and once, whatever crashes, and whatever the chain takes back.

pub mod chain;
pub mod entry;
pub mod fees;
pub mod plan;
pub mod queue;
pub mod request;
pub mod service;
pub mod status;
