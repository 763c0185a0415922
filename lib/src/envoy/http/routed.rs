//! What does a route table alone make of a request?
//!
//! No listener, no filters, no endpoints: the request is taken as the connection manager would hand it to the route table. Envoy asks
//! the same of itself in its route table check tool. Invariant: the rules are those of [`decide`](super::decide).

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use smol_str::{SmolStr, ToSmolStr as _, format_smolstr};

use super::filter::Flight;
use super::response::Subject as ResponseSubject;
use super::{Choice, choose, is_grpc, redirect, rewrite, router};
use crate::envoy::config::{
    Action, ClusterSpecifier, DirectResponseAction, EscapedSlashes, ForwardClientCertDetails,
    HeadersWithUnderscores, HttpConnectionManager, PathRedirect, RedirectAction, Route, RouteConfiguration,
    RouteMatch, RouteSpecifier, ServerHeaderTransformation, SetCurrentClientCertDetails, TrafficDirection,
    VirtualHost, WeightedCluster,
};
use crate::envoy::decision::{Downstream, HttpDecision};
use crate::envoy::domain;
use crate::envoy::headers::{self, Headers};
use crate::envoy::ledger::Ledger;
use crate::envoy::matching::{Metadata, Subject};
use crate::envoy::request::HttpRequest;
use crate::origin::Origin;

/// What a route table is asked.
pub(crate) struct Question<'a> {
    /// The route table.
    pub(crate) configuration: &'a Arc<RouteConfiguration>,
    /// The request, with `:scheme` and `x-forwarded-proto`.
    pub(crate) request: HttpRequest,
    /// The upstream's response headers, or what filters put into a response.
    pub(crate) response: Headers,
    /// Dynamic metadata.
    pub(crate) metadata: &'a Metadata,
    /// The host by which virtual hosts are looked for, where it is not the request's own; empty finds none.
    pub(crate) host: Option<SmolStr>,
    /// Whether the header operations of routes come last, and thus win (`most_specific_header_mutations_wins`).
    pub(crate) most_specific_wins: bool,
    /// What chooses among weighted clusters.
    pub(crate) weights: &'a dyn WeightedChoice,
}

/// What chooses among weighted clusters.
pub(crate) trait WeightedChoice {
    /// The number that chooses.
    fn number(&self, route: &Arc<Route>) -> u64;
    /// The name of the cluster at a place, where it is not written there.
    fn cluster(&self, route: &Arc<Route>, place: usize) -> Option<SmolStr>;
}

/// What a route table makes of a request.
pub(crate) struct Routed {
    /// The virtual host.
    pub(crate) virtual_host: Option<Arc<VirtualHost>>,
    /// What takes the request.
    pub(crate) taken: Taken,
    /// The request after the route's rewrites and header operations.
    pub(crate) request: HttpRequest,
    /// The response after the route's header operations.
    pub(crate) response: Headers,
}

/// What takes a request.
pub(crate) enum Taken {
    /// Nothing.
    Nothing,
    /// The virtual host's redirect to https.
    TlsRedirect {
        /// The whole `Location`.
        location: SmolStr,
    },
    /// A route that answers by itself.
    Answer {
        /// The route and its place.
        route: (usize, Arc<Route>),
        /// The request's address, with what the route redirects.
        location: SmolStr,
        /// Status.
        status: u16,
    },
    /// A route to a cluster.
    Forward {
        /// The route and its place.
        route: (usize, Arc<Route>),
        /// The place of the weighted cluster that was chosen.
        weighted: Option<usize>,
        /// The cluster; empty when the header that names it is missing.
        cluster: SmolStr,
    },
}

/// Asks a route table.
pub(crate) fn ask(question: Question<'_>) -> Routed {
    let Question { configuration, request, response, metadata, host, most_specific_wins, weights } = question;
    let ignore_port = configuration.ignore_port_in_host_matching;
    let host = host.as_ref().unwrap_or(&request.authority);
    let virtual_host = domain::find(&configuration.virtual_hosts, host, ignore_port).cloned();
    let choice = virtual_host
        .as_ref()
        .map_or(Choice::NoRoute, |host| choose(host, Subject { request: &request, metadata }));
    let mut out = Routed { virtual_host, taken: Taken::Nothing, request, response };
    match choice {
        Choice::Unforwarded | Choice::NoRoute => {}
        Choice::TlsRedirect => {
            let location = format_smolstr!("https://{}{}", out.request.authority, out.request.path);
            out.taken = Taken::TlsRedirect { location };
        }
        Choice::Route(index, route) => {
            take(&mut out, configuration, (index, route), most_specific_wins, weights);
        }
    }
    out
}

/// Does what a route says.
fn take(
    out: &mut Routed,
    configuration: &Arc<RouteConfiguration>,
    taken: (usize, Arc<Route>),
    most_specific_wins: bool,
    weights: &dyn WeightedChoice,
) {
    let mut decision = decision(configuration, out);
    decision.route = Some(taken.clone());
    let route = &taken.1;
    if most_specific_wins {
        // Levels are applied from the route to the configuration; the other way round, these two change places.
        let headers = &configuration.headers;
        let last = Route { headers: headers.clone(), ..Route::clone(route) };
        decision.route = Some((taken.0, Arc::new(last)));
        let first =
            RouteConfiguration { headers: route.headers.clone(), ..RouteConfiguration::clone(configuration) };
        decision.route_configuration_found = Some(Arc::new(first));
    }
    match &route.action {
        Action::None => {}
        Action::Redirect(action) => {
            let location = redirect::location(action, &route.route_match, &out.request);
            rewrite_path(&mut out.request, action, &route.route_match);
            answer(out, &decision, action.response_code, "");
            out.taken = Taken::Answer { location, status: action.response_code, route: taken };
        }
        Action::DirectResponse(DirectResponseAction { status, body, .. }) => {
            let location = redirect::address(&out.request);
            answer(out, &decision, *status, body);
            out.taken = Taken::Answer { location, status: *status, route: taken.clone() };
        }
        Action::Route(action) => {
            let weighted = match &action.cluster {
                ClusterSpecifier::WeightedClusters(clusters) => pick(clusters, weights.number(route)),
                ClusterSpecifier::Cluster(_) | ClusterSpecifier::ClusterHeader(_) => None,
            };
            let entry = weighted.map(|(_, entry)| entry.clone());
            let named = weighted.and_then(|(place, _)| weights.cluster(route, place));
            let cluster = named.or_else(|| router::cluster_of(route, entry.as_ref(), &out.request));
            let cluster = cluster.unwrap_or_default();
            let mut flight = Flight {
                probability: 1.0,
                request: out.request.clone(),
                ledger: Ledger::default(),
                weighted: entry,
                cluster: Some(cluster.clone()),
                found: None,
                delay: None,
                cors_origin: None,
            };
            router::finalize(&decision, route, action, &mut flight, &cluster);
            out.request = flight.request;
            let subject = ResponseSubject {
                decision: &decision,
                request: &out.request,
                weighted: flight.weighted.as_ref(),
                status: 0,
                flags: &[],
                details: "",
                upstream: None,
                cluster: &cluster,
                attempts: 1,
            };
            subject.operations(&mut out.response, &mut Ledger::default());
            let weighted = weighted.map(|(place, _)| place);
            out.taken = Taken::Forward { weighted, cluster, route: taken.clone() };
        }
    }
}

/// The weighted cluster of a random value. Envoy: `config_impl.cc: RouteEntryImplBase::pickWeightedCluster`.
fn pick(clusters: &[WeightedCluster], random_value: u64) -> Option<(usize, &WeightedCluster)> {
    let total: u64 = clusters.iter().map(|cluster| u64::from(cluster.weight)).sum();
    let selected = random_value.checked_rem(total)?;
    let mut end = 0;
    clusters.iter().enumerate().find(|(_, cluster)| {
        end += u64::from(cluster.weight);
        selected < end
    })
}

/// A redirect that rewrites the path rewrites the request's. Envoy: `config_impl.cc: RouteEntryImplBase::rewritePathHeader`.
fn rewrite_path(request: &mut HttpRequest, action: &RedirectAction, conditions: &RouteMatch) {
    let new = match &action.path {
        PathRedirect::Keep | PathRedirect::Path(_) => return,
        PathRedirect::PrefixRewrite(prefix) => rewrite::replace_prefix(&request.path, conditions, prefix),
        PathRedirect::RegexRewrite(regex) => rewrite::replace_regex(&request.path, regex),
    };
    let old = headers::literal(std::mem::replace(&mut request.path, new));
    let hand = headers::envoy!("route: the path before a redirect's rewrite");
    headers::set(&mut request.headers, &mut Ledger::default(), "x-envoy-original-path", old, hand);
}

/// Status and framing of a local reply, then the operations of the route.
fn answer(out: &mut Routed, decision: &HttpDecision, status: u16, body: &str) {
    out.response.push((SmolStr::new_static(":status"), status.to_smolstr()));
    if !body.is_empty() {
        out.response.push((SmolStr::new_static("content-length"), body.len().to_smolstr()));
        out.response.push((SmolStr::new_static("content-type"), SmolStr::new_static("text/plain")));
    }
    let subject = ResponseSubject {
        decision,
        request: &out.request,
        weighted: None,
        status,
        flags: &[],
        details: "",
        upstream: None,
        cluster: "",
        attempts: 0,
    };
    subject.operations(&mut out.response, &mut Ledger::default());
}

/// A decision as far as header operations look at it: a plain connection from this machine.
fn decision(configuration: &Arc<RouteConfiguration>, routed: &Routed) -> HttpDecision {
    let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let content_type = headers::joined(&routed.request.headers, "content-type");
    HttpDecision {
        route_configuration: configuration.name.clone(),
        route_configuration_found: Some(Arc::clone(configuration)),
        virtual_host: routed.virtual_host.clone(),
        route: None,
        http_connection_manager: Arc::new(manager(configuration)),
        traffic_direction: TrafficDirection::Outbound,
        downstream: Downstream {
            remote_address: here,
            direct_remote_address: here,
            local_address: here,
            local_port: 0,
            tls: false,
            peer: None,
            sni: SmolStr::default(),
            filter_chain: SmolStr::default(),
            protocol: "HTTP/1.1",
            grpc: content_type.is_some_and(|value| is_grpc(&value)),
            accepted: true,
            grpc_web: None,
            head: routed.request.method == "HEAD",
            body: false,
            close: false,
            decorator: None,
            peer_metadata: (false, false),
            exchanges_metadata: false,
        },
        branches: Vec::new(),
    }
}

fn manager(configuration: &Arc<RouteConfiguration>) -> HttpConnectionManager {
    HttpConnectionManager {
        stat_prefix: SmolStr::default(),
        route_specifier: RouteSpecifier::Inline(Arc::clone(configuration)),
        use_remote_address: false,
        xff_num_trusted_hops: 0,
        skip_xff_append: false,
        internal_addresses: Vec::new(),
        forward_client_cert_details: ForwardClientCertDetails::default(),
        set_current_client_cert_details: SetCurrentClientCertDetails::default(),
        server_name: SmolStr::default(),
        server_header_transformation: ServerHeaderTransformation::default(),
        generate_request_id: false,
        preserve_external_request_id: false,
        always_set_request_id_in_response: false,
        max_request_headers_kb: HttpConnectionManager::MAX_REQUEST_HEADERS_KB,
        normalize_path: false,
        merge_slashes: false,
        path_with_escaped_slashes_action: EscapedSlashes::default(),
        append_x_forwarded_port: false,
        tracing: None,
        suppress_envoy_headers: false,
        accept_http_10: false,
        headers_with_underscores_action: HeadersWithUnderscores::Allow,
        preserve_header_case: false,
        upgrade_types: Vec::new(),
        http_filters: Vec::new(),
        limits: None,
        patches: Vec::new(),
        origin: Origin::default("route table check: a connection manager with Envoy's defaults"),
    }
}
