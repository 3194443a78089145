//! The commands of `dastool`.
