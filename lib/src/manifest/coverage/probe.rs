//! Which fields does a schema have?
//!
//! A deserializer without input: it hands every field that a type asks for a value of the type that it asks for, and
//! writes down the names. So the list cannot miss a field that the reader knows.

use std::cell::RefCell;

use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};

use super::Field;
use crate::manifest::schema::scalar::ONEOF;

/// Reads nothing at `path` and collects fields.
pub(super) struct Probe<'p> {
    pub(super) path: String,
    pub(super) out: &'p RefCell<Vec<Field>>,
}

/// A type that asks for what no schema asks for.
#[derive(Debug)]
pub(super) struct ProbeError;

impl std::fmt::Display for ProbeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a type that no schema has")
    }
}

impl std::error::Error for ProbeError {}

impl de::Error for ProbeError {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Self
    }
}

macro_rules! numbers {
    ($($name:ident $visit:ident,)+) => { $(fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ProbeError> { visitor.$visit(0_u8.into()) })+ };
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = ProbeError;

    /// Enums and ports take numbers.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ProbeError> {
        visitor.visit_u64(0)
    }

    numbers! {
        deserialize_i8 visit_i64, deserialize_i16 visit_i64, deserialize_i32 visit_i64, deserialize_i64 visit_i64,
        deserialize_u8 visit_u64, deserialize_u16 visit_u64, deserialize_u32 visit_u64, deserialize_u64 visit_u64,
        deserialize_f32 visit_f64, deserialize_f64 visit_f64,
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ProbeError> {
        visitor.visit_bool(false)
    }

    /// Also a duration.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ProbeError> {
        visitor.visit_str("0")
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ProbeError> {
        visitor.visit_str("0")
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ProbeError> {
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ProbeError> {
        visitor.visit_seq(One { path: format!("{}[]", self.path), out: self.out, left: true })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ProbeError> {
        visitor.visit_map(Keys { path: self.path, out: self.out, fields: &["*"], next: 0, written: true })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ProbeError> {
        if !name.starts_with(ONEOF) {
            return visitor.visit_map(Keys {
                path: self.path,
                out: self.out,
                fields,
                next: 0,
                written: false,
            });
        }
        // Only one member may be set; members of oneofs are scalars.
        for field in fields {
            let path = format!("{}.{field}", self.path);
            self.out.borrow_mut().push(Field { path, read: true });
        }
        visitor.visit_map(Keys { path: self.path, out: self.out, fields: &[], next: 0, written: true })
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ProbeError> {
        if let Some(field) = self.out.borrow_mut().iter_mut().rev().find(|field| field.path == self.path) {
            field.read = false;
        }
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ProbeError> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct enum identifier
    }
}

/// A list of one element.
struct One<'p> {
    path: String,
    out: &'p RefCell<Vec<Field>>,
    left: bool,
}

impl<'de> de::SeqAccess<'de> for One<'_> {
    type Error = ProbeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ProbeError> {
        if !std::mem::take(&mut self.left) {
            return Ok(None);
        }
        seed.deserialize(Probe { path: self.path.clone(), out: self.out }).map(Some)
    }
}

/// Every field of a struct, or the one key of a map.
struct Keys<'p> {
    path: String,
    out: &'p RefCell<Vec<Field>>,
    fields: &'static [&'static str],
    next: usize,
    /// Whether the fields are in the list already, or need not be.
    written: bool,
}

impl<'de> de::MapAccess<'de> for Keys<'_> {
    type Error = ProbeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ProbeError> {
        // No field has an underscore: it is another spelling of one that is listed.
        while self.fields.get(self.next).is_some_and(|field| field.contains('_')) {
            self.next += 1;
        }
        match self.fields.get(self.next) {
            Some(field) => seed.deserialize((*field).into_deserializer()).map(Some),
            None => Ok(None),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ProbeError> {
        let field = self.fields.get(self.next).copied().unwrap_or_default();
        self.next += 1;
        let dot = if self.path.is_empty() { "" } else { "." };
        let path = format!("{}{dot}{field}", self.path);
        if !self.written {
            self.out.borrow_mut().push(Field { path: path.clone(), read: true });
        }
        seed.deserialize(Probe { path, out: self.out })
    }
}
