//! What happened to each header, and who did it?
//!
//! Invariant: the ledger is a by-product of the walk. Whether it is kept or not, the request that leaves is the same.

use std::fmt;

use smol_str::SmolStr;

use crate::origin::Origin;

/// The text that stands for a value made at run time.
pub const GENERATED: &str = "<generated>";

/// A kind of value that is made at run time and can be typed, but not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Generated {
    /// A UUID (`x-request-id`).
    RequestId,
    /// Milliseconds (`x-envoy-upstream-service-time`).
    ServiceTime,
    /// What is left of a time limit (`x-envoy-expected-rq-timeout-ms`).
    TimeLeft,
    /// The time of day (`date`).
    Date,
    /// Trace context.
    TraceContext,
    /// A part of the client's certificate.
    Certificate,
    /// Istio's description of the peer.
    PeerMetadata,
    /// The value of a routing cookie.
    Cookie,
    /// A formatter that only a running proxy can fill in.
    Formatter,
}

/// A header's value in the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HeaderValue {
    /// Known.
    Literal(SmolStr),
    /// Made at run time; the text holds [`GENERATED`] where it is.
    Generated(Generated, SmolStr),
}

impl HeaderValue {
    /// The text, with [`GENERATED`] in the place of what is made at run time.
    pub fn as_str(&self) -> &str {
        self.text()
    }

    /// The text as it is kept, which costs nothing to share.
    pub(crate) fn text(&self) -> &SmolStr {
        match self {
            Self::Literal(text) | Self::Generated(_, text) => text,
        }
    }
}

impl fmt::Display for HeaderValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What was done to a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// A line was added where none was.
    Add,
    /// The value was replaced, or the first one given.
    Set,
    /// A line or list element was added to those that were there.
    Append,
    /// All lines were removed.
    Remove,
}

/// Which program did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum By {
    /// Envoy, whatever it is configured with.
    Envoy,
    /// Envoy, because istiod's configuration says so.
    Istio,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Envoy => "envoy",
            Self::Istio => "istio",
        })
    }
}

/// One change of one header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderChange {
    /// What was done.
    pub op: Op,
    /// The header, in lower case; `:path` and `host` for the parts of the request line.
    pub name: SmolStr,
    /// The value before, lines joined by a comma.
    pub old: Option<HeaderValue>,
    /// The value after.
    pub new: Option<HeaderValue>,
    /// Which program did it.
    pub by: By,
    /// Where that is written, or which default it is.
    pub origin: Origin,
}

/// Keeps the ledger, or does not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    /// Whether changes are kept.
    on: bool,
    /// The changes.
    pub(crate) changes: Vec<HeaderChange>,
}

impl Ledger {
    /// A ledger that is kept if `on`.
    pub(crate) fn new(on: bool) -> Self {
        Self { on, changes: Vec::new() }
    }

    /// Whether changes are kept.
    pub(crate) fn is_on(&self) -> bool {
        self.on
    }

    /// Notes a change; `make` runs only when the ledger is kept.
    pub(crate) fn note(&mut self, make: impl FnOnce() -> HeaderChange) {
        if self.on {
            self.changes.push(make());
        }
    }
}
