//! WASI preview 1: wasmtime-wasi's, but for the status that a guest exits with, and for what every guest does: it asks for
//! its arguments, reads its document and writes a line.

use std::ops::Range;

use wasmtime::{Caller, Linker};
use wasmtime_wasi::p1::wasi_snapshot_preview1 as preview1;

use super::guest::{Guest, HookExit};
use super::streams::{Document, Sink};
use super::{files, interface, streams};

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

/// A guest's three streams, as long as they are where they were when it began.
pub(super) struct Standard {
    pub(super) stdin: Document,
    pub(super) stdout: Sink,
    pub(super) stderr: Sink,
    /// Whether it has closed or renumbered no descriptor.
    pub(super) in_place: bool,
}

impl Standard {
    /// Reads from stdin into a guest's memory. `None` for anything out of the ordinary, which is then wasmtime-wasi's.
    fn read(&self, memory: &mut [u8], fd: i32, list: Pieces, size: i32) -> Option<i32> {
        if fd != 0 || !self.in_place {
            return None;
        }
        let piece = list.first(memory)?;
        word(memory, size)?;
        let read = self.stdin.take(piece.len());
        memory.get_mut(piece)?.get_mut(..read.len())?.copy_from_slice(&read);
        word(memory, size)?.copy_from_slice(&u32::try_from(read.len()).ok()?.to_le_bytes());
        Some(SUCCESS as i32)
    }

    /// The same for writing to stdout or stderr.
    fn write(&self, memory: &mut [u8], fd: i32, list: Pieces, size: i32) -> Option<i32> {
        let sink = match fd {
            1 => &self.stdout,
            2 => &self.stderr,
            _ => return None,
        };
        let piece = list.first(memory)?;
        let written = u32::try_from(piece.len()).ok()?;
        if !self.in_place || piece.len() > streams::WRITE_AT_ONCE {
            return None;
        }
        word(memory, size)?;
        sink.push(memory.get(piece)?);
        word(memory, size)?.copy_from_slice(&written.to_le_bytes());
        Some(SUCCESS as i32)
    }
}

/// A list of pieces of a guest's memory (`iovec`): where it is, and how many there are.
struct Pieces(i32, i32);

impl Pieces {
    /// The first that is not empty; as wasmtime-wasi's, a call reads or writes one.
    fn first(&self, memory: &[u8]) -> Option<Range<usize>> {
        let (at, count) = (self.0.cast_unsigned() as usize, self.1.cast_unsigned() as usize);
        if !at.is_multiple_of(4) {
            return None;
        }
        let list = memory.get(at..)?.get(..count.checked_mul(8)?)?;
        let piece = |entry: &[u8]| {
            let number = |at: usize| Some(u32::from_le_bytes(entry.get(at..at + 4)?.try_into().ok()?) as usize);
            Some((number(0)?, number(4)?))
        };
        let (start, len) = list.chunks_exact(8).filter_map(piece).find(|&(_, len)| len > 0)?;
        let piece = start..start.checked_add(len)?;
        (piece.end <= memory.len()).then_some(piece)
    }
}

/// Four bytes of a guest's memory.
fn word(memory: &mut [u8], at: i32) -> Option<&mut [u8]> {
    let at = at.cast_unsigned() as usize;
    if at.is_multiple_of(4) { memory.get_mut(at..)?.get_mut(..4) } else { None }
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
    add_streams_to_linker(linker)
}

type Transfer = (i32, i32, i32, i32);

fn add_streams_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.func_wrap_async(MODULE, "fd_read", |mut caller: Caller<'_, Guest>, (fd, list, count, size): Transfer| {
        Box::new(async move {
            let (memory, guest) = interface::memory_and_guest(&mut caller)?;
            if let Some(errno) = guest.standard.read(memory, fd, Pieces(list, count), size) {
                return Ok(errno);
            }
            let (mut memory, wasi) = files::memory_and_wasi(&mut caller)?;
            preview1::fd_read(wasi, &mut memory, fd, list, count, size).await
        })
    })?;
    linker.func_wrap_async(
        MODULE,
        "fd_write",
        |mut caller: Caller<'_, Guest>, (fd, list, count, size): Transfer| {
            Box::new(async move {
                let (memory, guest) = interface::memory_and_guest(&mut caller)?;
                if let Some(errno) = guest.standard.write(memory, fd, Pieces(list, count), size) {
                    return Ok(errno);
                }
                let (mut memory, wasi) = files::memory_and_wasi(&mut caller)?;
                preview1::fd_write(wasi, &mut memory, fd, list, count, size).await
            })
        },
    )?;
    linker.func_wrap_async(MODULE, "fd_close", |mut caller: Caller<'_, Guest>, (fd,): (i32,)| {
        Box::new(async move {
            caller.data_mut().standard.in_place = false;
            let (mut memory, wasi) = files::memory_and_wasi(&mut caller)?;
            preview1::fd_close(wasi, &mut memory, fd).await
        })
    })?;
    linker.func_wrap_async(MODULE, "fd_renumber", |mut caller: Caller<'_, Guest>, (fd, to): (i32, i32)| {
        Box::new(async move {
            caller.data_mut().standard.in_place = false;
            let (mut memory, wasi) = files::memory_and_wasi(&mut caller)?;
            preview1::fd_renumber(wasi, &mut memory, fd, to).await
        })
    })?;
    Ok(())
}
