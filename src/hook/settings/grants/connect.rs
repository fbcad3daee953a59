//! `[[connect]]`: addresses that a hook may connect to.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Deserializer, de};

/// `[[connect]]`: an address that a component may open a TCP connection to.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConnectGrant {
    #[serde(deserialize_with = "address")]
    pub(crate) to: SocketAddr,
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        de::Error::custom(format!("{text:?} is not an address and port, such as \"127.0.0.1:9090\" or \"[::1]:9090\""))
    })
}

impl fmt::Display for ConnectGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connect to {}", self.to)
    }
}
