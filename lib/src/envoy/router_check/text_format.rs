//! How is a message read that is written as protobuf text?
//!
//! [The format](https://protobuf.dev/reference/protobuf/textformat-spec/), as far as the messages of [`schema`](super::schema) use it. What
//! comes out is the message as protobuf's JSON mapping has it, so that it is understood in one place. Invariant: an error says line and
//! column.

use serde_json::{Map, Value};

use super::RouterCheckError;
use super::schema::{self, Field, Kind, Label, Message};

/// How deep messages may be in each other; protobuf's own limit.
const DEPTH: usize = 100;

/// Reads a message of a type.
pub(super) fn read(text: &str, message: &'static Message) -> Result<Value, RouterCheckError> {
    let mut reader = Reader { text, position: 0, depth: 0 };
    reader.space();
    let mut out = Map::new();
    while !reader.rest().is_empty() {
        reader.field(message, &mut out)?;
    }
    Ok(Value::Object(out))
}

/// A text on its way.
struct Reader<'a> {
    text: &'a str,
    /// Where the rest begins: always at a token, or at the end.
    position: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.position..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// An error at a place.
    fn error_at<T>(&self, position: usize, reason: impl std::fmt::Display) -> Result<T, RouterCheckError> {
        let before = self.text.get(..position).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Err(RouterCheckError::Syntax { reason: format!("{line}:{column}: {reason}") })
    }

    /// An error at the next token.
    fn error<T>(&self, reason: impl std::fmt::Display) -> Result<T, RouterCheckError> {
        self.error_at(self.position, reason)
    }

    /// Skips spaces and comments.
    fn space(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
            self.position += rest.len() - trimmed.len();
            if !trimmed.starts_with('#') {
                return;
            }
            self.position += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    /// Takes a sign, if it is the next token.
    fn takes(&mut self, sign: char) -> bool {
        let there = self.peek() == Some(sign);
        if there {
            self.position += sign.len_utf8();
            self.space();
        }
        there
    }

    /// Takes the next token of such characters.
    fn token(&mut self, fits: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !fits(c)).unwrap_or(rest.len());
        self.position += end;
        self.space();
        rest.get(..end).unwrap_or_default()
    }

    fn identifier(&mut self) -> &'a str {
        if self.peek().is_some_and(|c| c.is_ascii_digit()) {
            return "";
        }
        self.token(|c| c.is_ascii_alphanumeric() || c == '_')
    }

    /// A field with its value, into the message it belongs to.
    fn field(
        &mut self,
        message: &'static Message,
        out: &mut Map<String, Value>,
    ) -> Result<(), RouterCheckError> {
        let start = self.position;
        let name = self.identifier();
        if name.is_empty() {
            return self.error("the name of a field is expected");
        }
        let Some(field) = message.fields.iter().find(|field| field.name == name) else {
            return self.error_at(
                start,
                format_args!("{} has no field {name}, or it is not supported", message.name),
            );
        };
        let colon = self.takes(':');
        let values = self.values(field, colon)?;
        // Fields may be parted.
        if !self.takes(',') {
            self.takes(';');
        }
        if field.label == Label::Repeated {
            let list = out.entry(name).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(list) = list {
                list.extend(values);
            }
            return Ok(());
        }
        for value in values {
            if out.insert(name.to_owned(), value).is_some() {
                return self.error_at(start, format_args!("the field {name} is there twice"));
            }
        }
        Ok(())
    }

    /// The value of a field, or the list of its values.
    fn values(&mut self, field: &'static Field, colon: bool) -> Result<Vec<Value>, RouterCheckError> {
        if field.label != Label::Repeated || self.peek() != Some('[') {
            return Ok(vec![self.value(field, colon)?]);
        }
        self.takes('[');
        let mut out = Vec::new();
        if self.takes(']') {
            return Ok(out);
        }
        loop {
            out.push(self.value(field, colon)?);
            if self.takes(']') {
                return Ok(out);
            }
            if !self.takes(',') {
                return self.error("\",\" or \"]\" is expected");
            }
        }
    }

    fn value(&mut self, field: &'static Field, colon: bool) -> Result<Value, RouterCheckError> {
        match &field.kind {
            Kind::Message(message) => self.message(message),
            Kind::Wrapper(message) => {
                let scalar = message.fields.first();
                let inner = self.message(message)?;
                let value = inner.get("value").cloned();
                Ok(value.unwrap_or_else(|| scalar.map_or(Value::Null, |field| default(&field.kind))))
            }
            Kind::Struct => Ok(structure(&self.message(&schema::STRUCT)?)),
            _ if !colon => self.error("\":\" is expected"),
            Kind::Text => self.string().map(Value::String),
            Kind::Bool => {
                let start = self.position;
                match self.token(|c| c.is_ascii_alphanumeric()) {
                    "true" | "True" | "t" | "1" => Ok(Value::Bool(true)),
                    "false" | "False" | "f" | "0" => Ok(Value::Bool(false)),
                    _ => self.error_at(start, "true or false is expected"),
                }
            }
            Kind::Integer => self.integer(),
            Kind::Number => self.number(),
            Kind::Enum(names) => {
                let start = self.position;
                let name = self.identifier();
                let place = if name.is_empty() { self.integer()?.as_u64() } else { None };
                let found = match place.and_then(|place| usize::try_from(place).ok()) {
                    Some(place) => names.get(place),
                    None => names.iter().find(|known| **known == name),
                };
                match found {
                    Some(name) => Ok(Value::String((*name).to_owned())),
                    None => self.error_at(start, format_args!("one of {} is expected", names.join(", "))),
                }
            }
        }
    }

    fn message(&mut self, message: &'static Message) -> Result<Value, RouterCheckError> {
        let end = match self.peek() {
            Some('{') => '}',
            Some('<') => '>',
            _ => return self.error("\"{\" is expected"),
        };
        if self.depth == DEPTH {
            return self.error(format_args!("messages are more than {DEPTH} deep in each other"));
        }
        self.depth += 1;
        self.position += 1;
        self.space();
        let mut out = Map::new();
        while !self.takes(end) {
            if self.rest().is_empty() {
                return self.error(format_args!("\"{end}\" is expected"));
            }
            self.field(message, &mut out)?;
        }
        self.depth -= 1;
        Ok(Value::Object(out))
    }

    fn integer(&mut self) -> Result<Value, RouterCheckError> {
        let start = self.position;
        let negative = self.takes('-');
        let token = self.token(|c| c.is_ascii_alphanumeric());
        let number = if let Some(digits) = token.strip_prefix("0x").or_else(|| token.strip_prefix("0X")) {
            u64::from_str_radix(digits, 16)
        } else if token.len() > 1 && token.starts_with('0') {
            u64::from_str_radix(token, 8)
        } else {
            token.parse()
        };
        let signed = |number: u64| i64::try_from(-i128::from(number)).ok();
        match number {
            Ok(number) if !negative => Ok(number.into()),
            Ok(number) if signed(number).is_some() => Ok(signed(number).into()),
            _ => self.error_at(start, "a whole number is expected"),
        }
    }

    fn number(&mut self) -> Result<Value, RouterCheckError> {
        let start = self.position;
        let token = self.token(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.'));
        let digits = token.strip_suffix(['f', 'F']).unwrap_or(token);
        match digits.parse::<f64>().ok().and_then(serde_json::Number::from_f64) {
            Some(number) => Ok(Value::Number(number)),
            None => self.error_at(start, "a number is expected"),
        }
    }

    /// A text: one or more literals, one behind the other.
    fn string(&mut self) -> Result<String, RouterCheckError> {
        let start = self.position;
        let mut out = Vec::new();
        while let Some(quote @ ('"' | '\'')) = self.peek() {
            self.literal(quote, &mut out)?;
        }
        if self.position == start {
            return self.error("a text in quotes is expected");
        }
        String::from_utf8(out).or_else(|_| self.error_at(start, "the text is not UTF-8"))
    }

    fn literal(&mut self, quote: char, out: &mut Vec<u8>) -> Result<(), RouterCheckError> {
        let start = self.position;
        let mut escaped = true;
        let end = self.rest().find(|c| {
            let ends = !escaped && c == quote || c == '\n';
            // The opening quote counts as escaped.
            escaped = !escaped && c == '\\';
            ends
        });
        let Some(raw) = end
            .and_then(|end| self.rest().get(1..end))
            .filter(|raw| self.rest().get(1 + raw.len()..).is_some_and(|after| after.starts_with(quote)))
        else {
            return self.error("the text does not end on its line");
        };
        let mut rest = raw;
        while let Some((before, after)) = rest.split_once('\\') {
            out.extend_from_slice(before.as_bytes());
            let Some(used) = escape(after, out) else {
                let escape = start + 1 + raw.len() - after.len() - 1;
                return self.error_at(escape, "there is no such escape");
            };
            rest = after.get(used..).unwrap_or_default();
        }
        out.extend_from_slice(rest.as_bytes());
        self.position = start + raw.len() + 2;
        self.space();
        Ok(())
    }
}

/// What stands for an escape, without its backslash, and how long the escape is.
fn escape(text: &str, out: &mut Vec<u8>) -> Option<usize> {
    let first = text.chars().next()?;
    let character = |digits: usize| {
        let text = text.get(1..=digits).filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()))?;
        char::from_u32(u32::from_str_radix(text, 16).ok()?)
    };
    let byte = match first {
        'a' => 0x07,
        'b' => 0x08,
        'f' => 0x0c,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0b,
        '?' | '\\' | '\'' | '"' => u8::try_from(first).ok()?,
        '0'..='7' => {
            let length = text.bytes().take(3).take_while(|byte| (b'0'..=b'7').contains(byte)).count();
            out.push(u8::from_str_radix(text.get(..length)?, 8).ok()?);
            return Some(length);
        }
        'x' | 'X' => {
            let length = text.bytes().skip(1).take(2).take_while(u8::is_ascii_hexdigit).count();
            out.push(u8::from_str_radix(text.get(1..=length)?, 16).ok()?);
            return Some(length + 1);
        }
        'u' | 'U' => {
            let digits = if first == 'u' { 4 } else { 8 };
            out.extend_from_slice(character(digits)?.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(digits + 1);
        }
        _ => return None,
    };
    out.push(byte);
    Some(1)
}

/// The value of a scalar that is not there.
fn default(kind: &Kind) -> Value {
    match kind {
        Kind::Text => Value::String(String::new()),
        Kind::Bool => Value::Bool(false),
        Kind::Integer | Kind::Number => 0.into(),
        Kind::Enum(_) | Kind::Message(_) | Kind::Wrapper(_) | Kind::Struct => Value::Null,
    }
}

/// `google.protobuf.Struct` as an object.
fn structure(message: &Value) -> Value {
    let entries = message.get("fields").and_then(Value::as_array).into_iter().flatten();
    let pair = |entry: &Value| {
        let key = entry.get("key").and_then(Value::as_str).unwrap_or_default().to_owned();
        (key, entry.get("value").map_or(Value::Null, dynamic))
    };
    Value::Object(entries.map(pair).collect())
}

/// `google.protobuf.Value` as a value.
fn dynamic(message: &Value) -> Value {
    match message.as_object().and_then(|fields| fields.iter().next()) {
        None => Value::Null,
        Some((kind, value)) => match kind.as_str() {
            "struct_value" => structure(value),
            "list_value" => {
                let values = value.get("values").and_then(Value::as_array).into_iter().flatten();
                Value::Array(values.map(dynamic).collect())
            }
            "null_value" => Value::Null,
            _ => value.clone(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tests(text: &str) -> Result<Value, String> {
        read(text, &schema::VALIDATION).map_err(|error| error.to_string())
    }

    #[test]
    fn every_form_of_the_format_is_read() {
        let text = r#"
            # Both brackets, with and without colon.
            tests {
              test_name: "one" ' two';
              input: < authority: "a\n\"\x41\102\u00e9\\", random_value: 0x1F ssl: t >
              validate { cluster_name {} path_rewrite: { value: "" } code_redirect { value: 301 }
                timeout { seconds: 2 }
                request_header_matches: [ { name: "a" }, { name: 'b' present_match: false } ]
                request_header_matches { name: "c" range_match { start: -5 end: 010 } } }
            }
            tests: { test_name: "last" }"#;
        let expected = serde_json::json!({"tests": [
            {
                "test_name": "one two",
                "input": {"authority": "a\n\"AB\u{e9}\\", "random_value": 31, "ssl": true},
                "validate": {
                    "cluster_name": "", "path_rewrite": "", "code_redirect": 301, "timeout": {"seconds": 2},
                    "request_header_matches": [
                        {"name": "a"},
                        {"name": "b", "present_match": false},
                        {"name": "c", "range_match": {"start": -5, "end": 8}},
                    ],
                },
            },
            {"test_name": "last"},
        ]});
        assert_eq!(tests(text), Ok(expected));
    }

    #[test]
    fn a_struct_is_an_object() {
        let text = r#"tests { input { dynamic_metadata { metadata_namespace: "n" value {
            fields { key: "a" value { number_value: 1.5 } }
            fields { key: "b" value { list_value { values { bool_value: true } values { null_value: NULL_VALUE } } } }
            fields { key: "c" value { struct_value { fields { key: "d" value { string_value: "e" } } } } }
        } } } }"#;
        let read = tests(text).unwrap();
        let value = &read["tests"][0]["input"]["dynamic_metadata"][0]["value"];
        assert_eq!(*value, serde_json::json!({"a": 1.5, "b": [true, null], "c": {"d": "e"}}));
    }

    #[test]
    fn an_error_says_line_and_column() {
        for (text, error) in [
            (
                "tests {\n  nothing: 1 }",
                "2:3: envoy.RouterCheckToolSchema.ValidationItem has no field nothing, or it is not supported",
            ),
            ("tests { test_name: 1 }", "1:20: a text in quotes is expected"),
            ("tests { test_name \"a\" }", "1:19: \":\" is expected"),
            ("tests { test_name: \"a }", "1:20: the text does not end on its line"),
            ("tests { test_name: \"a\\q\" }", "1:22: there is no such escape"),
            ("tests { test_name: \"a\" test_name: \"b\" }", "1:24: the field test_name is there twice"),
            ("tests { input { ssl: maybe } }", "1:22: true or false is expected"),
            ("tests { input { random_value: 1.5 } }", "1:32: the name of a field is expected"),
            ("tests { input { random_value: 09 } }", "1:31: a whole number is expected"),
            ("tests: \"a\"", "1:8: \"{\" is expected"),
            ("tests [ {} {} ]", "1:12: \",\" or \"]\" is expected"),
            ("tests {\n", "2:1: \"}\" is expected"),
            ("\u{e9}", "1:1: the name of a field is expected"),
        ] {
            assert_eq!(tests(text), Err(error.to_owned()), "{text}");
        }
    }

    #[test]
    fn messages_are_not_nested_without_end() {
        let open = "value { struct_value { fields { ".repeat(10_000);
        let text = format!("tests {{ input {{ dynamic_metadata {{ value {{ fields {{ {open}");
        assert!(tests(&text).unwrap_err().ends_with("messages are more than 100 deep in each other"));
    }
}
