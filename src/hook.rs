//! Hook files: where they are, who owns them, and what their settings say.

mod acl;
pub(crate) mod digest;
pub(crate) mod discovery;
mod dispatcher;
mod env_file;
pub(crate) mod error;
mod fault;
pub(crate) mod file;
pub(crate) mod first;
pub(crate) mod identity;
pub(crate) mod kind;
pub(crate) mod mask;
pub(crate) mod mode;
pub(crate) mod pattern;
pub(crate) mod scope;
pub(crate) mod secret;
pub(crate) mod settings;
pub(crate) mod skipped;
pub(crate) mod state;
pub(crate) mod trust;
pub(crate) mod trusted_toml;
pub(crate) mod untrusted;
pub(crate) mod walk;
