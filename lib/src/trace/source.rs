//! Who sends the request, and through which gateway does it enter?
//!
//! Invariant: a name that fits one workload, or several that are alike, is that workload; anything else is an error that
//! lists what could have been meant.

use smol_str::SmolStr;

use super::error::TraceError;
use super::query::{Query, ToGateway};
use crate::manifest::{Spec, Status};
use crate::mesh::gateway::{Gateway, GatewaySelector, Server, without_namespace};
use crate::mesh::{Mesh, ProxyKind, Registry, Service, Workload, host, selects};

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
pub(super) fn client(mesh: &Mesh, query: &Query) -> Result<Client, TraceError> {
    let index = match query.from.as_deref() {
        Some(OUTSIDE) => return Ok(Client::outside(false)),
        Some(name) => find(mesh, name, query.namespace.as_deref())?,
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

/// Finds a workload by `namespace/name` or name: its own, its controller's, its service account's.
fn find(mesh: &Mesh, name: &str, namespace: Option<&str>) -> Result<usize, TraceError> {
    let (wanted_namespace, wanted) = match name.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, name),
    };
    let fits: [fn(&Workload, &str) -> bool; 3] = [
        |w, name| w.name == name,
        |w, name| w.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('-')),
        |w, name| w.service_account == name,
    ];
    let preferred = namespace.unwrap_or("default");
    for fit in fits {
        let mut found: Vec<usize> = (0..mesh.workloads().len())
            .filter(|i| {
                mesh.workloads().get(*i).is_some_and(|w| {
                    fit(w, wanted) && wanted_namespace.is_none_or(|namespace| w.namespace == namespace)
                })
            })
            .collect();
        if wanted_namespace.is_none() {
            let own = |i: &usize| mesh.workloads().get(*i).is_some_and(|w| w.namespace == preferred);
            if found.iter().any(own) {
                found.retain(own);
            }
        }
        let Some(first) = found.first().copied() else { continue };
        if found.iter().all(|i| alike(mesh, first, *i)) {
            return Ok(first);
        }
        return Err(TraceError::AmbiguousSource { name: name.into(), candidates: names(mesh, &found) });
    }
    let close: Vec<usize> = (0..mesh.workloads().len())
        .filter(|i| {
            mesh.workloads().get(*i).is_some_and(|w| {
                let near = |text: &str| text.contains(wanted) || wanted.contains(text);
                near(&w.name) || wanted_namespace.is_some_and(|namespace| w.namespace == namespace)
            })
        })
        .collect();
    let all: Vec<usize> = (0..mesh.workloads().len()).collect();
    let shown = if close.is_empty() { &all } else { &close };
    Err(TraceError::UnknownSource { name: name.into(), candidates: names(mesh, shown) })
}

fn names(mesh: &Mesh, indexes: &[usize]) -> Vec<SmolStr> {
    let mut names: Vec<SmolStr> =
        indexes.iter().filter_map(|i| mesh.workloads().get(*i)).map(Workload::full_name).collect();
    names.sort();
    names.dedup();
    names.truncate(20);
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

/// Whether nothing that routing depends on tells two workloads apart.
pub(super) fn alike(mesh: &Mesh, a: usize, b: usize) -> bool {
    let (Some(x), Some(y)) = (mesh.workloads().get(a), mesh.workloads().get(b)) else { return false };
    let labels = |w: &'_ Workload| -> Vec<(SmolStr, SmolStr)> {
        let mut labels: Vec<_> = w
            .labels
            .iter()
            .filter(|(key, _)| !POD_LABELS.contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        labels.sort();
        labels
    };
    a == b
        || (x.namespace == y.namespace
            && x.proxy == y.proxy
            && x.service_account == y.service_account
            && x.annotations == y.annotations
            && x.containers == y.containers
            && labels(x) == labels(y))
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
    /// What is assumed.
    pub(super) assumption: Option<String>,
}

/// The Services in front of gateways.
fn gateways(mesh: &Mesh) -> Vec<&Service> {
    let routers: Vec<&Workload> = mesh.workloads().iter().filter(|w| w.proxy == ProxyKind::Gateway).collect();
    mesh.services()
        .iter()
        .map(AsRef::as_ref)
        .filter(|s: &&Service| {
            s.registry == Registry::Kubernetes
                && !s.selector.is_empty()
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
    Ok(Entrance { service, port, assumption: None })
}

/// The gateway that a request from outside finds by its URL alone.
pub(super) fn gateway_for<'a>(mesh: &'a Mesh, query: &Query) -> Result<Entrance<'a>, TraceError> {
    let all = gateways(mesh);
    let (asked, port) = (query.target.host.as_str(), query.target.port);
    let entrance = |service, assumption| Ok(Entrance { service, port, assumption });
    if let Some(service) =
        all.iter().copied().find(|s| outside_names(mesh, s).iter().any(|name| name == asked))
    {
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

/// The names and addresses that a Service has outside of the cluster, and its own.
fn outside_names(mesh: &Mesh, service: &Service) -> Vec<SmolStr> {
    let mut names = vec![service.hostname.clone()];
    names.extend(service.cluster_vips.iter().cloned());
    let Some(resource) = service.origin.resource().and_then(|id| mesh.manifests().get(id)) else {
        return names;
    };
    if let Spec::Service(spec) = &resource.spec {
        names.extend(spec.external_ips.iter().cloned());
        names.push(spec.load_balancer_ip.clone());
    }
    if let Status::Service(status) = &resource.status {
        for ingress in status.load_balancer.iter().flat_map(|lb| &lb.ingress) {
            names.push(ingress.ip.clone());
            names.push(ingress.hostname.clone());
        }
    }
    names.retain(|name| !name.is_empty());
    names
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
