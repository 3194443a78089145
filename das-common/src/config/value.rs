//! Types that an option can have, and how each is read from text or JSON.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use zeroize::Zeroizing;

use super::go_duration::{format_duration, parse_duration};

/// A value as a source gave it. Without `Debug`: it may be a secret.
#[derive(Clone, PartialEq)]
pub enum RawValue {
    /// Text: from the command line, the environment, or a JSON string.
    Text(String),
    /// A JSON number, boolean, array or (in a list) object.
    Json(serde_json::Value),
}

impl RawValue {
    /// The value as text, if it is a single one.
    pub fn as_text(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::Json(serde_json::Value::String(text)) => Some(text.clone()),
            Self::Json(value @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_))) => {
                Some(value.to_string())
            }
            Self::Json(_) => None,
        }
    }

    /// The value as JSON.
    pub fn into_json(self) -> serde_json::Value {
        match self {
            Self::Text(text) => serde_json::Value::String(text),
            Self::Json(value) => value,
        }
    }
}

impl fmt::Display for RawValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Json(value) => write!(f, "{value}"),
        }
    }
}

/// The type of an option.
pub trait OptionValue: Sized {
    /// Name of the type in `--help`, in the words of Nitro's option list where it has one.
    const KIND: &'static str;
    /// Is it kept out of every message and of `--conf.dump`?
    const SECRET: bool = false;
    /// May the option be given several times, each adding to the one before?
    const REPEATS: bool = false;
    /// What is expected, for messages: "a port, 0 to 65535".
    fn expected() -> String;
    /// Reads a value; `None` when it is not of this type. The empty text is what an option without a default has.
    fn parse(raw: &RawValue) -> Option<Self>;
    /// The value as `--conf.dump` prints it.
    fn to_raw(&self) -> RawValue;
}

/// Makes types that implement [`OptionValue`](crate::config::OptionValue) usable as fields of
/// [`options!`](crate::options).
#[macro_export]
macro_rules! option_values {
    ($($ty:ty),+ $(,)?) => { $(
        impl $crate::config::Field for $ty {
            fn declare(at: &$crate::config::At<'_>, schema: &mut $crate::config::Schema) {
                schema.declare_value::<$ty>(at);
            }
            fn read(at: &$crate::config::At<'_>, values: &mut $crate::config::Values) -> Self {
                values.take(at)
            }
            fn dump(&self, name: &str, into: &mut Vec<(String, $crate::config::RawValue)>) {
                let blank = $crate::config::RawValue::Text(String::new());
                let secret = <$ty as $crate::config::OptionValue>::SECRET;
                let value = $crate::config::OptionValue::to_raw(self);
                into.push((name.to_owned(), if secret { blank } else { value }));
            }
        }
    )+ };
}

impl OptionValue for bool {
    const KIND: &'static str = "bool";
    fn expected() -> String {
        "true or false".to_owned()
    }
    /// The spellings of Go's `strconv.ParseBool`.
    fn parse(raw: &RawValue) -> Option<Self> {
        match raw.as_text()?.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
            _ => None,
        }
    }
    fn to_raw(&self) -> RawValue {
        RawValue::Json((*self).into())
    }
}

/// An unsigned number as Go's flag package reads it: decimal, or 0x, 0o, 0b; `_` between digits. A leading zero,
/// which Go takes for octal and people for decimal, is refused.
fn parse_unsigned(text: &str) -> Option<u64> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let (digits, radix) = match text.get(..2) {
        Some("0x" | "0X") => (&text[2..], 16),
        Some("0o" | "0O") => (&text[2..], 8),
        Some("0b" | "0B") => (&text[2..], 2),
        _ => (text, 10),
    };
    let clean = digits.as_bytes();
    let separated = |i: usize| i > 0 && clean[i - 1] != b'_' && i + 1 < clean.len();
    if clean.is_empty()
        || (radix == 10 && clean.len() > 1 && clean[0] == b'0')
        || clean.iter().enumerate().any(|(i, &b)| b == b'_' && !separated(i) || b == b'+')
    {
        return None;
    }
    u64::from_str_radix(&digits.replace('_', ""), radix).ok()
}

macro_rules! unsigned {
    ($($ty:ty, $kind:literal;)+) => { $(
        impl OptionValue for $ty {
            const KIND: &'static str = $kind;
            fn expected() -> String {
                format!("a whole number, 0 to {}", <$ty>::MAX)
            }
            fn parse(raw: &RawValue) -> Option<Self> {
                parse_unsigned(&raw.as_text()?)?.try_into().ok()
            }
            fn to_raw(&self) -> RawValue {
                RawValue::Json((*self).into())
            }
        }
        crate::option_values!($ty);
    )+ };
}
unsigned! {
    u16, "uint16";
    u32, "uint32";
    u64, "uint64";
    usize, "int";
}

impl OptionValue for f64 {
    const KIND: &'static str = "float64";
    fn expected() -> String {
        "a number".to_owned()
    }
    fn parse(raw: &RawValue) -> Option<Self> {
        raw.as_text()?.parse().ok().filter(|n: &f64| n.is_finite())
    }
    fn to_raw(&self) -> RawValue {
        RawValue::Json((*self).into())
    }
}

impl OptionValue for String {
    const KIND: &'static str = "string";
    fn expected() -> String {
        "a text".to_owned()
    }
    fn parse(raw: &RawValue) -> Option<Self> {
        raw.as_text()
    }
    fn to_raw(&self) -> RawValue {
        RawValue::Text(self.clone())
    }
}

/// Absent is the empty path.
impl OptionValue for PathBuf {
    const KIND: &'static str = "string";
    fn expected() -> String {
        "a path".to_owned()
    }
    fn parse(raw: &RawValue) -> Option<Self> {
        raw.as_text().map(Into::into)
    }
    fn to_raw(&self) -> RawValue {
        RawValue::Text(self.to_string_lossy().into_owned())
    }
}

impl OptionValue for Duration {
    const KIND: &'static str = "duration";
    fn expected() -> String {
        "a duration such as 30s, 1h30m or 504h".to_owned()
    }
    /// A JSON number counts nanoseconds: that is how Go prints a duration into JSON.
    fn parse(raw: &RawValue) -> Option<Self> {
        match raw {
            RawValue::Json(value) => {
                value.as_u64().filter(|n| i64::try_from(*n).is_ok()).map(Duration::from_nanos)
            }
            RawValue::Text(text) => parse_duration(text).ok(),
        }
    }
    fn to_raw(&self) -> RawValue {
        RawValue::Text(format_duration(*self))
    }
}

/// A list: a JSON array of texts, or one text with commas. On the command line it may be given repeatedly.
impl OptionValue for Vec<String> {
    const KIND: &'static str = "stringSlice";
    const REPEATS: bool = true;
    fn expected() -> String {
        "a list: texts separated by commas, or a JSON array of texts".to_owned()
    }
    fn parse(raw: &RawValue) -> Option<Self> {
        match raw {
            RawValue::Json(serde_json::Value::Array(items)) => {
                items.iter().map(|item| item.as_str().map(str::to_owned)).collect()
            }
            _ => {
                let text = raw.as_text()?;
                let text = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(&text);
                Some(text.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect())
            }
        }
    }
    fn to_raw(&self) -> RawValue {
        RawValue::Json(self.clone().into())
    }
}

/// A text that is erased when dropped and never printed. Empty when not given.
#[derive(Clone, Default)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Was none given?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "Secret(none)" } else { "Secret(..)" })
    }
}

impl OptionValue for Secret {
    const KIND: &'static str = "string";
    const SECRET: bool = true;
    fn expected() -> String {
        "a text".to_owned()
    }
    fn parse(raw: &RawValue) -> Option<Self> {
        raw.as_text().map(Into::into)
    }
    fn to_raw(&self) -> RawValue {
        RawValue::Text(String::new())
    }
}

/// An amount of bytes: `64MiB`, `1.5GB`, or a plain number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// Units of [`ByteSize`], the longest first that another one is the end of.
const BYTE_UNITS: [(&str, u64); 10] = [
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("b", 1),
    ("", 1),
];

impl ByteSize {
    /// The amount, for a `Vec` or a limit; the largest `usize` where it does not fit.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = [(1u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")]
            .into_iter()
            .find(|(size, _)| self.0 >= *size && self.0.is_multiple_of(*size));
        match unit {
            Some((size, name)) => write!(f, "{}{name}", self.0 / size),
            None => write!(f, "{}", self.0),
        }
    }
}

impl OptionValue for ByteSize {
    const KIND: &'static str = "size";
    fn expected() -> String {
        "an amount of bytes such as 64MiB, 1GB or 5242880".to_owned()
    }
    fn parse(raw: &RawValue) -> Option<Self> {
        let text = raw.as_text()?.to_ascii_lowercase();
        let (number, unit) = BYTE_UNITS
            .iter()
            .find_map(|(name, unit)| text.strip_suffix(name).map(|number| (number.trim_end(), *unit)))?;
        if let Some(whole) = parse_unsigned(number) {
            return whole.checked_mul(unit).map(Self);
        }
        let (whole, part) = number.split_once('.')?;
        let digits = |s: &str| !s.is_empty() && s.len() <= 9 && s.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(part) {
            return None;
        }
        let scale = 10u128.pow(u32::try_from(part.len()).ok()?);
        let value = whole.parse::<u128>().ok()? * scale + part.parse::<u128>().ok()?;
        u64::try_from(value * u128::from(unit) / scale).ok().map(Self)
    }
    fn to_raw(&self) -> RawValue {
        RawValue::Text(self.to_string())
    }
}

crate::option_values!(bool, f64, String, PathBuf, Duration, Vec<String>, Secret, ByteSize);
