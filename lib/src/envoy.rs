//! (module envoy)
