//! What exists?
//!
//! Services, endpoints, workloads, namespaces and policies, as istiod's registries hold them, with indexes over them.
//! Invariant: built once, never changed, shared by reference; nothing here knows Envoy.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use indexmap::IndexMap;
use rustc_hash::FxHashMap;
use smol_str::SmolStr;

use crate::diagnostic::Diagnostic;
use crate::manifest::ManifestSet;
use crate::manifest::schema::gateway_api as gw;
use crate::manifest::schema::{istio, kubernetes, mesh_config::MeshConfig};
use crate::origin::Origin;

mod annotation;
mod arrival;
mod auto_address;
mod backend_policy;
pub mod binding;
mod build;
pub mod config;
pub mod delegate;
pub(crate) mod destination;
pub mod destination_rule;
pub mod endpoint;
pub mod features;
pub mod gateway;
mod gateway_api;
pub mod host_index;
pub mod ingress;
mod injection;
pub mod locality;
pub mod network;
mod platform;
pub mod policy;
pub mod service;
pub mod service_index;
pub mod virtual_service;
pub mod virtual_service_index;
pub mod visibility;
mod watched;
pub mod workload;
mod workload_name;

pub use self::backend_policy::INVALID_AUTHORITY;
pub use crate::host;
pub use crate::protocol::{self, Protocol};
pub use annotation::RefusedAnnotation;
pub use config::EffectiveConfig;
pub use destination_rule::{DestinationRule, DestinationRules, PlacedSubset};
pub use endpoint::{Address, Endpoint, Health};
pub use features::Features;
pub use gateway::{Gateway, GatewaySelector};
pub use locality::Locality;
pub use platform::StandIn;
pub use policy::{Config, Configs, selects};
pub use service::{Registry, Resolution, Service, ServicePort, TrafficDistribution, UNSPECIFIED};
pub use service_index::ServiceIndex;
pub use virtual_service::{Generator, HttpRule, MESH_GATEWAY, Rule, VirtualService};
pub use virtual_service_index::VirtualServiceIndex;
pub use visibility::ExportTo;
pub use workload::{ContainerInfo, ProxyKind, StatefulPods, Workload};
pub use workload_name::WorkloadNameError;

/// What a mesh depends on besides its manifests.
#[derive(Clone, Debug)]
pub struct MeshOptions {
    /// A mesh configuration that replaces the one among the manifests.
    pub mesh_config: Option<MeshConfig>,
    /// The cluster's DNS domain.
    pub cluster_domain: SmolStr,
    /// The domain that short names in Istio's resources are completed with; the cluster's, outside of Istio's unit tests.
    pub resource_domain: SmolStr,
    /// istiod's switches, before those that a Deployment of istiod among the manifests sets.
    pub features: Features,
    /// Switches that count before all others, by environment variable and value; see [`Features::set`].
    pub switches: Vec<(String, String)>,
    /// Whether Services without `clusterIP` get an assumed one, as a cluster would give them one.
    pub assume_addresses: bool,
    /// What the caller assumes about the mesh, a sentence each; every trace names it ([`StandIn`]).
    pub assumptions: Vec<String>,
    /// Whether Gateway API resources get what a cluster gives them: the defaults of their CRDs from the API server, and the
    /// proxies that istiod deploys for Gateways.
    pub gateway_api_defaults: bool,
}

impl Default for MeshOptions {
    fn default() -> Self {
        Self {
            mesh_config: None,
            cluster_domain: SmolStr::new_static("cluster.local"),
            resource_domain: SmolStr::new_static("cluster.local"),
            features: Features::default(),
            switches: Vec::new(),
            assume_addresses: true,
            assumptions: Vec::new(),
            gateway_api_defaults: true,
        }
    }
}

/// Resources of every kind that holds for some workloads, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    /// Sidecars.
    pub sidecars: Configs<istio::Sidecar>,
    /// PeerAuthentications.
    pub peer_authentications: Configs<istio::PeerAuthentication>,
    /// AuthorizationPolicies.
    pub authorization_policies: Configs<istio::AuthorizationPolicy>,
    /// RequestAuthentications.
    pub request_authentications: Configs<istio::RequestAuthentication>,
    /// Telemetries.
    pub telemetries: Configs<istio::Telemetry>,
    /// EnvoyFilters, which are not modelled.
    pub envoy_filters: Configs<istio::EnvoyFilter>,
    /// WasmPlugins, which are not modelled.
    pub wasm_plugins: Configs<istio::WasmPlugin>,
    /// TrafficExtensions, which are not modelled.
    pub traffic_extensions: Configs<istio::TrafficExtension>,
    /// ProxyConfigs.
    pub proxy_configs: Configs<istio::ProxyConfig>,
    /// WorkloadEntries.
    pub workload_entries: Configs<istio::WorkloadEntry>,
    /// Ingresses.
    pub ingresses: Configs<kubernetes::IngressSpec>,
    /// Ingress classes.
    pub ingress_classes: Configs<kubernetes::IngressClassSpec>,
    /// Secrets: their names only.
    pub secrets: Configs<kubernetes::Secret>,
    /// Gateway API gateways.
    pub kubernetes_gateways: Configs<gw::GatewaySpec>,
    /// Further listeners of Gateway API gateways.
    pub listener_sets: Configs<gw::ListenerSetSpec>,
    /// Classes of Gateway API gateways.
    pub gateway_classes: Configs<gw::GatewayClassSpec>,
    /// HTTPRoutes.
    pub http_routes: Configs<gw::HttpRouteSpec>,
    /// GRPCRoutes.
    pub grpc_routes: Configs<gw::GrpcRouteSpec>,
    /// TLSRoutes.
    pub tls_routes: Configs<gw::TlsRouteSpec>,
    /// TCPRoutes.
    pub tcp_routes: Configs<gw::TcpRouteSpec>,
    /// ReferenceGrants.
    pub reference_grants: Configs<gw::ReferenceGrantSpec>,
}

/// A service's endpoints, by host and namespace.
pub type EndpointKey = (SmolStr, SmolStr);

/// Everything that exists.
#[derive(Debug)]
pub struct Mesh {
    manifests: ManifestSet,
    options: MeshOptions,
    config: EffectiveConfig,
    namespaces: IndexMap<SmolStr, IndexMap<SmolStr, SmolStr>>,
    watched: watched::Watched,
    network_gateways: network::NetworkGateways,
    services: Vec<Arc<Service>>,
    unwatched_services: Vec<Arc<Service>>,
    service_index: ServiceIndex,
    virtual_services: Vec<Arc<VirtualService>>,
    by_gateway: FxHashMap<SmolStr, Vec<u32>>,
    gateways: Vec<Arc<Gateway>>,
    virtual_service_index: VirtualServiceIndex,
    destination_rules: DestinationRules,
    policies: Policies,
    workloads: Vec<Workload>,
    workload_by_ip: FxHashMap<IpAddr, u32>,
    endpoints: FxHashMap<EndpointKey, Vec<Endpoint>>,
    config_diagnostics: Vec<Diagnostic>,
    diagnostics: Vec<Diagnostic>,
    refused_rules: OnceLock<Vec<(SmolStr, Origin)>>,
}

impl Mesh {
    /// Builds a mesh from manifests.
    ///
    /// # Examples
    ///
    /// ```
    /// use dryroute::manifest::Loader;
    /// use dryroute::mesh::{Mesh, MeshOptions};
    ///
    /// let set = Loader::new()
    ///     .text("se.yaml", "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: httpbin}\n\
    ///                       spec: {hosts: [httpbin.org], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}")
    ///     .load();
    /// let mesh = Mesh::new(set, MeshOptions::default());
    /// assert_eq!(mesh.services()[0].hostname, "httpbin.org");
    /// ```
    pub fn new(manifests: ManifestSet, options: MeshOptions) -> Self {
        build::build(manifests, options)
    }

    /// The same mesh, of other manifests.
    pub(crate) fn of(&self, manifests: ManifestSet) -> Self {
        build::build(manifests, self.options.clone())
    }

    /// The manifests it was built from.
    pub fn manifests(&self) -> &ManifestSet {
        &self.manifests
    }

    /// The cluster's DNS domain.
    pub fn cluster_domain(&self) -> &SmolStr {
        &self.options.cluster_domain
    }

    /// The domain that short names in Istio's resources are completed with.
    pub fn resource_domain(&self) -> &SmolStr {
        &self.options.resource_domain
    }

    /// istiod's switches, as this mesh has them.
    pub fn features(&self) -> &Features {
        &self.options.features
    }

    /// What the caller assumes about it.
    pub fn assumptions(&self) -> &[String] {
        &self.options.assumptions
    }

    /// The mesh configuration, complete.
    pub fn config(&self) -> &EffectiveConfig {
        &self.config
    }

    /// Namespaces and their labels; also those that only objects name.
    pub fn namespaces(&self) -> &IndexMap<SmolStr, IndexMap<SmolStr, SmolStr>> {
        &self.namespaces
    }

    /// All services that istiod knows, in its order: by creation, then name, then namespace.
    pub fn services(&self) -> &[Arc<Service>] {
        &self.services
    }

    /// The cluster's Services, also those in namespaces that istiod does not watch.
    pub fn cluster_services(&self) -> impl Iterator<Item = &Arc<Service>> {
        let watched = self.services.iter().filter(|service| service.registry == Registry::Kubernetes);
        watched.chain(&self.unwatched_services)
    }

    /// The cluster's Service of a host, also one in a namespace that istiod does not watch.
    pub fn cluster_service(&self, host: &str) -> Option<&Arc<Service>> {
        let mut watched = self.services_of(host).filter(|service| service.registry == Registry::Kubernetes);
        watched.next().or_else(|| self.unwatched_services.iter().find(|service| service.hostname == host))
    }

    /// The gateways between networks.
    pub fn network_gateways(&self) -> &network::NetworkGateways {
        &self.network_gateways
    }

    /// Whether istiod watches a namespace (`discoverySelectors`); it sees nothing in the others.
    pub fn is_watched(&self, namespace: &str) -> bool {
        self.watched.has(namespace)
    }

    /// Namespaces that are taken to be watched although nobody wrote the labels that `discoverySelectors` ask for.
    pub fn presumed_watched(&self) -> &[SmolStr] {
        self.watched.presumed()
    }

    /// The services of a host, in istiod's order.
    pub fn services_of<'a>(&'a self, host: &str) -> impl Iterator<Item = &'a Arc<Service>> + use<'a> {
        self.service_index.of_host(host).iter().filter_map(|i| self.services.get(*i as usize))
    }

    /// Services by name, address and port.
    pub fn service_index(&self) -> &ServiceIndex {
        &self.service_index
    }

    /// The service that stands for a host in a namespace: a Kubernetes Service, else the oldest.
    pub fn service_in(&self, host: &str, namespace: &str) -> Option<&Arc<Service>> {
        self.service_index.representative(&self.services, host, namespace).map(|(_, service)| service)
    }

    /// VirtualServices for sidecars, by host and destination.
    pub fn virtual_service_index(&self) -> &VirtualServiceIndex {
        &self.virtual_service_index
    }

    /// All VirtualServices with hosts, delegates merged, oldest first.
    pub fn virtual_services(&self) -> &[Arc<VirtualService>] {
        &self.virtual_services
    }

    /// Rules that no proxy can be told, with the reason and the place: looked for once, by whoever knows what proxies take.
    pub(crate) fn refused_rules(
        &self,
        find: impl FnOnce() -> Vec<(SmolStr, Origin)>,
    ) -> &[(SmolStr, Origin)] {
        self.refused_rules.get_or_init(find)
    }

    /// The VirtualServices that are bound to a gateway (`namespace/name`, or `mesh`), oldest first.
    pub fn virtual_services_of<'a>(
        &'a self,
        gateway: &str,
    ) -> impl Iterator<Item = &'a Arc<VirtualService>> + use<'a> {
        self.by_gateway
            .get(gateway)
            .into_iter()
            .flatten()
            .filter_map(|i| self.virtual_services.get(*i as usize))
    }

    /// All Gateways, those made from other resources included, oldest first, then by name and namespace.
    pub fn gateways(&self) -> &[Arc<Gateway>] {
        &self.gateways
    }

    /// All DestinationRules.
    pub fn destination_rules(&self) -> &DestinationRules {
        &self.destination_rules
    }

    /// Resources that hold for some workloads.
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// All workloads.
    pub fn workloads(&self) -> &[Workload] {
        &self.workloads
    }

    /// The workload at an address.
    pub fn workload_at(&self, ip: IpAddr) -> Option<&Workload> {
        self.workload_by_ip.get(&ip).and_then(|i| self.workloads.get(*i as usize))
    }

    /// The place in [`Mesh::workloads`] of the workload at an address.
    pub fn workload_index_at(&self, ip: IpAddr) -> Option<usize> {
        self.workload_by_ip.get(&ip).map(|i| *i as usize)
    }

    /// The endpoints of a host in a namespace.
    pub fn endpoints(&self, host: &SmolStr, namespace: &SmolStr) -> &[Endpoint] {
        self.endpoints.get(&(host.clone(), namespace.clone())).map_or(&[], Vec::as_slice)
    }

    /// What there is to say about the input, the manifests' diagnostics included.
    pub fn diagnostics(&self) -> impl Iterator<Item = &Diagnostic> {
        self.manifests.diagnostics().iter().chain(&self.config_diagnostics).chain(&self.diagnostics)
    }

    /// Those of them that are about the mesh configuration.
    pub(crate) fn config_diagnostics(&self) -> &[Diagnostic] {
        &self.config_diagnostics
    }
}
