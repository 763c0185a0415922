//! How is a decision explained?
//!
//! Invariant: one walk. A recorder listens to it and never changes it; [`NoRecord`] makes it cheap.

use smol_str::SmolStr;

use crate::origin::Origin;

/// What a step of a decision chose or passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StepKind {
    /// A listener.
    Listener,
    /// A filter chain.
    FilterChain,
    /// TLS or a token was checked.
    Authentication,
    /// An RBAC filter was passed, or refused the request.
    Authorization,
    /// An EnvoyFilter that changed the HTTP connection manager.
    Patch,
    /// A route configuration.
    RouteConfig,
    /// A virtual host.
    VirtualHost,
    /// A route.
    Route,
}

/// A step of a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What was chosen.
    pub kind: StepKind,
    /// Its name, as Istio gives it.
    pub name: SmolStr,
    /// Who made it.
    pub origin: Origin,
}

/// What could have been meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NearMissKind {
    /// A filter chain that did not match.
    FilterChain,
    /// A virtual host whose domains are close to the host.
    VirtualHost,
    /// A route of the virtual host that did not match.
    Route,
}

/// The first condition that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedCondition {
    /// What was compared: `path`, `method`, `header x-user`, `query parameter v`, `domain` …
    pub condition: SmolStr,
    /// What would have to be written for this request: what it has; empty when it has none.
    pub expected: SmolStr,
    /// What is written.
    pub got: SmolStr,
    /// Where the condition is written.
    pub origin: Origin,
}

/// A part of the configuration that could have been meant, and why it was not chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NearMiss {
    /// What it is.
    pub kind: NearMissKind,
    /// Its place in its list.
    pub index: usize,
    /// Its name.
    pub name: SmolStr,
    /// Who made it.
    pub origin: Origin,
    /// Why it was not chosen.
    pub failed: FailedCondition,
}

/// Listens to a decision.
pub trait Recorder {
    /// Whether anything is recorded; the walk makes no texts for a recorder that says no.
    fn enabled(&self) -> bool;
    /// A step was taken.
    fn step(&mut self, step: Step);
    /// Something was not chosen, and nothing else was.
    fn near_miss(&mut self, miss: NearMiss);
}

/// Records nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoRecord;

impl Recorder for NoRecord {
    fn enabled(&self) -> bool {
        false
    }

    fn step(&mut self, _: Step) {}

    fn near_miss(&mut self, _: NearMiss) {}
}

/// Keeps everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// What could have been meant.
    pub near_misses: Vec<NearMiss>,
}

impl Recorder for Record {
    fn enabled(&self) -> bool {
        true
    }

    fn step(&mut self, step: Step) {
        self.steps.push(step);
    }

    fn near_miss(&mut self, miss: NearMiss) {
        self.near_misses.push(miss);
    }
}
