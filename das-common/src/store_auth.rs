//! Signatures of store requests.
