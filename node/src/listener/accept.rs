//! Accepts connections within the limits for the process and for each address.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
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

/// Counts the connections of the process. Taken once for each connection, never for a request.
pub struct Connections {
    max: usize,
    per_address_max: usize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Connections {
    /// Nobody is connected.
    pub fn new(max: usize, per_address_max: usize) -> Arc<Self> {
        Arc::new(Self { max, per_address_max, open: Mutex::default() })
    }

    /// A place for a connection from `address`, given back when dropped; `None`: there is none left.
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Admitted> {
        // Whoever has a /64 of IPv6 has all of its addresses.
        let address = match address.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
            v4 => v4,
        };
        let mut open = self.open.lock();
        if open.total >= self.max {
            return None;
        }
        let of_address = open.by_address.entry(address).or_default();
        if *of_address >= self.per_address_max {
            return None;
        }
        *of_address += 1;
        open.total += 1;
        Some(Admitted { connections: self.clone(), address })
    }

    /// Connections now open.
    pub fn open(&self) -> usize {
        self.open.lock().total
    }
}

/// A place for one connection.
pub struct Admitted {
    connections: Arc<Connections>,
    address: IpAddr,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut open = self.connections.open.lock();
        open.total -= 1;
        if let Some(of_address) = open.by_address.get_mut(&self.address) {
            *of_address -= 1;
            if *of_address == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_and_given_back() {
        let connections = Connections::new(3, 2);
        let one: IpAddr = "192.0.2.1".parse().expect("an address");
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().expect("an address");
        let first = connections.admit(one).expect("a place");
        let _second = connections.admit(mapped).expect("a place");
        assert!(connections.admit(one).is_none(), "two for each address");
        let _third = connections.admit("2001:db8::1".parse().expect("an address")).expect("a place");
        assert!(connections.admit("192.0.2.9".parse().expect("an address")).is_none(), "three in all");
        drop(first);
        assert!(connections.admit(one).is_some());
        assert_eq!(connections.open(), 2);
    }
}
