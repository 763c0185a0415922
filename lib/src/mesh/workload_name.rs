//! Which workload does a name stand for?
//!
//! Invariant: a name that fits one workload, or several that are alike, is that workload; anything else is an error that
//! lists what could have been meant. A namespace that is not written is the caller's, before all others.

use smol_str::SmolStr;

use super::{Mesh, Workload};

/// Why a name stands for no workload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkloadNameError {
    /// No workload has that name.
    #[error("no workload is called `{name}`")]
    Unknown {
        /// What was asked for.
        name: SmolStr,
        /// Workloads that could have been meant, `namespace/name`.
        candidates: Vec<SmolStr>,
    },
    /// More than one workload has that name.
    #[error("`{name}` is the name of more than one workload")]
    Ambiguous {
        /// What was asked for.
        name: SmolStr,
        /// The workloads, `namespace/name`.
        candidates: Vec<SmolStr>,
    },
}

impl WorkloadNameError {
    /// What could have been meant, `namespace/name`.
    pub fn candidates(&self) -> &[SmolStr] {
        match self {
            Self::Unknown { candidates, .. } | Self::Ambiguous { candidates, .. } => candidates,
        }
    }
}

/// How a name can fit a workload, the closest first: its own, its Deployment's, its controller's, its service account's.
const FITS: [fn(&Workload, &str) -> bool; 4] = [
    |workload, name| workload.name == name,
    |workload, name| is_of_deployment(&workload.name, name),
    |workload, name| workload.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('-')),
    |workload, name| workload.service_account == name,
];

impl Mesh {
    /// The workload that a name stands for, and its place in [`Mesh::workloads`].
    ///
    /// `namespace/name`, `name`, or istioctl's `pod.namespace`; the name can be that of its controller or service account.
    ///
    /// # Errors
    ///
    /// Nothing has that name, or several that are not alike.
    pub fn workload_named(
        &self,
        name: &str,
        namespace: &str,
    ) -> Result<(usize, &Workload), WorkloadNameError> {
        let found = match name.split_once('/') {
            Some((namespace, name)) => self.first_that_fit(name, Some(namespace)),
            None => [Some(namespace), None]
                .into_iter()
                .map(|namespace| self.first_that_fit(name, namespace))
                .find(|found| !found.is_empty())
                .unwrap_or_else(|| self.pod_of_istioctl(name)),
        };
        let Some(first) = found.first() else {
            return Err(WorkloadNameError::Unknown { name: name.into(), candidates: self.close_to(name) });
        };
        if found.iter().all(|(_, workload)| first.1.is_like(workload)) {
            return Ok(*first);
        }
        let candidates = names(found.iter().map(|(_, workload)| *workload));
        Err(WorkloadNameError::Ambiguous { name: name.into(), candidates })
    }

    /// The workloads of a namespace, or of all, that a name fits best.
    fn first_that_fit(&self, name: &str, namespace: Option<&str>) -> Vec<(usize, &Workload)> {
        let inside = |workload: &&Workload| namespace.is_none_or(|namespace| workload.namespace == namespace);
        FITS.into_iter()
            .map(|fits| {
                let all = self.workloads().iter().enumerate();
                all.filter(|(_, workload)| inside(workload) && fits(workload, name)).collect::<Vec<_>>()
            })
            .find(|found| !found.is_empty())
            .unwrap_or_default()
    }

    fn pod_of_istioctl(&self, name: &str) -> Vec<(usize, &Workload)> {
        let Some((pod, namespace)) = name.rsplit_once('.') else { return Vec::new() };
        let all = self.workloads().iter().enumerate();
        all.filter(|(_, workload)| workload.namespace == namespace && workload.name == pod).collect()
    }

    /// Names that resemble one that nothing has; all, where none does.
    fn close_to(&self, name: &str) -> Vec<SmolStr> {
        let (namespace, wanted) = match name.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, name),
        };
        let near = |workload: &&Workload| {
            workload.name.contains(wanted)
                || wanted.contains(workload.name.as_str())
                || namespace.is_some_and(|namespace| workload.namespace == namespace)
        };
        let close = names(self.workloads().iter().filter(near));
        if close.is_empty() { names(self.workloads().iter()) } else { close }
    }
}

/// Whether a pod's name is one that a Deployment of that name gives: two more parts.
fn is_of_deployment(pod: &str, deployment: &str) -> bool {
    pod.strip_prefix(deployment)
        .and_then(|rest| rest.strip_prefix('-'))
        .and_then(|rest| rest.split_once('-'))
        .is_some_and(|(template, pod)| {
            (8..=10).contains(&template.len())
                && pod.len() == 5
                && template.bytes().all(|b| b.is_ascii_alphanumeric())
        })
}

fn names<'a>(workloads: impl Iterator<Item = &'a Workload>) -> Vec<SmolStr> {
    let mut names: Vec<SmolStr> = workloads.map(Workload::full_name).collect();
    names.sort();
    names.dedup();
    names
}

/// Labels that controllers give to tell their pods apart.
const POD_LABELS: [&str; 5] = [
    "pod-template-hash",
    "controller-revision-hash",
    "pod-template-generation",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
];

impl Workload {
    /// Whether nothing that routing depends on tells it from another, where it runs apart.
    pub fn is_like(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
            || (self.namespace == other.namespace
                && self.proxy == other.proxy
                && self.service_account == other.service_account
                && self.containers == other.containers
                && self.named_ports == other.named_ports
                && self.routing_annotations() == other.routing_annotations()
                && self.routing_labels() == other.routing_labels())
    }

    fn routing_labels(&self) -> Vec<(&SmolStr, &SmolStr)> {
        let mut labels: Vec<_> =
            self.labels.iter().filter(|(name, _)| !POD_LABELS.contains(&name.as_str())).collect();
        labels.sort();
        labels
    }

    /// Istio's own; network plugins and the like write the address of each pod into theirs.
    fn routing_annotations(&self) -> Vec<(&SmolStr, &SmolStr)> {
        let mut annotations: Vec<_> =
            self.annotations.iter().filter(|(name, _)| name.contains("istio.io/")).collect();
        annotations.sort();
        annotations
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Loader;
    use crate::mesh::MeshOptions;

    fn pod(namespace: &str, name: &str, more: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, {more}}}\n\
             spec: {{serviceAccountName: robot, containers: [{{name: app}}]}}\n---\n"
        )
    }

    fn mesh(pods: &[String]) -> Mesh {
        Mesh::new(Loader::new().text("m.yaml", pods.concat()).load(), MeshOptions::default())
    }

    fn named(mesh: &Mesh, name: &str) -> Result<SmolStr, WorkloadNameError> {
        mesh.workload_named(name, "shop").map(|(_, workload)| workload.full_name())
    }

    #[test]
    fn the_closest_fit_wins_and_the_own_namespace_before_all() {
        let mesh = mesh(&[
            pod("other", "cart", ""),
            pod("shop", "cart-7d9f8b6c4-x2x9k", ""),
            pod("shop", "cart-redis-0", "labels: {app: redis}"),
        ]);
        for (name, found) in [
            ("cart", "shop/cart-7d9f8b6c4-x2x9k"),
            ("cart-redis", "shop/cart-redis-0"),
            ("other/cart", "other/cart"),
            ("cart.other", "other/cart"),
            ("other/robot", "other/cart"),
        ] {
            assert_eq!(named(&mesh, name).as_deref(), Ok(found), "{name}");
        }
    }

    #[test]
    fn pods_that_routing_cannot_tell_apart_have_one_name_and_others_do_not() {
        let calico = |ip: &str| format!("annotations: {{cni.projectcalico.org/podIP: {ip}}}");
        let replicas = [
            pod("shop", "web-7d9f8b6c4-aaaaa", &calico("10.0.0.1")),
            pod("shop", "web-7d9f8b6c4-bbbbb", &calico("10.0.0.2")),
        ];
        assert_eq!(named(&mesh(&replicas), "web").as_deref(), Ok("shop/web-7d9f8b6c4-aaaaa"));
        let captured = "annotations: {traffic.sidecar.istio.io/excludeOutboundPorts: '80'}";
        let differing = [replicas[0].clone(), pod("shop", "web-7d9f8b6c4-ccccc", captured)];
        let error = named(&mesh(&differing), "web").unwrap_err();
        assert_eq!(error.to_string(), "`web` is the name of more than one workload");
        assert_eq!(error.candidates(), ["shop/web-7d9f8b6c4-aaaaa", "shop/web-7d9f8b6c4-ccccc"]);
    }

    #[test]
    fn a_name_that_nothing_has_is_answered_with_close_ones() {
        let mesh = mesh(&[pod("shop", "reviews", ""), pod("shop", "ratings", "")]);
        let error = named(&mesh, "reviews-v4").unwrap_err();
        assert_eq!(
            (error.to_string().as_str(), error.candidates()),
            ("no workload is called `reviews-v4`", ["shop/reviews".into()].as_slice())
        );
        assert_eq!(named(&mesh, "nobody").unwrap_err().candidates().len(), 2);
    }
}
