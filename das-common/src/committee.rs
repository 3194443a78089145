//! The committee file and its arithmetic.
