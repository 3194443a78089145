//! Nitro's list of members.

use das_common::config::{OptionValue, RawValue};
use serde::{Deserialize, Serialize};

/// One member, in Nitro's form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backend {
    /// URL of its JSON-RPC server.
    pub url: String,
    /// Its BLS public key with proof, base64 as in `das_bls.pub`.
    pub pubkey: String,
}

/// The members in the order of the keyset. Empty when not given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backends(pub Vec<Backend>);

impl OptionValue for Backends {
    const KIND: &'static str = "backendConfigList";
    fn expected() -> String {
        r#"a JSON list of members: [{"url":"http://..","pubkey":"<base64>"}]"#.to_owned()
    }
    /// A list, or a text that holds one; `null` is an empty one.
    fn parse(raw: &RawValue) -> Option<Self> {
        let list: Option<Vec<Backend>> = match raw {
            RawValue::Text(text) if text.trim().is_empty() => None,
            RawValue::Text(text) => serde_json::from_str(text).ok()?,
            RawValue::Json(value) => serde_json::from_value(value.clone()).ok()?,
        };
        Some(Self(list.unwrap_or_default()))
    }
    fn to_raw(&self) -> RawValue {
        RawValue::Json(serde_json::to_value(&self.0).unwrap_or_default())
    }
}

das_common::option_values!(Backends);
