//! `dastool`: keys, keysets, certificates, stores, reads and a doctor, on the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    das_aggregator::tool::main(std::env::args().skip(1).collect())
}
