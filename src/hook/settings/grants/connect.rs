//! `[[connect]]`: addresses that a hook may connect to.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::lines::quoted;
use crate::printable::printable_line;

/// The maximum length of a socket's path.
pub(crate) const LONGEST_SOCKET_PATH: usize = 107;

#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Table")]
pub(crate) struct ConnectGrant {
    pub(crate) to: Address,
}

/// An address that a hook may connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Udp(SocketAddr),
    /// A stream socket by its path.
    Unix(PathBuf),
}

impl Address {
    /// Whether both are equal. An IPv4 address equals its IPv6 form.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let plain = |address: &SocketAddr| (address.ip().to_canonical(), address.port());
        match (self, other) {
            (Self::Tcp(one), Self::Tcp(other)) | (Self::Udp(one), Self::Udp(other)) => plain(one) == plain(other),
            (one, other) => one == other,
        }
    }

    /// The lines that grant it, each after a line break.
    pub(crate) fn lines_to_grant(&self) -> String {
        let to = |to: &str| format!("\n    [[connect]]\n    to = {}", quoted(to));
        match self {
            Self::Udp(address) => to(&address.to_string()) + "\n    protocol = \"udp\"",
            Self::Tcp(address) => to(&address.to_string()),
            Self::Unix(path) => to(&path.to_string_lossy()),
        }
    }
}

/// As written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    to: String,
    protocol: Option<Protocol>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Protocol {
    Tcp,
    Udp,
}

impl TryFrom<Table> for ConnectGrant {
    type Error = String;

    fn try_from(Table { to, protocol }: Table) -> Result<Self, String> {
        if to.starts_with('/') {
            return match protocol {
                Some(_) => Err(format!("{to:?} is a Unix socket, which has no `protocol`: remove it")),
                None if to.len() > LONGEST_SOCKET_PATH || to.contains('\0') => {
                    Err(format!("{to:?} cannot be a socket's path"))
                }
                None => Ok(Self { to: Address::Unix(to.into()) }),
            };
        }
        let address = to.parse().map_err(|_| {
            format!(
                "{to:?} is not an address and port, such as \"127.0.0.1:9090\" or \"[::1]:9090\", nor the path of a socket"
            )
        })?;
        let to = match protocol {
            None | Some(Protocol::Tcp) => Address::Tcp(address),
            Some(Protocol::Udp) => Address::Udp(address),
        };
        Ok(Self { to })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Udp(address) => write!(f, "{address} (UDP)"),
            Self::Unix(path) => f.write_str(&printable_line(&path.to_string_lossy())),
        }
    }
}

impl fmt::Display for ConnectGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connect to {}", self.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_of_tcp_of_udp_or_a_path() {
        let said = |text: &str| {
            let grant = toml::from_str::<ConnectGrant>(text);
            grant.map_or_else(|error| error.message().to_owned(), |grant| grant.to_string())
        };
        assert_eq!(said("to = '127.0.0.1:1'"), "connect to 127.0.0.1:1");
        assert_eq!(said("to = '[::1]:53'\nprotocol = 'udp'"), "connect to [::1]:53 (UDP)");
        assert_eq!(said("to = '/run/x.sock'"), "connect to /run/x.sock");
        assert!(said("to = '/run/x.sock'\nprotocol = 'udp'").contains("has no `protocol`"));
        assert!(said("to = 'x.sock'").contains("is not an address and port"));
        assert!(said(&format!("to = '/{}'", "x".repeat(107))).contains("cannot be a socket's path"));
        let to = Address::Unix("/run/a\n    [[command]]\n    program = \"/bin/sh\"".into());
        let lines = to.lines_to_grant();
        assert_eq!((lines.lines().count(), to.to_string().lines().count()), (3, 1), "{lines}");
        let granted = toml::from_str::<toml::Table>(&lines).ok().and_then(|table| {
            let grant = table.get("connect")?.get(0)?.get("to")?.as_str()?;
            Some(Address::Unix(grant.into()))
        });
        assert_eq!(granted, Some(to));
        let tcp = |text: &str| text.parse().map(Address::Tcp).ok();
        assert!(tcp("127.0.0.1:1").zip(tcp("[::ffff:127.0.0.1]:1")).is_some_and(|(one, other)| one.is(&other)));
    }
}
