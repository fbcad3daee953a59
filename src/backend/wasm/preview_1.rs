//! WASI preview 1: wasmtime-wasi's, but for the status that a guest exits with, and for what every guest asks for when it
//! starts.

use wasmtime::{Caller, Linker};

use super::guest::{Guest, HookExit};
use super::interface;

/// The name under which it is imported.
pub(super) const MODULE: &str = "wasi_snapshot_preview1";

/// `errno`: success, a bad address, a bad argument.
const SUCCESS: u32 = 0;
const FAULT: u32 = 21;
const INVAL: u32 = 28;

/// A guest's arguments, or its environment, in the form in which it gets them: each ends with a NUL byte.
#[derive(Debug, Default)]
pub(super) struct Strings {
    count: u32,
    bytes: Vec<u8>,
}

impl Strings {
    /// Adds one, which is given in pieces.
    pub(super) fn push(&mut self, pieces: &[&[u8]]) {
        self.count += 1;
        pieces.iter().for_each(|piece| self.bytes.extend_from_slice(piece));
        self.bytes.push(0);
    }

    /// Writes where each begins to `list`, and all of them to `content`.
    fn write(&self, memory: &mut [u8], list: u32, content: u32) -> u32 {
        if !list.is_multiple_of(4) {
            return INVAL;
        }
        let (list, content) = (list as usize, content as usize);
        let Some(copy) = memory.get_mut(content..).and_then(|rest| rest.get_mut(..self.bytes.len())) else {
            return FAULT;
        };
        copy.copy_from_slice(&self.bytes);
        let Some(list) = memory.get_mut(list..).and_then(|rest| rest.get_mut(..self.count as usize * 4)) else {
            return FAULT;
        };
        let mut at = content;
        for (pointer, string) in list.chunks_exact_mut(4).zip(self.bytes.split_inclusive(|&byte| byte == 0)) {
            pointer.copy_from_slice(&(at as u32).to_le_bytes());
            at += string.len();
        }
        SUCCESS
    }

    /// Writes how many they are, and how many bytes.
    fn write_sizes(&self, memory: &mut [u8], count: u32, size: u32) -> u32 {
        for (value, at) in [(self.count as usize, count), (self.bytes.len(), size)] {
            if !at.is_multiple_of(4) {
                return INVAL;
            }
            let Some(place) = memory.get_mut(at as usize..).and_then(|rest| rest.get_mut(..4)) else { return FAULT };
            place.copy_from_slice(&(value as u32).to_le_bytes());
        }
        SUCCESS
    }
}

pub(super) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    wasmtime_wasi::p1::add_to_linker_async(linker, Guest::preview_1)?;
    linker.allow_shadowing(true);
    // wasmtime-wasi's own refuses a status of 126 and more; a process's goes up to 255.
    linker.func_wrap(MODULE, "proc_exit", |status: u32| -> wasmtime::Result<()> { Err(HookExit(status).into()) })?;
    // wasmtime-wasi's own copies all of them, one by one, for each of these.
    linker.func_wrap(MODULE, "args_sizes_get", |mut caller: Caller<'_, Guest>, count: u32, size: u32| {
        let (memory, guest) = interface::memory_and_guest(&mut caller)?;
        Ok(guest.arguments.write_sizes(memory, count, size))
    })?;
    linker.func_wrap(MODULE, "args_get", |mut caller: Caller<'_, Guest>, list: u32, content: u32| {
        let (memory, guest) = interface::memory_and_guest(&mut caller)?;
        Ok(guest.arguments.write(memory, list, content))
    })?;
    linker.func_wrap(MODULE, "environ_sizes_get", |mut caller: Caller<'_, Guest>, count: u32, size: u32| {
        let (memory, guest) = interface::memory_and_guest(&mut caller)?;
        Ok(guest.environment.write_sizes(memory, count, size))
    })?;
    linker.func_wrap(MODULE, "environ_get", |mut caller: Caller<'_, Guest>, list: u32, content: u32| {
        let (memory, guest) = interface::memory_and_guest(&mut caller)?;
        Ok(guest.environment.write(memory, list, content))
    })?;
    Ok(())
}
