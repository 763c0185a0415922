//! Which workload does a name stand for?
//!
//! Invariant: a name that fits one workload, or several that are alike, is that workload; anything else is an error that
//! lists what could have been meant. A namespace that is not written is the caller's, before all others.

use smol_str::{SmolStr, format_smolstr};

use super::{Mesh, Workload};
use crate::manifest::Kind;

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
    is_account,
];

fn is_account(workload: &Workload, name: &str) -> bool {
    workload.service_account == name
}

/// What a name is the name of, where it says so.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Named {
    /// A pod, or a controller by its kind.
    Object(Kind),
    /// A service account.
    Account,
}

impl Named {
    /// A kind as kubectl and istioctl write it: in singular, plural, or short.
    fn parse(word: &str) -> Option<Self> {
        Some(Self::Object(match word.to_ascii_lowercase().as_str() {
            "pod" | "pods" | "po" => Kind::Pod,
            "deployment" | "deployments" | "deploy" => Kind::Deployment,
            "statefulset" | "statefulsets" | "sts" => Kind::StatefulSet,
            "daemonset" | "daemonsets" | "ds" => Kind::DaemonSet,
            "replicaset" | "replicasets" | "rs" => Kind::ReplicaSet,
            "job" | "jobs" => Kind::Job,
            "cronjob" | "cronjobs" | "cj" => Kind::CronJob,
            "serviceaccount" | "serviceaccounts" | "sa" => return Some(Self::Account),
            _ => return None,
        }))
    }

    /// Whether a workload has that name as what it is.
    fn fits(self, workload: &Workload, name: &str) -> bool {
        match self {
            Self::Account => is_account(workload, name),
            Self::Object(kind) if kind == workload.kind => workload.name == name,
            // Pods are named after their controllers.
            Self::Object(kind) if workload.kind == Kind::Pod => {
                let part = workload.name.strip_prefix(name).and_then(|rest| rest.strip_prefix('-'));
                let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
                part.is_some_and(|part| match kind {
                    Kind::Deployment => is_of_deployment(&workload.name, name),
                    Kind::StatefulSet => is_number(part),
                    Kind::CronJob => {
                        part.split_once('-').is_some_and(|(run, pod)| is_number(run) && pod.len() == 5)
                    }
                    _ => part.len() == 5,
                })
            }
            Self::Object(_) => false,
        }
    }
}

/// A name as it can be read.
#[derive(Clone, Copy)]
struct Reading<'a> {
    namespace: Option<&'a str>,
    named: Option<Named>,
    name: &'a str,
}

/// All ways to read a name, the likeliest first; `own` is the caller's namespace.
fn readings<'a>(text: &'a str, own: &'a str) -> Vec<Reading<'a>> {
    let read = |namespace, named, name| Reading { namespace, named, name };
    let of_kind = |word| Named::parse(word).map(Some);
    let parts: Vec<&str> = text.strip_prefix("spiffe://").unwrap_or(text).split('/').collect();
    let mut out = Vec::new();
    match parts.as_slice() {
        // istiod: `pkg/spiffe/spiffe.go: Identity.String`.
        [_, "ns", namespace, "sa", name] => out.push(read(Some(*namespace), Some(Named::Account), *name)),
        [name] => out.extend([read(Some(own), None, *name), read(None, None, *name)]),
        [first, name] => {
            out.push(read(Some(*first), None, *name));
            if let Some(named) = of_kind(*first) {
                out.extend([read(Some(own), named, *name), read(None, named, *name)]);
                // istioctl: `pkg/util/handlers/handlers.go: InferPodInfo`.
                out.extend(name.rsplit_once('.').map(|(name, namespace)| read(Some(namespace), named, name)));
            }
        }
        [first, second, name] => {
            out.extend(of_kind(*second).map(|named| read(Some(*first), named, *name)));
            out.extend(of_kind(*first).map(|named| read(Some(*second), named, *name)));
        }
        _ => {}
    }
    out
}

impl Mesh {
    /// The workload that a name stands for, and its place in [`Mesh::workloads`].
    ///
    /// `namespace/name`, `name`, or istioctl's `pod.namespace`; the name can be that of its controller or service account. With
    /// what it is the name of: `kind/name`, `namespace/kind/name`, istioctl's `kind/name.namespace`, or a SPIFFE identity.
    ///
    /// # Errors
    ///
    /// Nothing has that name, or several that are not alike.
    pub fn workload_named(
        &self,
        name: &str,
        namespace: &str,
    ) -> Result<(usize, &Workload), WorkloadNameError> {
        let found = readings(name, namespace)
            .into_iter()
            .map(|reading| self.first_that_fit(reading))
            .find(|found| !found.is_empty())
            .unwrap_or_else(|| self.pod_of_istioctl(name));
        let Some(first) = found.first() else {
            return Err(WorkloadNameError::Unknown { name: name.into(), candidates: self.close_to(name) });
        };
        if found.iter().all(|(_, workload)| first.1.is_like(workload)) {
            return Ok(*first);
        }
        let candidates = names_apart(found.iter().map(|(_, workload)| *workload));
        Err(WorkloadNameError::Ambiguous { name: name.into(), candidates })
    }

    /// The workloads that a name fits best.
    fn first_that_fit(&self, wanted: Reading<'_>) -> Vec<(usize, &Workload)> {
        let that_fit = |fits: &dyn Fn(&Workload) -> bool| -> Vec<(usize, &Workload)> {
            let all = self.workloads().iter().enumerate();
            let inside = |own: &Workload| wanted.namespace.is_none_or(|namespace| own.namespace == namespace);
            all.filter(|(_, workload)| inside(workload) && fits(workload)).collect()
        };
        match wanted.named {
            Some(named) => that_fit(&|workload| named.fits(workload, wanted.name)),
            None => FITS
                .into_iter()
                .map(|fits| that_fit(&|workload| fits(workload, wanted.name)))
                .find(|found| !found.is_empty())
                .unwrap_or_default(),
        }
    }

    fn pod_of_istioctl(&self, name: &str) -> Vec<(usize, &Workload)> {
        let Some((pod, namespace)) = name.rsplit_once('.') else { return Vec::new() };
        let all = self.workloads().iter().enumerate();
        all.filter(|(_, workload)| workload.namespace == namespace && workload.name == pod).collect()
    }

    /// Names that resemble one that nothing has; all, where none does.
    fn close_to(&self, name: &str) -> Vec<SmolStr> {
        let (namespace, wanted) = match readings(name, "").first() {
            Some(Reading { namespace, name, .. }) => (namespace.filter(|own| !own.is_empty()), *name),
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

/// Names that tell workloads apart: with their kinds, where some differ in nothing else.
fn names_apart<'a>(workloads: impl Iterator<Item = &'a Workload> + Clone) -> Vec<SmolStr> {
    let named = |workload: &Workload| {
        let same =
            workloads.clone().filter(|own| own.namespace == workload.namespace && own.name == workload.name);
        let Workload { namespace, name, kind, .. } = workload;
        match same.count() {
            0 | 1 => workload.full_name(),
            _ => format_smolstr!("{namespace}/{}/{name}", kind.as_str().to_ascii_lowercase()),
        }
    };
    let mut names: Vec<SmolStr> = workloads.clone().map(named).collect();
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
                && self.ambient.is_some() == other.ambient.is_some()
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
    fn a_name_says_what_it_is_the_name_of() {
        let controller = |kind: &str| {
            format!(
                "apiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: sleep, namespace: shop}}\nspec:\n  selector: {{}}\n  \
                 template: {{metadata: {{labels: {{app: {kind}}}}}, spec: {{serviceAccountName: {kind}, containers: [{{name: a}}]}}}}\n---\n"
            )
        };
        let two =
            [controller("Deployment"), controller("StatefulSet"), pod("other", "cart-7d9f8b6c4-x2x9k", "")];
        let mesh = mesh(&two);
        let kind = |name: &str| mesh.workload_named(name, "shop").map(|(_, found)| found.kind);
        assert_eq!(
            kind("sleep").unwrap_err().candidates(),
            ["shop/deployment/sleep", "shop/statefulset/sleep"]
        );
        for (name, expected) in [
            ("deployment/sleep", Kind::Deployment),
            ("deploy/sleep", Kind::Deployment),
            ("sts/sleep.shop", Kind::StatefulSet),
            ("shop/statefulset/sleep", Kind::StatefulSet),
            ("sts/shop/sleep", Kind::StatefulSet),
            ("sa/StatefulSet", Kind::StatefulSet),
            ("sa/other/robot", Kind::Pod),
            ("other/sa/robot", Kind::Pod),
            ("spiffe://cluster.local/ns/shop/sa/Deployment", Kind::Deployment),
            ("deploy/cart", Kind::Pod),
            ("pod/cart-7d9f8b6c4-x2x9k.other", Kind::Pod),
        ] {
            assert_eq!(kind(name), Ok(expected), "{name}");
        }
        for name in ["sts/cart", "ds/sleep", "shop/pod/sleep", "spiffe://cluster.local/ns/shop/sa/robot"] {
            assert!(matches!(kind(name), Err(WorkloadNameError::Unknown { .. })), "{name}");
        }
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
