//! Which listeners of a gateway lose to an earlier one?
//!
//! Listeners are taken in the order of the Gateway, then of its ListenerSets by age and name. Invariant: a listener that
//! lost blocks no other. istiod: `pilot/pkg/config/kube/gatewaycommon/listener_conflict.go:
//! ComputeGatewayListenerConflicts, listenersDistinct`.

use crate::manifest::schema::gateway_api::Listener;

/// Of the listeners of a gateway, in order, whether each loses to one before it.
pub(super) fn losers<'a>(listeners: impl IntoIterator<Item = (&'a Listener, u32)>) -> Vec<bool> {
    let mut accepted: Vec<(&Listener, u32)> = Vec::new();
    let mut out = Vec::new();
    for listener in listeners {
        let loses = accepted.iter().any(|prior| !are_distinct(listener, *prior));
        if !loses {
            accepted.push(listener);
        }
        out.push(loses);
    }
    out
}

/// Whether two listeners, with their ports, can stand on one gateway.
fn are_distinct((a, a_port): (&Listener, u32), (b, b_port): (&Listener, u32)) -> bool {
    let by_connection = |protocol: &str| matches!(protocol, "TCP" | "UDP");
    let by_host = |protocol: &str| matches!(protocol, "HTTP" | "HTTPS" | "TLS");
    let hostname = |listener: &'_ Listener| {
        listener.hostname.clone().filter(|hostname| !hostname.is_empty()).unwrap_or("*".into())
    };
    if a_port != b_port {
        return true;
    }
    match (by_connection(&a.protocol), by_connection(&b.protocol)) {
        (true, true) => return false,
        (true, false) if by_host(&b.protocol) => return false,
        (false, true) if by_host(&a.protocol) => return false,
        _ => {}
    }
    if by_host(&a.protocol) && by_host(&b.protocol) {
        return hostname(a) != hostname(b);
    }
    a.protocol != b.protocol
}
