//! What a client sends that is told what curl is told; measured with curl 7.88 and a socket that prints what it gets.

use std::sync::Arc;

use dryroute::manifest::Loader;
use dryroute::mesh::{Mesh, MeshOptions};
use dryroute::trace::{HttpVersion, Query, Trace, Tracer, VerdictKind};

const WORLD: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: default, labels: {istio-injection: enabled}}\n---\n\
    apiVersion: v1\nkind: Pod\nmetadata: {name: sleep}\nspec: {containers: [{name: app}]}\n---\n\
    apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]}\n";

fn trace(url: &str, headers: &[&str], version: HttpVersion) -> Trace {
    let mesh = Mesh::new(Loader::new().text("m.yaml", WORLD).load(), MeshOptions::default());
    let mut query = Query::get(url).unwrap();
    for header in headers {
        query.add_header(header).unwrap();
    }
    query.http_version = version;
    query.from = Some("sleep".into());
    Tracer::new(Arc::new(mesh)).trace(&query).unwrap()
}

/// The values of a header as the client sends them.
fn sent(url: &str, headers: &[&str], name: &str) -> Vec<String> {
    let trace = trace(url, headers, HttpVersion::Http11);
    let lines = &trace.hops[0].request.left;
    lines.iter().filter(|(own, _)| own == name).map(|(_, value)| value.to_string()).collect()
}

#[test]
fn a_user_in_the_url_is_sent_as_basic_authorization_unless_another_is_given() {
    for (url, headers, expected) in [
        ("http://user:pw@web/", &[][..], &["Basic dXNlcjpwdw=="][..]),
        ("http://web/", &[], &[]),
        ("http://user:pw@web/", &["authorization: Bearer x"], &["Bearer x"]),
        ("http://user:pw@web/", &["Authorization:"], &[]),
    ] {
        assert_eq!(sent(url, headers, "authorization"), expected, "{url} {headers:?}");
    }
}

#[test]
fn of_several_hosts_the_first_is_sent_and_none_where_it_is_removed() {
    for (headers, expected) in [
        (&[][..], &["web"][..]),
        (&["Host: a.org", "Host: b.org"], &["a.org"]),
        (&["Host:", "Host: b.org"], &["b.org"]),
        (&["Host: b.org", "Host:"], &["b.org"]),
        (&["Host;"], &[""]),
        (&["Host:"], &[]),
    ] {
        assert_eq!(sent("http://web/", headers, "host"), expected, "{headers:?}");
    }
}

#[test]
fn a_proxy_answers_a_request_without_a_host_as_envoy_does() {
    for (version, expected) in [
        (HttpVersion::Http11, (VerdictKind::Answered, Some(400), "missing_host_header")),
        // HTTP/2's codec does not let it through to the connection manager.
        (HttpVersion::Http2, (VerdictKind::Reset, None, "http2.violation.of.messaging.rule")),
    ] {
        let trace = trace("http://web/", &["Host:"], version);
        let verdict = &trace.outcomes[0].verdict;
        assert_eq!((verdict.kind, verdict.status, verdict.details.as_str()), expected, "{version:?}");
    }
    let empty = trace("http://web/", &["Host;"], HttpVersion::Http11);
    assert_ne!(empty.outcomes[0].verdict.details, "missing_host_header");
}
