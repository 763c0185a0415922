//! What does a code look like in a manifest, and what is to be done?
//!
//! One page for each code of the manifests' reader and of Istio's validation, shown by `dryroute explain`.

use super::Code;

/// An example of a code and advice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Text that leads to the code.
    pub example: &'static str,
    /// What to do.
    pub advice: &'static str,
}

impl Code {
    /// The page of a code; codes that come from a trace explain themselves there.
    pub const fn page(self) -> Option<Page> {
        let (example, advice) = match self {
            Self::UnreadableFile => (
                "a file that is not UTF-8 text, or that may not be read",
                "Save the file as UTF-8, or check its permissions.",
            ),
            Self::InvalidYaml => (
                "spec:\n  hosts: [a.example\n",
                "Correct the text at the place that is named. Only this document is left out; `---` begins the next one.",
            ),
            Self::NotAResource => (
                "replicas: 2\nimage: nginx\n",
                "Values files and other YAML can stay where they are; a resource needs `apiVersion` and `kind`.",
            ),
            Self::UnknownKind => (
                "apiVersion: example.com/v1\nkind: Widget\n",
                "Nothing, if the kind does not route traffic. The resource is counted and passed by. If it is misspelt or has the version or group of another kind, a cluster refuses it: correct it as suggested.",
            ),
            Self::UnknownField => (
                "kind: VirtualService\nspec:\n  http:\n  - rout: []\n",
                "Correct the name; where one is near, it is suggested. The API server drops such a field without a word, or refuses the resource.",
            ),
            Self::WrongType => (
                "kind: VirtualService\nspec:\n  hosts: a.example\n",
                "Write the value as the type that is expected: here a list, `hosts: [a.example]`.",
            ),
            Self::UnknownValue => (
                "kind: ServiceEntry\nspec:\n  resolution: DSN\n",
                "Use one of the values that are listed. Enums are written by name; durations like `10s` or `1m30s`.",
            ),
            Self::OneofConflict => (
                "match:\n- uri: {exact: /a, prefix: /b}\n",
                "Keep one of the members. To match either, write two entries.",
            ),
            Self::DuplicateKey => {
                ("metadata:\n  name: a\n  name: b\n", "Remove one of the two; Kubernetes takes the last.")
            }
            Self::DuplicateResource => (
                "two documents with one kind, namespace and name",
                "Remove or rename one. The later in the order of input counts, as with `kubectl apply`.",
            ),
            Self::InvalidName => ("kind: Service\nmetadata: {}\n", "Give the resource a `metadata.name`."),
            Self::RejectedByIstio => (
                "kind: ServiceEntry\nspec:\n  hosts: [a.example, b.example]\n  ports: [{number: 9000, name: tcp, protocol: TCP}]\n  resolution: DNS\n",
                "The reason is istiod's own; correct the field that is named. Until then the resource takes no part, because the cluster would not hold it.",
            ),
            Self::WarnedByIstio => (
                "http:\n- route: [{destination: {host: a}}]\n- route: [{destination: {host: b}}]\n",
                "The resource counts as it is. Istio's webhook prints the same warning when it is applied; it mostly names a rule that can never be used.",
            ),
            Self::RefusedAnnotation => (
                "metadata:\n  annotations:\n    traffic.sidecar.istio.io/excludeOutboundPorts: 70-90\n",
                "Write the value as the annotation expects it: ports one by one, `80,443`; addresses with their length, `10.96.1.1/32`. The webhook refuses the pod and the Deployment stays without it.",
            ),
            _ => return None,
        };
        Some(Page { example, advice })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Loader;

    #[test]
    fn examples_of_whole_manifests_lead_to_their_codes() {
        for code in [Code::InvalidYaml, Code::NotAResource, Code::InvalidName] {
            let page = code.page().unwrap();
            let text = match code {
                Code::InvalidName => format!("apiVersion: v1\n{}", page.example),
                _ => page.example.to_owned(),
            };
            let set = Loader::new().text("a.yaml", text).load();
            assert!(set.diagnostics().iter().any(|d| d.code == code), "{code:?}: {:?}", set.diagnostics());
        }
        for code in [Code::UnknownField, Code::WrongType, Code::UnknownValue, Code::RejectedByIstio] {
            let text = format!(
                "apiVersion: networking.istio.io/v1\nmetadata: {{name: a}}\n{}",
                code.page().unwrap().example
            );
            let set = Loader::new().text("a.yaml", text).load();
            assert!(set.diagnostics().iter().any(|d| d.code == code), "{code:?}: {:?}", set.diagnostics());
        }
    }
}
