//! `--help`, `--conf.dump`, and the lines about options without effect.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::Program;
use super::schema::{Field, OptionSpec, Schema, Values};
use super::value::RawValue;

/// Width that help is wrapped to.
const WIDTH: usize = 100;
/// Column at which the text of an option starts.
const INDENT: usize = 8;

/// The text of `--help`.
pub(super) fn help<T: Program>(schema: &Schema) -> String {
    let mut out = String::new();
    paragraph(&mut out, T::ABOUT, 0);
    let _ = write!(
        out,
        "\nUsage: {} [--option value | --option=value | --switch]...\n\n\
         An option may also stand in a JSON file (--conf.file), in --conf.string, or in the environment\n\
         (--conf.env-prefix). In brackets: its type and its default.\n",
        T::NAME
    );
    for (group, specs) in groups(schema) {
        let _ = write!(out, "\n{group}\n");
        for spec in specs {
            let default = if spec.default.is_empty() || spec.default == "false" {
                String::new()
            } else {
                format!(", {}", spec.default)
            };
            let _ = writeln!(out, "  --{}  [{}{default}]", spec.name, spec.kind);
            paragraph(&mut out, spec.doc, INDENT);
        }
    }
    let _ = write!(out, "\nAccepted for compatibility, without effect\n");
    for (names, reason) in replaced(schema) {
        paragraph(&mut out, &format!("{names}: {reason}."), 2);
    }
    let _ = write!(
        out,
        "\nOther\n  --help, -h\n        Print this text.\n  --version, -V\n        Print the version.\n"
    );
    out
}

/// The options that do something, under their headings, both in the order of their declaration.
pub(super) fn groups(schema: &Schema) -> Vec<(&str, Vec<&OptionSpec>)> {
    let mut groups: Vec<(&str, Vec<&OptionSpec>)> = Vec::new();
    for spec in schema.options().iter().filter(|spec| spec.replaced_by.is_none()) {
        match groups.iter_mut().find(|(name, _)| *name == spec.group) {
            Some((_, specs)) => specs.push(spec),
            None => groups.push((spec.group, vec![spec])),
        }
    }
    groups
}

/// The options without effect, as lines of names and reason.
pub(super) fn replaced(schema: &Schema) -> Vec<(String, &'static str)> {
    let all = schema.options().iter().filter(|spec| spec.replaced_by.is_some());
    by_reason(all).into_iter().map(|(names, reason)| (fold(&names), reason)).collect()
}

/// Writes `text` wrapped to [`WIDTH`], each line indented.
fn paragraph(out: &mut String, text: &str, indent: usize) {
    let mut column = 0;
    for word in text.split_whitespace() {
        let width = word.chars().count();
        if column > 0 && column + 1 + width > WIDTH {
            out.push('\n');
            column = 0;
        }
        if column == 0 {
            out.push_str(&" ".repeat(indent));
            column = indent;
        } else {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += width;
    }
    out.push('\n');
}

/// The configuration in force as one JSON object, secrets blanked. It can be read back as a file.
pub(super) fn dump(tree: &impl Field, schema: &Schema, values: &Values) -> String {
    let mut all = Vec::new();
    tree.dump("", &mut all);
    let replaced = schema.options().iter().filter(|spec| spec.replaced_by.is_some());
    all.extend(replaced.map(|spec| (spec.name.clone(), as_configured(spec, values))));
    let mut root = Map::new();
    for (name, value) in all {
        insert(&mut root, &name, value.into_json());
    }
    // Printing it is not part of what is printed.
    insert(&mut root, "conf.dump", Value::Bool(false));
    let mut text = serde_json::to_string_pretty(&Value::Object(root)).expect("a tree of plain values");
    text.push('\n');
    text
}

fn as_configured(spec: &OptionSpec, values: &Values) -> RawValue {
    if spec.secret {
        return RawValue::Text(String::new());
    }
    let text = match values.get(&spec.name) {
        Some((raw, _)) => raw.clone(),
        None => RawValue::Text(spec.default.to_owned()),
    };
    match (spec.kind, text.as_text()) {
        ("bool" | "int" | "uint" | "uint32" | "uint64" | "int64", Some(text)) => {
            serde_json::from_str(&text).map_or(RawValue::Text(text), RawValue::Json)
        }
        _ => text,
    }
}

fn insert(object: &mut Map<String, Value>, name: &str, value: Value) {
    match name.split_once('.') {
        None => {
            object.insert(name.to_owned(), value);
        }
        Some((section, rest)) => {
            let below = object.entry(section).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(below) = below {
                insert(below, rest, value);
            }
        }
    }
}

/// One line for each reason why options that were given have no effect.
pub(super) fn notices(schema: &Schema, values: &Values) -> Vec<String> {
    let given = schema.options().iter().filter(|s| s.replaced_by.is_some() && values.get(&s.name).is_some());
    by_reason(given)
        .into_iter()
        .map(|(names, reason)| format!("{}: accepted, without effect: {reason}", fold(&names)))
        .collect()
}

fn by_reason<'a>(specs: impl Iterator<Item = &'a OptionSpec>) -> Vec<(Vec<&'a str>, &'static str)> {
    let mut reasons: Vec<(Vec<&str>, &'static str)> = Vec::new();
    for spec in specs {
        let Some(reason) = spec.replaced_by else { continue };
        match reasons.iter_mut().find(|(_, known)| *known == reason) {
            Some((names, _)) => names.push(&spec.name),
            None => reasons.push((vec![&spec.name], reason)),
        }
    }
    reasons
}

/// Names joined by commas, those of one section as `--a.b.{c,d}`.
fn fold(names: &[&str]) -> String {
    let section = |name: &&str| name.rsplit_once('.').map(|(section, _)| section.to_owned());
    let groups = names.chunk_by(|a, b| section(a).is_some() && section(a) == section(b));
    let folded = groups.map(|group| match section(&group[0]) {
        Some(section) if group.len() > 1 => {
            let ends: Vec<_> = group.iter().map(|name| &name[section.len() + 1..]).collect();
            format!("--{section}.{{{}}}", ends.join(","))
        }
        _ => format!("--{}", group[0]),
    });
    folded.collect::<Vec<_>>().join(", ")
}
