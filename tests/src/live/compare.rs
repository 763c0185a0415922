//! What differs between a decision and what was seen?

use std::fmt;

use dryroute::envoy::config::{Cluster, EndpointAddress};
use dryroute::envoy::decision::{Forward, TcpDecision};
use dryroute::envoy::ledger::GENERATED;
use dryroute::envoy::upstream::CONNECTION_REFUSED;
use dryroute::envoy::{
    ConnectionOutcome, Decision, HttpBranch, HttpDecision, HttpOutcome, LocalReply, ResponseFlag,
    accepted_upgrade, failed, last_try, passing_details, passing_flags, respond,
};
use dryroute::strategy::CLOSED;
use smol_str::SmolStr;

use super::client::{Answer, Caller};
use super::lab::Visit;
use super::log::Line;
use super::upstream::{Received, reply};

/// One thing that differs.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    /// What was compared.
    pub field: String,
    /// What the model says.
    pub model: String,
    /// What Envoy did.
    pub envoy: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:\n      model {}\n      envoy {}", self.field, self.model, self.envoy)
    }
}

/// What was seen of a visit from outside.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Whether no socket was there to connect to.
    pub no_listener: bool,
    /// The client.
    pub caller: Caller,
    /// What the client received.
    pub answer: Answer,
    /// What stand-ins received, with the cluster they stand for.
    pub received: Vec<(SmolStr, Received)>,
    /// What the access log said.
    pub line: Option<Line>,
}

/// Compares a decision with what was seen; the branch that comes closest counts.
///
/// # Errors
///
/// The model does not say what happens; the text says why.
pub fn compare(visit: &Visit, decision: &Decision, seen: &Seen) -> Result<Vec<Difference>, String> {
    let mut out = Differences::default();
    if seen.no_listener || matches!(decision.outcome, ConnectionOutcome::NoListener) {
        let model = matches!(decision.outcome, ConnectionOutcome::NoListener);
        out.check("no listener", &model.to_string(), &seen.no_listener.to_string());
        return Ok(out.0);
    }
    let line = seen.line.clone().unwrap_or_default();
    let name = decision.listener.as_ref().map_or("", |l| l.name.as_str());
    match &decision.outcome {
        ConnectionOutcome::Unknown { reason, .. } | ConnectionOutcome::Refused { reason } => {
            return Err(reason.to_string());
        }
        ConnectionOutcome::NoListener => {}
        ConnectionOutcome::Closed { flags, details, .. } => {
            out.check("status", "0", &seen.answer.status.to_string());
            out.check("flags", &flag_text(flags), &line.flags);
            out.check("details", details, &line.details);
        }
        ConnectionOutcome::TlsError { .. } => out.check("status", "0", &seen.answer.status.to_string()),
        ConnectionOutcome::Tcp(tcp) => {
            out.check("listener", name, &line.listener);
            out.0.extend(closest(tcp.branches.len(), |i| tcp_branch(tcp, i, seen, &line)));
        }
        ConnectionOutcome::Http(http) => {
            out.check("listener", name, &line.listener);
            let chain = decision.filter_chain.as_ref().map_or("", |c| c.name.as_str());
            out.check("filter chain", chain, &line.filter_chain);
            if let Some(reason) = unknown(http) {
                return Err(reason);
            }
            route(&mut out, http, &line);
            out.0.extend(closest(http.branches.len(), |i| {
                http.branches.get(i).map_or_else(Vec::new, |b| branch(visit, http, b, seen, &line))
            }));
        }
    }
    Ok(out.0)
}

#[derive(Default)]
struct Differences(Vec<Difference>);

impl Differences {
    fn check(&mut self, field: &str, model: &str, envoy: &str) {
        if !matches(model, envoy) {
            self.0.push(Difference { field: field.into(), model: model.into(), envoy: envoy.into() });
        }
    }

    /// Compares lists of headers, in order.
    fn headers(&mut self, field: &str, model: &[(SmolStr, SmolStr)], envoy: &[(String, String)]) {
        let same = model.len() == envoy.len()
            && model
                .iter()
                .zip(envoy)
                .all(|((k, v), (name, value))| k == name && matches(on_the_wire(v), value));
        if !same {
            let text = |list: Vec<String>| format!("[{}]", list.join(", "));
            self.0.push(Difference {
                field: field.into(),
                model: text(model.iter().map(|(k, v)| format!("{k}: {v}")).collect()),
                envoy: text(envoy.iter().map(|(k, v)| format!("{k}: {v}")).collect()),
            });
        }
    }
}

/// What a reader of HTTP/1.1 takes of a value: blanks around it are not a part of it.
fn on_the_wire(value: &str) -> &str {
    value.trim_matches([' ', '\t'])
}

/// Whether a text is the model's, with anything in the place of what is made at run time.
pub(super) fn matches(model: &str, envoy: &str) -> bool {
    let mut parts = model.split(GENERATED);
    let Some(first) = parts.next() else { return model == envoy };
    let Some(mut rest) = envoy.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

/// The differences of the branch that has fewest.
fn closest(count: usize, differences: impl Fn(usize) -> Vec<Difference>) -> Vec<Difference> {
    (0..count).map(differences).min_by_key(Vec::len).unwrap_or_else(|| {
        vec![Difference {
            field: "branches".into(),
            model: "none".into(),
            envoy: "something happened".into(),
        }]
    })
}

fn unknown(http: &HttpDecision) -> Option<String> {
    http.branches.iter().find_map(|branch| match &branch.outcome {
        HttpOutcome::Unknown { reason, .. } => Some(reason.to_string()),
        _ => None,
    })
}

fn flag_text(flags: &[ResponseFlag]) -> String {
    let names: Vec<&str> = flags.iter().map(|flag| flag.as_str()).collect();
    names.join(",")
}

fn route(out: &mut Differences, http: &HttpDecision, line: &Line) {
    let host = http.virtual_host.as_ref().map_or("", |host| host.name.as_str());
    // The log knows the virtual host only through a route.
    if let Some((index, route)) = &http.route {
        out.check("route configuration", &http.route_configuration, &line.route_config);
        out.check("virtual host", host, &line.virtual_host);
        out.check("route index", &index.to_string(), &line.route_index);
        out.check("route", &route.name, &line.route);
    } else {
        out.check("route index", "", &line.route_index);
    }
}

fn branch(
    visit: &Visit,
    http: &HttpDecision,
    branch: &HttpBranch,
    seen: &Seen,
    line: &Line,
) -> Vec<Difference> {
    let mut out = Differences::default();
    match &branch.outcome {
        HttpOutcome::Unknown { .. } => {}
        HttpOutcome::Reset(reset) => {
            out.check("status", &reset.status.to_string(), &line.status);
            out.check("flags", &flag_text(&reset.flags), &line.flags);
            out.check("details", &reset.details, &line.details);
        }
        HttpOutcome::Reply(answer) => reply_of_proxy(&mut out, visit, answer, seen, line),
        HttpOutcome::Forward(forward) if refuses(&forward.found) => {
            let failure = CONNECTION_REFUSED.answer(forward.retry_policy.as_ref());
            reply_of_proxy(&mut out, visit, &failed(http, branch, &failure, false), seen, line);
            out.check("attempts", &failure.attempts.to_string(), &line.attempts);
        }
        HttpOutcome::Forward(forward) => forwarded(&mut out, http, branch, forward, seen, line),
    }
    mirrors(&mut out, branch, seen);
    out.0
}

/// Whether every endpoint of a cluster refuses connections.
fn refuses(cluster: &Cluster) -> bool {
    let mut endpoints =
        cluster.load_assignment.endpoints.iter().flat_map(|locality| &locality.lb_endpoints).peekable();
    endpoints.peek().is_some()
        && endpoints.all(|endpoint| matches!(endpoint.address, EndpointAddress::Socket(CLOSED, _)))
}

/// What the stand-ins received of a request, copies left out.
fn direct(seen: &Seen) -> Vec<&(SmolStr, Received)> {
    seen.received.iter().filter(|(_, received)| !received.is_mirror()).collect()
}

fn reply_of_proxy(out: &mut Differences, visit: &Visit, answer: &LocalReply, seen: &Seen, line: &Line) {
    out.check("status", &answer.response.status.to_string(), &seen.answer.status.to_string());
    out.check("flags", &flag_text(&answer.flags), &line.flags);
    out.check("details", &answer.details, &line.details);
    // The log knows no name of a cluster that does not exist.
    if let Some(cluster) = answer.cluster.as_ref().filter(|_| !line.cluster.is_empty()) {
        out.check("cluster", cluster, &line.cluster);
    }
    out.headers("response headers", &answer.response.headers, &seen.answer.headers);
    let head = visit.request.as_ref().is_some_and(|request| request.method == "HEAD");
    // No client expects a body behind 204, so none is read, though Envoy sends one.
    if !head && seen.answer.status != 204 {
        out.check("body", &answer.response.body, &String::from_utf8_lossy(&seen.answer.body));
    }
    let clusters: Vec<&str> = direct(seen).iter().map(|(cluster, _)| cluster.as_str()).collect();
    out.check("requests to the upstream", "", &clusters.join(" "));
}

/// A request that reached a stand-in, which gave the same answer to each try.
fn forwarded(
    out: &mut Differences,
    http: &HttpDecision,
    branch: &HttpBranch,
    forward: &Forward,
    seen: &Seen,
    line: &Line,
) {
    let received = direct(seen);
    let ([(_, first), ..], [.., (_, last)]) = (received.as_slice(), received.as_slice()) else {
        out.check("cluster", &forward.cluster, &line.cluster);
        out.check("requests to the upstream", "some", "none");
        return;
    };
    let upstream = reply(last.headers.iter().map(|(k, v)| (k.as_str(), v.as_str())));
    let tried = branch.tried(&upstream);
    let flags = passing_flags(branch, tried);
    if upstream.status == 101 {
        // The client leaves when it is let in.
        let earlier = if flags.is_empty() { String::new() } else { flag_text(&flags) + "," };
        out.check("flags", &(earlier + "DC"), &line.flags);
        out.check("details", "downstream_remote_disconnect", &line.details);
    } else {
        out.check("flags", &flag_text(&flags), &line.flags);
        out.check("details", passing_details(branch, upstream.status), &line.details);
    }
    out.check("cluster", &forward.cluster, &line.cluster);
    out.check("attempts", &tried.attempts.to_string(), &line.attempts);
    out.check("requests to the upstream", &tried.attempts.to_string(), &received.len().to_string());
    for (cluster, _) in &received {
        out.check("cluster of the stand-in", &forward.cluster, cluster);
    }
    upstream_request(out, "upstream", &branch.request, first);
    upstream_request(out, "last upstream", &last_try(http, branch, tried.attempts), last);
    let (response, _) = respond(http, branch, &upstream);
    out.check("status", &response.status.to_string(), &seen.answer.status.to_string());
    out.headers("response headers", &response.headers, &seen.answer.headers);
}

fn mirrors(out: &mut Differences, branch: &HttpBranch, seen: &Seen) {
    let mut copies: Vec<&(SmolStr, Received)> = seen.received.iter().filter(|(_, r)| r.is_mirror()).collect();
    // What follows an upgrade has no end, so its copy has none, and what is not sent of it when the answer is there never is.
    let unfinished = accepted_upgrade(&branch.request).is_some() && direct(seen).is_empty();
    for mirror in &branch.mirrors {
        let place = copies.iter().position(|(cluster, _)| *cluster == mirror.cluster);
        match place.map(|place| copies.remove(place)) {
            Some((_, received)) => upstream_request(out, "mirror", &mirror.request, received),
            None if mirror.probability < 1.0 || mirror.found.is_none() || unfinished => {}
            None => out.check("mirror", &mirror.cluster, ""),
        }
    }
    let more: Vec<&str> = copies.iter().map(|(cluster, _)| cluster.as_str()).collect();
    out.check("further mirrors", "", &more.join(" "));
}

fn upstream_request(
    out: &mut Differences,
    who: &str,
    model: &dryroute::envoy::HttpRequest,
    received: &Received,
) {
    out.check(
        &format!("{who} request line"),
        &format!("{} {} HTTP/1.1", model.method, model.path),
        &received.request_line,
    );
    out.check(&format!("{who} host"), &model.authority, received.header("host").unwrap_or("<none>"));
    let headers: Vec<(String, String)> =
        received.headers.iter().filter(|(name, _)| name != "host").cloned().collect();
    out.headers(&format!("{who} request headers"), &model.headers, &headers);
}

fn tcp_branch(tcp: &TcpDecision, index: usize, seen: &Seen, line: &Line) -> Vec<Difference> {
    let mut out = Differences::default();
    let Some(branch) = tcp.branches.get(index) else { return Vec::new() };
    let clusters: Vec<&str> = seen.received.iter().map(|(cluster, _)| cluster.as_str()).collect();
    if branch.flags.is_empty() {
        out.check("cluster", &branch.cluster, &clusters.join(" "));
    } else {
        out.check("cluster", "", &clusters.join(" "));
        out.check("flags", &flag_text(&branch.flags), &line.flags);
    }
    out.0
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn what_is_made_at_run_time_matches_anything() {
        assert!(matches("a", "a") && !matches("a", "ab") && !matches("", "a"));
        assert!(matches("<generated>", "anything"));
        assert!(matches("By=x;Hash=<generated>;URI=y", "By=x;Hash=12;URI=y"));
        assert!(!matches("By=x;Hash=<generated>;URI=y", "By=x;Hash=12;URI=z"));
    }
}
