//! What does the admin interface show of a configuration?
//!
//! Listeners, clusters and routes are shown as they were told, endpoints as Envoy keeps them. Envoy:
//! `server/admin/config_dump_handler.cc: dumpEndpointConfigs, addLbEndpoint`. Measured with Envoy 1.40.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::json::Object;
use super::{
    CLUSTER, ENDPOINTS, Endpoints, LISTENER, ROUTE_CONFIGURATION, Routes, VERSION, Writer, cluster, listener,
    route, runtime, typed,
};
use crate::envoy::cluster::OVERPROVISIONING;
use crate::envoy::config::{
    Cluster, DiscoveryType, HealthStatus, HttpConnectionManager, LocalityEndpoints, NetworkFilter,
    RouteConfiguration, RouteSpecifier,
};

/// `admin.v3.ConfigDump`.
pub(super) fn config_dump(writer: &Writer<'_>) -> Value {
    let listeners: Vec<Value> = writer
        .listeners(Routes::ByName)
        .into_iter()
        .map(|l| {
            let listener = typed(LISTENER, l);
            json!({
                "name": listener.get("name").cloned().unwrap_or_default(),
                "active_state": {"version_info": VERSION, "listener": listener},
            })
        })
        .collect();
    let clusters: Vec<Value> = writer
        .clusters(Endpoints::ByName)
        .into_iter()
        .map(|c| json!({"version_info": VERSION, "cluster": typed(CLUSTER, c)}))
        .collect();
    // Envoy has no order of its own here; this is the one that istioctl makes, whatever else is among them.
    let mut named = writer.route_configurations();
    let port =
        |config: &Value| config.get("name").and_then(Value::as_str).and_then(|name| name.parse::<u16>().ok());
    named.sort_by_key(|config| port(config).map_or(u32::MAX, u32::from));
    let routes: Vec<Value> = named
        .into_iter()
        .map(|r| json!({"version_info": VERSION, "route_config": typed(ROUTE_CONFIGURATION, r)}))
        .collect();
    let static_routes: Vec<Value> = inline_route_configurations(writer)
        .map(|c| json!({"route_config": typed(ROUTE_CONFIGURATION, route::route_configuration(writer, c))}))
        .collect();
    // All that a discovery response named is dynamic, wherever its endpoints come from.
    let endpoints: Vec<Value> = writer
        .snapshot
        .clusters
        .iter()
        .map(|c| json!({"endpoint_config": typed(ENDPOINTS, load_assignment(writer, c))}))
        .collect();
    let bootstrap = json!({"node": writer.node(), "layered_runtime": runtime()});
    // A version counts once something of it was applied.
    let version = (!listeners.is_empty()).then_some(VERSION);
    let mut configs = vec![
        section("Bootstrap", None, [("bootstrap", bootstrap)]),
        section("Clusters", Some(VERSION), [("dynamic_active_clusters", clusters.into())]),
        section("Endpoints", None, [("dynamic_endpoint_configs", endpoints.into())]),
        section("Listeners", version, [("dynamic_listeners", listeners.into())]),
    ];
    // Envoy knows of routes since the first connection manager.
    if managers(writer).next().is_some() || !routes.is_empty() {
        let lists = [("static_route_configs", static_routes), ("dynamic_route_configs", routes)];
        configs.push(section("Routes", None, lists.map(|(name, list)| (name, list.into()))));
    }
    json!({"configs": configs})
}

/// A part of the dump.
fn section<const N: usize>(kind: &str, version: Option<&str>, lists: [(&str, Value); N]) -> Value {
    let mut out = Object::typed(&format!("type.googleapis.com/envoy.admin.v3.{kind}ConfigDump"));
    out.set_some("version_info", version);
    for (name, list) in lists {
        out.set_nonempty(name, list);
    }
    out.into()
}

/// All connection managers of listeners that are written.
fn managers<'a>(writer: &Writer<'a>) -> impl Iterator<Item = &'a HttpConnectionManager> {
    writer
        .snapshot
        .listeners
        .iter()
        .filter(|l| listener::is_written(writer, l))
        .flat_map(|l| l.filter_chains.iter().chain(&l.default_filter_chain))
        .filter_map(|chain| match &chain.terminal {
            NetworkFilter::HttpConnectionManager(manager) => Some(&**manager),
            NetworkFilter::TcpProxy(_) => None,
        })
}

/// The route configurations that listeners hold.
fn inline_route_configurations<'a>(writer: &Writer<'a>) -> impl Iterator<Item = &'a RouteConfiguration> {
    managers(writer).filter_map(|manager| match &manager.route_specifier {
        RouteSpecifier::Inline(configuration) => Some(&**configuration),
        RouteSpecifier::Rds(_) => None,
    })
}

/// The endpoints of a cluster as Envoy keeps them: by priority, then by the order of their localities' names.
fn load_assignment(writer: &Writer<'_>, cluster: &Cluster) -> Value {
    let mut out = Object::new();
    out.set("cluster_name", cluster.name.as_str());
    out.set_nonempty("endpoints", endpoints(writer, cluster));
    out.set("policy", json!({"overprovisioning_factor": OVERPROVISIONING}));
    out.into()
}

fn endpoints(writer: &Writer<'_>, cluster: &Cluster) -> Vec<Value> {
    match cluster.discovery_type {
        DiscoveryType::OriginalDst | DiscoveryType::DynamicForwardProxy => {
            // There are none before a connection names one, except where a stand-in takes its place.
            let at = writer.loopback.and_then(|loopback| loopback.original_destination(cluster));
            let stand_in = at.map(|at| {
                json!({
                    "locality": {},
                    "lb_endpoints": [shown(cluster::endpoint_at(at), HealthStatus::Healthy)],
                    "load_balancing_weight": 0,
                })
            });
            return stand_in.into_iter().collect();
        }
        DiscoveryType::StrictDns | DiscoveryType::LogicalDns if writer.loopback.is_none() => {
            if !cluster.load_assignment.endpoints.is_empty() {
                writer
                    .leave_out(format!("endpoints of cluster {}: Envoy resolves their names", cluster.name));
            }
            return Vec::new();
        }
        DiscoveryType::StrictDns | DiscoveryType::LogicalDns | DiscoveryType::Eds | DiscoveryType::Static => {
        }
    }
    let mut groups: BTreeMap<(u32, Vec<&str>), Vec<&LocalityEndpoints>> = BTreeMap::new();
    for group in &cluster.load_assignment.endpoints {
        groups.entry((group.priority, group.locality.split('/').collect())).or_default().push(group);
    }
    groups.into_values().filter_map(|groups| locality(writer, cluster, &groups)).collect()
}

/// Endpoints of one priority and locality; `None` where there are none.
fn locality(writer: &Writer<'_>, cluster: &Cluster, groups: &[&LocalityEndpoints]) -> Option<Value> {
    let members: Vec<Value> = groups
        .iter()
        .flat_map(|group| &group.lb_endpoints)
        .filter_map(|e| Some(shown(cluster::lb_endpoint(writer, cluster, e)?, e.health_status)))
        .collect();
    let last = groups.last().filter(|_| !members.is_empty())?;
    let mut out = Object::new();
    out.set("locality", cluster::place(last));
    out.set("lb_endpoints", members);
    out.set("load_balancing_weight", last.load_balancing_weight);
    out.set_nonempty("priority", last.priority);
    Some(out.into())
}

/// An endpoint with what Envoy knows of it besides.
fn shown(mut endpoint: Object, health: HealthStatus) -> Value {
    let usable = if health == HealthStatus::Healthy { "HEALTHY" } else { "UNHEALTHY" };
    endpoint.set("health_status", usable);
    endpoint.set_if_absent("load_balancing_weight", 1);
    let mut out = Value::from(endpoint);
    if let Some(body) = out.get_mut("endpoint").and_then(Value::as_object_mut) {
        body.insert("health_check_config".to_owned(), json!({}));
    }
    out
}
