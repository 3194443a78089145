//! Options that are one of a few words.

use das_common::config::{OptionValue, RawValue};

macro_rules! choices {
    ($(#[$doc:meta])* $name:ident { $($(#[$word_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$word_doc])* $variant),+
        }

        impl OptionValue for $name {
            const KIND: &'static str = "string";
            fn expected() -> String {
                [$($word),+].join(" or ")
            }
            fn parse(raw: &RawValue) -> Option<Self> {
                match raw.as_text()?.as_str() {
                    $($word => Some(Self::$variant),)+
                    _ => None,
                }
            }
            fn to_raw(&self) -> RawValue {
                RawValue::Text(match self { $(Self::$variant => $word),+ }.to_owned())
            }
        }

        das_common::option_values!($name);
    };
}

choices! {
    /// What becomes of a batch that too few members sign.
    Fallback {
        /// It waits for them.
        Hold = "hold",
        /// It is posted itself.
        Calldata = "calldata",
    }
}

choices! {
    /// What a keyset that the contract does not take is at the start.
    KeysetCheck {
        /// The end of it.
        Fatal = "fatal",
        /// An alarm.
        Warn = "warn",
        /// Nothing.
        Off = "off",
    }
}
