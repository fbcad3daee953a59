//! An empty root directory for a module without granted directories. Otherwise its libc would refuse every path itself,
//! and the report could not name the missing directory.

use std::path::Path;

use wasmtime::{Caller, Linker};
use wasmtime_wasi::p1::wasi_snapshot_preview1 as preview1;

use super::memory;
use super::preview_1::MODULE as PREVIEW_1;
use super::store::StoreData;

/// The first descriptor after the three streams.
const ROOT: i32 = 3;
/// `errno`: success, a bad address, no such file or directory.
const SUCCESS: i32 = 0;
const FAULT: i32 = 21;
pub(super) const NO_ENTRY: i32 = 44;
/// `filetype.directory`, and an `fdstat` with all rights, which libc asks for before it opens a path.
const DIRECTORY: u8 = 3;
const FDSTAT: usize = 24;
const RIGHTS: usize = 8;

/// Whether a module's descriptor is the empty root directory.
pub(super) fn is_root(data: &StoreData, fd: i32) -> bool {
    data.has_empty_root && fd == ROOT
}

/// For modules.
pub(super) fn add_to_linker(linker: &mut Linker<StoreData>) -> wasmtime::Result<()> {
    linker.func_wrap(PREVIEW_1, "fd_prestat_get", |mut caller: Caller<'_, StoreData>, fd: i32, at: i32| {
        if is_root(caller.data(), fd) {
            // A directory, whose name has one byte.
            return write(&mut caller, at, &[0, 0, 0, 0, 1, 0, 0, 0]);
        }
        let (mut memory, wasi) = memory::with_wasi(&mut caller)?;
        preview1::fd_prestat_get(wasi, &mut memory, fd, at)
    })?;
    linker.func_wrap(
        PREVIEW_1,
        "fd_prestat_dir_name",
        |mut caller: Caller<'_, StoreData>, fd: i32, path: i32, len: i32| {
            if is_root(caller.data(), fd) && len > 0 {
                return write(&mut caller, path, b"/");
            }
            let (mut memory, wasi) = memory::with_wasi(&mut caller)?;
            preview1::fd_prestat_dir_name(wasi, &mut memory, fd, path, len)
        },
    )?;
    linker.func_wrap_async(PREVIEW_1, "fd_fdstat_get", |mut caller: Caller<'_, StoreData>, (fd, at): (i32, i32)| {
        Box::new(async move {
            if is_root(caller.data(), fd) {
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

/// The directory to grant for this path below the root.
pub(super) fn directory_of(path: &str) -> String {
    let path = format!("/{}", path.trim_matches('/'));
    match Path::new(&path).parent().and_then(Path::to_str) {
        Some("/") | None => path,
        Some(parent) => parent.to_owned(),
    }
}
