//! What do the kinds look like?
