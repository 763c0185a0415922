//! Why can a question not be asked?

use smol_str::SmolStr;

use super::query::QueryError;
use crate::mesh::WorkloadNameError;

/// A question that has no answer, not even `unknown`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The query cannot be read.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The client's name stands for no workload.
    #[error(transparent)]
    Source(#[from] WorkloadNameError),
    /// The workload has no such container.
    #[error("`{workload}` has no container `{container}`")]
    UnknownContainer {
        /// The workload.
        workload: SmolStr,
        /// What was asked for.
        container: SmolStr,
        /// The containers it has.
        candidates: Vec<SmolStr>,
    },
    /// A client outside of the cluster is said to have what only a pod has.
    #[error("a client outside of the cluster has no container, user or group that a trace depends on")]
    OutsideHasNoContainer,
    /// No gateway has that name.
    #[error("no gateway is called `{name}`")]
    UnknownGateway {
        /// What was asked for.
        name: SmolStr,
        /// Gateways that could have been meant, as Services `namespace/name`.
        candidates: Vec<SmolStr>,
    },
    /// Nobody is named who sends it, and no workload is there to be chosen.
    #[error("no workload is given that could send the request")]
    NoClient,
    /// No gateway's Service takes a request from outside of the cluster.
    #[error("no gateway is given that takes `{host}:{port}` from outside")]
    NoEntrance {
        /// The URL's host.
        host: SmolStr,
        /// The URL's port.
        port: u16,
        /// The gateways that there are, as Services `namespace/name`.
        candidates: Vec<SmolStr>,
    },
    /// More than one gateway could be meant.
    #[error("more than one gateway could take the request")]
    AmbiguousGateway {
        /// The gateways, as Services `namespace/name`.
        candidates: Vec<SmolStr>,
    },
    /// The gateway's Service has no such port.
    #[error("the Service `{gateway}` has no port {port}")]
    NoGatewayPort {
        /// The Service.
        gateway: SmolStr,
        /// What was asked for.
        port: u16,
        /// The ports it has.
        candidates: Vec<SmolStr>,
    },
}

impl TraceError {
    /// What could have been meant.
    pub fn candidates(&self) -> &[SmolStr] {
        match self {
            Self::Query(_) | Self::NoClient | Self::OutsideHasNoContainer => &[],
            Self::Source(error) => error.candidates(),
            Self::UnknownContainer { candidates, .. }
            | Self::UnknownGateway { candidates, .. }
            | Self::NoEntrance { candidates, .. }
            | Self::AmbiguousGateway { candidates }
            | Self::NoGatewayPort { candidates, .. } => candidates,
        }
    }
}
