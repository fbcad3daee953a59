//! What a hook can reach beyond its streams: the directories, programs and addresses in its settings.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use wasmtime_wasi::sockets::SocketAddrUse;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use super::error::{one_line, refused};
use super::procfs;
use crate::backend::Call;
use crate::hook::error::LaunchError;
use crate::hook::file::{self, OpenError};
use crate::hook::settings::Settings;
use crate::hook::settings::grants::{Access, Address, ConnectGrant};
use crate::hook::trust::Trust;
use crate::needs::{UDP, Watch};

/// Refuses the directory of a process in procfs.
pub(super) fn check(settings: &Settings, trust: Trust) -> Result<(), LaunchError> {
    for directory in &settings.directories {
        if file::open_granted_directory(&directory.host, trust).is_ok_and(|held| procfs::is_of_a_process(&held)) {
            let host = directory.host.display();
            return Err(refused(format!(
                "its settings grant the directory {host}, which belongs to a process: hooks cannot access processes"
            )));
        }
    }
    Ok(())
}

/// Gives a guest its directories and connections, and nothing else. Returns the number of directories.
pub(super) fn apply(
    settings: &Settings,
    trust: Trust,
    call: &Call<'_>,
    wasi: &mut WasiCtxBuilder,
) -> Result<usize, LaunchError> {
    let mut count = 0;
    let granted: Arc<[Address]> = settings.connections.iter().map(|ConnectGrant { to }| to.clone()).collect();
    let any = |is: fn(&Address) -> bool| granted.iter().any(is);
    wasi.allow_udp(call.watch.is_some() || any(|to| matches!(to, Address::Udp(_))));
    wasi.allow_tcp(call.watch.is_some() || any(|to| matches!(to, Address::Tcp(_))));
    for directory in &settings.directories {
        let rights = match directory.access {
            Access::Read => FsPerms::ReadOnly,
            Access::Write | Access::ReadWrite => FsPerms::ReadWrite,
        };
        let unusable = |place: &Path, why: String| {
            refused(format!("its settings grant the directory {}, which cannot be used: {why}", place.display()))
        };
        for place in directory.places(call.names()).map_err(|why| unusable(&directory.host, why))? {
            // The directory that was checked, wherever its path leads now.
            let held = match file::open_granted_directory(&place, trust) {
                Err(OpenError::NotFound(_) | OpenError::NotADirectory) if directory.is_pattern() => continue,
                held => held.map_err(|e| unusable(&place, e.to_string()))?,
            };
            if procfs::is_of_a_process(&held) {
                return Err(unusable(&place, "it belongs to a process".to_owned()));
            }
            count += 1;
            preopen(wasi, &held, directory.guest(&place), rights).map_err(|why| unusable(&place, why))?;
        }
    }
    if let Some(watch) = call.watch.clone() {
        wasi.socket_addr_check(move |address, use_| is_used(&watch, address, use_));
    } else if !granted.is_empty() {
        wasi.socket_addr_check(move |address, use_| is_granted(&granted, address, use_));
    }
    Ok(count)
}

/// Allows any connection, and collects it.
fn is_used(
    watch: &Watch,
    address: SocketAddr,
    use_: SocketAddrUse,
) -> Pin<Box<dyn Future<Output = bool> + Send + Sync>> {
    let protocol = match use_ {
        SocketAddrUse::TcpConnect => Some(""),
        SocketAddrUse::UdpSend | SocketAddrUse::UdpReceive => Some(UDP),
        _ => None,
    };
    if let Some(protocol) = protocol {
        watch.add(|needs| {
            needs.connections.insert(format!("{address}{protocol}"));
        });
        return Box::pin(async { true });
    }
    is_granted(&[], address, use_)
}

/// Gives a guest a directory that is held open.
pub(super) fn preopen(
    wasi: &mut WasiCtxBuilder,
    held: &impl AsRawFd,
    guest: impl AsRef<str>,
    rights: FsPerms,
) -> Result<(), String> {
    let path = format!("/proc/self/fd/{}", held.as_raw_fd());
    wasi.preopened_dir(path, guest, rights).map(drop).map_err(|error| one_line(&error))
}

/// Allows a connection to a granted address. It begins with binding to a port that the system chooses.
fn is_granted(
    granted: &[Address],
    address: SocketAddr,
    use_: SocketAddrUse,
) -> Pin<Box<dyn Future<Output = bool> + Send + Sync>> {
    let allowed = match use_ {
        SocketAddrUse::TcpConnect => granted.contains(&Address::Tcp(address)),
        SocketAddrUse::UdpSend | SocketAddrUse::UdpReceive => granted.contains(&Address::Udp(address)),
        SocketAddrUse::TcpBind | SocketAddrUse::UdpBind => address.ip().is_unspecified() && address.port() == 0,
        _ => false,
    };
    Box::pin(async move { allowed })
}
