//! A rule sends to a cluster that the proxy does not have: which host, port or subset was meant?

use smol_str::{SmolStr, ToSmolStr, format_smolstr};

use super::Station;
use crate::envoy::Xds;
use crate::host::near;
use crate::istiod::name::SubsetKey;
use crate::istiod::service::ScopedService;
use crate::manifest::schema::istio::Destination;
use crate::mesh::destination::{Placed, listed};
use crate::mesh::{Mesh, VirtualService};
use crate::origin::Origin;
use crate::trace::contract::{NearMiss, StepKind};

/// The most hosts that are proposed for one that does not exist.
const MOST_HOSTS: usize = 3;

pub(super) fn misses(station: &Station<'_>) -> Vec<NearMiss> {
    let clusters = station.hop.steps.iter().filter(|step| step.kind == StepKind::Cluster);
    clusters
        .filter(|step| station.member.proxy.cluster(&step.name).is_none())
        .filter_map(|step| {
            let key = SubsetKey::parse(&step.name).filter(|key| !key.host.is_empty())?;
            let written = Written::find(station, step.origin.origin(), &key)?;
            Some(written.misses(station, &key))
        })
        .flatten()
        .collect()
}

/// The destination that names a cluster.
struct Written<'a> {
    rule: &'a VirtualService,
    placed: Placed<'a>,
}

impl<'a> Written<'a> {
    /// The destination of the rule at `origin` that leads to a cluster.
    fn find(station: &'a Station<'_>, origin: &Origin, key: &SubsetKey<'_>) -> Option<Self> {
        let Origin::Field { resource, path } = origin else { return None };
        // The rule, whichever of its conditions or destinations is named.
        let rule = path.split(".match").next().unwrap_or(path).split(".route").next().unwrap_or(path);
        let leads = |destination: &Destination| {
            let port = destination.port.as_ref().map(|port| port.number);
            destination.host == key.host
                && destination.subset == key.subset
                && port.is_none_or(|port| port == u32::from(key.port))
        };
        let all = station.mesh().virtual_services().iter();
        all.flat_map(|vs| vs.placed_destinations().into_iter().map(move |placed| (vs, placed))).find_map(
            |(rule_of, placed)| {
                let Origin::Field { resource: of, path } = &placed.origin else { return None };
                let fits = of == resource && path.starts_with(rule) && leads(placed.destination);
                fits.then(|| Self { rule: rule_of, placed })
            },
        )
    }

    fn misses(&self, station: &Station<'_>, key: &SubsetKey<'_>) -> Vec<NearMiss> {
        let mesh = station.mesh();
        let Some(service) = station.member.proxy.scope().service(key.host) else {
            return match mesh.services_of(key.host).next().and_then(|service| service.origin.resource()) {
                Some(hidden) => vec![station.hidden(hidden)],
                None => match mesh.cluster_service(key.host) {
                    Some(unwatched) => vec![station.unwatched(unwatched)],
                    None => self.host(station, key),
                },
            };
        };
        if service.port(key.port).is_none() {
            return vec![self.port(station, key, &service)];
        }
        if key.subset.is_empty() { Vec::new() } else { vec![self.subset(station, key, &service)] }
    }

    fn host(&self, station: &Station<'_>, key: &SubsetKey<'_>) -> Vec<NearMiss> {
        let mesh = station.mesh();
        let miss = |expected| station.miss(self.placed.host(), "host", expected, key.host.into());
        let out: Vec<NearMiss> = mesh
            .meant_services(key.host, &self.rule.namespace)
            .into_iter()
            .take(MOST_HOSTS)
            .map(|meant| NearMiss {
                repair: if self.placed.is_backend {
                    mesh.written_backend(meant, key.host)
                } else {
                    Some(mesh.written_host(meant, &self.rule.namespace))
                },
                ..miss(meant.hostname.clone())
            })
            .collect();
        if out.is_empty() { vec![miss("a host that a Service or ServiceEntry has".into())] } else { out }
    }

    fn port(&self, station: &Station<'_>, key: &SubsetKey<'_>, service: &ScopedService) -> NearMiss {
        let ports = listed(service.ports().iter().map(|port| port.number.to_smolstr()), "or");
        let got = match &self.placed.destination.port {
            Some(port) => port.number.to_smolstr(),
            None => format_smolstr!("{}, the listener's", key.port),
        };
        NearMiss {
            repair: Mesh::meant_port(service.ports(), key.port).map(|port| port.to_smolstr()),
            ..station.miss(self.placed.port(), "port", ports.into(), got)
        }
    }

    fn subset(&self, station: &Station<'_>, key: &SubsetKey<'_>, service: &ScopedService) -> NearMiss {
        let (mesh, proxy) = (station.mesh(), &station.member.proxy);
        let applies = proxy.scope().destination_rule(mesh, proxy.node(), key.host);
        let defined: Vec<SmolStr> =
            applies.iter().flat_map(|rule| &rule.subsets).map(|subset| subset.subset.name.clone()).collect();
        let elsewhere = mesh
            .written_subsets(key.host)
            .into_iter()
            .find(|(_, names)| names.iter().any(|name| name == key.subset));
        if let Some((origin, _)) = elsewhere
            && let Some(id) = origin.resource()
            && let Some(rule) = mesh.manifests().get(id)
        {
            let (own, client) = (&rule.meta.namespace, station.namespace());
            if own == service.namespace() || *own == mesh.config().root_namespace {
                return station.hidden(id);
            }
            // istiod: `push_context.go: destinationRule`.
            let help = format!(
                "a DestinationRule holds for clients of its own namespace; for others it has to be in {}, the Service's",
                service.namespace()
            );
            let miss =
                station.miss(origin.part("metadata.namespace"), "namespace", client.clone(), own.clone());
            return NearMiss { help: Some(help), ..miss };
        }
        let nearest = near::nearest(key.subset, defined.iter().map(SmolStr::as_str)).map(SmolStr::new);
        if nearest.is_none() && defined.is_empty() {
            // Nothing that is written gives the name a meaning; without it, all endpoints are meant.
            let host = mesh.written_host(service.service(), &self.rule.namespace);
            let whole = match &self.placed.destination.port {
                Some(port) => format!("{{host: {host}, port: {{number: {}}}}}", port.number),
                None => format!("{{host: {host}}}"),
            };
            let help = format!("or define {} in a DestinationRule for {}", key.subset, key.host);
            let expected = "a subset that a DestinationRule defines".into();
            let miss = station.miss(self.placed.origin.clone(), "subset", expected, key.subset.into());
            return NearMiss { repair: Some(whole.into()), help: Some(help), ..miss };
        }
        let expected = listed(defined.iter().cloned(), "or");
        let miss =
            station.miss(self.placed.origin.part("subset"), "subset", expected.into(), key.subset.into());
        let help = nearest.is_none().then(|| {
            let rules: Vec<String> =
                applies.iter().flat_map(|rule| &rule.from).map(|id| mesh.manifests().describe(*id)).collect();
            format!("use one that exists, or define {} in {}", key.subset, rules.join(" or "))
        });
        NearMiss { repair: nearest, help, ..miss }
    }
}
