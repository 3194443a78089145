//! Writes the valid inputs of every parser into its corpus, for the fuzzer to begin from.

use std::path::Path;

fn main() -> std::io::Result<()> {
    for parser in das_common_fuzz::PARSERS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(parser.name);
        std::fs::create_dir_all(&folder)?;
        for (i, seed) in (parser.seeds)().iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{i}")), seed)?;
        }
    }
    Ok(())
}
