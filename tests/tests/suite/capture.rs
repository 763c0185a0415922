//! The capture rules of the model against the iptables rules that istio-init writes.
//!
//! The golden rules are carried out for connections of many kinds; the model, given the same settings, has to send each
//! of them to the same place.

use std::net::IpAddr;
use std::sync::Arc;

use dryroute::diagnostic::Code;
use dryroute::manifest::Loader;
use dryroute::mesh::{Mesh, MeshOptions};
use dryroute::trace::capture::{CaptureRules, Include, OutboundCapture, Outgoing};
use dryroute::trace::{Query, StepKind, Trace, Tracer};
use ipnet::IpNet;
use serde_json::Value;

/// Settings and the rules they make.
#[derive(serde::Deserialize)]
struct Case {
    name: String,
    config: Value,
    expected: Vec<String>,
}

/// The rules of one table for one address family, by line.
fn table<'a>(case: &'a Case, name: &str, v6: bool) -> Vec<Vec<&'a str>> {
    let mut sections: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut runs = 0;
    for line in &case.expected {
        match line.strip_prefix("* ") {
            Some(table) => {
                // A table that comes again belongs to the other family.
                if sections.iter().filter(|(own, _)| *own == table).count() > runs {
                    runs += 1;
                }
                sections.push((table, Vec::new()));
            }
            None => {
                if let Some((_, lines)) = sections.last_mut() {
                    lines.push(line);
                }
            }
        }
    }
    let mut of_table = sections.into_iter().filter(|(own, _)| *own == name).map(|(_, lines)| lines);
    let v4 = of_table.next().unwrap_or_default();
    let lines = if v6 { of_table.next().unwrap_or_default() } else { v4 };
    lines.iter().map(|line| line.split_whitespace().collect()).collect()
}

/// Carries out a chain; the target that ends it, or nothing.
fn run(rules: &[Vec<&str>], chain: &str, flow: &Outgoing) -> Option<String> {
    for rule in rules.iter().filter(|rule| rule.starts_with(&["-A", chain])) {
        let (mut met, mut negated, mut target) = (true, false, None);
        let mut words = rule.iter().skip(2);
        while let Some(word) = words.next() {
            if *word == "!" {
                negated = true;
                continue;
            }
            let holds = match *word {
                "-j" => {
                    target = words.next().copied();
                    break;
                }
                "-m" => {
                    words.next();
                    continue;
                }
                "-p" => words.next() == Some(&"tcp"),
                "-o" => words.next().is_some_and(|own| *own == flow.interface),
                "--dport" => words.next().is_some_and(|port| port.parse() == Ok(flow.port)),
                "--dports" => words.next().is_some_and(|l| l.split(',').any(|p| p.parse() == Ok(flow.port))),
                "-d" => {
                    words.next().is_some_and(|net| net.parse::<IpNet>().unwrap().contains(&flow.destination))
                }
                "-s" => words.next().is_some_and(|net| {
                    flow.source.is_some_and(|ip| net.parse::<IpNet>().unwrap().contains(&ip))
                }),
                "--uid-owner" => words.next().is_some_and(|id| id.parse().ok() == flow.uid),
                "--gid-owner" => words.next().is_some_and(|id| id.parse().ok() == flow.gid),
                other => panic!("the interpreter does not know {other}: {rule:?}"),
            };
            met &= holds != negated;
            negated = false;
        }
        if !met {
            continue;
        }
        match target? {
            "RETURN" => return Some("RETURN".into()),
            "REDIRECT" => return Some(format!("REDIRECT {}", rule.last()?)),
            "ISTIO_REDIRECT" => return Some("REDIRECT 15001".into()),
            "ISTIO_IN_REDIRECT" => return Some("REDIRECT 15006".into()),
            called => {
                if let Some(end) = run(rules, called, flow)
                    && end != "RETURN"
                {
                    return Some(end);
                }
            }
        }
    }
    None
}

fn list<T: std::str::FromStr>(config: &Value, name: &str) -> Vec<T> {
    let text = config[name].as_str().unwrap_or_default();
    text.split(',').filter_map(|entry| entry.trim().parse().ok()).collect()
}

fn include<T: std::str::FromStr>(config: &Value, name: &str) -> Include<T> {
    if config[name] == "*" { Include::All } else { Include::Only(list(config, name)) }
}

fn rules(config: &Value, v6: bool) -> CaptureRules {
    let family = |net: &IpNet| net.addr().is_ipv6() == v6;
    let mut include_outbound_ranges: Include<IpNet> = include(config, "OUTBOUND_IPRANGES_INCLUDE");
    if let Include::Only(list) = &mut include_outbound_ranges {
        list.retain(family);
    }
    let servers = |name: &str| -> Vec<IpAddr> {
        let list = config[name].as_array().into_iter().flatten();
        list.filter_map(|server| server.as_str()?.parse().ok()).collect()
    };
    let (own, other) =
        if v6 { ("DNS_SERVERS_V6", "DNS_SERVERS_V4") } else { ("DNS_SERVERS_V4", "DNS_SERVERS_V6") };
    let all = config["CAPTURE_ALL_DNS"] == true;
    // Without a server to take the traffic of, DNS is left alone altogether.
    let dns =
        config["REDIRECT_DNS"] == true && (all || !servers(own).is_empty() || !servers(other).is_empty());
    CaptureRules {
        proxy_uids: list(config, "PROXY_UID"),
        proxy_gids: list(config, "PROXY_GID"),
        exclude_interfaces: list(config, "EXCLUDE_INTERFACES"),
        exclude_outbound_ports: list(config, "OUTBOUND_PORTS_EXCLUDE"),
        include_outbound_ports: list(config, "OUTBOUND_PORTS_INCLUDE"),
        exclude_outbound_ranges: list(config, "OUTBOUND_IPRANGES_EXCLUDE"),
        include_outbound_ranges,
        owner_groups: include(config, "OUTBOUND_OWNER_GROUPS_INCLUDE"),
        exclude_owner_groups: list(config, "OUTBOUND_OWNER_GROUPS_EXCLUDE"),
        include_inbound_ports: include(config, "INBOUND_PORTS_INCLUDE"),
        exclude_inbound_ports: list(config, "INBOUND_PORTS_EXCLUDE"),
        dns: dns.then(|| if all { Include::All } else { Include::Only(servers(own)) }),
        loopback: config["HOST_IPV4_LOOPBACK_CIDR"].as_str().unwrap().parse().unwrap(),
    }
}

/// Connections of every kind that some rule of some case tells apart.
fn flows(v6: bool) -> Vec<Outgoing> {
    let v4 =
        ["127.0.0.1", "127.1.2.3", "10.244.0.9", "1.1.0.1", "9.9.0.1", "10.0.0.1", "127.0.0.53", "192.0.2.1"];
    let six = ["::1", "2001:db8::9", "2001:db9::1", "fe80::1"];
    let addresses: &[&str] = if v6 { &six } else { &v4 };
    let proxy: IpAddr = if v6 { "::6" } else { "127.0.0.6" }.parse().unwrap();
    let mut out = Vec::new();
    for address in addresses {
        for port in [53, 80, 443, 1024, 2000, 4000, 6000, 7000, 15008, 32000] {
            for id in [None, Some(0), Some(1), Some(3), Some(4), Some(202), Some(888), Some(1337)] {
                for (uid, gid) in [(id, Some(7)), (Some(7), id)] {
                    for interface in ["lo", "eth0", "eth1", "not-istio-nic"] {
                        for source in [None, Some(proxy)] {
                            out.push(Outgoing {
                                destination: address.parse().unwrap(),
                                port,
                                source,
                                uid,
                                gid,
                                interface: interface.into(),
                            });
                        }
                    }
                }
            }
        }
    }
    out
}

#[test]
fn connections_go_where_the_iptables_rules_send_them() {
    let Some(folder) = dryroute_tests::conformance("capture") else { return };
    let text = std::fs::read_to_string(folder.join("iptables.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_str(&text).unwrap();
    let (mut compared, mut failures) = (0, Vec::new());
    for case in &cases {
        for v6 in [false, true] {
            let golden = table(case, "nat", v6);
            if v6 && golden.is_empty() {
                continue;
            }
            let model = rules(&case.config, v6);
            for flow in flows(v6) {
                let expected = run(&golden, "OUTPUT", &flow).unwrap_or_else(|| "RETURN".into());
                let got = match model.outbound(&flow) {
                    OutboundCapture::Redirected(_) => "REDIRECT 15001",
                    OutboundCapture::ToInbound(_) => "REDIRECT 15006",
                    OutboundCapture::ToDns(_) => "REDIRECT 15053",
                    OutboundCapture::Bypassed(_) => "RETURN",
                };
                compared += 1;
                if expected != got {
                    failures.push(format!("{}: {flow:?}: expected {expected}, got {got}", case.name));
                }
            }
            if case.config["INBOUND_INTERCEPTION_MODE"] == "TPROXY" {
                continue;
            }
            for port in [80, 1024, 4000, 5000, 6000, 7000, 15008, 15090, 32000, 31000] {
                let flow = Outgoing {
                    destination: if v6 { "2001:db8::9" } else { "10.244.0.9" }.parse().unwrap(),
                    port,
                    source: None,
                    uid: None,
                    gid: None,
                    interface: "eth0".into(),
                };
                let expected =
                    run(&golden, "ISTIO_INBOUND", &flow).is_some_and(|end| end == "REDIRECT 15006");
                compared += 1;
                if expected != model.inbound(port) {
                    failures.push(format!("{}: inbound {port}: expected {expected}", case.name));
                }
            }
        }
    }
    println!("{} of {compared} connections of {} cases", compared - failures.len(), cases.len());
    let shown: Vec<&String> = failures.iter().step_by(1 + failures.len() / 30).collect();
    assert!(failures.is_empty(), "{} differ, among them {shown:#?}", failures.len());
}

/// A mesh with a client of these annotations, a pod of it and Services beside it.
fn mesh(annotations: &str, status: &str, more: &str) -> Mesh {
    let text = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, labels: {{istio-injection: enabled}}}}\n---\n\
         apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: client, namespace: shop}}\n\
         spec:\n  selector: {{matchLabels: {{app: client}}}}\n  template:\n    metadata:\n      labels: {{app: client}}\n\
         \u{20}     annotations: {{{annotations}}}\n    spec: {{containers: [{{name: app}}]}}\n{status}{more}"
    );
    Mesh::new(Loader::new().text("mesh.yaml", text).load(), MeshOptions::default())
}

/// The client's capture step in that mesh, and the trace.
fn client(annotations: &str, status: &str, more: &str, url: &str) -> (String, Trace) {
    let mut query = Query::get(url).unwrap();
    query.from = Some("shop/client".into());
    let trace = Tracer::new(Arc::new(mesh(annotations, status, more))).trace(&query).unwrap();
    let step = trace.hops.first().unwrap().step(StepKind::Capture).unwrap().name.to_string();
    (step, trace)
}

/// A running pod of the Deployment.
fn pod(ips: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: client-1, namespace: shop, labels: {{app: client}}, \
         ownerReferences: [{{apiVersion: apps/v1, kind: ReplicaSet, name: client-5d4f8c7b9f, controller: true}}]}}\n\
         spec: {{containers: [{{name: app}}, {{name: istio-proxy}}]}}\nstatus: {{podIPs: [{ips}]}}\n"
    )
}

#[test]
fn a_pod_of_ipv4_alone_captures_nothing_on_its_way_to_ipv6() {
    let service = |ip: &str| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: shop}}\n\
             spec: {{clusterIP: '{ip}', ports: [{{name: http, port: 80}}]}}\n"
        )
    };
    for (status, more, captured, assumed) in [
        (String::new(), String::new(), false, true),
        (String::new(), service("10.96.0.1"), false, true),
        (String::new(), service("fd00::1"), true, false),
        (pod("{ip: 10.244.0.1}"), service("fd00::1"), false, true),
        (pod("{ip: 10.244.0.1}, {ip: 'fd01::1'}"), String::new(), false, false),
        (pod("{ip: 'fd01::1'}"), String::new(), true, false),
    ] {
        let (step, trace) = client("", &status, &more, "http://[2001:db8::1]/");
        let expected = if captured { "captured" } else { "not captured" };
        assert_eq!(step, expected, "{status}{more}");
        let says = trace.assumptions.iter().any(|a| a.text.contains("has no address of IPv6"));
        assert_eq!(says, assumed, "{status}{more}: {:?}", trace.assumptions);
        assert_eq!(client("", &status, &more, "http://192.0.2.1/").0, "captured", "{status}{more}");
    }
}

#[test]
fn an_annotation_that_the_injector_refuses_is_named_where_it_is_written() {
    let refused = "traffic.sidecar.istio.io/excludeOutboundPorts: 70-90";
    let (_, trace) = client(refused, "", "", "http://192.0.2.1/");
    let said = mesh(refused, "", "");
    assert!(said.diagnostics().any(|said| said.code == Code::RefusedAnnotation));
    let [note] = trace.diagnostics.as_slice() else { panic!("{:?}", trace.diagnostics) };
    assert_eq!((note.code, note.origin.location().unwrap().line), ("refused-annotation", 13));
    assert!(
        trace.assumptions.iter().any(|a| a.text.contains("shop/client runs, though")),
        "{:?}",
        trace.assumptions
    );
    let (_, fine) =
        client("traffic.sidecar.istio.io/excludeOutboundPorts: '70,90'", "", "", "http://192.0.2.1/");
    assert_eq!((fine.diagnostics, fine.assumptions.len()), (Vec::new(), trace.assumptions.len() - 1));
    // Whatever a pod that runs says, it was not refused.
    let running = pod("{ip: 10.244.0.1}").replace(
        "namespace: shop, ",
        "namespace: shop, annotations: {sidecar.istio.io/interceptionMode: XX}, ",
    );
    let (_, trace) = client("", &running, "", "http://192.0.2.1/");
    assert_eq!(trace.diagnostics, Vec::new());
}
