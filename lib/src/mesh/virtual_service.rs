//! Which routes are written, with their names completed and their delegates merged?
//!
//! istiod: `pilot/pkg/model/virtualservice.go: ResolveVirtualServiceShortnames`, `virtualservice_controller.go`.

use std::sync::Arc;

use smol_str::{SmolStr, format_smolstr};

use super::host::{resolve_gateway_name, resolve_short_name};
use super::visibility::ExportTo;
use crate::manifest::schema::istio as schema;
use crate::manifest::schema::istio::{Destination, HttpRoute, RouteDestination, TcpRoute, TlsRoute};
use crate::manifest::{Resource, Timestamp};
use crate::origin::{Origin, ResourceId};

/// Whose rules a VirtualService follows: `gateway` or `ingress` on those that istiod makes.
const ROUTE_SEMANTICS: &str = "internal.istio.io/route-semantics";
/// The resources that a generated VirtualService was made from.
const PARENTS: &str = "internal.istio.io/parents";
/// The gateway name that means every sidecar.
pub const MESH_GATEWAY: SmolStr = SmolStr::new_static("mesh");

/// Who wrote a VirtualService.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Generator {
    /// A user.
    #[default]
    User,
    /// istiod, from an Ingress.
    Ingress,
    /// istiod, from a Gateway API route.
    GatewayApi,
}

/// An HTTP rule and where it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpRule {
    /// The rule.
    pub route: HttpRoute,
    /// Where it is written; for a delegate's rule, in the delegate.
    pub origin: Origin,
    /// Where each match is written.
    pub match_origins: Vec<Origin>,
    /// Where fields are written, by their paths in a VirtualService's rule, if the resource that the rule comes from has
    /// them elsewhere.
    pub places: Vec<(SmolStr, Origin)>,
}

impl HttpRule {
    /// Where a field is written, by its path in a VirtualService's rule.
    pub fn place(&self, field: &str) -> Origin {
        let place = self.places.iter().find(|(name, _)| name == field);
        place.map_or_else(|| self.origin.part(field), |(_, origin)| origin.clone())
    }
}

/// A TCP or TLS rule and where it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule<T> {
    /// The rule.
    pub route: T,
    /// Where it is written.
    pub origin: Origin,
}

/// A VirtualService as istiod uses it.
#[derive(Clone, Debug, PartialEq)]
pub struct VirtualService {
    /// The name.
    pub name: SmolStr,
    /// The namespace.
    pub namespace: SmolStr,
    /// Hosts, completed.
    pub hosts: Vec<SmolStr>,
    /// Gateways as `namespace/name`, or `mesh`; never empty.
    pub gateways: Vec<SmolStr>,
    /// HTTP rules, delegates merged.
    pub http: Vec<HttpRule>,
    /// TLS rules.
    pub tls: Vec<Rule<TlsRoute>>,
    /// TCP rules.
    pub tcp: Vec<Rule<TcpRoute>>,
    /// Who sees it.
    pub export_to: ExportTo,
    /// When it was created.
    pub creation: Option<Timestamp>,
    /// Who wrote it.
    pub generator: Generator,
    /// Whether it stands for a TLSRoute, whose rules also hold where TLS ends.
    pub from_tls_route: bool,
    /// The resource.
    pub resource: ResourceId,
}

impl VirtualService {
    /// Whether it is bound to `gateway`.
    pub fn is_bound_to(&self, gateway: &str) -> bool {
        self.gateways.iter().any(|g| g == gateway)
    }

    /// Everything it sends to, mirrors included.
    pub fn destinations(&self) -> impl Iterator<Item = &Destination> {
        let http = self.http.iter().flat_map(|rule| http_destinations(&rule.route));
        let tcp = self.tcp.iter().flat_map(|rule| &rule.route.route);
        let tls = self.tls.iter().flat_map(|rule| &rule.route.route);
        http.chain(tcp.chain(tls).filter_map(|route| route.destination.as_ref()))
    }

    /// An origin at `path` of the resource.
    pub fn origin(&self, path: impl Into<SmolStr>) -> Origin {
        Origin::field(self.resource, path)
    }
}

/// Everything that an HTTP rule sends to, mirrors included.
pub fn http_destinations(rule: &HttpRoute) -> impl Iterator<Item = &Destination> {
    let routes = rule.route.iter().filter_map(|route| route.destination.as_ref());
    let mirrors = rule.mirrors.iter().filter_map(|mirror| mirror.destination.as_ref());
    routes.chain(&rule.mirror).chain(mirrors)
}

/// What completing names depends on.
#[derive(Clone, Copy)]
pub(crate) struct Naming<'a> {
    pub domain: &'a str,
    pub export_to: &'a [SmolStr],
}

/// Completes the names of a VirtualService, in its own namespace.
pub(crate) fn from_resource(
    resource: &Resource,
    spec: &schema::VirtualService,
    naming: Naming<'_>,
) -> VirtualService {
    let namespace = &resource.meta.namespace;
    let annotation = |name: &str| resource.meta.annotations.get(name).map_or("", SmolStr::as_str);
    let generator = match annotation(ROUTE_SEMANTICS) {
        "gateway" => Generator::GatewayApi,
        "ingress" => Generator::Ingress,
        _ => Generator::User,
    };
    // Names that the Gateway API's translation writes are complete. istiod: `virtualservice_controller.go`.
    let complete = generator == Generator::GatewayApi;
    let short = |h: &SmolStr| {
        if complete { h.clone() } else { resolve_short_name(h, namespace, naming.domain) }
    };
    let gateways = |list: &[SmolStr]| -> Vec<SmolStr> {
        let resolved = |g: &SmolStr| {
            if complete || *g == MESH_GATEWAY { g.clone() } else { resolve_gateway_name(g, namespace) }
        };
        list.iter().map(resolved).collect()
    };
    let destination = |d: &mut Option<Destination>| {
        if let Some(d) = d {
            d.host = short(&d.host);
        }
    };
    let destinations =
        |list: &mut Vec<RouteDestination>| list.iter_mut().for_each(|r| destination(&mut r.destination));
    let http = spec
        .http
        .iter()
        .enumerate()
        .map(|(i, rule)| {
            let mut route = rule.clone();
            for m in &mut route.match_ {
                m.gateways = gateways(&m.gateways);
            }
            route.route.iter_mut().for_each(|r| destination(&mut r.destination));
            destination(&mut route.mirror);
            route.mirrors.iter_mut().for_each(|m| destination(&mut m.destination));
            let match_origins = (0..route.match_.len())
                .map(|m| resource.origin(format_smolstr!("spec.http[{i}].match[{m}]")))
                .collect();
            let origin = resource.origin(format_smolstr!("spec.http[{i}]"));
            HttpRule { route, origin, match_origins, places: Vec::new() }
        })
        .collect();
    let tls = spec
        .tls
        .iter()
        .enumerate()
        .map(|(i, rule)| {
            let mut route = rule.clone();
            for m in &mut route.match_ {
                m.gateways = gateways(&m.gateways);
            }
            destinations(&mut route.route);
            Rule { route, origin: resource.origin(format_smolstr!("spec.tls[{i}]")) }
        })
        .collect();
    let tcp = spec
        .tcp
        .iter()
        .enumerate()
        .map(|(i, rule)| {
            let mut route = rule.clone();
            for m in &mut route.match_ {
                m.gateways = gateways(&m.gateways);
            }
            destinations(&mut route.route);
            Rule { route, origin: resource.origin(format_smolstr!("spec.tcp[{i}]")) }
        })
        .collect();
    let mut bound = gateways(&spec.gateways);
    if bound.is_empty() {
        bound.push(MESH_GATEWAY);
    }
    VirtualService {
        name: resource.meta.name.clone(),
        namespace: namespace.clone(),
        hosts: spec.hosts.iter().map(short).collect(),
        gateways: bound,
        http,
        tls,
        tcp,
        export_to: ExportTo::new(&spec.export_to, naming.export_to, namespace),
        creation: resource.meta.creation_timestamp.clone(),
        generator,
        from_tls_route: annotation(PARENTS).starts_with("TLSRoute/"),
        resource: resource.id,
    }
}

/// Replaces rules that delegate by the delegate's; VirtualServices without hosts are delegates and stand for nothing else.
pub(crate) fn merge_delegates(all: Vec<VirtualService>) -> Vec<Arc<VirtualService>> {
    let (delegates, roots): (Vec<_>, Vec<_>) = all.into_iter().partition(|v| v.hosts.is_empty());
    roots
        .into_iter()
        .map(|mut root| {
            if root.http.iter().any(|rule| rule.route.delegate.is_some()) {
                let rules = std::mem::take(&mut root.http);
                for rule in rules {
                    let Some(reference) = &rule.route.delegate else {
                        root.http.push(rule);
                        continue;
                    };
                    let namespace =
                        if reference.namespace.is_empty() { &root.namespace } else { &reference.namespace };
                    let found =
                        delegates.iter().find(|d| d.name == reference.name && d.namespace == *namespace);
                    if let Some(delegate) = found.filter(|d| d.export_to.is_visible_in(&root.namespace)) {
                        root.http.extend(super::delegate::merge_rules(&rule, &delegate.http));
                    }
                }
            }
            Arc::new(root)
        })
        .collect()
}
