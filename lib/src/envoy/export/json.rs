//! How are protocol buffers written as JSON?

use std::time::Duration;

use serde_json::{Map, Value};

/// An object whose fields stand in the order they were set; what is empty is not written.
#[derive(Debug, Default)]
pub(super) struct Object(Map<String, Value>);

impl Object {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// An object of a named type (`google.protobuf.Any`).
    pub(super) fn typed(type_url: &str) -> Self {
        let mut out = Self::new();
        out.set("@type", type_url);
        out
    }

    /// Sets a field.
    pub(super) fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// Sets a field unless it has the default value of its type.
    pub(super) fn set_nonempty(&mut self, name: &str, value: impl Into<Value>) {
        let value = value.into();
        let empty = match &value {
            Value::Null => true,
            Value::Bool(on) => !on,
            Value::Number(number) => number.as_f64() == Some(0.0),
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(fields) => fields.is_empty(),
        };
        if !empty {
            self.0.insert(name.to_owned(), value);
        }
    }

    /// Sets a field that is there.
    pub(super) fn set_some<T: Into<Value>>(&mut self, name: &str, value: Option<T>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    /// Sets a field that nobody set.
    pub(super) fn set_if_absent(&mut self, name: &str, value: impl Into<Value>) {
        if !self.0.contains_key(name) {
            self.set(name, value);
        }
    }

    /// A field, to be changed.
    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut Value> {
        self.0.get_mut(name)
    }

    /// Takes the fields of another object.
    pub(super) fn extend(&mut self, fields: Map<String, Value>) {
        self.0.extend(fields);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        Self::Object(object.0)
    }
}

/// A duration, in seconds with none, three, six or nine digits behind the point, as protocol buffers print it.
pub(super) fn duration(value: Duration) -> Value {
    let (seconds, nanos) = (value.as_secs(), value.subsec_nanos());
    match nanos {
        0 => format!("{seconds}s"),
        _ if nanos % 1_000_000 == 0 => format!("{seconds}.{:03}s", nanos / 1_000_000),
        _ if nanos % 1_000 == 0 => format!("{seconds}.{:06}s", nanos / 1_000),
        _ => format!("{seconds}.{nanos:09}s"),
    }
    .into()
}

/// A number, without a point where it is whole.
pub(super) fn number(value: f64) -> Value {
    if value.fract() == 0.0 { (value as i64).into() } else { value.into() }
}

/// A list of texts.
pub(super) fn texts<T: AsRef<str>>(list: &[T]) -> Value {
    list.iter().map(AsRef::as_ref).collect()
}

/// A number of 64 bits, which JSON has as text.
pub(super) fn wide(value: impl Into<u64>) -> Value {
    value.into().to_string().into()
}

/// `type.v3.Percent`.
pub(super) fn percent(value: impl Into<f64>) -> Value {
    let mut out = Object::new();
    out.set_nonempty("value", number(value.into()));
    out.into()
}

/// A share in millionths.
pub(super) fn millionths(numerator: u32) -> Value {
    let mut out = Object::new();
    out.set_nonempty("numerator", numerator);
    out.set("denominator", "MILLION");
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_their_digits_in_groups_of_three() {
        assert_eq!(duration(Duration::ZERO), "0s");
        assert_eq!(duration(Duration::from_millis(1500)), "1.500s");
        assert_eq!(duration(Duration::from_micros(25)), "0.000025s");
        assert_eq!(duration(Duration::from_nanos(25)), "0.000000025s");
    }
}
