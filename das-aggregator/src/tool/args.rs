//! A command's arguments: options as everywhere in this project, and words.

use std::ffi::OsString;
use std::ops::RangeInclusive;

use das_common::config::{self, Inputs, Loaded, Program, Schema};

use super::output::Answer;

/// Declares a command's options as those of a program.
macro_rules! command {
    ($options:ty, $name:literal, $about:literal, $replaced:expr) => {
        impl das_common::config::Program for $options {
            const NAME: &'static str = concat!("dastool ", $name);
            const ABOUT: &'static str = $about;
            const VERSION: &'static str = env!("CARGO_PKG_VERSION");
            const REPLACED: &'static [das_common::config::Replaced] = $replaced;

            fn check(&self) -> Vec<das_common::config::Problem> {
                Vec::new()
            }
        }
    };
    ($options:ty, $name:literal, $about:literal) => {
        $crate::tool::args::command!($options, $name, $about, &[]);
    };
}
pub(crate) use command;

/// Reads the arguments of a command and runs it with its options and words; or answers `--help` and the like.
pub(crate) fn with<T: Program>(
    args: &[String],
    words: RangeInclusive<usize>,
    run: impl FnOnce(T, Vec<String>) -> anyhow::Result<Answer>,
) -> anyhow::Result<Answer> {
    let (options, found) = split(args, &Schema::of::<T>(T::REPLACED));
    let inputs = Inputs { args: options, env: std::env::vars_os().collect() };
    let loaded = match config::load::<T>(&inputs)? {
        config::Outcome::Print(text) => return Ok(Answer::text(text)),
        config::Outcome::Run(loaded) => loaded,
    };
    if !words.contains(&found.len()) {
        let (least, most) = (words.start(), words.end());
        let wanted = if least == most { format!("{least}") } else { format!("{least} to {most}") };
        anyhow::bail!(
            "{} words beside the options ({found:?}), expected {wanted}; see {} --help",
            found.len(),
            T::NAME
        );
    }
    let Loaded { options, notices, .. } = loaded;
    let mut answer = run(options, found)?;
    for notice in notices {
        answer.aside += &format!("dastool: {notice}\n");
    }
    Ok(answer)
}

/// Tells options (with their values) from words. Options may be written with one dash, as Go's tools take them.
fn split(args: &[String], schema: &Schema) -> (Vec<OsString>, Vec<String>) {
    let (mut options, mut words) = (Vec::new(), Vec::new());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let bare = arg.trim_start_matches('-');
        let (name, value) = bare.split_once('=').map_or((bare, None), |(name, value)| (name, Some(value)));
        let spec = schema.get(name);
        let dashes = arg.len() - bare.len();
        if arg == "--" {
            words.extend(args.by_ref().cloned());
        } else if dashes == 0 || bare.is_empty() {
            words.push(arg.clone());
        } else if dashes == 1 && spec.is_none() && !name.starts_with("conf.") {
            // -h, or a mistake that the reader of options names.
            options.push(arg.into());
        } else {
            options.push(format!("--{bare}").into());
            let kind = spec.map_or(
                if name.starts_with("conf.") && name != "conf.dump" { "value" } else { "bool" },
                |s| s.kind,
            );
            if value.is_none() && kind != "bool" {
                options.extend(args.next().map(OsString::from));
            }
        }
    }
    (options, words)
}
