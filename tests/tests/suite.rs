//! One binary for the suites that look at the library from outside.

mod suite {
    mod samples;
    mod yaml;
}
