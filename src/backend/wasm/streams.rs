//! A guest's stdin, stdout and stderr. They are always ready, so a guest never waits for them. They never fail: as for
//! a process, output beyond the limit is dropped and counted.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use super::large_pages::LargePages;
use crate::capture::{Capture, Captured};

/// The maximum number of bytes in one write.
pub(super) const WRITE_AT_ONCE: usize = 1 << 20;

/// A module's streams, while they still have the descriptors 0, 1 and 2.
pub(super) struct StandardStreams {
    pub(super) stdin: Stdin,
    pub(super) stdout: Output,
    pub(super) stderr: Output,
    /// Cleared when the guest closes or renumbers any descriptor.
    pub(super) in_place: bool,
    pub(super) large_pages: LargePages,
}

impl StandardStreams {
    pub(super) fn new(stdin: Stdin, stdout: Output, stderr: Output) -> Self {
        Self { stdin, stdout, stderr, in_place: true, large_pages: LargePages::new() }
    }
}

/// The rest of the event's document. Clones share the position.
#[derive(Clone)]
pub(super) struct Stdin(Arc<Mutex<Bytes>>);

impl Stdin {
    pub(super) fn new(document: Bytes) -> Self {
        Self(Arc::new(Mutex::new(document)))
    }

    fn rest(&self) -> MutexGuard<'_, Bytes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much is left to read.
    pub(super) fn left(&self) -> usize {
        self.rest().len()
    }

    /// The next bytes, `at_most` of them. Empty at the end.
    pub(super) fn take(&self, at_most: usize) -> Bytes {
        let mut rest = self.rest();
        let size = at_most.min(rest.len());
        rest.split_to(size)
    }
}

#[async_trait]
impl Pollable for Stdin {
    async fn ready(&mut self) {}
}

#[async_trait]
impl InputStream for Stdin {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let read = self.take(size);
        if read.is_empty() && size > 0 { Err(StreamError::Closed) } else { Ok(read) }
    }
}

impl AsyncRead for Stdin {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        buffer.put_slice(&self.take(buffer.remaining()));
        Poll::Ready(Ok(()))
    }
}

impl IsTerminal for Stdin {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for Stdin {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }
}

/// A guest's stdout or stderr. Clones write to the same capture.
#[derive(Clone)]
pub(super) struct Output(Arc<Mutex<Capture>>);

impl Output {
    pub(super) fn new(capture: Capture) -> Self {
        Self(Arc::new(Mutex::new(capture)))
    }

    pub(super) fn push(&self, bytes: &[u8]) {
        self.capture().push(bytes);
    }

    fn capture(&self) -> MutexGuard<'_, Capture> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the output so far. Later output is lost.
    pub(super) fn finish(&self) -> Captured {
        std::mem::take(&mut *self.capture()).finish()
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.push(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_AT_ONCE)
    }
}

impl AsyncWrite for Output {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.push(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}
