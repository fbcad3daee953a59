//! What a guest may open in a granted directory: files and directories, and nothing else.
//!
//! To open a FIFO is to wait for its other end, on a thread that nothing can call back; reading a terminal is no better. So
//! what is neither file nor directory can be seen and not opened. WASI itself looks at it, by the path and in the sandbox
//! that it would be opened by. What takes its place between the look and the opening is closed again; only a FIFO that is
//! put there just then, by somebody who may write the directory, is still waited for, and so until somebody opens its other
//! end. The hook ends at its deadline all the same.

use wasmtime::component::{self, Resource};
use wasmtime::{AsContextMut, Caller, Linker, StoreContextMut};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemView};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self as preview1, WasiSnapshotPreview1};
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorFlags, DescriptorType, ErrorCode, HostDescriptor, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{FsError, FsResult};
use wiggle::GuestMemory;

use super::guest::Guest;
use super::interface;
use super::preview_1::MODULE as PREVIEW_1;

/// The interface whose functions are replaced, in wasmtime-wasi's version of WASI.
const TYPES: &str = "wasi:filesystem/types@0.2.12";

/// `errno.perm`
const NOT_PERMITTED: i32 = 63;
/// `filetype`'s `directory`, `regular_file` and `symbolic_link`; a link is seen only where it is not followed.
const OPENED: [u8; 3] = [3, 4, 7];
/// A `filestat`: how long it is, what its address is a multiple of, and where the `filetype` stands in it.
const FILESTAT: usize = 64;
const ALIGNED: usize = 8;
const FILETYPE: usize = 16;

type SetTimes = (i32, i32, i32, i32, i64, i64, i32);
type Open = (i32, i32, i32, i32, i32, i64, i64, i32, i32);

/// For modules. Setting times by a path opens it too.
pub(super) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        PREVIEW_1,
        "path_open",
        |mut caller: Caller<'_, Guest>, (dir, lookup, path, len, oflags, base, inheriting, fdflags, opened): Open| {
            Box::new(async move {
                if is_refused(&mut caller, dir, lookup, path, len).await? {
                    return Ok(NOT_PERMITTED);
                }
                let (mut memory, wasi) = memory_and_wasi(&mut caller)?;
                let errno = preview1::path_open(
                    wasi,
                    &mut memory,
                    dir,
                    lookup,
                    path,
                    len,
                    oflags,
                    base,
                    inheriting,
                    fdflags,
                    opened,
                )
                .await?;
                if errno != 0 {
                    return Ok(errno);
                }
                let fd: i32 = memory.read(wiggle::GuestPtr::new(opened.cast_unsigned()))?;
                let mut look = Look::at(&[]);
                let at = look.at;
                let seen = preview1::fd_filestat_get(wasi, &mut look.memory(), fd, at).await?;
                if seen == 0 && look.is_opened() {
                    return Ok(errno);
                }
                preview1::fd_close(wasi, &mut memory, fd).await?;
                Ok(NOT_PERMITTED)
            })
        },
    )?;
    linker.func_wrap_async(
        PREVIEW_1,
        "path_filestat_set_times",
        |mut caller: Caller<'_, Guest>, (dir, lookup, path, len, accessed, modified, flags): SetTimes| {
            Box::new(async move {
                if is_refused(&mut caller, dir, lookup, path, len).await? {
                    return Ok(NOT_PERMITTED);
                }
                let (mut memory, wasi) = memory_and_wasi(&mut caller)?;
                preview1::path_filestat_set_times(wasi, &mut memory, dir, lookup, path, len, accessed, modified, flags)
                    .await
            })
        },
    )?;
    Ok(())
}

/// Whether a module's path leads to what is not to be opened. What cannot be looked at is left to the opening.
async fn is_refused(
    caller: &mut Caller<'_, Guest>,
    dir: i32,
    lookup: i32,
    path: i32,
    len: i32,
) -> wasmtime::Result<bool> {
    let path = interface::read(caller, path.cast_unsigned(), len.cast_unsigned())?;
    let mut look = Look::at(&path);
    let (at, path_at) = (look.at, look.path);
    let (_, wasi) = memory_and_wasi(caller)?;
    let errno = preview1::path_filestat_get(wasi, &mut look.memory(), dir, lookup, path_at, len, at).await?;
    let refused = errno == 0 && !look.is_opened();
    if refused {
        caller.data_mut().refused(&String::from_utf8_lossy(&path));
    }
    Ok(refused)
}

/// What WASI's functions work on, with the fuel that each call of a guest gets: as much as it may make the host copy.
pub(super) fn memory_and_wasi<'a>(
    caller: &'a mut Caller<'_, Guest>,
) -> wasmtime::Result<(GuestMemory<'a>, &'a mut WasiP1Ctx)> {
    let fuel = caller.as_context_mut().hostcall_fuel();
    let (memory, guest) = interface::memory_and_guest(caller)?;
    let wasi = guest.preview_1();
    wasi.set_hostcall_fuel(fuel);
    Ok((GuestMemory::Unshared(memory), wasi))
}

/// A memory beside the guest's, for a look that the guest does not see: a `filestat`, and a path behind it.
struct Look {
    bytes: Vec<u8>,
    /// Where the `filestat` is, as WASI's functions are told it.
    at: i32,
    path: i32,
}

impl Look {
    fn at(path: &[u8]) -> Self {
        let mut bytes = Vec::<u8>::with_capacity(ALIGNED + FILESTAT + path.len());
        // WASI wants it at an address of this machine that is a multiple of eight.
        let at = bytes.as_ptr().align_offset(ALIGNED);
        bytes.resize(at + FILESTAT, 0);
        bytes.extend_from_slice(path);
        let [at, path] = [at, at + FILESTAT].map(|offset| offset as i32);
        Self { bytes, at, path }
    }

    fn memory(&mut self) -> GuestMemory<'_> {
        GuestMemory::Unshared(&mut self.bytes)
    }

    fn is_opened(&self) -> bool {
        self.bytes.get(self.at as usize + FILETYPE).is_some_and(|kind| OPENED.contains(kind))
    }
}

/// For components.
pub(super) fn add_to_component_linker(linker: &mut component::Linker<Guest>) -> wasmtime::Result<()> {
    type Open = (Resource<Descriptor>, PathFlags, String, OpenFlags, DescriptorFlags);
    type SetTimes = (Resource<Descriptor>, PathFlags, String, NewTimestamp, NewTimestamp);
    let mut types = linker.instance(TYPES)?;
    types.func_wrap_async(
        "[method]descriptor.open-at",
        |mut store: StoreContextMut<'_, Guest>, (dir, lookup, path, how, flags): Open| {
            Box::new(async move { answer(open_at(store.data_mut(), dir, lookup, path, how, flags).await) })
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.set-times-at",
        |mut store: StoreContextMut<'_, Guest>, (dir, lookup, path, accessed, modified): SetTimes| {
            Box::new(async move { answer(set_times_at(store.data_mut(), dir, lookup, path, accessed, modified).await) })
        },
    )?;
    Ok(())
}

/// What a component gets: a value, or an error of its own; others end it.
fn answer<T>(result: FsResult<T>) -> wasmtime::Result<(Result<T, ErrorCode>,)> {
    Ok((match result {
        Ok(value) => Ok(value),
        Err(error) => Err(error.downcast()?),
    },))
}

async fn open_at(
    guest: &mut Guest,
    dir: Resource<Descriptor>,
    lookup: PathFlags,
    path: String,
    how: OpenFlags,
    flags: DescriptorFlags,
) -> FsResult<Resource<Descriptor>> {
    check(guest, &dir, lookup, &path).await?;
    let mut files = guest.filesystem();
    let opened = files.open_at(dir, lookup, path, how, flags).await?;
    if is_opened(files.get_type(borrowed(&opened)).await?) {
        return Ok(opened);
    }
    HostDescriptor::drop(&mut files, opened).map_err(FsError::trap)?;
    Err(ErrorCode::NotPermitted.into())
}

async fn set_times_at(
    guest: &mut Guest,
    dir: Resource<Descriptor>,
    lookup: PathFlags,
    path: String,
    accessed: NewTimestamp,
    modified: NewTimestamp,
) -> FsResult<()> {
    check(guest, &dir, lookup, &path).await?;
    guest.filesystem().set_times_at(dir, lookup, path, accessed, modified).await
}

/// Refuses a component's path that leads to what is not to be opened.
async fn check(guest: &mut Guest, dir: &Resource<Descriptor>, lookup: PathFlags, path: &str) -> FsResult<()> {
    let seen = guest.filesystem().stat_at(borrowed(dir), lookup, path.to_owned()).await;
    match seen {
        Ok(found) if !is_opened(found.type_) => {
            guest.refused(path);
            Err(ErrorCode::NotPermitted.into())
        }
        _ => Ok(()),
    }
}

fn is_opened(kind: DescriptorType) -> bool {
    matches!(kind, DescriptorType::Directory | DescriptorType::RegularFile | DescriptorType::SymbolicLink)
}

fn borrowed(descriptor: &Resource<Descriptor>) -> Resource<Descriptor> {
    Resource::new_borrow(descriptor.rep())
}
