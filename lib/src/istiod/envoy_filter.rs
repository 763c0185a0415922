//! What do EnvoyFilters change in a proxy's listeners and clusters?
//!
//! A patch either merges settings that are modelled, into the HTTP connection managers or clusters that it fits, or makes
//! unknown what lies behind the filter chains and clusters that it fits. Invariant: nothing that a patch could change is
//! told as a fact.
//! istiod: `push_context.go: EnvoyFilters`; `envoyfilter/listener_patch.go, cluster_patch.go`.

mod cluster;
mod fit;
mod settings;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use smol_str::{SmolStr, format_smolstr};

use self::cluster::ClusterSettings;
use self::fit::Fit;
use self::settings::Settings;
use super::attachment;
use super::connection_manager::ListenerClass;
use super::node::Node;
use super::proxy::Proxy;
use crate::envoy::config::{
    AccessFilter, AppliedPatch, Cluster, FilterChain, HttpFilter, Listener, NetworkFilter,
};
use crate::manifest::schema::istio::{
    ApplyTo, ClusterMatch, EnvoyConfigPatch, EnvoyFilter, ListenerMatch, PatchContext, PatchOperation,
};
use crate::mesh::{Config, selects};
use crate::origin::Origin;

/// The patches of a proxy for listeners of a class and the clusters behind them, in the order in which they are applied.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Patches(Vec<Patch>);

/// A patch that is for the proxy.
#[derive(Clone, Debug, PartialEq)]
struct Patch {
    apply_to: ApplyTo,
    operation: PatchOperation,
    listener: Option<ListenerMatch>,
    cluster: Option<ClusterMatch>,
    /// Whether it is for the proxy at all.
    proxy: Fit,
    /// What it merges; `None` when that is not modelled.
    merge: Option<Merge>,
    /// How it is told of where it was applied.
    applied: AppliedPatch,
}

/// What a patch merges.
#[derive(Clone, Debug, PartialEq)]
enum Merge {
    Manager(Box<Settings>),
    Cluster(ClusterSettings),
}

impl Merge {
    fn of(patch: &EnvoyConfigPatch) -> Option<Self> {
        match patch.apply_to {
            ApplyTo::NetworkFilter => Settings::of(patch).map(Box::new).map(Self::Manager),
            ApplyTo::Cluster => ClusterSettings::of(patch).map(Self::Cluster),
            _ => None,
        }
    }

    fn is_partly_kept(&self) -> bool {
        match self {
            Self::Manager(settings) => settings.is_partly_kept(),
            Self::Cluster(settings) => settings.is_partly_kept(),
        }
    }
}

impl Patches {
    /// The patches of a proxy for listeners of a class.
    pub fn new(proxy: &Proxy, class: ListenerClass) -> Self {
        let (mesh, node) = (proxy.mesh(), proxy.node());
        let mut filters: Vec<&Arc<Config<EnvoyFilter>>> = attachment::namespaces(mesh, node)
            .flat_map(|namespace| mesh.policies().envoy_filters.in_namespace(namespace))
            .filter(|filter| holds_for(node, filter))
            .collect();
        // What is of one priority stays in order: the root namespace's first, the oldest first.
        filters.sort_by_key(|filter| filter.spec.priority);
        Self(filters.into_iter().flat_map(|filter| patches(filter, node, class)).collect())
    }

    /// Changes a listener.
    pub fn apply(&self, listener: &mut Listener) {
        if self.0.is_empty() {
            return;
        }
        let mut chains: Vec<Arc<FilterChain>> = std::mem::take(&mut listener.filter_chains);
        for chain in &mut chains {
            self.apply_to_chain(listener, chain);
        }
        listener.filter_chains = chains;
        if let Some(mut chain) = listener.default_filter_chain.take() {
            self.apply_to_chain(listener, &mut chain);
            listener.default_filter_chain = Some(chain);
        }
    }

    /// Changes a cluster; `false` removes it.
    pub fn apply_to_cluster(&self, cluster: &mut Cluster) -> bool {
        for patch in self.0.iter().filter(|patch| patch.apply_to == ApplyTo::Cluster && !patch.adds()) {
            match (cluster::fits(patch.cluster.as_ref(), cluster).and(patch.proxy), &patch.merge) {
                (Fit::No, _) => {}
                (Fit::Yes, _) if patch.operation == PatchOperation::Remove => return false,
                (Fit::Yes, Some(Merge::Cluster(settings))) => {
                    settings.apply(cluster);
                    cluster.patches.push(patch.applied.clone());
                }
                _ => cluster.opaque = Some(patch.applied.clone()),
            }
        }
        true
    }

    fn apply_to_chain(&self, listener: &Listener, chain: &mut Arc<FilterChain>) {
        let mut merges = Vec::new();
        for patch in &self.0 {
            match patch.fits(listener, chain) {
                Fit::No => {}
                Fit::Yes if patch.merge.is_some() => merges.push(patch),
                Fit::Yes | Fit::Perhaps => {
                    make_opaque(Arc::make_mut(chain), &patch.applied.origin);
                    return;
                }
            }
        }
        if merges.is_empty() {
            return;
        }
        if let NetworkFilter::HttpConnectionManager(manager) = &mut Arc::make_mut(chain).terminal {
            let manager = Arc::make_mut(manager);
            for patch in merges {
                let Some(Merge::Manager(settings)) = &patch.merge else { continue };
                settings.apply(manager);
                manager.patches.push(patch.applied.clone());
            }
        }
    }
}

/// Whether an EnvoyFilter holds for a proxy.
fn holds_for(node: &Node, filter: &Config<EnvoyFilter>) -> bool {
    let targets = &filter.spec.target_refs;
    if !targets.is_empty() {
        return attachment::holds_for(node, &filter.namespace, (None, None, targets));
    }
    filter.spec.workload_selector.as_ref().is_none_or(|selector| selects(&selector.labels, &node.labels))
}

/// The patches of an EnvoyFilter that can change listeners of a class, or the clusters behind them.
fn patches(filter: &Config<EnvoyFilter>, node: &Node, class: ListenerClass) -> Vec<Patch> {
    let context = match class {
        ListenerClass::SidecarInbound => PatchContext::SidecarInbound,
        ListenerClass::SidecarOutbound => PatchContext::SidecarOutbound,
        ListenerClass::Gateway => PatchContext::Gateway,
    };
    let name = format_smolstr!("{}/{}", filter.namespace, filter.name);
    let fitting = |(number, patch): (usize, &EnvoyConfigPatch)| {
        let condition = patch.match_.as_ref();
        let own = condition.map_or(PatchContext::Any, |condition| condition.context);
        let proxy = condition.and_then(|condition| condition.proxy.as_ref());
        let proxy = proxy.map_or(Fit::Yes, |proxy| fit::proxy(proxy, node));
        let change = patch.patch.as_ref()?;
        if (own != PatchContext::Any && own != context) || proxy == Fit::No {
            return None;
        }
        let merge = Merge::of(patch);
        let partly = merge.as_ref().is_some_and(Merge::is_partly_kept);
        let origin = filter.origin(format_smolstr!("spec.configPatches[{number}]"));
        Some(Patch {
            apply_to: patch.apply_to,
            operation: change.operation,
            listener: condition.and_then(|condition| condition.listener.clone()),
            cluster: condition.and_then(|condition| condition.cluster.clone()),
            proxy,
            merge,
            applied: AppliedPatch { name: name.clone(), partly, origin },
        })
    };
    filter.spec.config_patches.iter().enumerate().filter_map(fitting).collect()
}

/// Makes what lies behind a chain unknown.
fn make_opaque(chain: &mut FilterChain, origin: &Origin) {
    const NAME: SmolStr = SmolStr::new_static("EnvoyFilter");
    let origin = origin.clone();
    match &mut chain.terminal {
        NetworkFilter::TcpProxy(_) => {
            chain.access_filters.insert(0, AccessFilter::Opaque { name: NAME, origin });
        }
        NetworkFilter::HttpConnectionManager(manager) => {
            let filters = &mut Arc::make_mut(manager).http_filters;
            let first = filters.iter().position(|filter| *filter == HttpFilter::PeerMetadata);
            let place = first.map_or(0, |first| first + 1);
            filters.insert(place, HttpFilter::Opaque { name: NAME, origin });
        }
    }
}
