//! The registry of errors.
