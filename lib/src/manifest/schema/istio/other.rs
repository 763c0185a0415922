//! Telemetry, EnvoyFilter, ProxyConfig and WasmPlugin.

use smol_str::SmolStr;

use super::{LabelSelector, Labels, PolicyTargetReference, WorkloadSelector};
use crate::manifest::schema::scalar::{Ignored, schema};

schema! {
    /// Tracing, metrics and access logs.
    Telemetry {
        selector: Option<WorkloadSelector>, target_ref: Option<PolicyTargetReference>,
        target_refs: Vec<PolicyTargetReference>, tracing: Vec<TelemetryTracing>, metrics: Option<Ignored>,
        access_logging: Option<Ignored>,
    }
    /// Tracing.
    TelemetryTracing {
        #[serde(rename = "match")] match_: Option<Ignored>, providers: Vec<ProviderRef>,
        random_sampling_percentage: Option<f64>, disable_span_reporting: Option<bool>,
        disable_context_propagation: Option<bool>, custom_tags: Option<Ignored>, use_request_id_for_trace_sampling: Option<bool>,
        enable_istio_tags: Option<bool>,
    }
    /// A provider of the mesh configuration.
    ProviderRef { name: SmolStr }

    /// Changes to Envoy's configuration that dryroute does not model.
    EnvoyFilter {
        workload_selector: Option<LabelSelector>, config_patches: Vec<EnvoyConfigPatch>, priority: i32,
        target_refs: Vec<PolicyTargetReference>,
    }
    /// A patch.
    EnvoyConfigPatch { apply_to: SmolStr, #[serde(rename = "match")] match_: Option<EnvoyConfigMatch>, patch: Option<Ignored> }
    /// What a patch is applied to.
    EnvoyConfigMatch {
        context: SmolStr, proxy: Option<Ignored>, listener: Option<Ignored>, route_configuration: Option<Ignored>,
        cluster: Option<Ignored>, waypoint: Option<Ignored>,
    }

    /// Proxy settings for selected workloads.
    ProxyConfig {
        selector: Option<WorkloadSelector>, concurrency: Option<i32>, environment_variables: Labels, image: Option<Ignored>,
    }

    /// A WebAssembly filter, which dryroute does not run.
    WasmPlugin {
        selector: Option<WorkloadSelector>, target_ref: Option<PolicyTargetReference>,
        target_refs: Vec<PolicyTargetReference>, url: SmolStr, sha256: SmolStr, image_pull_policy: SmolStr,
        image_pull_secret: SmolStr, verification_key: SmolStr, plugin_config: Option<Ignored>, plugin_name: SmolStr,
        phase: SmolStr, priority: Option<i32>, fail_strategy: SmolStr, vm_config: Option<Ignored>,
        #[serde(rename = "match")] match_: Option<Ignored>, #[serde(rename = "type")] type_: SmolStr,
    }
}
