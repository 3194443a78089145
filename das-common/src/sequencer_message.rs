//! Sequencer messages and recovery of payloads.
