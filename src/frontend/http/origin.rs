//! Whether a request was meant for us: exact `Host` and `Origin` checks.
//!
//! A web page can make a browser send requests to loopback, and by rebinding its own name even
//! read the answers. It cannot forge these two headers. Nothing is normalised: what is not
//! written as we expect it is refused.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use hyper::{
    HeaderMap, StatusCode, Uri,
    header::{HOST, ORIGIN},
};

/// The names that we go by on one connection.
pub(super) struct Hosts {
    /// Our end of the connection.
    pub(super) address: SocketAddr,
    /// More names, `name` or `name:port`.
    pub(super) names: Arc<[String]>,
}

const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// `Err`: the status, and why.
pub(super) fn check(
    hosts: Option<&Hosts>,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<(), (StatusCode, String)> {
    if let Some(hosts) = hosts {
        host(hosts, uri, headers)?;
    }
    let mut origins = headers.get_all(ORIGIN).iter();
    match (origins.next(), origins.next()) {
        (None, _) => Ok(()),
        (Some(origin), None) if origin.to_str().is_ok_and(|o| is_own_origin(hosts, o)) => Ok(()),
        _ => Err((
            StatusCode::FORBIDDEN,
            "this origin may not call the gateway; only pages of this machine may".to_owned(),
        )),
    }
}

fn host(hosts: &Hosts, uri: &Uri, headers: &HeaderMap) -> Result<(), (StatusCode, String)> {
    let mut values = headers.get_all(HOST).iter();
    let (Some(host), None) = (values.next(), values.next()) else {
        let why = "exactly one host header is required".to_owned();
        return Err((StatusCode::BAD_REQUEST, why));
    };
    let known = host.to_str().is_ok_and(|host| is_own_host(hosts, host));
    // A request line may name a host too, and then it is the one that counts.
    if known && uri.authority().is_none_or(|name| is_own_host(hosts, name.as_str())) {
        return Ok(());
    }
    let why = format!(
        "this host name is not the gateway's; call it as localhost:{}",
        hosts.address.port()
    );
    Err((StatusCode::FORBIDDEN, why))
}

/// `name` or `name:port`, with our port.
fn is_own_host(hosts: &Hosts, host: &str) -> bool {
    if hosts.names.iter().any(|name| name.eq_ignore_ascii_case(host)) {
        return true;
    }
    match split(host) {
        Some((name, port)) => {
            port.is_none_or(|port| port == hosts.address.port()) && is_own_name(Some(hosts), name)
        }
        None => false,
    }
}

/// `http://name` or `http://name:port`, or the same with https; any port.
fn is_own_origin(hosts: Option<&Hosts>, origin: &str) -> bool {
    let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    rest.and_then(split).is_some_and(|(name, _)| is_own_name(hosts, name))
}

fn is_own_name(hosts: Option<&Hosts>, name: &str) -> bool {
    if LOOPBACK.iter().any(|own| own.eq_ignore_ascii_case(name)) {
        return true;
    }
    let Some(hosts) = hosts else {
        return false;
    };
    let own = match hosts.address.ip().to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    };
    own == name
        || hosts
            .names
            .iter()
            .any(|known| split(known).is_some_and(|(known, _)| known.eq_ignore_ascii_case(name)))
}

/// The name and the port, where there is one. `None`: neither form.
fn split(host: &str) -> Option<(&str, Option<u16>)> {
    let end = match host.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => host.find(':').unwrap_or(host.len()),
    };
    let (name, rest) = host.split_at(end);
    if name.is_empty() {
        return None;
    }
    if rest.is_empty() {
        return Some((name, None));
    }
    let digits = rest.strip_prefix(':')?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    if !plain {
        return None;
    }
    Some((name, Some(digits.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn hosts(address: &str) -> Hosts {
        Hosts {
            address: address.parse().unwrap(),
            names: Arc::new(["box.local".to_owned(), "out.side:8443".to_owned()]),
        }
    }

    fn status(hosts: Option<&Hosts>, uri: &str, fields: &[(&'static str, &[u8])]) -> u16 {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        match check(hosts, &uri.parse().unwrap(), &headers) {
            Ok(()) => 200,
            Err((status, why)) => {
                assert!(!why.is_empty());
                status.as_u16()
            }
        }
    }

    #[test]
    fn host_names() {
        let ours = hosts("127.0.0.1:4321");
        for (host, expected) in [
            ("localhost", 200),
            ("LocalHost:4321", 200),
            ("127.0.0.1", 200),
            ("127.0.0.1:4321", 200),
            ("[::1]", 200),
            ("[::1]:4321", 200),
            ("box.local", 200),
            ("box.local:4321", 200),
            ("out.side:8443", 200),
            ("out.side:4321", 200),
            ("", 403),
            ("localhost:80", 403),
            ("localhost:04321", 403),
            ("localhost:+4321", 403),
            ("localhost:", 403),
            ("localhost:69857", 403),
            ("localhost:4321:4321", 403),
            ("localhost.", 403),
            ("localhost.:4321", 403),
            (" localhost", 403),
            ("localhost.evil.com", 403),
            ("evil.com", 403),
            ("evil.com:4321", 403),
            ("evil.com#localhost", 403),
            ("localhost@evil.com", 403),
            ("127.0.0.1:80@x", 403),
            ("x@127.0.0.1", 403),
            ("127.0.0.2", 403),
            ("127.1", 403),
            ("2130706433", 403),
            ("0x7f000001", 403),
            ("0.0.0.0:4321", 403),
            ("::1", 403),
            ("[::1", 403),
            ("[::1]x", 403),
            ("[::1]%00", 403),
            ("[::1%25lo]", 403),
            ("[0:0:0:0:0:0:0:1]", 403),
            ("[::ffff:127.0.0.1]", 403),
            ("localhost/mcp", 403),
            ("localhost?x", 403),
            ("localhost,evil.com", 403),
            ("localhost\u{e9}", 403),
        ] {
            assert_eq!(
                status(Some(&ours), "/mcp", &[("host", host.as_bytes())]),
                expected,
                "{host}"
            );
        }
    }

    #[test]
    fn host_headers() {
        let ours = hosts("127.0.0.1:4321");
        assert_eq!(status(Some(&ours), "/mcp", &[]), 400);
        assert_eq!(
            status(Some(&ours), "/mcp", &[("host", b"localhost"), ("host", b"localhost")]),
            400
        );
        assert_eq!(status(Some(&ours), "http://localhost/mcp", &[("host", b"localhost")]), 200);
        assert_eq!(status(Some(&ours), "http://evil.com/mcp", &[("host", b"localhost")]), 403);
        assert_eq!(status(Some(&ours), "http://localhost/mcp", &[("host", b"evil.com")]), 403);
        // On the Unix socket a host means nothing.
        assert_eq!(status(None, "/mcp", &[]), 200);
        assert_eq!(status(None, "/mcp", &[("host", b"anything")]), 200);
    }

    #[test]
    fn the_address_that_the_connection_came_in_on_is_ours() {
        for (address, host, expected) in [
            ("192.168.1.5:80", "192.168.1.5:80", 200),
            ("192.168.1.5:80", "192.168.1.6:80", 403),
            ("[::ffff:192.168.1.5]:80", "192.168.1.5", 200),
            ("[fd00::1]:80", "[fd00::1]:80", 200),
            ("[fd00::1]:80", "[fd00::2]:80", 403),
        ] {
            let ours = hosts(address);
            assert_eq!(status(Some(&ours), "/", &[("host", host.as_bytes())]), expected, "{host}");
        }
    }

    #[test]
    fn origins() {
        let ours = hosts("127.0.0.1:4321");
        for (origin, expected) in [
            ("http://localhost", 200),
            ("http://localhost:6274", 200),
            ("https://localhost:6274", 200),
            ("http://127.0.0.1:1", 200),
            ("http://[::1]:4321", 200),
            ("http://box.local", 200),
            ("https://out.side", 200),
            ("", 403),
            ("null", 403),
            ("NULL", 403),
            ("http://", 403),
            ("localhost", 403),
            ("//localhost", 403),
            ("file://localhost", 403),
            ("HTTP://localhost", 403),
            ("vscode-webview://localhost", 403),
            ("http://evil.com", 403),
            ("http://localhost.evil.com", 403),
            ("http://evil.com:localhost", 403),
            ("http://localhost@evil.com", 403),
            ("http://localhost:80@evil.com", 403),
            ("http://localhost.", 403),
            ("http://localhost/", 403),
            ("http://localhost:0", 403),
            ("http://localhost:65536", 403),
            ("http://localhost http://evil.com", 403),
            ("http://[::1].evil.com", 403),
            ("http://127.0.0.1.nip.io", 403),
            ("http://0.0.0.0", 403),
        ] {
            let fields = [("host", b"localhost".as_slice()), ("origin", origin.as_bytes())];
            assert_eq!(status(Some(&ours), "/mcp", &fields), expected, "{origin}");
        }
        let two = [
            ("host", b"localhost".as_slice()),
            ("origin", b"http://localhost"),
            ("origin", b"http://localhost"),
        ];
        assert_eq!(status(Some(&ours), "/mcp", &two), 403);
        assert_eq!(status(None, "/mcp", &[("origin", b"http://localhost")]), 200);
        assert_eq!(status(None, "/mcp", &[("origin", b"http://evil.com")]), 403);
    }
}
