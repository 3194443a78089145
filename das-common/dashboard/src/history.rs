//! Numbers of the last hour, day and week, in little memory, across restarts.
//!
//! Each series has three rings ([`Range`]) of means over ever longer steps. A step in which nothing was recorded is a gap,
//! and stays one: what was not measured is not made up.
//!
//! The file is for this program alone: a magic, the CRC-32 of the rest, and the rest by bincode. It is replaced as a whole. A
//! file that cannot be read costs the graphs their past, and nothing else.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use bincode::{Decode, Encode};
use thiserror::Error;

const MAGIC: &[u8; 8] = b"dashist1";
/// Series that are remembered; more are not begun.
pub const MAX_SERIES: usize = 512;
/// Longest name of a series.
const MAX_NAME: usize = 128;
/// The largest file that is read: all series, full.
const MAX_FILE: u64 = (MAX_SERIES * (MAX_NAME + 64 + 4 * (720 + 720 + 672))) as u64;

/// How far back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Range {
    /// An hour, in steps of 5 seconds.
    #[default]
    Hour,
    /// A day, in steps of 2 minutes.
    Day,
    /// A week, in steps of 15 minutes.
    Week,
}

impl Range {
    /// All, the shortest first.
    pub const ALL: [Self; 3] = [Self::Hour, Self::Day, Self::Week];

    /// Seconds of one step.
    pub const fn step(self) -> u64 {
        match self {
            Self::Hour => 5,
            Self::Day => 120,
            Self::Week => 900,
        }
    }

    /// Steps.
    pub const fn steps(self) -> usize {
        match self {
            Self::Hour | Self::Day => 720,
            Self::Week => 672,
        }
    }

    /// Its name in URLs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
        }
    }

    /// The range of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|range| range.name() == name)
    }
}

/// Means over the steps of one range. The last one grows until its step is over.
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode)]
struct Ring {
    /// Number of the step of the last mean: unix time divided by its length.
    last: u64,
    /// The oldest first. Not a number: nothing was recorded.
    means: VecDeque<f32>,
    /// How many numbers the last mean is of.
    of: u32,
}

impl Ring {
    fn record(&mut self, range: Range, now: u64, value: f32) {
        let step = now / range.step();
        // A clock that was set back must not make holes in what is known: it goes into the last step.
        let ahead = if self.means.is_empty() { 1 } else { step.saturating_sub(self.last) };
        if ahead > 0 {
            let gaps = usize::try_from(ahead - 1).unwrap_or(usize::MAX).min(range.steps());
            self.means.extend(std::iter::repeat_n(f32::NAN, gaps));
            self.means.push_back(value);
            let over = self.means.len().saturating_sub(range.steps());
            self.means.drain(..over);
            (self.last, self.of) = (step, 1);
        } else if let Some(mean) = self.means.back_mut() {
            self.of = self.of.saturating_add(1);
            *mean += (value - *mean) / self.of as f32;
        }
    }

    /// As many as the range has steps, the last of them now.
    fn values(&self, range: Range, now: u64) -> Vec<f32> {
        let mut values = vec![f32::NAN; range.steps()];
        let silent = usize::try_from((now / range.step()).saturating_sub(self.last)).unwrap_or(usize::MAX);
        let Some(end) = range.steps().checked_sub(silent) else { return values };
        let shown = self.means.len().min(end);
        for (place, mean) in
            values[end - shown..end].iter_mut().zip(self.means.iter().skip(self.means.len() - shown))
        {
            *place = *mean;
        }
        values
    }

    fn is_sound(&self, range: Range) -> bool {
        self.means.len() <= range.steps()
    }
}

#[derive(Debug, Clone, Default, PartialEq, Encode, Decode)]
struct Series([Ring; 3]);

/// Why a history could not be read.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// The system.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's report.
        source: io::Error,
    },
    /// It is not what was written.
    #[error("{path}: not a history of this version, or damaged", path = path.display())]
    Form {
        /// The file.
        path: PathBuf,
    },
}

/// Series of numbers by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    series: BTreeMap<String, Series>,
}

impl History {
    /// Reads the file; an empty history when there is none.
    ///
    /// # Errors
    /// [`HistoryError`] when there is one that cannot be read.
    pub fn load(path: &Path) -> Result<Self, HistoryError> {
        let failed = |source| HistoryError::Io { path: path.to_owned(), source };
        let form = || HistoryError::Form { path: path.to_owned() };
        let length = match fs::metadata(path) {
            Ok(found) => found.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(failed(error)),
        };
        if length > MAX_FILE {
            return Err(form());
        }
        let bytes = fs::read(path).map_err(failed)?;
        Self::decode(&bytes).ok_or_else(form)
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// [`HistoryError`] when the disk does not take it.
    pub fn save(&self, path: &Path) -> Result<(), HistoryError> {
        let failed = |source| HistoryError::Io { path: path.to_owned(), source };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        file.write_all(&self.encode()).map_err(failed)?;
        file.as_file().sync_data().map_err(failed)?;
        file.persist(path).map_err(|error| failed(error.error))?;
        Ok(())
    }

    fn encode(&self) -> Vec<u8> {
        let body = bincode::encode_to_vec(&self.series, bincode::config::standard())
            .expect("numbers and texts can be encoded");
        [MAGIC.as_slice(), &crc32fast::hash(&body).to_le_bytes(), &body].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (crc, body) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<4>()?;
        if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
            return None;
        }
        let config = bincode::config::standard().with_limit::<{ MAX_FILE as usize }>();
        let (series, used): (BTreeMap<String, Series>, usize) =
            bincode::decode_from_slice(body, config).ok()?;
        let is_sound = |(name, series): (&String, &Series)| {
            name.len() <= MAX_NAME
                && Range::ALL.into_iter().zip(&series.0).all(|(range, ring)| ring.is_sound(range))
        };
        (used == body.len() && series.len() <= MAX_SERIES && series.iter().all(is_sound))
            .then_some(Self { series })
    }

    /// A number at unix time `now`. What is not a number is not recorded, and neither is a series too many.
    pub fn record(&mut self, now: u64, name: &str, value: f64) {
        if !value.is_finite() || name.len() > MAX_NAME {
            return;
        }
        if !self.series.contains_key(name) {
            if self.series.len() >= MAX_SERIES {
                return;
            }
            self.series.insert(name.to_owned(), Series::default());
        }
        let Some(series) = self.series.get_mut(name) else { return };
        for (range, ring) in Range::ALL.into_iter().zip(&mut series.0) {
            ring.record(range, now, value as f32);
        }
    }

    /// Forgets series that have had no number for a week: members that left.
    pub fn forget_old(&mut self, now: u64) {
        let week = Range::Week.step() * Range::Week.steps() as u64;
        self.series.retain(|_, series| {
            let [hour, ..] = &series.0;
            now.saturating_sub(hour.last.saturating_mul(Range::Hour.step())) <= week
        });
    }

    /// The means of one series over a range that ends at unix time `now`; gaps are not a number.
    pub fn values(&self, name: &str, range: Range, now: u64) -> Vec<f32> {
        match self.series.get(name) {
            Some(Series([hour, day, week])) => match range {
                Range::Hour => hour.values(range, now),
                Range::Day => day.values(range, now),
                Range::Week => week.values(range, now),
            },
            None => vec![f32::NAN; range.steps()],
        }
    }

    /// Names of series that begin with `prefix`, without it.
    pub fn names<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        let from =
            self.series.range::<str, _>((std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded));
        from.map_while(move |(name, _)| name.strip_prefix(prefix))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The means by the book: every number kept, then put into its step.
    fn naive(recorded: &[(u64, f64)], range: Range, now: u64) -> Vec<f32> {
        (0..range.steps() as u64)
            .map(|place| {
                let step = (now / range.step() + place + 1).checked_sub(range.steps() as u64);
                let of: Vec<f64> = recorded
                    .iter()
                    .filter(|(at, _)| Some(at / range.step()) == step)
                    .map(|(_, value)| *value)
                    .collect();
                if of.is_empty() { f32::NAN } else { (of.iter().sum::<f64>() / of.len() as f64) as f32 }
            })
            .collect()
    }

    proptest! {
        #[test]
        fn rings_are_means_over_steps(
            start in 1_000_000_u64..2_000_000_000,
            pauses in proptest::collection::vec((prop_oneof![0_u64..20, 0_u64..4_000, 0_u64..400_000], 0.0_f64..1e6), 1..60),
            later in 0_u64..5_000,
        ) {
            let (mut history, mut recorded, mut now) = (History::default(), Vec::new(), start);
            for (pause, value) in pauses {
                now += pause;
                history.record(now, "s", value);
                recorded.push((now, value));
            }
            let again = History::decode(&history.encode()).expect("what was written can be read");
            prop_assert_eq!(again.encode(), history.encode());
            now += later;
            for range in Range::ALL {
                let (got, expected) = (again.values("s", range, now), naive(&recorded, range, now));
                prop_assert_eq!(got.len(), expected.len());
                for (place, (got, expected)) in got.iter().zip(&expected).enumerate() {
                    let same = got.is_nan() && expected.is_nan() || (got - expected).abs() <= expected.abs() * 1e-4 + 1e-3;
                    prop_assert!(same, "{range:?} {place}: {got} {expected}");
                }
            }
        }

        #[test]
        fn a_file_of_any_bytes_is_refused_or_sound(mut bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(History::decode(&bytes).is_none_or(|history| history.series.len() <= MAX_SERIES));
            let body = bytes.split_off(bytes.len().min(4));
            let framed = [MAGIC.as_slice(), &crc32fast::hash(&body).to_le_bytes(), &body].concat();
            if let Some(history) = History::decode(&framed) {
                for range in Range::ALL {
                    for name in history.names("") {
                        prop_assert_eq!(history.values(name, range, u64::MAX).len(), range.steps());
                    }
                }
            }
        }
    }

    #[test]
    fn a_clock_set_back_loses_nothing() {
        let mut history = History::default();
        history.record(10_000, "s", 1.0);
        history.record(9_000, "s", 3.0);
        history.record(10_005, "s", 5.0);
        let values = history.values("s", Range::Hour, 10_005);
        assert_eq!(values[718..], [2.0, 5.0]);
    }

    #[test]
    fn there_is_an_end_to_series_and_old_ones_go() {
        let mut history = History::default();
        for n in 0..MAX_SERIES + 5 {
            history.record(1_000, &format!("member/{n:04}"), 1.0);
        }
        assert_eq!(history.names("member/").count(), MAX_SERIES);
        history.record(1_000 + 600_000, "member/0007", 1.0);
        history.forget_old(1_000 + 700_000);
        assert_eq!(history.names("member/").collect::<Vec<_>>(), ["0007"]);
    }

    #[test]
    fn a_file_that_is_damaged_says_so_and_none_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history");
        assert_eq!(History::load(&path).unwrap(), History::default());
        let mut history = History::default();
        history.record(5, "s", 1.0);
        history.save(&path).unwrap();
        assert_eq!(History::load(&path).unwrap().encode(), history.encode());
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert!(History::load(&path).unwrap_err().to_string().contains("damaged"));
    }
}
