//! Test harness shared by the suites under `tests/`.
