//! Opens paths in granted directories. A guest may open files and directories only, and nothing in procfs that belongs
//! to a process.
//!
//! Opening a FIFO blocks a thread until the other end is opened, and reading a terminal also blocks. So a path is first
//! looked up by WASI in the same sandbox, and the opened file is checked again. Whoever can write to the directory
//! could put a FIFO there between the two steps. Then one thread blocks until the other end is opened, and the hook
//! still ends at its deadline.

use std::any::Any;
use std::fs::File;
use std::sync::Arc;

use wasmtime::component::{self, Resource};
use wasmtime::{Caller, Linker, StoreContextMut};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemView};
use wasmtime_wasi::p1::wasi_snapshot_preview1 as preview1;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorFlags, DescriptorType, ErrorCode, HostDescriptor, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{FsError, FsResult};
use wasmtime_wasi::runtime::spawn_blocking;

use super::paths::Start;
use super::preview_1::MODULE as PREVIEW_1;
use super::root::NO_ENTRY;
use super::scratch::ScratchMemory;
use super::store::StoreData;
use super::{memory, paths, procfs};

/// Why a path was refused.
const NOT_A_FILE: &str = "a hook can open only files and directories";
const OF_A_PROCESS: &str = "it belongs to a process, and hooks cannot open such files";
/// `errno.perm`
const NOT_PERMITTED: i32 = 63;
/// `oflags` that change something: creat, excl, trunc. `rights.fd_write`.
const CREATES: i32 = 1 | 4 | 8;
const RIGHT_TO_WRITE: i64 = 1 << 6;
type SetTimes = (i32, i32, i32, i32, i64, i64, i32);
type Open = (i32, i32, i32, i32, i32, i64, i64, i32, i32);

/// For modules. Setting times by path opens the path too.
pub(super) fn add_to_linker(linker: &mut Linker<StoreData>) -> wasmtime::Result<()> {
    linker.func_wrap_async(PREVIEW_1, "path_open", |caller: Caller<'_, StoreData>, arguments: Open| {
        Box::new(path_open(caller, arguments))
    })?;
    linker.func_wrap_async(
        PREVIEW_1,
        "path_filestat_set_times",
        |caller: Caller<'_, StoreData>, arguments: SetTimes| Box::new(path_set_times(caller, arguments)),
    )?;
    Ok(())
}

async fn path_open(
    mut caller: Caller<'_, StoreData>,
    (dir, lookup, path, len, oflags, base, inheriting, fdflags, opened): Open,
) -> wasmtime::Result<i32> {
    let writes = oflags & CREATES != 0 || base & RIGHT_TO_WRITE != 0;
    if let Some(errno) = refusal(&mut caller, dir, lookup, (path, len), writes).await? {
        return Ok(errno);
    }
    let before = addresses(caller.data_mut());
    let (mut memory, wasi) = memory::with_wasi(&mut caller)?;
    let open = preview1::path_open;
    let errno = open(wasi, &mut memory, dir, lookup, path, len, oflags, base, inheriting, fdflags, opened).await?;
    if errno != 0 {
        return Ok(errno);
    }
    let fd: i32 = memory.read(wiggle::GuestPtr::new(opened.cast_unsigned()))?;
    let mut scratch = ScratchMemory::with_path(&[]);
    let at = scratch.at;
    let seen = preview1::fd_filestat_get(wasi, &mut scratch.memory(), fd, at).await?;
    let is_openable = seen == 0 && scratch.is_openable();
    let new = opened_since(caller.data_mut(), &before);
    let refused = match new {
        Some(file) if is_openable => spawn_blocking(move || is_forbidden(&file)).await,
        Some(_) | None => true,
    };
    if !refused {
        paths::used(&mut caller, dir, (path, len), writes, Some(fd))?;
        return Ok(errno);
    }
    let (mut memory, wasi) = memory::with_wasi(&mut caller)?;
    preview1::fd_close(wasi, &mut memory, fd).await?;
    let path = memory::slice(&mut caller, path.cast_unsigned(), len.cast_unsigned())?.to_vec();
    let why = if is_openable { OF_A_PROCESS } else { NOT_A_FILE };
    caller.data_mut().note_unopened(&String::from_utf8_lossy(&path), why);
    Ok(NOT_PERMITTED)
}

async fn path_set_times(
    mut caller: Caller<'_, StoreData>,
    (dir, lookup, path, len, accessed, modified, flags): SetTimes,
) -> wasmtime::Result<i32> {
    if let Some(errno) = refusal(&mut caller, dir, lookup, (path, len), true).await? {
        return Ok(errno);
    }
    let (mut memory, wasi) = memory::with_wasi(&mut caller)?;
    let set = preview1::path_filestat_set_times;
    let errno = set(wasi, &mut memory, dir, lookup, path, len, accessed, modified, flags).await?;
    if errno == 0 {
        paths::used(&mut caller, dir, (path, len), true, None)?;
    }
    Ok(errno)
}

/// The `errno` for a module's path that must not be opened. If the lookup fails, the open call fails too and reports
/// it.
async fn refusal(
    caller: &mut Caller<'_, StoreData>,
    dir: i32,
    lookup: i32,
    (path, len): (i32, i32),
    writes: bool,
) -> wasmtime::Result<Option<i32>> {
    if paths::is_too_long(len) {
        return Ok(Some(paths::NAME_TOO_LONG));
    }
    if paths::refuses(caller, dir, (path, len), writes)? {
        return Ok(Some(NO_ENTRY));
    }
    let path = memory::slice(caller, path.cast_unsigned(), len.cast_unsigned())?.to_vec();
    let mut scratch = ScratchMemory::with_path(&path);
    let (at, path_at) = (scratch.at, scratch.path);
    let (_, wasi) = memory::with_wasi(caller)?;
    let errno = preview1::path_filestat_get(wasi, &mut scratch.memory(), dir, lookup, path_at, len, at).await?;
    if errno != 0 || scratch.is_openable() {
        return Ok(None);
    }
    caller.data_mut().note_unopened(&String::from_utf8_lossy(&path), NOT_A_FILE);
    Ok(Some(NOT_PERMITTED))
}

/// Whether an opened file must be closed again. Reading any other does not block.
fn is_forbidden(file: &File) -> bool {
    procfs::is_of_a_process(file) || procfs::never_wait(file).is_err()
}

fn file_of(descriptor: &Descriptor) -> Arc<File> {
    match descriptor {
        Descriptor::File(file) => Arc::clone(&file.file),
        Descriptor::Dir(directory) => Arc::clone(&directory.dir),
    }
}

/// The files that a guest has open.
fn open_files(data: &mut StoreData) -> impl Iterator<Item = Arc<File>> {
    data.ctx().table.iter_mut().filter_map(|entry| (entry as &dyn Any).downcast_ref().map(file_of))
}

/// The addresses of the files that a guest has open.
fn addresses(data: &mut StoreData) -> Vec<usize> {
    open_files(data).map(|file| Arc::as_ptr(&file).addr()).collect()
}

/// The file that was opened since then, if any.
fn opened_since(data: &mut StoreData, before: &[usize]) -> Option<Arc<File>> {
    open_files(data).find(|file| !before.contains(&Arc::as_ptr(file).addr()))
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
    let writes = how.intersects(OpenFlags::CREATE | OpenFlags::TRUNCATE) || flags.contains(DescriptorFlags::WRITE);
    check(data, &dir, lookup, &path, writes).await?;
    let start = Start::of(data, &dir);
    let mut files = data.filesystem();
    let opened = files.open_at(dir, lookup, path.clone(), how, flags).await?;
    let file = file_of(files.table.get(&opened)?);
    let is_openable = is_openable(files.get_type(borrowed(&opened)).await?);
    if is_openable && !spawn_blocking(move || is_forbidden(&file)).await {
        start.used(data, &path, writes, Some(opened.rep()));
        return Ok(opened);
    }
    HostDescriptor::drop(&mut files, opened).map_err(FsError::trap)?;
    data.note_unopened(&path, if is_openable { OF_A_PROCESS } else { NOT_A_FILE });
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
    check(data, &dir, lookup, &path, true).await?;
    let start = Start::of(data, &dir);
    data.filesystem().set_times_at(dir, lookup, path.clone(), accessed, modified).await?;
    start.used(data, &path, true, None);
    Ok(())
}

/// Refuses a component's path that leads to something that may not be opened.
async fn check(
    data: &mut StoreData,
    dir: &Resource<Descriptor>,
    lookup: PathFlags,
    path: &str,
    writes: bool,
) -> FsResult<()> {
    paths::check(data, dir, path, writes)?;
    let seen = data.filesystem().stat_at(borrowed(dir), lookup, path.to_owned()).await;
    match seen {
        Ok(found) if !is_openable(found.type_) => {
            data.note_unopened(path, NOT_A_FILE);
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
