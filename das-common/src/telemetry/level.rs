//! The options `log-level` and `log-type`.

use tracing::level_filters::LevelFilter;

use crate::config::{OptionValue, RawValue};

/// Least important kind of line that is logged, by Nitro's names or the numbers 5 to 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Nothing but what ends the program. Logged as errors: `tracing` knows no higher level.
    Crit,
    /// What failed.
    Error,
    /// What somebody should look at.
    Warn,
    /// What happens, a line for each start, stop and change.
    Info,
    /// What helps to find a mistake.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    const NAMES: [(Self, &'static str, &'static str); 6] = [
        (Self::Crit, "CRIT", "0"),
        (Self::Error, "ERROR", "1"),
        (Self::Warn, "WARN", "2"),
        (Self::Info, "INFO", "3"),
        (Self::Debug, "DEBUG", "4"),
        (Self::Trace, "TRACE", "5"),
    ];

    /// The filter that lets lines of this level and above through.
    pub fn filter(self) -> LevelFilter {
        match self {
            Self::Crit | Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        }
    }
}

impl OptionValue for LogLevel {
    const KIND: &'static str = "string";
    fn expected() -> String {
        "TRACE, DEBUG, INFO, WARN, ERROR, CRIT, or a number from 5 (TRACE) to 0 (CRIT)".to_owned()
    }
    fn parse(raw: &RawValue) -> Option<Self> {
        let text = raw.as_text()?;
        let known = |(_, name, number): &&(Self, &str, &str)| {
            text.eq_ignore_ascii_case(name)
                || text == *number
                || *name == "WARN" && text.eq_ignore_ascii_case("warning")
        };
        Self::NAMES.iter().find(known).map(|(level, ..)| *level)
    }
    fn to_raw(&self) -> RawValue {
        let name = Self::NAMES.iter().find(|(level, ..)| level == self).map_or("INFO", |(_, name, _)| name);
        RawValue::Text(name.to_owned())
    }
}

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of text each.
    Plaintext,
    /// One JSON object each.
    Json,
}

impl OptionValue for LogFormat {
    const KIND: &'static str = "string";
    fn expected() -> String {
        "plaintext or json".to_owned()
    }
    fn parse(raw: &RawValue) -> Option<Self> {
        match raw.as_text()?.as_str() {
            "plaintext" => Some(Self::Plaintext),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
    fn to_raw(&self) -> RawValue {
        RawValue::Text(if *self == Self::Json { "json" } else { "plaintext" }.to_owned())
    }
}

crate::option_values!(LogLevel, LogFormat);
