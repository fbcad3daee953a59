//! Access to the memory of a module that calls the host.

use wasmtime::{AsContextMut, Caller, Extern, Memory, format_err};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p1::wasi_snapshot_preview1::WasiSnapshotPreview1;
use wiggle::GuestMemory;

use super::store::StoreData;

/// The export that WASI requires.
pub(super) const EXPORT: &str = "memory";

pub(super) fn exported(caller: &mut Caller<'_, StoreData>) -> wasmtime::Result<Memory> {
    if let Some(memory) = caller.data().memory {
        return Ok(memory);
    }
    // Only a module's own start function calls the host this early.
    match caller.get_export(EXPORT) {
        Some(Extern::Memory(memory)) => Ok(memory),
        _ => Err(format_err!("the module exports no memory named `{EXPORT}`")),
    }
}

/// The module's memory and the call's data.
pub(super) fn with_data<'a>(
    caller: &'a mut Caller<'_, StoreData>,
) -> wasmtime::Result<(&'a mut [u8], &'a mut StoreData)> {
    Ok(exported(caller)?.data_and_store_mut(caller))
}

/// The module's memory and its WASI context, as the functions of wasmtime-wasi take them. Each call of a host function
/// may copy as much as the store allows.
pub(super) fn with_wasi<'a>(
    caller: &'a mut Caller<'_, StoreData>,
) -> wasmtime::Result<(GuestMemory<'a>, &'a mut WasiP1Ctx)> {
    let fuel = caller.as_context_mut().hostcall_fuel();
    let (memory, data) = with_data(caller)?;
    let wasi = data.preview_1();
    wasi.set_hostcall_fuel(fuel);
    Ok((GuestMemory::Unshared(memory), wasi))
}

/// A part of the memory.
pub(super) fn slice<'a>(caller: &'a mut Caller<'_, StoreData>, at: u32, len: u32) -> wasmtime::Result<&'a [u8]> {
    let memory = exported(caller)?;
    let (at, len) = (at as usize, len as usize);
    let bytes = memory.data(&*caller).get(at..).and_then(|rest| rest.get(..len));
    bytes.ok_or_else(|| format_err!("{len} bytes at {at} are outside the guest's memory"))
}

/// Four bytes of the memory at an aligned address.
pub(super) fn word(memory: &mut [u8], at: i32) -> Option<&mut [u8]> {
    let at = at.cast_unsigned() as usize;
    if at.is_multiple_of(4) { memory.get_mut(at..)?.get_mut(..4) } else { None }
}
