//! Options of `das-node`.
