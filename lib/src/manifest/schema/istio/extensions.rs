//! WasmPlugin and TrafficExtension (extensions/v1alpha1): filters that dryroute does not run.

use smol_str::SmolStr;

use super::{PolicyTargetReference, PortSelector, WorkloadSelector};
use crate::manifest::schema::scalar::{Ignored, proto_enum, schema};

schema! {
    /// A WebAssembly filter.
    WasmPlugin {
        selector: Option<WorkloadSelector>, target_ref: Option<PolicyTargetReference>,
        target_refs: Vec<PolicyTargetReference>, url: SmolStr, sha256: SmolStr, image_pull_policy: PullPolicy,
        image_pull_secret: SmolStr, verification_key: SmolStr, plugin_config: Option<Ignored>, plugin_name: SmolStr,
        phase: PluginPhase, priority: Option<i32>, fail_strategy: FailStrategy, vm_config: Option<VmConfig>,
        #[serde(rename = "match")] match_: Vec<TrafficSelector>, #[serde(rename = "type")] type_: PluginType,
    }
    /// Which traffic is meant.
    TrafficSelector { mode: TrafficMode, ports: Vec<PortSelector> }
    /// Settings of the virtual machine.
    VmConfig { env: Vec<VmEnvVar> }
    /// An environment variable.
    VmEnvVar { name: SmolStr, value: SmolStr, value_from: EnvValueSource }

    /// A WebAssembly or Lua filter.
    TrafficExtension {
        selector: Option<WorkloadSelector>, target_refs: Vec<PolicyTargetReference>, phase: ExecutionPhase,
        priority: Option<i32>, #[serde(rename = "match")] match_: Vec<TrafficSelector>, wasm: Option<WasmConfig>,
        lua: Option<LuaConfig>,
    }
    /// A WebAssembly module.
    WasmConfig {
        url: SmolStr, sha256: SmolStr, image_pull_policy: PullPolicy, image_pull_secret: SmolStr,
        verification_key: SmolStr, plugin_config: Option<Ignored>, plugin_name: SmolStr, fail_strategy: FailStrategy,
        vm_config: Option<VmConfig>, #[serde(rename = "type")] type_: PluginType,
    }
    /// A Lua script.
    LuaConfig { inline_code: SmolStr }
}

proto_enum! {
    /// A side of a connection; Telemetry's enum of that purpose has another zero.
    TrafficMode {
        #[default] Undefined = 0 "UNDEFINED", Client = 1 "CLIENT", Server = 2 "SERVER", ClientAndServer = 3 "CLIENT_AND_SERVER",
    }
}

proto_enum! {
    /// When an image is fetched.
    PullPolicy { #[default] Unspecified = 0 "UNSPECIFIED_POLICY", IfNotPresent = 1 "IfNotPresent", Always = 2 "Always" }
}

proto_enum! {
    /// What happens when a filter cannot be loaded.
    FailStrategy { #[default] FailClose = 0 "FAIL_CLOSE", FailOpen = 1 "FAIL_OPEN", FailReload = 2 "FAIL_RELOAD" }
}

proto_enum! {
    /// Before which of Istio's filters a filter runs.
    PluginPhase { #[default] Unspecified = 0 "UNSPECIFIED_PHASE", Authn = 1 "AUTHN", Authz = 2 "AUTHZ", Stats = 3 "STATS" }
}

proto_enum! {
    /// Before which of Istio's filters a filter runs.
    ExecutionPhase { #[default] Unspecified = 0 "UNSPECIFIED", Authn = 1 "AUTHN", Authz = 2 "AUTHZ", Stats = 3 "STATS" }
}

impl From<PluginPhase> for ExecutionPhase {
    fn from(phase: PluginPhase) -> Self {
        match phase {
            PluginPhase::Unspecified => Self::Unspecified,
            PluginPhase::Authn => Self::Authn,
            PluginPhase::Authz => Self::Authz,
            PluginPhase::Stats => Self::Stats,
        }
    }
}

proto_enum! {
    /// What a filter sees.
    PluginType { #[default] Unspecified = 0 "UNSPECIFIED_PLUGIN_TYPE", Http = 1 "HTTP", Network = 2 "NETWORK" }
}

proto_enum! {
    /// Where a variable's value comes from.
    EnvValueSource { #[default] Inline = 0 "INLINE", Host = 1 "HOST" }
}
