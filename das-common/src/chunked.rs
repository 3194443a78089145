//! Chunked stores.
