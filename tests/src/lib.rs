//! The integration tests are in `it/`.
