//! The crate of the end-to-end tests.
