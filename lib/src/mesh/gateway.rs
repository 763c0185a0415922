//! Which servers are gateways asked to open?
//!
//! Gateways as users write them, and those that istiod makes from other resources, in one form. Invariant: hosts have
//! the `namespace/host` form that istiod compares: `./` and `*/` are resolved.
//! istiod: `pilot/pkg/model/gateway.go: sanitizeServerHostNamespace`.

use std::sync::Arc;

use indexmap::IndexMap;
use smol_str::{SmolStr, format_smolstr};

use super::Protocol;
use super::virtual_service::Generator;
use crate::manifest::schema::istio as schema;
use crate::manifest::schema::istio::{ServerTlsMode, ServerTlsSettings};
use crate::manifest::{Resource, Timestamp};
use crate::origin::{Origin, ResourceId};

/// Names the Services that a gateway's ports are resolved by, in place of a selector.
const GATEWAY_SERVICE: &str = "internal.istio.io/gateway-service";
/// Whose rules a generated Gateway follows.
const GATEWAY_SEMANTICS: &str = "internal.istio.io/gateway-semantics";
/// The service account of a gateway that istiod deploys itself.
const SERVICE_ACCOUNT: &str = "internal.istio.io/service-account-name";
/// The namespace of the resource that a generated one belongs to.
const PARENT_NAMESPACE: &str = "internal.istio.io/parent-namespace";

/// How the proxies of a Gateway are chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GatewaySelector {
    /// Proxies with these labels; none chooses every gateway proxy.
    Labels(IndexMap<SmolStr, SmolStr>),
    /// Proxies behind one of these hosts, which have to be in `namespace`.
    Services {
        /// The hosts.
        hosts: Vec<SmolStr>,
        /// The namespace.
        namespace: SmolStr,
    },
}

/// A server of a Gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// The server's own name; often empty.
    pub name: SmolStr,
    /// The port as written.
    pub number: u16,
    /// The port's name.
    pub port_name: SmolStr,
    /// The port's protocol as written: servers of one port are told apart by it.
    pub protocol_name: SmolStr,
    /// What the port speaks.
    pub protocol: Protocol,
    /// The address that is listened on; empty for all.
    pub bind: SmolStr,
    /// Hosts, as `namespace/host` or `host`.
    pub hosts: Vec<SmolStr>,
    /// TLS towards clients.
    pub tls: Option<ServerTlsSettings>,
    /// Where it is written.
    pub origin: Origin,
}

impl Server {
    /// Whether it is a server of TLS that is no HTTP server with a redirect only. istiod: `gateway.go: IsTLSServer`.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some() && !self.protocol.is_http()
    }

    /// Whether TLS is passed through. istiod: `gateway.go: IsPassThroughServer`.
    pub fn is_passthrough(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| {
            matches!(tls.mode, ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough)
        })
    }

    /// Whether it is HTTP, with or without TLS that ends here. istiod: `gateway.go: IsHTTPServer`.
    pub fn is_http(&self) -> bool {
        self.protocol.is_http() || (self.protocol == Protocol::Https && !self.is_passthrough())
    }

    /// Whether it is HTTPS that ends here. istiod: `gateway.go: IsHTTPSServerWithTLSTermination`.
    pub fn terminates_https(&self) -> bool {
        self.tls.is_some() && self.protocol == Protocol::Https && !self.is_passthrough()
    }

    /// Whether plaintext is redirected to https.
    pub fn redirects_to_https(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.https_redirect)
    }

    /// Its hosts without namespaces, sorted, each once. istiod: `gateway.go: GetSNIHostsForServer`.
    pub fn sni_hosts(&self) -> Vec<SmolStr> {
        let mut out: Vec<SmolStr> = self.hosts.iter().map(|host| without_namespace(host).into()).collect();
        out.sort();
        out.dedup();
        out
    }
}

/// The host of a `namespace/host` entry.
pub fn without_namespace(host: &str) -> &str {
    // Only the part up to a second slash counts.
    host.split('/').nth(1).unwrap_or(host)
}

/// A Gateway as istiod uses it.
#[derive(Clone, Debug, PartialEq)]
pub struct Gateway {
    /// The name.
    pub name: SmolStr,
    /// The namespace.
    pub namespace: SmolStr,
    /// `namespace/name`, as VirtualServices name it.
    pub full_name: SmolStr,
    /// Its proxies.
    pub selector: GatewaySelector,
    /// Its servers.
    pub servers: Vec<Arc<Server>>,
    /// Who wrote it.
    pub generator: Generator,
    /// Whether istiod deploys its proxies itself.
    pub managed: bool,
    /// When it was created.
    pub creation: Option<Timestamp>,
    /// The resource.
    pub resource: ResourceId,
}

impl Gateway {
    /// An origin at `path` of the resource.
    pub fn origin(&self, path: impl Into<SmolStr>) -> Origin {
        Origin::field(self.resource, path)
    }
}

/// Reads a Gateway.
pub(crate) fn from_resource(resource: &Resource, spec: &schema::Gateway) -> Gateway {
    let meta = &resource.meta;
    let annotation = |name: &str| meta.annotations.get(name).map(SmolStr::as_str);
    let selector = match annotation(GATEWAY_SERVICE) {
        Some(hosts) => GatewaySelector::Services {
            hosts: hosts.split(',').map(SmolStr::new).collect(),
            namespace: annotation(PARENT_NAMESPACE)
                .filter(|ns| !ns.is_empty())
                .map_or_else(|| meta.namespace.clone(), SmolStr::new),
        },
        None => GatewaySelector::Labels(spec.selector.clone()),
    };
    let servers = spec.servers.iter().enumerate().filter_map(|(i, server)| {
        // Validation refuses servers without a port; istiod passes them over.
        let port = server.port.as_ref()?;
        Some(Arc::new(Server {
            name: server.name.clone(),
            number: u16::try_from(port.number).ok()?,
            port_name: port.name.clone(),
            protocol_name: port.protocol.clone(),
            protocol: Protocol::parse(&port.protocol),
            bind: server.bind.clone(),
            hosts: sanitize_hosts(&server.hosts, &meta.namespace),
            tls: server.tls.clone(),
            origin: resource.origin(format_smolstr!("spec.servers[{i}]")),
        }))
    });
    let generated = annotation(GATEWAY_SEMANTICS) == Some("gateway");
    Gateway {
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        full_name: format_smolstr!("{}/{}", meta.namespace, meta.name),
        selector,
        servers: servers.collect(),
        generator: if generated { Generator::GatewayApi } else { Generator::User },
        managed: generated && annotation(SERVICE_ACCOUNT).is_some_and(|account| !account.is_empty()),
        creation: meta.creation_timestamp.clone(),
        resource: resource.id,
    }
}

/// Resolves `./host` to the Gateway's namespace and `*/host` to `host`; `*/*` stands for everything.
pub(super) fn sanitize_hosts(hosts: &[SmolStr], namespace: &str) -> Vec<SmolStr> {
    let mut out = Vec::with_capacity(hosts.len());
    for host in hosts {
        match host.split_once('/') {
            Some((".", name)) => out.push(format_smolstr!("{namespace}/{}", first(name))),
            Some(("*", "*")) => return vec![SmolStr::new_static("*")],
            Some(("*", name)) => out.push(first(name).into()),
            _ => out.push(host.clone()),
        }
    }
    out
}

fn first(name: &str) -> &str {
    name.split('/').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_in_hosts_are_resolved() {
        let hosts = ["a.com", "./b.com", "*/c.com", "x/d.com"].map(SmolStr::new);
        assert_eq!(sanitize_hosts(&hosts, "ns"), ["a.com", "ns/b.com", "c.com", "x/d.com"]);
        let everything = ["./b.com", "*/*", "c.com"].map(SmolStr::new);
        assert_eq!(sanitize_hosts(&everything, "ns"), ["*"]);
    }
}
