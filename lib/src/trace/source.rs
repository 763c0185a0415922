//! Who sends the request, and through which gateway does it enter?
//!
//! Invariant: who is named is found or is an error that lists what could have been meant; who is not named is chosen, and
//! whoever chose says so.

use std::net::IpAddr;

use smol_str::SmolStr;

use super::address;
use super::error::TraceError;
use super::query::{Query, ToGateway};
use super::tracer::Tracer;
use crate::manifest::Spec;
use crate::mesh::gateway::{Gateway, GatewaySelector, Server, without_namespace};
use crate::mesh::{Mesh, ProxyKind, Service, Workload, host, selects};

/// The name of a client outside of the cluster.
pub(super) const OUTSIDE: &str = "outside";

/// A client.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Client {
    /// Its place in [`Mesh::workloads`]; `None` outside of the cluster.
    pub(super) workload: Option<usize>,
    /// The container.
    pub(super) container: Option<SmolStr>,
    /// The user.
    pub(super) uid: Option<i64>,
    /// The group.
    pub(super) gid: Option<i64>,
    /// Whether nobody named it.
    pub(super) chosen: bool,
}

impl Client {
    const fn outside(chosen: bool) -> Self {
        Self { workload: None, container: None, uid: None, gid: None, chosen }
    }
}

/// The client of a query.
pub(super) fn client(tracer: &Tracer, query: &Query) -> Result<Client, TraceError> {
    let client = named_client(tracer, query)?;
    let is_of_pod = query.container.is_some() || query.uid.is_some() || query.gid.is_some();
    if client.workload.is_none() && is_of_pod { Err(TraceError::OutsideHasNoContainer) } else { Ok(client) }
}

fn named_client(tracer: &Tracer, query: &Query) -> Result<Client, TraceError> {
    let mesh = tracer.mesh();
    let index = match query.from.as_deref() {
        Some(OUTSIDE) => return Ok(Client::outside(false)),
        Some(name) => tracer.workload_named(name, query.namespace.as_deref().unwrap_or("default"))?,
        None if query.to_gateway.is_some() => return Ok(Client::outside(false)),
        None => match default_client(mesh, query) {
            Some(index) => index,
            None => return Ok(Client::outside(true)),
        },
    };
    let Some(workload) = mesh.workloads().get(index) else { return Ok(Client::outside(true)) };
    let mut client =
        Client { workload: Some(index), container: None, uid: None, gid: None, chosen: query.from.is_none() };
    match query.container.as_deref() {
        Some("istio-proxy") if workload.proxy != ProxyKind::None => {
            client.container.clone_from(&query.container);
            client.uid = Some(super::capture::PROXY_ID);
            client.gid = Some(super::capture::PROXY_ID);
        }
        Some(name) => {
            let container = workload.containers.iter().find(|c| c.name == name).ok_or_else(|| {
                TraceError::UnknownContainer {
                    workload: workload.full_name(),
                    container: name.into(),
                    candidates: container_names(workload),
                }
            })?;
            client.container = Some(container.name.clone());
            client.uid = container.run_as_user;
            client.gid = container.run_as_group;
        }
        // `kubectl exec` takes the first container.
        None => {
            if let Some(container) = workload.containers.first() {
                client.container = Some(container.name.clone());
                client.uid = container.run_as_user;
                client.gid = container.run_as_group;
            }
        }
    }
    client.uid = query.uid.or(client.uid);
    client.gid = query.gid.or(client.gid);
    Ok(client)
}

fn container_names(workload: &Workload) -> Vec<SmolStr> {
    let mut names: Vec<SmolStr> = workload.containers.iter().map(|c| c.name.clone()).collect();
    if workload.proxy != ProxyKind::None {
        names.push(SmolStr::new_static("istio-proxy"));
    }
    names
}

/// The client that is chosen when nobody names one: an application with a sidecar, of the wanted namespace where there is
/// one, and not the one that is called.
fn default_client(mesh: &Mesh, query: &Query) -> Option<usize> {
    let namespace = query.namespace.as_deref().unwrap_or("default");
    let first_label = query.target.host.split('.').next().unwrap_or_default();
    let rank = |w: &Workload| {
        let called = w.labels.get("app").is_some_and(|app| app == first_label);
        (w.proxy != ProxyKind::Sidecar, w.namespace != namespace, called)
    };
    mesh.workloads()
        .iter()
        .enumerate()
        .filter(|(_, w)| w.proxy != ProxyKind::Gateway)
        .min_by_key(|(index, w)| (rank(w), *index))
        .map(|(index, _)| index)
}

/// The gateway that a request enters by.
#[derive(Clone, Debug)]
pub(super) struct Entrance<'a> {
    /// Its Service.
    pub(super) service: &'a Service,
    /// The Service's port.
    pub(super) port: u16,
    /// What the Service is, in a few words.
    pub(super) what: &'static str,
    /// What is assumed.
    pub(super) assumption: Option<String>,
}

const THE_GATEWAYS: &str = "the gateway's Service";

/// The Services in front of gateways.
fn gateways(mesh: &Mesh) -> Vec<&Service> {
    let routers: Vec<&Workload> = mesh.workloads().iter().filter(|w| w.proxy == ProxyKind::Gateway).collect();
    mesh.cluster_services()
        .map(AsRef::as_ref)
        .filter(|s: &&Service| {
            !s.selector.is_empty()
                && routers.iter().any(|w| w.namespace == s.namespace && selects(&s.selector, &w.labels))
        })
        .collect()
}

fn full_name(service: &Service) -> SmolStr {
    smol_str::format_smolstr!("{}/{}", service.namespace, service.name)
}

/// The gateway of `--to-gateway`.
pub(super) fn named_gateway<'a>(
    mesh: &'a Mesh,
    query: &Query,
    wanted: &ToGateway,
) -> Result<Entrance<'a>, TraceError> {
    let all = gateways(mesh);
    let found: Vec<&Service> = all
        .iter()
        .copied()
        .filter(|s| s.name == wanted.name && wanted.namespace.as_ref().is_none_or(|ns| s.namespace == *ns))
        .collect();
    let service = match found.as_slice() {
        [one] => *one,
        [] => {
            let candidates = all.iter().map(|s| full_name(s)).collect();
            return Err(TraceError::UnknownGateway { name: format!("{wanted}").into(), candidates });
        }
        many => {
            return Err(TraceError::AmbiguousGateway {
                candidates: many.iter().map(|s| full_name(s)).collect(),
            });
        }
    };
    let port = wanted.port.unwrap_or(query.target.port);
    if service.port(port).is_none() {
        return Err(TraceError::NoGatewayPort {
            gateway: full_name(service),
            port,
            candidates: service.ports.iter().map(|p| smol_str::format_smolstr!("{}", p.number)).collect(),
        });
    }
    Ok(Entrance { service, port, what: THE_GATEWAYS, assumption: None })
}

/// How a request from outside of the cluster gets in.
#[derive(Clone, Debug)]
pub(super) enum Arrival<'a> {
    /// Through a Service.
    By(Entrance<'a>),
    /// At a pod that has its node's address.
    AtNode(IpAddr),
    /// Not at all, and why.
    Unreachable(String),
    /// The input does not say, and why.
    Unsettled(String),
}

/// How a request from outside gets in that names no gateway: by what it dials, or by its URL alone.
pub(super) fn arrival<'a>(
    tracer: &'a Tracer,
    query: &Query,
    (dialled, port): (&str, u16),
) -> Result<Arrival<'a>, TraceError> {
    let mesh = tracer.mesh();
    let known = tracer.addresses().outside(dialled);
    if let Some(known) = address::with_port(known, port) {
        let service = known.service.as_ref();
        let assumption = known.assumption(dialled, false);
        let is_gateways = gateways(mesh).iter().any(|gateway| std::ptr::eq(*gateway, service));
        let what = if is_gateways { THE_GATEWAYS } else { "the Service that has it outside of the cluster" };
        return Ok(Arrival::By(Entrance { service, port, what, assumption }));
    }
    if let Ok(ip) = dialled.parse::<IpAddr>() {
        let pod = mesh.workload_at(ip);
        if pod.is_some_and(|pod| pod.host_network) {
            return Ok(Arrival::AtNode(ip));
        }
        if let Some(pod) = pod {
            return Ok(Arrival::Unsettled(format!(
                "{ip} is the address of {}; whether pods can be reached from outside of the cluster is not written anywhere",
                pod.full_name()
            )));
        }
        if let Some(service) = tracer.addresses().in_cluster(ip) {
            return Ok(Arrival::Unreachable(format!(
                "{ip} is the cluster address of the Service {}, which nothing outside of the cluster reaches",
                full_name(service)
            )));
        }
    }
    gateway_for(mesh, query, port).map(Arrival::By)
}

/// The gateway that a request from outside finds by its URL alone.
fn gateway_for<'a>(mesh: &'a Mesh, query: &Query, port: u16) -> Result<Entrance<'a>, TraceError> {
    let all = gateways(mesh);
    let asked = query.target.host.as_str();
    let entrance = |service, assumption| Ok(Entrance { service, port, what: THE_GATEWAYS, assumption });
    if let Some(service) = all.iter().copied().find(|service| service.hostname == asked) {
        return entrance(service, None);
    }
    let usable: Vec<&Service> = all.iter().copied().filter(|s| s.port(port).is_some()).collect();
    let serving: Vec<&Service> = usable.iter().copied().filter(|s| serves(mesh, s, asked)).collect();
    let balanced: Vec<&Service> = serving.iter().copied().filter(|s| is_reachable(mesh, s)).collect();
    let chosen = [&balanced, &serving].into_iter().find(|list| !list.is_empty()).unwrap_or(&usable);
    match chosen.as_slice() {
        [one] => entrance(
            *one,
            Some(format!("{asked} leads to the Service {} from outside of the cluster", full_name(one))),
        ),
        [] if all.is_empty() && query.from.is_none() => Err(TraceError::NoClient),
        [] => Err(TraceError::NoEntrance {
            host: asked.into(),
            port,
            candidates: all.iter().map(|s| full_name(s)).collect(),
        }),
        many => Err(TraceError::AmbiguousGateway { candidates: many.iter().map(|s| full_name(s)).collect() }),
    }
}

fn is_reachable(mesh: &Mesh, service: &Service) -> bool {
    let resource = service.origin.resource().and_then(|id| mesh.manifests().get(id));
    resource.is_some_and(|resource| match &resource.spec {
        Spec::Service(spec) => matches!(spec.type_.as_str(), "LoadBalancer" | "NodePort"),
        _ => false,
    })
}

/// Whether a Gateway names the host for the workloads of a Service.
fn serves(mesh: &Mesh, service: &Service, asked: &str) -> bool {
    mesh.workloads()
        .iter()
        .filter(|w| {
            w.proxy == ProxyKind::Gateway
                && w.namespace == service.namespace
                && selects(&service.selector, &w.labels)
        })
        .any(|w| {
            let chosen = |gateway: &Gateway| match &gateway.selector {
                GatewaySelector::Labels(labels) => selects(labels, &w.labels),
                GatewaySelector::Services { hosts, namespace } => {
                    *namespace == w.namespace && hosts.contains(&service.hostname)
                }
            };
            let named = |server: &Server| {
                server.hosts.iter().any(|written| host::matches(without_namespace(written), asked))
            };
            mesh.gateways()
                .iter()
                .any(|gateway| chosen(gateway) && gateway.servers.iter().any(|server| named(server)))
        })
}
