//! Who answers questions about one mesh?

use std::sync::Arc;

use crate::mesh::Mesh;

/// Answers questions about a mesh, and remembers what its proxies were told.
///
/// Shared by threads; an answer never depends on earlier questions.
#[derive(Debug)]
pub struct Tracer {
    mesh: Arc<Mesh>,
}

impl Tracer {
    /// A tracer of a mesh.
    pub fn new(mesh: Arc<Mesh>) -> Self {
        Self { mesh }
    }

    /// The mesh.
    pub fn mesh(&self) -> &Arc<Mesh> {
        &self.mesh
    }
}
