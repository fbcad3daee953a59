//! Connections to Unix sockets, as a guest calls them. A connection is a resource of the call's table, which limits how many
//! there are and closes them at the end.

use std::path::PathBuf;

use nix::errno::Errno;
use wasmtime::component::{self, Resource, ResourceType, WasmList, WasmStr};
use wasmtime::{Caller, Linker, StoreContextMut, format_err};
use wasmtime_wasi::WasiView;

use crate::backend::wasm::memory;
use crate::backend::wasm::store::StoreData;
use crate::backend::wasm::unix::{self, AT_ONCE, Connection, Failure};

const UNIX: &str = "hookvisor:hook/unix@0.1.0";

pub(super) fn add_to_linker(module: &str, linker: &mut Linker<StoreData>) -> wasmtime::Result<()> {
    linker.func_wrap(module, "unix_connect", connect)?;
    linker.func_wrap(module, "unix_read", read)?;
    linker.func_wrap(module, "unix_write", write)?;
    linker.func_wrap(module, "unix_shutdown_write", |mut caller: Caller<'_, StoreData>, connection: u32| {
        let done = get(caller.data_mut(), &Resource::new_own(connection)).and_then(Connection::shutdown_write);
        Ok(outcome(done)?.map_or_else(u32::from, |()| 0))
    })?;
    linker.func_wrap(module, "unix_close", |mut caller: Caller<'_, StoreData>, connection: u32| {
        close(caller.data_mut(), connection);
    })?;
    Ok(())
}

/// Stores the connection's number at `result`.
fn connect(mut caller: Caller<'_, StoreData>, at: u32, len: u32, result: u32) -> wasmtime::Result<u32> {
    // The beginning is enough to refuse one that is too long.
    let path = unix::path(memory::slice(&mut caller, at, len.min(u8::MAX.into()))?);
    let opened = open(caller.data_mut(), path).map(|connection| connection.rep());
    let memory = memory::exported(&mut caller)?;
    answer(memory.data_mut(&mut caller), result, opened)
}

/// Stores the number of bytes at `result`.
fn read(mut caller: Caller<'_, StoreData>, of: u32, at: u32, len: u32, result: u32) -> wasmtime::Result<u32> {
    let (memory, data) = memory::with_data(&mut caller)?;
    let buffer = part(memory, at, len)?;
    let read = get(data, &Resource::new_own(of)).and_then(|connection| connection.read(buffer));
    answer(memory, result, read.map(size))
}

/// Stores the number of bytes at `result`.
fn write(mut caller: Caller<'_, StoreData>, to: u32, at: u32, len: u32, result: u32) -> wasmtime::Result<u32> {
    let (memory, data) = memory::with_data(&mut caller)?;
    let bytes = part(memory, at, len)?;
    let written = get(data, &Resource::new_own(to)).and_then(|connection| connection.write(bytes));
    answer(memory, result, written.map(size))
}

/// As many bytes as one call may use.
fn part(memory: &mut [u8], at: u32, len: u32) -> wasmtime::Result<&mut [u8]> {
    let len = (len as usize).min(AT_ONCE);
    let part = memory.get_mut(at as usize..).and_then(|rest| rest.get_mut(..len));
    part.ok_or_else(|| format_err!("{len} bytes at {at} are outside the guest's memory"))
}

/// No more than [`AT_ONCE`].
fn size(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Stores a result. Returns 0 or the error's number.
fn answer(memory: &mut [u8], at: u32, result: Result<u32, Failure>) -> wasmtime::Result<u32> {
    match outcome(result)? {
        Ok(value) => {
            let place = memory.get_mut(at as usize..).and_then(|rest| rest.first_chunk_mut());
            *place.ok_or_else(|| format_err!("the result's place {at} is outside the guest's memory"))? =
                value.to_le_bytes();
            Ok(0)
        }
        Err(errno) => Ok(errno.into()),
    }
}

pub(super) fn add_to_component_linker(linker: &mut component::Linker<StoreData>) -> wasmtime::Result<()> {
    let mut interface = linker.instance(UNIX)?;
    interface.resource("connection", ResourceType::host::<Connection>(), |mut store, connection| {
        close(store.data_mut(), connection);
        Ok(())
    })?;
    interface.func_wrap("connect", |mut store: StoreContextMut<'_, StoreData>, (path,): (WasmStr,)| {
        let path = unix::path(path.to_str(&store)?.as_bytes());
        Ok((outcome(open(store.data_mut(), path))?,))
    })?;
    interface.func_wrap(
        "[method]connection.read",
        |mut store: StoreContextMut<'_, StoreData>, (connection, at_most): (Resource<Connection>, u32)| {
            let mut buffer = vec![0; (at_most as usize).min(AT_ONCE)];
            let read = get(store.data_mut(), &connection).and_then(|connection| connection.read(&mut buffer));
            let bytes = read.map(|length| {
                buffer.truncate(length);
                buffer
            });
            Ok((outcome(bytes)?,))
        },
    )?;
    interface.func_wrap(
        "[method]connection.write",
        |mut store: StoreContextMut<'_, StoreData>, (connection, bytes): (Resource<Connection>, WasmList<u8>)| {
            let bytes = bytes.as_le_slice(&store);
            let bytes = bytes[..bytes.len().min(AT_ONCE)].to_vec();
            let written = get(store.data_mut(), &connection).and_then(|connection| connection.write(&bytes));
            Ok((outcome(written.map(size))?,))
        },
    )?;
    interface.func_wrap(
        "[method]connection.shutdown-write",
        |mut store: StoreContextMut<'_, StoreData>, (connection,): (Resource<Connection>,)| {
            let done = get(store.data_mut(), &connection).and_then(Connection::shutdown_write);
            Ok((outcome(done)?,))
        },
    )?;
    Ok(())
}

fn open(data: &mut StoreData, path: Result<PathBuf, Errno>) -> Result<Resource<Connection>, Failure> {
    let connection = data.commands().map_err(|_| Errno::EBADF)?.connect(path?)?;
    Ok(data.ctx().table.push(connection).map_err(|_| Errno::EMFILE)?)
}

fn get<'a>(data: &'a mut StoreData, connection: &Resource<Connection>) -> Result<&'a Connection, Failure> {
    Ok(data.ctx().table.get(connection).map_err(|_| Errno::EBADF)?)
}

fn close(data: &mut StoreData, connection: u32) {
    let connection = Resource::<Connection>::new_own(connection);
    // A wrong number closes nothing. `delete` would remove anything that has this number, such as an open directory.
    if get(data, &connection).is_ok() {
        let _ = data.ctx().table.delete(connection);
    }
}

/// The result, or the error's number. An outer error ends the guest.
fn outcome<T>(result: Result<T, Failure>) -> wasmtime::Result<Result<T, u16>> {
    Ok(Err(match result {
        Ok(value) => return Ok(Ok(value)),
        Err(Failure::Expired(expired)) => return Err(expired.into()),
        Err(Failure::NotGranted) => 76,
        Err(Failure::System(errno)) => number(errno),
    }))
}

/// The number that WASI preview 1 has for an error.
fn number(errno: Errno) -> u16 {
    match errno {
        Errno::EACCES => 2,
        Errno::EAFNOSUPPORT => 5,
        Errno::EBADF => 8,
        Errno::ECONNREFUSED => 14,
        Errno::ECONNRESET => 15,
        Errno::EINVAL => 28,
        Errno::EMFILE | Errno::ENFILE => 33,
        Errno::ENAMETOOLONG => 37,
        Errno::ENOENT => 44,
        Errno::ENOMEM | Errno::ENOBUFS => 48,
        Errno::ENOTCONN => 53,
        Errno::EPERM => 63,
        Errno::EPIPE => 64,
        Errno::EPROTOTYPE => 67,
        // EIO.
        _ => 29,
    }
}
