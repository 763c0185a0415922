//! What would the recording say of dryroute's decision?

use dryroute::envoy::config::{
    Cluster, NetworkFilter, UpstreamTlsContext, UpstreamTlsMode, UpstreamTransport,
};
use dryroute::envoy::decision::TcpDecision;
use dryroute::envoy::ledger::GENERATED;
use dryroute::envoy::{
    ApplicationProtocol, Capture, Connection, ConnectionOutcome, HttpBranch, HttpDecision, HttpOutcome,
    HttpRequest, HttpResponse, NoRecord, ResponseFlag, Transport, Xds, decide, respond,
};
use dryroute::istiod::Proxy;
use serde_json::{Map, Value, json};

use super::Sent;

/// The default client of the recordings: its address and its certificate's name.
const CLIENT: (&str, &str) = ("10.244.0.10", "spiffe://cluster.local/ns/default/sa/sleep");

/// The answer in the recording's words.
pub(super) fn answer(proxy: &Proxy, sent: &Sent) -> Map<String, Value> {
    let mut out = Map::new();
    let (Some(connection), request) = (connection(sent), request(sent)) else {
        out.insert("outcome".into(), json!("unreadable request"));
        return out;
    };
    let capture = match sent.mode.as_str() {
        "inbound" => Capture::Inbound,
        "gateway" => Capture::Direct,
        _ => Capture::Outbound,
    };
    let request = (sent.protocol != "tcp").then_some(&request);
    // The recordings were made with a stock Envoy, which lacks Istio's own filters.
    let facts = proxy.stock_envoy_facts();
    let decision = decide(proxy, &facts, capture, &connection, request, &mut NoRecord);
    let mut put = |key: &str, value: Value| {
        if value.as_str() != Some("") {
            out.insert(key.into(), value);
        }
    };
    if let Some(listener) = &decision.listener {
        put("listener", json!(listener.name.as_str()));
    }
    if let Some(chain) = &decision.filter_chain {
        put("filter_chain", json!(chain.name.as_str()));
    }
    match &decision.outcome {
        ConnectionOutcome::NoListener => put("outcome", json!("no listener")),
        ConnectionOutcome::Closed { flags: list, details, .. } => {
            // A TCP proxy behind a filter that closes the connection has already named its cluster in the log.
            let terminal = decision.filter_chain.as_ref().map(|chain| &chain.terminal);
            if let Some(NetworkFilter::TcpProxy(proxy)) = terminal {
                put("outcome", json!("tcp"));
                put("delivered", json!(false));
                if let [only] = proxy.clusters.as_slice() {
                    put("cluster", json!(only.name.as_str()));
                }
            } else {
                put("outcome", json!("closed"));
                put("details", json!(details.as_str()));
            }
            put("flags", flags(list));
        }
        ConnectionOutcome::TlsError { failure, .. } => {
            put("outcome", json!("tls error"));
            put("tls_failure", json!(failure.as_str()));
        }
        ConnectionOutcome::Refused { reason } | ConnectionOutcome::Unknown { reason, .. } => {
            put("outcome", json!(format!("unknown: {reason}")));
        }
        ConnectionOutcome::Tcp(tcp) => {
            put("outcome", json!("tcp"));
            for (key, value) in tcp_fields(tcp) {
                put(key, value);
            }
        }
        ConnectionOutcome::Http(http) => {
            put("outcome", json!("http"));
            for (key, value) in http_fields(http) {
                put(key, value);
            }
        }
    }
    let cluster = out.get("cluster").and_then(Value::as_str).filter(|name| name.starts_with("outbound|"));
    if let Some(cluster) = cluster.and_then(|name| proxy.cluster(name)) {
        out.insert("cluster_tls".into(), cluster_tls(&cluster));
    }
    out
}

fn connection(sent: &Sent) -> Option<Connection> {
    let (address, port) = sent.dst.rsplit_once(':')?;
    let mutual = sent.transport == "mtls";
    let transport = match sent.transport.as_str() {
        "tls" | "mtls" => Transport::Tls {
            sni: sent.sni.as_str().into(),
            alpn: sent.alpn.split(',').filter(|v| !v.is_empty()).map(Into::into).collect(),
            client_certificate: mutual.then(|| sent.principal.as_deref().unwrap_or(CLIENT.1).into()),
            mesh_certificate: mutual,
        },
        _ => Transport::Plaintext,
    };
    Some(Connection {
        destination: address.trim_matches(['[', ']']).parse().ok()?,
        port: port.parse().ok()?,
        source: sent.source_ip.as_deref().unwrap_or(CLIENT.0).parse().ok()?,
        transport,
        preface: dryroute::envoy::request::Preface::default(),
        protocol: if sent.protocol == "tcp" { ApplicationProtocol::Tcp } else { ApplicationProtocol::Http11 },
    })
}

fn request(sent: &Sent) -> HttpRequest {
    let mut headers: Vec<_> =
        sent.headers.iter().map(|(k, v)| (k.to_lowercase().into(), v.as_str().into())).collect();
    if ["POST", "PUT", "PATCH"].contains(&sent.method.as_str()) {
        headers.push(("content-length".into(), "0".into()));
    }
    HttpRequest {
        method: sent.method.as_str().into(),
        path: sent.path.as_str().into(),
        authority: sent.authority.as_str().into(),
        scheme: None,
        headers,
        no_host: false,
        body: dryroute::envoy::Body::Declared,
    }
}

/// The stand-in upstream's response.
fn upstream_response() -> HttpResponse {
    let line = |name: &str, value: &str| (name.into(), value.into());
    HttpResponse {
        status: 200,
        headers: vec![
            line("content-type", "text/plain"),
            line("x-from", "upstream"),
            line("content-length", "3"),
        ],
        body: "ok\n".into(),
    }
}

fn flags(list: &[ResponseFlag]) -> Value {
    let mut names: Vec<&str> = list.iter().map(|flag| flag.as_str()).collect();
    names.sort_unstable();
    json!(names.join(","))
}

/// The TLS that istiod gave a cluster; recorded for outbound clusters only.
fn cluster_tls(cluster: &Cluster) -> Value {
    let show = |auto: &str, context: &UpstreamTlsContext| {
        let mode = match context.mode {
            UpstreamTlsMode::Simple => "simple",
            UpstreamTlsMode::Mutual => "mutual",
            UpstreamTlsMode::IstioMutual => "istio_mutual",
        };
        let mut out = Map::new();
        out.insert("mode".into(), json!(format!("{auto}{mode}")));
        if !context.sni.is_empty() {
            out.insert("sni".into(), json!(context.sni.as_str()));
        }
        Value::Object(out)
    };
    match &cluster.transport {
        UpstreamTransport::Plaintext => json!({ "mode": "none" }),
        UpstreamTransport::Tls(context) => show("", context),
        UpstreamTransport::Auto(context) => show("auto_", context),
    }
}

fn tcp_fields(tcp: &TcpDecision) -> Vec<(&'static str, Value)> {
    let [branch] = tcp.branches.as_slice() else {
        // A recording has one connection's luck; the set of clusters is what can be compared.
        let set = tcp.branches.iter().map(|b| json!([b.cluster.as_str(), weight(b.probability)]));
        return vec![("clusters", set.collect())];
    };
    let mut out = vec![("flags", flags(&branch.flags)), ("delivered", json!(branch.flags.is_empty()))];
    // The log names no cluster that does not exist.
    out.extend(branch.found.as_ref().map(|cluster| ("cluster", json!(cluster.name.as_str()))));
    out
}

/// A probability in the whole percents of a route's weights.
fn weight(probability: f64) -> u32 {
    (probability * 100.0).round() as u32
}

fn http_fields(http: &HttpDecision) -> Vec<(&'static str, Value)> {
    let mut out = vec![("route_config", json!(http.route_configuration.as_str()))];
    // A recording knows the virtual host by its route.
    if let (Some(host), Some((index, route))) = (&http.virtual_host, &http.route) {
        out.push(("virtual_host", json!(host.name.as_str())));
        out.push(("route_index", json!(index)));
        out.push(("route", json!(route.name.as_str())));
    }
    match http.branches.as_slice() {
        [branch] => out.extend(branch_fields(http, branch)),
        branches => {
            let set = branches.iter().map(|branch| match &branch.weighted_cluster {
                Some(entry) => json!([entry.name.as_str(), entry.weight]),
                None => json!(["not a weighted cluster", weight(branch.probability)]),
            });
            out.push(("clusters", set.collect()));
        }
    }
    out
}

fn branch_fields(http: &HttpDecision, branch: &HttpBranch) -> Vec<(&'static str, Value)> {
    let mut list: Vec<ResponseFlag> = Vec::new();
    if branch.fault_delay.is_some() {
        list.push(ResponseFlag::DelayInjected);
    }
    let mut out = Vec::new();
    match &branch.outcome {
        HttpOutcome::Forward(forward) => {
            let (response, _) = respond(http, branch, &upstream_response());
            out.push(("cluster", json!(forward.cluster.as_str())));
            out.push(("status", json!(response.status)));
            out.push(("flags", flags(&list)));
            out.push(("details", json!("via_upstream")));
            out.push(("upstream_request", upstream_request(&branch.request)));
            out.push(("response_headers", lines(&response.headers)));
        }
        HttpOutcome::Reply(reply) => {
            list.extend(reply.flags.iter().filter(|flag| **flag != ResponseFlag::DelayInjected));
            if let Some(cluster) = &reply.cluster {
                out.push(("cluster", json!(cluster.as_str())));
            }
            out.push(("status", json!(reply.response.status)));
            out.push(("flags", flags(&list)));
            out.push(("details", json!(reply.details.as_str())));
            out.push(("location", json!(reply.location().unwrap_or_default())));
            out.push(("body", json!(reply.response.body.as_str())));
            out.push(("response_headers", lines(&reply.response.headers)));
        }
        HttpOutcome::Reset(reset) => {
            list.extend(&reset.flags);
            out.push(("status", json!(reset.status)));
            out.push(("flags", flags(&list)));
            out.push(("details", json!(reset.details.as_str())));
        }
        HttpOutcome::Unknown { reason, .. } => out.push(("outcome", json!(format!("unknown: {reason}")))),
    }
    out
}

fn lines<T: AsRef<str>>(headers: &[(T, T)]) -> Value {
    // The recording leaves open what is or may be made anew by each proxy.
    let value = |name: &str, value: &T| match name {
        "x-request-id" | "traceparent" => json!([name, GENERATED]),
        _ => json!([name, value.as_ref()]),
    };
    headers.iter().map(|(name, text)| value(name.as_ref(), text)).collect()
}

fn upstream_request(request: &HttpRequest) -> Value {
    json!({
        "method": request.method.as_str(),
        "path": request.path.as_str(),
        "authority": request.authority.as_str(),
        "headers": lines(&request.headers),
    })
}
