//! One binary for the suites that look at the library from outside.

mod suite {
    mod conformance;
    mod names;
    mod samples;
    mod yaml;
}
