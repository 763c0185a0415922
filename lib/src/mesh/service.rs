//! What is a service, to Istio?
//!
//! One for each Kubernetes Service, and one for each host and address of a ServiceEntry.
//! istiod: `pilot/pkg/model/service.go`, `pilot/pkg/serviceregistry/{kube,serviceentry}/conversion.go`.

use indexmap::{IndexMap, IndexSet};
use rustc_hash::FxHashMap;
use smol_str::{SmolStr, format_smolstr};

use super::auto_address::AutoAddress;
use super::protocol::Protocol;
use super::visibility::ExportTo;
use crate::manifest::Timestamp;
use crate::manifest::schema::istio;
use crate::manifest::schema::kubernetes::ServiceSpec;
use crate::manifest::schema::mesh_config::Visibility;
use crate::manifest::{Resource, schema};
use crate::origin::Origin;

/// The address of a service that has none.
pub const UNSPECIFIED: SmolStr = SmolStr::new_static("0.0.0.0");

/// How endpoints of a service are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resolution {
    /// From istiod.
    ClientSideLb,
    /// By DNS, all addresses.
    DnsLb,
    /// By DNS, one address.
    DnsRoundRobinLb,
    /// The address that the application chose.
    Passthrough,
    /// An ExternalName: another service's.
    Alias,
    /// The name in the request, by DNS.
    DynamicDns,
}

/// Who declared a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Registry {
    /// A Kubernetes Service.
    Kubernetes,
    /// A ServiceEntry.
    External,
}

/// Which of its endpoints a service wants to be preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TrafficDistribution {
    /// Those in the client's zone, then its region, then its network.
    PreferSameZone,
    /// Those on the client's node, then in its subzone, zone, region and network.
    PreferSameNode,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// The service's port.
    pub number: u16,
    /// Its name; endpoints are joined by it.
    pub name: SmolStr,
    /// What it speaks.
    pub protocol: Protocol,
    /// The port of endpoints, where a number is written; 0 when it is not.
    pub target_port: u16,
}

/// A service.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// The host.
    pub hostname: SmolStr,
    /// The name that decides its place among services of one age: the Service's name, or the host itself.
    pub name: SmolStr,
    /// The namespace.
    pub namespace: SmolStr,
    /// The ports.
    pub ports: Vec<ServicePort>,
    /// How endpoints are found.
    pub resolution: Resolution,
    /// Who declared it.
    pub registry: Registry,
    /// The main address: an IP address, a CIDR, or `0.0.0.0`.
    pub default_address: SmolStr,
    /// The addresses in the client's cluster.
    pub cluster_vips: Vec<SmolStr>,
    /// An automatic IPv4 address for clients with DNS capture; may be empty.
    pub auto_allocated_ipv4: SmolStr,
    /// An automatic IPv6 address; may be empty.
    pub auto_allocated_ipv6: SmolStr,
    /// Whether the addresses were assumed, because the input names none and a cluster would.
    pub assumed_address: bool,
    /// Hosts of ExternalName services that lead here.
    pub aliases: Vec<SmolStr>,
    /// The concrete host behind an ExternalName.
    pub external_name: Option<SmolStr>,
    /// Whether it is outside the mesh.
    pub mesh_external: bool,
    /// Who sees it.
    pub export_to: ExportTo,
    /// `exportTo` as written, in order and without repetitions: services that say the same in other words do not merge.
    pub written_export_to: Vec<SmolStr>,
    /// Labels of the object.
    pub labels: IndexMap<SmolStr, SmolStr>,
    /// Labels that select its workloads; empty when it selects none.
    pub selector: IndexMap<SmolStr, SmolStr>,
    /// Whether only endpoints on the client's node are used.
    pub node_local: bool,
    /// Which endpoints it wants to be preferred, and where that is written.
    pub traffic_distribution: Option<(TrafficDistribution, Origin)>,
    /// Names that its certificates have to carry.
    pub subject_alt_names: Vec<SmolStr>,
    /// When it was created.
    pub creation: Option<Timestamp>,
    /// Whether DNS names found no endpoint: neither endpoints nor a name that can be resolved.
    pub without_dns_endpoints: bool,
    /// Who made it.
    pub origin: Origin,
}

impl Service {
    /// The port of that number.
    pub fn port(&self, number: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|p| p.number == number)
    }

    /// Whether it is a headless Kubernetes Service.
    pub fn is_headless(&self) -> bool {
        self.registry == Registry::Kubernetes && self.resolution == Resolution::Passthrough
    }

    /// Every address that some client may know it by, CIDRs included.
    pub fn all_addresses(&self) -> impl Iterator<Item = &SmolStr> {
        let single = [&self.default_address, &self.auto_allocated_ipv4, &self.auto_allocated_ipv6];
        let known = |address: &&SmolStr| !address.is_empty() && **address != UNSPECIFIED;
        self.cluster_vips.iter().chain(single).filter(known)
    }

    /// Whether the name is a part of what istiod keys services by.
    pub fn has_address(&self) -> bool {
        self.default_address != UNSPECIFIED
    }
}

/// Defaults that both conversions share.
pub(crate) struct ServiceDefaults<'a> {
    pub cluster_domain: &'a str,
    pub trust_domain: &'a str,
    /// The Namespaces by name.
    pub namespaces: &'a FxHashMap<&'a SmolStr, &'a Resource>,
    pub export_to: &'a [SmolStr],
    /// How widely the ServiceEntries of a namespace may be seen.
    pub entry_visibility: &'a dyn Fn(&SmolStr) -> Visibility,
}

/// What the annotation of a Kubernetes Service exports it to.
pub(crate) fn exported_to(resource: &Resource) -> Option<impl Iterator<Item = &str>> {
    let text =
        resource.meta.annotations.get("networking.istio.io/exportTo").filter(|text| !text.is_empty())?;
    Some(text.split(',').map(str::trim))
}

/// Which endpoints a service wants to be preferred: by its field, else its annotation, else its Namespace's; an annotation
/// that says something else ends the search. istiod: `service.go: GetTrafficDistribution`.
fn traffic_distribution(
    resource: &Resource,
    field: &str,
    defaults: &ServiceDefaults<'_>,
) -> Option<(TrafficDistribution, Origin)> {
    const ANNOTATION: &str = "networking.istio.io/traffic-distribution";
    match field {
        "PreferClose" | "PreferSameZone" => {
            return Some((TrafficDistribution::PreferSameZone, resource.origin("spec.trafficDistribution")));
        }
        "PreferSameNode" => {
            return Some((TrafficDistribution::PreferSameNode, resource.origin("spec.trafficDistribution")));
        }
        _ => {}
    }
    let namespace = defaults.namespaces.get(&resource.meta.namespace).copied();
    let (annotated, value) = [Some(resource), namespace].into_iter().flatten().find_map(|resource| {
        Some((resource, resource.meta.annotations.get(ANNOTATION).filter(|value| !value.is_empty())?))
    })?;
    let wanted = match value.to_lowercase().as_str() {
        "preferclose" | "prefersamezone" => TrafficDistribution::PreferSameZone,
        "prefersamenode" => TrafficDistribution::PreferSameNode,
        _ => return None,
    };
    Some((wanted, annotated.origin(format_smolstr!("metadata.annotations.{ANNOTATION}"))))
}

/// Converts a Kubernetes Service.
pub(crate) fn from_kubernetes(
    resource: &Resource,
    spec: &ServiceSpec,
    assumed_ip: Option<SmolStr>,
    defaults: &ServiceDefaults<'_>,
) -> Service {
    let meta = &resource.meta;
    let mut vips: Vec<SmolStr> = if spec.cluster_ips.len() > 1 || spec.cluster_ip.is_empty() {
        spec.cluster_ips.clone()
    } else {
        vec![spec.cluster_ip.clone()]
    };
    vips.retain(|v| !v.is_empty());
    let external = spec.type_ == "ExternalName";
    let headless = vips.first().is_some_and(|v| v == "None");
    let mut assumed_address = false;
    if external || headless {
        vips.clear();
    } else if vips.is_empty()
        && let Some(ip) = assumed_ip
    {
        vips.push(ip);
        assumed_address = true;
    }
    let resolution = if external && !spec.external_name.is_empty() {
        Resolution::Alias
    } else if headless {
        Resolution::Passthrough
    } else {
        Resolution::ClientSideLb
    };
    let written: Vec<SmolStr> = exported_to(resource).into_iter().flatten().map(SmolStr::new).collect();
    let ports = spec
        .ports
        .iter()
        .map(|p| ServicePort {
            number: u16::try_from(p.port).unwrap_or(0),
            name: p.name.clone(),
            protocol: Protocol::of_service_port(p.port, &p.name, &p.protocol, p.app_protocol.as_deref()),
            target_port: match &p.target_port {
                Some(schema::IntOrString::Int(i)) => u16::try_from(*i).unwrap_or(0),
                Some(schema::IntOrString::String(_)) => 0,
                None => u16::try_from(p.port).unwrap_or(0),
            },
        })
        .collect();
    Service {
        hostname: format_smolstr!("{}.{}.svc.{}", meta.name, meta.namespace, defaults.cluster_domain),
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        ports,
        resolution,
        registry: Registry::Kubernetes,
        default_address: vips.first().cloned().unwrap_or(UNSPECIFIED),
        cluster_vips: vips,
        auto_allocated_ipv4: SmolStr::default(),
        auto_allocated_ipv6: SmolStr::default(),
        assumed_address,
        aliases: Vec::new(),
        external_name: (resolution == Resolution::Alias).then(|| spec.external_name.clone()),
        mesh_external: external,
        export_to: ExportTo::new(&written, defaults.export_to, &meta.namespace),
        written_export_to: as_set(&written),
        labels: meta.labels.clone(),
        selector: spec.selector.clone(),
        node_local: spec.internal_traffic_policy == "Local",
        traffic_distribution: traffic_distribution(resource, &spec.traffic_distribution, defaults),
        subject_alt_names: annotated_accounts(resource, defaults.trust_domain),
        creation: meta.creation_timestamp.clone(),
        without_dns_endpoints: false,
        origin: resource.origin("metadata.name"),
    }
}

/// The identities that annotations of a Service name. istiod: `kube/conversion.go: ConvertService`.
fn annotated_accounts(resource: &Resource, trust_domain: &str) -> Vec<SmolStr> {
    let list = |name: &str| {
        let text = resource.meta.annotations.get(name).map_or("", SmolStr::as_str);
        text.split(',').filter(move |_| !text.is_empty())
    };
    let namespace = &resource.meta.namespace;
    let own = list("alpha.istio.io/kubernetes-serviceaccounts")
        .map(|name| format_smolstr!("spiffe://{trust_domain}/ns/{namespace}/sa/{name}"));
    list("alpha.istio.io/canonical-serviceaccounts").map(SmolStr::new).chain(own).collect()
}

/// Converts a ServiceEntry: one service for each host and address.
pub(crate) fn from_service_entry(
    resource: &Resource,
    entry: &istio::ServiceEntry,
    auto_address: &dyn Fn(&SmolStr) -> Option<AutoAddress>,
    defaults: &ServiceDefaults<'_>,
) -> Vec<Service> {
    let meta = &resource.meta;
    let resolution = match entry.resolution {
        istio::Resolution::None => Resolution::Passthrough,
        istio::Resolution::Static => Resolution::ClientSideLb,
        istio::Resolution::Dns => Resolution::DnsLb,
        istio::Resolution::DnsRoundRobin => Resolution::DnsRoundRobinLb,
        istio::Resolution::DynamicDns => Resolution::DynamicDns,
    };
    let ports: Vec<ServicePort> = entry
        .ports
        .iter()
        .map(|p| ServicePort {
            number: u16::try_from(p.number).unwrap_or(0),
            name: p.name.clone(),
            protocol: Protocol::parse(&p.protocol),
            target_port: u16::try_from(p.target_port).unwrap_or(0),
        })
        .collect();
    let export_to = ExportTo::new(&entry.export_to, defaults.export_to, &meta.namespace)
        .capped((defaults.entry_visibility)(&meta.namespace), &meta.namespace);
    let written_export_to = as_set(&entry.export_to);
    let addresses: IndexSet<SmolStr> = if entry.addresses.is_empty() {
        IndexSet::from([UNSPECIFIED])
    } else {
        entry.addresses.iter().filter_map(|a| plain_address(a)).collect()
    };
    let distribution = traffic_distribution(resource, "", defaults);
    let mut out = Vec::new();
    // What is named twice is one service. istiod: `model/service.go: Service.ResourceName`.
    let mut hosts: IndexMap<&SmolStr, usize> = IndexMap::new();
    for (index, host) in entry.hosts.iter().enumerate() {
        hosts.entry(host).or_insert(index);
    }
    for (host, index) in hosts {
        for address in &addresses {
            let auto = if address == &UNSPECIFIED { auto_address(host) } else { None };
            let assumed_address = auto.as_ref().is_some_and(|a| a.assumed);
            let (v4, v6) = auto.map(|a| (a.v4, a.v6)).unwrap_or_default();
            out.push(Service {
                hostname: host.clone(),
                name: host.clone(),
                namespace: meta.namespace.clone(),
                ports: ports.clone(),
                resolution,
                registry: Registry::External,
                default_address: address.clone(),
                cluster_vips: Vec::new(),
                auto_allocated_ipv4: v4,
                auto_allocated_ipv6: v6,
                assumed_address,
                aliases: Vec::new(),
                external_name: None,
                mesh_external: entry.location == istio::Location::MeshExternal,
                export_to: export_to.clone(),
                written_export_to: written_export_to.clone(),
                labels: meta.labels.clone(),
                selector: entry.workload_selector.as_ref().map(|s| s.labels.clone()).unwrap_or_default(),
                node_local: false,
                traffic_distribution: distribution.clone(),
                subject_alt_names: entry.subject_alt_names.clone(),
                creation: meta.creation_timestamp.clone(),
                without_dns_endpoints: false,
                origin: resource.origin(format_smolstr!("spec.hosts[{index}]")),
            });
        }
    }
    out
}

/// An address as istiod keeps it: a CIDR of one address is that address, text that is neither is dropped.
fn plain_address(text: &str) -> Option<SmolStr> {
    match text.split_once('/') {
        None => text.parse::<std::net::IpAddr>().ok().map(|_| text.into()),
        Some((ip, bits)) => {
            let net: ipnet::IpNet = text.parse().ok()?;
            if bits.parse::<u8>().ok() == Some(net.max_prefix_len()) {
                Some(ip.into())
            } else {
                Some(text.into())
            }
        }
    }
}

/// The members of a list, in order.
fn as_set(list: &[SmolStr]) -> Vec<SmolStr> {
    let mut set = list.to_vec();
    set.sort();
    set.dedup();
    set
}
