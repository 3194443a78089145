//! The page that an operator has open: how a server is doing now, and how it did in the last hour, day and week.
//!
//! What is particular to a server comes from its [`View`]: sections of the page, and numbers worth remembering. The rest is
//! here: the [`History`] of those numbers, a small ring per number that survives a restart; graphs made of it; the page
//! with its one stylesheet and its one script; and the stream of what changed, by server-sent events.
//!
//! The page is made at the server and works without the script, which only puts what changed in the place of what was
//! there. Nothing is fetched from anywhere else.

pub mod chart;
pub mod history;
pub mod machine;
pub mod page;
pub mod scrape;
pub mod serve;
pub mod words;

pub use history::{History, Range};
pub use page::{Section, View};
pub use serve::{Dashboard, DashboardError};
