//! What a sandboxed or confined hook can use: directories, commands, connections. Only its settings can grant them.

mod argument;
mod command;
mod connect;
mod directory;
mod expression;
mod lines;
mod names;
mod paths;
mod secret;
mod stdin;

pub(crate) use self::command::CommandGrant;
#[cfg(feature = "wasm")]
pub(crate) use self::connect::LONGEST_SOCKET_PATH;
pub(crate) use self::connect::{Address, ConnectGrant};
pub(crate) use self::directory::{Access, DirectoryGrant};
pub(crate) use self::lines::{lines_to_grant, lines_to_grant_directory};
pub(crate) use self::names::Names;
pub(super) use self::paths::absolute;
pub(crate) use self::secret::SecretGrant;
pub(crate) use self::stdin::{LONGEST_STDIN, Refusal};
