//! Variables of transcripts, and the rules that describe long byte strings.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use das_common::keccak::keccak256;
use das_common::store_auth::{RequestDigest, StoreKey};
use serde_json::Value;

/// A file that is not written as the README says.
#[derive(Debug, thiserror::Error)]
pub enum ValueError {
    /// A value of no known form.
    #[error("{what} is not of a known form: {got}")]
    Unknown {
        /// What was expected.
        what: &'static str,
        /// What stands there.
        got: String,
    },
    /// A name that nothing was given for.
    #[error("no {what} of the name {name}")]
    Missing {
        /// What was looked for.
        what: &'static str,
        /// Its name.
        name: String,
    },
}

fn unknown(what: &'static str, got: &Value) -> ValueError {
    ValueError::Unknown { what, got: got.to_string().chars().take(200).collect() }
}

/// The keys of a file by name.
#[derive(Default)]
pub struct Keys(BTreeMap<String, StoreKey>);

impl Keys {
    /// From the file's `keys`.
    pub fn read(keys: &Value) -> Result<Self, ValueError> {
        let mut read = BTreeMap::new();
        for (name, key) in keys.as_object().into_iter().flatten() {
            let secret = key["secret"].as_str().ok_or_else(|| unknown("a key", key))?;
            read.insert(name.clone(), StoreKey::from_hex(secret).map_err(|_| unknown("a key", key))?);
        }
        Ok(Self(read))
    }
}

/// Makes the value of a variable whose rule this module does not know; `None` when it knows it neither. It is given the
/// rule's name and what stands under it.
pub type Rule<'a> = dyn Fn(&str, &Value) -> Option<String> + 'a;

/// The variables of a case so far.
pub struct Variables<'a> {
    keys: &'a Keys,
    rule: Option<&'a Rule<'a>>,
    values: BTreeMap<String, String>,
}

impl<'a> Variables<'a> {
    /// None yet.
    pub fn new(keys: &'a Keys, rule: Option<&'a Rule<'a>>) -> Self {
        Self { keys, rule, values: BTreeMap::new() }
    }

    /// Sets a variable, and its decimal form if it is a hex number.
    pub fn set(&mut self, name: &str, value: String) {
        let digits = value.strip_prefix("0x").unwrap_or_default();
        if let Ok(number) = u64::from_str_radix(digits, 16) {
            self.values.insert(format!("{name}_dec"), number.to_string());
        }
        self.values.insert(name.to_owned(), value);
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Adds what a step's `vars` describe. They may refer to each other, in any order.
    pub fn add(&mut self, described: &Value) -> Result<(), ValueError> {
        let mut left: Vec<_> = described.as_object().into_iter().flatten().collect();
        while !left.is_empty() {
            let before = left.len();
            let mut failure = None;
            left.retain(|(name, rule)| match self.evaluate(rule) {
                Ok(value) => {
                    self.set(name, value);
                    false
                }
                Err(error) => {
                    failure = Some(error);
                    true
                }
            });
            if let Some(error) = failure.filter(|_| left.len() == before) {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Puts the values of variables into a text.
    pub fn fill(&self, text: &str) -> Result<String, ValueError> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            let Some(length) = rest[start..].find('}') else { break };
            let name = &rest[start + 2..start + length];
            filled.push_str(&rest[..start]);
            filled.push_str(
                self.get(name)
                    .ok_or_else(|| ValueError::Missing { what: "variable", name: name.to_owned() })?,
            );
            rest = &rest[start + length + 1..];
        }
        filled.push_str(rest);
        Ok(filled)
    }

    fn evaluate(&self, rule: &Value) -> Result<String, ValueError> {
        let fields = rule.as_object().filter(|fields| fields.len() == 1);
        let (kind, value) =
            fields.and_then(|fields| fields.iter().next()).ok_or_else(|| unknown("a variable", rule))?;
        Ok(match kind.as_str() {
            "hex" => const_hex::encode_prefixed(self.bytes(value)?),
            "base64" => base64_simd::STANDARD.encode_to_string(self.bytes(value)?),
            "repeat" => {
                let text = value["text"].as_str().ok_or_else(|| unknown("a text", value))?;
                let count = value["count"].as_u64().ok_or_else(|| unknown("a count", value))?;
                text.repeat(usize::try_from(count).map_err(|_| unknown("a count", value))?)
            }
            "unix_time_plus" => {
                let offset = value.as_i64().ok_or_else(|| unknown("a number of seconds", value))?;
                format!("{:#x}", now().as_secs().saturating_add_signed(offset))
            }
            "store_signature" => {
                let name = value["key"].as_str().unwrap_or_default();
                let missing = || ValueError::Missing { what: "key", name: name.to_owned() };
                let key = self.keys.0.get(name).ok_or_else(missing)?;
                let digest =
                    RequestDigest::over(&self.bytes(&value["data"])?, &self.numbers(&value["extras"])?);
                const_hex::encode_prefixed(key.sign(&digest))
            }
            "commitment" => {
                let mut bytes = self.bytes(&value["data"])?;
                bytes.extend(self.numbers(&value["extras"])?.iter().flat_map(|number| number.to_be_bytes()));
                const_hex::encode_prefixed(keccak256(&bytes))
            }
            other => self
                .rule
                .and_then(|rule| rule(other, value))
                .ok_or_else(|| ValueError::Missing { what: "rule", name: other.to_owned() })?,
        })
    }

    fn numbers(&self, list: &Value) -> Result<Vec<u64>, ValueError> {
        let number = |item: &Value| -> Result<u64, ValueError> {
            let text = self.fill(item.as_str().ok_or_else(|| unknown("a hex number", item))?)?;
            let digits = text.strip_prefix("0x").ok_or_else(|| unknown("a hex number", item))?;
            u64::from_str_radix(digits, 16).map_err(|_| unknown("a hex number", item))
        };
        list.as_array().into_iter().flatten().map(number).collect()
    }

    fn bytes(&self, rule: &Value) -> Result<Vec<u8>, ValueError> {
        if let Some(text) = rule.as_str() {
            return const_hex::decode(self.fill(text)?).map_err(|_| unknown("a byte string", rule));
        }
        Ok(crate::vectors::bytes(rule))
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Replay protection works by the second: waits until a new one has begun.
pub(super) fn wait_for_a_new_second() {
    let into = Duration::from_nanos(u64::from(now().subsec_nanos()));
    std::thread::sleep(Duration::from_secs(1).saturating_sub(into));
}
