//! The list of options that a tree of structs declares, and the values that the sources gave.

use std::collections::{BTreeMap, BTreeSet};

use super::error::{ConfigError, Source};
use super::value::{OptionValue, RawValue};

/// One option, as `--help` and the check for unknown keys know it.
#[derive(Debug, Clone)]
pub struct OptionSpec {
    /// Dotted name.
    pub name: String,
    /// Type, in words.
    pub kind: &'static str,
    /// Default in text form; empty: none.
    pub default: &'static str,
    /// What it does.
    pub doc: &'static str,
    /// Heading of `--help` that it stands under.
    pub group: &'static str,
    /// Blanked in every output?
    pub secret: bool,
    /// May it be given several times on the command line?
    pub repeats: bool,
    /// For an option that is accepted and does nothing: what replaces it.
    pub replaced_by: Option<&'static str>,
}

/// Options of one section that are accepted and do nothing, and why.
#[derive(Debug, Clone, Copy)]
pub struct Replaced {
    /// Section, as `data-availability.redis-cache`; empty for the top.
    pub section: &'static str,
    /// Name below the section, type and default of each.
    pub options: &'static [(&'static str, &'static str, &'static str)],
    /// What replaces them, as a sentence without a full stop.
    pub by: &'static str,
}

/// Last part of names that hold secrets, among options that are accepted and do nothing.
const SECRET_NAMES: [&str; 6] =
    ["access-key", "secret-key", "access-token", "password", "private-key", "redis-cache.url"];

/// Where in the tree a field stands, and what its declaration says.
#[derive(Debug, Clone, Copy)]
pub struct At<'a> {
    /// Dotted name; empty for the root.
    pub name: &'a str,
    /// Documentation.
    pub doc: &'static str,
    /// Default in text form.
    pub default: &'static str,
    /// Heading of `--help`.
    pub group: &'static str,
}

impl At<'_> {
    /// The root of a tree.
    pub const fn root() -> At<'static> {
        At { name: "", doc: "", default: "", group: "Other" }
    }
}

/// A field of a struct of options: a value, or a section.
pub trait Field: Sized {
    /// Adds what is declared here to the schema.
    fn declare(at: &At<'_>, schema: &mut Schema);
    /// Takes the value from what the sources gave, else the default.
    fn read(at: &At<'_>, values: &mut Values) -> Self;
    /// Writes the values in force, secrets blanked.
    fn dump(&self, name: &str, into: &mut Vec<(String, RawValue)>);
}

/// The name of `field` in the section `parent`.
pub fn dashed(parent: &str, field: &str) -> String {
    let field = field.replace('_', "-");
    if parent.is_empty() { field } else { format!("{parent}.{field}") }
}

/// Every option of a program.
#[derive(Debug, Clone, Default)]
pub struct Schema {
    options: Vec<OptionSpec>,
    index: BTreeMap<String, usize>,
    sections: BTreeSet<String>,
}

impl Schema {
    /// The schema of a tree and of the options it replaces.
    pub fn of<T: Field>(replaced: &[Replaced]) -> Self {
        let mut schema = Self::default();
        T::declare(&At::root(), &mut schema);
        for section in replaced {
            schema.section(section.section);
            for (name, kind, default) in section.options {
                let name = dashed(section.section, name);
                let secret = SECRET_NAMES.iter().any(|end| name.ends_with(end));
                schema.option(OptionSpec {
                    name,
                    kind,
                    default,
                    doc: "",
                    group: "Accepted, without effect",
                    secret,
                    repeats: false,
                    replaced_by: Some(section.by),
                });
            }
        }
        schema
    }

    /// Adds a section.
    pub fn section(&mut self, name: &str) {
        for (dot, _) in name.match_indices('.') {
            self.sections.insert(name[..dot].to_owned());
        }
        self.sections.insert(name.to_owned());
    }

    /// Adds an option.
    ///
    /// # Panics
    /// When there is one of that name: two declarations of one option are a mistake in the program.
    pub fn option(&mut self, option: OptionSpec) {
        if let Some((section, _)) = option.name.rsplit_once('.') {
            self.section(section);
        }
        let previous = self.index.insert(option.name.clone(), self.options.len());
        assert!(previous.is_none(), "option {} is declared twice", option.name);
        self.options.push(option);
    }

    /// Adds the option at `at`, of type `T`.
    pub fn declare_value<T: OptionValue>(&mut self, at: &At<'_>) {
        self.option(OptionSpec {
            name: at.name.to_owned(),
            kind: T::KIND,
            default: at.default,
            doc: at.doc,
            group: at.group,
            secret: T::SECRET,
            repeats: T::REPEATS,
            replaced_by: None,
        });
    }

    /// The option of that name.
    pub fn get(&self, name: &str) -> Option<&OptionSpec> {
        self.index.get(name).map(|&i| &self.options[i])
    }

    /// Is there such a section?
    pub fn is_section(&self, name: &str) -> bool {
        self.sections.contains(name)
    }

    /// All options, in the order of their declaration.
    pub fn options(&self) -> &[OptionSpec] {
        &self.options
    }

    /// The option whose name is nearest to `name`, for "did you mean".
    pub fn nearest(&self, name: &str) -> Option<&str> {
        let used = self.options.iter().filter(|o| o.replaced_by.is_none());
        nearest(name, used.map(|o| o.name.as_str()))
    }
}

/// Longest name that is compared letter by letter; beyond it a suggestion helps nobody.
const LONGEST_COMPARED: usize = 200;

/// The candidate nearest to `name`: one that ends in it (`data-dir` for `storage.data-dir`), or begins with it, before
/// the one with the fewest changed letters.
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.trim_start_matches('-').to_ascii_lowercase().replace('_', "-");
    if name.is_empty() || name.len() > LONGEST_COMPARED {
        return None;
    }
    let last = |s: &str| s.rsplit('.').next().unwrap_or_default().to_owned();
    candidates.min_by_key(|candidate| {
        let whole = distance(&name, candidate) * 2;
        // A right last word under a wrong or missing section counts as a small mistake.
        let by_end = if candidate.ends_with(&format!(".{name}")) {
            1
        } else {
            let (ours, theirs) = (last(&name), last(candidate));
            distance(&ours, &theirs) * 4 + 4 + name.len().abs_diff(candidate.len()) / 8
        };
        whole.min(by_end)
    })
}

/// Edits (insert, delete, replace a byte) between two texts.
fn distance(a: &str, b: &str) -> usize {
    let b = b.as_bytes();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// What the sources gave, the strongest value of each option with where it came from.
#[derive(Default)]
pub struct Values {
    given: BTreeMap<String, (RawValue, Source)>,
    problems: Vec<ConfigError>,
}

impl Values {
    /// A value from a source at least as strong as all before it.
    pub(crate) fn set(&mut self, name: String, value: RawValue, source: Source) {
        self.given.insert(name, (value, source));
    }

    /// What was given for an option.
    pub(crate) fn get(&self, name: &str) -> Option<&(RawValue, Source)> {
        self.given.get(name)
    }

    pub(crate) fn problem(&mut self, problem: ConfigError) {
        self.problems.push(problem);
    }

    pub(crate) fn has_problems(&self) -> bool {
        !self.problems.is_empty()
    }

    pub(crate) fn into_problems(self) -> Vec<ConfigError> {
        self.problems
    }

    /// The value of the option at `at`. A value of the wrong type is noted as a problem and the default taken, so
    /// that all problems of a start are reported at once.
    pub fn take<T: OptionValue>(&mut self, at: &At<'_>) -> T {
        if let Some((raw, source)) = self.given.get(at.name) {
            match T::parse(raw) {
                Some(value) => return value,
                None => self.problems.push(ConfigError::BadValue {
                    option: at.name.to_owned(),
                    source_of_value: source.clone(),
                    value: if T::SECRET { None } else { Some(raw.to_string()) },
                    expected: T::expected(),
                }),
            }
        }
        T::parse(&RawValue::Text(at.default.to_owned()))
            .unwrap_or_else(|| panic!("the declared default of {} is not {}", at.name, T::expected()))
    }
}
