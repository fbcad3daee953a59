//! Ported.
