//! Keccak-256, several lanes at once.
