//! How are the tests of a route table read?
//!
//! `envoy: test/tools/router_check/validation.proto`. Invariant: a text that is expected to be empty is an expectation; one that is
//! absent is none.

use std::time::Duration;

use serde_json::{Map, Value};
use smol_str::{SmolStr, StrExt as _};

use super::RouterCheckError;
use super::action::duration;
use super::fields::Fields;
use super::matchers::{self, HeaderCondition};
use crate::envoy::matching::Metadata;
use crate::envoy::request::HttpRequest;

/// One test.
#[derive(Clone, Debug)]
pub(super) struct Case {
    /// Its name.
    pub(super) name: String,
    /// The request.
    pub(super) request: HttpRequest,
    /// Response headers that are there before the route's operations.
    pub(super) response: Vec<(SmolStr, SmolStr)>,
    /// What chooses among weighted clusters and parts of requests.
    pub(super) random_value: u64,
    /// The runtime key that is on.
    pub(super) runtime: SmolStr,
    /// Dynamic metadata.
    pub(super) metadata: Metadata,
    /// What is expected.
    pub(super) expected: Expected,
}

/// What a test expects.
#[derive(Clone, Debug, Default)]
pub(super) struct Expected {
    pub(super) cluster_name: Option<SmolStr>,
    pub(super) virtual_cluster_name: Option<SmolStr>,
    pub(super) virtual_host_name: Option<SmolStr>,
    pub(super) path_rewrite: Option<SmolStr>,
    pub(super) host_rewrite: Option<SmolStr>,
    pub(super) path_redirect: Option<SmolStr>,
    pub(super) code_redirect: Option<u16>,
    pub(super) timeout: Option<Duration>,
    pub(super) route_metadata: Vec<(SmolStr, SmolStr, SmolStr)>,
    /// Headers' texts (`request_header_fields`), the older form of conditions.
    pub(super) request_fields: Vec<(SmolStr, SmolStr)>,
    pub(super) response_fields: Vec<(SmolStr, SmolStr)>,
    pub(super) request_headers: Vec<HeaderCondition>,
    pub(super) response_headers: Vec<HeaderCondition>,
}

/// Reads the tests.
pub(super) fn cases(value: Value) -> Result<Vec<Case>, RouterCheckError> {
    let mut fields = Fields::new("", value)?;
    let cases = fields.messages("tests", case)?;
    fields.finish()?;
    if cases.is_empty() {
        return Err(RouterCheckError::Missing { field: "tests".into() });
    }
    Ok(cases)
}

fn case(mut fields: Fields) -> Result<Case, RouterCheckError> {
    let name = fields.required("test_name")?.to_string();
    let missing = |field| Err(RouterCheckError::Missing { field });
    let Some(mut input) = fields.message("input")? else { return missing(fields.at("input")) };
    let Some(validate) = fields.message("validate")? else { return missing(fields.at("validate")) };
    fields.finish()?;
    let scheme =
        SmolStr::new_static(if input.boolean("ssl")?.unwrap_or_default() { "https" } else { "http" });
    let mut headers = vec![(SmolStr::new_static("x-forwarded-proto"), scheme.clone())];
    if input.boolean("internal")?.unwrap_or_default() {
        headers.push((SmolStr::new_static("x-envoy-internal"), SmolStr::new_static("true")));
    }
    headers.extend(header_values(&mut input, "additional_request_headers")?);
    if let Some((name, _)) = headers.iter().find(|(name, _)| name.starts_with(':') || name == "host") {
        let field = input.at(&format!("additional_request_headers.{name}"));
        return Err(RouterCheckError::Unsupported { field });
    }
    let request = HttpRequest {
        method: method(&mut input)?,
        path: input.required("path")?,
        authority: input.required("authority")?,
        scheme: Some(scheme),
        headers,
        no_host: false,
        body: crate::envoy::Body::Declared,
    };
    let response = header_values(&mut input, "additional_response_headers")?;
    let random_value = input.unsigned("random_value")?.unwrap_or_default();
    let runtime = input.text("runtime")?.unwrap_or_default();
    let metadata = dynamic_metadata(&mut input)?;
    input.finish()?;
    Ok(Case { name, request, response, random_value, runtime, metadata, expected: expected(validate)? })
}

/// Three letters at least: `validation.proto`.
fn method(input: &mut Fields) -> Result<SmolStr, RouterCheckError> {
    let method = input.required("method")?;
    if method.chars().count() < 3 {
        let reason = "a method has three letters at least".into();
        return Err(RouterCheckError::Invalid { field: input.at("method"), reason });
    }
    Ok(method)
}

fn header_values(fields: &mut Fields, name: &str) -> Result<Vec<(SmolStr, SmolStr)>, RouterCheckError> {
    fields.messages(name, |mut header| {
        let pair =
            (header.required("key")?.to_lowercase_smolstr(), header.text("value")?.unwrap_or_default());
        header.finish()?;
        Ok(pair)
    })
}

/// Metadata as the filter `set_metadata` sets it, one after the other. Envoy: `set_metadata_filter.cc: SetMetadataFilter::decodeHeaders`.
fn dynamic_metadata(input: &mut Fields) -> Result<Metadata, RouterCheckError> {
    let entries = input.messages("dynamic_metadata", |mut fields| {
        let namespace = fields.required("metadata_namespace")?;
        let allow_overwrite = fields.boolean("allow_overwrite")?.unwrap_or_default();
        let field = fields.at("value");
        let value = match fields.take("value") {
            None => Map::new(),
            Some(Value::Object(map)) => map,
            Some(_) => return Err(RouterCheckError::WrongType { field, expected: "a message" }),
        };
        fields.finish()?;
        Ok((namespace, allow_overwrite, value))
    })?;
    let mut out = Metadata::new();
    for (namespace, allow_overwrite, value) in entries {
        match out.get_mut(namespace.as_str()) {
            None => {
                out.insert(namespace.to_string(), Value::Object(value));
            }
            Some(old) if allow_overwrite => update(old, Value::Object(value)),
            Some(_) => {}
        }
    }
    Ok(out)
}

/// Envoy: `protobuf/utility.cc: StructUtil::update`: messages are merged, lists joined, the rest is replaced.
fn update(old: &mut Value, new: Value) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (key, value) in new {
                match old.get_mut(&key) {
                    Some(there) => update(there, value),
                    None => {
                        old.insert(key, value);
                    }
                }
            }
        }
        (Value::Array(old), Value::Array(new)) => old.extend(new),
        (old, new) => *old = new,
    }
}

fn expected(mut fields: Fields) -> Result<Expected, RouterCheckError> {
    let timeout = fields.take("timeout").map(|value| duration(fields.at("timeout"), value)).transpose()?;
    let out = Expected {
        cluster_name: fields.text("cluster_name")?,
        virtual_cluster_name: fields.text("virtual_cluster_name")?,
        virtual_host_name: fields.text("virtual_host_name")?,
        path_rewrite: fields.text("path_rewrite")?,
        host_rewrite: fields.text("host_rewrite")?,
        path_redirect: fields.text("path_redirect")?,
        code_redirect: fields.unsigned("code_redirect")?,
        timeout,
        route_metadata: fields.messages("route_metadata", |mut entry| {
            let out = (entry.required("namespace")?, entry.required("key")?, entry.text("value")?);
            entry.finish()?;
            Ok((out.0, out.1, out.2.unwrap_or_default()))
        })?,
        request_fields: header_values(&mut fields, "request_header_fields")?,
        response_fields: header_values(&mut fields, "response_header_fields")?,
        request_headers: fields.messages("request_header_matches", matchers::header_condition)?,
        response_headers: fields.messages("response_header_matches", matchers::header_condition)?,
    };
    fields.finish()?;
    Ok(out)
}
