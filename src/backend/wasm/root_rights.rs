//! The rights of a module's directory `/`. libc asks for them before it opens a path, and refuses by itself what they lack.

use wasmtime::{Caller, Linker};
use wasmtime_wasi::p1::wasi_snapshot_preview1 as preview1;

use super::memory;
use super::preview_1::MODULE as PREVIEW_1;
use super::root::Root;
use super::store::StoreData;

/// `errno`: success, a bad address.
const SUCCESS: i32 = 0;
const FAULT: i32 = 21;
/// `filetype.directory`, and an `fdstat` with all rights.
const DIRECTORY: u8 = 3;
const FDSTAT: usize = 24;
const RIGHTS: usize = 8;

/// Whether a module's descriptor is its directory `/`.
pub(super) fn is_root(data: &StoreData, fd: i32) -> bool {
    data.root.as_ref().is_some_and(|root| root.descriptor == Some(fd.cast_unsigned()))
}

/// For modules.
pub(super) fn add_to_linker(linker: &mut Linker<StoreData>) -> wasmtime::Result<()> {
    linker.func_wrap_async(PREVIEW_1, "fd_fdstat_get", |mut caller: Caller<'_, StoreData>, (fd, at): (i32, i32)| {
        Box::new(async move {
            if is_root(caller.data(), fd) && !caller.data().root.as_ref().is_some_and(Root::learns) {
                let mut fdstat = [0; FDSTAT];
                fdstat[0] = DIRECTORY;
                fdstat[RIGHTS..].fill(u8::MAX);
                return write(&mut caller, at, &fdstat);
            }
            let (mut memory, wasi) = memory::with_wasi(&mut caller)?;
            preview1::fd_fdstat_get(wasi, &mut memory, fd, at).await
        })
    })?;
    Ok(())
}

fn write(caller: &mut Caller<'_, StoreData>, at: i32, bytes: &[u8]) -> wasmtime::Result<i32> {
    let (memory, _) = memory::with_data(caller)?;
    let at = at.cast_unsigned() as usize;
    let Some(place) = memory.get_mut(at..).and_then(|rest| rest.get_mut(..bytes.len())) else { return Ok(FAULT) };
    place.copy_from_slice(bytes);
    Ok(SUCCESS)
}
