//! Erasure coding with Merkle-proved shards.
