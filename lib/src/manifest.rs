//! What is written?

pub mod schema;
