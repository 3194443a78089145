//! BLS keys and signatures of AnyTrust.
