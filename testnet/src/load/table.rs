//! The load table: every figure that the project promises, measured beside its limit.
//!
//! Servers are started for it with an empty data directory: one member alone for its own rows, then a committee of six
//! with an aggregator for the certificate row.

mod rows;

use std::fmt::{self, Display};
use std::path::PathBuf;

use serde_json::{Value, json};

use super::LoadError;
use super::report::{Report, file_system_of, machine};
use crate::network::NetworkError;

/// How the table is measured.
#[derive(Debug, Clone)]
pub struct Options {
    /// A tenth of the data: for a look, not for a claim.
    pub quick: bool,
    /// Where the servers keep their data (below it, in a directory that is removed afterwards).
    pub dir: PathBuf,
    /// Seed of all batches.
    pub seed: u64,
    /// Only rows whose name contains one of these; empty: all.
    pub only: Vec<String>,
}

/// Why the table could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The servers.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A run.
    #[error("{row}: {source}")]
    Run {
        /// The row's name.
        row: String,
        /// What happened.
        source: LoadError,
    },
    /// The directory for the servers' data.
    #[error("a directory below {}: {source}", dir.display())]
    Dir {
        /// The directory given.
        dir: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A key file of the servers.
    #[error("the store key of the servers: {0}")]
    Key(#[from] das_common::store_auth::StoreKeyError),
}

/// One promised figure.
#[derive(Debug, Clone)]
pub struct Figure {
    /// Which row of the table.
    pub row: String,
    /// What is measured.
    pub what: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// The figure.
    pub got: f64,
    /// The promise.
    pub limit: f64,
    /// What Nitro's server needs, in words.
    pub nitro: &'static str,
}

impl Figure {
    /// Is the promise kept?
    pub fn within(&self) -> bool {
        self.got <= self.limit
    }
}

/// All figures, and the runs they come from.
#[derive(Debug)]
pub struct Table {
    /// The promised figures.
    pub figures: Vec<Figure>,
    /// Every run, with all it measured.
    pub runs: Vec<(String, Report)>,
    /// File system of the servers' data.
    pub file_system: String,
    /// What it was measured on.
    pub machine: String,
    /// Was it the quick form?
    pub quick: bool,
    /// Seed of all batches.
    pub seed: u64,
}

/// Measures all rows; `progress` hears a line for each step.
pub fn measure(options: &Options, mut progress: impl FnMut(&str)) -> Result<Table, TableError> {
    let dir_error = |source| TableError::Dir { dir: options.dir.clone(), source };
    std::fs::create_dir_all(&options.dir).map_err(dir_error)?;
    let dir = tempfile::Builder::new().prefix("das-load-").tempdir_in(&options.dir).map_err(dir_error)?;
    let mut table = Table {
        figures: Vec::new(),
        runs: Vec::new(),
        file_system: file_system_of(dir.path()),
        machine: machine(),
        quick: options.quick,
        seed: options.seed,
    };
    progress(&format!("{}; data on {}; seed {}", table.machine, table.file_system, table.seed));
    rows::member_rows(&mut table, options, &dir.path().join("member"), &mut progress)?;
    rows::memory_rows(&mut table, options, &dir.path().join("memory"), &mut progress)?;
    rows::aggregator_row(&mut table, options, &dir.path().join("committee"), &mut progress)?;
    Ok(table)
}

impl Table {
    /// Are all promises kept and all answers right?
    pub fn all_within(&self) -> bool {
        self.figures.iter().all(Figure::within) && self.runs.iter().all(|(_, run)| run.errors == 0)
    }

    /// Everything as JSON.
    pub fn to_json(&self) -> Value {
        let figure = |f: &Figure| {
            json!({
                "row": f.row, "what": f.what, "unit": f.unit, "got": f.got, "limit": f.limit,
                "within": f.within(), "nitro": f.nitro,
            })
        };
        let runs = self.runs.iter().map(|(row, run)| json!({ "row": row, "report": run.to_json() }));
        json!({
            "machine": self.machine, "file_system": self.file_system, "quick": self.quick, "seed": self.seed,
            "figures": self.figures.iter().map(figure).collect::<Vec<_>>(),
            "runs": runs.collect::<Vec<_>>(),
        })
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.machine)?;
        writeln!(f, "data on {}; seed {}", self.file_system, self.seed)?;
        if self.quick {
            writeln!(f, "QUICK: a tenth of the data, not for a claim")?;
        }
        writeln!(
            f,
            "\n{:<34} {:<22} {:>9} {:>9}  {:<7} Nitro, nothing synced",
            "row", "figure", "measured", "at most", ""
        )?;
        for figure in &self.figures {
            let Figure { row, what, unit, got, limit, nitro } = figure;
            let verdict = if figure.within() { "" } else { "MISSED" };
            let what = format!("{what}, {unit}");
            writeln!(f, "{row:<34} {what:<22} {got:>9.3} {limit:>9.3}  {verdict:<7} {nitro}")?;
        }
        writeln!(f, "\nThe runs behind them:")?;
        for (row, run) in &self.runs {
            write!(f, "\n[{row}] {run}")?;
        }
        Ok(())
    }
}
