//! A batch whose hash was checked.
