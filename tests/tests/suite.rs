//! One binary for the suites that look at the library from outside.

// Helpers of tests may fail loudly, as the tests themselves may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod suite {
    mod addresses;
    mod ambient;
    mod answers;
    mod authorization;
    mod capture;
    mod conflicts;
    mod conformance;
    mod coverage;
    mod curl;
    mod discovery;
    mod egress_gateway;
    mod extensions;
    mod gateway;
    mod gateway_api;
    mod generated;
    mod ingress;
    mod live;
    mod loader;
    mod locality;
    mod loops;
    mod mesh_config;
    mod mutations;
    mod names;
    mod patches;
    mod path_normalization;
    mod peer_authentication;
    mod properties;
    mod re2;
    mod remarks;
    mod samples;
    mod streams;
    mod told;
    mod trace_contract;
    mod tries;
    mod tunnels;
    mod untranslated;
    mod validation;
    mod visibility;
    mod watched;
    mod yaml;
}
