//! The sockets of a confined hook: which it can create, and what it can set.

use seccompiler::{Error, SeccompCmpOp};

use super::conditions::{Conditions, compare, equal, masked, none_of};

/// The protocol number of the socket that represents a connection to the runtime.
pub(crate) const BROKER_PROTOCOL: i32 = 0x484b;

/// A hook's network, beyond its own socket pairs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sockets {
    pub(crate) tcp: bool,
    pub(crate) udp: bool,
    pub(crate) unix: bool,
}

/// The bits of socket(2)'s type that are not flags.
pub(super) const SOCKET_TYPE: u64 = 0xf;
const SOCK_PACKET: i32 = 10;

/// Options of IP that change neither where a packet goes nor what the socket receives. A source route (IP_OPTIONS,
/// IPV6_RTHDR) would send the packets of a granted connection to another host first.
const IP_OPTIONS: [u64; 8] = [
    libc::IP_TOS as u64,
    libc::IP_TTL as u64,
    libc::IP_MTU_DISCOVER as u64,
    libc::IP_RECVERR as u64,
    libc::IP_RECVTTL as u64,
    libc::IP_RECVTOS as u64,
    libc::IP_MULTICAST_TTL as u64,
    libc::IP_BIND_ADDRESS_NO_PORT as u64,
];
const IPV6_OPTIONS: [u64; 8] = [
    libc::IPV6_UNICAST_HOPS as u64,
    libc::IPV6_MULTICAST_HOPS as u64,
    libc::IPV6_MTU_DISCOVER as u64,
    libc::IPV6_RECVERR as u64,
    libc::IPV6_V6ONLY as u64,
    libc::IPV6_RECVHOPLIMIT as u64,
    libc::IPV6_TCLASS as u64,
    libc::IPV6_RECVTCLASS as u64,
];
/// The levels of setsockopt(2) with options that are allowed.
const LEVELS: [u64; 4] =
    [libc::SOL_SOCKET as u64, libc::IPPROTO_TCP as u64, libc::IPPROTO_IP as u64, libc::IPPROTO_IPV6 as u64];

/// All sockets except connections to the runtime and granted kinds. Each group of conditions is refused. A socket that
/// matches none is allowed.
pub(super) fn refused_sockets(sockets: Sockets) -> Result<Vec<Conditions>, Error> {
    let broker = BROKER_PROTOCOL as u64;
    let mut refused = Vec::new();
    let mut families = vec![equal(0, libc::AF_UNIX).not()?];
    if sockets.tcp || sockets.udp {
        for family in [libc::AF_INET, libc::AF_INET6] {
            families.push(equal(0, family).not()?);
            refused.extend(refused_internet_sockets(family, sockets)?);
        }
    }
    refused.push(families);
    let unix = equal(0, libc::AF_UNIX);
    if sockets.unix {
        refused.push(vec![unix.is()?, masked(1, SOCKET_TYPE, libc::SOCK_DGRAM as u64)?]);
        refused.push(vec![unix.is()?, masked(1, SOCKET_TYPE, libc::SOCK_RAW as u64)?]);
        refused.push(vec![unix.is()?, compare(2, SeccompCmpOp::Ne, 0)?, compare(2, SeccompCmpOp::Ne, broker)?]);
    } else {
        refused.push(vec![unix.is()?, compare(2, SeccompCmpOp::Ne, broker)?]);
    }
    Ok(refused)
}

fn refused_internet_sockets(family: i32, sockets: Sockets) -> Result<Vec<Conditions>, Error> {
    let is_family = equal(0, family);
    let mut refused = Vec::new();
    for kind in [libc::SOCK_RAW, libc::SOCK_RDM, libc::SOCK_SEQPACKET, libc::SOCK_DCCP, SOCK_PACKET] {
        refused.push(vec![is_family.is()?, masked(1, SOCKET_TYPE, kind as u64)?]);
    }
    for (kind, granted, protocol) in
        [(libc::SOCK_STREAM, sockets.tcp, libc::IPPROTO_TCP), (libc::SOCK_DGRAM, sockets.udp, libc::IPPROTO_UDP)]
    {
        let mut conditions = vec![is_family.is()?, masked(1, SOCKET_TYPE, kind as u64)?];
        if granted {
            conditions.extend([equal(2, 0).not()?, equal(2, protocol).not()?]);
        }
        refused.push(conditions);
    }
    Ok(refused)
}

/// The options of setsockopt(2) that are refused.
pub(super) fn refused_options() -> Result<Vec<Conditions>, Error> {
    let mut refused = vec![none_of(1, &LEVELS)?];
    for (level, options) in [(libc::IPPROTO_IP, &IP_OPTIONS), (libc::IPPROTO_IPV6, &IPV6_OPTIONS)] {
        let mut conditions = vec![equal(1, level).is()?];
        conditions.extend(none_of(2, options)?);
        refused.push(conditions);
    }
    Ok(refused)
}
