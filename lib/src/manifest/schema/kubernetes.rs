//! Kubernetes' own kinds. Source: the Go types of k8s.io/api v1.34, with the subtrees that no route depends on known
//! by name and skipped.

use indexmap::IndexMap;
use smol_str::SmolStr;

use super::scalar::{Ignored, IntOrString, schema};

/// A map of labels.
pub type Labels = IndexMap<SmolStr, SmolStr>;

schema! {
    /// A namespace; its labels are in the metadata.
    Namespace { spec: Option<Ignored>, status: Option<Ignored> }
    /// A node; its labels, which say where its pods run, are in the metadata.
    Node { spec: Option<Ignored>, status: Option<Ignored> }
    /// A service account; its name is in the metadata.
    ServiceAccount { secrets: Option<Ignored>, image_pull_secrets: Option<Ignored>, automount_service_account_token: Option<Ignored> }
    /// A Secret's type and the names of its entries; contents are never kept.
    Secret {
        #[serde(rename = "type")] type_: SmolStr, data: IndexMap<SmolStr, Ignored>, string_data: IndexMap<SmolStr, Ignored>,
        immutable: Option<Ignored>,
    }
    /// A ConfigMap.
    ConfigMap { data: IndexMap<SmolStr, SmolStr>, binary_data: Option<Ignored>, immutable: Option<Ignored> }

    /// A Service's specification.
    ServiceSpec {
        ports: Vec<ServicePort>, selector: Labels, #[serde(rename = "clusterIP")] cluster_ip: SmolStr,
        #[serde(rename = "clusterIPs")] cluster_ips: Vec<SmolStr>, #[serde(rename = "type")] type_: SmolStr,
        #[serde(rename = "externalIPs")] external_ips: Vec<SmolStr>, session_affinity: Option<Ignored>,
        #[serde(rename = "loadBalancerIP")] load_balancer_ip: SmolStr, load_balancer_source_ranges: Option<Ignored>,
        external_name: SmolStr, external_traffic_policy: SmolStr, health_check_node_port: Option<Ignored>,
        publish_not_ready_addresses: bool, session_affinity_config: Option<Ignored>, ip_families: Vec<SmolStr>,
        ip_family_policy: SmolStr, allocate_load_balancer_node_ports: Option<Ignored>, load_balancer_class: Option<Ignored>,
        internal_traffic_policy: SmolStr, traffic_distribution: SmolStr,
    }
    /// A Service's port.
    ServicePort {
        name: SmolStr, protocol: SmolStr, app_protocol: Option<SmolStr>, port: u32, target_port: Option<IntOrString>,
        node_port: Option<u32>,
    }
    /// A Service's status.
    ServiceStatus { load_balancer: Option<LoadBalancerStatus>, conditions: Option<Ignored> }
    /// Addresses of a load balancer.
    LoadBalancerStatus { ingress: Vec<LoadBalancerIngress> }
    /// An address of a load balancer.
    LoadBalancerIngress { ip: SmolStr, hostname: SmolStr, ip_mode: SmolStr, ports: Option<Ignored> }

    /// An Endpoints object.
    Endpoints { subsets: Vec<EndpointSubset> }
    /// Addresses and ports of an Endpoints object.
    EndpointSubset { addresses: Vec<EndpointsAddress>, not_ready_addresses: Vec<EndpointsAddress>, ports: Vec<EndpointPort> }
    /// An address of an Endpoints object.
    EndpointsAddress { ip: SmolStr, hostname: SmolStr, node_name: SmolStr, target_ref: Option<ObjectReference> }
    /// A reference to an object.
    ObjectReference {
        kind: SmolStr, namespace: SmolStr, name: SmolStr, uid: SmolStr, api_version: SmolStr, resource_version: SmolStr,
        field_path: SmolStr,
    }
    /// A port of endpoints.
    EndpointPort { name: Option<SmolStr>, port: Option<u32>, protocol: SmolStr, app_protocol: Option<SmolStr> }
    /// An EndpointSlice.
    EndpointSlice { address_type: SmolStr, endpoints: Vec<Endpoint>, ports: Vec<EndpointPort> }
    /// An endpoint of an EndpointSlice.
    Endpoint {
        addresses: Vec<SmolStr>, conditions: Option<EndpointConditions>, hostname: Option<SmolStr>,
        target_ref: Option<ObjectReference>, deprecated_topology: Option<Ignored>, node_name: Option<SmolStr>,
        zone: Option<SmolStr>, hints: Option<Ignored>,
    }
    /// Whether an endpoint is ready; absent means yes.
    EndpointConditions { ready: Option<bool>, serving: Option<bool>, terminating: Option<bool> }

    /// A pod's specification.
    PodSpec {
        containers: Vec<Container>, init_containers: Vec<Container>, ephemeral_containers: Option<Ignored>,
        service_account_name: SmolStr, service_account: SmolStr, host_network: bool, node_name: SmolStr,
        hostname: SmolStr, subdomain: SmolStr, security_context: Option<PodSecurityContext>, node_selector: Option<Ignored>,
        volumes: Option<Ignored>, restart_policy: Option<Ignored>, termination_grace_period_seconds: Option<Ignored>,
        active_deadline_seconds: Option<Ignored>, dns_policy: Option<Ignored>, automount_service_account_token: Option<Ignored>,
        #[serde(rename = "hostPID")] host_pid: Option<Ignored>, #[serde(rename = "hostIPC")] host_ipc: Option<Ignored>,
        share_process_namespace: Option<Ignored>, image_pull_secrets: Option<Ignored>, affinity: Option<Ignored>,
        scheduler_name: Option<Ignored>, tolerations: Option<Ignored>, host_aliases: Option<Ignored>,
        priority_class_name: Option<Ignored>, priority: Option<Ignored>, dns_config: Option<Ignored>,
        readiness_gates: Option<Ignored>, runtime_class_name: Option<Ignored>, enable_service_links: Option<Ignored>,
        preemption_policy: Option<Ignored>, overhead: Option<Ignored>, topology_spread_constraints: Option<Ignored>,
        #[serde(rename = "setHostnameAsFQDN")] set_hostname_as_fqdn: Option<Ignored>, os: Option<Ignored>,
        host_users: Option<Ignored>, scheduling_gates: Option<Ignored>, resource_claims: Option<Ignored>, resources: Option<Ignored>,
        hostname_override: Option<Ignored>, workload_ref: Option<Ignored>,
    }
    /// A container.
    Container {
        name: SmolStr, image: SmolStr, ports: Vec<ContainerPort>, security_context: Option<ContainerSecurityContext>,
        env: Vec<EnvVar>, args: Vec<SmolStr>, command: Option<Ignored>, working_dir: Option<Ignored>, env_from: Option<Ignored>,
        resources: Option<Ignored>, resize_policy: Option<Ignored>, restart_policy: Option<SmolStr>,
        restart_policy_rules: Option<Ignored>, volume_mounts: Option<Ignored>, volume_devices: Option<Ignored>,
        liveness_probe: Option<Ignored>, readiness_probe: Option<Ignored>, startup_probe: Option<Ignored>,
        lifecycle: Option<Ignored>, termination_message_path: Option<Ignored>, termination_message_policy: Option<Ignored>,
        image_pull_policy: Option<Ignored>, stdin: Option<Ignored>, stdin_once: Option<Ignored>, tty: Option<Ignored>,
    }
    /// An environment variable; values from elsewhere are not known.
    EnvVar { name: SmolStr, value: Option<SmolStr>, value_from: Option<Ignored> }
    /// A port that a container names.
    ContainerPort {
        name: SmolStr, container_port: u32, protocol: SmolStr, host_port: Option<Ignored>,
        #[serde(rename = "hostIP")] host_ip: Option<Ignored>,
    }
    /// Security settings of a container.
    ContainerSecurityContext {
        run_as_user: Option<i64>, run_as_group: Option<i64>, capabilities: Option<Ignored>, privileged: Option<Ignored>,
        se_linux_options: Option<Ignored>, windows_options: Option<Ignored>, run_as_non_root: Option<Ignored>,
        read_only_root_filesystem: Option<Ignored>, allow_privilege_escalation: Option<Ignored>,
        proc_mount: Option<Ignored>, seccomp_profile: Option<Ignored>, app_armor_profile: Option<Ignored>,
    }
    /// Security settings of a pod.
    PodSecurityContext {
        run_as_user: Option<i64>, run_as_group: Option<i64>, fs_group: Option<Ignored>, se_linux_options: Option<Ignored>,
        windows_options: Option<Ignored>, run_as_non_root: Option<Ignored>, supplemental_groups: Option<Ignored>,
        supplemental_groups_policy: Option<Ignored>, sysctls: Option<Ignored>, fs_group_change_policy: Option<Ignored>,
        seccomp_profile: Option<Ignored>, app_armor_profile: Option<Ignored>, se_linux_change_policy: Option<Ignored>,
    }
    /// A pod's status.
    PodStatus {
        #[serde(rename = "podIP")] pod_ip: SmolStr, #[serde(rename = "podIPs")] pod_ips: Vec<PodIp>, phase: SmolStr,
        conditions: Vec<PodCondition>, #[serde(rename = "hostIP")] host_ip: Option<Ignored>, #[serde(rename = "hostIPs")] host_ips: Option<Ignored>,
        message: Option<Ignored>, reason: Option<Ignored>, nominated_node_name: Option<Ignored>, start_time: Option<Ignored>,
        init_container_statuses: Option<Ignored>, container_statuses: Option<Ignored>, qos_class: Option<Ignored>,
        ephemeral_container_statuses: Option<Ignored>, resize: Option<Ignored>, resource_claim_statuses: Option<Ignored>,
        observed_generation: Option<Ignored>,
    }
    /// An address of a pod.
    PodIp { ip: SmolStr }
    /// A condition of a pod.
    PodCondition {
        #[serde(rename = "type")] type_: SmolStr, status: SmolStr, last_probe_time: Option<Ignored>,
        last_transition_time: Option<Ignored>, reason: Option<Ignored>, message: Option<Ignored>, observed_generation: Option<Ignored>,
    }
    /// A pod template of a controller.
    PodTemplateSpec { metadata: TemplateMeta, spec: PodSpec }
    /// The metadata of a template.
    TemplateMeta {
        name: SmolStr, namespace: SmolStr, labels: Labels, annotations: Labels, creation_timestamp: Option<Ignored>,
        generate_name: Option<Ignored>, finalizers: Option<Ignored>, owner_references: Option<Ignored>,
    }
    /// Selects by labels.
    Selector { match_labels: Labels, match_expressions: Vec<SelectorRequirement> }
    /// A condition on a label.
    SelectorRequirement { key: SmolStr, operator: SmolStr, values: Vec<SmolStr> }

    /// A Deployment's specification; also ReplicaSets.
    DeploymentSpec {
        replicas: Option<i32>, selector: Option<Selector>, template: PodTemplateSpec, strategy: Option<Ignored>,
        min_ready_seconds: Option<Ignored>, revision_history_limit: Option<Ignored>, paused: Option<Ignored>,
        progress_deadline_seconds: Option<Ignored>,
    }
    /// A StatefulSet's specification.
    StatefulSetSpec {
        replicas: Option<i32>, selector: Option<Selector>, template: PodTemplateSpec, service_name: SmolStr,
        volume_claim_templates: Option<Ignored>, pod_management_policy: Option<Ignored>, update_strategy: Option<Ignored>,
        revision_history_limit: Option<Ignored>, min_ready_seconds: Option<Ignored>, ordinals: Option<StatefulSetOrdinals>,
        persistent_volume_claim_retention_policy: Option<Ignored>,
    }
    /// The numbers of a StatefulSet's pods.
    StatefulSetOrdinals { start: u32 }
    /// A DaemonSet's specification.
    DaemonSetSpec {
        selector: Option<Selector>, template: PodTemplateSpec, update_strategy: Option<Ignored>,
        min_ready_seconds: Option<Ignored>, revision_history_limit: Option<Ignored>,
    }
    /// A Job's specification.
    JobSpec {
        template: PodTemplateSpec, selector: Option<Selector>, parallelism: Option<i32>, completions: Option<Ignored>,
        completion_mode: Option<Ignored>, backoff_limit: Option<Ignored>, backoff_limit_per_index: Option<Ignored>,
        active_deadline_seconds: Option<Ignored>, pod_failure_policy: Option<Ignored>, success_policy: Option<Ignored>,
        manual_selector: Option<Ignored>, ttl_seconds_after_finished: Option<Ignored>, suspend: Option<Ignored>,
        pod_replacement_policy: Option<Ignored>, managed_by: Option<Ignored>, max_failed_indexes: Option<Ignored>,
    }
    /// A CronJob's specification.
    CronJobSpec {
        job_template: JobTemplateSpec, schedule: Option<Ignored>, time_zone: Option<Ignored>, suspend: Option<Ignored>,
        starting_deadline_seconds: Option<Ignored>, concurrency_policy: Option<Ignored>,
        successful_jobs_history_limit: Option<Ignored>, failed_jobs_history_limit: Option<Ignored>,
    }
    /// A Job's template.
    JobTemplateSpec { metadata: TemplateMeta, spec: JobSpec }

    /// An Ingress's specification.
    IngressSpec { ingress_class_name: Option<SmolStr>, default_backend: Option<IngressBackend>, tls: Vec<IngressTls>, rules: Vec<IngressRule> }
    /// A backend.
    IngressBackend { service: Option<IngressServiceBackend>, resource: Option<Ignored> }
    /// A Service as backend.
    IngressServiceBackend { name: SmolStr, port: ServiceBackendPort }
    /// A backend's port.
    ServiceBackendPort { name: SmolStr, number: u32 }
    /// TLS of an Ingress.
    IngressTls { hosts: Vec<SmolStr>, secret_name: SmolStr }
    /// A rule.
    IngressRule { host: SmolStr, http: Option<HttpIngressRuleValue> }
    /// Paths of a rule.
    HttpIngressRuleValue { paths: Vec<HttpIngressPath> }
    /// A path.
    HttpIngressPath { path: SmolStr, path_type: Option<SmolStr>, backend: IngressBackend }
    /// An IngressClass's specification.
    IngressClassSpec { controller: SmolStr, parameters: Option<Ignored> }

    /// An IstioOperator's specification; only the mesh configuration is read.
    IstioOperatorSpec {
        mesh_config: Option<super::mesh_config::MeshConfig>, profile: Option<Ignored>, components: Option<Ignored>, values: Option<Ignored>,
        hub: Option<Ignored>, tag: Option<Ignored>, revision: Option<Ignored>, namespace: Option<Ignored>,
        install_package_path: Option<Ignored>, compatibility_version: Option<Ignored>, default_revision: Option<Ignored>,
        unvalidated_values: Option<Ignored>, addon_components: Option<Ignored>, resource_suffix: Option<Ignored>,
    }
}
