//! Which names of a set cover a host?
//!
//! An index over exact and wildcard names. Invariant: a look-up costs the length of the host, never the size of the
//! set; entries of one name keep the order in which they were put in.

use rustc_hash::FxHashMap;
use smol_str::SmolStr;

/// Numbered entries by host name.
#[derive(Clone, Debug, Default)]
pub struct HostIndex {
    exact: FxHashMap<SmolStr, Vec<u32>>,
    /// By what follows the `*`.
    wildcard: FxHashMap<SmolStr, Vec<u32>>,
}

impl HostIndex {
    /// Puts `entry` under `host`, which may start with `*`.
    pub fn insert(&mut self, host: &str, entry: u32) {
        let list = match host.strip_prefix('*') {
            Some(suffix) => self.wildcard.entry(suffix.into()).or_default(),
            None => self.exact.entry(host.into()).or_default(),
        };
        if list.last() != Some(&entry) {
            list.push(entry);
        }
    }

    /// The entries under exactly this name, which may start with `*`.
    pub fn named(&self, host: &str) -> &[u32] {
        let list = match host.strip_prefix('*') {
            Some(suffix) => self.wildcard.get(suffix),
            None => self.exact.get(host),
        };
        list.map_or(&[], Vec::as_slice)
    }

    /// The entries under wildcard names that cover `host`, longest name first.
    pub fn covering<'a>(&'a self, host: &'a str) -> impl Iterator<Item = (&'a str, &'a [u32])> {
        let needle = host.strip_prefix('*').unwrap_or(host);
        let none = self.wildcard.is_empty();
        suffixes(needle)
            .take_while(move |_| !none)
            .filter_map(|suffix| self.wildcard.get(suffix).map(|list| (suffix, list.as_slice())))
    }

    /// The entry of the most specific name for `host`: the name itself, else the longest wildcard.
    ///
    /// istiod: `config.go: MostSpecificHostMatch`.
    pub fn most_specific(&self, host: &str) -> Option<u32> {
        self.named(host)
            .first()
            .copied()
            .or_else(|| self.covering(host).find_map(|(_, list)| list.first().copied()))
    }

    /// Whether there is no wildcard name.
    pub fn has_wildcards(&self) -> bool {
        !self.wildcard.is_empty()
    }
}

/// The longest name of a host that istiod takes. istiod: `validation/agent: ValidateFQDN`.
const LONGEST_NAME: usize = 255;

/// `text` and every part at its end, down to the empty one; those that are longer than a name can be are left out, so that the work for
/// an absurd host is bounded.
pub fn suffixes(text: &str) -> impl Iterator<Item = &str> {
    let from = text.len().saturating_sub(LONGEST_NAME);
    (from..=text.len()).filter_map(|i| text.get(i..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_is_longer_than_a_name() {
        assert_eq!(suffixes("abc").collect::<Vec<_>>(), ["abc", "bc", "c", ""]);
        assert_eq!(suffixes("é.c").collect::<Vec<_>>(), ["é.c", ".c", "c", ""]);
        let long = "a".repeat(50_000);
        assert_eq!(suffixes(&long).map(str::len).collect::<Vec<_>>(), (0..=255).rev().collect::<Vec<_>>());
    }

    #[test]
    fn the_name_itself_is_more_specific_than_a_wildcard() {
        let mut index = HostIndex::default();
        index.insert("*.com", 0);
        index.insert("*.b.com", 1);
        index.insert("a.b.com", 2);
        assert_eq!(index.most_specific("a.b.com"), Some(2));
        assert_eq!(index.most_specific("c.b.com"), Some(1));
        assert_eq!(index.most_specific("b.com"), Some(0));
        assert_eq!(index.most_specific("*.c.b.com"), Some(1));
        assert_eq!(index.most_specific("b.org"), None);
    }
}
