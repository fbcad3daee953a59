//! A guest's three streams: always ready, so that no call of the guest waits for anything, and never failing, so that
//! output past the limit is dropped and counted as it is for a process.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use crate::capture::{Capture, Captured};

/// What a guest may write at once.
pub(super) const WRITE_AT_ONCE: usize = 1 << 20;

/// The document, from where the last read ended. Clones read on from the same place.
#[derive(Clone)]
pub(super) struct Document(Arc<Mutex<Bytes>>);

impl Document {
    pub(super) fn new(document: Bytes) -> Self {
        Self(Arc::new(Mutex::new(document)))
    }

    /// What comes next of it, no more than so many bytes; nothing at its end.
    pub(super) fn take(&self, at_most: usize) -> Bytes {
        let mut rest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let size = at_most.min(rest.len());
        rest.split_to(size)
    }
}

#[async_trait]
impl Pollable for Document {
    async fn ready(&mut self) {}
}

#[async_trait]
impl InputStream for Document {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let read = self.take(size);
        if read.is_empty() && size > 0 { Err(StreamError::Closed) } else { Ok(read) }
    }
}

impl AsyncRead for Document {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        buffer.put_slice(&self.take(buffer.remaining()));
        Poll::Ready(Ok(()))
    }
}

impl IsTerminal for Document {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for Document {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }
}

/// Where a guest's stdout or stderr goes. Clones write to the same place.
#[derive(Clone)]
pub(super) struct Sink(Arc<Mutex<Capture>>);

impl Sink {
    pub(super) fn new(capture: Capture) -> Self {
        Self(Arc::new(Mutex::new(capture)))
    }

    pub(super) fn push(&self, bytes: &[u8]) {
        self.capture().push(bytes);
    }

    fn capture(&self) -> MutexGuard<'_, Capture> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was written so far; what comes later is lost.
    pub(super) fn finish(&self) -> Captured {
        std::mem::take(&mut *self.capture()).finish()
    }
}

#[async_trait]
impl Pollable for Sink {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for Sink {
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

impl AsyncWrite for Sink {
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

impl IsTerminal for Sink {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Sink {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}
