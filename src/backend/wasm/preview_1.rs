//! WASI preview 1: wasmtime-wasi's implementation, with our own `proc_exit` and our own versions of the most frequent
//! functions.

use std::ops::Range;

use wasmtime::{Caller, Linker};
use wasmtime_wasi::p1::wasi_snapshot_preview1 as preview1;

use super::memory;
use super::store::StoreData;
use super::streams::{StandardStreams, WRITE_AT_ONCE};

/// The import module.
pub(super) const MODULE: &str = "wasi_snapshot_preview1";

const SUCCESS: i32 = 0;

/// The guest called `proc_exit`.
#[derive(Debug, thiserror::Error)]
#[error("exited with status {0}")]
pub(super) struct ProcExit(pub(super) u32);

/// Reads from stdin into the guest's memory. `None` for the unusual cases, which wasmtime-wasi handles.
fn read_stdin(streams: &mut StandardStreams, memory: &mut [u8], fd: i32, vectors: IoVectors, size: i32) -> Option<i32> {
    if fd != 0 || !streams.in_place {
        return None;
    }
    let buffer = vectors.first(memory)?;
    memory::word(memory, size)?;
    streams.large_pages.ask(memory, || streams.stdin.left());
    let read = streams.stdin.take(buffer.len());
    memory.get_mut(buffer)?.get_mut(..read.len())?.copy_from_slice(&read);
    memory::word(memory, size)?.copy_from_slice(&u32::try_from(read.len()).ok()?.to_le_bytes());
    Some(SUCCESS)
}

/// Writes to stdout or stderr. `None` for the unusual cases, which wasmtime-wasi handles.
fn write_output(streams: &StandardStreams, memory: &mut [u8], fd: i32, vectors: IoVectors, size: i32) -> Option<i32> {
    let output = match fd {
        1 => &streams.stdout,
        2 => &streams.stderr,
        _ => return None,
    };
    let buffer = vectors.first(memory)?;
    let written = u32::try_from(buffer.len()).ok()?;
    if !streams.in_place || buffer.len() > WRITE_AT_ONCE {
        return None;
    }
    memory::word(memory, size)?;
    output.push(memory.get(buffer)?);
    memory::word(memory, size)?.copy_from_slice(&written.to_le_bytes());
    Some(SUCCESS)
}

/// A list of buffers in the guest's memory (`iovec`): its address and its length.
struct IoVectors(i32, i32);

impl IoVectors {
    /// The first buffer that is not empty. Like in wasmtime-wasi, a call reads or writes one buffer.
    fn first(&self, memory: &[u8]) -> Option<Range<usize>> {
        let (at, count) = (self.0.cast_unsigned() as usize, self.1.cast_unsigned() as usize);
        if !at.is_multiple_of(4) {
            return None;
        }
        let list = memory.get(at..)?.get(..count.checked_mul(8)?)?;
        let vector = |entry: &[u8]| {
            let number = |at: usize| Some(u32::from_le_bytes(entry.get(at..at + 4)?.try_into().ok()?) as usize);
            Some((number(0)?, number(4)?))
        };
        let (start, len) = list.chunks_exact(8).filter_map(vector).find(|&(_, len)| len > 0)?;
        let buffer = start..start.checked_add(len)?;
        (buffer.end <= memory.len()).then_some(buffer)
    }
}

pub(super) fn add_to_linker(linker: &mut Linker<StoreData>) -> wasmtime::Result<()> {
    wasmtime_wasi::p1::add_to_linker_async(linker, StoreData::preview_1)?;
    linker.allow_shadowing(true);
    // wasmtime-wasi refuses a status above 125. A process may exit with up to 255.
    linker.func_wrap(
        MODULE,
        "proc_exit",
        |mut caller: Caller<'_, StoreData>, status: u32| -> wasmtime::Result<()> {
            let exit = wasmtime::Error::from(ProcExit(status));
            // wasmtime walks the stack only for an error that has no backtrace yet.
            Err(match caller.data_mut().no_backtrace.take() {
                Some(backtrace) => exit.context(backtrace),
                None => exit,
            })
        },
    )?;
    // In each of these, wasmtime-wasi copies all strings one by one.
    linker.func_wrap(MODULE, "args_sizes_get", |mut caller: Caller<'_, StoreData>, count: u32, size: u32| {
        let (memory, data) = memory::with_data(&mut caller)?;
        Ok(data.arguments.write_sizes(memory, count, size))
    })?;
    linker.func_wrap(MODULE, "args_get", |mut caller: Caller<'_, StoreData>, list: u32, content: u32| {
        let (memory, data) = memory::with_data(&mut caller)?;
        Ok(data.arguments.write(memory, list, content))
    })?;
    linker.func_wrap(MODULE, "environ_sizes_get", |mut caller: Caller<'_, StoreData>, count: u32, size: u32| {
        let (memory, data) = memory::with_data(&mut caller)?;
        Ok(data.environment.write_sizes(memory, count, size))
    })?;
    linker.func_wrap(MODULE, "environ_get", |mut caller: Caller<'_, StoreData>, list: u32, content: u32| {
        let (memory, data) = memory::with_data(&mut caller)?;
        Ok(data.environment.write(memory, list, content))
    })?;
    add_streams_to_linker(linker)
}

type Transfer = (i32, i32, i32, i32);

fn add_streams_to_linker(linker: &mut Linker<StoreData>) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        MODULE,
        "fd_read",
        |mut caller: Caller<'_, StoreData>, (fd, list, count, size): Transfer| {
            Box::new(async move {
                let (memory, data) = memory::with_data(&mut caller)?;
                if let Some(errno) = read_stdin(&mut data.streams, memory, fd, IoVectors(list, count), size) {
                    return Ok(errno);
                }
                let (mut memory, wasi) = memory::with_wasi(&mut caller)?;
                preview1::fd_read(wasi, &mut memory, fd, list, count, size).await
            })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "fd_write",
        |mut caller: Caller<'_, StoreData>, (fd, list, count, size): Transfer| {
            Box::new(async move {
                let (memory, data) = memory::with_data(&mut caller)?;
                if let Some(errno) = write_output(&data.streams, memory, fd, IoVectors(list, count), size) {
                    return Ok(errno);
                }
                let (mut memory, wasi) = memory::with_wasi(&mut caller)?;
                preview1::fd_write(wasi, &mut memory, fd, list, count, size).await
            })
        },
    )?;
    linker.func_wrap_async(MODULE, "fd_close", |mut caller: Caller<'_, StoreData>, (fd,): (i32,)| {
        Box::new(async move {
            caller.data_mut().streams.in_place = false;
            caller.data_mut().listings.forget(fd);
            let (mut memory, wasi) = memory::with_wasi(&mut caller)?;
            preview1::fd_close(wasi, &mut memory, fd).await
        })
    })?;
    linker.func_wrap_async(MODULE, "fd_renumber", |mut caller: Caller<'_, StoreData>, (fd, to): (i32, i32)| {
        Box::new(async move {
            caller.data_mut().streams.in_place = false;
            caller.data_mut().listings.forget(fd);
            caller.data_mut().listings.forget(to);
            if let Some(root) = &mut caller.data_mut().root {
                root.descriptor = None;
            }
            let (mut memory, wasi) = memory::with_wasi(&mut caller)?;
            preview1::fd_renumber(wasi, &mut memory, fd, to).await
        })
    })?;
    Ok(())
}
