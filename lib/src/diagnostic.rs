//! What should a user be told about the input?
//!
//! A diagnostic is data: a stable code, a severity, a sentence, and labels that point into files. Only the command
//! line renders it. Invariant: a diagnostic never stops the work; what could not be read is left out and named here.

use smol_str::SmolStr;

use crate::origin::{Origin, ResourceId};

mod pages;

pub use pages::Page;

/// How much a diagnostic matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The input holds something that was left out of the mesh.
    Error,
    /// The input works, but probably not as meant.
    Warning,
    /// Something worth knowing.
    Note,
}

/// A place in a file, one-based, as an editor counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize)]
pub struct Location {
    /// The file as it was named on input; `-` is standard input.
    pub file: SmolStr,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// A place that a diagnostic points to, with a few words about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Where: known at once for unreadable text, through an origin for fields.
    pub at: Place,
    /// What to say there; may be empty.
    pub text: String,
}

/// A place: a position in a file or a field of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A position.
    Position(Location),
    /// A field, to be located when shown.
    Origin(Origin),
}

/// Something to tell the user about the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The stable code, in kebab-case, such as `unknown-field`.
    pub code: Code,
    /// How much it matters.
    pub severity: Severity,
    /// One sentence, without a full stop at its end.
    pub message: String,
    /// The field path it is about, such as `spec.http[0].rout`; empty when it is about a whole document.
    pub field: SmolStr,
    /// Places; the first is the one that the diagnostic is about.
    pub labels: Vec<Label>,
    /// What to do, such as `did you mean "route"?`.
    pub help: Option<String>,
    /// The resource it is about, where a position is all that its labels know.
    pub about: Option<ResourceId>,
}

impl Diagnostic {
    /// A diagnostic without labels or help, with the severity of its code.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: code.severity(),
            message: message.into(),
            field: SmolStr::default(),
            labels: Vec::new(),
            help: None,
            about: None,
        }
    }

    /// The resource it is about, if it is about one that was read.
    pub fn resource(&self) -> Option<ResourceId> {
        self.about.or_else(|| match &self.labels.first()?.at {
            Place::Origin(origin) => origin.resource(),
            Place::Position(_) => None,
        })
    }

    /// Whether something that is written is missing from the mesh, so that any answer may lack it.
    pub fn is_of_something_left_out(&self) -> bool {
        let by_code = matches!(self.code, Code::UnknownField | Code::NotAResource | Code::UnknownKind);
        self.severity == Severity::Error || (by_code && self.severity == Severity::Warning)
    }

    /// Adds a place.
    #[must_use]
    pub fn at(mut self, place: Place, text: impl Into<String>) -> Self {
        self.labels.push(Label { at: place, text: text.into() });
        self
    }

    /// Names the field.
    #[must_use]
    pub fn field(mut self, path: impl Into<SmolStr>) -> Self {
        self.field = path.into();
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal, $severity:ident;)+) => {
        /// The codes of all diagnostics, in the order of their documentation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $($(#[doc = $doc])+ $name,)+ }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The code as text, in kebab-case.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// What the code means, in a sentence or two.
            pub const fn description(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+),)+ }
            }

            /// The severity that a diagnostic of this code has unless it says otherwise.
            pub const fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity,)+ }
            }
        }
    };
}

codes! {
    /// The file could not be read, or is not UTF-8 text.
    UnreadableFile = "unreadable-file", Error;
    /// The document is not YAML that Kubernetes accepts; its neighbours in the file are still read.
    InvalidYaml = "invalid-yaml", Error;
    /// The document is YAML but no Kubernetes object: it has no `kind` or no `apiVersion`.
    NotAResource = "not-a-resource", Note;
    /// A kind that no answer depends on, or that dryroute does not know; it is counted and passed by. A version that a known kind never had is an error.
    UnknownKind = "unknown-kind", Note;
    /// A field that the kind's schema does not have; the API server would drop it or refuse the resource.
    UnknownField = "unknown-field", Warning;
    /// A field has the wrong type; the resource is left out, as the API server would refuse it.
    WrongType = "wrong-type", Error;
    /// A field's value is none of the values that its schema lists.
    UnknownValue = "unknown-value", Error;
    /// More than one member of a oneof is set, which Istio refuses.
    OneofConflict = "oneof-conflict", Error;
    /// A mapping has the same key twice; the last one counts, as in Kubernetes.
    DuplicateKey = "duplicate-key", Warning;
    /// Two documents declare the same resource; the later one counts, as with `kubectl apply`.
    DuplicateResource = "duplicate-resource", Warning;
    /// A name is missing or is not a name that Kubernetes accepts.
    InvalidName = "invalid-name", Error;
    /// Istio's validation refuses the resource; it takes no part, as in a cluster.
    RejectedByIstio = "rejected-by-istio", Error;
    /// Istio's injector refuses the annotation, so that no pod with it starts; it is traced as if one did.
    RefusedAnnotation = "refused-annotation", Error;
    /// Istio's validation accepts the resource and warns of something in it.
    WarnedByIstio = "warned-by-istio", Warning;
    /// The resource's kind is read, but its effect on this trace is not modelled.
    NotModelled = "not-modelled", Warning;
    /// Istio settles this conflict by order of arrival; the documented tie-break is shown.
    ArrivalOrder = "arrival-order", Warning;
    /// istiod does not open a listener of a Gateway API gateway, because something that it needs is not valid or not there.
    ListenerNotOpened = "listener-not-opened", Warning;
    /// A parent that a Gateway API route names does not take the route, so it does not apply there.
    RouteNotAttached = "route-not-attached", Warning;
    /// istiod takes no rule of a Gateway API route, because of a fault in one of them.
    RouteRefused = "route-refused", Warning;
    /// No `discoverySelectors` of the mesh configuration select the namespace: istiod sees nothing in it.
    UnwatchedNamespace = "unwatched-namespace", Note;
    /// A VirtualService names a gateway that no Gateway has; a bare name means the VirtualService's own namespace.
    MissingGateway = "missing-gateway", Warning;
    /// A VirtualService is bound to a gateway whose servers have none of its hosts, so it never applies there.
    HostNotServed = "host-not-served", Warning;
    /// A VirtualService or HTTPRoute sends to a host that no Service or ServiceEntry has, so proxies answer such requests with an error.
    MissingDestination = "missing-destination", Warning;
    /// A VirtualService or HTTPRoute sends to a port that the Service does not have; it is the Service's port that counts, not the pods'.
    MissingPort = "missing-port", Warning;
    /// A VirtualService sends to a subset that no DestinationRule of the host defines.
    MissingSubset = "missing-subset", Warning;
    /// A gateway does not open a server, because another one has its port or host.
    ServerNotOpened = "server-not-opened", Warning;
    /// Envoy would refuse this listener or route configuration, and the proxy would keep its previous one.
    RefusedByEnvoy = "refused-by-envoy", Warning;
}
