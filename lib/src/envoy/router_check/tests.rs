use std::fmt::Write as _;

use super::*;

const TABLE: &str = "
virtual_hosts:
- name: shop
  domains: [shop.test]
  require_tls: EXTERNAL_ONLY
  routes:
  - match: {prefix: /pay, grpc: {}}
    route: {cluster: grpc}
  - match: {prefix: /pay}
    route:
      weighted_clusters: {clusters: [{name: one, weight: 30}, {name: none, weight: 0}, {name: two, weight: 70}]}
  - match: {prefix: /old, runtime_fraction: {runtime_key: k, default_value: {numerator: 30}}}
    redirect: {path_redirect: /new, response_code: FOUND}
  - match: {prefix: /}
    route: {cluster_header: ':authority', prefix_rewrite: /root/}
  virtual_clusters:
  - name: paying
    headers: [{name: ':method', string_match: {exact: POST}}]
";

fn run(input: &str, validate: &str) -> RouterCheckReport {
    let tests = format!("tests: [{{test_name: t, input: {{{input}}}, validate: {{{validate}}}}}]");
    check(&RouteTable::parse(TABLE).unwrap(), &RouteTests::parse(&tests).unwrap(), CoverageMeasure::Routes)
}

#[test]
fn expectations_hold_or_fail_by_what_the_route_table_does() {
    let get = "authority: shop.test, method: GET, ssl: true";
    for (input, holds, fails) in [
        ("path: /pay, random_value: 129", "cluster_name: one", "cluster_name: two"),
        ("path: /pay, random_value: 30", "cluster_name: two", "cluster_name: none"),
        ("path: /a", "cluster_name: shop.test, path_rewrite: /root/a", "path_rewrite: /a"),
        ("path: /a", "virtual_cluster_name: other", "virtual_cluster_name: paying"),
        ("path: /a", "path_redirect: '', code_redirect: 0", "code_redirect: 301"),
        ("path: /old, runtime: k, random_value: 29", "code_redirect: 302", "code_redirect: 301"),
        ("path: /old, runtime: k, random_value: 30", "cluster_name: shop.test", "code_redirect: 302"),
        ("path: /old", "cluster_name: shop.test", "cluster_name: ''"),
        (
            "path: /pay, additional_request_headers: [{key: Content-Type, value: application/grpc+proto}]",
            "cluster_name: grpc",
            "cluster_name: two",
        ),
        (
            "path: /old, runtime: k",
            "path_redirect: 'https://shop.test/new', cluster_name: ''",
            "path_redirect: ''",
        ),
    ] {
        let input = format!("{get}, {input}");
        assert!(run(&input, holds).passed(), "{input} {holds} {:?}", run(&input, holds));
        assert!(!run(&input, fails).passed(), "{input} {fails}");
    }
}

#[test]
fn only_clients_outside_are_sent_to_https() {
    let get = "authority: shop.test, method: GET, path: /a";
    assert!(run(get, "path_redirect: 'https://shop.test/a', code_redirect: 301").passed());
    assert!(run(&format!("{get}, internal: true"), "cluster_name: shop.test").passed());
}

/// Every part of a route configuration that decides, with a request that it takes and one that it does not.
#[test]
fn all_conditions_and_actions_that_envoy_accepts_are_decided() {
    let template = "path_match_policy: {name: m, typed_config: {'@type': a.UriTemplateMatchConfig, path_template: '/t/{a}/*'}}";
    let rewrite = "path_rewrite_policy: {name: r, typed_config: {'@type': a.UriTemplateRewriteConfig, path_template_rewrite: '/{a}'}}";
    let header = |lines: &str| format!("additional_request_headers: [{lines}]");
    let metadata =
        |value: &str| format!("dynamic_metadata: [{{metadata_namespace: f, value: {{a: {value}}}}}]");
    let on_metadata = |value: &str| {
        format!("prefix: /, dynamic_metadata: [{{filter: f, path: [{{key: a}}], value: {value}}}]")
    };
    let to_one = "route: {cluster: one}";
    for (conditions, action, meets, misses) in [
        (
            "prefix: /, headers: [{name: x, range_match: {start: 1, end: 5}}]".to_owned(),
            to_one,
            header("{key: x, value: '4'}"),
            header("{key: x, value: '5'}"),
        ),
        (
            "prefix: /, cookies: [{name: a, string_match: {exact: b}}]".to_owned(),
            to_one,
            header("{key: cookie, value: 'c=d; a=\"b\"'}"),
            header("{key: cookie, value: 'b=a'}"),
        ),
        (
            "prefix: /, cookies: [{name: a, invert_match: true, range_match: {start: 1, end: 5}}]".to_owned(),
            to_one,
            header("{key: cookie, value: 'a=5'}"),
            header("{key: cookie, value: 'a=1'}"),
        ),
        ("connect_matcher: {}".to_owned(), to_one, "method: CONNECT".into(), "method: PUT".into()),
        (template.to_owned(), to_one, "path: /t/x/y".into(), "path: /t/x".into()),
        (
            "prefix: /, tls_context: {presented: false}, headers: [{name: x, present_match: true}]"
                .to_owned(),
            to_one,
            header("{key: x, value: '4'}"),
            String::new(),
        ),
        (on_metadata("{double_match: {exact: 1}}"), to_one, metadata("1"), metadata("'1'")),
        (
            on_metadata("{list_match: {one_of: {string_match: {exact: x}}}}"),
            to_one,
            metadata("[y, x]"),
            metadata("x"),
        ),
        (on_metadata("{string_match: {exact: x}}"), to_one, metadata("x"), metadata("y")),
        (on_metadata("{present_match: true}"), to_one, metadata("y"), String::new()),
        (
            "prefix: /x".to_owned(),
            "route: {weighted_clusters: {total_weight: 2, header_name: x-n, clusters: [{name: no, weight: 1}, {name: one, weight: 1}]}}",
            format!("path: /x, {}", header("{key: X-N, value: '1'}")),
            format!("path: /x, {}", header("{key: X-N, value: '2'}")),
        ),
        (
            "prefix: /".to_owned(),
            "route: {weighted_clusters: {clusters: [{cluster_header: X-C, weight: 1}]}}",
            header("{key: x-c, value: one}"),
            String::new(),
        ),
        (
            "prefix: /".to_owned(),
            // Of the hashes by XXH64, that of `abc` can be divided by 3, and that of `a` leaves 2.
            "route: {hash_policy: [{header: {header_name: x}}], weighted_clusters: {use_hash_policy: true, \
             clusters: [{name: one, weight: 2}, {name: no, weight: 1}]}}",
            header("{key: x, value: abc}"),
            header("{key: x, value: a}"),
        ),
    ] {
        let table = format!(
            "virtual_hosts: [{{name: a, domains: ['*'], routes: [{{match: {{{conditions}}}, {action}}}, \
             {{match: {{prefix: /}}, route: {{cluster: other}}}}]}}]"
        );
        let table = RouteTable::parse(&table).unwrap_or_else(|error| panic!("{conditions}: {error}"));
        for (input, cluster) in [(&meets, true), (&misses, false)] {
            let comma = if input.is_empty() { "" } else { ", " };
            let mut input = format!("authority: a{comma}{input}");
            for (name, value) in [("method", "GET"), ("path", "/")] {
                if !input.contains(&format!("{name}: ")) {
                    let _ = write!(input, ", {name}: {value}");
                }
            }
            let tests =
                format!("tests: [{{test_name: t, input: {{{input}}}, validate: {{cluster_name: one}}}}]");
            let report = check(&table, &RouteTests::parse(&tests).unwrap(), CoverageMeasure::Expectations);
            assert_eq!(report.passed(), cluster, "{conditions} {action}: {input}");
        }
    }
    let table = format!(
        "virtual_hosts: [{{name: a, domains: ['*'], routes: [{{match: {{{template}}}, route: {{cluster: c, {rewrite}}}}}]}}]"
    );
    let tests = "tests: [{test_name: t, input: {authority: a, path: '/t/x/y?z', method: GET}, validate: {path_rewrite: '/x?z'}}]";
    let report = check(
        &RouteTable::parse(&table).unwrap(),
        &RouteTests::parse(tests).unwrap(),
        CoverageMeasure::Routes,
    );
    assert_eq!(report.tests[0].failures, []);
}

#[test]
fn settings_of_the_whole_table_are_heard() {
    let input =
        "authority: a, path: /x, method: GET, additional_request_headers: [{key: x-vh, value: b.test}]";
    let header = "{header: {key: x, value: '1'}, append: false}";
    let route =
        "match: {prefix: /}, request_headers_to_add: [{header: {key: x, raw_value: Mg==}, append: false}]";
    let routes = format!("routes: [{{{route}, route: {{cluster: c}}}}]");
    for (table, validate) in [
        (
            format!("vhost_header: X-Vh, virtual_hosts: [{{name: v, domains: [b.test], {routes}}}]"),
            "cluster_name: c",
        ),
        (
            format!("request_headers_to_add: [{header}], virtual_hosts: [{{name: v, domains: ['*'], {routes}}}]"),
            "request_header_fields: [{key: x, value: '1'}]",
        ),
        (
            format!(
                "most_specific_header_mutations_wins: true, request_headers_to_add: [{header}], \
                 virtual_hosts: [{{name: v, domains: ['*'], {routes}}}]"
            ),
            "request_header_fields: [{key: x, value: '2'}]",
        ),
        (
            "virtual_hosts: [{name: v, domains: ['*'], routes: [{match: {prefix: /}, non_forwarding_action: {}}]}]"
                .into(),
            "cluster_name: '', virtual_host_name: v",
        ),
        (
            "virtual_hosts: [{name: v, domains: ['*'], routes: [{match: {prefix: /}, filter_action: {}}]}]".into(),
            "cluster_name: ''",
        ),
        (
            "virtual_hosts: [{name: v, domains: ['*'], routes: [{match: {prefix: /}, \
             direct_response: {status: 200, body: {inline_bytes: aGk=}, body_format: {}}}]}]"
                .into(),
            "code_redirect: 200",
        ),
    ] {
        let tests = format!("tests: [{{test_name: t, input: {{{input}}}, validate: {{{validate}}}}}]");
        let table = format!("{{{table}}}");
        let table = RouteTable::parse(&table).unwrap_or_else(|error| panic!("{table}: {error}"));
        let report = check(&table, &RouteTests::parse(&tests).unwrap(), CoverageMeasure::Routes);
        assert_eq!(report.tests[0].failures, [], "{validate}");
    }
}

#[test]
fn a_matcher_chooses_among_the_routes_of_a_virtual_host() {
    let table = "
virtual_hosts:
- name: v
  domains: ['*']
  matcher:
    matcher_tree:
      input: {name: i, typed_config: {'@type': type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput, header_name: x}}
      exact_match_map:
        map:
          a: {action: {name: r, typed_config: {'@type': type.googleapis.com/envoy.config.route.v3.Route, match: {prefix: /p}, route: {cluster: one}}}}
    on_no_match:
      matcher:
        matcher_list:
          matchers:
          - predicate:
              not_matcher:
                single_predicate:
                  input: {name: i, typed_config: {'@type': t/HttpRequestHeaderMatchInput, header_name: ':path'}}
                  value_match: {prefix: /q}
            on_match:
              action:
                name: r
                typed_config: {'@type': t/RouteList, routes: [{match: {prefix: /}, route: {cluster: two}}]}
";
    let table = RouteTable::parse(table).unwrap();
    for (path, x, cluster) in [("/p", "a", "one"), ("/o", "a", ""), ("/o", "b", "two"), ("/q", "b", "")] {
        let tests = format!(
            "tests: [{{test_name: t, input: {{authority: a, path: {path}, method: GET, \
             additional_request_headers: [{{key: x, value: {x}}}]}}, validate: {{cluster_name: '{cluster}'}}}}]"
        );
        let report = check(&table, &RouteTests::parse(&tests).unwrap(), CoverageMeasure::Routes);
        assert_eq!(report.tests[0].failures, [], "{path} {x}");
    }
}

#[test]
fn a_field_that_is_not_supported_is_named() {
    let host = "virtual_hosts: [{name: a, domains: ['*'], routes: [{match: {prefix: /}, ";
    for (text, field) in [
        ("vhds: {}".to_owned(), "vhds"),
        (
            format!(
                "{host} route: {{cluster: a, retry_policy: {{}}, inline_cluster_specifier_plugin: {{}}}}}}]}}]"
            ),
            "virtual_hosts[0].routes[0].route.inline_cluster_specifier_plugin",
        ),
    ] {
        let error = RouteTable::parse(&text).unwrap_err();
        assert_eq!(error, RouterCheckError::Unsupported { field: field.into() }, "{text}");
    }
    let tests =
        "tests: [{test_name: t, input: {authority: a, path: /, method: GET}, validate: {nothing: a}}]";
    let error = RouteTests::parse(tests).unwrap_err();
    assert_eq!(
        error.to_string(),
        "tests[0].validate.nothing: there is no such field, or it is not supported"
    );
}

#[test]
fn a_redirect_that_rewrites_the_path_rewrites_the_request() {
    let table = "
virtual_hosts:
- name: shop
  domains: ['*']
  routes:
  - {match: {prefix: /old}, redirect: {prefix_rewrite: /new, host_redirect: b.test}}
";
    let tests = "
tests:
- test_name: t
  input: {authority: a.test, path: '/old/x?y', method: GET}
  validate:
    path_redirect: http://b.test/new/x?y
    request_header_fields: [{key: ':path', value: '/new/x?y'}, {key: x-envoy-original-path, value: '/old/x?y'}]
    response_header_fields: [{key: ':status', value: '301'}, {key: nothing, value: ''}]
";
    let report = check(
        &RouteTable::parse(table).unwrap(),
        &RouteTests::parse(tests).unwrap(),
        CoverageMeasure::Routes,
    );
    assert_eq!(report.tests[0].failures, []);
}

#[test]
fn coverage_is_measured_in_three_ways() {
    let input = "authority: shop.test, method: GET, ssl: true, path: /pay, random_value: 129";
    let tests = format!(
        "tests: [{{test_name: t, input: {{{input}}}, validate: {{cluster_name: one, host_rewrite: shop.test}}}}]"
    );
    let text = |measure| {
        let tests = RouteTests::parse(&tests).unwrap();
        check(&RouteTable::parse(TABLE).unwrap(), &tests, measure).text(ShownTests::None)
    };
    assert_eq!(text(CoverageMeasure::Routes), "Current route coverage: 16.6667%\n");
    assert_eq!(
        text(CoverageMeasure::RoutesByName),
        "Missing test for host: shop, route name: -0.0\n\
         Missing test for host: shop, route name: -0.2\n\
         Missing test for host: shop, route name: -0.3\n\
         Current route coverage: 16.6667%\n"
    );
    let text = text(CoverageMeasure::Expectations);
    assert!(
        text.starts_with("Missing test for host: shop, route: prefix: \"/pay\"\ngrpc {\n}\n\n"),
        "{text}"
    );
    assert!(text.ends_with("Current route coverage: 6.66667%\n"), "{text}");
}

#[test]
fn a_table_without_routes_has_no_coverage() {
    let table = RouteTable::parse("virtual_hosts: []").unwrap();
    let tests =
        "tests: [{test_name: t, input: {authority: a, path: /, method: GET}, validate: {cluster_name: ''}}]";
    let report = check(&table, &RouteTests::parse(tests).unwrap(), CoverageMeasure::Routes);
    assert_eq!(report.text(ShownTests::None), "Current route coverage: -nan%\n");
}

#[test]
fn what_does_not_matter_to_a_route_table_is_passed_over() {
    let table = "virtual_hosts: [{name: a, domains: ['*'], retry_policy: {}, routes: [{match: {prefix: /}, decorator: {},
        route: {cluster: a, retry_policy: {}, hash_policy: []}}]}]";
    assert!(RouteTable::parse(table).is_ok());
}

#[test]
fn what_envoy_refuses_is_refused() {
    for text in [
        "virtual_hosts: [{name: a, domains: []}]",
        "virtual_hosts: [{name: a, domains: [b]}, {name: b, domains: [B]}]",
        "virtual_hosts: [{name: a, domains: [b], routes: [{match: {prefix: /, path: /}, route: {cluster: a}}]}]",
        "virtual_hosts: [{name: a, domains: [b], routes: [{match: {prefix: /}}]}]",
        "virtual_hosts: [{name: a, domains: [b], routes: [{match: {safe_regex: {regex: '('}}, route: {cluster: a}}]}]",
        "virtual_hosts: {",
    ] {
        assert!(RouteTable::parse(text).is_err(), "{text}");
    }
}

#[test]
fn percentages_have_six_digits() {
    for (number, text) in
        [(100.0, "100"), (700.0 / 11.0, "63.6364"), (100.0 / 3.0, "33.3333"), (0.0, "0"), (50.0, "50")]
    {
        assert_eq!(percentage(number), text);
    }
}
