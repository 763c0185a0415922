//! Which resources stand between a workload's listeners and its routes?
//!
//! Policies and extensions that hold for a proxy, as filters. What is not modelled becomes an opaque filter
//! with its origin, so that nothing behind it is guessed. Invariant: filters stand in istiod's order.
//! istiod: `listener_builder.go: buildHTTPConnectionManager`; `networkfilter.go: buildCompleteNetworkFilters`;
//! `policyattachment.go: ShouldAttachPolicy`.

use std::sync::Arc;

use smol_str::SmolStr;

use super::authorization::{self, ChainKind};
use super::node::Node;
use super::proxy::Proxy;
use crate::envoy::config::{AccessFilter, HttpFilter, HttpRbac, NetworkRbac, RbacAction};
use crate::manifest::schema::istio::{AuthorizationAction, PolicyTargetReference, WorkloadSelector};
use crate::mesh::{Config, Configs, Mesh, selects};
use crate::origin::Origin;

/// The label of the proxies of a Gateway API gateway.
const GATEWAY_NAME_LABEL: &str = "gateway.networking.k8s.io/gateway-name";

/// Which way the listeners point that an EnvoyFilter changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchContext {
    /// Traffic to the workload.
    SidecarInbound,
    /// Traffic from it.
    SidecarOutbound,
    /// A gateway's.
    Gateway,
}

impl PatchContext {
    const fn name(self) -> &'static str {
        match self {
            Self::SidecarInbound => "SIDECAR_INBOUND",
            Self::SidecarOutbound => "SIDECAR_OUTBOUND",
            Self::Gateway => "GATEWAY",
        }
    }
}

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
    envoy_filters: Vec<Opaque>,
    custom: Vec<Opaque>,
    tokens: Vec<Opaque>,
    http_authorization: Vec<Arc<HttpRbac>>,
    tcp_authorization: Vec<Arc<NetworkRbac>>,
    plugins: Vec<(Phase, PluginType, Opaque)>,
}

/// Where a plugin stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Authn,
    Authz,
    Stats,
    Unspecified,
}

/// What a plugin handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PluginType {
    Http,
    Network,
}

impl Attached {
    /// The filters of a sidecar's inbound listeners.
    pub fn inbound(proxy: &Proxy) -> Self {
        Self::new(proxy, PatchContext::SidecarInbound)
    }

    /// The filters of a sidecar's outbound listeners: policies hold for traffic to a workload, EnvoyFilters for any.
    pub fn outbound(proxy: &Proxy) -> Self {
        Self { envoy_filters: opaque_envoy_filters(proxy, PatchContext::SidecarOutbound), ..Self::default() }
    }

    /// The filters of a gateway's listeners.
    pub fn gateway(proxy: &Proxy) -> Self {
        Self::new(proxy, PatchContext::Gateway)
    }

    fn new(proxy: &Proxy, context: PatchContext) -> Self {
        let (mesh, node) = (proxy.mesh(), proxy.node());
        let policies = mesh.policies();
        let mut out = Self { envoy_filters: opaque_envoy_filters(proxy, context), ..Self::default() };
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
            if let Some(policies) = authorization::build(mesh, of_action(), action, ChainKind::Http) {
                out.http_authorization.push(Arc::new(HttpRbac { action, policies }));
            }
            if let Some(policies) = authorization::build(mesh, of_action(), action, ChainKind::Tcp) {
                out.tcp_authorization.push(Arc::new(NetworkRbac { action, policies }));
            }
        }
        out.custom.extend(
            authorization
                .iter()
                .filter(|policy| policy.spec.action == AuthorizationAction::Custom)
                .map(|policy| Opaque::new("envoy.filters.http.ext_authz", policy.origin("spec.provider"))),
        );
        let tokens = selecting(mesh, node, &policies.request_authentications, |p| {
            (p.selector.as_ref(), p.target_ref.as_ref(), &p.target_refs)
        });
        out.tokens.extend(
            tokens
                .filter(|policy| !policy.spec.jwt_rules.is_empty())
                .map(|policy| Opaque::new("envoy.filters.http.jwt_authn", policy.origin("spec.jwtRules"))),
        );
        let plugins = selecting(mesh, node, &policies.wasm_plugins, |p| {
            (p.selector.as_ref(), p.target_ref.as_ref(), &p.target_refs)
        });
        for plugin in plugins {
            let phase = match plugin.spec.phase.as_str() {
                "AUTHN" => Phase::Authn,
                "AUTHZ" => Phase::Authz,
                "STATS" => Phase::Stats,
                _ => Phase::Unspecified,
            };
            let kind =
                if plugin.spec.type_.as_str() == "NETWORK" { PluginType::Network } else { PluginType::Http };
            out.plugins.push((
                phase,
                kind,
                Opaque::new("envoy.filters.http.wasm", plugin.origin("spec.url")),
            ));
        }
        out
    }

    fn plugins_of(&self, phase: Phase, kind: PluginType) -> impl Iterator<Item = &Opaque> {
        self.plugins.iter().filter(move |(own, of, _)| *own == phase && *of == kind).map(|(_, _, o)| o)
    }

    /// The filters of an HTTP chain, between metadata exchange and the rest.
    pub fn http_filters(&self) -> Vec<HttpFilter> {
        let plugins = |phase| self.plugins_of(phase, PluginType::Http);
        let front = self
            .envoy_filters
            .iter()
            .chain(&self.custom)
            .chain(plugins(Phase::Authn))
            .chain(&self.tokens)
            .chain(plugins(Phase::Authz));
        let back = plugins(Phase::Stats).chain(plugins(Phase::Unspecified));
        front
            .map(Opaque::http)
            .chain(self.http_authorization.iter().cloned().map(HttpFilter::Rbac))
            .chain(back.map(Opaque::http))
            .collect()
    }

    /// The filters of a TCP chain in front of the proxy.
    pub fn access_filters(&self) -> Vec<AccessFilter> {
        let plugins = |phase| self.plugins_of(phase, PluginType::Network);
        let front = self
            .envoy_filters
            .iter()
            .chain(&self.custom)
            .chain(plugins(Phase::Authn))
            .chain(plugins(Phase::Authz));
        let back = plugins(Phase::Stats).chain(plugins(Phase::Unspecified));
        front
            .map(Opaque::network)
            .chain(self.tcp_authorization.iter().cloned().map(AccessFilter::Rbac))
            .chain(back.map(Opaque::network))
            .collect()
    }

    /// The network filters in front of an HTTP chain's connection manager: extensions only, no authorization.
    pub fn network_extensions(&self) -> Vec<AccessFilter> {
        [Phase::Authn, Phase::Authz, Phase::Stats, Phase::Unspecified]
            .into_iter()
            .flat_map(|phase| self.plugins_of(phase, PluginType::Network))
            .map(Opaque::network)
            .collect()
    }
}

fn opaque_envoy_filters(proxy: &Proxy, context: PatchContext) -> Vec<Opaque> {
    let filters = envoy_filters(proxy.mesh(), proxy.node(), context);
    filters.map(|origin| Opaque::new("EnvoyFilter", origin)).collect()
}

/// The EnvoyFilters that change listeners or clusters of a proxy, root namespace first.
/// istiod: `push_context.go: getMatchedEnvoyFilters`.
pub fn envoy_filters<'a>(
    mesh: &'a Mesh,
    node: &'a Node,
    context: PatchContext,
) -> impl Iterator<Item = Origin> + use<'a> {
    namespaces(mesh, node)
        .flat_map(|namespace| mesh.policies().envoy_filters.in_namespace(namespace))
        .filter(|filter| {
            filter.spec.target_refs.is_empty()
                && filter.spec.workload_selector.as_ref().is_none_or(|s| selects(&s.labels, &node.labels))
        })
        .filter_map(move |filter| {
            let at = filter.spec.config_patches.iter().position(|patch| {
                let own = patch.match_.as_ref().map_or("ANY", |condition| condition.context.as_str());
                patch.apply_to.as_str() != "BOOTSTRAP" && (own == "ANY" || own == context.name())
            })?;
            Some(filter.origin(smol_str::format_smolstr!("spec.configPatches[{at}]")))
        })
}

/// The namespaces whose policies can hold for a workload.
fn namespaces<'a>(mesh: &'a Mesh, node: &'a Node) -> impl Iterator<Item = &'a str> + use<'a> {
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
