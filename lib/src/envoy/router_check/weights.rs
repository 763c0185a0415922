//! What chooses among the weighted clusters of a route, besides chance?
//!
//! Envoy: `weighted_cluster_specifier.cc: WeightedClusterSpecifierPlugin::pickWeightedCluster`, `http/hash_policy.cc`, `common/hash.h`.

use serde_json::Value;
use smol_str::{SmolStr, StrExt as _};

use super::RouterCheckError;
use super::fields::Fields;
use super::matchers;
use crate::envoy::config::RegexRewrite;
use crate::envoy::matching;
use crate::envoy::request::HttpRequest;

/// How a weighted cluster is chosen and named.
#[derive(Clone, Debug, Default)]
pub(super) struct Weights {
    /// The header that holds the random number.
    pub(super) header: Option<SmolStr>,
    /// What is hashed for it, where hashing is asked for.
    pub(super) hashed: Vec<Hashed>,
    /// The headers that name the clusters which have no name.
    pub(super) cluster_headers: Vec<Option<SmolStr>>,
}

/// One part of a request that is hashed.
#[derive(Clone, Debug)]
pub(super) struct Hashed {
    part: Part,
    /// Whether the parts behind it do not count when it is there.
    terminal: bool,
}

#[derive(Clone, Debug)]
enum Part {
    Header(SmolStr, Option<RegexRewrite>),
    Cookie(SmolStr),
    Query(SmolStr),
    /// The client's address, which is this machine's. Envoy: `router_check/router.cc: RouterCheckTool`.
    SourceIp,
    /// State of filters, of which there is none.
    Nothing,
}

impl Weights {
    /// The number that chooses; `random` unless the request has one.
    pub(super) fn number(&self, request: &HttpRequest, random: u64) -> u64 {
        if let Some(header) = &self.header {
            let mut lines = matching::values(header, request);
            if let (Some(line), None) = (lines.next(), lines.next())
                && let Ok(number) = line.trim().parse()
            {
                return number;
            }
        }
        let mut hash: Option<u64> = None;
        for Hashed { part, terminal } in &self.hashed {
            if let Some(new) = part.hash(request) {
                hash = Some(hash.map_or(new, |old| old.rotate_left(1) ^ new));
                if *terminal {
                    break;
                }
            }
        }
        hash.unwrap_or(random)
    }

    /// The cluster at a place, where a header names it.
    pub(super) fn cluster(&self, place: usize, request: &HttpRequest) -> Option<SmolStr> {
        let header = self.cluster_headers.get(place)?.as_ref()?;
        Some(matching::values(header, request).next().cloned().unwrap_or_default())
    }
}

impl Part {
    fn hash(&self, request: &HttpRequest) -> Option<u64> {
        match self {
            Self::Header(name, rewrite) => {
                let rewritten = |line: &SmolStr| match rewrite {
                    Some(rewrite) => rewrite.apply(line).into_owned(),
                    None => line.to_string(),
                };
                let mut lines: Vec<String> = matching::values(name, request).map(rewritten).collect();
                lines.sort();
                // Lines are hashed one after the other, each with the hash before it as the seed.
                let mut lines = lines.into_iter();
                let first = xxh64(lines.next()?.as_bytes(), 0);
                Some(lines.fold(first, |seed, line| xxh64(line.as_bytes(), seed)))
            }
            Self::Cookie(name) => {
                let pairs = matching::values("cookie", request).flat_map(|line| line.split(';'));
                let mut pairs = pairs.filter_map(|pair| pair.trim().split_once('='));
                pairs.find(|(key, _)| key == name).map(|(_, value)| xxh64(value.as_bytes(), 0))
            }
            Self::Query(name) => {
                matching::query_parameter(&request.path, name).map(|value| xxh64(value.as_bytes(), 0))
            }
            Self::SourceIp => Some(xxh64(b"127.0.0.1", 0)),
            Self::Nothing => None,
        }
    }
}

/// What a route hashes.
pub(super) fn hash_policy(mut fields: Fields) -> Result<Hashed, RouterCheckError> {
    let terminal = fields.boolean("terminal")?.unwrap_or_default();
    let mut part = None;
    if let Some(mut header) = fields.message("header")? {
        let name = header.required("header_name")?.to_lowercase_smolstr();
        let rewrite = header.message("regex_rewrite")?.map(matchers::substitution).transpose()?;
        header.finish()?;
        part = Some(Part::Header(name, rewrite));
    }
    if let Some(mut cookie) = fields.message("cookie")? {
        part = Some(Part::Cookie(cookie.required("name")?));
        cookie.pass_over(&["ttl", "path", "attributes"]);
        cookie.finish()?;
    }
    if let Some(mut query) = fields.message("query_parameter")? {
        part = Some(Part::Query(query.required("name")?));
        query.finish()?;
    }
    if let Some(mut properties) = fields.message("connection_properties")? {
        let source = properties.boolean("source_ip")?.unwrap_or_default();
        properties.finish()?;
        part = Some(if source { Part::SourceIp } else { Part::Nothing });
    }
    if fields.take("filter_state").is_some_and(|state| state != Value::Null) {
        part = Some(Part::Nothing);
    }
    let field = fields.path().to_owned();
    fields.finish()?;
    Ok(Hashed { part: part.ok_or(RouterCheckError::Missing { field })?, terminal })
}

/// The hash XXH64, by its specification (`xxhash_spec.md`).
fn xxh64(bytes: &[u8], seed: u64) -> u64 {
    const PRIMES: [u64; 5] = [
        0x9E37_79B1_85EB_CA87,
        0xC2B2_AE3D_27D4_EB4F,
        0x1656_67B1_9E37_79F9,
        0x85EB_CA77_C2B2_AE63,
        0x27D4_EB2F_1656_67C5,
    ];
    let [one, two, three, four, five] = PRIMES;
    let round =
        |lane: u64, word: u64| lane.wrapping_add(word.wrapping_mul(two)).rotate_left(31).wrapping_mul(one);
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0_u64, |all, byte| (all << 8) | u64::from(*byte));
    let stripes = bytes.chunks_exact(32);
    let rest = stripes.remainder();
    let mut hash = if bytes.len() < 32 {
        seed.wrapping_add(five)
    } else {
        let mut lanes =
            [seed.wrapping_add(one).wrapping_add(two), seed.wrapping_add(two), seed, seed.wrapping_sub(one)];
        for stripe in stripes {
            for (lane, word) in lanes.iter_mut().zip(stripe.chunks_exact(8)) {
                *lane = round(*lane, number(word));
            }
        }
        let turned = lanes.iter().zip([1, 7, 12, 18]).map(|(lane, by)| lane.rotate_left(by));
        let all = turned.fold(0_u64, u64::wrapping_add);
        lanes.iter().fold(all, |all, lane| (all ^ round(0, *lane)).wrapping_mul(one).wrapping_add(four))
    };
    hash = hash.wrapping_add(bytes.len() as u64);
    let words = rest.chunks_exact(8);
    let rest = words.remainder();
    for word in words {
        hash = (hash ^ round(0, number(word))).rotate_left(27).wrapping_mul(one).wrapping_add(four);
    }
    let halves = rest.chunks_exact(4);
    let rest = halves.remainder();
    for half in halves {
        hash ^= number(half).wrapping_mul(one);
        hash = hash.rotate_left(23).wrapping_mul(two).wrapping_add(three);
    }
    for byte in rest {
        hash = (hash ^ u64::from(*byte).wrapping_mul(five)).rotate_left(11).wrapping_mul(one);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(two);
    hash = (hash ^ (hash >> 29)).wrapping_mul(three);
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of the reference implementation.
    #[test]
    fn the_hash_is_xxh64() {
        assert_eq!(xxh64(b"", 0), 0xEF46_DB37_51D8_E999);
        assert_eq!(xxh64(b"a", 0), 0xD24E_C4F1_A98C_6E5B);
        assert_eq!(xxh64(b"abc", 0), 0x44BC_2CF5_AD77_0999);
        let text = b"Call me Ishmael. Some years ago--never mind how long precisely-";
        assert_eq!(xxh64(text, 0), 0x02A2_E854_70D6_FD96);
    }
}
