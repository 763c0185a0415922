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

/// A duration, in seconds with as many digits as it needs.
pub(super) fn duration(value: Duration) -> Value {
    let nanos = value.subsec_nanos();
    if nanos == 0 {
        return format!("{}s", value.as_secs()).into();
    }
    let fraction = format!("{nanos:09}");
    format!("{}.{}s", value.as_secs(), fraction.trim_end_matches('0')).into()
}

/// A list of texts.
pub(super) fn texts<T: AsRef<str>>(list: &[T]) -> Value {
    list.iter().map(AsRef::as_ref).collect()
}

/// A share in millionths.
pub(super) fn millionths(numerator: u32) -> Value {
    serde_json::json!({"numerator": numerator, "denominator": "MILLION"})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_the_digits_they_need() {
        assert_eq!(duration(Duration::ZERO), "0s");
        assert_eq!(duration(Duration::from_millis(1500)), "1.5s");
        assert_eq!(duration(Duration::from_micros(25)), "0.000025s");
    }
}
