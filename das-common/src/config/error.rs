//! What can be wrong with a configuration.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

use crate::fault::{self, Coded, Fault};

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file of `--conf.file`.
    File(PathBuf),
    /// `--conf.string`.
    String,
    /// An environment variable, by its name.
    Environment(String),
    /// The command line.
    CommandLine,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::String => f.write_str("--conf.string"),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

/// What is wrong with the options as a whole, found by [`Program::check`](super::Program::check).
#[derive(Debug, Clone)]
pub struct Problem {
    /// The option it is about, without dashes.
    pub option: &'static str,
    /// What is wrong.
    pub text: String,
    /// What to do.
    pub cure: &'static str,
}

/// One thing wrong with a configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A key that no option has.
    #[error("unknown option {key} ({source_of_key}){}", suggestion(.nearest.as_deref()))]
    Unknown {
        /// As it was written.
        key: String,
        /// Where it was written.
        source_of_key: Source,
        /// The known option nearest to it.
        nearest: Option<String>,
    },
    /// A value that is not of the option's type.
    #[error("--{option} ({source_of_value}): {}expected {expected}", shown(.value.as_deref()))]
    BadValue {
        /// The option.
        option: String,
        /// Where the value was given.
        source_of_value: Source,
        /// The value; `None` for a secret.
        value: Option<String>,
        /// What the option takes.
        expected: String,
    },
    /// The last argument is an option that needs a value.
    #[error("--{option} (command line): a value must follow, a {kind}")]
    MissingValue {
        /// The option.
        option: String,
        /// Its type.
        kind: &'static str,
    },
    /// An argument that is neither an option nor the value of one.
    #[error("unexpected argument {argument:?} (command line): {hint}")]
    UnexpectedArgument {
        /// The argument.
        argument: String,
        /// What was perhaps meant.
        hint: String,
    },
    /// A file that cannot be read.
    #[error("--conf.file: cannot read {path}: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A file above the size limit.
    #[error("--conf.file: {path} is longer than {limit} bytes, which no configuration is")]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// A file or string that is no JSON object.
    #[error("{origin}: not a JSON object: {error}")]
    Json {
        /// The file or string.
        origin: Source,
        /// Where and why.
        error: serde_json::Error,
    },
    /// An argument or variable that is not UTF-8.
    #[error("{origin}: {lossy:?} is not UTF-8")]
    NotUtf8 {
        /// Where.
        origin: Source,
        /// The text with the wrong bytes replaced.
        lossy: String,
    },
    /// The options are each right but do not work together.
    #[error("--{}{}: {}; {}", .problem.option, given_in(.origin.as_ref()), .problem.text, .problem.cure)]
    Check {
        /// What is wrong.
        problem: Problem,
        /// Where the option was given, if it was.
        origin: Option<Source>,
    },
}

impl Coded for ConfigError {
    fn fault(&self) -> &'static Fault {
        match self {
            Self::Unknown { .. } => fault::CONFIG_UNKNOWN,
            Self::BadValue { .. }
            | Self::MissingValue { .. }
            | Self::UnexpectedArgument { .. }
            | Self::NotUtf8 { .. } => fault::CONFIG_VALUE,
            Self::Unreadable { .. } | Self::TooLong { .. } | Self::Json { .. } => fault::CONFIG_FILE,
            Self::Check { .. } => fault::CONFIG_COMBINATION,
        }
    }
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; the nearest known one is {name}"))
}

fn shown(value: Option<&str>) -> String {
    /// A longer value would hide the message.
    const LONGEST: usize = 120;
    match value {
        None => "the value given (not shown, a secret) is wrong: ".to_owned(),
        Some(value) if value.chars().count() > LONGEST => {
            format!("{:?}... is wrong: ", value.chars().take(LONGEST).collect::<String>())
        }
        Some(value) => format!("{value:?} is wrong: "),
    }
}

fn given_in(source: Option<&Source>) -> String {
    source.map_or_else(String::new, |source| format!(" ({source})"))
}

/// Everything that is wrong with a configuration, in the order in which it was found.
#[derive(Debug, Error)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = self.0.iter();
        if let Some(first) = lines.next() {
            write!(f, "{first}")?;
        }
        for line in lines {
            write!(f, "\n{line}")?;
        }
        Ok(())
    }
}
