//! How do manifests become a mesh?
//!
//! One pass over the resources, then the parts that need others: workloads, services, endpoints, aliases.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, OnceLock};

use indexmap::IndexMap;
use rustc_hash::FxHashMap;
use smol_str::{SmolStr, ToSmolStr};

use super::auto_address::{AutoAddresses, hash_addresses};
use super::locality::Nodes;
use super::network::NetworkGateways;
use super::service::ServiceDefaults;
use super::virtual_service::{Naming, merge_delegates};
use super::watched::Watched;
use super::workload::{Surroundings, from_pod, from_template, template};
use super::{
    DestinationRules, EffectiveConfig, Endpoint, EndpointKey, Mesh, MeshOptions, Policies, Resolution,
    Service, ServiceIndex, VirtualServiceIndex, Workload, arrival, backend_policy, binding, destination_rule,
    endpoint, gateway, gateway_api, ingress, selects, service, virtual_service, visibility,
};
use crate::diagnostic::{Code, Diagnostic, Place};
use crate::manifest::schema::mesh_config::MeshConfig;
use crate::manifest::{Kind, ManifestSet, Resource, Spec, Status, parse_mesh_config, schema};
use crate::parallel;

/// Numbers for addresses that the input does not name: 198.18.0.0/15 is set aside for benchmarks, so no real host has them.
struct Addresses {
    next_service: u32,
    next_pod: u32,
}

impl Addresses {
    fn service(&mut self) -> SmolStr {
        self.next_service += 1;
        Ipv4Addr::from(0xC612_0000 + self.next_service).to_smolstr()
    }

    fn pod(&mut self) -> IpAddr {
        self.next_pod += 1;
        IpAddr::V4(Ipv4Addr::from(0xC613_0000 + self.next_pod))
    }
}

pub(super) fn build(mut manifests: ManifestSet, mut options: MeshOptions) -> Mesh {
    let mut diagnostics = Vec::new();
    let mut config_diagnostics = Vec::new();
    options.features.read(&manifests);
    for (name, value) in &options.switches {
        options.features.set(name, value);
    }
    let config = EffectiveConfig::new(mesh_config(&manifests, &options, &mut config_diagnostics));
    let mut addresses = Addresses { next_service: 0, next_pod: 0 };
    let namespaces = namespaces(&manifests);
    let selectors = config.written.discovery_selectors.as_deref().unwrap_or_default();
    let watched = Watched::new(selectors, &namespaces, &manifests);
    let policies = policies(&manifests, &watched);
    if options.features.gateway_api && options.gateway_api_defaults {
        let features = &options.features;
        for (gateway, meta, spec) in
            gateway_api::deployment::missing(&manifests, &policies, &namespaces, features)
        {
            manifests.derive(gateway, meta, spec);
        }
    }
    let network_gateways = NetworkGateways::new(&manifests, &watched);
    let ordered = in_order(&manifests);
    let nodes = Nodes::new(manifests.resources(), &config.root_namespace);
    let workloads = workloads(&ordered, &nodes, &mut addresses);
    let mut workload_by_ip = FxHashMap::default();
    let mut workload_by_name = FxHashMap::default();
    for (i, w) in workloads.iter().enumerate() {
        for ip in &w.ips {
            workload_by_ip.entry(*ip).or_insert(i as u32);
        }
        workload_by_name.entry((w.namespace.clone(), w.name.clone())).or_insert(i as u32);
    }
    let by_label = endpoint::Labelled::new(workloads.iter().map(|w| (&w.namespace, &w.labels)));
    let lookup = endpoint::Workloads {
        all: &workloads,
        by_ip: &workload_by_ip,
        by_name: &workload_by_name,
        by_label: &by_label,
        nodes: &nodes,
    };
    let registered = || {
        let given = Given {
            manifests: &manifests,
            watched: &watched,
            namespaces: &namespaces,
            options: &options,
            config: &config,
            policies: &policies,
            resources: &ordered,
            workloads: &lookup,
        };
        let registered = services(&given, &mut addresses);
        let index = ServiceIndex::new(&registered.services, &registered.endpoints);
        (registered, index)
    };
    let ruled = || {
        let ingresses = ingresses(&manifests, &watched, &options, &config, &policies);
        let written = virtual_services(&manifests, &watched, &options, &config);
        (ingresses, written, destination_rules(&manifests, &watched, &options, &config))
    };
    let ((registered, service_index), ((mut gateways, mut generated), written, destination_rules)) =
        parallel::join(registered, ruled);
    let Registered { services, unwatched_services, endpoints } = registered;
    if options.features.gateway_api && gateway_api::takes_part(&policies) {
        let has_host =
            |host: &str, namespace: &str| service_index.representative(&services, host, namespace).is_some();
        let given = gateway_api::Given {
            policies: &policies,
            watched: &watched,
            namespaces: &namespaces,
            cluster_domain: &options.cluster_domain,
            export_to: &config.default_virtual_service_export_to,
            api_defaults: options.gateway_api_defaults,
            has_host: &has_host,
        };
        let made = gateway_api::convert(&gateway_api::Surroundings::new(&manifests, given));
        gateways.extend(made.gateways);
        generated.extend(made.virtual_services);
        diagnostics.extend(made.diagnostics);
    }
    gateways.extend(watched.resources(&manifests).filter_map(|r| match &r.spec {
        Spec::Gateway(spec) => Some(gateway::from_resource(r, spec)),
        _ => None,
    }));
    gateways.sort_by(|a, b| (&a.creation, &a.name, &a.namespace).cmp(&(&b.creation, &b.name, &b.namespace)));
    let mut virtual_services = written;
    virtual_services.extend(generated);
    virtual_services
        .sort_by(|a, b| (&a.creation, &a.name, &a.namespace).cmp(&(&b.creation, &b.name, &b.namespace)));
    let virtual_services = merge_delegates(virtual_services);
    let gateways: Vec<Arc<gateway::Gateway>> = gateways.into_iter().map(Arc::new).collect();
    diagnostics.extend(watched.diagnostics(&manifests));
    diagnostics.extend(workloads.iter().flat_map(refused_annotations));
    diagnostics.extend(arrival::diagnostics(&manifests, &services));
    diagnostics.extend(binding::diagnostics(&virtual_services, &gateways, &policies));
    let mut by_gateway: FxHashMap<SmolStr, Vec<u32>> = FxHashMap::default();
    for (i, vs) in virtual_services.iter().enumerate() {
        for gateway in &vs.gateways {
            // One that names a gateway twice is there twice, as in istiod.
            by_gateway.entry(gateway.clone()).or_default().push(i as u32);
        }
    }
    let virtual_service_index = VirtualServiceIndex::new(&virtual_services);
    Mesh {
        manifests,
        options,
        config,
        namespaces,
        watched,
        network_gateways,
        services,
        unwatched_services,
        service_index,
        virtual_services,
        by_gateway,
        gateways,
        virtual_service_index,
        destination_rules,
        policies,
        workloads,
        workload_by_ip,
        endpoints,
        config_diagnostics,
        diagnostics,
        refused_rules: OnceLock::new(),
    }
}

fn mesh_config(
    manifests: &ManifestSet,
    options: &MeshOptions,
    diagnostics: &mut Vec<Diagnostic>,
) -> MeshConfig {
    if let Some(config) = &options.mesh_config {
        return config.clone();
    }
    if let Some((config, said)) = &manifests.mesh_config {
        diagnostics.extend(said.iter().cloned());
        return config.clone();
    }
    let mut found = None;
    for resource in manifests.resources() {
        match &resource.spec {
            Spec::ConfigMap(map)
                if resource.meta.name == "istio" && resource.meta.namespace == "istio-system" =>
            {
                let Some(text) = map.data.get("mesh") else { continue };
                let name = format!("{} data.mesh", manifests.describe(resource.id));
                let (config, said) = parse_mesh_config(&name, text);
                let field = resource.origin("data.mesh");
                diagnostics.extend(said.into_iter().map(|own| manifests.outside_of(&field, own)));
                found = config.or(found);
            }
            Spec::IstioOperator(operator) => found = operator.mesh_config.clone().or(found),
            _ => {}
        }
    }
    found.unwrap_or_default()
}

fn namespaces(manifests: &ManifestSet) -> IndexMap<SmolStr, IndexMap<SmolStr, SmolStr>> {
    let mut out: IndexMap<SmolStr, IndexMap<SmolStr, SmolStr>> = IndexMap::new();
    for resource in manifests.resources() {
        if resource.kind == Kind::Namespace {
            out.entry(resource.meta.name.clone()).or_default().clone_from(&resource.meta.labels);
        } else if resource.kind.is_namespaced() {
            out.entry(resource.meta.namespace.clone()).or_default();
        }
    }
    // Kubernetes gives it to each.
    for (name, labels) in &mut out {
        labels.insert(SmolStr::new_static("kubernetes.io/metadata.name"), name.clone());
    }
    out
}

fn policies(manifests: &ManifestSet, watched: &Watched) -> Policies {
    let mut p = Policies::default();
    for r in watched.resources(manifests) {
        match &r.spec {
            Spec::Sidecar(s) => p.sidecars.push(r, s),
            Spec::PeerAuthentication(s) => p.peer_authentications.push(r, s),
            Spec::AuthorizationPolicy(s) => p.authorization_policies.push(r, s),
            Spec::RequestAuthentication(s) => p.request_authentications.push(r, s),
            Spec::Telemetry(s) => p.telemetries.push(r, s),
            Spec::EnvoyFilter(s) => p.envoy_filters.push(r, s),
            Spec::WasmPlugin(s) => p.wasm_plugins.push(r, s),
            Spec::TrafficExtension(s) => p.traffic_extensions.push(r, s),
            Spec::ProxyConfig(s) => p.proxy_configs.push(r, s),
            Spec::WorkloadEntry(s) => p.workload_entries.push(r, s),
            Spec::Ingress(s) => p.ingresses.push(r, s),
            Spec::IngressClass(s) => p.ingress_classes.push(r, s),
            Spec::Secret(s) => p.secrets.push(r, s),
            Spec::KubernetesGateway(s) => p.kubernetes_gateways.push(r, s),
            Spec::ListenerSet(s) => p.listener_sets.push(r, s),
            Spec::GatewayClass(s) => p.gateway_classes.push(r, s),
            Spec::HttpRoute(s) => p.http_routes.push(r, s),
            Spec::GrpcRoute(s) => p.grpc_routes.push(r, s),
            Spec::TlsRoute(s) => p.tls_routes.push(r, s),
            Spec::TcpRoute(s) => p.tcp_routes.push(r, s),
            Spec::ReferenceGrant(s) => p.reference_grants.push(r, s),
            _ => {}
        }
    }
    p.sidecars.sort();
    p.peer_authentications.sort();
    p.authorization_policies.sort();
    p.request_authentications.sort();
    p.telemetries.sort();
    p.envoy_filters.sort();
    p.wasm_plugins.sort();
    p.traffic_extensions.sort();
    p.proxy_configs.sort();
    p.workload_entries.sort();
    p.ingresses.sort();
    p.ingress_classes.sort();
    p.secrets.sort();
    p.kubernetes_gateways.sort();
    p.listener_sets.sort();
    p.gateway_classes.sort();
    p.http_routes.sort();
    p.grpc_routes.sort();
    p.tls_routes.sort();
    p.tcp_routes.sort();
    p.reference_grants.sort();
    p
}

/// The Namespaces among the resources by name; what is in others has a namespace that nobody describes.
fn written_namespaces<'a>(resources: &[&'a Resource]) -> FxHashMap<&'a SmolStr, &'a Resource> {
    let namespaces = resources.iter().filter(|resource| resource.kind == Kind::Namespace);
    namespaces.map(|resource| (&resource.meta.name, *resource)).collect()
}

fn workloads(resources: &[&Resource], nodes: &Nodes, addresses: &mut Addresses) -> Vec<Workload> {
    let mut out: Vec<Workload> = Vec::new();
    let namespaces = written_namespaces(resources);
    for resource in resources {
        if let Spec::Pod(spec) = &resource.spec {
            let status = match &resource.status {
                Status::Pod(status) => Some(status.as_ref()),
                _ => None,
            };
            let around = Surroundings {
                namespace: namespaces.get(&resource.meta.namespace).copied(),
                assumed_ip: addresses.pod(),
                nodes,
            };
            out.push(from_pod(resource, spec, status, &around));
        }
    }
    let pods = endpoint::Labelled::new(out.iter().map(|w| (&w.namespace, &w.labels)));
    for resource in resources {
        let Some((template, runs)) = template(&resource.spec) else { continue };
        let labels = &template.metadata.labels;
        let mut candidates = pods.candidates(&resource.meta.namespace, labels).iter();
        let has_pods =
            candidates.any(|i| out.get(*i as usize).is_some_and(|pod| selects(labels, &pod.labels)));
        if !runs || has_pods {
            continue;
        }
        let around = Surroundings {
            namespace: namespaces.get(&resource.meta.namespace).copied(),
            assumed_ip: addresses.pod(),
            nodes,
        };
        out.push(from_template(resource, labels, &template.metadata.annotations, &template.spec, &around));
    }
    out
}

/// What there is to say about the annotations for which a workload's pods do not start.
fn refused_annotations(workload: &Workload) -> impl Iterator<Item = Diagnostic> {
    workload.refused.iter().filter_map(|refused| {
        let origin = workload.annotation_origin(refused.name)?;
        let said = format!("{}, and no pod of {} starts", refused.message(), workload.full_name());
        let help = format!("expected {}", refused.expected);
        Some(Diagnostic::new(Code::RefusedAnnotation, said).at(Place::Origin(origin), "").help(help))
    })
}

/// The resources by age, name, namespace and kind, so that what is assumed about one never depends on the order of files.
fn in_order(manifests: &ManifestSet) -> Vec<&Resource> {
    let mut out: Vec<&Resource> = manifests.resources().collect();
    out.sort_by(|a, b| {
        let key = |r: &'_ Resource| (r.kind, r.id);
        let meta = (&a.meta.creation_timestamp, &a.meta.name, &a.meta.namespace);
        meta.cmp(&(&b.meta.creation_timestamp, &b.meta.name, &b.meta.namespace))
            .then_with(|| key(a).cmp(&key(b)))
    });
    out
}

/// What services are made of.
struct Given<'a> {
    manifests: &'a ManifestSet,
    watched: &'a Watched,
    namespaces: &'a IndexMap<SmolStr, IndexMap<SmolStr, SmolStr>>,
    options: &'a MeshOptions,
    config: &'a EffectiveConfig,
    policies: &'a Policies,
    resources: &'a [&'a Resource],
    workloads: &'a endpoint::Workloads<'a>,
}

struct Registered {
    services: Vec<Arc<Service>>,
    unwatched_services: Vec<Arc<Service>>,
    endpoints: FxHashMap<EndpointKey, Vec<Endpoint>>,
}

fn services(given: &Given<'_>, addresses: &mut Addresses) -> Registered {
    let Given { manifests, watched, options, config, policies, resources, workloads, .. } = *given;
    let namespaces = written_namespaces(resources);
    let defaults = ServiceDefaults {
        cluster_domain: &options.cluster_domain,
        trust_domain: &config.trust_domain,
        namespaces: &namespaces,
        export_to: &config.default_service_export_to,
        entry_visibility: &|namespace| {
            let setting = config.written.service_entry_visibility.as_ref();
            let labels = given.namespaces.get(namespace);
            let resolved =
                setting.zip(labels).map(|(setting, labels)| visibility::of_service_entries(setting, labels));
            resolved.unwrap_or_default()
        },
    };
    let mut slices: FxHashMap<(SmolStr, SmolStr), Vec<&Resource>> = FxHashMap::default();
    let mut classic: FxHashMap<(SmolStr, SmolStr), &Resource> = FxHashMap::default();
    for r in resources {
        match &r.spec {
            Spec::EndpointSlice(_) => {
                if let Some(service) = r.meta.labels.get("kubernetes.io/service-name") {
                    slices.entry((r.meta.namespace.clone(), service.clone())).or_default().push(r);
                }
            }
            Spec::Endpoints(_) => {
                classic.insert((r.meta.namespace.clone(), r.meta.name.clone()), r);
            }
            _ => {}
        }
    }
    let entries = &policies.workload_entries;
    let mut services = Vec::new();
    let mut unwatched_services = Vec::new();
    let mut endpoints: FxHashMap<EndpointKey, Vec<Endpoint>> = FxHashMap::default();
    let automatic = if options.features.ip_autoallocate {
        AutoAddresses::new(watched.resources(manifests), options.assume_addresses)
    } else {
        AutoAddresses::default()
    };
    for r in resources {
        match &r.spec {
            Spec::Service(spec) => {
                let assumed = options.assume_addresses.then(|| addresses.service());
                let made = service::from_kubernetes(r, spec, assumed, &defaults);
                let key = (r.meta.namespace.clone(), r.meta.name.clone());
                let list = endpoints.entry((made.hostname.clone(), made.namespace.clone())).or_default();
                // istiod keeps no endpoints for a Service that nobody sees, though its own namespace can route to it.
                let unexported = service::exported_to(r).is_some_and(|mut list| list.any(|e| e == "~"));
                if unexported && watched.has(&made.namespace) {
                    services.push(made);
                    continue;
                }
                if let Some(slices) = slices.get(&key) {
                    for slice in slices {
                        if let Spec::EndpointSlice(spec) = &slice.spec {
                            list.extend(endpoint::from_slice(slice, spec, workloads));
                        }
                    }
                } else if let Some(resource) = classic.get(&key) {
                    if let Spec::Endpoints(spec) = &resource.spec {
                        list.extend(endpoint::from_endpoints(resource, spec, workloads));
                    }
                } else {
                    list.extend(endpoint::from_selector(r, spec, workloads));
                }
                if options.features.k8s_select_workload_entries {
                    list.extend(endpoint::from_workload_entries(&r.meta.namespace, spec, entries));
                }
                if watched.has(&made.namespace) {
                    services.push(made);
                } else {
                    unwatched_services.push(Arc::new(made));
                }
            }
            Spec::ServiceEntry(spec) if watched.sees(r) => {
                let auto = |host: &SmolStr| automatic.of(r.id, host).cloned();
                let made = service::from_service_entry(r, spec, &auto, &defaults);
                // A service for each address, and endpoints for each service. istiod: `serviceentry/conversion.go:
                // mergeServicesInstancesByNamespaceHost`.
                for of_host in made.chunk_by(|a, b| a.hostname == b.hostname) {
                    let Some(Service { hostname, namespace, .. }) = of_host.first() else { continue };
                    let each = endpoint::from_service_entry(
                        r,
                        spec,
                        hostname,
                        entries,
                        workloads,
                        options.features.service_entry_select_pods,
                    );
                    let list = endpoints.entry((hostname.clone(), namespace.clone())).or_default();
                    for endpoint in std::iter::repeat_n(each, of_host.len()).flatten() {
                        // A cluster that resolves one name has one endpoint: that of the oldest.
                        let one_only = spec.resolution == schema::istio::Resolution::DnsRoundRobin;
                        if !one_only || list.iter().all(|earlier| earlier.entry_port != endpoint.entry_port) {
                            list.push(endpoint);
                        }
                    }
                }
                services.extend(made);
            }
            _ => {}
        }
    }
    services.sort_by_cached_key(|s| {
        let object = arrival::object_name(manifests, s).cloned();
        (s.creation.clone(), s.name.clone(), s.namespace.clone(), object)
    });
    if !options.features.ip_autoallocate {
        hash_addresses(&mut services);
    }
    for s in &mut services {
        let dns = matches!(s.resolution, Resolution::DnsLb | Resolution::DnsRoundRobinLb);
        s.without_dns_endpoints =
            dns && endpoints.get(&(s.hostname.clone(), s.namespace.clone())).is_none_or(Vec::is_empty);
    }
    resolve_aliases(&mut services);
    Registered { services: services.into_iter().map(Arc::new).collect(), unwatched_services, endpoints }
}

/// Adds ExternalName services to the services that they stand for; chains are followed, loops ignored. A route to one of
/// them leads to what it names, and no further.
/// istiod: `push_context.go: resolveServiceAliases`.
fn resolve_aliases(services: &mut [Service]) {
    let aliases: FxHashMap<SmolStr, SmolStr> = services
        .iter()
        .filter(|s| s.resolution == Resolution::Alias)
        .filter_map(|s| Some((s.hostname.clone(), s.external_name.clone()?)))
        .collect();
    if aliases.is_empty() {
        return;
    }
    let mut resolved: FxHashMap<SmolStr, Vec<(SmolStr, SmolStr)>> = FxHashMap::default();
    for s in services.iter_mut().filter(|s| s.resolution == Resolution::Alias) {
        let mut target = s.external_name.clone().unwrap_or_default();
        let mut steps = 0;
        while let Some(next) = aliases.get(&target) {
            target = next.clone();
            steps += 1;
            if steps > aliases.len() {
                break;
            }
        }
        if steps > aliases.len() {
            continue;
        }
        resolved.entry(target).or_default().push((s.namespace.clone(), s.hostname.clone()));
    }
    for s in services.iter_mut().filter(|s| s.resolution != Resolution::Alias) {
        if let Some(list) = resolved.get(&s.hostname) {
            let mut list = list.clone();
            list.sort();
            s.aliases = list.into_iter().map(|(_, host)| host).collect();
        }
    }
}

/// Gateways and VirtualServices that istiod makes from Ingresses.
fn ingresses(
    manifests: &ManifestSet,
    watched: &Watched,
    options: &MeshOptions,
    config: &EffectiveConfig,
    policies: &Policies,
) -> (Vec<gateway::Gateway>, Vec<virtual_service::VirtualService>) {
    let named_port = |namespace: &str, name: &str, port: &str| {
        let named = |r: &&Resource| r.meta.name == name && r.meta.namespace == namespace;
        watched.resources(manifests).filter(named).find_map(|r| match &r.spec {
            Spec::Service(spec) => spec.ports.iter().find(|p| p.name == port).map(|p| p.port),
            _ => None,
        })
    };
    let around = ingress::Surroundings {
        config,
        classes: &policies.ingress_classes,
        cluster_domain: &options.cluster_domain,
        named_port: &named_port,
    };
    ingress::convert(&policies.ingresses, &around)
}

/// The VirtualServices that are written.
fn virtual_services(
    manifests: &ManifestSet,
    watched: &Watched,
    options: &MeshOptions,
    config: &EffectiveConfig,
) -> Vec<virtual_service::VirtualService> {
    let naming =
        Naming { domain: &options.resource_domain, export_to: &config.default_virtual_service_export_to };
    let written = watched.resources(manifests).filter_map(|r| match &r.spec {
        Spec::VirtualService(spec) => Some(virtual_service::from_resource(r, spec, naming)),
        _ => None,
    });
    written.collect()
}

fn destination_rules(
    manifests: &ManifestSet,
    watched: &Watched,
    options: &MeshOptions,
    config: &EffectiveConfig,
) -> DestinationRules {
    let rules = watched.resources(manifests).filter_map(|r| match &r.spec {
        Spec::DestinationRule(spec) => Some((r, spec.as_ref())),
        _ => None,
    });
    // Most meshes have no policy, and need not know what could be the target of one.
    let is_policy = |resource: &Resource| matches!(resource.spec, Spec::BackendTlsPolicy(_));
    let generated = if options.features.gateway_api && watched.resources(manifests).any(is_policy) {
        backend_policy::destination_rules(watched.resources(manifests), &options.resource_domain)
    } else {
        Vec::new()
    };
    destination_rule::build(
        rules,
        generated,
        &destination_rule::Options {
            domain: &options.resource_domain,
            default_export_to: &config.default_destination_rule_export_to,
            root_namespace: &config.root_namespace,
            enhanced_merge: options.features.enhanced_destination_rule_merge,
        },
    )
}
