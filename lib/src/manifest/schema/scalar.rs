//! How are durations, enums and other scalars of proto-JSON written?
//!
//! Source: Istio reads custom resources with jsonpb, which takes Go's duration syntax and enums by name or number.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use smol_str::SmolStr;

/// A field that is known but has no effect on routing; its value is skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ignored;

impl<'de> Deserialize<'de> for Ignored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        de::IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// A field whose value is kept as it is written, since its schema is another program's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verbatim(pub serde_json::Value);

impl<'de> Deserialize<'de> for Verbatim {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde_json::Value::deserialize(deserializer).map(Self)
    }
}

/// A duration in nanoseconds, written as Go writes durations (`1h30m`, `10s`, `250ms`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(pub i64);

impl Duration {
    /// The duration, with negative ones as zero.
    pub fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }

    /// Parses Go's `time.ParseDuration` syntax.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest == "0" {
            return Some(Self(0));
        }
        if rest.is_empty() {
            return None;
        }
        let mut total: f64 = 0.0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
            let (number, tail) = rest.split_at_checked(digits)?;
            let number: f64 = if number == "." { return None } else { number.parse().ok()? };
            let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
            let (unit, after) = tail.split_at_checked(end)?;
            let scale = match unit {
                "ns" => 1.0,
                "us" | "µs" | "μs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                _ => return None,
            };
            total += number * scale;
            rest = after;
        }
        if total > 9.2e18 {
            return None;
        }
        let nanos = total.round() as i64;
        Some(Self(if negative { -nanos } else { nanos }))
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = Duration;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"10s\"")
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Duration, E> {
                Duration::parse(v).ok_or_else(|| E::invalid_value(de::Unexpected::Str(v), &self))
            }
        }
        deserializer.deserialize_str(V)
    }
}

/// A port by number or by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum IntOrString {
    /// A number.
    Int(i64),
    /// A name.
    String(SmolStr),
}

impl<'de> Deserialize<'de> for IntOrString {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = IntOrString;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer or a string")
            }
            fn visit_i64<E: de::Error>(self, v: i64) -> Result<IntOrString, E> {
                Ok(IntOrString::Int(v))
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<IntOrString, E> {
                i64::try_from(v)
                    .map(IntOrString::Int)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(v), &self))
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<IntOrString, E> {
                Ok(IntOrString::String(v.into()))
            }
        }
        deserializer.deserialize_any(V)
    }
}

/// Declares a proto enum that is read by name or number; the first variant is the proto's zero.
macro_rules! proto_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $number:literal $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$vmeta])* #[doc = concat!("`", $text, "`.")] $variant,)+
        }

        impl $name {
            /// The proto's name of the value.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str(self.as_str()) }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct V;
                impl serde::de::Visitor<'_> for V {
                    type Value = $name;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str(concat!("one of" $(, " ", $text)+))
                    }
                    fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<$name, E> {
                        match v {
                            $($text => Ok($name::$variant),)+
                            _ => Err(E::unknown_variant(v, &[$($text),+])),
                        }
                    }
                    fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<$name, E> {
                        match v {
                            $($number => Ok($name::$variant),)+
                            _ => Err(E::unknown_variant(&v.to_string(), &[$($text),+])),
                        }
                    }
                    fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<$name, E> {
                        match u64::try_from(v) {
                            Ok(v) => self.visit_u64(v),
                            Err(_) => Err(E::unknown_variant(&v.to_string(), &[$($text),+])),
                        }
                    }
                }
                deserializer.deserialize_any(V)
            }
        }
    };
}
pub(crate) use proto_enum;

/// Declares structs with the fields of an API type: camelCase names, all of them optional in the text.
macro_rules! schema {
    ($($(#[$meta:meta])* $name:ident { $($(#[$fmeta:meta])* $field:ident: $type:ty),* $(,)? })+) => {
        $(
            $(#[$meta])*
            #[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
            #[serde(rename_all = "camelCase", default)]
            pub struct $name {
                $($(#[$fmeta])* #[doc = concat!("The API's field of the name `", stringify!($field), "`.")] pub $field: $type,)*
            }
        )+
    };
}
pub(crate) use schema;

/// What the name of a oneof's type begins with, as deserializers see it.
pub(crate) const ONEOF: &str = "oneof ";

/// Declares a oneof: an enum whose members are fields of a mapping, of which at most one may be set.
macro_rules! oneof {
    ($(#[$meta:meta])* $name:ident { $($variant:ident($type:ty) = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub enum $name {
            /// No member is set.
            #[default]
            Unset,
            $(#[doc = concat!("`", $text, "`.")] $variant($type),)+
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct V;
                impl<'de> serde::de::Visitor<'de> for V {
                    type Value = $name;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str(concat!("a mapping with one of" $(, " ", $text)+))
                    }
                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<$name, A::Error> {
                        let mut found = $name::Unset;
                        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
                            let next = match key.as_ref() {
                                $($text => map.next_value::<Option<$type>>()?.map($name::$variant),)+
                                _ => { map.next_value::<serde::de::IgnoredAny>()?; None }
                            };
                            if let Some(next) = next {
                                if found != $name::Unset {
                                    return Err(serde::de::Error::custom(concat!("oneof: of" $(, " \"", $text, "\"")+, " only one may be set")));
                                }
                                found = next;
                            }
                        }
                        Ok(found)
                    }
                }
                deserializer.deserialize_struct(concat!("oneof ", stringify!($name)), &[$($text),+], V)
            }
        }
    };
}
pub(crate) use oneof;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, nanos) in
            [("10s", 10e9), ("1h30m", 5400e9), ("250ms", 250e6), ("0", 0.0), ("-1.5s", -1.5e9), ("1us", 1e3)]
        {
            assert_eq!(Duration::parse(text), Some(Duration(nanos as i64)), "{text}");
        }
        for text in ["", "10", "s", "1d", ".s", "1s2", "--1s"] {
            assert_eq!(Duration::parse(text), None, "{text}");
        }
    }
}
