//! Options from files, a string, the environment and the command line, over one documented struct tree.
//!
//! An option is declared once, with [`options!`](crate::options): a field of a struct, its documentation and its
//! default in the text form that an operator would write. Its name is the path of field names joined with dots,
//! with dashes for underscores: `data_availability.local_cache.max_bytes` is
//! `data-availability.local-cache.max-bytes`.
//!
//! Sources, weakest first (spec section 11):
//!
//! | source | form |
//! |---|---|
//! | the default | beside the field |
//! | `--conf.file a.json,b.json` | nested objects or dotted keys; `//` and `/* */` comments and trailing commas; later files win |
//! | `--conf.string '{..}'` | the same |
//! | environment, with `--conf.env-prefix P` | `P_REST__PORT` is `rest-port`: `_` is `.`, `__` is `-` |
//! | command line | `--name value`, `--name=value`; a boolean alone is true |
//!
//! Every problem of every source is reported at once, each with the option, where it was given, and what is
//! expected; when there is none, every combination of options that cannot work. A key that no option has is such a problem. What another implementation's option of the same name
//! would do and ours need not, is declared as [`Replaced`]: accepted, with one line that says what replaces it.

mod error;
mod go_duration;
mod jsonc;
mod load;
mod page;
mod print;
mod schema;
pub mod sections;
mod sources;
mod value;

pub use error::{ConfigError, ConfigErrors, Problem, Source};
pub use go_duration::{DurationError, format_duration, parse_duration};
pub use jsonc::strip_comments;
pub use load::{Inputs, Loaded, Outcome, load, load_or_exit, load_process};
pub use page::{check_page, page};
pub use schema::{At, Field, OptionSpec, Replaced, Schema, Values, dashed, nearest};
pub use value::{ByteSize, OptionValue, RawValue, Secret};

/// A program: its options, and what `--help`, `--version` and the checks at start need to know.
pub trait Program: Field + std::fmt::Debug {
    /// Name of the executable.
    const NAME: &'static str;
    /// What it does, in one or two sentences, for `--help`.
    const ABOUT: &'static str;
    /// Version, for `--version`.
    const VERSION: &'static str;
    /// Options of other implementations that are accepted and do nothing.
    const REPLACED: &'static [Replaced];

    /// What is wrong with the options as a whole: combinations that cannot work, things missing.
    fn check(&self) -> Vec<Problem>;

    /// Lines for the log about options that are right but worth a word at start.
    fn notices(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Declares a struct of options. See the [module](crate::config).
///
/// A field is an option if its type is a value ([`OptionValue`](crate::config::OptionValue)), and a section of
/// options if its type was itself declared with this macro. `["Title"]` puts the fields that follow, and what is
/// below them, under that heading of `--help`; without, they stand under the heading of the struct around them.
///
/// ```
/// das_common::options! {
///     /// Where to listen.
///     pub struct Listen {
///         ["Server"]
///         /// Address to listen on.
///         addr: String = "localhost",
///         /// Port to listen on; 0 picks a free one.
///         port: u16 = "9876",
///     }
/// }
/// assert_eq!(Listen::default().port, 9876);
/// ```
#[macro_export]
macro_rules! options {
    (
        $(#[doc = $struct_doc:literal])+
        $vis:vis struct $name:ident {
            $(
                [$group:literal]
                $(
                    $(#[doc = $doc:literal])+
                    $field:ident : $ty:ty $(= $default:literal)?,
                )+
            )+
        }
    ) => {
        $(#[doc = $struct_doc])+
        #[derive(Debug, Clone)]
        $vis struct $name {
            $($(
                $(#[doc = $doc])+
                pub $field: $ty,
            )+)+
        }

        impl $crate::config::Field for $name {
            fn declare(at: &$crate::config::At<'_>, schema: &mut $crate::config::Schema) {
                schema.section(at.name);
                $($(
                    <$ty as $crate::config::Field>::declare(
                        &$crate::config::At {
                            name: &$crate::config::dashed(at.name, stringify!($field)),
                            doc: concat!($($doc),+),
                            default: concat!($($default)?),
                            group: if $group.is_empty() { at.group } else { $group },
                        },
                        schema,
                    );
                )+)+
            }

            fn read(at: &$crate::config::At<'_>, values: &mut $crate::config::Values) -> Self {
                Self {
                    $($(
                        $field: <$ty as $crate::config::Field>::read(
                            &$crate::config::At {
                                name: &$crate::config::dashed(at.name, stringify!($field)),
                                doc: "",
                                default: concat!($($default)?),
                                group: "",
                            },
                            values,
                        ),
                    )+)+
                }
            }

            fn dump(&self, name: &str, into: &mut Vec<(String, $crate::config::RawValue)>) {
                $($(
                    $crate::config::Field::dump(
                        &self.$field,
                        &$crate::config::dashed(name, stringify!($field)),
                        into,
                    );
                )+)+
            }
        }

        impl Default for $name {
            fn default() -> Self {
                <Self as $crate::config::Field>::read(
                    &$crate::config::At::root(),
                    &mut $crate::config::Values::default(),
                )
            }
        }
    };
    (
        $(#[doc = $struct_doc:literal])+
        $vis:vis struct $name:ident {
            $(
                $(#[doc = $doc:literal])+
                $field:ident : $ty:ty $(= $default:literal)?,
            )+
        }
    ) => {
        $crate::options! {
            $(#[doc = $struct_doc])+
            $vis struct $name {
                [""]
                $(
                    $(#[doc = $doc])+
                    $field : $ty $(= $default)?,
                )+
            }
        }
    };
}

#[cfg(test)]
mod tests;
