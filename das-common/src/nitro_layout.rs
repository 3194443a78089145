//! Paths of Nitro's data directory.
