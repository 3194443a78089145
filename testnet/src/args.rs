//! Command lines of the testnet's own programs: words and `--name value` or `--name=value`.

use std::collections::VecDeque;
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

/// What is wrong with a command line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgsError {
    /// An option that the program does not have, or a second time.
    #[error("unknown or repeated argument {got}; --help lists what there is")]
    Unknown {
        /// The argument.
        got: String,
    },
    /// An option without its value.
    #[error("--{name} needs a value")]
    NoValue {
        /// The option.
        name: &'static str,
    },
    /// A value that does not parse.
    #[error("--{name} {got}: {reason}")]
    BadValue {
        /// The option.
        name: &'static str,
        /// What was given.
        got: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// The arguments not looked at so far.
#[derive(Debug)]
pub struct Args {
    rest: VecDeque<String>,
}

impl Args {
    /// The arguments of this process.
    pub fn from_env() -> Self {
        Self::new(std::env::args().skip(1))
    }

    /// These arguments, the program's name left out.
    pub fn new(args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { rest: args.into_iter().map(Into::into).collect() }
    }

    /// Takes the first argument if it is a word and not an option.
    pub fn command(&mut self) -> Option<String> {
        if self.rest.front()?.starts_with('-') { None } else { self.rest.pop_front() }
    }

    /// Takes a switch; is it there?
    pub fn switch(&mut self, name: &'static str) -> bool {
        match self.position(name) {
            Some(at) if self.rest[at].len() == name.len() + 2 => self.rest.remove(at).is_some(),
            _ => false,
        }
    }

    /// Takes the value of an option.
    pub fn value<T: FromStr<Err: Display>>(&mut self, name: &'static str) -> Result<Option<T>, ArgsError> {
        let Some(at) = self.position(name) else { return Ok(None) };
        let argument = self.rest.remove(at).unwrap_or_default();
        let text = match argument.split_once('=') {
            Some((_, value)) => value.to_owned(),
            None => self.rest.remove(at).ok_or(ArgsError::NoValue { name })?,
        };
        let parsed = text.parse::<T>();
        parsed.map(Some).map_err(|e| ArgsError::BadValue { name, got: text, reason: e.to_string() })
    }

    /// Takes the value of an option or gives the default.
    pub fn value_or<T: FromStr<Err: Display>>(
        &mut self,
        name: &'static str,
        default: T,
    ) -> Result<T, ArgsError> {
        Ok(self.value(name)?.unwrap_or(default))
    }

    /// Takes all values of an option that may be repeated.
    pub fn values<T: FromStr<Err: Display>>(&mut self, name: &'static str) -> Result<Vec<T>, ArgsError> {
        let mut all = Vec::new();
        while let Some(value) = self.value(name)? {
            all.push(value);
        }
        Ok(all)
    }

    /// An error if something is left that nobody took.
    pub fn finish(self) -> Result<(), ArgsError> {
        match self.rest.into_iter().next() {
            None => Ok(()),
            Some(got) => Err(ArgsError::Unknown { got }),
        }
    }

    fn position(&self, name: &str) -> Option<usize> {
        let is_it = |arg: &String| {
            let Some(arg) = arg.strip_prefix("--") else { return false };
            arg.split('=').next() == Some(name)
        };
        self.rest.iter().position(is_it)
    }
}

/// A number of bytes: `4096`, `100KB`, `1MiB`, `2GB` (powers of 1000, or with an `i` of 1024).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A text that is no size.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a size such as 4096, 100KB, 1MiB or 2GB")]
pub struct NotASize;

impl FromStr for Size {
    type Err = NotASize;

    fn from_str(text: &str) -> Result<Self, NotASize> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit: u64 = match unit {
            "" | "B" => 1,
            "KB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(NotASize),
        };
        let number = number.parse::<u64>().map_err(|_| NotASize)?;
        number.checked_mul(unit).map(Self).ok_or(NotASize)
    }
}

impl Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let units = [
            (1 << 30, "GiB"),
            (1_000_000_000, "GB"),
            (1 << 20, "MiB"),
            (1_000_000, "MB"),
            (1 << 10, "KiB"),
            (1_000, "KB"),
        ];
        let exact = units.into_iter().find(|(unit, _)| self.0 >= *unit && self.0.is_multiple_of(*unit));
        match exact {
            Some((unit, name)) => write!(f, "{} {name}", self.0 / unit),
            None if self.0 >= 10_000_000 => write!(f, "{:.1} MB", self.0 as f64 / 1e6),
            None => write!(f, "{} B", self.0),
        }
    }
}

/// A duration in whole seconds, minutes or hours: `30s`, `5m`, `1h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

/// A text that is no duration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a duration such as 30s, 5m or 1h")]
pub struct NotASpan;

impl FromStr for Span {
    type Err = NotASpan;

    fn from_str(text: &str) -> Result<Self, NotASpan> {
        let (number, unit) = text.split_at(text.len() - usize::from(text.ends_with(['s', 'm', 'h'])));
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(NotASpan),
        };
        let number = number.parse::<u64>().map_err(|_| NotASpan)?;
        number.checked_mul(seconds).map(|s| Self(Duration::from_secs(s))).ok_or(NotASpan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_taken_in_any_order_and_leftovers_are_named() {
        let mut args = Args::new(["store", "--size=1MiB", "--quick", "--to", "a", "--to", "b"]);
        assert_eq!(args.command().as_deref(), Some("store"));
        assert_eq!(args.value::<Size>("size"), Ok(Some(Size(1 << 20))));
        assert_eq!(args.values::<String>("to"), Ok(vec!["a".into(), "b".into()]));
        assert!(args.switch("quick") && !args.switch("quick"));
        assert_eq!(args.value_or("count", 7_u64), Ok(7));
        assert_eq!(args.finish(), Ok(()));

        let mut args = Args::new(["--size", "ten", "--wrong"]);
        assert!(matches!(args.value::<Size>("size"), Err(ArgsError::BadValue { .. })));
        assert_eq!(args.finish(), Err(ArgsError::Unknown { got: "--wrong".into() }));
        assert_eq!(Args::new(["--to"]).value::<String>("to"), Err(ArgsError::NoValue { name: "to" }));
    }

    #[test]
    fn sizes_and_spans_read_as_written() {
        for (text, bytes, shown) in [
            ("0", 0, "0 B"),
            ("10KB", 10_000, "10 KB"),
            ("1MiB", 1 << 20, "1 MiB"),
            ("2GB", 2_000_000_000, "2 GB"),
            ("1023", 1023, "1023 B"),
        ] {
            let size: Size = text.parse().unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, shown));
        }
        for text in ["", "MB", "1.5MB", "1 MB", "99999999999GB", "-1"] {
            assert_eq!(text.parse::<Size>(), Err(NotASize), "{text}");
        }
        assert_eq!("5m".parse(), Ok(Span(Duration::from_secs(300))));
        for text in ["", "s", "5", "1d", "h5"] {
            assert_eq!(text.parse::<Span>(), Err(NotASpan), "{text}");
        }
    }
}
