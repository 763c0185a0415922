//! Which rule was meant for a request that a gateway does not know?

use smol_str::SmolStr;

use super::contract::{Failed, NearMiss, Place};
use crate::envoy::request::{HttpRequest, Transport};
use crate::istiod::Proxy;
use crate::istiod::gateway::near_miss::binding_misses;

/// The most misses that are told of one gateway.
const MOST: usize = 8;

/// The host that a gateway is asked for: the request's, or TLS's server name.
pub(super) fn asked_host(transport: &Transport, request: Option<&HttpRequest>) -> SmolStr {
    match (request, transport) {
        (Some(request), _) => {
            let authority = request.authority.as_str();
            match authority.rsplit_once(':') {
                Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name.into(),
                _ => authority.into(),
            }
        }
        (None, Transport::Tls { sni, .. }) => sni.clone(),
        (None, Transport::Plaintext) => SmolStr::default(),
    }
}

/// The rules for `asked` that do not reach the gateway `proxy` on a port, the likeliest first.
pub(super) fn at_gateway(proxy: &Proxy, asked: &str, port: u16, hop: &SmolStr) -> Vec<NearMiss> {
    binding_misses(proxy, asked, Some(port))
        .into_iter()
        .take(MOST)
        .map(|miss| {
            let place = Place::new(miss.origin, proxy.mesh().clone());
            NearMiss {
                resource: place.resource().unwrap_or_default().into(),
                field: place.field().unwrap_or_default().into(),
                hop: hop.clone(),
                origin: place,
                failed: Failed {
                    condition: SmolStr::new_static(miss.condition.as_str()),
                    expected: miss.expected,
                    got: miss.got,
                },
                repair: miss.repair,
            }
        })
        .collect()
}
