//! What does a plain YAML scalar mean to Kubernetes?
//!
//! Source: go-yaml v2's resolver, through which every Kubernetes tool reads YAML; measured over a table of 114 snippets.

/// The meaning of a scalar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Resolved {
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Float(f64),
    Str,
}

/// Resolves a plain scalar by YAML 1.1's rules.
pub(crate) fn resolve(text: &str) -> Resolved {
    let Some(first) = text.bytes().next() else { return Resolved::Null };
    match first {
        b'y' | b'Y' | b'n' | b'N' | b't' | b'T' | b'f' | b'F' | b'o' | b'O' | b'~' => word(text),
        b'.' => float(text),
        b'+' | b'-' | b'0'..=b'9' => number(text),
        _ => Resolved::Str,
    }
}

fn word(text: &str) -> Resolved {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "true" | "True" | "TRUE" => {
            Resolved::Bool(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "false" | "False" | "FALSE" => {
            Resolved::Bool(false)
        }
        "~" | "null" | "Null" | "NULL" => Resolved::Null,
        _ => Resolved::Str,
    }
}

fn number(text: &str) -> Resolved {
    let stripped;
    let plain = if text.contains('_') {
        stripped = text.replace('_', "");
        stripped.as_str()
    } else {
        text
    };
    let (negative, digits) = match plain.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, plain.strip_prefix('+').unwrap_or(plain)),
    };
    let (radix, body) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, digits.get(2..)),
        [b'0', b'b' | b'B', ..] => (2, digits.get(2..)),
        [b'0', b'o' | b'O', ..] => (8, digits.get(2..)),
        [b'0', _, ..] => (8, digits.get(1..)),
        _ => (10, Some(digits)),
    };
    if let Some(body) = body
        && !body.is_empty()
        && body.bytes().all(|b| b.is_ascii_alphanumeric())
        && let Ok(magnitude) = u64::from_str_radix(body, radix)
    {
        return match (negative, i64::try_from(magnitude)) {
            (false, Ok(value)) => Resolved::Int(value),
            (true, Ok(value)) => Resolved::Int(-value),
            (false, Err(_)) => Resolved::UInt(magnitude),
            (true, Err(_)) => float(plain),
        };
    }
    float(plain)
}

/// YAML 1.1's float form: digits, at most one point, an optional exponent.
fn float(text: &str) -> Resolved {
    let body = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(body, ".inf" | ".Inf" | ".INF") {
        return Resolved::Float(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY });
    }
    if matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Resolved::Float(f64::NAN);
    }
    let mut digits = false;
    let mut point = false;
    let mut bytes = body.bytes().peekable();
    while let Some(&b) = bytes.peek() {
        match b {
            b'0'..=b'9' => digits = true,
            b'.' if !point => point = true,
            _ => break,
        }
        bytes.next();
    }
    if !digits {
        return Resolved::Str;
    }
    if matches!(bytes.peek(), Some(b'e' | b'E')) {
        bytes.next();
        if matches!(bytes.peek(), Some(b'+' | b'-')) {
            bytes.next();
        }
        if bytes.peek().is_none() || !bytes.all(|b| b.is_ascii_digit()) {
            return Resolved::Str;
        }
    } else if bytes.peek().is_some() {
        return Resolved::Str;
    }
    text.parse().map_or(Resolved::Str, Resolved::Float)
}
