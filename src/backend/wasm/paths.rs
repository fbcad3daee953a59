//! The paths that a guest passes to WASI. A path longer than the system's limit is refused before anything is copied or split,
//! and so is one outside of the guest's directories. What a guest that is learnt from uses is collected.

use std::sync::Arc;

use wasmtime::component::{self, Resource};
use wasmtime::{Caller, Linker, StoreContextMut};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemView};
use wasmtime_wasi::p1::wasi_snapshot_preview1 as preview1;
use wasmtime_wasi::p2::FsResult;
use wasmtime_wasi::p2::bindings::filesystem::types::{ErrorCode, HostDescriptor, PathFlags};

use super::memory;
use super::preview_1::MODULE as PREVIEW_1;
use super::request::LONGEST_PATH;
use super::root::{NO_ENTRY, Root};
use super::root_rights::is_root;
use super::store::StoreData;

/// The interface with the replaced functions, in wasmtime-wasi's version of WASI 0.2.
pub(super) const TYPES: &str = "wasi:filesystem/types@0.2.12";
/// `errno.nametoolong`
pub(super) const NAME_TOO_LONG: i32 = 37;

/// Whether a module's path is too long.
pub(super) fn is_too_long(len: i32) -> bool {
    len.cast_unsigned() as usize > LONGEST_PATH
}

/// Refuses a text of a component that is longer than any path.
fn check_length(path: &str) -> FsResult<()> {
    if path.len() > LONGEST_PATH { Err(ErrorCode::NameTooLong.into()) } else { Ok(()) }
}

/// Refuses a component's path that is too long, or outside of its directories.
pub(super) fn check(data: &mut StoreData, directory: &Resource<Descriptor>, path: &str, writes: bool) -> FsResult<()> {
    check_length(path)?;
    let refused =
        Start::of(data, directory).is_root && data.root.as_mut().is_some_and(|root| root.refuses(path, writes));
    if refused { Err(ErrorCode::NoEntry.into()) } else { Ok(()) }
}

/// The directory at which a component's path starts.
pub(super) struct Start {
    descriptor: u32,
    is_root: bool,
}

impl Start {
    pub(super) fn of(data: &mut StoreData, directory: &Resource<Descriptor>) -> Self {
        let file = match data.ctx().table.get(directory) {
            Ok(Descriptor::Dir(directory)) => Some(Arc::clone(&directory.dir)),
            Ok(Descriptor::File(_)) | Err(_) => None,
        };
        let is_root = data.root.as_ref().is_some_and(|root| file.is_some_and(|file| root.is(&file)));
        Self { descriptor: directory.rep(), is_root }
    }

    /// Collects a path that was used.
    pub(super) fn used(&self, data: &mut StoreData, path: &str, writes: bool, opened: Option<u32>) {
        if let Some(root) = &mut data.root {
            root.used((!self.is_root).then_some(self.descriptor), path, writes, opened);
        }
    }
}

/// Whether a module's path is refused, since it is outside of its directories.
pub(super) fn refuses(
    caller: &mut Caller<'_, StoreData>,
    directory: i32,
    (path, len): (i32, i32),
    writes: bool,
) -> wasmtime::Result<bool> {
    if !is_root(caller.data(), directory) {
        return Ok(false);
    }
    let path = String::from_utf8_lossy(memory::slice(caller, path.cast_unsigned(), len.cast_unsigned())?).into_owned();
    Ok(caller.data_mut().root.as_mut().is_some_and(|root| root.refuses(&path, writes)))
}

/// Collects a path that a module used.
pub(super) fn used(
    caller: &mut Caller<'_, StoreData>,
    directory: i32,
    (path, len): (i32, i32),
    writes: bool,
    opened: Option<i32>,
) -> wasmtime::Result<()> {
    if !caller.data().root.as_ref().is_some_and(Root::learns) {
        return Ok(());
    }
    let path = String::from_utf8_lossy(memory::slice(caller, path.cast_unsigned(), len.cast_unsigned())?).into_owned();
    let directory = (!is_root(caller.data(), directory)).then_some(directory.cast_unsigned());
    if let Some(root) = &mut caller.data_mut().root {
        root.used(directory, &path, writes, opened.map(i32::cast_unsigned));
    }
    Ok(())
}

/// The result for a component. An error that is not its own ends the component.
pub(super) fn answer<T>(result: FsResult<T>) -> wasmtime::Result<(Result<T, ErrorCode>,)> {
    Ok((match result {
        Ok(value) => Ok(value),
        Err(error) => Err(error.downcast()?),
    },))
}

/// Adds a function of preview 1 that checks its paths and then calls wasmtime-wasi's. A path is a directory, an address and a
/// length.
macro_rules! preview_1 {
    ($linker:ident, $function:ident($($argument:ident),*), $writes:literal, $([$dir:ident $path:ident $len:ident]),+ $(, $text:ident)?) => {
        $linker.func_wrap_async(
            PREVIEW_1,
            stringify!($function),
            |mut caller: Caller<'_, StoreData>, ($($argument,)*): ($(preview_1!(@i32 $argument),)*)| {
                Box::new(async move {
                    if $(is_too_long($len) ||)+ $(is_too_long($text) ||)? false {
                        return Ok(NAME_TOO_LONG);
                    }
                    if $(refuses(&mut caller, $dir, ($path, $len), $writes)?)||+ {
                        return Ok(NO_ENTRY);
                    }
                    let (mut memory, wasi) = memory::with_wasi(&mut caller)?;
                    let errno = preview1::$function(wasi, &mut memory, $($argument),*).await?;
                    if errno == 0 {
                        $(used(&mut caller, $dir, ($path, $len), $writes, None)?;)+
                    }
                    Ok(errno)
                })
            },
        )?
    };
    (@i32 $argument:ident) => { i32 };
}

/// For modules. Opening and setting times are in `files`.
pub(super) fn add_to_linker(linker: &mut Linker<StoreData>) -> wasmtime::Result<()> {
    preview_1!(linker, path_create_directory(dir, path, len), true, [dir path len]);
    preview_1!(linker, path_filestat_get(dir, flags, path, len, stat), false, [dir path len]);
    preview_1!(
        linker,
        path_link(from_dir, flags, from, from_len, to_dir, to, to_len),
        true,
        [from_dir from from_len],
        [to_dir to to_len]
    );
    preview_1!(linker, path_readlink(dir, path, len, buffer, buffer_len, used_len), false, [dir path len]);
    preview_1!(linker, path_remove_directory(dir, path, len), true, [dir path len]);
    preview_1!(
        linker,
        path_rename(from_dir, from, from_len, to_dir, to, to_len),
        true,
        [from_dir from from_len],
        [to_dir to to_len]
    );
    preview_1!(linker, path_symlink(target, target_len, dir, path, len), true, [dir path len], target_len);
    preview_1!(linker, path_unlink_file(dir, path, len), true, [dir path len]);
    Ok(())
}

/// Adds a method of a descriptor that checks its paths and then calls wasmtime-wasi's. A path follows the directory that it
/// starts at.
macro_rules! preview_2 {
    ($types:ident, $name:literal, $method:ident($($argument:ident: $type:ty),*), $writes:literal, $([$dir:ident $path:ident]),+ $(, $text:ident)?) => {
        $types.func_wrap_async(
            concat!("[method]descriptor.", $name),
            |mut store: StoreContextMut<'_, StoreData>,
             (dir, $($argument,)*): (Resource<Descriptor>, $($type,)*)| {
                Box::new(async move {
                    let data = store.data_mut();
                    $(if let Err(error) = check_length(&$text) {
                        return answer(Err(error));
                    })?
                    $(if let Err(error) = check(data, preview_2!(@dir dir $dir), &$path, $writes) {
                        return answer(Err(error));
                    })+
                    let starts = [$((Start::of(data, preview_2!(@dir dir $dir)), $path.clone())),+];
                    let result = data.filesystem().$method(dir, $($argument),*).await;
                    if result.is_ok() {
                        starts.iter().for_each(|(start, path)| start.used(data, path, $writes, None));
                    }
                    answer(result)
                })
            },
        )?
    };
    (@dir $own:ident own) => { &$own };
    (@dir $own:ident $other:ident) => { &$other };
}

/// For components. Opening and setting times are in `files`.
pub(super) fn add_to_component_linker(linker: &mut component::Linker<StoreData>) -> wasmtime::Result<()> {
    let mut types = linker.instance(TYPES)?;
    preview_2!(types, "create-directory-at", create_directory_at(path: String), true, [own path]);
    preview_2!(types, "stat-at", stat_at(flags: PathFlags, path: String), false, [own path]);
    preview_2!(
        types,
        "link-at",
        link_at(flags: PathFlags, from: String, to_dir: Resource<Descriptor>, to: String),
        true,
        [own from],
        [to_dir to]
    );
    preview_2!(types, "readlink-at", readlink_at(path: String), false, [own path]);
    preview_2!(types, "remove-directory-at", remove_directory_at(path: String), true, [own path]);
    preview_2!(
        types,
        "rename-at",
        rename_at(from: String, to_dir: Resource<Descriptor>, to: String),
        true,
        [own from],
        [to_dir to]
    );
    preview_2!(types, "symlink-at", symlink_at(target: String, path: String), true, [own path], target);
    preview_2!(types, "unlink-file-at", unlink_file_at(path: String), true, [own path]);
    preview_2!(types, "metadata-hash-at", metadata_hash_at(flags: PathFlags, path: String), false, [own path]);
    Ok(())
}
