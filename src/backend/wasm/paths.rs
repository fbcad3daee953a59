//! Limits the length of the paths that a guest passes to WASI. A path above the system's limit is refused before it is
//! copied or split.

use wasmtime::component::{self, Resource};
use wasmtime::{Caller, Linker, StoreContextMut};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemView};
use wasmtime_wasi::p1::wasi_snapshot_preview1 as preview1;
use wasmtime_wasi::p2::FsResult;
use wasmtime_wasi::p2::bindings::filesystem::types::{ErrorCode, HostDescriptor, PathFlags};

use super::memory;
use super::preview_1::MODULE as PREVIEW_1;
use super::request::LONGEST_PATH;
use super::store::StoreData;
use super::ungranted::{self, NO_ENTRY};

/// The interface with the replaced functions, in wasmtime-wasi's version of WASI 0.2.
pub(super) const TYPES: &str = "wasi:filesystem/types@0.2.12";
/// `errno.nametoolong`
pub(super) const NAME_TOO_LONG: i32 = 37;

/// Whether a module's path is too long.
pub(super) fn is_too_long(len: i32) -> bool {
    len.cast_unsigned() as usize > LONGEST_PATH
}

/// Refuses a component's path that is too long.
pub(super) fn check_length(path: &str) -> FsResult<()> {
    if path.len() > LONGEST_PATH { Err(ErrorCode::NameTooLong.into()) } else { Ok(()) }
}

/// The result for a component. A wasmtime error ends the component.
pub(super) fn answer<T>(result: FsResult<T>) -> wasmtime::Result<(Result<T, ErrorCode>,)> {
    Ok((match result {
        Ok(value) => Ok(value),
        Err(error) => Err(error.downcast()?),
    },))
}

/// Adds a function of preview 1 that checks the lengths of its paths and then calls wasmtime-wasi's.
macro_rules! preview_1 {
    ($linker:ident, $function:ident($($argument:ident),*), $($dir:ident),+; $($len:ident),+) => {
        $linker.func_wrap_async(
            PREVIEW_1,
            stringify!($function),
            |mut caller: Caller<'_, StoreData>, ($($argument,)*): ($(preview_1!(@i32 $argument),)*)| {
                Box::new(async move {
                    if $(is_too_long($len))||+ {
                        return Ok(NAME_TOO_LONG);
                    }
                    if $(ungranted::is_root(caller.data(), $dir))||+ {
                        return Ok(NO_ENTRY);
                    }
                    let (mut memory, wasi) = memory::with_wasi(&mut caller)?;
                    preview1::$function(wasi, &mut memory, $($argument),*).await
                })
            },
        )?
    };
    (@i32 $argument:ident) => { i32 };
}

/// For modules. Opening and setting times are in `files`.
pub(super) fn add_to_linker(linker: &mut Linker<StoreData>) -> wasmtime::Result<()> {
    preview_1!(linker, path_create_directory(dir, path, len), dir; len);
    preview_1!(linker, path_filestat_get(dir, flags, path, len, stat), dir; len);
    preview_1!(linker, path_link(from_dir, flags, from, from_len, to_dir, to, to_len), from_dir, to_dir; from_len, to_len);
    preview_1!(linker, path_readlink(dir, path, len, buffer, buffer_len, used), dir; len);
    preview_1!(linker, path_remove_directory(dir, path, len), dir; len);
    preview_1!(linker, path_rename(from_dir, from, from_len, to_dir, to, to_len), from_dir, to_dir; from_len, to_len);
    preview_1!(linker, path_symlink(target, target_len, dir, path, len), dir; target_len, len);
    preview_1!(linker, path_unlink_file(dir, path, len), dir; len);
    Ok(())
}

/// Adds a method of a descriptor that checks the lengths of its paths and then calls wasmtime-wasi's.
macro_rules! preview_2 {
    ($types:ident, $name:literal, $method:ident($($argument:ident: $type:ty),*), $($path:ident),+) => {
        $types.func_wrap_async(
            concat!("[method]descriptor.", $name),
            |mut store: StoreContextMut<'_, StoreData>,
             (dir, $($argument,)*): (Resource<Descriptor>, $($type,)*)| {
                Box::new(async move {
                    let checked = [$(check_length(&$path)),+].into_iter().collect::<FsResult<()>>();
                    match checked {
                        Ok(()) => answer(store.data_mut().filesystem().$method(dir, $($argument),*).await),
                        Err(error) => answer(Err(error)),
                    }
                })
            },
        )?
    };
}

/// For components. Opening and setting times are in `files`.
pub(super) fn add_to_component_linker(linker: &mut component::Linker<StoreData>) -> wasmtime::Result<()> {
    let mut types = linker.instance(TYPES)?;
    preview_2!(types, "create-directory-at", create_directory_at(path: String), path);
    preview_2!(types, "stat-at", stat_at(flags: PathFlags, path: String), path);
    preview_2!(
        types,
        "link-at",
        link_at(flags: PathFlags, from: String, to_dir: Resource<Descriptor>, to: String),
        from,
        to
    );
    preview_2!(types, "readlink-at", readlink_at(path: String), path);
    preview_2!(types, "remove-directory-at", remove_directory_at(path: String), path);
    preview_2!(types, "rename-at", rename_at(from: String, to_dir: Resource<Descriptor>, to: String), from, to);
    preview_2!(types, "symlink-at", symlink_at(target: String, path: String), target, path);
    preview_2!(types, "unlink-file-at", unlink_file_at(path: String), path);
    preview_2!(types, "metadata-hash-at", metadata_hash_at(flags: PathFlags, path: String), path);
    Ok(())
}
