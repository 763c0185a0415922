//! What does a trace say? The JSON contract `dryroute.trace/v1`, described for its readers in `lib/docs/trace-v1.md`.
//!
//! Every output format is drawn from these structures; serialised, they are the contract. Fields may be added; those that
//! are here keep their names and meaning. Invariant: nothing here depends on the order of a hash map, and positions in
//! files are looked up only while a [`Place`] is serialised or asked for one.

use std::fmt;
use std::sync::Arc;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use smol_str::SmolStr;

use crate::diagnostic::{Location, Severity};
use crate::mesh::Mesh;
use crate::origin::Origin;

/// The name and version of the contract.
pub const SCHEMA: &str = "dryroute.trace/v1";

/// Header lines in order, names in lower case; the host is the line `host`.
pub type HeaderLines = Vec<(SmolStr, SmolStr)>;

/// Where a request ends up, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[must_use]
pub struct Trace {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// The releases whose rules are modelled.
    pub model: Model,
    /// The request that was asked about.
    pub request: RequestLine,
    /// Who sends it.
    pub source: Source,
    /// The ways it can end, most probable first; their probabilities sum to 1.
    pub outcomes: Vec<Outcome>,
    /// The nodes of the graph, in the order of the walk: as the first outcome that passes them sees them.
    pub hops: Vec<Hop>,
    /// The edges of the graph, in the order of the walk.
    pub legs: Vec<Leg>,
    /// What could have been meant, the most likely first.
    pub near_misses: Vec<NearMiss>,
    /// What was assumed, and is not settled by the input.
    pub assumptions: Vec<Assumption>,
    /// What there is to say about the input, as far as this trace depends on it.
    pub diagnostics: Vec<Note>,
}

impl Trace {
    /// The hop `id` as `outcome` sees it.
    pub fn hop<'a>(&'a self, outcome: &'a Outcome, id: &str) -> Option<&'a Hop> {
        outcome.hops.iter().chain(&self.hops).find(|hop| hop.id == id)
    }

    /// The assumption of that id.
    pub fn assumption(&self, id: &str) -> Option<&Assumption> {
        self.assumptions.iter().find(|assumption| assumption.id == id)
    }
}

/// The releases whose rules are modelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Model {
    /// Istio's.
    pub istio: &'static str,
    /// Envoy's.
    pub envoy: &'static str,
}

/// The request that was asked about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RequestLine {
    /// The method; empty for bytes over TCP.
    pub method: SmolStr,
    /// The URL as it was given.
    pub url: SmolStr,
    /// The headers that the client was told to send.
    pub headers: HeaderLines,
}

/// Who sends the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Source {
    /// `namespace/name`; `outside` for a client outside of the cluster.
    pub workload: SmolStr,
    /// The container, where one was named or there is only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<SmolStr>,
    /// The user it runs as, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<i64>,
    /// Whether a sidecar takes the connection.
    pub captured: bool,
    /// Whether nobody named the client, so that this one was chosen.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub chosen: bool,
}

/// One way the request can end.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// How likely it is.
    pub probability: f64,
    /// The hops it passes, by id.
    pub path: Vec<SmolStr>,
    /// How it ends, as the client sees it.
    pub verdict: Verdict,
    /// The least certain of its steps.
    pub fidelity: Fidelity,
    /// The assumptions it rests on, by id.
    pub assumptions: Vec<SmolStr>,
    /// The longest time until the client has the response's headers, in milliseconds; `None` when nothing limits it, or it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worst_case_ms: Option<u64>,
    /// Where copies of the request end up, by hop id.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<SmolStr>,
    /// Hops that this outcome sees differently from [`Trace::hops`]; they take the place of those of the same id.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hops: Vec<Hop>,
}

/// How a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VerdictKind {
    /// It reaches an application or a host outside of the mesh, whose answer is not modelled.
    Delivered,
    /// A proxy answers it.
    Answered,
    /// A proxy answers it with a redirect.
    Redirected,
    /// The connection is closed without an answer.
    Reset,
    /// The name cannot be resolved, or nothing can be dialled.
    Unresolved,
    /// It comes back to where it was.
    Loop,
    /// The input does not settle it.
    Unknown,
}

impl VerdictKind {
    /// The kind as JSON has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Answered => "answered",
            Self::Redirected => "redirected",
            Self::Reset => "reset",
            Self::Unresolved => "unresolved",
            Self::Loop => "loop",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for VerdictKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a request ends, as the client sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[must_use]
pub struct Verdict {
    /// The kind.
    pub kind: VerdictKind,
    /// The status that the client sees; `None` when there is none, or when it is the application's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Envoy's response flags at the hop that ended it; empty is the access log's `-`.
    pub flags: Vec<SmolStr>,
    /// Envoy's `response_code_details` at the hop that ended it; empty when there are none.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub details: SmolStr,
    /// The hop that ended it, by id.
    pub by: SmolStr,
    /// Where a redirect leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<SmolStr>,
    /// Why, in a sentence, where the fields above do not say it all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How certain something is; later is less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fidelity {
    /// It follows from the input.
    #[default]
    Exact,
    /// It follows from the input and a named assumption.
    Assumed,
    /// Something takes part that is not modelled.
    Opaque,
}

/// What kind of station a hop is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HopKind {
    /// The program that sends the request.
    Client,
    /// The sidecar on the client's side.
    SidecarOutbound,
    /// The sidecar on the server's side.
    SidecarInbound,
    /// A gateway.
    Gateway,
    /// A waypoint of ambient mode.
    Waypoint,
    /// The node's proxy of ambient mode.
    Ztunnel,
    /// An application in the cluster.
    Workload,
    /// Anything outside of the cluster.
    External,
}

/// A station of the request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hop {
    /// The id: `client`, `sidecar:NS/WORKLOAD`, `inbound:NS/WORKLOAD`, `gateway:NS/WORKLOAD`, `ztunnel:NS/WORKLOAD`,
    /// `workload:NS/WORKLOAD` or `external:HOST`; a later visit on the same path ends in `#2`, `#3` ….
    pub id: SmolStr,
    /// The kind.
    pub kind: HopKind,
    /// The proxy, `namespace/workload`, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<SmolStr>,
    /// What was decided here, in order.
    pub steps: Vec<Step>,
    /// The request: as it arrived and as it left.
    pub request: MessageLedger,
    /// The response on its way back: as it arrived here and as it left towards the client.
    pub response: MessageLedger,
    /// How often the proxy tries to send the request on, and within which time; `None` where it sends none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tries: Option<Tries>,
    /// What this hop's access log says; `None` where nothing writes one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<AccessLog>,
}

impl Hop {
    /// The first step of a kind.
    pub fn step(&self, kind: StepKind) -> Option<&Step> {
        self.steps.iter().find(|step| step.kind == kind)
    }
}

/// How often a proxy tries to send a request on, and within which time. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tries {
    /// How many are made when the request ends like this; `None` where that is up to an answer that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made: Option<u32>,
    /// How many there are at most.
    pub most: u32,
    /// What is tried again, as Envoy lists it; empty when nothing is.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub retry_on: SmolStr,
    /// The wait before each retry is drawn from a range that begins with zero: the ends, not in the range; the last is that of all
    /// further waits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub back_off_ms: Vec<u64>,
    /// How often another endpoint is looked for when one is chosen that was tried already; `None` where that does not matter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_hosts: Option<u32>,
    /// Who made the retry policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<Place>,
    /// The limit for a connection.
    pub connect_timeout_ms: u64,
    /// The limit for a try once it is connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_try_timeout_ms: Option<u64>,
    /// The limit for all tries and waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Where that is written, or the default that gives it.
    pub timeout_origin: Place,
    /// The longest time that the proxy can take; `None` when nothing limits it, or it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worst_case_ms: Option<u64>,
}

/// The response as one proxy logs it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AccessLog {
    /// `%RESPONSE_CODE%`: 0 when there is no response; `None` when it is the application's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// `%RESPONSE_FLAGS%`; empty is `-`.
    pub flags: Vec<SmolStr>,
    /// `%RESPONSE_CODE_DETAILS%`; empty is `-`.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub details: SmolStr,
}

/// What a step decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// The addresses of a name; the first is used.
    Dns,
    /// Whether the sidecar takes the connection.
    Capture,
    /// A listener.
    Listener,
    /// A filter chain.
    FilterChain,
    /// TLS or a token.
    Authentication,
    /// A policy.
    Authorization,
    /// An EnvoyFilter that changed the filter chain.
    Patch,
    /// A route configuration.
    RouteConfig,
    /// A virtual host.
    VirtualHost,
    /// A route.
    Route,
    /// A fault injected on purpose.
    Fault,
    /// A cluster.
    Cluster,
    /// The priority of the endpoints that are used, where there are several.
    Priority,
    /// A request that carries the connection's bytes to another proxy.
    Tunnel,
    /// What endpoints are told before everything else.
    Preface,
    /// An endpoint.
    Endpoint,
}

impl StepKind {
    /// The kind as JSON has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Capture => "capture",
            Self::Listener => "listener",
            Self::FilterChain => "filter_chain",
            Self::Authentication => "authentication",
            Self::Authorization => "authorization",
            Self::Patch => "patch",
            Self::RouteConfig => "route_config",
            Self::VirtualHost => "virtual_host",
            Self::Route => "route",
            Self::Fault => "fault",
            Self::Cluster => "cluster",
            Self::Priority => "priority",
            Self::Tunnel => "tunnel",
            Self::Preface => "preface",
            Self::Endpoint => "endpoint",
        }
    }
}

/// A step of a decision.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// What was decided.
    pub kind: StepKind,
    /// The name of what was chosen, as Istio gives it; what was found where nothing has a name.
    pub name: SmolStr,
    /// Who made it.
    pub origin: Place,
    /// How certain it is.
    pub fidelity: Fidelity,
    /// A few words for a reader: why, or what else there is to know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The assumptions it rests on, by id.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub assumptions: Vec<SmolStr>,
}

/// A message as it arrived at a hop and as it left.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MessageLedger {
    /// As it arrived; for a request the lines `:method` and `:path` come first.
    pub arrived: HeaderLines,
    /// As it left.
    pub left: HeaderLines,
    /// What was changed in between, in order.
    pub changes: Vec<LedgerChange>,
}

/// What was done to a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeOp {
    /// A line was added where none was.
    Add,
    /// The value was replaced.
    Set,
    /// A line or list element was added to those that were there.
    Append,
    /// All lines were removed.
    Remove,
}

/// One change of one header.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LedgerChange {
    /// What was done.
    pub op: ChangeOp,
    /// The header; `:path` and `host` for the parts of the request line.
    pub name: SmolStr,
    /// The value before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<SmolStr>,
    /// The value after; `<generated>` stands in the place of what is made at run time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<SmolStr>,
    /// Which program did it: `envoy` by a rule of its own, `istio` by istiod's configuration.
    pub by: &'static str,
    /// Where that is written, or which default it is.
    pub origin: Place,
}

/// How a leg is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LegTransport {
    /// Not at all.
    Plaintext,
    /// TLS.
    Tls,
    /// Istio's mutual TLS.
    Mtls,
}

/// A way from one hop to the next.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Leg {
    /// Where it starts, by hop id.
    pub from: SmolStr,
    /// Where it leads, by hop id.
    pub to: SmolStr,
    /// The address that is dialled; a name where only the proxy resolves it.
    pub address: SmolStr,
    /// How it is protected.
    pub transport: LegTransport,
    /// The server name of TLS; empty when there is none.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub sni: SmolStr,
    /// The ALPN values that TLS offers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alpn: Vec<SmolStr>,
    /// What the bytes are: `http/1.0`, `http/1.1`, `h2` or `tcp`.
    pub protocol: &'static str,
    /// How likely the request takes it.
    pub probability: f64,
    /// Whether it carries a copy whose answer nobody sees.
    pub mirror: bool,
}

/// Something that could have been meant, and why it was not chosen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NearMiss {
    /// The resource, such as `VirtualService default/x`.
    pub resource: SmolStr,
    /// Its field, such as `spec.gateways[1]`.
    pub field: SmolStr,
    /// The hop at which it was passed by, by id.
    pub hop: SmolStr,
    /// Where it is written.
    pub origin: Place,
    /// The rule that would have taken the request, where that is another resource's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Place>,
    /// The first condition that failed.
    pub failed: Failed,
    /// What to write at `field` for the rule to take the request, as YAML has it. It is there only where it was tried, with
    /// the same value in the other near misses of the resource that found the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repair: Option<SmolStr>,
    /// What else would do, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// A condition that failed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Failed {
    /// What was compared, such as `gateway`, `path`, `header x-user`.
    pub condition: SmolStr,
    /// What would have to be written at the near miss's `field` for this request: what the request has, or what exists.
    pub expected: SmolStr,
    /// What is written there.
    pub got: SmolStr,
}

/// Something that the input does not settle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Assumption {
    /// `A1`, `A2` … in the order of the walk.
    pub id: SmolStr,
    /// A sentence.
    pub text: String,
}

/// Something to say about the input.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Note {
    /// The stable code, such as `not-modelled`.
    pub code: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// One sentence.
    pub message: String,
    /// Where it is written.
    pub origin: Place,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// Whether it is about something that took part; else something that is missing could have.
    pub takes_part: bool,
}

/// Where something is written: a field of a resource, or the default that made it.
///
/// Serialised as `{"resource", "field", "file", "line", "column"}` or `{"default"}`; the position is looked up then.
#[derive(Clone)]
pub struct Place {
    origin: Origin,
    /// The position, where it is not the origin's.
    at: Option<Location>,
    mesh: Arc<Mesh>,
}

impl Place {
    /// The place of an origin in the manifests of a mesh.
    pub fn new(origin: Origin, mesh: Arc<Mesh>) -> Self {
        Self { origin, at: None, mesh }
    }

    /// A position in a file, of a field if it is known which.
    pub(super) fn written(at: Option<Location>, field: Option<Origin>, mesh: Arc<Mesh>) -> Self {
        Self { origin: field.unwrap_or(Origin::default("")), at, mesh }
    }

    /// The origin.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The resource, such as `VirtualService default/x`; `None` for defaults.
    pub fn resource(&self) -> Option<String> {
        self.origin.resource().map(|id| self.mesh.manifests().describe(id))
    }

    /// The field's path; `None` for defaults.
    pub fn field(&self) -> Option<&str> {
        match &self.origin {
            Origin::Field { path, .. } => Some(path),
            Origin::Default(_) => None,
        }
    }

    /// The default's sentence; `None` for fields.
    pub fn default_rule(&self) -> Option<&str> {
        match &self.origin {
            Origin::Field { .. } => None,
            Origin::Default(rule) => Some(rule.as_str()).filter(|rule| !rule.is_empty()),
        }
    }

    /// File, line and column; `None` for defaults. Reads the document again: ask only for what is shown.
    pub fn location(&self) -> Option<Location> {
        self.at.clone().or_else(|| self.mesh.manifests().locate(&self.origin))
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.origin == other.origin && self.at == other.at
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.origin.fmt(f)
    }
}

/// `VirtualService default/x spec.http[0]`, or the default's sentence.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.origin, self.resource()) {
            (Origin::Field { path, .. }, Some(resource)) if path.is_empty() => f.write_str(&resource),
            (Origin::Field { path, .. }, resource) => {
                write!(f, "{} {path}", resource.unwrap_or_default())
            }
            (Origin::Default(rule), _) => f.write_str(rule),
        }
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(rule) = self.default_rule() {
            map.serialize_entry("default", rule)?;
        }
        if let Origin::Field { path, .. } = &self.origin {
            map.serialize_entry("resource", &self.resource().unwrap_or_default())?;
            map.serialize_entry("field", path)?;
        }
        if let Some(location) = self.location() {
            map.serialize_entry("file", &location.file)?;
            map.serialize_entry("line", &location.line)?;
            map.serialize_entry("column", &location.column)?;
        }
        map.end()
    }
}
