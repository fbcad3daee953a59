//! Opening paths in granted directories. A guest may open files and directories, and nothing else.
//!
//! Opening a FIFO waits for its other end on a thread that nothing can call back, and reading a terminal is no better. So a
//! path is looked up first, by WASI and in the same sandbox, and what was opened is examined again. If somebody who may
//! write the directory puts a FIFO there between the two, a thread waits until its other end is opened. The hook still ends
//! at its deadline.

use wasmtime::component::{self, Resource};
use wasmtime::{Caller, Linker, StoreContextMut};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemView};
use wasmtime_wasi::p1::wasi_snapshot_preview1 as preview1;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorFlags, DescriptorType, ErrorCode, HostDescriptor, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{FsError, FsResult};
use wiggle::GuestMemory;

use super::preview_1::MODULE as PREVIEW_1;
use super::store::StoreData;
use super::{memory, paths};

/// `errno.perm`
const NOT_PERMITTED: i32 = 63;
/// `filetype`: `directory`, `regular_file` and `symbolic_link`, which is seen only where links are not followed.
const OPENABLE: [u8; 3] = [3, 4, 7];
/// A `filestat`: its size, its alignment, and the offset of the `filetype` in it.
const FILESTAT: usize = 64;
const ALIGNMENT: usize = 8;
const FILETYPE: usize = 16;

type SetTimes = (i32, i32, i32, i32, i64, i64, i32);
type Open = (i32, i32, i32, i32, i32, i64, i64, i32, i32);

/// For modules. Setting times by path opens the path too.
pub(super) fn add_to_linker(linker: &mut Linker<StoreData>) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        PREVIEW_1,
        "path_open",
        |mut caller: Caller<'_, StoreData>,
         (dir, lookup, path, len, oflags, base, inheriting, fdflags, opened): Open| {
            Box::new(async move {
                if let Some(errno) = refusal(&mut caller, dir, lookup, path, len).await? {
                    return Ok(errno);
                }
                let (mut memory, wasi) = memory::with_wasi(&mut caller)?;
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
                let mut scratch = ScratchMemory::with_path(&[]);
                let at = scratch.at;
                let seen = preview1::fd_filestat_get(wasi, &mut scratch.memory(), fd, at).await?;
                if seen == 0 && scratch.is_openable() {
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
        |mut caller: Caller<'_, StoreData>, (dir, lookup, path, len, accessed, modified, flags): SetTimes| {
            Box::new(async move {
                if let Some(errno) = refusal(&mut caller, dir, lookup, path, len).await? {
                    return Ok(errno);
                }
                let (mut memory, wasi) = memory::with_wasi(&mut caller)?;
                preview1::path_filestat_set_times(wasi, &mut memory, dir, lookup, path, len, accessed, modified, flags)
                    .await
            })
        },
    )?;
    Ok(())
}

/// The `errno` for a module's path that leads to something that may not be opened. A path that cannot be looked up is left
/// to the open call, which fails.
async fn refusal(
    caller: &mut Caller<'_, StoreData>,
    dir: i32,
    lookup: i32,
    path: i32,
    len: i32,
) -> wasmtime::Result<Option<i32>> {
    if paths::is_too_long(len) {
        return Ok(Some(paths::NAME_TOO_LONG));
    }
    let path = memory::slice(caller, path.cast_unsigned(), len.cast_unsigned())?.to_vec();
    let mut scratch = ScratchMemory::with_path(&path);
    let (at, path_at) = (scratch.at, scratch.path);
    let (_, wasi) = memory::with_wasi(caller)?;
    let errno = preview1::path_filestat_get(wasi, &mut scratch.memory(), dir, lookup, path_at, len, at).await?;
    if errno != 0 || scratch.is_openable() {
        return Ok(None);
    }
    caller.data_mut().note_unopened(&String::from_utf8_lossy(&path));
    Ok(Some(NOT_PERMITTED))
}

/// Memory for a call of WASI that the guest does not see. It holds a `filestat`, followed by a path.
struct ScratchMemory {
    bytes: Vec<u8>,
    /// The address of the `filestat`.
    at: i32,
    path: i32,
}

impl ScratchMemory {
    fn with_path(path: &[u8]) -> Self {
        let mut bytes = Vec::<u8>::with_capacity(ALIGNMENT + FILESTAT + path.len());
        // WASI checks the alignment of the host address.
        let at = bytes.as_ptr().align_offset(ALIGNMENT);
        bytes.resize(at + FILESTAT, 0);
        bytes.extend_from_slice(path);
        let [at, path] = [at, at + FILESTAT].map(|offset| offset as i32);
        Self { bytes, at, path }
    }

    fn memory(&mut self) -> GuestMemory<'_> {
        GuestMemory::Unshared(&mut self.bytes)
    }

    fn is_openable(&self) -> bool {
        self.bytes.get(self.at as usize + FILETYPE).is_some_and(|kind| OPENABLE.contains(kind))
    }
}

/// For components.
pub(super) fn add_to_component_linker(linker: &mut component::Linker<StoreData>) -> wasmtime::Result<()> {
    type Open = (Resource<Descriptor>, PathFlags, String, OpenFlags, DescriptorFlags);
    type SetTimes = (Resource<Descriptor>, PathFlags, String, NewTimestamp, NewTimestamp);
    let mut types = linker.instance(paths::TYPES)?;
    types.func_wrap_async(
        "[method]descriptor.open-at",
        |mut store: StoreContextMut<'_, StoreData>, (dir, lookup, path, how, flags): Open| {
            Box::new(async move { paths::answer(open_at(store.data_mut(), dir, lookup, path, how, flags).await) })
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.set-times-at",
        |mut store: StoreContextMut<'_, StoreData>, (dir, lookup, path, accessed, modified): SetTimes| {
            Box::new(async move {
                paths::answer(set_times_at(store.data_mut(), dir, lookup, path, accessed, modified).await)
            })
        },
    )?;
    Ok(())
}

async fn open_at(
    data: &mut StoreData,
    dir: Resource<Descriptor>,
    lookup: PathFlags,
    path: String,
    how: OpenFlags,
    flags: DescriptorFlags,
) -> FsResult<Resource<Descriptor>> {
    check(data, &dir, lookup, &path).await?;
    let mut files = data.filesystem();
    let opened = files.open_at(dir, lookup, path, how, flags).await?;
    if is_openable(files.get_type(borrowed(&opened)).await?) {
        return Ok(opened);
    }
    HostDescriptor::drop(&mut files, opened).map_err(FsError::trap)?;
    Err(ErrorCode::NotPermitted.into())
}

async fn set_times_at(
    data: &mut StoreData,
    dir: Resource<Descriptor>,
    lookup: PathFlags,
    path: String,
    accessed: NewTimestamp,
    modified: NewTimestamp,
) -> FsResult<()> {
    check(data, &dir, lookup, &path).await?;
    data.filesystem().set_times_at(dir, lookup, path, accessed, modified).await
}

/// Refuses a component's path that leads to something that may not be opened.
async fn check(data: &mut StoreData, dir: &Resource<Descriptor>, lookup: PathFlags, path: &str) -> FsResult<()> {
    paths::check_length(path)?;
    let seen = data.filesystem().stat_at(borrowed(dir), lookup, path.to_owned()).await;
    match seen {
        Ok(found) if !is_openable(found.type_) => {
            data.note_unopened(path);
            Err(ErrorCode::NotPermitted.into())
        }
        _ => Ok(()),
    }
}

fn is_openable(kind: DescriptorType) -> bool {
    matches!(kind, DescriptorType::Directory | DescriptorType::RegularFile | DescriptorType::SymbolicLink)
}

fn borrowed(descriptor: &Resource<Descriptor>) -> Resource<Descriptor> {
    Resource::new_borrow(descriptor.rep())
}
