//! Is a `referer` one that is passed on?
//!
//! Envoy: `http/utility.cc: Utility::isValidRefererValue`, which asks Node's `http_parser_parse_url` for a URL with a host and takes what is
//! none as a relative reference. Measured with Envoy 1.40.

/// Whether a referer is kept: a URL with a host, without user and fragment, or a reference whose first segment has no colon.
pub(crate) fn is_kept(text: &str) -> bool {
    is_url(text) || is_reference(text)
}

/// A reference has no characters but those of a path and a query, and its first segment looks like no scheme.
fn is_reference(text: &str) -> bool {
    let mut slash = false;
    text.bytes().all(|byte| match byte {
        b':' => slash,
        b'/' => {
            slash = true;
            true
        }
        byte => byte.is_ascii_alphanumeric() || b"?@-._~%!$&'()*+,;=".contains(&byte),
    })
}

fn is_url(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let proper = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let (authority, rest) =
        rest.split_at_checked(rest.find(['/', '?']).unwrap_or(rest.len())).unwrap_or_default();
    // A fragment is none while it is empty.
    let (before, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    // No user before the sign is no user.
    let host = authority.strip_prefix('@').unwrap_or(authority);
    proper
        && before.bytes().all(|byte| byte.is_ascii_graphic())
        && fragment.bytes().all(|byte| byte == b'#')
        && is_host_and_port(host)
}

fn is_host_and_port(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => (is_address(address), port),
        None => {
            let end = text.find(':').unwrap_or(text.len());
            let (name, port) = text.split_at_checked(end).unwrap_or_default();
            let name =
                !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b".-".contains(&b));
            (name, port)
        }
    };
    let port = port.is_empty()
        || port.strip_prefix(':').is_some_and(|port| {
            // Nothing but digits: a sign is no part of a number.
            port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
        });
    host && port
}

/// What stands in brackets, a zone after the percent sign.
fn is_address(text: &str) -> bool {
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (text, None),
    };
    let zoned = zone.is_none_or(|zone| {
        !zone.is_empty() && zone.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"%.-_~".contains(&byte))
    });
    zoned
        && !address.is_empty()
        && address.bytes().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Measured with Envoy 1.40.
    #[test]
    fn a_referer_that_is_no_url_goes() {
        for text in [
            "",
            "word",
            "*",
            "/path",
            "//",
            "//a:b@c/",
            "a/b:c",
            "/a%zz",
            "a;b",
            "a@b",
            "?x",
            "ftp://x/y",
            "HTTP://a",
            "android-app://com.foo/",
            "a1://x",
            "a+b://x",
            "http://a/x,http://b/y",
            "http://a/\"",
            "http://a/[x]|",
            "http://a/\\",
            "http://a:65535",
            "http://-/",
            "http://./",
            "http://@a/",
            "http://a/#",
            "http://a/##",
            "http://a?x://y",
            "http://[::1]:80/",
            "http://1.2.3/",
            "http://a?b?c",
        ] {
            assert!(is_kept(text), "{text:?}");
        }
        for text in [
            "two words",
            "/é",
            "/a#",
            "#",
            "//x#",
            "/a[b]",
            "a|b",
            "/a\\",
            "mailto:x",
            "about:blank",
            "http:a",
            "http:",
            "blob:http://x",
            "http://",
            "http:///y",
            "http://?x",
            "http://a,http://b",
            "http://é/",
            "http://a/é",
            "http://a#f",
            "http://a#",
            "http://a/?#x",
            "http://user:p@h/",
            "http://u@h@i/",
            "http://a@/",
            "http://a:/",
            "http://a:+1/",
            "http://a:1x/",
            "http://a:99999/",
            "http://a:80:80/",
            "http://a_b/",
            "http://%41/",
            "http://[::1",
            "http://[::g]/",
            "http://[::1]x/",
            "1a://x",
            "a_b://x",
            "://x",
            "a:b/",
            "?:",
            "x?y:z",
            "/a\tb",
            "http://a/ b",
        ] {
            assert!(!is_kept(text), "{text:?}");
        }
    }
}
