//! The registry of errors: everything that can go wrong and that an operator or a caller may see has a stable code, a
//! text, a cause and a cure here, and nowhere else.
//!
//! Modules keep their own error types; a server maps them to a [`Fault`] with [`Coded`], by one exhaustive match. The
//! page `docs/errors.md` is [`markdown`], checked by a test.
//!
//! A code is `DAS-<area>-<number>`. It is never given to another fault, and never changed.

use std::fmt;
use std::fmt::Write;

use crate::telemetry::names;

/// One kind of error or alarm.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    /// Stable code.
    pub code: &'static str,
    /// What is the case, in a few words.
    pub text: &'static str,
    /// Why it happens.
    pub cause: &'static str,
    /// What to do.
    pub cure: &'static str,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.code, self.text, self.cure)
    }
}

/// An error that is one of the registered faults.
pub trait Coded: fmt::Display {
    /// Which.
    fn fault(&self) -> &'static Fault;
}

/// Counts an error that is answered, by its code.
pub fn count(fault: &'static Fault) {
    metrics::counter!(names::ERRORS, "code" => fault.code).increment(1);
}

macro_rules! faults {
    ($(
        [$area:literal]
        $(
            $name:ident = $code:literal: $text:literal;
            cause: $cause:literal;
            cure: $cure:literal;
        )+
    )+) => {
        $($(
            #[doc = concat!("`", $code, "`: ", $text, ".")]
            pub const $name: &Fault = &Fault { code: $code, text: $text, cause: $cause, cure: $cure };
        )+)+

        /// Every fault, by area.
        pub const AREAS: &[(&str, &[&Fault])] = &[$(($area, &[$($name),+])),+];
    };
}

mod registry;

pub use registry::*;

/// Every fault.
pub fn all() -> impl Iterator<Item = &'static Fault> {
    AREAS.iter().flat_map(|(_, faults)| faults.iter().copied())
}

/// The fault of that code.
pub fn find(code: &str) -> Option<&'static Fault> {
    all().find(|fault| fault.code == code)
}

/// The registry as a page of documentation.
pub fn markdown() -> String {
    let mut page = String::from(
        "# Errors and alarms\n\n\
         Every error that an operator or a caller may see, and every alarm of `/status`, has one of these codes. This \
         page is generated from the registry in `das-common/src/fault/registry.rs`: after a change there, run \
         `DAS_WRITE_DOCS=1 cargo test --release -p das-common fault`.\n",
    );
    for (area, faults) in AREAS {
        let _ = write!(page, "\n## {area}\n\n| code | what | why | what to do |\n|---|---|---|---|\n");
        for fault in *faults {
            let _ = writeln!(page, "| {} | {} | {} | {} |", fault.code, fault.text, fault.cause, fault.cure);
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_unique_well_formed_and_explained() {
        let mut seen = BTreeSet::new();
        for fault in all() {
            assert!(seen.insert(fault.code), "{} is used twice", fault.code);
            let parts: Vec<_> = fault.code.split('-').collect();
            assert!(
                parts.len() == 3
                    && parts[0] == "DAS"
                    && parts[1].bytes().all(|b| b.is_ascii_uppercase())
                    && parts[2].len() == 3
                    && parts[2].bytes().all(|b| b.is_ascii_digit()),
                "{} is no code",
                fault.code
            );
            for (what, text) in [("text", fault.text), ("cause", fault.cause), ("cure", fault.cure)] {
                assert!(text.len() > 10, "{}: the {what} explains nothing", fault.code);
                assert!(
                    !text.contains('|') && !text.contains('\n'),
                    "{}: {what} breaks the table",
                    fault.code
                );
                assert!(!text.ends_with('.'), "{}: {what} ends in a full stop", fault.code);
            }
            assert_eq!(find(fault.code), Some(fault));
        }
        assert!(find("DAS-NONE-000").is_none());
    }

    #[test]
    fn the_page_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/errors.md");
        if std::env::var_os("DAS_WRITE_DOCS").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        let page = std::fs::read_to_string(path).unwrap();
        assert!(
            page == markdown(),
            "{path} is not what the registry says; run: DAS_WRITE_DOCS=1 cargo test --release -p das-common fault"
        );
    }
}
