//! Which bytes may stand where in a request?
//!
//! Tables, since every byte of every request is asked about. Envoy: `http/character_set_validation.h`, `header_utility.cc`.
//! Measured with Envoy 1.40.

/// A set of bytes.
pub(super) struct Class([bool; 256]);

/// Bytes of methods and of headers' names.
pub(super) static TOKEN: Class = LOWER_TOKEN.and(b'A', b'Z');

/// Bytes of headers' names as Envoy keeps them.
const LOWER_TOKEN: Class = Class::NONE.and(b'a', b'z').and(b'0', b'9').and_all(b"!#$%&'*+-.^_`|~");

/// Bytes of hosts with their ports.
pub(super) static AUTHORITY: Class =
    Class::NONE.and(b'a', b'z').and(b'A', b'Z').and(b'0', b'9').and_all(b"-._~%!$&'()*+,;=:[]@");

/// Bytes that no part of a request may have; what is white space to the parser is not among them.
pub(super) static CONTROL: Class = Class::NONE.and(0, 0x08).and(0x0b, 0x0c).and(0x0e, 0x1f).and(0x7f, 0x7f);

/// Bytes of a target: ASCII without white space.
pub(super) static TARGET: Class = Class::NONE.and(0, 0x08).and(0x0b, 0x0b).and(0x0e, 0x1f).and(0x21, 0x7f);

/// Whether the codec takes a header line and leaves it as it is, whatever else is in the request; most lines are such.
pub(super) fn is_ordinary(name: &str, value: &str) -> bool {
    static NAME: Class = LOWER_TOKEN;
    static VALUE: Class = Class::NONE.and(b' ', b'~');
    let blank = |byte: Option<&u8>| byte == Some(&b' ');
    let (first, last) = (value.as_bytes().first(), value.as_bytes().last());
    !name.is_empty() && NAME.holds_all(name) && VALUE.holds_all(value) && !blank(first) && !blank(last)
}

impl Class {
    const NONE: Self = Self([false; 256]);

    /// The set with a range of bytes, ends included.
    // The compiler runs this: an index out of range would be no panic, but no program.
    #[allow(clippy::indexing_slicing)]
    const fn and(mut self, first: u8, last: u8) -> Self {
        let mut byte = first as usize;
        while byte <= last as usize {
            self.0[byte] = true;
            byte += 1;
        }
        self
    }

    /// The set with some bytes.
    #[allow(clippy::indexing_slicing)]
    const fn and_all(mut self, bytes: &[u8]) -> Self {
        let mut at = 0;
        while at < bytes.len() {
            self.0[bytes[at] as usize] = true;
            at += 1;
        }
        self
    }

    /// Whether a byte is in the set.
    pub(super) fn holds(&self, byte: u8) -> bool {
        self.0.get(usize::from(byte)).is_some_and(|held| *held)
    }

    /// Whether all bytes of a text are in the set.
    pub(super) fn holds_all(&self, text: &str) -> bool {
        text.bytes().all(|byte| self.holds(byte))
    }

    /// Whether any byte of a text is in the set.
    pub(super) fn holds_any(&self, text: &str) -> bool {
        text.bytes().any(|byte| self.holds(byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codec_would_change_nothing_in_an_ordinary_line() {
        let mut ordinary = 0;
        for byte in (0..=0x7f).map(char::from) {
            for (name, value) in [
                (format!("x{byte}y"), "a b".to_owned()),
                ("x-y".to_owned(), format!("{byte}a")),
                ("x-y".to_owned(), format!("a{byte}b")),
                ("x-y".to_owned(), format!("a{byte}")),
            ] {
                if !is_ordinary(&name, &value) {
                    continue;
                }
                ordinary += 1;
                assert!(TOKEN.holds_all(&name) && name == name.to_lowercase(), "{name:?}");
                assert!(!CONTROL.holds_any(&value) && !value.contains(['\t', '\r', '\n']), "{value:?}");
                assert_eq!(value.trim(), value);
            }
        }
        // 51 bytes of names, and 95 of values, one less at either end.
        assert_eq!(ordinary, 51 + 94 + 95 + 94);
        assert!(!is_ordinary("", "a"));
    }
}
