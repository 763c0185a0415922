//! How does Envoy's tool print a message?
//!
//! Protobuf's text format (`google::protobuf::TextFormat::PrintToString`): a field a line, in the order of the fields' numbers, messages
//! indented by two spaces, defaults left out where they say nothing. Invariant: what the reader has accepted is printed whole.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::fields::camel_case;
use super::schema::{Field, Kind, Label, Message};

/// A message that was read from JSON.
pub(super) fn print(value: &Value, message: &Message) -> String {
    let mut out = String::new();
    if let Value::Object(map) = value {
        fields(&mut out, map, message, 0);
    }
    out
}

fn fields(out: &mut String, map: &Map<String, Value>, message: &Message, depth: usize) {
    for entry in message.fields {
        let value = map.get(entry.name).or_else(|| map.get(&camel_case(entry.name)));
        match value {
            None | Some(Value::Null) => {}
            Some(Value::Array(values)) if entry.label == Label::Repeated => {
                for value in values {
                    field(out, value, entry, depth);
                }
            }
            Some(value) => field(out, value, entry, depth),
        }
    }
}

fn field(out: &mut String, value: &Value, field: &Field, depth: usize) {
    let indent = "  ".repeat(depth);
    let name = field.name;
    let inner = match &field.kind {
        Kind::Message(message) => Some((*message, value.as_object().cloned().unwrap_or_default())),
        Kind::Wrapper(message) => Some((*message, Map::from_iter([("value".to_owned(), value.clone())]))),
        Kind::Struct | Kind::Text | Kind::Bool | Kind::Integer | Kind::Number | Kind::Enum(_) => None,
    };
    if let Some((message, map)) = inner {
        let _ = writeln!(out, "{indent}{name} {{");
        fields(out, &map, message, depth + 1);
        let _ = writeln!(out, "{indent}}}");
        return;
    }
    // JSON may write a number as a text.
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let default = match &field.kind {
        Kind::Text => text.is_empty(),
        Kind::Bool => text == "false",
        Kind::Enum(names) => names.first().is_some_and(|first| *first == text),
        _ => text == "0",
    };
    if default && field.label == Label::Plain {
        return;
    }
    let _ = match &field.kind {
        Kind::Text => writeln!(out, "{indent}{name}: \"{}\"", escaped(&text)),
        _ => writeln!(out, "{indent}{name}: {text}"),
    };
}

/// A text as C++ writes it: `absl::CEscape`.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b'"' | b'\'' | b'\\' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            b' '..=b'~' => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "\\{byte:03o}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::schema::ROUTE_MATCH;
    use super::*;

    #[test]
    fn fields_come_in_the_order_of_their_numbers() {
        let value = serde_json::json!({
            "dynamicMetadata": [{"path": [{"key": "k"}], "filter": "f", "value": {"present_match": true}}],
            "runtime_fraction": {"runtime_key": "r", "default_value": {"denominator": "HUNDRED", "numerator": "30"}},
            "grpc": {},
            "headers": [
                {"string_match": {"safe_regex": {"regex": "a\\d\u{e9}'"}, "ignore_case": false}, "name": "x", "invert_match": true},
                {"name": "y", "present_match": false},
            ],
            "case_sensitive": false,
            "prefix": "",
        });
        let expected = r#"prefix: ""
case_sensitive {
}
headers {
  name: "x"
  invert_match: true
  string_match {
    safe_regex {
      regex: "a\\d\303\251\'"
    }
  }
}
headers {
  name: "y"
  present_match: false
}
grpc {
}
runtime_fraction {
  default_value {
    numerator: 30
  }
  runtime_key: "r"
}
dynamic_metadata {
  filter: "f"
  path {
    key: "k"
  }
  value {
    present_match: true
  }
}
"#;
        assert_eq!(print(&value, &ROUTE_MATCH), expected);
    }

    #[test]
    fn what_is_printed_is_read_again_as_it_was() {
        let value = serde_json::json!({"path": "/a\u{e9}\n\"", "case_sensitive": true});
        let text = print(&value, &ROUTE_MATCH);
        assert_eq!(super::super::text_format::read(&text, &ROUTE_MATCH).unwrap(), value);
    }
}
