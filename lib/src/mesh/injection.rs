//! Does a new pod get a proxy?
//!
//! The selectors of Istio's webhook and what istiod asks after them, for a control plane without revision or with the one
//! that is named. Invariant: what only the Namespace could say is assumed, and marked so, when it is not among the manifests.
//! istio: `templates/mutatingwebhook.yaml`; `pkg/kube/inject/inject.go: injectRequired`.

use indexmap::IndexMap;
use smol_str::SmolStr;

use crate::manifest::schema::kubernetes::PodSpec;

/// Whether a new pod gets a proxy.
pub(super) struct Injection {
    /// Whether it does.
    pub(super) injected: bool,
    /// Why.
    pub(super) reason: &'static str,
    /// Whether its Namespace decides, which is not known.
    pub(super) assumed: bool,
}

/// Whether a new pod gets a proxy, and why; a Namespace that is not known is assumed to ask for injection, since somebody who
/// asks about a mesh means workloads that are in it.
pub(super) fn injection(
    labels: &IndexMap<SmolStr, SmolStr>,
    annotations: &IndexMap<SmolStr, SmolStr>,
    spec: &PodSpec,
    namespace: &str,
    namespace_labels: Option<&IndexMap<SmolStr, SmolStr>>,
) -> Injection {
    let settled = |injected, reason| Injection { injected, reason, assumed: false };
    let ns = |key: &str| namespace_labels.and_then(|l| l.get(key)).map(SmolStr::as_str);
    let pod = |key: &str| labels.get(key).map(SmolStr::as_str);
    let inject = pod("sidecar.istio.io/inject");
    let not_refused = inject != Some("false");
    let (injection_label, revision) = (ns("istio-injection"), ns("istio.io/rev"));
    let selected = match (injection_label, revision) {
        (Some("enabled"), _) => not_refused,
        (Some(_), _) => false,
        (None, Some(_)) => not_refused,
        (None, None) => {
            (inject == Some("true") && pod("istio.io/rev").is_none())
                || (not_refused && pod("istio.io/rev").is_some())
        }
    };
    let assumed = !selected && not_refused && namespace_labels.is_none();
    if !selected && !assumed {
        return match (injection_label, inject) {
            (_, Some("false")) => settled(false, "its label sidecar.istio.io/inject is \"false\""),
            (Some("disabled"), _) => settled(false, "its namespace has the label istio-injection: disabled"),
            _ => settled(false, "neither its namespace nor its own labels ask for injection"),
        };
    }
    if spec.host_network {
        return settled(false, "it uses the node's network");
    }
    if matches!(namespace, "kube-system" | "kube-public" | "kube-node-lease" | "local-path-storage") {
        return settled(false, "its namespace is never injected");
    }
    let value = inject.or_else(|| annotations.get("sidecar.istio.io/inject").map(SmolStr::as_str));
    match value {
        Some("false") => settled(false, "sidecar.istio.io/inject is \"false\""),
        Some("true") => Injection { injected: true, reason: "sidecar.istio.io/inject is \"true\"", assumed },
        _ => Injection { injected: true, reason: "its namespace asks for injection", assumed },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> IndexMap<SmolStr, SmolStr> {
        text.split_whitespace()
            .map(|pair| pair.split_once('=').unwrap())
            .map(|(key, value)| (key.into(), value.into()))
            .collect()
    }

    /// What comes of labels of the namespace (`None`: it is not known) and the pod.
    fn of(namespace: Option<&str>, pod: &str) -> Injection {
        let namespace = namespace.map(labels);
        injection(&labels(pod), &IndexMap::new(), &PodSpec::default(), "shop", namespace.as_ref())
    }

    #[test]
    fn labels_of_namespace_and_pod_are_selected_as_the_webhook_selects_them() {
        let cases = [
            ("istio-injection=enabled", "", true),
            ("istio-injection=enabled", "sidecar.istio.io/inject=false", false),
            ("istio-injection=enabled istio.io/rev=x", "", true),
            ("istio-injection=disabled", "sidecar.istio.io/inject=true", false),
            ("istio.io/rev=x", "", true),
            ("istio.io/rev=x", "istio.io/rev=y", true),
            ("istio.io/rev=x", "sidecar.istio.io/inject=false", false),
            ("", "", false),
            ("", "sidecar.istio.io/inject=true", true),
            ("", "istio.io/rev=x", true),
            ("", "istio.io/rev=x sidecar.istio.io/inject=false", false),
        ];
        for (namespace, pod, injected) in cases {
            let found = of(Some(namespace), pod);
            assert_eq!((found.injected, found.assumed), (injected, false), "{namespace} / {pod}");
        }
    }

    #[test]
    fn a_namespace_that_is_not_known_is_assumed_to_ask_unless_the_pod_decides() {
        let cases = [
            ("", (true, true)),
            ("app=web", (true, true)),
            ("sidecar.istio.io/inject=true", (true, false)),
            ("sidecar.istio.io/inject=false", (false, false)),
            ("istio.io/rev=x", (true, false)),
        ];
        for (pod, expected) in cases {
            let found = of(None, pod);
            assert_eq!((found.injected, found.assumed), expected, "{pod}");
        }
    }

    #[test]
    fn no_label_brings_a_proxy_to_the_nodes_network_or_to_the_systems_namespaces() {
        let enabled = labels("istio-injection=enabled");
        let none = IndexMap::new();
        let host = PodSpec { host_network: true, ..PodSpec::default() };
        assert!(!injection(&none, &none, &host, "shop", Some(&enabled)).injected);
        for namespace_labels in [Some(&enabled), None] {
            let found = injection(&none, &none, &PodSpec::default(), "kube-system", namespace_labels);
            assert!(!found.injected && !found.assumed);
        }
    }
}
