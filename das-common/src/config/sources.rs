//! Each source on its own: command line, environment, JSON.

use std::ffi::OsString;

use super::error::{ConfigError, Source};
use super::jsonc::strip_comments;
use super::schema::{Schema, Values};
use super::value::RawValue;

/// What the command line says.
#[derive(Default)]
pub(super) struct CommandLine {
    /// Option and value, in the order given; those that repeat are joined.
    pub(super) values: Vec<(String, RawValue)>,
    pub(super) help: bool,
    pub(super) version: bool,
    pub(super) problems: Vec<ConfigError>,
}

/// Reads arguments by the rules of Go's `pflag`: `--name value`, `--name=value`, a boolean alone is true (its value
/// can only follow `=`), a list may be repeated, of anything else the last one counts.
pub(super) fn command_line(args: impl IntoIterator<Item = OsString>, schema: &Schema) -> CommandLine {
    let mut read = CommandLine::default();
    let mut args =
        args.into_iter().map(|arg| arg.into_string().map_err(|arg| arg.to_string_lossy().into_owned()));
    let mut before = Before::Other;
    while let Some(arg) = args.next() {
        let arg = match arg {
            Ok(arg) => arg,
            Err(lossy) => {
                read.problems.push(ConfigError::NotUtf8 { origin: Source::CommandLine, lossy });
                continue;
            }
        };
        let previous = std::mem::replace(&mut before, Before::Other);
        match arg.as_str() {
            "--help" | "-h" => read.help = true,
            "--version" | "-V" => read.version = true,
            _ => match arg.strip_prefix("--").filter(|rest| !rest.is_empty()) {
                Some(rest) => {
                    let (name, value) = match rest.split_once('=') {
                        Some((name, value)) => (name, Some(value.to_owned())),
                        None => (rest, None),
                    };
                    let Some(spec) = schema.get(name) else {
                        read.problems.push(ConfigError::Unknown {
                            key: format!("--{name}"),
                            source_of_key: Source::CommandLine,
                            nearest: schema.nearest(name).map(|near| format!("--{near}")),
                        });
                        if value.is_none() {
                            before = Before::Unknown;
                        }
                        continue;
                    };
                    let value = match value {
                        Some(value) => Some(value),
                        None if spec.kind == "bool" => {
                            before = Before::Switch(spec.name.clone());
                            Some("true".to_owned())
                        }
                        None => args.next().and_then(Result::ok),
                    };
                    match value {
                        Some(value) => read.add(&spec.name, value, spec.repeats),
                        None => read
                            .problems
                            .push(ConfigError::MissingValue { option: spec.name.clone(), kind: spec.kind }),
                    }
                }
                // The value of an option that is unknown is not one more problem.
                None if matches!(previous, Before::Unknown) && !arg.starts_with('-') => {}
                None => read.problems.push(unexpected(arg, &previous, schema)),
            },
        }
    }
    read
}

/// What the argument before was, as far as it matters for a stray word.
enum Before {
    /// A boolean option without `=`.
    Switch(String),
    /// An unknown option without `=`.
    Unknown,
    Other,
}

fn unexpected(argument: String, before: &Before, schema: &Schema) -> ConfigError {
    let name = argument.trim_start_matches('-').split('=').next().unwrap_or_default();
    let hint = match before {
        Before::Switch(option) => {
            format!("the value of a switch follows an equals sign, --{option}={argument}")
        }
        _ if argument.starts_with('-') && schema.get(name).is_some() => {
            format!("options have two dashes, --{name}")
        }
        _ => "this program takes options only, --name value or --name=value".to_owned(),
    };
    ConfigError::UnexpectedArgument { argument, hint }
}

impl CommandLine {
    fn add(&mut self, name: &str, value: String, repeats: bool) {
        if repeats && let Some((_, RawValue::Text(before))) = self.values.iter_mut().find(|(n, _)| n == name)
        {
            before.push(',');
            before.push_str(&value);
            return;
        }
        self.values.push((name.to_owned(), RawValue::Text(value)));
    }

    pub(super) fn get(&self, name: &str) -> Option<&RawValue> {
        self.values.iter().rev().find(|(n, _)| n == name).map(|(_, value)| value)
    }
}

/// The option that an environment variable names: `_` is `.`, `__` is `-`.
pub(super) fn option_of_variable(variable: &str, prefix: &str) -> Option<String> {
    let rest = variable.strip_prefix(prefix)?.strip_prefix('_')?;
    Some(rest.to_ascii_lowercase().replace("__", "-").replace('_', "."))
}

/// The variable that sets an option.
pub(super) fn variable_of_option(option: &str, prefix: &str) -> String {
    format!("{prefix}_{}", option.replace('-', "__").replace('.', "_").to_ascii_uppercase())
}

/// Reads the variables with the prefix.
pub(super) fn environment(env: &[(OsString, OsString)], prefix: &str, schema: &Schema, values: &mut Values) {
    for (variable, value) in env {
        let Some(variable) = variable.to_str() else { continue };
        let Some(name) = option_of_variable(variable, prefix) else { continue };
        let origin = Source::Environment(variable.to_owned());
        if schema.get(&name).is_none() {
            let nearest = schema.nearest(&name).map(|near| variable_of_option(near, prefix));
            values.problem(ConfigError::Unknown { key: name, source_of_key: origin, nearest });
            continue;
        }
        match value.to_str() {
            Some(value) => values.set(name, RawValue::Text(value.to_owned()), origin),
            None => {
                values.problem(ConfigError::NotUtf8 { origin, lossy: value.to_string_lossy().into_owned() });
            }
        }
    }
}

/// Reads a JSON object with nested or dotted keys.
pub(super) fn json(text: &str, origin: &Source, schema: &Schema, values: &mut Values) {
    match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&strip_comments(text)) {
        Ok(object) => flatten("", object, origin, schema, values),
        Err(error) => values.problem(ConfigError::Json { origin: origin.clone(), error }),
    }
}

fn flatten(
    parent: &str,
    object: serde_json::Map<String, serde_json::Value>,
    origin: &Source,
    schema: &Schema,
    values: &mut Values,
) {
    for (key, value) in object {
        let name = if parent.is_empty() { key } else { format!("{parent}.{key}") };
        match value {
            // A name that is no section falls through to be reported as a whole, not by what is below it.
            serde_json::Value::Object(below) if schema.is_section(&name) => {
                flatten(&name, below, origin, schema, values);
            }
            serde_json::Value::Null if schema.get(&name).is_some() || schema.is_section(&name) => {}
            value if schema.get(&name).is_some() => {
                let raw = match value {
                    serde_json::Value::String(text) => RawValue::Text(text),
                    other => RawValue::Json(other),
                };
                values.set(name, raw, origin.clone());
            }
            other if schema.is_section(&name) => values.problem(ConfigError::BadValue {
                option: name,
                source_of_value: origin.clone(),
                value: Some(other.to_string()),
                expected: "an object with the options of this section".to_owned(),
            }),
            _ => {
                let nearest = schema.nearest(&name).map(str::to_owned);
                values.problem(ConfigError::Unknown { key: name, source_of_key: origin.clone(), nearest });
            }
        }
    }
}
