//! Keysets.
