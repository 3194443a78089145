//! Replay of recorded HTTP exchanges.
