//! Which names does an egress listener import?
//!
//! The `hosts` of an egress listener, sorted by namespace. Invariant: an exclusion beats every inclusion.
//! istiod: `sidecar.go: convertIstioListenerToWrapper, hostClassification`.

use indexmap::IndexMap;
use rustc_hash::FxHashSet;
use smol_str::SmolStr;

use crate::mesh::{Generator, VirtualService, host};

/// The namespace entry that stands for all namespaces.
const EVERY_NAMESPACE: &str = "*";

/// The hosts that an egress listener names for one namespace.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostClassification {
    exact: FxHashSet<SmolStr>,
    all: Vec<SmolStr>,
    excluded: Vec<SmolStr>,
}

impl HostClassification {
    fn excludes(&self, name: &str) -> bool {
        self.excluded.iter().any(|excluded| host::subset_of(name, excluded))
    }

    /// Whether a service of this name is imported.
    pub(crate) fn matches(&self, name: &str) -> bool {
        self.exact.contains(name) || self.all.iter().any(|imported| host::subset_of(name, imported))
    }

    /// Whether a VirtualService with this host is imported: the names may cover each other either way.
    fn matches_virtual_service(&self, name: &str, generator: Generator) -> bool {
        self.exact.contains(name)
            || self.all.iter().any(|imported| {
                if !host::is_wildcard(name) && !host::is_wildcard(imported) {
                    false
                } else if generator == Generator::GatewayApi {
                    host::subset_of(name, imported)
                } else {
                    host::matches(name, imported)
                }
            })
    }
}

/// The `hosts` of an egress listener.
#[derive(Clone, Debug)]
pub(crate) struct Imports {
    by_namespace: IndexMap<SmolStr, HostClassification>,
    all_exact: bool,
}

impl Imports {
    /// Reads the `namespace/host` entries of a listener, for a client in `namespace`.
    pub(crate) fn new(hosts: &[SmolStr], namespace: &str) -> Self {
        let mut out = Self { by_namespace: IndexMap::new(), all_exact: true };
        for entry in hosts {
            let Some((ns, name)) = entry.split_once('/').filter(|(_, name)| !name.contains('/')) else {
                continue;
            };
            let (ns, excluded) = match ns.strip_prefix('~') {
                Some("") => (EVERY_NAMESPACE, true),
                Some(ns) => (ns, true),
                None => (ns, false),
            };
            let ns = if ns == "." { namespace } else { ns };
            let class = out.by_namespace.entry(ns.into()).or_default();
            if excluded {
                class.excluded.push(name.into());
                continue;
            }
            if host::is_wildcard(name) {
                out.all_exact = false;
            } else {
                class.exact.insert(name.into());
            }
            out.all_exact &= ns != EVERY_NAMESPACE;
            class.all.push(name.into());
        }
        out
    }

    /// The exact hosts and their namespaces, if no entry is wider than that.
    pub(crate) fn exact_hosts(&self) -> Option<impl Iterator<Item = (&SmolStr, &SmolStr)>> {
        self.all_exact.then(|| {
            self.by_namespace.iter().flat_map(|(ns, class)| class.all.iter().map(move |name| (ns, name)))
        })
    }

    /// The namespaces that are named and the exact hosts of all namespaces, if no wildcard holds for all namespaces.
    pub(crate) fn limits(&self) -> Option<(impl Iterator<Item = &SmolStr>, &[SmolStr])> {
        let everywhere = self.by_namespace.get(EVERY_NAMESPACE).map_or(&[][..], |class| &class.all);
        if everywhere.iter().any(|name| host::is_wildcard(name)) {
            return None;
        }
        Some((self.by_namespace.keys().filter(|ns| *ns != EVERY_NAMESPACE), everywhere))
    }

    /// The entries of a namespace, then those of all namespaces.
    pub(crate) fn of_namespace(&self, namespace: &str) -> impl Iterator<Item = &HostClassification> {
        [self.by_namespace.get(namespace), self.by_namespace.get(EVERY_NAMESPACE)].into_iter().flatten()
    }

    /// Whether a name of a namespace is left out.
    pub(crate) fn excludes(&self, namespace: &str, name: &str) -> bool {
        self.of_namespace(namespace).any(|hosts| hosts.excludes(name))
    }

    /// Whether a VirtualService is imported. istiod: `virtualservice.go: SelectVirtualServices`.
    pub(crate) fn takes(&self, virtual_service: &VirtualService) -> bool {
        let namespace = &virtual_service.namespace;
        self.of_namespace(namespace).any(|hosts| {
            virtual_service.hosts.iter().any(|name| {
                hosts.matches_virtual_service(name, virtual_service.generator)
                    && !self.excludes(namespace, name)
            })
        })
    }
}
