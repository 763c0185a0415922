//! Istio's end-to-end routing tests: from a client to a workload, with the assertions that hold on every release.
//!
//! The mesh of the tests (`apps.json`, `base.yaml`) is built beside each case's configuration; a call is one trace, and
//! each of its checks is answered from it. What a trace does not model is a mismatch that says so.

mod apps;

use std::collections::BTreeMap;
use std::sync::Arc;

use dryroute::manifest::{Loader, parse_mesh_config};
use dryroute::mesh::{Mesh, MeshOptions};
use dryroute::trace::{HttpVersion, LegTransport, Outcome, Query, StepKind, Trace, Tracer, VerdictKind};
use serde_json::{Value, json};

use self::apps::Apps;
use super::{Check, Mismatch, Options};

/// The installation of the tests: no retries, and an agent that answers DNS.
const MESH_CONFIG: &str =
    "defaultHttpRetryPolicy: {}\ndefaultConfig:\n  proxyMetadata: {ISTIO_META_DNS_CAPTURE: \"true\"}\n";

/// A configuration and calls.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Case {
    /// The test's name.
    pub name: String,
    /// The family.
    pub suite: String,
    /// Multi-document YAML.
    #[serde(default)]
    pub config: String,
    /// Calls.
    pub calls: Vec<Call>,
    /// Why Istio does not run it.
    #[serde(default)]
    pub skip: Option<Value>,
}

/// A call and what holds of it.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Call {
    /// `SERVICE.NAMESPACE`, or `ingress`.
    pub from: String,
    /// `http`, `https`, `tcp`, `grpc`, `dns`; absent for the gateway.
    #[serde(default)]
    pub scheme: Option<String>,
    /// What is dialled; absent for the gateway.
    #[serde(default)]
    pub address: Option<String>,
    /// The authority.
    #[serde(default)]
    pub host: Option<String>,
    /// The port.
    #[serde(default)]
    pub port: Option<Port>,
    /// The request.
    #[serde(default)]
    pub http: Http,
    /// TLS.
    #[serde(default)]
    pub tls: Tls,
    /// The checks.
    pub expect: Vec<Expect>,
}

/// A port.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct Port {
    /// `HTTP`, `HTTPS`, `TCP` …
    pub protocol: String,
    /// The Service's port.
    pub service_port: Option<i64>,
}

/// A request.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct Http {
    /// The path.
    pub path: Option<String>,
    /// The method.
    pub method: Option<String>,
    /// Headers.
    pub headers: BTreeMap<String, Vec<String>>,
    /// Whether HTTP/2 is spoken.
    pub http2: bool,
    /// Whether redirects are followed.
    pub follow_redirects: bool,
}

/// TLS of a call.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct Tls {
    /// The server name.
    pub server_name: Option<String>,
    /// ALPN values.
    pub alpn: Option<Vec<String>>,
}

/// A check.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Expect {
    /// Its name.
    pub check: String,
    /// Its arguments.
    #[serde(default)]
    pub args: Vec<Value>,
}

/// Runs a case; the cases that Istio does not run are left out.
pub fn run(case: &Case, options: &Options, out: &mut Vec<Check>) {
    if case.skip.is_some() {
        return;
    }
    let wanted: Vec<(String, &Call)> =
        case.calls.iter().enumerate().map(|(i, call)| (describe(i, call), call)).collect();
    if !wanted.iter().any(|(text, _)| options.selects(&case.name, text)) {
        return;
    }
    let Some(folder) = crate::conformance("routing") else { return };
    let lab = lab(case, &folder);
    for (request, call) in wanted {
        if !options.selects(&case.name, &request) {
            continue;
        }
        let mismatches = match &lab {
            Ok(lab) => answer(lab, call),
            Err(reason) => vec![mismatch("mesh", json!("a mesh"), json!(reason))],
        };
        out.push(Check { case: case.name.clone(), request, mismatches });
    }
}

fn describe(index: usize, call: &Call) -> String {
    let scheme = call.scheme.as_deref().unwrap_or("gateway");
    let address = call.address.as_deref().or(call.host.as_deref()).unwrap_or_default();
    let port = call.port.as_ref().and_then(|port| port.service_port).map(|p| format!(":{p}"));
    format!("#{index} {} {scheme}://{address}{}", call.from, port.unwrap_or_default())
}

/// The mesh of a case, and what its applications listen on.
struct Lab {
    tracer: Tracer,
    apps: Apps,
}

fn lab(case: &Case, folder: &std::path::Path) -> Result<Lab, String> {
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).map_err(|e| format!("{name}: {e}"));
    let apps = Apps::read(&read("apps.json")?)?;
    let platform = apps.manifests();
    let set = Loader::new()
        .default_namespace("echo")
        .text("platform.yaml", platform)
        .text("base.yaml", read("base.yaml")?)
        .text("case.yaml", case.config.clone())
        .load();
    let options =
        MeshOptions { mesh_config: parse_mesh_config("mesh", MESH_CONFIG).0, ..MeshOptions::default() };
    Ok(Lab { tracer: Tracer::new(Arc::new(Mesh::new(set, options))), apps })
}

fn mismatch(field: &str, expected: Value, got: Value) -> Mismatch {
    Mismatch { field: field.to_owned(), expected, got }
}

fn answer(lab: &Lab, call: &Call) -> Vec<Mismatch> {
    let tracer = &lab.tracer;
    let traced = query(call).and_then(|query| {
        let mut trace = tracer.trace(&query).map_err(|e| e.to_string())?;
        for _ in 0..5 {
            let Some(location) = trace.outcomes.first().and_then(|o| o.verdict.location.clone()) else {
                break;
            };
            if !call.http.follow_redirects {
                break;
            }
            let mut next = query.clone();
            let target = Query::get(&location).map_err(|e| e.to_string())?.target;
            if let Some(gateway) = &mut next.to_gateway {
                gateway.port = Some(target.port);
            }
            next.headers.retain(|(name, _)| name != "host");
            next.target = target;
            trace = tracer.trace(&next).map_err(|e| e.to_string())?;
        }
        Ok(trace)
    });
    match traced {
        Ok(trace) => call.expect.iter().flat_map(|check| answer_check(lab, &trace, call, check)).collect(),
        // A call that the client cannot make is an error to it, too.
        Err(reason) => vec![mismatch("trace", json!("a trace"), json!(reason))],
    }
}

fn query(call: &Call) -> Result<Query, String> {
    let protocol = call.port.as_ref().map(|port| port.protocol.to_ascii_lowercase()).unwrap_or_default();
    let ingress = call.from == "ingress";
    let scheme = match call.scheme.as_deref() {
        Some("grpc") => "http",
        Some("dns") => "http",
        Some(other) => other,
        None if protocol == "https" => "https",
        None if protocol == "tcp" => "tcp",
        None => "http",
    };
    let port = call.port.as_ref().and_then(|port| port.service_port).filter(|port| *port > 0);
    let port = port.or(match scheme {
        "https" => Some(443),
        _ => Some(80),
    });
    let dialled = call.address.as_deref().filter(|_| !ingress).or(call.host.as_deref()).unwrap_or("gateway");
    // A DNS call that names its server is a connection to that server.
    if let Some((_, server)) =
        dialled.split_once("&server=").filter(|_| call.scheme.as_deref() == Some("dns"))
    {
        let mut query = Query::parse("GET", &format!("tcp://{server}:53")).map_err(|e| e.to_string())?;
        let (service, namespace) = call.from.split_once('.').unwrap_or((&call.from, "echo"));
        query.from = Some(format!("{namespace}/{service}-v1").into());
        return Ok(query);
    }
    let name = dialled.split('?').next().unwrap_or(dialled);
    let host = name.rsplit_once(':').map_or(name, |(host, _)| host);
    let path = call.http.path.as_deref().unwrap_or("/");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let url = format!("{scheme}://{host}:{}{path}", port.unwrap_or(80));
    let grpc = call.scheme.as_deref() == Some("grpc");
    let method = call.http.method.as_deref().unwrap_or(if grpc { "POST" } else { "GET" });
    let mut query = Query::parse(method, &url).map_err(|e| e.to_string())?;
    if ingress {
        query.from = Some("outside".into());
        let gateway = format!("istio-system/istio-ingressgateway:{}", port.unwrap_or(80));
        query.to_gateway = Some(gateway.parse().map_err(|e| format!("{e}"))?);
    } else {
        let (service, namespace) = call.from.split_once('.').unwrap_or((&call.from, "echo"));
        query.from = Some(format!("{namespace}/{service}-v1").into());
    }
    if let Some(host) = &call.host {
        query.headers.push(("host".into(), Some(host.into())));
    }
    for (name, values) in call.http.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("host")) {
        for value in values {
            query.headers.push((name.to_ascii_lowercase().into(), Some(value.into())));
        }
    }
    if grpc {
        query.headers.push(("content-type".into(), Some("application/grpc".into())));
        query.request_target = Some("/proto.EchoTestService/Echo".into());
    }
    if grpc || call.http.http2 {
        query.http_version = HttpVersion::Http2;
    }
    query.sni = match (&call.tls.server_name, &call.host) {
        (Some(name), _) => Some(name.into()),
        (None, Some(host)) if scheme == "https" => {
            Some(host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name).into())
        }
        _ => None,
    };
    query.alpn = call.tls.alpn.as_ref().map(|list| list.iter().map(Into::into).collect());
    Ok(query)
}

/// Codes of gRPC by name.
const GRPC: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

fn answer_check(lab: &Lab, trace: &Trace, call: &Call, check: &Expect) -> Vec<Mismatch> {
    if check.check == "SplitPercent" {
        return split_percent(trace, check).into_iter().collect();
    }
    trace
        .outcomes
        .iter()
        .filter_map(|outcome| answer_outcome(lab, trace, outcome, call, check))
        .take(1)
        .collect()
}

fn answer_outcome(
    lab: &Lab,
    trace: &Trace,
    outcome: &Outcome,
    call: &Call,
    check: &Expect,
) -> Option<Mismatch> {
    let text = |index: usize| check.args.get(index).and_then(Value::as_str).unwrap_or_default();
    let verdict = &outcome.verdict;
    let shown = json!(format!(
        "{} {} by {}: {}",
        verdict.kind,
        verdict.status.map_or("-".to_owned(), |s| s.to_string()),
        verdict.by,
        verdict.reason.as_deref().unwrap_or(&verdict.details)
    ));
    let leg = outcome.path.last().and_then(|id| trace.legs.iter().rev().find(|leg| leg.to == *id));
    // A trace ends where an application would listen; whether it does is a matter of the test's applications.
    let refused = leg.is_some_and(|leg| !lab.apps.listens(&verdict.by, &leg.address));
    let behind_proxy = outcome.path.iter().any(|id| id.starts_with("sidecar:") || id.starts_with("inbound:"));
    let status = match verdict.kind {
        VerdictKind::Delivered if refused => behind_proxy.then_some(503),
        VerdictKind::Delivered => Some(200),
        VerdictKind::Answered | VerdictKind::Redirected => verdict.status,
        _ => None,
    };
    let last = outcome.path.last().and_then(|id| trace.hop(outcome, id));
    let at_server = |name: &str| {
        let name = name.to_ascii_lowercase();
        let lines = &last?.request.left;
        lines.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string())
    };
    let at_client = |name: &str| {
        let lines = &trace.hop(outcome, "client")?.response.arrived;
        lines.iter().find(|(key, _)| *key == name.to_ascii_lowercase()).map(|(_, value)| value.to_string())
    };
    let compare = |expected: &str, got: Option<String>| {
        let met = got.as_deref().unwrap_or_default() == expected;
        (!met).then(|| mismatch(&check.check, json!(check.args), json!(got)))
    };
    let holds = |met: bool| (!met).then(|| mismatch(&check.check, json!(check.args), shown.clone()));
    match check.check.as_str() {
        "OK" => holds(status == Some(200)),
        "NoError" => holds(status.is_some()),
        "Status" => holds(status.map(u64::from) == check.args.first().and_then(Value::as_u64)),
        "Error" => holds(status.is_none() && verdict.kind != VerdictKind::Unknown),
        "RequestHeader" => compare(text(1), at_server(text(0))),
        "RequestHeaders" | "ResponseHeaders" => {
            let headers = check.args.first().and_then(Value::as_object)?;
            headers.iter().find_map(|(name, value)| {
                let got = if check.check == "RequestHeaders" { at_server(name) } else { at_client(name) };
                compare(value.as_str().unwrap_or_default(), got)
            })
        }
        "ResponseHeader" => compare(text(1), at_client(text(0))),
        "Host" => compare(text(0), at_server("host")),
        "URL" => compare(text(0), at_server(":path")),
        // Only HTTP can show it.
        "MTLSForHTTP" if !matches!(call.scheme.as_deref(), Some("http" | "grpc")) => None,
        "MTLSForHTTP" => holds(at_server("x-forwarded-client-cert").is_some()),
        "LocationHeader" => {
            let host = call.host.as_deref().unwrap_or_default();
            let host = host.rsplit_once(':').map_or(host, |(name, _)| name);
            compare(
                &text(0).replace("{{.Hostname}}", host),
                verdict.location.as_ref().map(ToString::to_string),
            )
        }
        "Protocol" => {
            let protocol = leg.map(|leg| match leg.protocol {
                "http/1.0" => "HTTP/1.0",
                "http/1.1" => "HTTP/1.1",
                "h2" => "HTTP/2.0",
                other => other,
            });
            compare(text(0), protocol.map(str::to_owned))
        }
        "Alpn" => {
            let tls = leg.filter(|leg| leg.transport != LegTransport::Plaintext);
            compare(text(0), tls.and_then(|leg| leg.alpn.first()).map(ToString::to_string))
        }
        "GRPCStatus" => {
            let code = GRPC.iter().position(|name| *name == text(0)).map(|code| code.to_string());
            compare(&code.unwrap_or_default(), at_client("grpc-status"))
        }
        "DNSResponseSet" => {
            let step = trace.hop(outcome, "client").and_then(|hop| hop.step(StepKind::Dns));
            let mut got: Vec<&str> = step.map(|step| step.name.split(", ").collect()).unwrap_or_default();
            got.retain(|address| *address != "NXDOMAIN");
            got.sort_unstable();
            let mut expected: Vec<&str> = text(0).split(',').filter(|a| !a.is_empty()).collect();
            expected.sort_unstable();
            (got != expected).then(|| mismatch(&check.check, json!(expected), json!(got)))
        }
        other => Some(mismatch(other, json!(check.args), json!("not modelled"))),
    }
}

/// The shares of the destinations, which tests allow to be ten points off.
fn split_percent(trace: &Trace, check: &Expect) -> Option<Mismatch> {
    let mut shares: BTreeMap<&str, f64> = BTreeMap::new();
    for outcome in &trace.outcomes {
        *shares.entry(outcome.path.last().map_or("", |id| id.as_str())).or_default() +=
            outcome.probability * 100.0;
    }
    let mut got: Vec<f64> = shares.into_values().collect();
    got.sort_by(|a, b| b.total_cmp(a));
    let mut expected: Vec<f64> = check.args.iter().filter_map(Value::as_f64).collect();
    expected.sort_by(|a, b| b.total_cmp(a));
    let near = got.len() == expected.len() && got.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= 10.0);
    (!near).then(|| mismatch(&check.check, json!(check.args), json!(got)))
}
