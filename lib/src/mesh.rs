//! (module mesh)
