//! Accepts connections and requests within the limits for the process and for each address.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};

/// Waiting connections of one accept queue.
const BACKLOG: i32 = 1024;

/// A socket of one worker that has its address but doesn't listen yet; those of other workers have the same one.
///
/// # Errors
/// If the address can't be had.
pub fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Opens the accept queue: from now on callers can connect.
///
/// # Errors
/// If the address was taken meanwhile.
pub fn listen(socket: Socket) -> io::Result<std::net::TcpListener> {
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Whether nobody listens there, as [`bind`] can't tell.
///
/// # Errors
/// If somebody does, or the address can't be had.
pub fn probe(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(1)
}

/// How many connections and requests there may be, in the process and for each address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Places {
    /// Connections at most.
    pub connections_max: usize,
    /// The same for one address.
    pub connections_per_address_max: usize,
    /// Requests under way at most.
    pub requests_max: usize,
    /// The same for one address.
    pub requests_per_address_max: usize,
}

/// Counts the connections and requests of the process. A lock is taken once for each connection, never for a request.
pub struct Connections {
    places: Places,
    requests: AtomicUsize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    total: usize,
    by_address: HashMap<IpAddr, OfAddress>,
}

#[derive(Default)]
struct OfAddress {
    connections: usize,
    requests: Arc<AtomicUsize>,
}

impl Connections {
    /// Nobody is connected.
    pub fn new(places: Places) -> Arc<Self> {
        Arc::new(Self { places, requests: AtomicUsize::new(0), open: Mutex::default() })
    }

    /// A place for a connection whose caller isn't known yet, given back when dropped; `None`: there is none left.
    pub fn admit(self: &Arc<Self>) -> Option<Admitted> {
        let mut open = self.open.lock();
        if open.total >= self.places.connections_max {
            return None;
        }
        open.total += 1;
        Some(Admitted { connections: self.clone(), address: None, requests: None })
    }

    /// Requests under way.
    pub fn under_way(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// Connections now open.
    pub fn open(&self) -> usize {
        self.open.lock().total
    }
}

/// A place for one connection.
pub struct Admitted {
    connections: Arc<Connections>,
    address: Option<IpAddr>,
    /// Of the address, if they are counted by it.
    requests: Option<Arc<AtomicUsize>>,
}

impl Admitted {
    /// Counts the connection as one of `address`, if it may have one more. A proxy's requests aren't counted by its
    /// address: they are those of many.
    #[must_use]
    pub fn is_of(&mut self, address: IpAddr, is_proxy: bool) -> bool {
        // Whoever has a /64 of IPv6 has all of its addresses.
        let address = match address.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
            v4 => v4,
        };
        let mut open = self.connections.open.lock();
        let of_address = open.by_address.entry(address).or_default();
        if of_address.connections >= self.connections.places.connections_per_address_max {
            return false;
        }
        of_address.connections += 1;
        self.requests = (!is_proxy).then(|| of_address.requests.clone());
        self.address = Some(address);
        true
    }

    /// A place for one request, given back when dropped; an error names the setting that has none left.
    ///
    /// # Errors
    /// The setting.
    pub fn request(self: &Rc<Self>) -> Result<Request, &'static str> {
        let Places { requests_max, requests_per_address_max, .. } = self.connections.places;
        // The counts stand for nothing else, so that no order between them is needed.
        if self.connections.requests.fetch_add(1, Ordering::Relaxed) >= requests_max {
            self.connections.requests.fetch_sub(1, Ordering::Relaxed);
            return Err("requestsMax");
        }
        let of_address = self.requests.as_ref();
        if of_address.is_some_and(|requests| requests.fetch_add(1, Ordering::Relaxed) >= requests_per_address_max) {
            drop(Request(self.clone()));
            return Err("requestsPerAddressMax");
        }
        Ok(Request(self.clone()))
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut open = self.connections.open.lock();
        open.total -= 1;
        let Some(address) = self.address else { return };
        if let Some(of_address) = open.by_address.get_mut(&address) {
            of_address.connections -= 1;
            if of_address.connections == 0 {
                open.by_address.remove(&address);
            }
        }
    }
}

/// A place for one request.
pub struct Request(Rc<Admitted>);

impl Drop for Request {
    fn drop(&mut self) {
        self.0.connections.requests.fetch_sub(1, Ordering::Relaxed);
        if let Some(requests) = &self.0.requests {
            requests.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        Places { connections_max: 3, connections_per_address_max: 2, requests_max: 3, requests_per_address_max: 2 }
    }

    fn admit(connections: &Arc<Connections>, address: &str, is_proxy: bool) -> Option<Admitted> {
        let mut admitted = connections.admit()?;
        admitted.is_of(address.parse().expect("an address"), is_proxy).then_some(admitted)
    }

    #[test]
    fn places_are_limited_and_given_back() {
        let connections = Connections::new(places());
        let first = admit(&connections, "192.0.2.1", false).expect("a place");
        let _second = admit(&connections, "::ffff:192.0.2.1", false).expect("a place");
        assert!(admit(&connections, "192.0.2.1", false).is_none(), "two for each address");
        let _third = admit(&connections, "2001:db8::1", false).expect("a place");
        assert!(admit(&connections, "192.0.2.9", false).is_none(), "three in all");
        drop(first);
        assert!(admit(&connections, "192.0.2.1", false).is_some());
        assert_eq!(connections.open(), 2);
    }

    #[test]
    fn requests_are_limited_by_address_and_in_all() {
        let connections = Connections::new(places());
        let [one, same] =
            ["192.0.2.1"; 2].map(|address| Rc::new(admit(&connections, address, false).expect("a place")));
        let first = one.request().expect("a place");
        let _second = same.request().expect("a place");
        assert_eq!(one.request().err(), Some("requestsPerAddressMax"), "two for each address, over all connections");
        drop(first);
        let first = one.request().expect("a place");
        let proxy = Rc::new(admit(&connections, "192.0.2.9", true).expect("a place"));
        let _third = proxy.request().expect("a place");
        assert_eq!(proxy.request().err(), Some("requestsMax"), "three in all");
        drop(first);
        let _proxied = proxy.request().expect("a place");
        assert_eq!(proxy.request().err(), Some("requestsMax"));
    }
}
