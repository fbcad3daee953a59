//! Lists directories. wasmtime-wasi reads a whole directory, and for a module again at each call. Here a listing is
//! read in pieces and needs no more memory than a piece.

use std::any::Any;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use nix::dir::Type;
use nix::errno::Errno;
use wasmtime::component::{self, Resource, ResourceType};
use wasmtime::{Caller, Linker, StoreContextMut};
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p1::wasi_snapshot_preview1 as preview1;
use wasmtime_wasi::p2::FsResult;
use wasmtime_wasi::p2::bindings::filesystem::types::{DescriptorType, DirectoryEntry, ErrorCode};
use wasmtime_wasi::runtime::spawn_blocking;
use wasmtime_wasi::{ResourceTable, WasiView};

use super::listing::{Listing, ModuleListing, identity};
use super::memory;
use super::paths::{self, TYPES};
use super::preview_1::MODULE as PREVIEW_1;
use super::scratch::ScratchMemory;
use super::store::StoreData;

/// Entries read at once for a component.
const BATCH: usize = 64;
/// `errno`: a bad address, an illegal byte sequence, an error of the file system, too many open files.
const FAULT: i32 = 21;
const ILLEGAL_SEQUENCE: i32 = 25;
const IO: i32 = 29;
const TOO_MANY_FILES: i32 = 33;
/// `filetype.directory`
const DIRECTORY: u8 = 3;

/// For modules.
pub(super) fn add_to_linker(linker: &mut Linker<StoreData>) -> wasmtime::Result<()> {
    type Readdir = (i32, i32, i32, i64, i32);
    linker.func_wrap_async(
        PREVIEW_1,
        "fd_readdir",
        |mut caller: Caller<'_, StoreData>, (fd, buffer, len, cookie, used): Readdir| {
            Box::new(async move {
                if let Some(errno) = read_directory(&mut caller, fd, (buffer, len), cookie, used).await? {
                    return Ok(errno);
                }
                let (mut memory, wasi) = memory::with_wasi(&mut caller)?;
                preview1::fd_readdir(wasi, &mut memory, fd, buffer, len, cookie, used).await
            })
        },
    )?;
    Ok(())
}

/// Lists a module's directory. `None` if it is not a directory: wasmtime-wasi answers that.
async fn read_directory(
    caller: &mut Caller<'_, StoreData>,
    fd: i32,
    (buffer, len): (i32, i32),
    cookie: i64,
    used: i32,
) -> wasmtime::Result<Option<i32>> {
    let mut scratch = ScratchMemory::with_path(&[]);
    let (_, wasi) = memory::with_wasi(caller)?;
    let at = scratch.at;
    if preview1::fd_filestat_get(wasi, &mut scratch.memory(), fd, at).await? != 0 || scratch.kind() != Some(DIRECTORY) {
        return Ok(None);
    }
    let (memory, data) = memory::with_data(caller)?;
    let Some(directory) = directory(data.ctx().table, scratch.id()) else { return Ok(None) };
    let (start, size) = (buffer.cast_unsigned() as usize, len.cast_unsigned() as usize);
    if memory.get(start..).is_none_or(|rest| rest.len() < size) || memory::word(memory, used).is_none() {
        return Ok(Some(FAULT));
    }
    let kept = data.listings.take(fd);
    let cookie = cookie.cast_unsigned();
    let read = spawn_blocking(move || {
        let mut listing = ModuleListing::at(cookie, kept, &directory)?;
        let bytes = listing.fill(size, &directory)?;
        Ok::<_, io::Error>((listing, bytes))
    });
    let (listing, bytes) = match read.await {
        Ok(read) => read,
        Err(error) => return Ok(Some(errno(&error))),
    };
    let (memory, data) = memory::with_data(caller)?;
    data.listings.keep(fd, listing);
    let written = u32::try_from(bytes.len())?;
    if let Some(buffer) = memory.get_mut(start..).and_then(|rest| rest.get_mut(..bytes.len())) {
        buffer.copy_from_slice(&bytes);
    }
    if let Some(used) = memory::word(memory, used) {
        used.copy_from_slice(&written.to_le_bytes());
    }
    Ok(Some(0))
}

/// The directory with this WASI descriptor.
fn directory(table: &mut ResourceTable, id: u64) -> Option<Arc<File>> {
    let is_it = |file: &File| file.metadata().is_ok_and(|found| identity(found.dev(), found.ino()) == id);
    table.iter_mut().find_map(|entry| match (entry as &dyn Any).downcast_ref() {
        Some(Descriptor::Dir(directory)) if is_it(&directory.dir) => Some(Arc::clone(&directory.dir)),
        _ => None,
    })
}

fn errno(error: &io::Error) -> i32 {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EMFILE | Errno::ENFILE) => TOO_MANY_FILES,
        Some(Errno::EILSEQ) => ILLEGAL_SEQUENCE,
        _ => IO,
    }
}

/// A component's position in a directory.
pub(super) struct DirectoryStream {
    /// `None` after an error.
    listing: Option<Listing>,
    /// Entries that were already read.
    batch: VecDeque<DirectoryEntry>,
}

/// For components.
pub(super) fn add_to_component_linker(linker: &mut component::Linker<StoreData>) -> wasmtime::Result<()> {
    let mut types = linker.instance(TYPES)?;
    types.resource("directory-entry-stream", ResourceType::host::<DirectoryStream>(), |mut store, id| {
        store.data_mut().ctx().table.delete(Resource::<DirectoryStream>::new_own(id))?;
        Ok(())
    })?;
    types.func_wrap_async(
        "[method]descriptor.read-directory",
        |mut store: StoreContextMut<'_, StoreData>, (directory,): (Resource<Descriptor>,)| {
            Box::new(async move { paths::answer(open_stream(store.data_mut(), directory).await) })
        },
    )?;
    types.func_wrap_async(
        "[method]directory-entry-stream.read-directory-entry",
        |mut store: StoreContextMut<'_, StoreData>, (stream,): (Resource<DirectoryStream>,)| {
            Box::new(async move { paths::answer(next_of_stream(store.data_mut(), stream).await) })
        },
    )?;
    Ok(())
}

async fn open_stream(data: &mut StoreData, directory: Resource<Descriptor>) -> FsResult<Resource<DirectoryStream>> {
    let directory = match data.ctx().table.get(&directory)? {
        Descriptor::Dir(directory) => Arc::clone(&directory.dir),
        Descriptor::File(_) => return Err(ErrorCode::NotDirectory.into()),
    };
    let listing = spawn_blocking(move || Listing::open(&directory)).await?;
    Ok(data.ctx().table.push(DirectoryStream { listing: Some(listing), batch: VecDeque::new() })?)
}

async fn next_of_stream(data: &mut StoreData, id: Resource<DirectoryStream>) -> FsResult<Option<DirectoryEntry>> {
    let stream = data.ctx().table.get_mut(&id)?;
    if stream.batch.is_empty()
        && let Some(mut listing) = stream.listing.take()
    {
        let (listing, batch) = spawn_blocking(move || {
            let batch = read_batch(&mut listing)?;
            Ok::<_, io::Error>((listing, batch))
        })
        .await?;
        let stream = data.ctx().table.get_mut(&id)?;
        (stream.listing, stream.batch) = (Some(listing), batch);
        return Ok(stream.batch.pop_front());
    }
    Ok(stream.batch.pop_front())
}

fn read_batch(listing: &mut Listing) -> io::Result<VecDeque<DirectoryEntry>> {
    let mut batch = VecDeque::new();
    while batch.len() < BATCH {
        let Some(entry) = listing.next()? else { break };
        let name = String::from_utf8(entry.name).map_err(|_| io::Error::from(Errno::EILSEQ))?;
        batch.push_back(DirectoryEntry { type_: descriptor_type(entry.kind), name });
    }
    Ok(batch)
}

fn descriptor_type(kind: Option<Type>) -> DescriptorType {
    match kind {
        Some(Type::BlockDevice) => DescriptorType::BlockDevice,
        Some(Type::CharacterDevice) => DescriptorType::CharacterDevice,
        Some(Type::Directory) => DescriptorType::Directory,
        Some(Type::File) => DescriptorType::RegularFile,
        Some(Type::Symlink) => DescriptorType::SymbolicLink,
        Some(Type::Fifo) => DescriptorType::Fifo,
        Some(Type::Socket) => DescriptorType::Socket,
        None => DescriptorType::Unknown,
    }
}
