//! Logs and metrics of a server.

mod level;

pub use level::{LogFormat, LogLevel};
