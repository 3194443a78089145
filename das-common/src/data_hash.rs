//! The data hash (tree hash) of a batch.
