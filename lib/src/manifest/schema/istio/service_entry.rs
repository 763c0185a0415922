//! ServiceEntry, WorkloadEntry and WorkloadGroup (networking/v1alpha3).

use indexmap::IndexMap;
use smol_str::SmolStr;

use super::{LabelSelector, Labels};
use crate::manifest::schema::scalar::{Ignored, proto_enum, schema};

schema! {
    /// Services that the registry does not know by itself.
    ServiceEntry {
        hosts: Vec<SmolStr>, addresses: Vec<SmolStr>, ports: Vec<ServicePort>, location: Location,
        resolution: Resolution, endpoints: Vec<WorkloadEntry>, workload_selector: Option<LabelSelector>,
        export_to: Vec<SmolStr>, subject_alt_names: Vec<SmolStr>,
    }
    /// What a controller wrote into a ServiceEntry.
    ServiceEntryStatus { addresses: Vec<ServiceEntryAddress>, conditions: Option<Ignored>, validation_messages: Option<Ignored>, observed_generation: Option<Ignored> }
    /// An allocated address.
    ServiceEntryAddress { value: SmolStr, host: SmolStr }
    /// A port of a ServiceEntry.
    ServicePort { number: u32, protocol: SmolStr, name: SmolStr, target_port: u32 }
    /// An endpoint that is no pod.
    WorkloadEntry {
        address: SmolStr, ports: IndexMap<SmolStr, u32>, labels: Labels, network: SmolStr, locality: SmolStr, weight: u32,
        service_account: SmolStr,
    }
    /// A template for WorkloadEntries.
    WorkloadGroup { metadata: Option<WorkloadGroupMetadata>, template: Option<WorkloadEntry>, probe: Option<ReadinessProbe> }
    /// Labels and annotations of a template.
    WorkloadGroupMetadata { labels: Labels, annotations: Labels }
    /// When a workload is ready.
    ReadinessProbe {
        initial_delay_seconds: i32, timeout_seconds: i32, period_seconds: i32, success_threshold: i32,
        failure_threshold: i32, http_get: Option<HttpHealthCheck>, tcp_socket: Option<TcpHealthCheck>,
        exec: Option<ExecHealthCheck>, grpc: Option<GrpcHealthCheck>,
    }
    /// An HTTP request.
    HttpHealthCheck { path: SmolStr, port: u32, host: SmolStr, scheme: SmolStr, http_headers: Vec<HttpHeader> }
    /// A header of it.
    HttpHeader { name: SmolStr, value: SmolStr }
    /// A TCP connection.
    TcpHealthCheck { host: SmolStr, port: u32 }
    /// A command.
    ExecHealthCheck { command: Vec<SmolStr> }
    /// A gRPC call.
    GrpcHealthCheck { port: u32, service: SmolStr }
}

proto_enum! {
    /// Whether a service is a part of the mesh.
    Location { #[default] MeshExternal = 0 "MESH_EXTERNAL", MeshInternal = 1 "MESH_INTERNAL" }
}

proto_enum! {
    /// How endpoints of a ServiceEntry are found.
    Resolution {
        #[default] None = 0 "NONE", Static = 1 "STATIC", Dns = 2 "DNS", DnsRoundRobin = 3 "DNS_ROUND_ROBIN",
        DynamicDns = 4 "DYNAMIC_DNS",
    }
}
