//! `das-signer`: holds a member's BLS key on a machine of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    das_signer::run()
}
