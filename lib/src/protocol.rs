//! What does a port speak?
//!
//! istiod: `pkg/config/kube/conversion.go: ConvertProtocol`, `pkg/config/protocol/instance.go: Parse`.

/// A port's protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1.
    Http,
    /// HTTP/2.
    Http2,
    /// gRPC.
    Grpc,
    /// gRPC for browsers.
    GrpcWeb,
    /// An HTTP proxy.
    HttpProxy,
    /// Bytes.
    Tcp,
    /// TLS that is passed through.
    Tls,
    /// HTTPS that is passed through.
    Https,
    /// MongoDB.
    Mongo,
    /// Redis.
    Redis,
    /// MySQL.
    Mysql,
    /// UDP, which no proxy handles.
    Udp,
    /// Tunnels between proxies.
    Hbone,
    /// Not declared: found by inspection.
    #[default]
    Unsupported,
}

impl Protocol {
    /// Reads a protocol's name, in any letter case; what is not known is found by inspection.
    pub fn parse(text: &str) -> Self {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Self::Tcp,
            "udp" => Self::Udp,
            "grpc" => Self::Grpc,
            "grpc-web" => Self::GrpcWeb,
            "http" => Self::Http,
            "http_proxy" => Self::HttpProxy,
            "http2" => Self::Http2,
            "https" => Self::Https,
            "tls" => Self::Tls,
            "mongo" => Self::Mongo,
            "redis" => Self::Redis,
            "mysql" => Self::Mysql,
            "hbone" => Self::Hbone,
            _ => Self::Unsupported,
        }
    }

    /// The protocol of a Kubernetes Service's port.
    pub fn of_service_port(number: u32, name: &str, transport: &str, app_protocol: Option<&str>) -> Self {
        if transport == "UDP" {
            return Self::Udp;
        }
        let name = match app_protocol {
            Some("kubernetes.io/h2c") => return Self::Http2,
            Some("kubernetes.io/ws") => return Self::Http,
            Some("kubernetes.io/wss") => return Self::Https,
            Some(app) => app,
            None => name,
        };
        if name.len() >= 8 && name.get(..8).is_some_and(|p| p.eq_ignore_ascii_case("grpc-web")) {
            return Self::GrpcWeb;
        }
        let prefix = name.split_once('-').map_or(name, |(prefix, _)| prefix);
        match Self::parse(prefix) {
            Self::Unsupported if matches!(number, 25 | 53 | 3306 | 27017) => Self::Tcp,
            protocol => protocol,
        }
    }

    /// Istio's name for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Http2 => "HTTP2",
            Self::Grpc => "GRPC",
            Self::GrpcWeb => "GRPC-Web",
            Self::HttpProxy => "HTTP_PROXY",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
            Self::Https => "HTTPS",
            Self::Mongo => "Mongo",
            Self::Redis => "Redis",
            Self::Mysql => "MySQL",
            Self::Udp => "UDP",
            Self::Hbone => "HBONE",
            Self::Unsupported => "UnsupportedProtocol",
        }
    }

    /// Whether requests are routed by their HTTP headers.
    pub const fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::Grpc | Self::GrpcWeb | Self::HttpProxy)
    }

    /// Whether upstream connections speak HTTP/2.
    pub const fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Grpc | Self::GrpcWeb)
    }

    /// Whether it is TLS that is passed through.
    pub const fn is_tls(self) -> bool {
        matches!(self, Self::Tls | Self::Https)
    }

    /// Whether it is found by inspection.
    pub const fn is_unsupported(self) -> bool {
        matches!(self, Self::Unsupported)
    }
}
