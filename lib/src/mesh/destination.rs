//! Does what a rule sends to exist, and what was meant if it does not?
//!
//! istioctl: `analyzers/virtualservice/destinationhosts.go`, `destinationrules.go`. Invariant: only what holds for no proxy
//! whatever is a diagnostic; what one proxy sees of it is asked by the trace.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};
use smol_str::{SmolStr, ToSmolStr, format_smolstr};

use super::{Generator, Mesh, Registry, Service, VirtualService, host};
use crate::diagnostic::{Code, Diagnostic, Place};
use crate::host::near;
use crate::manifest::Spec;
use crate::manifest::schema::istio::Destination;
use crate::origin::Origin;

/// A destination and where it is written.
#[derive(Clone, Debug)]
pub(crate) struct Placed<'a> {
    /// The destination, its host completed.
    pub(crate) destination: &'a Destination,
    /// Where it is written as a whole.
    pub(crate) origin: Origin,
    /// Whether that is a backend of a Gateway API route.
    pub(crate) is_backend: bool,
}

impl Placed<'_> {
    /// Where its host is written.
    pub(crate) fn host(&self) -> Origin {
        self.origin.part(if self.is_backend { "name" } else { "host" })
    }

    /// Where its port is written.
    pub(crate) fn port(&self) -> Origin {
        self.origin.part(if self.is_backend { "port" } else { "port.number" })
    }
}

impl VirtualService {
    /// Everything it sends to, mirrors included, and where each is written; of those that istiod makes, what HTTP rules of
    /// Gateway API routes send to.
    pub(crate) fn placed_destinations(&self) -> Vec<Placed<'_>> {
        let is_backend = self.generator == Generator::GatewayApi;
        let placed = |destination, origin| Placed { destination, origin, is_backend };
        let mut out = Vec::new();
        if self.generator == Generator::Ingress {
            return out;
        }
        for rule in &self.http {
            for (i, route) in rule.route.route.iter().enumerate() {
                let part = if is_backend { "" } else { ".destination" };
                let at = || rule.place(&format_smolstr!("route[{i}]{part}"));
                out.extend(route.destination.as_ref().map(|destination| placed(destination, at())));
            }
            if is_backend {
                continue;
            }
            out.extend(rule.route.mirror.as_ref().map(|mirror| placed(mirror, rule.place("mirror"))));
            for (i, mirror) in rule.route.mirrors.iter().enumerate() {
                let at = || rule.place(&format_smolstr!("mirrors[{i}].destination"));
                out.extend(mirror.destination.as_ref().map(|destination| placed(destination, at())));
            }
        }
        let tcp = self.tcp.iter().map(|rule| (&rule.route.route, &rule.origin));
        let tls = self.tls.iter().map(|rule| (&rule.route.route, &rule.origin));
        for (routes, origin) in tcp.chain(tls).filter(|_| !is_backend) {
            for (i, route) in routes.iter().enumerate() {
                let at = || origin.element("route", i).part("destination");
                out.extend(route.destination.as_ref().map(|destination| placed(destination, at())));
            }
        }
        out
    }
}

impl Mesh {
    /// The services whose hosts could have been meant by one that no service has, the likeliest first: one whose name has to
    /// be written in full, those of the name in other namespaces, those with a slip in the name.
    pub(crate) fn meant_services(&self, asked: &str, namespace: &str) -> Vec<&Arc<Service>> {
        let domain = self.cluster_domain();
        let mut out: Vec<&Arc<Service>> =
            self.services_of(&format_smolstr!("{asked}.svc.{domain}")).collect();
        let own_end = format_smolstr!(".{namespace}.svc.{domain}");
        if let Some(name) = asked.strip_suffix(own_end.as_str()).filter(|name| !name.contains('.')) {
            out.extend(self.services().iter().filter(|service| service.name == name));
        }
        let mut slips: Vec<(usize, &Arc<Service>)> = self
            .services()
            .iter()
            .filter_map(|service| Some((near::slip(asked, &service.hostname)?, service)))
            .collect();
        slips.sort_by_key(|(distance, service)| (*distance, service.namespace != namespace));
        out.extend(slips.into_iter().map(|(_, service)| service));
        let mut seen = FxHashSet::default();
        out.retain(|service| seen.insert(&service.hostname));
        out
    }

    /// How a backend of a Gateway API route names a service in the namespace that `asked` is in.
    pub(crate) fn written_backend(&self, service: &Service, asked: &str) -> Option<SmolStr> {
        let (_, place) = asked.split_once('.')?;
        let own = format_smolstr!("{}.svc.{}", service.namespace, self.cluster_domain());
        (service.registry == Registry::Kubernetes && place == own).then(|| service.name.clone())
    }

    /// How a resource in `namespace` names a service: by its short name, where that is enough.
    pub(crate) fn written_host(&self, service: &Service, namespace: &str) -> SmolStr {
        let short = host::resolve_short_name(&service.name, namespace, self.resource_domain());
        if short == service.hostname { service.name.clone() } else { service.hostname.clone() }
    }

    /// The port of a service that was meant by a number that no port has: the one that leads to that number at the
    /// endpoints, else the only one.
    pub(crate) fn meant_port(ports: &[super::ServicePort], number: u16) -> Option<u16> {
        let targets: Vec<u16> =
            ports.iter().filter(|port| port.target_port == number).map(|port| port.number).collect();
        match (targets.as_slice(), ports) {
            ([port], _) => Some(*port),
            ([], [port]) => Some(port.number),
            _ => None,
        }
    }

    /// The subsets that DestinationRules define for a host: each rule's origin and the names, whoever sees it.
    pub(crate) fn written_subsets(&self, asked: &str) -> Vec<(Origin, Vec<SmolStr>)> {
        let domain = self.resource_domain();
        let rules = self.manifests().resources().filter_map(|resource| match &resource.spec {
            Spec::DestinationRule(rule) => Some((resource, rule)),
            _ => None,
        });
        rules
            .filter(|(resource, rule)| {
                let own = host::resolve_short_name(&rule.host, &resource.meta.namespace, domain);
                host::subset_of(asked, &own)
            })
            .map(|(resource, rule)| {
                (resource.origin(""), rule.subsets.iter().map(|subset| subset.name.clone()).collect())
            })
            .collect()
    }
}

/// What there is to say about the destinations of all VirtualServices and Gateway API routes that users wrote.
pub(crate) fn diagnostics(mesh: &Mesh) -> Vec<Diagnostic> {
    let mut subsets: FxHashMap<&SmolStr, Vec<SmolStr>> = FxHashMap::default();
    let mut seen: FxHashSet<Origin> = FxHashSet::default();
    let mut out = Vec::new();
    // Rules alone say nothing about what there is.
    if !mesh.services().iter().any(|service| service.registry == Registry::Kubernetes) {
        return out;
    }
    for virtual_service in mesh.virtual_services() {
        for placed in virtual_service.placed_destinations() {
            // A delegate's rules stand in each VirtualService that delegates to it, a route's in one for each host.
            if !placed.destination.host.is_empty() && seen.insert(placed.origin.clone()) {
                out.extend(missing(mesh, &virtual_service.namespace, &placed, &mut subsets));
            }
        }
    }
    out
}

fn missing<'m>(
    mesh: &'m Mesh,
    namespace: &str,
    placed: &Placed<'m>,
    subsets: &mut FxHashMap<&'m SmolStr, Vec<SmolStr>>,
) -> Option<Diagnostic> {
    let destination = placed.destination;
    let asked = &destination.host;
    let from = placed.origin.resource().map(|id| mesh.manifests().describe(id)).unwrap_or_default();
    let found = |code, at: Origin, message: String, label: String| {
        let path = match &at {
            Origin::Field { path, .. } => path.clone(),
            Origin::Default(_) => SmolStr::default(),
        };
        Diagnostic::new(code, format!("{from} sends to {message}")).field(path).at(Place::Origin(at), label)
    };
    let services: Vec<&Arc<Service>> = mesh.services_of(asked).collect();
    if services.is_empty() {
        if let Some(unwatched) = mesh.cluster_service(asked) {
            let message = format!("{asked}, which is in a namespace that istiod does not watch");
            let said = found(Code::MissingDestination, placed.host(), message, format!("means {asked}"));
            return Some(
                said.at(Place::Origin(unwatched.origin.clone()), "not chosen by discoverySelectors"),
            );
        }
        let said = found(
            Code::MissingDestination,
            placed.host(),
            format!("{asked}, which no Service or ServiceEntry has"),
            format!("means {asked}"),
        );
        let Some(meant) = mesh.meant_services(asked, namespace).into_iter().next() else { return Some(said) };
        let written = if placed.is_backend {
            mesh.written_backend(meant, asked)
        } else {
            Some(mesh.written_host(meant, namespace))
        };
        let said = said.at(Place::Origin(meant.origin.clone()), "this one exists");
        return Some(match written {
            Some(written) => said.help(format!("did you mean \"{written}\"?")),
            None => said,
        });
    }
    if let Some(port) = &destination.port {
        let number = u16::try_from(port.number).unwrap_or(0);
        if services.iter().all(|service| service.port(number).is_none()) {
            let service = services.first()?;
            let ports = listed(service.ports.iter().map(|port| port.number.to_smolstr()), "and");
            let said = found(
                Code::MissingPort,
                placed.port(),
                format!("port {number} of {asked}, which has no such port"),
                "is no port of it".to_owned(),
            )
            .at(Place::Origin(service.origin.clone()), format!("has {ports}"));
            return Some(match Mesh::meant_port(&service.ports, number) {
                Some(meant) => {
                    said.help(format!("did you mean {meant}? A destination names the Service's port"))
                }
                None => said.help("a destination names the Service's port, not that of its pods"),
            });
        }
    }
    if destination.subset.is_empty() {
        return None;
    }
    let defined = subsets
        .entry(asked)
        .or_insert_with(|| mesh.written_subsets(asked).into_iter().flat_map(|(_, names)| names).collect());
    if defined.contains(&destination.subset) {
        return None;
    }
    let subset = &destination.subset;
    let said = found(
        Code::MissingSubset,
        placed.origin.part("subset"),
        format!("the subset {subset} of {asked}, which no DestinationRule defines"),
        "is not defined".to_owned(),
    );
    let nearest = near::nearest(subset, defined.iter().map(SmolStr::as_str));
    Some(match (nearest, defined.as_slice()) {
        (Some(meant), _) => said.help(format!("did you mean \"{meant}\"?")),
        (None, []) => said.help(format!("define it in a DestinationRule for {asked}, or leave `subset` out")),
        (None, all) => said.help(format!("there is {}", listed(all.iter().cloned(), "and"))),
    })
}

/// `a, b and c`.
pub(crate) fn listed(all: impl IntoIterator<Item = SmolStr>, word: &str) -> String {
    let all: Vec<SmolStr> = all.into_iter().collect();
    match all.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} {word} {last}", rest.join(", ")),
        Some((last, _)) => last.to_string(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Loader;
    use crate::mesh::MeshOptions;

    const SERVICES: &str = "\
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{port: 80, targetPort: 8080, name: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: billing}
spec: {ports: [{port: 80, name: http}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: api, namespace: billing}
spec: {host: api, subsets: [{name: stable}, {name: canary}]}
---
";

    /// Code and help of what is said about a destination.
    fn said(destination: &str) -> Option<(&'static str, String)> {
        let text = format!(
            "{SERVICES}apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v}}\nspec:\n  hosts: \
             [web]\n  http: [{{route: [{{destination: {{{destination}}}}}]}}]\n"
        );
        let mesh = Mesh::new(Loader::new().text("m.yaml", text).load(), MeshOptions::default());
        let mut all = diagnostics(&mesh).into_iter();
        let first = all.next()?;
        assert_eq!(all.next(), None);
        Some((first.code.as_str(), first.help.unwrap_or_default()))
    }

    #[test]
    fn hosts_ports_and_subsets_that_exist_are_no_finding() {
        for fine in [
            "host: web",
            "host: web, port: {number: 80}",
            "host: api.billing.svc.cluster.local, subset: canary",
        ] {
            assert_eq!(said(fine), None, "{fine}");
        }
    }

    #[test]
    fn what_was_meant_is_named() {
        for (destination, code, help) in [
            ("host: webb", "missing-destination", "did you mean \"web\"?"),
            ("host: api.billing", "missing-destination", "did you mean \"api.billing.svc.cluster.local\"?"),
            ("host: api", "missing-destination", "did you mean \"api.billing.svc.cluster.local\"?"),
            ("host: unrelated.example", "missing-destination", ""),
            (
                "host: web, port: {number: 8080}",
                "missing-port",
                "did you mean 80? A destination names the Service's port",
            ),
            (
                "host: web, subset: v3",
                "missing-subset",
                "define it in a DestinationRule for web.default.svc.cluster.local, or leave `subset` out",
            ),
            (
                "host: api.billing.svc.cluster.local, subset: canray",
                "missing-subset",
                "did you mean \"canary\"?",
            ),
            (
                "host: api.billing.svc.cluster.local, subset: v3",
                "missing-subset",
                "there is stable and canary",
            ),
        ] {
            assert_eq!(said(destination), Some((code, help.to_owned())), "{destination}");
        }
    }
}
