//! How is a message of Envoy's API read from JSON?
//!
//! Names are taken in Envoy's spelling and in JSON's (`virtual_hosts`, `virtualHosts`). Invariant: a field that nobody asks for is an
//! error of [`Fields::finish`], so nothing is passed over in silence.

use serde_json::{Map, Value};
use smol_str::SmolStr;

use super::RouterCheckError;

/// The fields of a message that have not been read yet.
pub(super) struct Fields {
    path: String,
    map: Map<String, Value>,
}

/// The name as protobuf's JSON mapping spells it.
pub(super) fn camel_case(name: &str) -> String {
    let mut parts = name.split('_');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut letters = part.chars();
        out.extend(letters.next().map(|c| c.to_ascii_uppercase()));
        out.push_str(letters.as_str());
    }
    out
}

/// Base64 in both alphabets, with padding or without, as protobuf reads it.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let (mut out, mut bits, mut held) = (Vec::new(), 0_u32, 0_u32);
    for byte in text.trim_end_matches('=').bytes() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        (bits, held) = ((bits << 6) | u32::from(digit), held + 6);
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    Some(out)
}

impl Fields {
    /// A message at `path` of the file.
    pub(super) fn new(path: impl Into<String>, value: Value) -> Result<Self, RouterCheckError> {
        let path = path.into();
        match value {
            Value::Object(map) => Ok(Self { path, map }),
            Value::Null => Ok(Self { path, map: Map::new() }),
            _ => Err(RouterCheckError::WrongType { field: path, expected: "a message" }),
        }
    }

    /// The path of a field.
    pub(super) fn at(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// The path of the message.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The value of a field.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        let value = self.map.shift_remove(name).or_else(|| self.map.shift_remove(&camel_case(name)));
        value.filter(|value| !value.is_null())
    }

    fn wrong<T>(&self, name: &str, expected: &'static str) -> Result<T, RouterCheckError> {
        Err(RouterCheckError::WrongType { field: self.at(name), expected })
    }

    /// A text.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<SmolStr>, RouterCheckError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.into())),
            Some(_) => self.wrong(name, "a text"),
        }
    }

    /// A text that has to be there.
    pub(super) fn required(&mut self, name: &'static str) -> Result<SmolStr, RouterCheckError> {
        match self.text(name)? {
            Some(text) if !text.is_empty() => Ok(text),
            _ => Err(RouterCheckError::Missing { field: self.at(name) }),
        }
    }

    /// A truth value.
    pub(super) fn boolean(&mut self, name: &str) -> Result<Option<bool>, RouterCheckError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(_) => self.wrong(name, "true or false"),
        }
    }

    /// A number, also as a text, as protobuf writes long ones.
    pub(super) fn integer(&mut self, name: &str) -> Result<Option<i64>, RouterCheckError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = match &value {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        number.map_or_else(|| self.wrong(name, "a number"), |number| Ok(Some(number)))
    }

    /// A number with a fraction.
    pub(super) fn number(&mut self, name: &str) -> Result<Option<f64>, RouterCheckError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = match &value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        number.map_or_else(|| self.wrong(name, "a number"), |number| Ok(Some(number)))
    }

    /// Bytes, which JSON writes in base64; those that are no text become replacement characters.
    pub(super) fn bytes(&mut self, name: &str) -> Result<Option<SmolStr>, RouterCheckError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match decode_base64(&text) {
            Some(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into())),
            None => self.wrong(name, "bytes in base64"),
        }
    }

    /// A number without sign that fits.
    pub(super) fn unsigned<T: TryFrom<i64>>(&mut self, name: &str) -> Result<Option<T>, RouterCheckError> {
        match self.integer(name)?.map(T::try_from) {
            None => Ok(None),
            Some(Ok(number)) => Ok(Some(number)),
            Some(Err(_)) => self.wrong(name, "a number in range"),
        }
    }

    /// A message.
    pub(super) fn message(&mut self, name: &str) -> Result<Option<Self>, RouterCheckError> {
        let path = self.at(name);
        self.take(name).map(|value| Self::new(path, value)).transpose()
    }

    /// The values of a list, with their paths.
    pub(super) fn list(&mut self, name: &str) -> Result<Vec<(String, Value)>, RouterCheckError> {
        let path = self.at(name);
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(values)) => Ok(values
                .into_iter()
                .enumerate()
                .map(|(index, value)| (format!("{path}[{index}]"), value))
                .collect()),
            Some(_) => self.wrong(name, "a list"),
        }
    }

    /// The messages of a list, each read by `read`.
    pub(super) fn messages<T>(
        &mut self,
        name: &str,
        read: impl Fn(Self) -> Result<T, RouterCheckError>,
    ) -> Result<Vec<T>, RouterCheckError> {
        let values = self.list(name)?;
        values.into_iter().map(|(path, value)| read(Self::new(path, value)?)).collect()
    }

    /// The texts of a list.
    pub(super) fn texts(&mut self, name: &str) -> Result<Vec<SmolStr>, RouterCheckError> {
        self.list(name)?
            .into_iter()
            .map(|(field, value)| match value {
                Value::String(text) => Ok(text.into()),
                _ => Err(RouterCheckError::WrongType { field, expected: "a text" }),
            })
            .collect()
    }

    /// Fields that do not matter to the question: they are there or not, and what is in them is not looked at.
    pub(super) fn pass_over(&mut self, names: &[&str]) {
        for name in names {
            self.take(name);
        }
    }

    /// The end of the message: what was not read is not supported.
    pub(super) fn finish(mut self) -> Result<(), RouterCheckError> {
        self.map.retain(|_, value| !value.is_null());
        match self.map.keys().next() {
            None => Ok(()),
            Some(name) => Err(RouterCheckError::Unsupported { field: self.at(name) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_read_and_the_rest_is_an_error() {
        let value = serde_json::json!({"virtualHosts": [], "require_tls": "ALL", "vhds": {}});
        let mut fields = Fields::new("a", value).unwrap();
        assert!(fields.take("virtual_hosts").is_some());
        assert_eq!(fields.text("require_tls").unwrap().unwrap(), "ALL");
        assert_eq!(fields.finish(), Err(RouterCheckError::Unsupported { field: "a.vhds".into() }));
    }

    #[test]
    fn bytes_are_read_in_both_alphabets() {
        for (text, expected) in [("Yg==", Some("b")), ("aGk", Some("hi")), ("", Some("")), ("a!", None)] {
            let mut fields = Fields::new("", serde_json::json!({"a": text})).unwrap();
            assert_eq!(fields.bytes("a").ok().flatten().as_deref(), expected, "{text}");
        }
        assert_eq!(decode_base64("-_-_"), decode_base64("+/+/"));
    }

    #[test]
    fn a_wrong_type_names_the_field() {
        let mut fields = Fields::new("", serde_json::json!({"a": {"b": 1}})).unwrap();
        let mut inner = fields.message("a").unwrap().unwrap();
        let error = inner.text("b").unwrap_err();
        assert_eq!(error.to_string(), "a.b: a text is expected");
    }
}
