//! What carries connections between the Envoys of one mesh?
//!
//! One socket takes the connections of every endpoint; which endpoint was meant is told by the loopback address that an Envoy
//! connected to. The connection goes on to the workload of that address, as the cluster's network and iptables would have
//! it: to its Envoy with the original destination before the first byte, or to a stand-in.
//! Invariant: a connection goes nowhere that the sending Envoy did not choose.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use dryroute::envoy::config::{Cluster, EndpointAddress, Listener};
use dryroute::envoy::export::{Certificates, Loopback};
use smol_str::SmolStr;

use super::client::proxy_line;
use super::upstream::{HANDSHAKE, Upstream};

/// An address of the mesh that an Envoy listens behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Door {
    /// The workload's address.
    pub ip: IpAddr,
    /// The port; `None` takes all of them, as a sidecar does.
    pub port: Option<u16>,
    /// Where its Envoy really listens.
    pub socket: SocketAddr,
}

/// An endpoint of one proxy's cluster, or what a client dials.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Endpoint {
    source: IpAddr,
    cluster: SmolStr,
    /// `None` where the cluster has no addresses of its own: whatever lies there is a stand-in.
    address: Option<(IpAddr, u16)>,
    /// The name of an endpoint that has no address.
    name: SmolStr,
    /// The Envoy that takes the connection, whoever has the address: a client's own sidecar.
    through: Option<SocketAddr>,
}

#[derive(Debug, Default)]
struct Map {
    endpoints: Vec<Endpoint>,
    doors: Vec<Door>,
    /// Who ends TLS for stand-ins.
    tls: Option<SocketAddr>,
}

/// The network of one mesh.
#[derive(Debug)]
pub struct Network {
    port: u16,
    map: Arc<Mutex<Map>>,
}

impl Network {
    /// Opens the network before `upstream`'s stand-ins.
    ///
    /// # Errors
    ///
    /// The socket cannot be opened.
    pub fn open(upstream: &Arc<Upstream>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        let port = listener.local_addr()?.port();
        let map = Arc::new(Mutex::new(Map::default()));
        let (shared, upstream) = (Arc::clone(&map), Arc::clone(upstream));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (map, upstream) = (Arc::clone(&shared), Arc::clone(&upstream));
                std::thread::spawn(move || carry(stream, &map, &upstream));
            }
        });
        Ok(Self { port, map })
    }

    /// Lets an Envoy be found.
    pub fn add_door(&self, door: Door) {
        self.lock().doors.push(door);
    }

    /// Lets stand-ins that are spoken to in TLS have it ended by the Envoy at `socket`, which speaks the PROXY protocol.
    pub fn end_tls(&self, socket: SocketAddr) {
        self.lock().tls = Some(socket);
    }

    /// An address for a client that does not speak the PROXY protocol: what it dials there arrives at the Envoy at `door`
    /// as a connection from `source` to `address`, or at a stand-in.
    pub fn dial(&self, door: Option<SocketAddr>, source: IpAddr, address: (IpAddr, u16)) -> SocketAddr {
        let (cluster, name) = (SmolStr::new_static("client"), SmolStr::default());
        let address = door.map(|_| address);
        self.number(Endpoint { source, cluster, address, name, through: door })
    }

    /// The Envoy behind an address.
    pub fn door(&self, ip: IpAddr, port: u16) -> Option<SocketAddr> {
        self.lock().door(ip, port)
    }

    /// The address of the proxy that has the endpoint of this number.
    pub fn source(&self, number: u16) -> Option<IpAddr> {
        let at = usize::from(number).checked_sub(1)?;
        self.lock().endpoints.get(at).map(|endpoint| endpoint.source)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Map> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn number(&self, endpoint: Endpoint) -> SocketAddr {
        let endpoints = &mut self.lock().endpoints;
        let place = endpoints.iter().position(|known| *known == endpoint).unwrap_or_else(|| {
            endpoints.push(endpoint);
            endpoints.len() - 1
        });
        let [high, low] = u16::try_from(place + 1).unwrap_or(u16::MAX).to_be_bytes();
        SocketAddr::from(([127, 1, high, low], self.port))
    }
}

impl Map {
    fn door(&self, ip: IpAddr, port: u16) -> Option<SocketAddr> {
        let fits = |door: &&Door| door.ip == ip && door.port.is_none_or(|own| own == port);
        self.doors.iter().find(fits).map(|door| door.socket)
    }
}

/// One proxy's view of the network.
#[derive(Debug)]
pub struct View<'a> {
    /// The network.
    pub network: &'a Network,
    /// The proxy's address.
    pub source: IpAddr,
    /// Its certificates.
    pub certificates: Certificates,
    /// Its access log.
    pub log: String,
}

impl Loopback for View<'_> {
    fn listener(&self, _: &Listener) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    fn endpoint(&self, cluster: &Cluster, endpoint: &EndpointAddress) -> Option<SocketAddr> {
        let (address, name) = match endpoint {
            EndpointAddress::Socket(ip, port) => (Some((*ip, *port)), SmolStr::default()),
            EndpointAddress::Name(name, _) => (None, name.clone()),
            EndpointAddress::Pipe(path) => (None, path.clone()),
        };
        let cluster = cluster.name.clone();
        let source = self.source;
        Some(self.network.number(Endpoint { source, cluster, address, name, through: None }))
    }

    fn original_destination(&self, cluster: &Cluster) -> Option<SocketAddr> {
        let (cluster, name) = (cluster.name.clone(), SmolStr::default());
        let source = self.source;
        Some(self.network.number(Endpoint { source, cluster, address: None, name, through: None }))
    }

    fn certificates(&self) -> Option<&Certificates> {
        Some(&self.certificates)
    }

    fn access_log(&self) -> Option<&str> {
        Some(&self.log)
    }
}

/// Whether the first byte of a connection is one of a TLS handshake; waits for it, since clients speak first here.
fn begins_tls(stream: &TcpStream) -> bool {
    let mut first = [0];
    stream.peek(&mut first).is_ok_and(|read| read == 1) && first == [HANDSHAKE]
}

/// Takes a connection to where it leads.
fn carry(near: TcpStream, map: &Mutex<Map>, upstream: &Upstream) {
    let Ok(SocketAddr::V4(local)) = near.local_addr() else { return };
    let [_, _, high, low] = local.ip().octets();
    let number = u16::from_be_bytes([high, low]);
    let (endpoint, door, tls) = {
        let map = map.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(endpoint) = usize::from(number).checked_sub(1).and_then(|at| map.endpoints.get(at)) else {
            return;
        };
        let behind = || endpoint.address.and_then(|(ip, port)| map.door(ip, port));
        (endpoint.clone(), endpoint.through.or_else(behind), map.tls)
    };
    let stand_in = upstream.address(number);
    let (to, line) = match (door, endpoint.address) {
        (Some(door), Some((ip, port))) => (door, Some(proxy_line(endpoint.source, ip, port))),
        _ => match tls.filter(|_| begins_tls(&near)) {
            Some(tls) => (tls, Some(proxy_line(endpoint.source, stand_in.ip(), stand_in.port()))),
            None => (stand_in, None),
        },
    };
    let Ok(mut far) = TcpStream::connect(to) else { return };
    if let Some(line) = line
        && io::Write::write_all(&mut far, line.as_bytes()).is_err()
    {
        return;
    }
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (Ok(mut from), Ok(mut to)) = (near.try_clone(), far.try_clone()) else { return };
    let back = std::thread::spawn(move || {
        let (mut far, mut near) = (far, near);
        let _ = io::copy(&mut far, &mut near);
        let _ = near.shutdown(Shutdown::Write);
    });
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
    let _ = back.join();
}
