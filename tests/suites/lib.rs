//! The package of the suites: everything in it is a test binary; see `tests/README.md`.
