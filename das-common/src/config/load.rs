//! All sources put together.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::Program;
use super::error::{ConfigError, ConfigErrors, Source};
use super::print;
use super::schema::{At, Field, Schema, Values};
use super::sections::ConfOptions;
use super::sources::{self, CommandLine};
use super::value::{OptionValue, RawValue};
use crate::fault::Coded;

/// Longest configuration file that is read.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// What a program was started with.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// Arguments, without the program's name.
    pub args: Vec<OsString>,
    /// Environment variables.
    pub env: Vec<(OsString, OsString)>,
}

impl Inputs {
    /// Of this process.
    pub fn of_process() -> Self {
        Self { args: std::env::args_os().skip(1).collect(), env: std::env::vars_os().collect() }
    }

    /// Arguments only, for tests.
    pub fn of_args<S: Into<OsString>>(args: impl IntoIterator<Item = S>) -> Self {
        Self { args: args.into_iter().map(Into::into).collect(), env: Vec::new() }
    }
}

/// Options in force.
#[derive(Debug)]
pub struct Loaded<T> {
    /// The options.
    pub options: T,
    /// Lines for the log: options that were given and have no effect, with what replaces them.
    pub notices: Vec<String>,
}

/// What a program does next.
#[derive(Debug)]
pub enum Outcome<T> {
    /// It runs.
    Run(Loaded<T>),
    /// It prints this and ends with exit code 0: help, version, or the configuration in force.
    Print(String),
}

/// The options of a program together with those of the loader itself.
struct Tree<T> {
    options: T,
    conf: ConfOptions,
}

impl<T: Field> Field for Tree<T> {
    fn declare(at: &At<'_>, schema: &mut Schema) {
        T::declare(at, schema);
        ConfOptions::declare(&At { name: "conf", group: "Configuration", ..*at }, schema);
    }
    fn read(at: &At<'_>, values: &mut Values) -> Self {
        Self {
            options: T::read(at, values),
            conf: ConfOptions::read(&At { name: "conf", ..At::root() }, values),
        }
    }
    fn dump(&self, name: &str, into: &mut Vec<(String, RawValue)>) {
        self.options.dump(name, into);
        self.conf.dump("conf", into);
    }
}

/// The schema of a program: its own options, those it replaces, and `conf.*`.
pub(super) fn schema<T: Program>() -> Schema {
    let replaced: Vec<_> = T::REPLACED.iter().chain(super::sections::CONF_REPLACED).copied().collect();
    Schema::of::<Tree<T>>(&replaced)
}

/// Loads the options of a program. `--help` and `--version` come before any problem; all problems are reported.
pub fn load<T: Program>(inputs: &Inputs) -> Result<Outcome<T>, ConfigErrors> {
    let schema = schema::<T>();
    let line = sources::command_line(inputs.args.iter().cloned(), &schema);
    if line.help {
        return Ok(Outcome::Print(print::help::<T>(&schema)));
    }
    if line.version {
        return Ok(Outcome::Print(format!("{} {}\n", T::NAME, T::VERSION)));
    }
    let mut values = gather(line, inputs, &schema);
    let tree = Tree::<T>::read(&At::root(), &mut values);
    check_replaced(&schema, &mut values);
    let dump = tree.conf.dump;
    let text = dump.then(|| print::dump(&tree, &schema, &values));
    let mut notices = print::notices(&schema, &values);
    notices.extend(tree.options.notices());
    // A dump is for looking at a configuration, also at one that is not complete yet. And where single options are
    // wrong, what they would be together is noise.
    let checks = if dump || values.has_problems() { Vec::new() } else { tree.options.check() };
    for problem in checks {
        let origin = values.get(problem.option).map(|(_, origin)| origin.clone());
        values.problem(ConfigError::Check { problem, origin });
    }
    let problems = values.into_problems();
    if !problems.is_empty() {
        return Err(ConfigErrors(problems));
    }
    Ok(match text {
        Some(text) => Outcome::Print(text),
        None => Outcome::Run(Loaded { options: tree.options, notices }),
    })
}

/// [`load`] for this process.
pub fn load_process<T: Program>() -> Result<Outcome<T>, ConfigErrors> {
    load(&Inputs::of_process())
}

/// [`load`] for this process; prints and ends it when there is nothing to run (exit code 0) or something is wrong
/// (every problem on standard error, exit code 1).
pub fn load_or_exit<T: Program>() -> Loaded<T> {
    let (text, code) = match load_process() {
        Ok(Outcome::Run(loaded)) => return loaded,
        Ok(Outcome::Print(text)) => (text, 0),
        Err(problems) => {
            let mut lines = format!("{}: the configuration is not usable:\n", T::NAME);
            for problem in &problems.0 {
                lines += &format!("  {}: {problem}\n", problem.fault().code);
            }
            let _ = writeln!(std::io::stderr(), "{lines}See {} --help.", T::NAME);
            (String::new(), 1)
        }
    };
    // A reader that went away (`--help | head`) is no reason for another message.
    let _ = std::io::stdout().write_all(text.as_bytes());
    std::process::exit(code)
}

/// Values of all sources, the strongest of each option.
fn gather(line: CommandLine, inputs: &Inputs, schema: &Schema) -> Values {
    let mut values = Values::default();
    // An environment prefix on the command line lets the environment name the files too.
    let mut prefix = text(line.get("conf.env-prefix"));
    let mut early = Values::default();
    if !prefix.is_empty() {
        sources::environment(&inputs.env, &prefix, schema, &mut early);
    }
    let setting = |name: &str| line.get(name).or_else(|| early.get(name).map(|(value, _)| value)).cloned();

    let files = setting("conf.file").and_then(|raw| Vec::<String>::parse(&raw)).unwrap_or_default();
    for path in files.iter().map(PathBuf::from) {
        match read_file(&path) {
            Ok(text) => sources::json(&text, &Source::File(path), schema, &mut values),
            Err(problem) => values.problem(problem),
        }
    }
    let string = text(setting("conf.string").as_ref());
    if !string.trim().is_empty() {
        sources::json(&string, &Source::String, schema, &mut values);
    }
    if prefix.is_empty() {
        prefix = text(values.get("conf.env-prefix").map(|(raw, _)| raw));
    }
    if !prefix.is_empty() {
        sources::environment(&inputs.env, &prefix, schema, &mut values);
    }
    for problem in line.problems {
        values.problem(problem);
    }
    for (name, value) in line.values {
        values.set(name, value, Source::CommandLine);
    }
    values
}

fn text(raw: Option<&RawValue>) -> String {
    raw.and_then(RawValue::as_text).unwrap_or_default()
}

fn read_file(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |error| ConfigError::Unreadable { path: path.to_owned(), error };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut text = String::new();
    let read = file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if read as u64 > MAX_FILE_BYTES {
        return Err(ConfigError::TooLong { path: path.to_owned(), limit: MAX_FILE_BYTES });
    }
    Ok(text)
}

/// An option without effect must still have a value of its type: a typing mistake stays one.
fn check_replaced(schema: &Schema, values: &mut Values) {
    for spec in schema.options().iter().filter(|spec| spec.replaced_by.is_some()) {
        let Some((raw, origin)) = values.get(&spec.name) else { continue };
        let expected = match spec.kind {
            "bool" => bool::parse(raw).is_none().then(bool::expected),
            "duration" => std::time::Duration::parse(raw).is_none().then(std::time::Duration::expected),
            "int" | "uint" | "uint32" | "uint64" | "int64" => u64::parse(raw).is_none().then(u64::expected),
            "stringSlice" => Vec::<String>::parse(raw).is_none().then(Vec::<String>::expected),
            _ => String::parse(raw).is_none().then(String::expected),
        };
        if let Some(expected) = expected {
            let problem = ConfigError::BadValue {
                option: spec.name.clone(),
                source_of_value: origin.clone(),
                value: (!spec.secret).then(|| raw.to_string()),
                expected,
            };
            values.problem(problem);
        }
    }
}
