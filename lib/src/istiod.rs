//! (module istiod)
