//! What does a proxy answer by itself?
//!
//! Status, headers, body, response flags and `response_code_details` as the access log prints them. Measured with Envoy 1.40.

use std::fmt;

use smol_str::SmolStr;

use super::ledger::HeaderChange;
use crate::origin::Origin;

/// A response, on its way back through a proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpResponse {
    /// Status.
    pub status: u16,
    /// Headers in order, names in lower case.
    pub headers: Vec<(SmolStr, SmolStr)>,
    /// Body.
    pub body: SmolStr,
}

/// A response flag, as the access log's `%RESPONSE_FLAGS%` prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResponseFlag {
    /// `UH`: no healthy upstream.
    NoHealthyUpstream,
    /// `UF`: connecting to the upstream failed.
    UpstreamConnectionFailure,
    /// `UO`: circuit breaker.
    UpstreamOverflow,
    /// `NR`: no route or no filter chain.
    NoRouteFound,
    /// `URX`: retries used up.
    UpstreamRetryLimitExceeded,
    /// `UC`: the upstream closed the connection.
    UpstreamConnectionTermination,
    /// `UT`: time limit.
    UpstreamRequestTimeout,
    /// `UPE`: the upstream broke the protocol.
    UpstreamProtocolError,
    /// `NC`: no such cluster.
    NoClusterFound,
    /// `DI`: delayed on purpose.
    DelayInjected,
    /// `FI`: aborted on purpose.
    FaultInjected,
    /// `UAEX`: refused by an external authorizer.
    UnauthorizedExternalService,
    /// `RL`: rate limited.
    RateLimited,
    /// `DPE`: the client broke the protocol.
    DownstreamProtocolError,
    /// `DR`: the stream to the client was reset.
    DownstreamRemoteReset,
    /// `UR`: the upstream reset the stream.
    UpstreamRemoteReset,
}

impl ResponseFlag {
    /// Envoy's short name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoHealthyUpstream => "UH",
            Self::UpstreamConnectionFailure => "UF",
            Self::UpstreamOverflow => "UO",
            Self::NoRouteFound => "NR",
            Self::UpstreamRetryLimitExceeded => "URX",
            Self::UpstreamConnectionTermination => "UC",
            Self::UpstreamRequestTimeout => "UT",
            Self::UpstreamProtocolError => "UPE",
            Self::NoClusterFound => "NC",
            Self::DelayInjected => "DI",
            Self::FaultInjected => "FI",
            Self::UnauthorizedExternalService => "UAEX",
            Self::RateLimited => "RL",
            Self::DownstreamProtocolError => "DPE",
            Self::DownstreamRemoteReset => "DR",
            Self::UpstreamRemoteReset => "UR",
        }
    }
}

impl fmt::Display for ResponseFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An answer that a proxy made by itself, as its client receives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalReply {
    /// Status, headers and body as the client receives them.
    pub response: HttpResponse,
    /// Response flags; empty is the access log's `-`.
    pub flags: Vec<ResponseFlag>,
    /// `response_code_details`.
    pub details: SmolStr,
    /// The cluster that was to be used, also when it does not exist.
    pub cluster: Option<SmolStr>,
    /// How each header of the answer came about.
    pub changes: Vec<HeaderChange>,
    /// What made the proxy answer.
    pub origin: Origin,
}

impl LocalReply {
    /// The `location` of a redirect.
    pub fn location(&self) -> Option<&str> {
        self.response.headers.iter().find(|(name, _)| name == "location").map(|(_, value)| value.as_str())
    }
}
