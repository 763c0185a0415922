//! Which servers do the listeners of Gateways and ListenerSets become?
//!
//! Each listener becomes a Gateway of its own with one server, so that routes can be attached to it alone. Invariant:
//! routes attach to every listener that did not lose to another; only those that are valid are opened. istiod:
//! `pilot/pkg/config/kube/gateway/gateway_collection.go: GatewayCollection, ListenerSetCollection`; `conversion.go:
//! buildListener, listenerProtocolToIstio, buildHostnameMatch, namespacesFromSelector`.

use std::sync::Arc;

use indexmap::IndexMap;
use smol_str::{SmolStr, format_smolstr};

use super::super::gateway::{Gateway, GatewaySelector, Server, sanitize_hosts};
use super::super::policy::{Config, selector_matches};
use super::super::{Generator, Policies, Protocol};
use super::parent::Listener;
use super::reference::{GATEWAY_API, ParentKind, RouteKind};
use super::{GENERATED, Namespaces, Refusal, Surroundings, class, conflict, tls};
use crate::manifest::Timestamp;
use crate::manifest::schema::gateway_api as schema;
use crate::manifest::schema::gateway_api::{AllowedRoutes, GatewaySpec, ListenerSetSpec, RouteNamespaces};
use crate::manifest::schema::kubernetes::Selector;
use crate::origin::{Origin, ResourceId};

/// A Gateway or ListenerSet.
pub(super) struct Owner<'a> {
    pub kind: ParentKind,
    pub name: &'a SmolStr,
    pub namespace: &'a SmolStr,
    pub labels: &'a IndexMap<SmolStr, SmolStr>,
    creation: &'a Option<Timestamp>,
    resource: ResourceId,
}

impl<'a> Owner<'a> {
    fn new<T>(kind: ParentKind, object: &'a Config<T>) -> Self {
        let Config { name, namespace, labels, creation, resource, .. } = object;
        Self { kind, name, namespace, labels, creation, resource: *resource }
    }
}

/// What all listeners of all Gateways become.
#[derive(Default)]
pub(super) struct Listeners {
    /// The Gateways that are opened.
    pub gateways: Vec<Gateway>,
    /// The listeners that routes attach to.
    pub listeners: Vec<Listener>,
    /// Listeners that istiod does not open, and why.
    pub closed: Vec<(Origin, Refusal)>,
}

/// Translates the listeners of all Gateways that istiod serves.
pub(super) fn all(around: &Surroundings<'_>) -> Listeners {
    let mut out = Listeners::default();
    for gateway in around.policies.kubernetes_gateways.iter() {
        if class::is_served(&gateway.spec.gateway_class_name, around.policies) {
            of_gateway(gateway, around, &mut out);
        }
    }
    out
}

/// A listener with its owner, its place there, and its port.
struct Placed<'a> {
    owner: usize,
    index: usize,
    listener: &'a schema::Listener,
    port: u32,
}

fn of_gateway(gateway: &Config<GatewaySpec>, around: &Surroundings<'_>, out: &mut Listeners) {
    let sets = listener_sets(gateway, around.policies, around.namespaces);
    let mut owners = vec![Owner::new(ParentKind::Gateway, gateway)];
    owners.extend(sets.iter().map(|set| Owner::new(ParentKind::ListenerSet, set)));
    let lists = std::iter::once(&gateway.spec.listeners).chain(sets.iter().map(|set| &set.spec.listeners));
    let placed: Vec<Placed<'_>> = lists
        .enumerate()
        .flat_map(|(owner, list)| {
            list.iter().enumerate().map(move |(index, listener)| {
                let port = if owner == 0 { listener.port } else { port_of_entry(listener) };
                Placed { owner, index, listener, port }
            })
        })
        .collect();
    let losers = conflict::losers(placed.iter().map(|placed| (placed.listener, placed.port)));
    let Some(services) = class::services(gateway, around) else {
        let at = Origin::field(gateway.resource, "spec.addresses");
        out.closed.push((at, Refusal::new("istiod takes only addresses of type Hostname")));
        return;
    };
    for (Placed { owner, index, listener, port }, loses) in placed.iter().zip(losers) {
        let Some(owner) = owners.get(*owner) else { continue };
        let at = Origin::field(owner.resource, format_smolstr!("spec.listeners[{index}]"));
        if loses {
            out.closed.push((at, Refusal::new("another listener of its port has its hostname or protocol")));
            continue;
        }
        let (server, fault) = server(owner, gateway, listener, *port, at.clone(), around);
        let valid = fault.is_none();
        out.closed.extend(fault.map(|fault| (at, fault)));
        // A ListenerSet's listener that is not valid takes no routes either.
        let Some(server) = server.filter(|_| valid || owner.kind == ParentKind::Gateway) else { continue };
        let name = format_smolstr!("{}~{GENERATED}~{}", owner.name, listener.name);
        let full_name = format_smolstr!("{}/{name}", owner.namespace);
        out.listeners.push(Listener {
            owner: (owner.kind, owner.namespace.clone(), owner.name.clone()),
            gateway: full_name.clone(),
            section: listener.name.clone(),
            port: *port,
            protocol: listener.protocol.clone(),
            hostname: listener.hostname.clone().unwrap_or_default(),
            hosts: server.hosts.clone(),
            kinds: kinds(listener, around),
        });
        if valid {
            out.gateways.push(Gateway {
                name,
                namespace: owner.namespace.clone(),
                full_name,
                selector: GatewaySelector::Services {
                    hosts: services.clone(),
                    namespace: gateway.namespace.clone(),
                },
                servers: vec![Arc::new(server)],
                generator: Generator::GatewayApi,
                managed: class::has_service_account(gateway),
                creation: owner.creation.clone(),
                resource: owner.resource,
            });
        }
    }
}

/// The ListenerSets that a Gateway admits, oldest first, then by namespace and name.
pub(super) fn listener_sets<'a>(
    gateway: &Config<GatewaySpec>,
    policies: &'a Policies,
    namespaces: &Namespaces,
) -> Vec<&'a Arc<Config<ListenerSetSpec>>> {
    let mut out: Vec<_> = policies
        .listener_sets
        .iter()
        .filter(|set| {
            let Some(parent) = &set.spec.parent_ref else { return false };
            ParentKind::of(parent) == Some(ParentKind::Gateway)
                && parent.name == gateway.name
                && *parent.namespace.as_ref().unwrap_or(&set.namespace) == gateway.namespace
                && admits(gateway, &set.namespace, namespaces)
        })
        .collect();
    out.sort_by_cached_key(|set| (set.creation.clone(), format_smolstr!("{}/{}", set.namespace, set.name)));
    out
}

/// Whether a Gateway takes ListenerSets of a namespace; by default it takes none.
/// istiod: `gateway_utils.go: NamespaceAcceptedByAllowListeners`.
fn admits(gateway: &Config<GatewaySpec>, namespace: &SmolStr, namespaces: &Namespaces) -> bool {
    let allowed = gateway.spec.allowed_listeners.as_ref().and_then(|allowed| allowed.namespaces.as_ref());
    let Some(RouteNamespaces { from, selector }) = allowed else { return false };
    match from.as_deref() {
        Some("All") => true,
        Some("Same") => *namespace == gateway.namespace,
        None | Some("Selector") => {
            selector.as_ref().is_some_and(|selector| is_chosen(selector, namespace, namespaces))
        }
        Some(_) => false,
    }
}

/// Whether a selector chooses a namespace.
fn is_chosen(selector: &Selector, namespace: &SmolStr, namespaces: &Namespaces) -> bool {
    namespaces.get(namespace).is_some_and(|labels| selector_matches(selector, labels) == Some(true))
}

/// The port of a ListenerSet's listener. istiod: `gateway_utils.go: ListenerEntryPortNumber`.
fn port_of_entry(listener: &schema::Listener) -> u32 {
    match (listener.port, listener.protocol.as_str()) {
        (0, "HTTP") => 80,
        (0, "HTTPS") => 443,
        (port, _) => port,
    }
}

/// The server of a listener, and why it is not opened.
fn server(
    owner: &Owner<'_>,
    gateway: &Config<GatewaySpec>,
    listener: &schema::Listener,
    port: u32,
    origin: Origin,
    around: &Surroundings<'_>,
) -> (Option<Server>, Option<Refusal>) {
    let protocol = listener.protocol.as_str();
    let (tls, mut fault) = tls::settings(owner, gateway.spec.tls.as_ref(), listener, port, around);
    if !matches!(protocol, "HTTP" | "HTTPS" | "TLS" | "TCP") {
        fault = Some(Refusal::new(format!("istiod has no listeners of the protocol \"{protocol}\"")));
    }
    if port == 0 {
        fault = Some(Refusal::new(format!("a listener of the protocol {protocol} needs a port")));
    }
    if tls.is_none() && matches!(protocol, "HTTPS" | "TLS") {
        return (None, Some(Refusal::new(format!("a listener of the protocol {protocol} needs `tls`"))));
    }
    let Ok(number) = u16::try_from(port) else { return (None, fault) };
    let hosts = hosts(owner.namespace, listener, around);
    let server = Server {
        name: SmolStr::default(),
        number,
        port_name: SmolStr::new_static("default"),
        protocol_name: listener.protocol.clone(),
        protocol: Protocol::parse(protocol),
        bind: SmolStr::default(),
        hosts: sanitize_hosts(&hosts, owner.namespace),
        tls,
        origin,
    };
    (Some(server), fault)
}

/// The hosts of a listener, as `namespace/host` for each namespace whose routes may attach.
fn hosts(namespace: &SmolStr, listener: &schema::Listener, around: &Surroundings<'_>) -> Vec<SmolStr> {
    let name = listener.hostname.as_deref().unwrap_or("*");
    let allowed = listener.allowed_routes.as_ref().and_then(|allowed| allowed.namespaces.as_ref());
    let namespaces = match allowed {
        None => vec![namespace.clone()],
        Some(RouteNamespaces { from, selector }) => match (from.as_deref(), selector) {
            (None | Some("Same"), _) => vec![namespace.clone()],
            (Some("All"), _) | (_, None) => vec![SmolStr::new_static("*")],
            (_, Some(selector)) => {
                let chosen = |name: &&SmolStr| is_chosen(selector, name, around.namespaces);
                let mut out: Vec<SmolStr> = around.namespaces.keys().filter(chosen).cloned().collect();
                out.sort();
                out
            }
        },
    };
    let out: Vec<SmolStr> =
        namespaces.iter().map(|namespace| format_smolstr!("{namespace}/{name}")).collect();
    // A namespace that does not exist: the server is there, but nothing is routed.
    if out.is_empty() { vec![format_smolstr!("~/{name}")] } else { out }
}

/// The kinds of routes that a listener takes. istiod: `gatewaycommon/conversion.go: GenerateGatewaySupportedKinds`.
fn kinds(listener: &schema::Listener, around: &Surroundings<'_>) -> Vec<RouteKind> {
    let terminates = listener
        .tls
        .as_ref()
        .is_some_and(|tls| tls.mode.as_deref().map_or(around.api_defaults, |mode| mode == "Terminate"));
    let mut out = match listener.protocol.as_str() {
        "HTTP" | "HTTPS" => vec![RouteKind::Http, RouteKind::Grpc],
        "TCP" => vec![RouteKind::Tcp],
        "TLS" if terminates => vec![RouteKind::Tls, RouteKind::Tcp],
        "TLS" => vec![RouteKind::Tls],
        _ => Vec::new(),
    };
    if let Some(AllowedRoutes { kinds, .. }) = &listener.allowed_routes
        && !kinds.is_empty()
    {
        out.retain(|kind| {
            kinds.iter().any(|allowed| {
                allowed.kind == kind.as_str()
                    && allowed.group.as_deref().unwrap_or(GATEWAY_API) == GATEWAY_API
            })
        });
    }
    out
}
