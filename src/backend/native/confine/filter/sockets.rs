//! The sockets of a confined hook: which it can create, and what it can set.

use super::conditions::{Condition, equal, masked, none_of};
use super::tree::Rules;

/// The protocol number of the socket that represents a connection to the runtime.
pub(crate) const BROKER_PROTOCOL: i32 = 0x484b;

/// A hook's network, beyond its own socket pairs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sockets {
    pub(crate) tcp: bool,
    pub(crate) udp: bool,
    pub(crate) unix: bool,
}

impl Sockets {
    fn internet(self) -> bool {
        self.tcp || self.udp
    }
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
const LEVELS: [u64; 1] = [libc::SOL_SOCKET as u64];
const INTERNET_LEVELS: [u64; 4] =
    [libc::SOL_SOCKET as u64, libc::IPPROTO_TCP as u64, libc::IPPROTO_IP as u64, libc::IPPROTO_IPV6 as u64];

/// All sockets except connections to the runtime and granted kinds.
pub(super) fn refuse_sockets(sockets: Sockets, rules: &mut Rules) {
    let mut refuse = |conditions: &[Condition]| rules.refuse_if(libc::SYS_socket, conditions);
    let not_for_broker = equal(2, BROKER_PROTOCOL).not();
    let mut families = vec![equal(0, libc::AF_UNIX).not()];
    if sockets.internet() {
        for family in [libc::AF_INET, libc::AF_INET6] {
            families.push(equal(0, family).not());
            refuse_internet_sockets(family, sockets, &mut refuse);
        }
    }
    refuse(&families);
    let unix = equal(0, libc::AF_UNIX);
    if sockets.unix {
        refuse(&[unix, masked(1, SOCKET_TYPE, libc::SOCK_DGRAM as u64)]);
        refuse(&[unix, masked(1, SOCKET_TYPE, libc::SOCK_RAW as u64)]);
        refuse(&[unix, equal(2, 0).not(), not_for_broker]);
    } else {
        refuse(&[unix, not_for_broker]);
    }
}

fn refuse_internet_sockets(family: i32, sockets: Sockets, refuse: &mut impl FnMut(&[Condition])) {
    let is_family = equal(0, family);
    for kind in [libc::SOCK_RAW, libc::SOCK_RDM, libc::SOCK_SEQPACKET, libc::SOCK_DCCP, SOCK_PACKET] {
        refuse(&[is_family, masked(1, SOCKET_TYPE, kind as u64)]);
    }
    for (kind, granted, protocol) in
        [(libc::SOCK_STREAM, sockets.tcp, libc::IPPROTO_TCP), (libc::SOCK_DGRAM, sockets.udp, libc::IPPROTO_UDP)]
    {
        let mut conditions = vec![is_family, masked(1, SOCKET_TYPE, kind as u64)];
        if granted {
            conditions.extend([equal(2, 0).not(), equal(2, protocol).not()]);
        }
        refuse(&conditions);
    }
}

/// Options of setsockopt(2).
pub(super) fn refuse_options(sockets: Sockets, rules: &mut Rules) {
    if !sockets.internet() {
        return rules.refuse_if(libc::SYS_setsockopt, &none_of(1, &LEVELS));
    }
    rules.refuse_if(libc::SYS_setsockopt, &none_of(1, &INTERNET_LEVELS));
    for (level, options) in [(libc::IPPROTO_IP, &IP_OPTIONS), (libc::IPPROTO_IPV6, &IPV6_OPTIONS)] {
        let mut conditions = vec![equal(1, level)];
        conditions.extend(none_of(2, options));
        rules.refuse_if(libc::SYS_setsockopt, &conditions);
    }
}
