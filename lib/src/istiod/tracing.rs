//! Do a proxy's listeners take part in traces, and in whose format?
//!
//! Telemetry resources and MeshConfig's providers decide; without either, the proxy's own configuration does. Invariant: a
//! provider whose collector is not a service of the mesh traces nothing, as istiod has it. istiod: `telemetry.go:
//! Telemetries.Tracing, applicableTelemetries`; `tracing.go: configureTracingFromTelemetry, configureFromProviderConfig`.

use super::attachment;
use super::connection_manager::ListenerClass;
use super::node::NodeType;
use super::proxy::Proxy;
use crate::envoy::config::{Tracing, TracingProvider};
use crate::manifest::schema::istio::{Telemetry, WorkloadMode};
use crate::manifest::schema::mesh_config::{ExtensionProvider, ProxyTracing, TracingBackend};
use crate::mesh::{Config, Mesh};
use crate::origin::Origin;

/// Percentages are in hundredths of a percent.
const PERCENT: f64 = 100.0;
/// The share of requests that is sampled unless something else is written: `PILOT_TRACE_SAMPLING`.
const DEFAULT_SAMPLING: f64 = 1.0;

/// The tracing of a proxy's listeners of a class; `None` when they do not trace.
pub fn tracing(proxy: &Proxy, class: ListenerClass) -> Option<Tracing> {
    let config = proxy.mesh().config();
    let default = config.default_providers().and_then(|providers| providers.tracing.first());
    let resources = applicable(proxy);
    if default.is_none() && resources.iter().all(|resource| resource.spec.tracing.is_empty()) {
        return config.enable_tracing.then(|| from_bootstrap(proxy));
    }
    let mut settings = Settings {
        provider: default.map(|name| (name.as_str(), Origin::default("MeshConfig defaultProviders.tracing"))),
        ..Settings::default()
    };
    for resource in resources {
        settings.overlay(resource, class);
    }
    settings.configure(proxy)
}

/// The Telemetry resources that hold for a proxy; later ones win.
fn applicable(proxy: &Proxy) -> Vec<&Config<Telemetry>> {
    let (mesh, node) = (proxy.mesh(), proxy.node());
    let (root, own) = (mesh.config().root_namespace.as_str(), node.namespace.as_str());
    let telemetries = &mesh.policies().telemetries;
    let whole = |config: &&Config<Telemetry>| {
        let spec = &config.spec;
        spec.selector.as_ref().is_none_or(|selector| selector.match_labels.is_empty())
            && spec.target_ref.is_none()
            && spec.target_refs.is_empty()
    };
    let mut out: Vec<_> = telemetries.in_namespace(root).map(AsRef::as_ref).find(whole).into_iter().collect();
    if own != root {
        out.extend(telemetries.in_namespace(own).map(AsRef::as_ref).find(whole));
    }
    out.extend(telemetries.in_namespace(own).map(AsRef::as_ref).filter(|config| !whole(config)).filter(
        |config| {
            let spec = &config.spec;
            let selector = (spec.selector.as_ref(), spec.target_ref.as_ref(), spec.target_refs.as_slice());
            attachment::holds_for(node, &config.namespace, selector)
        },
    ));
    out
}

/// What Telemetry resources ask for, one laid over the other.
#[derive(Debug, Default)]
struct Settings<'a> {
    provider: Option<(&'a str, Origin)>,
    disabled: bool,
    sampling: Option<f64>,
    disable_context_propagation: bool,
}

impl<'a> Settings<'a> {
    fn overlay(&mut self, resource: &'a Config<Telemetry>, class: ListenerClass) {
        let server = class == ListenerClass::SidecarInbound;
        for (i, block) in resource.spec.tracing.iter().enumerate() {
            let mode = block.match_.as_ref().map_or(WorkloadMode::ClientAndServer, |selector| selector.mode);
            if matches!((mode, server), (WorkloadMode::Client, true) | (WorkloadMode::Server, false)) {
                continue;
            }
            if let Some(provider) = block.providers.first() {
                self.provider =
                    Some((&provider.name, resource.origin(format!("spec.tracing[{i}].providers[0]"))));
            }
            self.disabled = block.disable_span_reporting.unwrap_or(self.disabled);
            self.sampling = block.random_sampling_percentage.or(self.sampling);
            self.disable_context_propagation =
                block.disable_context_propagation.unwrap_or(self.disable_context_propagation);
        }
    }

    fn configure(self, proxy: &Proxy) -> Option<Tracing> {
        let mesh = proxy.mesh();
        let (name, origin) = self.provider.filter(|_| !self.disabled)?;
        let provider =
            mesh.config().written.extension_providers.iter().find(|provider| provider.name == name)?;
        let (format, own_sampler) = format(mesh, provider)?;
        let sampling = match self.sampling {
            _ if own_sampler => PERCENT,
            Some(sampling) => sampling,
            None => sampling(proxy.proxy_config().tracing.as_ref()),
        };
        Some(Tracing {
            random_sampling: hundredths(sampling),
            provider: Some(format),
            spawn_upstream_span: proxy.node().node_type == NodeType::Router
                || format == TracingProvider::SkyWalking,
            disable_context_propagation: self.disable_context_propagation,
            origin,
        })
    }
}

/// The format of a provider, and whether it samples by itself; `None` when it cannot be used.
fn format(mesh: &Mesh, provider: &ExtensionProvider) -> Option<(TracingProvider, bool)> {
    if let Some(zipkin) = &provider.zipkin {
        let both = zipkin.trace_context_option == "USE_B3_WITH_W3C_PROPAGATION";
        let format = if both { TracingProvider::ZipkinWithW3c } else { TracingProvider::Zipkin };
        return is_service(mesh, &zipkin.service, zipkin.port).then_some((format, false));
    }
    if let Some(open) = &provider.opentelemetry {
        let own_sampler = open.dynatrace_sampler.is_some();
        return is_service(mesh, &open.service, open.port)
            .then_some((TracingProvider::OpenTelemetry, own_sampler));
    }
    let backend = |format, backend: &TracingBackend| {
        is_service(mesh, &backend.service, backend.port).then_some((format, false))
    };
    if let Some(datadog) = &provider.datadog {
        return backend(TracingProvider::Datadog, datadog);
    }
    backend(TracingProvider::SkyWalking, provider.skywalking.as_ref()?)
}

/// Whether a service, written as `host` or `namespace/host`, has a port. istiod: `extensionprovider.go: LookupCluster`.
fn is_service(mesh: &Mesh, service: &str, port: u32) -> bool {
    let (namespace, host) = service.split_once('/').map_or((None, service), |(ns, host)| (Some(ns), host));
    mesh.services_of(host).any(|service| {
        namespace.is_none_or(|namespace| service.namespace == namespace)
            && service.ports.iter().any(|own| u32::from(own.number) == port)
    })
}

/// Tracing by the collector that the proxy was started with, if any.
///
/// Istio: `envoy_bootstrap.json: tracing`.
fn from_bootstrap(proxy: &Proxy) -> Tracing {
    let tracing = proxy.proxy_config().tracing.as_ref();
    let provider = tracing.and_then(|tracing| {
        if tracing.zipkin.as_ref().is_some_and(|zipkin| !zipkin.address.is_empty()) {
            Some(TracingProvider::Zipkin)
        } else if tracing.lightstep.is_some() {
            Some(TracingProvider::Other)
        } else {
            tracing.datadog.is_some().then_some(TracingProvider::Datadog)
        }
    });
    Tracing {
        random_sampling: hundredths(sampling(tracing)),
        provider,
        spawn_upstream_span: false,
        disable_context_propagation: false,
        origin: Origin::default(match provider {
            Some(_) => "defaultConfig.tracing of the proxy",
            None => "MeshConfig enableTracing: true",
        }),
    }
}

/// The share of requests that a proxy samples. istiod: `tracing.go: proxyConfigSamplingValue`.
fn sampling(tracing: Option<&ProxyTracing>) -> f64 {
    match tracing.map(|tracing| tracing.sampling) {
        // Too much counts as nothing written.
        Some(sampling) if sampling > PERCENT => DEFAULT_SAMPLING,
        Some(sampling) if sampling != 0.0 => sampling,
        _ => DEFAULT_SAMPLING,
    }
}

/// Envoy rounds percentages down to hundredths.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the range of the result"
)]
fn hundredths(percent: f64) -> u32 {
    (percent * 100.0).clamp(0.0, 10_000.0) as u32
}

#[cfg(test)]
mod tests;
