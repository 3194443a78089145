//! Options of `das-aggregator`.
