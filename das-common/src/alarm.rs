//! Alarms: conditions that last until somebody or something ends them, shown at `/status`, as a metric and in the log.
//!
//! An error belongs to one request and goes back to its caller; an alarm belongs to the server. There is at most one
//! alarm of each code, so a condition that is found again and again is one line, not a flood.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Serialize;

use crate::fault::Fault;
use crate::telemetry::names;

/// Longest text of an alarm; what comes after is cut off.
const MAX_TEXT_CHARS: usize = 1_000;

/// A condition that somebody should look at.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct Alarm {
    /// Stable code, usually that of a [`Fault`].
    pub code: &'static str,
    /// What is the case, with its particulars.
    pub text: String,
    /// What to do.
    pub cure: &'static str,
    /// Unix seconds of the moment it was raised.
    pub since: u64,
}

/// The alarms of a server. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Alarms(Arc<Mutex<BTreeMap<&'static str, Alarm>>>);

impl Alarms {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Raises the alarm `code`. One that is raised already keeps its time and takes the new text.
    pub fn raise(&self, code: &'static str, text: impl Into<String>, cure: &'static str) {
        let mut text = text.into();
        if let Some((end, _)) = text.char_indices().nth(MAX_TEXT_CHARS) {
            text.truncate(end);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
        let mut alarms = self.0.lock();
        match alarms.get_mut(code) {
            Some(alarm) if alarm.text == text => return,
            Some(alarm) => alarm.text.clone_from(&text),
            None => {
                alarms.insert(code, Alarm { code, text: text.clone(), cure, since: now });
            }
        }
        drop(alarms);
        metrics::gauge!(names::ALARM, "code" => code).set(1.0);
        tracing::warn!(code, cure, "alarm: {text}");
    }

    /// Raises the alarm of a registered fault.
    pub fn raise_fault(&self, fault: &'static Fault, text: impl Into<String>) {
        self.raise(fault.code, text, fault.cure);
    }

    /// Ends the alarm `code`, if it is raised.
    pub fn clear(&self, code: &'static str) {
        // Bound to a name so that the lock is released before the line is logged.
        let ended = self.0.lock().remove(code);
        if let Some(alarm) = ended {
            metrics::gauge!(names::ALARM, "code" => code).set(0.0);
            tracing::info!(code, since = alarm.since, "alarm ended: {}", alarm.text);
        }
    }

    /// Is the alarm `code` raised?
    pub fn is_raised(&self, code: &str) -> bool {
        self.0.lock().contains_key(code)
    }

    /// All alarms that are raised, by code. Serializes to the form of `/status`.
    pub fn list(&self) -> Vec<Alarm> {
        self.0.lock().values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_lasts_from_raise_to_clear_and_keeps_its_time() {
        let alarms = Alarms::new();
        alarms.raise("DAS-TEST-001", "first", "do this");
        let since = alarms.list()[0].since;
        alarms.clone().raise("DAS-TEST-001", "x".repeat(MAX_TEXT_CHARS + 5), "do this");
        let listed = alarms.list();
        assert_eq!((listed.len(), listed[0].since, listed[0].text.len()), (1, since, MAX_TEXT_CHARS));
        let json = serde_json::to_value(&listed).unwrap();
        assert_eq!(json[0]["code"], "DAS-TEST-001");
        assert_eq!(json[0]["cure"], "do this");
        alarms.clear("DAS-TEST-001");
        alarms.clear("DAS-TEST-001");
        assert!(alarms.list().is_empty() && !alarms.is_raised("DAS-TEST-001"));
    }
}
