//! Conditions on strings, headers, query parameters, addresses and metadata.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::json::Object;
use crate::envoy::config::{HeaderMatcher, MetadataMatcher, QueryParameterMatcher, StringMatcher};

/// `type.matcher.v3.StringMatcher`.
pub(super) fn string(matcher: &StringMatcher) -> Value {
    match matcher {
        StringMatcher::Exact(text) => json!({"exact": text}),
        StringMatcher::Prefix(text) => json!({"prefix": text}),
        StringMatcher::Suffix(text) => json!({"suffix": text}),
        StringMatcher::Contains(text) => json!({"contains": text}),
        StringMatcher::SafeRegex(regex) => json!({"safe_regex": {"regex": regex.pattern()}}),
        StringMatcher::IgnoreCase(inner) => {
            let mut out = string(inner);
            if let Some(fields) = out.as_object_mut() {
                fields.insert("ignore_case".into(), json!(true));
            }
            out
        }
    }
}

/// `config.route.v3.HeaderMatcher`.
pub(super) fn header(matcher: &HeaderMatcher) -> Value {
    let mut out = Object::new();
    out.set("name", matcher.name.as_str());
    match &matcher.matcher {
        Some(condition) => out.set("string_match", string(condition)),
        None => out.set("present_match", true),
    }
    out.set_nonempty("invert_match", matcher.invert_match);
    out.set_nonempty("treat_missing_header_as_empty", matcher.treat_missing_header_as_empty);
    out.into()
}

/// `config.route.v3.QueryParameterMatcher`.
pub(super) fn query_parameter(matcher: &QueryParameterMatcher) -> Value {
    let mut out = Object::new();
    out.set("name", matcher.name.as_str());
    match &matcher.matcher {
        Some(condition) => out.set("string_match", string(condition)),
        None => out.set("present_match", true),
    }
    out.into()
}

/// `type.matcher.v3.MetadataMatcher`.
pub(super) fn metadata(matcher: &MetadataMatcher) -> Value {
    let path: Vec<Value> = matcher.path.iter().map(|key| json!({"key": key})).collect();
    let value = match &matcher.matcher {
        None => json!({"present_match": true}),
        Some(condition) => {
            let plain = json!({"string_match": string(condition)});
            if matcher.or_list {
                json!({"or_match": {"value_matchers": [{"list_match": {"one_of": plain}}, plain]}})
            } else {
                plain
            }
        }
    };
    let mut out = Object::new();
    out.set("filter", matcher.filter.as_str());
    out.set("path", path);
    out.set("value", value);
    out.set_nonempty("invert", matcher.invert);
    out.into()
}

/// `config.core.v3.CidrRange`.
pub(super) fn cidr(net: ipnet::IpNet) -> Value {
    let address: IpAddr = net.addr();
    json!({"address_prefix": address.to_string(), "prefix_len": net.prefix_len()})
}
