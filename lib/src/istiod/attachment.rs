//! Which resources stand between a workload's listeners and its routes?
//!
//! Policies and extensions that hold for a proxy, as filters. What is not modelled becomes an opaque filter
//! with its origin, so that nothing behind it is guessed. Invariant: filters stand in istiod's order.
//! istiod: `listener_builder.go: buildHTTPConnectionManager`; `networkfilter.go: buildCompleteNetworkFilters`;
//! `policyattachment.go: ShouldAttachPolicy`.

use std::sync::Arc;

use smol_str::SmolStr;

use super::authorization::{self, Built, ChainKind};
use super::connection_manager::ListenerClass;
use super::node::Node;
use super::proxy::Proxy;
use crate::envoy::config::{AccessFilter, HttpFilter, HttpRbac, NetworkRbac, RbacAction};
use crate::manifest::schema::istio::{
    AuthorizationAction, ExecutionPhase, PluginType, PolicyTargetReference, TrafficMode, TrafficSelector,
    WorkloadSelector,
};
use crate::mesh::{Config, Configs, Mesh, selects};
use crate::origin::Origin;

/// The label of the proxies of a Gateway API gateway.
const GATEWAY_NAME_LABEL: &str = "gateway.networking.k8s.io/gateway-name";

/// A filter whose effect is not modelled.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Opaque {
    name: SmolStr,
    origin: Origin,
}

impl Opaque {
    fn new(name: &'static str, origin: Origin) -> Self {
        Self { name: SmolStr::new_static(name), origin }
    }

    fn http(&self) -> HttpFilter {
        HttpFilter::Opaque { name: self.name.clone(), origin: self.origin.clone() }
    }

    fn network(&self) -> AccessFilter {
        AccessFilter::Opaque { name: self.name.clone(), origin: self.origin.clone() }
    }
}

/// The filters that listeners have besides Istio's own, in istiod's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attached {
    custom: Vec<Opaque>,
    tokens: Vec<Opaque>,
    http_authorization: Vec<Arc<HttpRbac>>,
    tcp_authorization: Vec<Arc<NetworkRbac>>,
    extensions: Vec<Extension>,
}

/// A WasmPlugin or TrafficExtension.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Extension {
    phase: ExecutionPhase,
    network: bool,
    /// Ports that it is for; `None` for any.
    ports: Option<Vec<u32>>,
    filter: Opaque,
}

impl Extension {
    /// An extension as far as it holds for listeners of a class; `None` when it does not.
    ///
    /// istiod: `extensions.go: matchTrafficSelectorCommon, matchMode, matchPorts`.
    fn new(
        class: ListenerClass,
        phase: ExecutionPhase,
        network: bool,
        selectors: &[TrafficSelector],
        filter: Opaque,
    ) -> Option<Self> {
        let mut chosen = selectors
            .iter()
            .filter(|selector| match selector.mode {
                TrafficMode::Undefined | TrafficMode::ClientAndServer => true,
                TrafficMode::Client => class == ListenerClass::SidecarOutbound,
                TrafficMode::Server => class != ListenerClass::SidecarOutbound,
            })
            .peekable();
        if !selectors.is_empty() && chosen.peek().is_none() {
            return None;
        }
        let any = selectors.is_empty() || chosen.clone().any(|selector| selector.ports.is_empty());
        let ports = || chosen.flat_map(|selector| &selector.ports).map(|port| port.number).collect();
        Some(Self { phase, network, ports: (!any).then(ports), filter })
    }

    fn is_for(&self, port: u16) -> bool {
        self.ports.as_ref().is_none_or(|ports| ports.contains(&u32::from(port)))
    }
}

impl Attached {
    /// The filters of a proxy's listeners of a class: policies hold for traffic to a workload, extensions for any.
    pub fn new(proxy: &Proxy, class: ListenerClass) -> Self {
        let (mesh, node) = (proxy.mesh(), proxy.node());
        let mut out = Self { extensions: extensions(mesh, node, class), ..Self::default() };
        if class != ListenerClass::SidecarOutbound {
            out.add_policies(mesh, node);
        }
        out
    }

    fn add_policies(&mut self, mesh: &Mesh, node: &Node) {
        let policies = mesh.policies();
        let authorization: Vec<_> = selecting(mesh, node, &policies.authorization_policies, |p| {
            (p.selector.as_ref(), p.target_ref.as_ref(), &p.target_refs)
        })
        .collect();
        for (written, action) in [
            (AuthorizationAction::Audit, RbacAction::Log),
            (AuthorizationAction::Deny, RbacAction::Deny),
            (AuthorizationAction::Allow, RbacAction::Allow),
        ] {
            let of_action = || authorization.iter().copied().filter(|policy| policy.spec.action == written);
            if of_action().next().is_none() {
                continue;
            }
            let Built { enforced: policies, shadow } =
                authorization::build(mesh, of_action(), action, ChainKind::Http);
            self.http_authorization.push(Arc::new(HttpRbac { action, policies, shadow }));
            let Built { enforced: policies, shadow } =
                authorization::build(mesh, of_action(), action, ChainKind::Tcp);
            self.tcp_authorization.push(Arc::new(NetworkRbac { action, policies, shadow }));
        }
        self.custom.extend(
            authorization
                .iter()
                .filter(|policy| policy.spec.action == AuthorizationAction::Custom)
                .map(|policy| Opaque::new("envoy.filters.http.ext_authz", policy.origin("spec.provider"))),
        );
        let tokens = selecting(mesh, node, &policies.request_authentications, |p| {
            (p.selector.as_ref(), p.target_ref.as_ref(), &p.target_refs)
        });
        self.tokens.extend(
            tokens
                .filter(|policy| !policy.spec.jwt_rules.is_empty())
                .map(|policy| Opaque::new("envoy.filters.http.jwt_authn", policy.origin("spec.jwtRules"))),
        );
    }

    fn extensions_of(
        &self,
        phase: ExecutionPhase,
        network: bool,
        port: u16,
    ) -> impl Iterator<Item = &Opaque> {
        let wanted = move |own: &&Extension| own.phase == phase && own.network == network && own.is_for(port);
        self.extensions.iter().filter(wanted).map(|own| &own.filter)
    }

    /// The filters of an HTTP chain, between metadata exchange and the rest; extensions may be for some ports only.
    pub fn http_filters(&self, port: u16) -> Vec<HttpFilter> {
        let plugins = |phase| self.extensions_of(phase, false, port);
        let front = self
            .custom
            .iter()
            .chain(plugins(ExecutionPhase::Authn))
            .chain(&self.tokens)
            .chain(plugins(ExecutionPhase::Authz));
        let back = plugins(ExecutionPhase::Stats).chain(plugins(ExecutionPhase::Unspecified));
        front
            .map(Opaque::http)
            .chain(self.http_authorization.iter().cloned().map(HttpFilter::Rbac))
            .chain(back.map(Opaque::http))
            .collect()
    }

    /// The filters of a TCP chain in front of the proxy.
    pub fn access_filters(&self, port: u16) -> Vec<AccessFilter> {
        let plugins = |phase| self.extensions_of(phase, true, port);
        let front =
            self.custom.iter().chain(plugins(ExecutionPhase::Authn)).chain(plugins(ExecutionPhase::Authz));
        let back = plugins(ExecutionPhase::Stats).chain(plugins(ExecutionPhase::Unspecified));
        front
            .map(Opaque::network)
            .chain(self.tcp_authorization.iter().cloned().map(AccessFilter::Rbac))
            .chain(back.map(Opaque::network))
            .collect()
    }

    /// The network filters in front of an HTTP chain's connection manager: extensions only, no authorization.
    pub fn network_extensions(&self, port: u16) -> Vec<AccessFilter> {
        [ExecutionPhase::Authn, ExecutionPhase::Authz, ExecutionPhase::Stats, ExecutionPhase::Unspecified]
            .into_iter()
            .flat_map(|phase| self.extensions_of(phase, true, port))
            .map(Opaque::network)
            .collect()
    }
}

/// The extensions of listeners of a class, in istiod's order: the proxy's namespace before the root's, the highest
/// priority first. istiod: `push_context.go: TrafficExtensionsByListenerInfo, sortByPriority`; `translate.go:
/// translateWasmPlugin`.
fn extensions(mesh: &Mesh, node: &Node, class: ListenerClass) -> Vec<Extension> {
    let policies = mesh.policies();
    let plugins = selecting(mesh, node, &policies.wasm_plugins, |plugin| {
        (plugin.selector.as_ref(), plugin.target_ref.as_ref(), &plugin.target_refs)
    });
    let plugins = plugins.filter_map(|plugin| {
        let spec = &plugin.spec;
        let filter = Opaque::new("envoy.filters.http.wasm", plugin.origin("spec.url"));
        let network = spec.type_ == PluginType::Network;
        let extension = Extension::new(class, spec.phase.into(), network, &spec.match_, filter)?;
        Some((plugin.namespace.as_str(), spec.priority, extension))
    });
    let written = selecting(mesh, node, &policies.traffic_extensions, |extension| {
        (extension.selector.as_ref(), None, &extension.target_refs)
    });
    let written = written.filter_map(|extension| {
        let spec = &extension.spec;
        let (name, field, network) = match &spec.wasm {
            Some(wasm) => ("envoy.filters.http.wasm", "spec.wasm", wasm.type_ == PluginType::Network),
            None => ("envoy.filters.http.lua", "spec.lua", false),
        };
        let filter = Opaque::new(name, extension.origin(field));
        let own = Extension::new(class, spec.phase, network, &spec.match_, filter)?;
        Some((extension.namespace.as_str(), spec.priority, own))
    });
    let mut all: Vec<_> = plugins.chain(written).collect();
    all.sort_by_key(|(namespace, priority, _)| {
        (std::cmp::Reverse(priority.unwrap_or(i32::MIN)), *namespace != node.namespace)
    });
    all.into_iter().map(|(_, _, extension)| extension).collect()
}

/// The namespaces whose policies can hold for a workload.
pub(super) fn namespaces<'a>(mesh: &'a Mesh, node: &'a Node) -> impl Iterator<Item = &'a str> + use<'a> {
    let root = mesh.config().root_namespace.as_str();
    [root].into_iter().chain(Some(node.namespace.as_str()).filter(move |own| *own != root))
}

/// What a policy is for: its selector, its single target, its targets.
pub type Selector<'a> =
    (Option<&'a WorkloadSelector>, Option<&'a PolicyTargetReference>, &'a [PolicyTargetReference]);

/// The policies that hold for a proxy.
fn selecting<'a, T>(
    mesh: &'a Mesh,
    node: &'a Node,
    policies: &'a Configs<T>,
    selector: impl Fn(&'a T) -> Selector<'a> + 'a,
) -> impl Iterator<Item = &'a Arc<Config<T>>> {
    namespaces(mesh, node)
        .flat_map(|namespace| policies.in_namespace(namespace))
        .filter(move |policy| holds_for(node, &policy.namespace, selector(&policy.spec)))
}

/// Whether a policy of `namespace` is for a proxy: by its labels, or by the gateway that it belongs to.
///
/// Policies with a target are for gateways of the Gateway API (and for waypoints) only.
pub fn holds_for(node: &Node, namespace: &str, (selector, target, targets): Selector<'_>) -> bool {
    let targets = if targets.is_empty() { target.map_or(&[][..], std::slice::from_ref) } else { targets };
    if !targets.is_empty() {
        return node.labels.get(GATEWAY_NAME_LABEL).is_some_and(|name| {
            namespace == node.namespace
                && targets.iter().any(|target| {
                    target.group == "gateway.networking.k8s.io"
                        && target.kind == "Gateway"
                        && target.name == *name
                        && (target.namespace.is_empty() || target.namespace == node.namespace)
                })
        });
    }
    selector.is_none_or(|selector| selects(&selector.match_labels, &node.labels))
}
