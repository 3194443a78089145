//! Loading of recorded vectors.
