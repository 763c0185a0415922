//! Where does something run?
//!
//! Region, zone and subzone, as istiod reads them from labels and Nodes, and the labels that it adds for them.
//! istiod: `pkg/model/proxy.go: GetLocalityLabel, SanitizeLocalityLabel`; `kube/controller/controller.go:
//! getPodLocality`; `serviceregistry/util/label/label.go: AugmentLabels, SplitLocalityLabel`.

use indexmap::IndexMap;
use rustc_hash::FxHashMap;
use smol_str::{SmolStr, format_smolstr};

use crate::manifest::{Kind, Resource};

/// The label that istiod gives for the region.
pub const REGION: SmolStr = SmolStr::new_static("topology.kubernetes.io/region");
/// The label that istiod gives for the zone.
pub const ZONE: SmolStr = SmolStr::new_static("topology.kubernetes.io/zone");
/// The label that istiod gives for the subzone.
pub const SUBZONE: SmolStr = SmolStr::new_static("topology.istio.io/subzone");
/// The label that istiod gives for the cluster.
pub const CLUSTER: SmolStr = SmolStr::new_static("topology.istio.io/cluster");
/// The label of the network.
pub const NETWORK: SmolStr = SmolStr::new_static("topology.istio.io/network");
/// The label that istiod gives for the node.
pub const HOSTNAME: SmolStr = SmolStr::new_static("kubernetes.io/hostname");

/// The parts of `region/zone/subzone`; what is missing is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Locality<'a> {
    /// The region.
    pub region: &'a str,
    /// The zone.
    pub zone: &'a str,
    /// The subzone.
    pub subzone: &'a str,
}

impl<'a> Locality<'a> {
    /// Splits `region/zone/subzone`.
    ///
    /// # Examples
    ///
    /// ```
    /// use dryroute::mesh::Locality;
    ///
    /// assert_eq!(Locality::new("us-east/a"), Locality { region: "us-east", zone: "a", subzone: "" });
    /// ```
    pub fn new(text: &'a str) -> Self {
        let mut parts = text.split('/');
        let mut next = || parts.next().unwrap_or_default();
        Self { region: next(), zone: next(), subzone: next() }
    }
}

/// The locality that a label names: the newer of the two labels wins; a label's value cannot hold a slash, so dots stand
/// for them.
pub fn of_labels(labels: &IndexMap<SmolStr, SmolStr>) -> SmolStr {
    let written = ["topology.istio.io/locality", "istio-locality"].iter().find_map(|name| labels.get(*name));
    match written {
        Some(text) if text.contains('/') => text.clone(),
        Some(text) => text.replace('.', "/").into(),
        None => SmolStr::default(),
    }
}

/// The labels that istiod gives for where something runs, the network's apart; those without a value it does not give.
pub(crate) fn added<'a>(locality: &'a str, cluster: &'a str, node: &'a str) -> [(SmolStr, &'a str); 5] {
    let Locality { region, zone, subzone } = Locality::new(locality);
    [(REGION, region), (ZONE, zone), (SUBZONE, subzone), (CLUSTER, cluster), (HOSTNAME, node)]
}

/// Adds the labels that istiod gives for where something runs.
pub fn augment(
    labels: &mut IndexMap<SmolStr, SmolStr>,
    locality: &str,
    cluster: &str,
    node: &str,
    network: &str,
) {
    for (name, value) in added(locality, cluster, node) {
        if !value.is_empty() {
            labels.insert(name, value.into());
        }
    }
    if !network.is_empty() && labels.get(&NETWORK).is_none_or(SmolStr::is_empty) {
        labels.insert(NETWORK, network.into());
    }
}

/// What the cluster says about where its pods run.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    /// The localities of Nodes by name.
    localities: FxHashMap<SmolStr, SmolStr>,
    /// The network of pods that name none.
    network: SmolStr,
}

impl Nodes {
    pub(crate) fn new<'a>(resources: impl Iterator<Item = &'a Resource>, root_namespace: &str) -> Self {
        let mut out = Self::default();
        for resource in resources {
            let labels = &resource.meta.labels;
            match resource.kind {
                Kind::Node => {
                    out.localities.insert(resource.meta.name.clone(), of_node(labels));
                }
                Kind::Namespace if resource.meta.name == root_namespace => {
                    out.network = labels.get(&NETWORK).cloned().unwrap_or_default();
                }
                _ => {}
            }
        }
        out
    }

    /// The network of a pod: its label's, else that of the namespace that istiod runs in.
    /// istiod: `kube/controller/controller.go: Network`.
    pub(crate) fn network(&self, labels: &IndexMap<SmolStr, SmolStr>) -> SmolStr {
        labels.get(&NETWORK).filter(|network| !network.is_empty()).unwrap_or(&self.network).clone()
    }

    /// Where something with these labels on a node runs, and whether the input says so: a label wins over its Node.
    pub(crate) fn locality(&self, labels: &IndexMap<SmolStr, SmolStr>, node: &str) -> (SmolStr, bool) {
        let written = of_labels(labels);
        if !written.is_empty() {
            return (written, true);
        }
        self.localities
            .get(node)
            .map_or_else(|| (SmolStr::default(), false), |locality| (locality.clone(), true))
    }
}

/// The locality of a Node; the labels of Kubernetes before 1.17 count where the newer ones are missing.
fn of_node(labels: &IndexMap<SmolStr, SmolStr>) -> SmolStr {
    let either = |name: &SmolStr, older: &str| {
        labels.get(name).filter(|value| !value.is_empty()).or_else(|| labels.get(older)).map_or("", |v| v)
    };
    let region = either(&REGION, "failure-domain.beta.kubernetes.io/region");
    let zone = either(&ZONE, "failure-domain.beta.kubernetes.io/zone");
    let subzone = either(&SUBZONE, "");
    if region.is_empty() && zone.is_empty() && subzone.is_empty() {
        return SmolStr::default();
    }
    format_smolstr!("{region}/{zone}/{subzone}")
}
