//! Which of the parents that a route names take it?
//!
//! A parent is a listener of a gateway, or the mesh, for which a Service or a ServiceEntry stands. Invariant: attachments
//! come in istiod's order, by the name of the gateway. istiod: `pilot/pkg/config/kube/gateway/conversion.go:
//! extractParentReferenceInfo, referenceAllowed, filteredReferences`.

use smol_str::{SmolStr, format_smolstr};

use super::super::{MESH_GATEWAY, host};
use super::class::{GATEWAY_CONTROLLER, WAYPOINT_CONTROLLER};
use super::reference::{GATEWAY_API, ParentKind, RouteKind};
use super::{Findings, Refusal, Surroundings};
use crate::manifest::schema::gateway_api::ParentReference;
use crate::manifest::{Resource, Spec};
use crate::origin::{Origin, ResourceId};

/// The label of a Service, ServiceEntry or Namespace whose clients go through a waypoint.
const USE_WAYPOINT: &str = "istio.io/use-waypoint";
/// The namespace of that waypoint, where it is not the own.
const USE_WAYPOINT_NAMESPACE: &str = "istio.io/use-waypoint-namespace";

/// A listener that routes can be attached to.
#[derive(Clone, Debug)]
pub(super) struct Listener {
    /// What owns it: a Gateway or a ListenerSet.
    pub owner: (ParentKind, SmolStr, SmolStr),
    /// The generated Gateway, `namespace/name`.
    pub gateway: SmolStr,
    /// The listener's name.
    pub section: SmolStr,
    /// The port.
    pub port: u32,
    /// The protocol.
    pub protocol: SmolStr,
    /// The hostname as written; empty for all.
    pub hostname: SmolStr,
    /// Hosts as `namespace/host`.
    pub hosts: Vec<SmolStr>,
    /// The kinds of routes that it takes.
    pub kinds: Vec<RouteKind>,
}

/// A parent that took a route.
#[derive(Clone, Debug)]
pub(super) struct Attachment<'a> {
    /// The generated Gateway, or `mesh`.
    pub gateway: SmolStr,
    /// What the route names.
    pub kind: ParentKind,
    /// The reference.
    pub reference: &'a ParentReference,
    /// The listener's hostname; empty for all, and for the mesh.
    pub hostname: SmolStr,
    /// Hostnames of the other listeners of that port and protocol.
    others: Vec<SmolStr>,
}

/// What finding a route's parents depends on.
#[derive(Clone, Copy)]
pub(super) struct Attached<'a> {
    pub resource: ResourceId,
    pub kind: RouteKind,
    pub namespace: &'a SmolStr,
    pub parents: &'a [ParentReference],
    pub hostnames: &'a [SmolStr],
}

/// Why a listener does not take a route; of several, the greatest is told.
/// istiod: `conditions.go: createRouteStatus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Denial {
    /// The route names another port or section.
    NoSuchListener,
    /// None of the route's hostnames is the listener's.
    NoHostname,
    /// The listener takes no routes of that kind.
    Kind,
    /// The listener takes no routes of that namespace.
    Namespace,
}

impl Denial {
    fn text(self, route: &Attached<'_>) -> String {
        match self {
            Self::NoSuchListener => "it has no such listener".to_owned(),
            Self::NoHostname => "none of its listeners has one of the route's hostnames".to_owned(),
            Self::Kind => format!("its listener takes no {}", route.kind.as_str()),
            Self::Namespace => format!("its listener takes no routes of the namespace {}", route.namespace),
        }
    }
}

/// The parents that take a route, in istiod's order; those that do not go to `findings`.
pub(super) fn attachments<'a>(
    route: Attached<'a>,
    listeners: &[Listener],
    around: &Surroundings<'_>,
    findings: &mut Findings,
) -> Vec<Attachment<'a>> {
    let mut out: Vec<(SmolStr, Attachment<'a>)> = Vec::new();
    for (place, reference) in route.parents.iter().enumerate() {
        let mut unattached = |why: String| {
            let at = Origin::field(route.resource, format_smolstr!("spec.parentRefs[{place}]"));
            findings.unattached.push((at, Refusal::new(why)));
        };
        let Some(kind) = ParentKind::of(reference) else { continue };
        let namespace = reference.namespace.as_ref().unwrap_or(route.namespace);
        let order = order(reference, namespace);
        if kind.is_mesh() {
            let Some(parent) = around.mesh_parent(kind, namespace, &reference.name) else {
                unattached(format!("there is no {} {namespace}/{}", kind.as_str(), reference.name));
                continue;
            };
            if !is_behind_foreign_waypoint(parent, around) {
                let attachment = Attachment {
                    gateway: MESH_GATEWAY,
                    kind,
                    reference,
                    hostname: SmolStr::default(),
                    others: Vec::new(),
                };
                out.push((order, attachment));
            }
            continue;
        }
        let owner = (kind, namespace.clone(), reference.name.clone());
        let own: Vec<&Listener> = listeners.iter().filter(|listener| listener.owner == owner).collect();
        let mut denials = Vec::new();
        for (i, listener) in own.iter().enumerate() {
            if let Err(denial) = takes(listener, reference, &route) {
                denials.push(denial);
                continue;
            }
            let rival = |other: &&Listener| {
                other.port == listener.port
                    && other.protocol == listener.protocol
                    && other.hostname != listener.hostname
            };
            let others = own.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, other)| *other);
            let attachment = Attachment {
                gateway: listener.gateway.clone(),
                kind,
                reference,
                hostname: listener.hostname.clone(),
                others: others.filter(rival).map(|other| other.hostname.clone()).collect(),
            };
            out.push((order.clone(), attachment));
        }
        // A Gateway without listeners may belong to another controller.
        if denials.len() == own.len()
            && let Some(denial) = denials.into_iter().max()
        {
            unattached(denial.text(&route));
        }
    }
    out.sort_by(|a, b| a.0.cmp(&b.0));
    out.sort_by(|a, b| a.1.gateway.cmp(&b.1.gateway));
    out.into_iter().map(|(_, attachment)| attachment).collect()
}

/// The text that istiod sorts references by. istiod: `conversion.go: parentRefString`.
fn order(reference: &ParentReference, namespace: &str) -> SmolStr {
    format_smolstr!(
        "{}/{}/{}/{}/{}.{namespace}",
        reference.group.as_deref().unwrap_or(GATEWAY_API),
        reference.kind.as_deref().unwrap_or("Gateway"),
        reference.name,
        reference.section_name.as_deref().unwrap_or_default(),
        reference.port.unwrap_or_default()
    )
}

/// Whether a listener takes a route: by port, section, hostnames and namespace, and kind.
fn takes(listener: &Listener, reference: &ParentReference, route: &Attached<'_>) -> Result<(), Denial> {
    let port = reference.port.unwrap_or_default();
    let section = reference.section_name.as_deref().unwrap_or_default();
    if (port != 0 && port != listener.port) || (!section.is_empty() && section != listener.section) {
        return Err(Denial::NoSuchListener);
    }
    let everything = [SmolStr::new_static("*")];
    let hostnames = if route.hostnames.is_empty() { &everything } else { route.hostnames };
    let mut denial = Some(Denial::NoHostname).filter(|_| !listener.hosts.is_empty());
    for name in hostnames {
        for entry in &listener.hosts {
            let (namespace, own) = entry.split_once('/').unwrap_or(("*", entry));
            if !host::matches(own, name) {
                continue;
            }
            if namespace == "*" || namespace == route.namespace {
                denial = None;
                break;
            }
            denial = denial.map(|_| Denial::Namespace);
        }
    }
    match denial {
        Some(denial) => Err(denial),
        None if listener.kinds.contains(&route.kind) => Ok(()),
        None => Err(Denial::Kind),
    }
}

/// Whether the waypoint of a Service or ServiceEntry belongs to another controller, which then acts on its routes.
/// istiod: `conversion.go: waypointManagedByAnotherController`.
fn is_behind_foreign_waypoint(parent: &Resource, around: &Surroundings<'_>) -> bool {
    let own = &parent.meta.labels;
    let labels = if own.contains_key(USE_WAYPOINT) {
        own
    } else {
        let Some(labels) = around.namespaces.get(&parent.meta.namespace) else { return false };
        labels
    };
    let name = labels.get(USE_WAYPOINT).map_or("", SmolStr::as_str);
    if name.is_empty() || name.eq_ignore_ascii_case("none") {
        return false;
    }
    let namespace = labels.get(USE_WAYPOINT_NAMESPACE).filter(|namespace| !namespace.is_empty());
    let mut gateways =
        around.policies.kubernetes_gateways.in_namespace(namespace.unwrap_or(&parent.meta.namespace));
    let Some(waypoint) = gateways.find(|gateway| gateway.name == name) else { return false };
    let class = around.policies.gateway_classes.iter().find(|c| c.name == waypoint.spec.gateway_class_name);
    class.is_some_and(|class| {
        !matches!(class.spec.controller_name.as_str(), WAYPOINT_CONTROLLER | GATEWAY_CONTROLLER)
    })
}

impl Attachment<'_> {
    /// The hosts that a route of `namespace` with these `hostnames` is for. istiod: `route_collections.go:
    /// HTTPRouteCollection, TCPRouteCollection`.
    pub(super) fn hosts(
        &self,
        namespace: &SmolStr,
        hostnames: &[SmolStr],
        around: &Surroundings<'_>,
    ) -> Vec<SmolStr> {
        let parent = self.reference.namespace.as_ref().unwrap_or(namespace);
        let name = &self.reference.name;
        match self.kind {
            ParentKind::Service => vec![format_smolstr!("{name}.{parent}.svc.{}", around.cluster_domain)],
            ParentKind::ServiceEntry => match around.mesh_parent(self.kind, parent, name).map(|r| &r.spec) {
                Some(Spec::ServiceEntry(entry)) => entry.hosts.clone(),
                _ => Vec::new(),
            },
            ParentKind::Gateway | ParentKind::ListenerSet if hostnames.is_empty() => {
                vec![SmolStr::new_static("*")]
            }
            ParentKind::Gateway | ParentKind::ListenerSet => hostnames.to_vec(),
        }
    }

    /// Whether a host of the route stays with this listener, and does not belong to a more exact one.
    /// istiod: `conversion.go: hostnameAllowedByIsolation`.
    pub(super) fn keeps(&self, name: &str) -> bool {
        let own = &self.hostname;
        if !own.is_empty() && !host::is_wildcard(own) {
            return true;
        }
        if !own.is_empty() && !host::matches(name, own) {
            return false;
        }
        !self.others.iter().any(|other| own.len() <= other.len() && host::subset_of(name, other))
    }
}
