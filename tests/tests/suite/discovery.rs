//! Exported discovery responses against a real Envoy that discovers them.

use std::net::SocketAddr;
use std::sync::Arc;

use dryroute::envoy::config::EndpointAddress;
use dryroute::envoy::export::{Document, export};
use dryroute::manifest::Loader;
use dryroute::mesh::{Mesh, MeshOptions};
use dryroute_tests::CLIENT;
use dryroute_tests::live::Binary;
use dryroute_tests::live::discovery::{self, discover};
use dryroute_tests::live::random;
use dryroute_tests::live::stand_ins::StandIns;

use serde_json::json;

use super::live::{proxies, scenarios};

/// Settings that no scenario has: policies of all actions, tokens, failover between localities, fractions of percents.
const RARE: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: client, namespace: shop}
spec: {clusterIP: 10.96.0.9, selector: {app: client}, ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp, port: 9000}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: allow, namespace: shop}
spec:
  action: ALLOW
  rules:
  - from: [{source: {principals: ["cluster.local/ns/shop/sa/*"], notNamespaces: [foreign], ipBlocks: [10.0.0.0/8]}}]
    to: [{operation: {methods: [GET], paths: ["/a/*", "/b/{*}/c"], notPorts: ["9000"], hosts: [Client.shop]}}]
    when: [{key: "request.headers[x-a]", notValues: ["b*"]}, {key: "request.auth.claims[groups]", values: [g]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: deny, namespace: shop}
spec: {action: DENY, rules: [{from: [{source: {remoteIpBlocks: [1.2.3.4]}}], when: [{key: connection.sni, values: ["*.a.b"]}]}]}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens, namespace: shop}
spec:
  jwtRules:
  - issuer: a.test
    jwks: '{"keys":[{"kty":"RSA","e":"AQAB","n":"u1SU1LfVLPHCozMxH2Mo4lgOEePzNm0tRgeLezV6ffAt0gunVTLw7onLRnrq0_IzW7yWR7QkrmBL7jTKEn5u-qKhbwKfBstIs-bMY2Zkp18gnTxKLxoS2tFczGkPLPgizskuemMghRniWaoLcyehkd3qqGElvW_VDL5AaWTg0nLVkjRo9z-40RQzuVaE8AkAFmxZzow3x-VJYKdjykkJ0iT9wCS0DRTXu269V264Vf_3jvredZiKRkgwlL9xNAwxXFg0x_XFw005UWVRIkdgcKWTjpBP2dPwVZ4WWC-9aGVd-Gyn1o0CLelf4rEjGoXbAAEgAqeGUxrcIlbjXfbcmw"}]}'
    fromHeaders: [{name: x-token}]
    outputClaimToHeaders: [{header: x-sub, claim: sub}]
  - {issuer: b.test, jwksUri: "https://b.test/keys", audiences: [all], forwardOriginalToken: true}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: far, namespace: shop}
spec:
  hosts: [far.test]
  addresses: [240.1.1.1]
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS}]
  resolution: STATIC
  endpoints:
  - {address: 1.1.1.1, locality: r2/z1/s1, weight: 3}
  - {address: 1.1.1.2, locality: r1/z2, weight: 2}
  - {address: 1.1.1.3, locality: r1/z1}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: far, namespace: shop}
spec:
  host: far.test
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN, localityLbSetting: {enabled: true, distribute: [{from: "*", to: {"r1/*": 70, "r2/*": 30}}]}}
    connectionPool:
      tcp: {maxConnections: 7, connectTimeout: 1.5s, maxConnectionDuration: 90s, tcpKeepalive: {probes: 3, time: 60s, interval: 5s}}
      http: {http1MaxPendingRequests: 3, idleTimeout: 2.5s, maxRequestsPerConnection: 5}
    outlierDetection: {consecutive5xxErrors: 3, interval: 0.25s}
  subsets:
  - {name: ring, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}}}
  - {name: table, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 65537}}}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: far, namespace: shop}
spec:
  hosts: [far.test]
  http:
  - match: [{uri: {regex: "/r/.*"}, queryParams: {q: {exact: "1"}}, withoutHeaders: {x-b: {}}}]
    redirect: {uri: /moved, redirectCode: 308}
  - match: [{uri: {prefix: /w}, ignoreUriCase: true}]
    rewrite: {uriRegexRewrite: {match: "^/w", rewrite: "x"}}
    headers: {request: {add: {x-empty: ""}, remove: [x-c]}}
    mirrors: [{destination: {host: far.test}, percentage: {value: 0.25}}]
    timeout: 0.001s
    retries: {attempts: 2, perTryTimeout: 0.05s, retryOn: "5xx,418"}
    fault: {delay: {percentage: {value: 0}, fixedDelay: 1.5s}}
    route: [{destination: {host: far.test}, weight: 1}, {destination: {host: client.shop.svc.cluster.local}, weight: 99}]
  - directResponse: {status: 418, body: {string: tea}}
  tls:
  - match: [{port: 443, sniHosts: [far.test]}]
    route: [{destination: {host: far.test}, weight: 50}, {destination: {host: client.shop.svc.cluster.local, port: {number: 9000}}, weight: 50}]
"#;

/// A mesh of those settings.
fn rare() -> Arc<Mesh> {
    let set = Loader::new().text("client.yaml", CLIENT).text("rare.yaml", RARE).load();
    assert_eq!(set.diagnostics().iter().map(|d| d.message.clone()).collect::<Vec<_>>(), Vec::<String>::new());
    Arc::new(Mesh::new(set, MeshOptions::default()))
}

#[test]
fn an_envoy_that_discovers_an_export_dumps_the_exported_config_dump() {
    let Some(envoy) = Binary::find() else { return };
    // Nobody connects. Envoy keeps an address once, so each endpoint has its own.
    let machine = StandIns::at(|_, endpoint| match endpoint {
        Some(EndpointAddress::Socket(ip, port)) => SocketAddr::new(*ip, *port),
        _ => SocketAddr::from(([127, 0, 0, 1], 9)),
    });
    let (mut count, mut differ) = (0, Vec::new());
    let random = (0..2).map(|number| (format!("mesh {number}"), random::mesh(1, number).unwrap()));
    for (name, mesh) in scenarios().into_iter().chain(random).chain([("rare".to_owned(), rare())]) {
        for proxy in proxies(&mesh) {
            let dumps = discover(&envoy, &proxy.snapshot(), &machine).unwrap();
            let node = &proxy.node().name;
            let places = discovery::differences(&dumps.exported, &dumps.dumped);
            differ.extend(places.into_iter().map(|place| format!("{name} {node}: {place}")));
            count += 1;
        }
    }
    assert!(differ.is_empty(), "{} differences:\n{}", differ.len(), differ.join("\n"));
    assert!(count >= 10, "only {count} proxies");
}

#[test]
fn an_export_has_the_settings_of_a_destination_rule_that_decide_nothing() {
    let mesh = rare();
    let proxy = proxies(&mesh).into_iter().find(|proxy| proxy.node().name == "client").unwrap();
    let document = export(&proxy.snapshot(), Document::Cds, None).document;
    let cluster = |name: &str| {
        let resources = document["resources"].as_array().unwrap();
        resources.iter().find(|cluster| cluster["name"] == name).unwrap().clone()
    };
    let whole = cluster("outbound|80||far.test");
    assert_eq!(
        whole["outlier_detection"],
        json!({
            "consecutive_5xx": 3, "interval": "0.250s",
            "enforcing_consecutive_5xx": 100, "enforcing_success_rate": 0,
        })
    );
    assert_eq!(
        whole["upstream_connection_options"]["tcp_keepalive"],
        json!({"keepalive_probes": 3, "keepalive_time": 60, "keepalive_interval": 5})
    );
    let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    assert_eq!(
        whole["typed_extension_protocol_options"][options]["common_http_protocol_options"],
        json!({"idle_timeout": "2.500s", "max_connection_duration": "90s", "max_requests_per_connection": 5})
    );
    let ring = cluster("outbound|80|ring|far.test");
    assert_eq!(ring["ring_hash_lb_config"], json!({"minimum_ring_size": "1024"}));
    let table = cluster("outbound|80|table|far.test");
    assert_eq!(table["maglev_lb_config"], json!({"table_size": "65537"}));
}
