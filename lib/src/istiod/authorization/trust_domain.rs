//! Which identities does a principal stand for?
//!
//! A principal of the mesh's trust domain, of an alias, or of `cluster.local` stands for the same account in all of
//! them. istiod: `security/trustdomain/bundle.go`.

use smol_str::{SmolStr, format_smolstr};

use crate::mesh::EffectiveConfig;

/// The mesh's trust domain and its aliases.
#[derive(Clone, Debug)]
pub(super) struct TrustDomains(Vec<SmolStr>);

impl TrustDomains {
    pub(super) fn new(config: &EffectiveConfig) -> Self {
        let aliases = config.written.trust_domain_aliases.iter().flatten().cloned();
        Self([config.trust_domain.clone()].into_iter().chain(aliases).collect())
    }

    /// Principals in all trust domains that they stand for.
    pub(super) fn replace_aliases(&self, principals: &[SmolStr]) -> Vec<SmolStr> {
        principals.iter().flat_map(|principal| self.replace(principal)).collect()
    }

    fn replace(&self, principal: &SmolStr) -> Vec<SmolStr> {
        let as_it_stands = || vec![principal.clone()];
        // Only whole identities, `domain/ns/namespace/sa/account`, name a trust domain.
        let Some((domain, rest)) =
            principal.split_once('/').filter(|(_, rest)| rest.matches('/').count() == 3)
        else {
            return as_it_stands();
        };
        if domain == "*" || !(domain == "cluster.local" || self.0.iter().any(|own| covers(domain, own))) {
            return as_it_stands();
        }
        let mut out: Vec<SmolStr> = Vec::new();
        for own in &self.0 {
            let replaced =
                if ends_as(own, domain) { principal.clone() } else { format_smolstr!("{own}/{rest}") };
            if !out.contains(&replaced) {
                out.push(replaced);
            }
        }
        out
    }

    /// Trust domains, each of the mesh's own with all others.
    pub(super) fn expand_aliases(&self, values: &[SmolStr]) -> Vec<SmolStr> {
        let mut out: Vec<SmolStr> = Vec::new();
        for value in values {
            let known = self.0.contains(value);
            let all = if known { self.0.as_slice() } else { std::slice::from_ref(value) };
            for domain in all {
                if !out.contains(domain) {
                    out.push(domain.clone());
                }
            }
        }
        out
    }
}

/// Whether two names, each maybe with a star at one end, can mean the same.
fn covers(a: &str, b: &str) -> bool {
    a == b || b == "*" || begins_as(a, b) || begins_as(b, a) || ends_as(a, b) || ends_as(b, a)
}

fn begins_as(text: &str, pattern: &str) -> bool {
    pattern.strip_suffix('*').is_some_and(|beginning| text.starts_with(beginning))
}

fn ends_as(text: &str, pattern: &str) -> bool {
    pattern.strip_prefix('*').is_some_and(|end| text.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principals_stand_for_their_aliases() {
        let domains = TrustDomains(vec!["td1".into(), "some-trust-domain".into()]);
        let replaced = |principal: &str| domains.replace_aliases(&[principal.into()]);
        assert_eq!(replaced("cluster.local/ns/a/sa/b"), ["td1/ns/a/sa/b", "some-trust-domain/ns/a/sa/b"]);
        assert_eq!(replaced("*-trust-domain/ns/a/sa/b"), ["td1/ns/a/sa/b", "*-trust-domain/ns/a/sa/b"]);
        assert_eq!(replaced("other/ns/a/sa/b"), ["other/ns/a/sa/b"]);
        assert_eq!(replaced("*/ns/a/sa/b"), ["*/ns/a/sa/b"]);
        assert_eq!(replaced("sa/b"), ["sa/b"]);
    }
}
