//! Rules of VirtualServices.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value, json};

use super::matching::http_match_request;

/// Hosts and subsets that rules send requests to; some are missing or empty.
const DESTINATIONS: &[(&str, Option<&str>)] = &[
    ("reviews", None),
    ("reviews", Some("v1")),
    ("reviews", Some("v2")),
    ("ratings", None),
    ("ratings.default.svc.cluster.local", None),
    ("cart.shop.svc.cluster.local", None),
    ("empty", None),
    ("missing", None),
    ("api.example.com", None),
    ("broken", None),
];

const HEADER_VALUES: &[&str] = &[
    "1",
    "set",
    "a b",
    "%REQ(x-a)%",
    "%REQ(x-b?x-a)%-tail",
    "100%%",
    "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "%PROTOCOL%",
    "%UPSTREAM_CLUSTER%",
    "%REQ(:PATH)%",
    "%REQ(:AUTHORITY)%",
    "%RESPONSE_CODE%",
    "%ROUTE_NAME%",
    "%REQ(:METHOD)% %REQ(:SCHEME)%",
    "%RESP(x-from)%",
    "%RESP(content-type?x-a)%",
    "%RESPONSE_FLAGS%",
    "%RESPONSE_CODE_DETAILS%",
    "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "%UPSTREAM_HOST%",
    "%UPSTREAM_REMOTE_ADDRESS%",
    "%UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%",
    "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_PORT%",
    "%REQUESTED_SERVER_NAME%",
    "%DOWNSTREAM_PEER_URI_SAN%",
    "%START_TIME(%s)%",
    "%GRPC_STATUS%",
    "%VIRTUAL_CLUSTER_NAME%",
    "%PATH(NQ)%",
    "%PATH(WQ:ORIG)%",
    "%PATH%",
    "%QUERY_PARAM(q)%",
    "%QUERY_PARAMS%",
    "%REQUESTED_SERVER_NAME(HOST_FIRST)%",
    "%REQUESTED_SERVER_NAME(SNI_FIRST:ORIG)%",
    "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(20)%",
    "%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT(0)%",
    "%RESPONSE_FLAGS_LONG%",
    "%UPSTREAM_PROTOCOL%",
    "%UPSTREAM_HOST_NAME%",
    "%UPSTREAM_HOSTS_ATTEMPTED%",
    "%UPSTREAM_CONNECTION_POOL_READY_DURATION%",
    "%UPSTREAM_DETECTED_CLOSE_TYPE%",
    "%RESPONSE_DURATION%",
    "%COMMON_DURATION(DS_RX_BEG:US_TX_BEG)%",
    "%TRACE_ID%",
    "%FILTER_CHAIN_NAME%",
    "%METADATA(CLUSTER:other)%",
    "%LOCAL_REPLY_BODY%",
    "%RESPONSE_HEADER(x-from)%",
    "%STREAM_INFO_REQ(x-a)%",
];

/// Conditions of retries.
const RETRY_ON: &[&str] = &[
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "envoy-ratelimited",
    "cancelled",
    "unavailable",
    "resource-exhausted",
    "500",
    "503",
    "404",
];

fn destination() -> impl Strategy<Value = Value> {
    select(DESTINATIONS).prop_map(|(host, subset)| match subset {
        Some(subset) => json!({"host": host, "port": {"number": 80}, "subset": subset}),
        None => json!({"host": host, "port": {"number": 80}}),
    })
}

/// Operations on these headers; `removed` are taken away as well, but given to none.
fn operations(
    names: &'static [&'static str],
    removed: &'static [&'static str],
) -> impl Strategy<Value = Value> {
    let removals: Vec<&'static str> = names.iter().chain(removed).copied().collect();
    let entries = || {
        vec((select(names), select(HEADER_VALUES)), 0..3).prop_map(|entries| {
            let map: Map<String, Value> =
                entries.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
            map
        })
    };
    (entries(), entries(), vec(select(removals), 0..3)).prop_map(|(set, add, remove)| {
        let mut out = Map::new();
        if !set.is_empty() {
            out.insert("set".to_owned(), set.into());
        }
        if !add.is_empty() {
            out.insert("add".to_owned(), add.into());
        }
        if !remove.is_empty() {
            out.insert("remove".to_owned(), remove.into());
        }
        out.into()
    })
}

fn headers() -> impl Strategy<Value = Value> {
    const REQUEST: &[&str] = &[
        "x-a",
        "x-b",
        "x-new",
        "user-agent",
        "x-request-id",
        "x-forwarded-for",
        "cookie",
        "x-envoy-attempt-count",
    ];
    const RESPONSE: &[&str] = &[
        "x-a",
        "x-from",
        "x-new",
        "content-type",
        "x-envoy-upstream-service-time",
        "set-cookie",
        "vary",
        "server",
    ];
    let request = option::weighted(0.7, operations(REQUEST, &["content-length"]));
    (request, option::weighted(0.5, operations(RESPONSE, &["location"]))).prop_map(|(request, response)| {
        let mut out = Map::new();
        if let Some(request) = request {
            out.insert("request".to_owned(), request);
        }
        if let Some(response) = response {
            out.insert("response".to_owned(), response);
        }
        out.into()
    })
}

/// A host that the request's headers set.
fn host() -> impl Strategy<Value = Value> {
    (select(&["host", "Host", ":authority"][..]), select(&["set.example.com", "%REQ(x-a)%"][..]))
        .prop_map(|(name, value)| json!({"request": {"set": {name: value}}}))
}

/// One destination, or several with weights.
fn destinations() -> impl Strategy<Value = Value> {
    let weighted = (destination(), 0_u32..=100, option::weighted(0.3, headers()));
    let several = vec(weighted, 2..4).prop_map(|list| {
        let all_zero = list.iter().all(|(_, weight, _)| *weight == 0);
        list.into_iter()
            .map(|(destination, weight, headers)| {
                let weight = if all_zero { 1 } else { weight };
                match headers {
                    Some(headers) => {
                        json!({"destination": destination, "weight": weight, "headers": headers})
                    }
                    None => json!({"destination": destination, "weight": weight}),
                }
            })
            .collect()
    });
    let one =
        (destination(), option::weighted(0.2, headers())).prop_map(|(destination, headers)| match headers {
            Some(headers) => json!([{"destination": destination, "headers": headers}]),
            None => json!([{"destination": destination}]),
        });
    prop_oneof![6 => one, 2 => several]
}

fn rewrite() -> impl Strategy<Value = Value> {
    prop_oneof![
        select(&["/", "/new", "/new/", "/n?k=v"][..]).prop_map(|uri| json!({"uri": uri})),
        select(&["other.example.com", "other:8080"][..]).prop_map(|host| json!({"authority": host})),
        Just(json!({"uri": "/both", "authority": "both.example.com"})),
        select(&[("/api/(v[0-9])/(.*)", "/\\2/\\1"), ("a", "A\\0"), ("/+", "/")][..])
            .prop_map(|(m, r)| json!({"uriRegexRewrite": {"match": m, "rewrite": r}})),
    ]
}

/// How a request is tried again.
fn retries() -> impl Strategy<Value = Value> {
    let waits = &["1ms", "5ms", "25ms"][..];
    let tries = (
        1_u32..4,
        option::weighted(0.7, subsequence(RETRY_ON, 1..4)),
        option::weighted(0.3, select(&["1s", "3s", "20s"][..])),
        option::weighted(0.5, select(waits)),
        option::weighted(0.2, any::<bool>()),
    )
        .prop_map(|(attempts, retry_on, per_try, backoff, remote)| {
            let mut out = Map::new();
            let mut set = |name: &str, value: Option<Value>| {
                if let Some(value) = value {
                    out.insert(name.to_owned(), value);
                }
            };
            set("attempts", Some(attempts.into()));
            set("retryOn", retry_on.map(|list| list.join(",").into()));
            set("perTryTimeout", per_try.map(Value::from));
            set("backoff", backoff.map(Value::from));
            set("retryRemoteLocalities", remote.map(Value::from));
            Value::Object(out)
        });
    prop_oneof![1 => Just(json!({"attempts": 0})), 4 => tries]
}

fn redirect() -> impl Strategy<Value = Value> {
    (
        option::of(select(&["/moved", "/moved?x=1", "/", "moved", "?x=1", "#a"][..])),
        option::of(select(&["moved.example.com", "moved.example.com:8443"][..])),
        option::of(select(&["http", "https"][..])),
        option::of(prop_oneof![
            3 => select(&[80_u32, 443, 8080][..]).prop_map(|port| ("port", Value::from(port))),
            1 => select(&["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"][..])
                .prop_map(|from| ("derivePort", Value::from(from))),
        ]),
        option::of(select(&[301_u32, 302, 303, 307, 308][..])),
    )
        .prop_filter_map("a redirect changes something", |(uri, authority, scheme, port, code)| {
            let mut out = Map::new();
            let mut set = |name: &str, value: Option<Value>| {
                if let Some(value) = value {
                    out.insert(name.to_owned(), value);
                }
            };
            if uri.is_none() && authority.is_none() && scheme.is_none() {
                return None;
            }
            set("uri", uri.map(Value::from));
            set("authority", authority.map(Value::from));
            set("scheme", scheme.map(Value::from));
            if let Some((name, port)) = port {
                set(name, Some(port));
            }
            set("redirectCode", code.map(Value::from));
            Some(Value::Object(out))
        })
}

fn direct_response() -> impl Strategy<Value = Value> {
    let body = prop_oneof![
        3 => select(&["hello", "50% off", "{\"a\": 1}"][..]).prop_map(|text| json!({"string": text})),
        1 => Just(json!({"bytes": "aGVsbG8K"})),
    ];
    (select(&[200_u32, 201, 204, 302, 304, 404, 418, 503][..]), option::of(body)).prop_map(
        |(status, body)| match body {
            Some(body) => json!({"status": status, "body": body}),
            None => json!({"status": status}),
        },
    )
}

fn fault() -> impl Strategy<Value = Value> {
    let share = || select(&[0_u32, 50, 100, 100, 100][..]);
    let abort = (select(&[400_u32, 418, 503, 555][..]), share())
        .prop_map(|(status, share)| json!({"httpStatus": status, "percentage": {"value": share}}));
    let grpc = Just(json!({"grpcStatus": "UNAVAILABLE", "percentage": {"value": 100}}));
    let delay = share().prop_map(|share| json!({"fixedDelay": "0.005s", "percentage": {"value": share}}));
    (option::of(delay), option::weighted(0.8, prop_oneof![5 => abort, 1 => grpc])).prop_filter_map(
        "a fault does something",
        |(delay, abort)| {
            let mut out = Map::new();
            if let Some(delay) = delay {
                out.insert("delay".to_owned(), delay);
            }
            if let Some(abort) = abort {
                out.insert("abort".to_owned(), abort);
            }
            (!out.is_empty()).then(|| Value::Object(out))
        },
    )
}

fn cors() -> impl Strategy<Value = Value> {
    let origin = select(
        &[
            ("exact", "http://a.example"),
            ("prefix", "http://"),
            ("regex", "https?://[ab]\\.example"),
            ("exact", "*"),
        ][..],
    )
    .prop_map(|(kind, text)| json!([{kind: text}]));
    (
        origin,
        option::of(Just(json!(["GET", "POST"]))),
        option::of(Just(json!(["x-a", "x-b"]))),
        option::of(Just(json!(["x-from"]))),
        option::of(Just("24h")),
        option::of(any::<bool>()),
        option::weighted(0.3, select(&["FORWARD", "IGNORE"][..])),
    )
        .prop_map(|(origins, methods, headers, expose, age, credentials, unmatched)| {
            let mut out = Map::new();
            let mut set = |name: &str, value: Option<Value>| {
                if let Some(value) = value {
                    out.insert(name.to_owned(), value);
                }
            };
            set("allowOrigins", Some(origins));
            set("allowMethods", methods);
            set("allowHeaders", headers);
            set("exposeHeaders", expose);
            set("maxAge", age.map(Value::from));
            set("allowCredentials", credentials.map(Value::from));
            set("unmatchedPreflights", unmatched.map(Value::from));
            Value::Object(out)
        })
}

fn mirror() -> impl Strategy<Value = Value> {
    (select(&["ratings", "cart.shop.svc.cluster.local"][..]), option::of(select(&[0_u32, 50, 100][..])))
        .prop_map(|(host, share)| {
            let mut mirror = Map::new();
            mirror.insert("destination".to_owned(), json!({"host": host, "port": {"number": 80}}));
            if let Some(share) = share {
                mirror.insert("percentage".to_owned(), json!({"value": share}));
            }
            Value::Object(mirror)
        })
}

/// An `HTTPRoute` of a VirtualService.
pub fn http_route() -> impl Strategy<Value = Value> {
    let forward = (
        destinations(),
        option::weighted(0.25, rewrite()),
        option::weighted(0.15, mirror()),
        option::weighted(0.2, select(&["4s", "10s", "15s"][..])),
        option::weighted(0.3, retries()),
    )
        .prop_map(|(route, rewrite, mirror, timeout, retries)| {
            let mut out = Map::new();
            out.insert("route".to_owned(), route);
            let mut set = |name: &str, value: Option<Value>| {
                if let Some(value) = value {
                    out.insert(name.to_owned(), value);
                }
            };
            set("rewrite", rewrite);
            set("mirrors", mirror.map(|m| json!([m])));
            set("timeout", timeout.map(Value::from));
            set("retries", retries);
            out
        });
    let answer = |name: &'static str| {
        move |value: Value| {
            let mut out = Map::new();
            out.insert(name.to_owned(), value);
            out
        }
    };
    let action = prop_oneof![
        10 => forward,
        2 => redirect().prop_map(answer("redirect")),
        2 => direct_response().prop_map(answer("directResponse")),
    ];
    (
        option::weighted(0.3, "r-[a-z]{1,5}"),
        option::weighted(0.75, vec(http_match_request(), 1..3)),
        action,
        option::weighted(0.3, prop_oneof![6 => headers(), 1 => host()]),
        option::weighted(0.1, fault()),
        option::weighted(0.15, cors()),
    )
        .prop_map(|(name, matches, action, headers, fault, cors)| {
            let mut out = Map::new();
            let mut set = |name: &str, value: Option<Value>| {
                if let Some(value) = value {
                    out.insert(name.to_owned(), value);
                }
            };
            set("name", name.map(Value::from));
            set("match", matches.map(Value::from));
            // The host is written once, or istiod refuses the rule.
            let written = |value: &Value| value.pointer("/authority").is_some();
            let rewritten = action.get("rewrite").is_some_and(written);
            let sets_host = |headers: &Value| {
                let set = headers.pointer("/request/set").and_then(Value::as_object);
                set.is_some_and(|set| {
                    set.keys().any(|name| name.eq_ignore_ascii_case("host") || name == ":authority")
                })
            };
            set("headers", headers.filter(|headers| !rewritten || !sets_host(headers)));
            set("fault", fault.filter(|_| action.contains_key("route")));
            set("corsPolicy", cors);
            out.extend(action);
            Value::Object(out)
        })
}
