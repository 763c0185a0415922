//! Which TLS does a workload accept on a port?
//!
//! Invariant: the oldest policy of a level counts, a level without a mode inherits, and selectors in the root namespace
//! count for nothing. istiod: `authn/policy_applier.go: ComposePeerAuthentication`; `model/authentication.go:
//! addPeerAuthentication, GetNamespaceMutualTLSMode`.

use std::sync::Arc;

use indexmap::IndexMap;
use smol_str::SmolStr;

use crate::manifest::schema::istio::{MutualTlsMode, PeerAuthentication};
use crate::mesh::{Config, Mesh};
use crate::origin::Origin;

/// What a workload accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MtlsMode {
    /// Anything but Istio's mutual TLS is passed through as it is.
    Disable,
    /// Both.
    Permissive,
    /// Istio's mutual TLS only.
    Strict,
}

impl MtlsMode {
    /// The mode that a policy writes; `None` when it inherits.
    pub const fn of(mode: MutualTlsMode) -> Option<Self> {
        match mode {
            MutualTlsMode::Unset => None,
            MutualTlsMode::Disable => Some(Self::Disable),
            MutualTlsMode::Permissive => Some(Self::Permissive),
            MutualTlsMode::Strict => Some(Self::Strict),
        }
    }
}

/// What a workload accepts, by port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergedPeerAuthentication {
    /// The mode of ports that have none of their own.
    pub mode: MtlsMode,
    /// Where it is written.
    pub origin: Origin,
    /// The modes of single ports of the workload.
    pub per_port: IndexMap<u16, (MtlsMode, Origin)>,
}

impl MergedPeerAuthentication {
    /// The mode of a port of the workload, and where it is written.
    pub fn for_port(&self, port: u16) -> (MtlsMode, &Origin) {
        match self.per_port.get(&port) {
            Some((mode, origin)) => (*mode, origin),
            None => (self.mode, &self.origin),
        }
    }
}

type Policy = Arc<Config<PeerAuthentication>>;

fn is_for_all(policy: &Policy) -> bool {
    policy.spec.selector.as_ref().is_none_or(|selector| selector.match_labels.is_empty())
}

fn mode_of(policy: &Policy) -> Option<(MtlsMode, Origin)> {
    let mode = MtlsMode::of(policy.spec.mtls.as_ref()?.mode)?;
    Some((mode, policy.origin("spec.mtls.mode")))
}

/// The policies that hold for a workload of a namespace, merged; `has` says whether it has the labels that one selects.
///
/// Both a client's view of an endpoint and the workload's own proxy go by the labels that istiod adds too. istiod:
/// `endpoints/mtls_checker.go: checkMtlsEnabled`, `xds/ads.go: setTopologyLabels`.
pub fn compose(
    mesh: &Mesh,
    namespace: &str,
    has: impl Fn(&IndexMap<SmolStr, SmolStr>) -> bool,
) -> MergedPeerAuthentication {
    let root = &mesh.config().root_namespace;
    let policies = &mesh.policies().peer_authentications;
    let whole_mesh = policies.in_namespace(root).find(|policy| is_for_all(policy));
    let (mut whole_namespace, mut workload) = (None, None);
    if namespace != root {
        whole_namespace = policies.in_namespace(namespace).find(|policy| is_for_all(policy));
        workload = policies.in_namespace(namespace).find(|policy| {
            let selector = policy.spec.selector.as_ref();
            !is_for_all(policy) && selector.is_some_and(|selector| has(&selector.match_labels))
        });
    }
    let inherited =
        (MtlsMode::Permissive, Origin::default("Istio's default: mutual TLS is accepted, not required"));
    let (mode, origin) = workload
        .and_then(mode_of)
        .or_else(|| whole_namespace.and_then(mode_of))
        .or_else(|| whole_mesh.and_then(mode_of))
        .unwrap_or(inherited);
    let mut per_port = IndexMap::new();
    if let Some(workload) = workload {
        for (port, mtls) in workload.spec.port_level_mtls.iter().flatten() {
            let Ok(number) = port.parse::<u16>() else { continue };
            let own = MtlsMode::of(mtls.mode)
                .map(|mode| (mode, workload.origin("spec.portLevelMtls").part(port).part("mode")));
            per_port.insert(number, own.unwrap_or_else(|| (mode, origin.clone())));
        }
    }
    MergedPeerAuthentication { mode, origin, per_port }
}

/// The mode that clients expect of a whole namespace: its own policy, else the mesh's, else permissive.
pub fn namespace_mode(mesh: &Mesh, namespace: &str) -> MtlsMode {
    let root = &mesh.config().root_namespace;
    let policies = &mesh.policies().peer_authentications;
    let of = |namespace: &str| {
        policies.in_namespace(namespace).find(|policy| is_for_all(policy)).and_then(mode_of)
    };
    let own = if namespace == root { None } else { of(namespace) };
    own.or_else(|| of(root)).map_or(MtlsMode::Permissive, |(mode, _)| mode)
}
