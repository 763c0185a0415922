//! How is a decision shown?

use std::fmt::Write as _;

use dryroute::envoy::config::{Cluster, TunnelingConfig};
use dryroute::envoy::{
    ApplicationProtocol, Connection, ConnectionOutcome, Decision, Ends, HttpBranch, HttpOutcome, HttpRequest,
    Record, ResponseFlag, Transport, recorder,
};
use dryroute::istiod::Proxy;
use dryroute::mesh::Mesh;
use dryroute::origin::Origin;
use serde_json::{Value, json};

use crate::error::Exit;
use crate::{place, style};

/// How many near misses the text names.
const MOST_NEAR_MISSES: usize = 5;

/// A decision, as it is shown.
pub(super) struct Answer<'a> {
    proxy: &'a Proxy,
    steps: Vec<(&'static str, String, Origin)>,
    outcomes: Vec<Outcome>,
    record: &'a Record,
}

/// One thing that may happen.
struct Outcome {
    probability: f64,
    kind: &'static str,
    cluster: Option<(String, Origin)>,
    status: Option<u16>,
    flags: Vec<ResponseFlag>,
    details: String,
    origin: Option<Origin>,
}

impl Outcome {
    fn new(kind: &'static str) -> Self {
        Self {
            probability: 1.0,
            kind,
            cluster: None,
            status: None,
            flags: Vec::new(),
            details: String::new(),
            origin: None,
        }
    }
}

impl<'a> Answer<'a> {
    pub(super) fn new(proxy: &'a Proxy, decision: &Decision, record: &'a Record) -> Self {
        let mut steps = Vec::new();
        if let Some(listener) = &decision.listener {
            steps.push(("listener", listener.name.to_string(), listener.origin.clone()));
        }
        if let Some(chain) = &decision.filter_chain {
            let name = if chain.name.is_empty() { "-" } else { chain.name.as_str() };
            steps.push(("filter chain", name.to_owned(), chain.origin.clone()));
        }
        for step in &record.steps {
            let kind = match step.kind {
                recorder::StepKind::Authentication => "authentication",
                recorder::StepKind::Patch => "patch",
                recorder::StepKind::Authorization => "authorization",
                _ => continue,
            };
            steps.push((kind, step.name.to_string(), step.origin.clone()));
        }
        if let ConnectionOutcome::Http(http) = &decision.outcome {
            let manager = &http.http_connection_manager;
            let origin =
                http.route_configuration_found.as_ref().map_or(&manager.origin, |found| &found.origin);
            steps.push(("route config", http.route_configuration.to_string(), origin.clone()));
            if let Some(host) = &http.virtual_host {
                steps.push(("virtual host", host.name.to_string(), host.origin.clone()));
            }
            if let Some((index, route)) = &http.route {
                let name = if route.name.is_empty() { format!("#{index}") } else { route.name.to_string() };
                steps.push(("route", name, route.origin.clone()));
            }
        }
        Self { proxy, steps, outcomes: outcomes(decision), record }
    }

    fn mesh(&self) -> &Mesh {
        self.proxy.mesh()
    }

    /// 3 when something is not settled.
    pub(super) fn exit(&self) -> Exit {
        if self.outcomes.iter().any(|outcome| outcome.kind == "unknown") { Exit::Unknown } else { Exit::Ok }
    }

    pub(super) fn as_text(&self, connection: &Connection, request: Option<&HttpRequest>) -> String {
        let mut out = String::new();
        let what = match request {
            Some(request) => format!("{} {}{}", request.method, request.authority, request.path),
            None => "TCP".to_owned(),
        };
        let node = self.proxy.node();
        let _ = writeln!(
            out,
            "{} to {} over {}, asked of {}/{}\n",
            style::paint(style::BOLD, &what),
            super::destination(connection),
            protection(connection),
            node.namespace,
            node.name
        );
        for (kind, name, origin) in &self.steps {
            self.line(&mut out, kind, name, origin);
        }
        for outcome in &self.outcomes {
            if let Some((name, origin)) = &outcome.cluster {
                self.line(&mut out, "cluster", name, origin);
            }
            let share = if outcome.probability < 1.0 {
                format!(" {}", style::percent(outcome.probability))
            } else {
                String::new()
            };
            let colour = match outcome.kind {
                "forwarded" => style::GREEN,
                "unknown" => style::YELLOW,
                _ => style::RED,
            };
            let mut words = vec![style::paint(colour, outcome.kind)];
            words.extend(outcome.status.map(|status| status.to_string()));
            words.extend(outcome.flags.iter().map(ToString::to_string));
            words.extend(Some(outcome.details.clone()).filter(|details| !details.is_empty()));
            let _ = writeln!(out, "=>{share} {}", words.join(" "));
            if let Some(origin) = &outcome.origin {
                let _ = writeln!(out, "   {}", style::paint(style::DIM, &place::full(self.mesh(), origin)));
            }
        }
        out.push_str(&self.near_misses());
        out
    }

    /// What nearly took the connection or request, the first few of it; what says the same is said once.
    fn near_misses(&self) -> String {
        let mut texts: Vec<String> = Vec::new();
        for miss in &self.record.near_misses {
            let failed = &miss.failed;
            let has = if failed.expected.is_empty() { "none" } else { failed.expected.as_str() };
            let text = format!(
                "near miss: {} wants {} {}, the request has {has}\n   {}\n",
                miss.name,
                failed.condition,
                failed.got,
                style::paint(style::DIM, &place::full(self.mesh(), &failed.origin))
            );
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let more = texts.len().saturating_sub(MOST_NEAR_MISSES);
        let mut out: String = texts.into_iter().take(MOST_NEAR_MISSES).collect();
        if more > 0 {
            let _ = writeln!(out, "and {more} more near misses (`-o json` has all)");
        }
        out
    }

    fn line(&self, out: &mut String, kind: &str, name: &str, origin: &Origin) {
        let left = format!("  {}  {name}", style::paint(style::CYAN, &format!("{kind:<14}")));
        let right = style::paint(style::DIM, &place::full(self.mesh(), origin));
        let _ = writeln!(out, "{}", style::beside(&left, &right, 18, style::width()));
    }

    pub(super) fn as_json(&self, connection: &Connection, request: Option<&HttpRequest>) -> Value {
        let mesh = self.mesh();
        let node = self.proxy.node();
        let steps: Vec<Value> = self
            .steps
            .iter()
            .map(|(kind, name, origin)| {
                json!({"kind": kind.replace(' ', "_"), "name": name, "origin": place::as_json(mesh, origin)})
            })
            .collect();
        let outcomes: Vec<Value> = self
            .outcomes
            .iter()
            .map(|outcome| {
                let flags: Vec<String> = outcome.flags.iter().map(ToString::to_string).collect();
                json!({
                    "probability": outcome.probability,
                    "kind": outcome.kind,
                    "cluster": outcome.cluster.as_ref().map(|(name, origin)| {
                        json!({"name": name, "origin": place::as_json(mesh, origin)})
                    }),
                    "status": outcome.status,
                    "flags": flags,
                    "details": outcome.details,
                    "origin": outcome.origin.as_ref().map(|origin| place::as_json(mesh, origin)),
                })
            })
            .collect();
        let misses: Vec<Value> = self
            .record
            .near_misses
            .iter()
            .map(|miss| {
                json!({
                    "name": miss.name,
                    "origin": place::as_json(mesh, &miss.origin),
                    "failed": {
                        "condition": miss.failed.condition, "expected": miss.failed.expected, "got": miss.failed.got,
                        "origin": place::as_json(mesh, &miss.failed.origin),
                    },
                })
            })
            .collect();
        json!({
            "schema": "dryroute.probe/v1",
            "model": {"istio": dryroute::ISTIO_VERSION, "envoy": dryroute::ENVOY_VERSION},
            "proxy": format!("{}/{}", node.namespace, node.name),
            "connection": {"destination": super::destination(connection), "transport": protection(connection)},
            "request": request.map(|r| json!({"method": r.method, "host": r.authority, "path": r.path})),
            "steps": steps,
            "outcomes": outcomes,
            "near_misses": misses,
        })
    }
}

fn protection(connection: &Connection) -> String {
    let bytes = match connection.protocol {
        ApplicationProtocol::Http10 => "HTTP/1.0",
        ApplicationProtocol::Http11 => "HTTP/1.1",
        ApplicationProtocol::Http2 => "HTTP/2",
        ApplicationProtocol::Tcp => "TCP",
    };
    match &connection.transport {
        Transport::Plaintext => bytes.to_owned(),
        Transport::Tls { sni, mesh_certificate, .. } => {
            let kind = if *mesh_certificate { "mTLS" } else { "TLS" };
            let name = if sni.is_empty() { String::new() } else { format!(" for {sni}") };
            format!("{bytes} in {kind}{name}")
        }
    }
}

fn outcomes(decision: &Decision) -> Vec<Outcome> {
    match &decision.outcome {
        ConnectionOutcome::NoListener => {
            vec![Outcome { details: "nothing listens there".into(), ..Outcome::new("refused") }]
        }
        ConnectionOutcome::Closed { flags, details, origin } => vec![Outcome {
            flags: flags.clone(),
            details: details.to_string(),
            origin: Some(origin.clone()),
            ..Outcome::new("closed")
        }],
        ConnectionOutcome::TlsError { failure, origin } => vec![Outcome {
            details: failure.to_string(),
            origin: Some(origin.clone()),
            ..Outcome::new("tls_error")
        }],
        ConnectionOutcome::Refused { reason } => {
            let details = format!("Envoy would refuse the listener: {reason}");
            vec![Outcome { details, ..Outcome::new("unknown") }]
        }
        ConnectionOutcome::Unknown { reason, origin } => vec![Outcome {
            details: reason.to_string(),
            origin: Some(origin.clone()),
            ..Outcome::new("unknown")
        }],
        ConnectionOutcome::Tcp(tcp) => tcp
            .branches
            .iter()
            .map(|branch| Outcome {
                probability: branch.probability,
                cluster: Some((branch.cluster.to_string(), branch.origin.clone())),
                flags: branch.flags.clone(),
                details: how(tcp.tunnel.as_ref(), branch.found.as_deref()),
                ..Outcome::new(if branch.flags.is_empty() { "forwarded" } else { "closed" })
            })
            .collect(),
        ConnectionOutcome::Http(http) => http.branches.iter().map(branch).collect(),
    }
}

/// What comes around or before what is sent to a cluster's endpoints.
fn how(tunnel: Option<&TunnelingConfig>, cluster: Option<&Cluster>) -> String {
    let tunnel = tunnel.map(|tunnel| format!("in {} {}", tunnel.method(), tunnel.hostname));
    let header = cluster.and_then(|cluster| cluster.proxy_protocol.as_ref());
    let header = header.map(|_| "behind a header of the PROXY protocol".to_owned());
    let parts: Vec<String> = tunnel.into_iter().chain(header).collect();
    parts.join(", ")
}

fn branch(branch: &HttpBranch) -> Outcome {
    let outcome = match &branch.outcome {
        HttpOutcome::Forward(forward) => Outcome {
            cluster: Some((forward.cluster.to_string(), forward.origin.clone())),
            details: how(None, Some(&forward.found)),
            ..Outcome::new("forwarded")
        },
        HttpOutcome::Reply(reply) => Outcome {
            cluster: reply.cluster.as_ref().map(|name| (name.to_string(), reply.origin.clone())),
            status: Some(reply.response.status),
            flags: reply.flags.clone(),
            details: reply.details.to_string(),
            origin: Some(reply.origin.clone()),
            ..Outcome::new(if reply.location().is_some() { "redirected" } else { "answered" })
        },
        HttpOutcome::Reset(reset) => Outcome {
            flags: reset.flags.clone(),
            details: reset.details.to_string(),
            origin: Some(reset.origin.clone()),
            ..Outcome::new(match reset.ends {
                Ends::Connection => "closed",
                Ends::Stream => "reset",
            })
        },
        HttpOutcome::Unknown { reason, cluster, origin } => Outcome {
            cluster: cluster.as_ref().map(|name| (name.to_string(), origin.clone())),
            details: reason.to_string(),
            origin: Some(origin.clone()),
            ..Outcome::new("unknown")
        },
    };
    Outcome { probability: branch.probability, ..outcome }
}
