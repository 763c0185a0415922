//! Which proxies, listeners and filter chains is a patch for?
//!
//! istiod: `envoyfilter.go: proxyMatch`; `envoyfilter/listener_patch.go: listenerMatch, filterChainMatch, networkFilterMatch`.

use super::Patch;
use super::settings::CONNECTION_MANAGER;
use crate::envoy::config::{FilterChain, Listener, ListenerAddress, NetworkFilter, TransportProtocol};
use crate::istiod::inbound::VIRTUAL_INBOUND;
use crate::istiod::node::Node;
use crate::istiod::outbound::catch_all::VIRTUAL_OUTBOUND;
use crate::manifest::schema::istio::{
    ApplyTo, FilterMatch, ListenerFilterChainMatch, ListenerMatch, PatchOperation, ProxyMatch,
};
use crate::re2;

const TCP_PROXY: &str = "envoy.filters.network.tcp_proxy";

/// Whether a patch is for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// It is not.
    No,
    /// It is.
    Yes,
    /// That depends on what is not known.
    Perhaps,
}

impl From<bool> for Fit {
    fn from(fits: bool) -> Self {
        if fits { Self::Yes } else { Self::No }
    }
}

impl Fit {
    /// Both have to fit.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Yes, Self::Yes) => Self::Yes,
            _ => Self::Perhaps,
        }
    }
}

/// Whether a proxy is meant.
pub(super) fn proxy(condition: &ProxyMatch, node: &Node) -> Fit {
    // What a bootstrap says besides its version is not known.
    let metadata = if condition.metadata.is_empty() { Fit::Yes } else { Fit::Perhaps };
    version(&condition.proxy_version, &node.istio_version).and(metadata)
}

/// Whether a pattern finds something in a proxy's version; one that is not known is some release of the modelled Istio.
fn version(pattern: &str, version: &str) -> Fit {
    const PATCHES: [&str; 3] = ["0", "1", "10"];
    if pattern.is_empty() {
        return Fit::Yes;
    }
    let Ok(regex) = re2::compile_search(pattern) else { return Fit::Perhaps };
    if !version.is_empty() {
        return regex.is_match(version).into();
    }
    let found = PATCHES.map(|patch| regex.is_match(&format!("{}.{patch}", crate::ISTIO_VERSION)));
    match found {
        [true, true, true] => Fit::Yes,
        [false, false, false] => Fit::No,
        _ => Fit::Perhaps,
    }
}

impl Patch {
    /// Whether the patch changes a chain of a listener.
    pub(super) fn fits(&self, listener: &Listener, chain: &FilterChain) -> Fit {
        let on_listener = || self.listener.as_ref().is_none_or(|m| self.fits_listener(m, listener));
        let on_chain =
            || on_listener() && self.listener.as_ref().is_none_or(|m| fits_chain(m, listener, chain));
        let http = matches!(chain.terminal, NetworkFilter::HttpConnectionManager(_));
        let fits = match self.apply_to {
            // An extension's configuration does nothing until a filter asks for it.
            ApplyTo::Invalid | ApplyTo::Bootstrap | ApplyTo::ExtensionConfig | ApplyTo::Cluster => Fit::No,
            // istiod knows this operation for whole messages only.
            ApplyTo::NetworkFilter | ApplyTo::HttpFilter | ApplyTo::ListenerFilter
                if self.operation == PatchOperation::MergeAndReplaceList =>
            {
                Fit::No
            }
            // A new listener may take what went to any other.
            ApplyTo::Listener if self.adds() => Fit::Yes,
            ApplyTo::Listener | ApplyTo::ListenerFilter => on_listener().into(),
            ApplyTo::FilterChain if self.adds() => on_listener().into(),
            ApplyTo::FilterChain => on_chain().into(),
            ApplyTo::NetworkFilter if on_chain() => self.fits_network_filter(chain),
            ApplyTo::HttpFilter if http && on_chain() => {
                self.filter().is_none_or(|filter| filter.name == CONNECTION_MANAGER).into()
            }
            ApplyTo::NetworkFilter | ApplyTo::HttpFilter => Fit::No,
            ApplyTo::RouteConfiguration | ApplyTo::VirtualHost | ApplyTo::HttpRoute => http.into(),
        };
        fits.and(self.proxy)
    }

    /// Whether the patch adds, which is what istiod makes of insertions into anything but lists of filters and routes.
    pub(super) fn adds(&self) -> bool {
        !matches!(
            self.operation,
            PatchOperation::Invalid
                | PatchOperation::Merge
                | PatchOperation::MergeAndReplaceList
                | PatchOperation::Remove
                | PatchOperation::Replace
        )
    }

    fn filter(&self) -> Option<&FilterMatch> {
        self.listener.as_ref()?.filter_chain.as_ref()?.filter.as_ref()
    }

    /// Whether the patch changes a network filter of a chain that it fits, or adds one.
    fn fits_network_filter(&self, chain: &FilterChain) -> Fit {
        let Some(filter) = self.filter() else { return Fit::Yes };
        if matches!(self.operation, PatchOperation::Add | PatchOperation::InsertFirst) {
            return Fit::Yes;
        }
        let (own, other) = match chain.terminal {
            NetworkFilter::HttpConnectionManager(_) => (CONNECTION_MANAGER, TCP_PROXY),
            NetworkFilter::TcpProxy(_) => (TCP_PROXY, CONNECTION_MANAGER),
        };
        match filter.name.as_str() {
            name if name == own => Fit::Yes,
            name if name == other => Fit::No,
            // Filters in front of the last one that only Istio knows of are not listed.
            _ => Fit::Perhaps,
        }
    }

    fn fits_listener(&self, condition: &ListenerMatch, listener: &Listener) -> bool {
        if !condition.name.is_empty() && condition.name != listener.name {
            return false;
        }
        if condition.port_number == 0 || (self.apply_to != ApplyTo::Listener && is_virtual(listener)) {
            return true;
        }
        matches!(listener.address, ListenerAddress::Socket(_, port) if u32::from(port) == condition.port_number)
    }
}

/// Whether a listener takes the traffic of every port, so that its chains know the port.
fn is_virtual(listener: &Listener) -> bool {
    listener.name == VIRTUAL_INBOUND || listener.name == VIRTUAL_OUTBOUND
}

fn fits_chain(condition: &ListenerMatch, listener: &Listener, chain: &FilterChain) -> bool {
    let own = &chain.filter_chain_match;
    let on_port = |wanted: u32| own.destination_port.is_some_and(|port| u32::from(port) == wanted);
    if condition.port_number > 0 && is_virtual(listener) && !on_port(condition.port_number) {
        return false;
    }
    let Some(ListenerFilterChainMatch {
        name,
        sni,
        transport_protocol,
        application_protocols,
        destination_port,
        ..
    }) = &condition.filter_chain
    else {
        return true;
    };
    let transport = own.transport_protocol.map_or("", |transport| match transport {
        TransportProtocol::RawBuffer => "raw_buffer",
        TransportProtocol::Tls => "tls",
        TransportProtocol::Quic => "quic",
    });
    let offered = |protocol: &str| own.application_protocols.iter().any(|own| own == protocol);
    (name.is_empty() || *name == chain.name)
        && (sni.is_empty() || own.server_names.contains(sni))
        && (transport_protocol.is_empty() || transport_protocol == transport)
        && (application_protocols.is_empty() || application_protocols.split(',').all(offered))
        && (*destination_port == 0 || on_port(*destination_port))
}
