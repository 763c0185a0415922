//! Which routes does a virtual host's matcher choose?
//!
//! `envoy: xds/type/matcher/v3/matcher.proto`; Envoy: `config_impl.cc: VirtualHostImpl::getRouteFromEntries`, `common/matcher/matcher.h`.
//! Invariant: the routes it chooses among stand in the virtual host's list, and still look at their own conditions.

use serde_json::Value;
use smol_str::{SmolStr, StrExt as _};

use super::RouterCheckError;
use super::config::{TableRoute, route};
use super::fields::Fields;
use super::matchers;
use crate::envoy::config::StringMatcher;
use crate::envoy::headers;
use crate::envoy::matching;
use crate::envoy::request::HttpRequest;

/// A matcher.
#[derive(Clone, Debug)]
pub(super) struct HostMatcher {
    kind: Kind,
    otherwise: Option<Box<Chosen>>,
}

#[derive(Clone, Debug)]
enum Kind {
    List(Vec<(Predicate, Chosen)>),
    Exact(Input, Vec<(SmolStr, Chosen)>),
    Prefix(Input, Vec<(SmolStr, Chosen)>),
    Nothing,
}

#[derive(Clone, Debug)]
enum Chosen {
    Matcher(HostMatcher),
    /// The places of routes.
    Routes(Vec<usize>),
}

#[derive(Clone, Debug)]
enum Predicate {
    Single(Input, StringMatcher),
    Or(Vec<Predicate>),
    And(Vec<Predicate>),
    Not(Box<Predicate>),
}

/// What is compared.
#[derive(Clone, Debug)]
enum Input {
    Header(SmolStr),
    Query(SmolStr),
}

impl Input {
    fn value(&self, request: &HttpRequest) -> Option<SmolStr> {
        match self {
            Self::Header(name) if name.starts_with(':') || name == "host" => {
                matching::values(name, request).next().cloned()
            }
            Self::Header(name) => headers::joined(&request.headers, name),
            Self::Query(name) => matching::query_parameter(&request.path, name).map(SmolStr::new),
        }
    }
}

impl Predicate {
    fn is_met(&self, request: &HttpRequest) -> bool {
        match self {
            Self::Single(input, matcher) => {
                input.value(request).is_some_and(|value| matching::string(matcher, &value))
            }
            Self::Or(all) => all.iter().any(|inner| inner.is_met(request)),
            Self::And(all) => all.iter().all(|inner| inner.is_met(request)),
            Self::Not(inner) => !inner.is_met(request),
        }
    }
}

impl HostMatcher {
    /// The places of the routes that it chooses for a request.
    pub(super) fn choose(&self, request: &HttpRequest) -> &[usize] {
        self.find(request).unwrap_or(&[])
    }

    fn find(&self, request: &HttpRequest) -> Option<&[usize]> {
        let found = match &self.kind {
            Kind::List(list) => list
                .iter()
                .filter(|(predicate, _)| predicate.is_met(request))
                .find_map(|(_, chosen)| chosen.find(request)),
            Kind::Exact(input, map) => input.value(request).and_then(|value| {
                map.iter().find(|(key, _)| *key == value).and_then(|(_, chosen)| chosen.find(request))
            }),
            Kind::Prefix(input, map) => input.value(request).and_then(|value| {
                // The longest prefix counts first.
                let mut fitting: Vec<_> =
                    map.iter().filter(|(key, _)| value.starts_with(key.as_str())).collect();
                fitting.sort_by_key(|(key, _)| std::cmp::Reverse(key.len()));
                fitting.into_iter().find_map(|(_, chosen)| chosen.find(request))
            }),
            Kind::Nothing => None,
        };
        found.or_else(|| self.otherwise.as_ref()?.find(request))
    }

    /// Reads a matcher, and puts its routes to the others.
    pub(super) fn read(mut fields: Fields, routes: &mut Vec<TableRoute>) -> Result<Self, RouterCheckError> {
        let mut kinds = Vec::new();
        if let Some(mut list) = fields.message("matcher_list")? {
            let mut all = Vec::new();
            for (path, value) in list.list("matchers")? {
                let mut entry = Fields::new(path, value)?;
                let predicate = required(&mut entry, "predicate")?;
                let chosen = required(&mut entry, "on_match")?;
                entry.finish()?;
                all.push((read_predicate(predicate)?, read_chosen(chosen, routes)?));
            }
            list.finish()?;
            kinds.push(Kind::List(all));
        }
        if let Some(mut tree) = fields.message("matcher_tree")? {
            let input = read_input(required(&mut tree, "input")?)?;
            for (name, exact) in [("exact_match_map", true), ("prefix_match_map", false)] {
                let Some(mut map) = tree.message(name)? else { continue };
                let field = map.at("map");
                let Some(Value::Object(entries)) = map.take("map") else {
                    return Err(RouterCheckError::Missing { field });
                };
                map.finish()?;
                let mut all = Vec::new();
                for (key, value) in entries {
                    let chosen = Fields::new(format!("{field}.{key}"), value)?;
                    all.push((SmolStr::from(key), read_chosen(chosen, routes)?));
                }
                kinds.push(if exact {
                    Kind::Exact(input.clone(), all)
                } else {
                    Kind::Prefix(input.clone(), all)
                });
            }
            tree.finish()?;
        }
        let otherwise = match fields.message("on_no_match")? {
            None => None,
            Some(inner) => Some(Box::new(read_chosen(inner, routes)?)),
        };
        let field = fields.path().to_owned();
        fields.finish()?;
        if kinds.len() > 1 {
            return Err(RouterCheckError::Several { field, what: "matcher" });
        }
        Ok(Self { kind: kinds.pop().unwrap_or(Kind::Nothing), otherwise })
    }
}

impl Chosen {
    fn find(&self, request: &HttpRequest) -> Option<&[usize]> {
        match self {
            Self::Matcher(matcher) => matcher.find(request),
            Self::Routes(places) => Some(places),
        }
    }
}

fn required(fields: &mut Fields, name: &'static str) -> Result<Fields, RouterCheckError> {
    match fields.message(name)? {
        Some(inner) => Ok(inner),
        None => Err(RouterCheckError::Missing { field: fields.at(name) }),
    }
}

/// The configuration of an extension, and its type's name.
fn extension(mut fields: Fields) -> Result<(SmolStr, Fields), RouterCheckError> {
    fields.text("name")?;
    let mut config = required(&mut fields, "typed_config")?;
    fields.finish()?;
    let kind = config.required("@type")?;
    let kind = kind.rsplit(['/', '.']).next().map(SmolStr::new).unwrap_or_default();
    Ok((kind, config))
}

fn read_input(fields: Fields) -> Result<Input, RouterCheckError> {
    let (kind, mut config) = extension(fields)?;
    let input = match kind.as_str() {
        "HttpRequestHeaderMatchInput" => {
            Input::Header(config.required("header_name")?.to_lowercase_smolstr())
        }
        "HttpRequestQueryParamMatchInput" => Input::Query(config.required("query_param")?),
        _ => return Err(RouterCheckError::Unsupported { field: config.at("@type") }),
    };
    config.finish()?;
    Ok(input)
}

fn read_predicate(mut fields: Fields) -> Result<Predicate, RouterCheckError> {
    let mut found = Vec::new();
    if let Some(mut single) = fields.message("single_predicate")? {
        let input = read_input(required(&mut single, "input")?)?;
        let matcher = matchers::string(required(&mut single, "value_match")?)?;
        single.finish()?;
        found.push(Predicate::Single(input, matcher));
    }
    for (name, or) in [("or_matcher", true), ("and_matcher", false)] {
        let Some(mut several) = fields.message(name)? else { continue };
        let all = several.messages("predicate", read_predicate)?;
        several.finish()?;
        found.push(if or { Predicate::Or(all) } else { Predicate::And(all) });
    }
    if let Some(not) = fields.message("not_matcher")? {
        found.push(Predicate::Not(Box::new(read_predicate(not)?)));
    }
    let field = fields.path().to_owned();
    fields.finish()?;
    if found.len() > 1 {
        return Err(RouterCheckError::Several { field, what: "predicate" });
    }
    found.pop().ok_or(RouterCheckError::Missing { field })
}

fn read_chosen(mut fields: Fields, routes: &mut Vec<TableRoute>) -> Result<Chosen, RouterCheckError> {
    fields.boolean("keep_matching")?;
    let matcher = fields.message("matcher")?;
    let action = fields.message("action")?;
    let field = fields.path().to_owned();
    fields.finish()?;
    match (matcher, action) {
        (Some(matcher), None) => Ok(Chosen::Matcher(HostMatcher::read(matcher, routes)?)),
        (None, Some(action)) => {
            let (kind, mut config) = extension(action)?;
            let first = routes.len();
            match kind.as_str() {
                "Route" => routes.push(route(config)?),
                "RouteList" => {
                    routes.extend(config.messages("routes", route)?);
                    config.finish()?;
                }
                _ => return Err(RouterCheckError::Unsupported { field: config.at("@type") }),
            }
            Ok(Chosen::Routes((first..routes.len()).collect()))
        }
        (None, None) => Err(RouterCheckError::Missing { field }),
        (Some(_), Some(_)) => Err(RouterCheckError::Several { field, what: "outcome" }),
    }
}
