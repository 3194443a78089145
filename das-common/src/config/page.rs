//! The reference page of a program's options.

use std::fmt::Write;
use std::path::Path;

use super::Program;
use super::load::schema;
use super::print::{groups, replaced};

/// The options of a program as a page of documentation.
pub fn page<T: Program>() -> String {
    let schema = schema::<T>();
    let mut page = format!(
        "# Options of {name}\n\n{about}\n\n\
         Generated from the declarations in the program; `{name} --help` prints the same. After a change there, run \
         `DAS_WRITE_DOCS=1 cargo test --release -p {name} options`.\n\n\
         Sources, weakest first: default, `--conf.file` (JSON, comments allowed), `--conf.string`, environment with \
         `--conf.env-prefix` (`NITRO_REST__PORT` is `rest-port`), command line.\n",
        name = T::NAME,
        about = T::ABOUT,
    );
    for (group, specs) in groups(&schema) {
        let _ = write!(page, "\n## {group}\n\n| option | type | default | |\n|---|---|---|---|\n");
        for spec in specs {
            let default = if spec.default.is_empty() { String::new() } else { format!("`{}`", spec.default) };
            let doc = spec.doc.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
            let _ = writeln!(page, "| `{}` | {} | {default} | {doc} |", spec.name, spec.kind);
        }
    }
    let _ = write!(
        page,
        "\n## Accepted for compatibility, without effect\n\n| options | what replaces them |\n|---|---|\n"
    );
    for (names, reason) in replaced(&schema) {
        let _ = writeln!(page, "| `{names}` | {reason} |");
    }
    page
}

/// For tests: is the page at `path` that of the program? With `DAS_WRITE_DOCS` in the environment it is written.
///
/// # Panics
/// When it is not, or cannot be read or written.
pub fn check_page<T: Program>(path: &Path) {
    let expected = page::<T>();
    if std::env::var_os("DAS_WRITE_DOCS").is_some() {
        std::fs::write(path, &expected).expect("the page can be written");
    }
    let found = std::fs::read_to_string(path).expect("the page can be read");
    assert!(
        found == expected,
        "{} is not what the program declares; run: DAS_WRITE_DOCS=1 cargo test --release -p {} options",
        path.display(),
        T::NAME
    );
}
