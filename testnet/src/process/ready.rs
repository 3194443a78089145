//! The line a server prints when it accepts requests.

use std::collections::BTreeMap;

use super::ProcessError;

/// `<program> ready: rpc=http://127.0.0.1:9876 rest=http://127.0.0.1:9877`: one `listener=url` for each listener that
/// is enabled, with the port it really has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyLine {
    name: String,
    line: String,
    urls: BTreeMap<String, String>,
}

impl ReadyLine {
    /// The line of a program that has not printed one.
    pub(super) fn none(name: &str) -> Self {
        Self { name: name.to_owned(), line: "(none)".to_owned(), urls: BTreeMap::new() }
    }

    /// Reads a line of output; `None` if it is not the ready line of that program.
    pub fn parse(name: &str, line: &str) -> Option<Self> {
        let line = line.trim();
        let listeners = line.strip_prefix(name)?.strip_prefix(" ready:")?;
        let urls = listeners.split_whitespace().filter_map(|word| word.split_once('='));
        let urls = urls.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        Some(Self { name: name.to_owned(), line: line.to_owned(), urls })
    }

    /// URL of a listener (`rpc`, `rest`, `metrics`, `daprovider`).
    pub fn url(&self, listener: &str) -> Result<&str, ProcessError> {
        self.urls.get(listener).map(String::as_str).ok_or_else(|| ProcessError::NoListener {
            name: self.name.clone(),
            listener: listener.to_owned(),
            line: self.line.clone(),
        })
    }

    /// All listeners with their URLs, by name.
    pub fn urls(&self) -> impl Iterator<Item = (&str, &str)> {
        self.urls.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }

    /// The line as printed.
    pub fn line(&self) -> &str {
        &self.line
    }
}
