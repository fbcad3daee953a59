//! The WASI context of one call. A module that only uses its streams and its arguments never needs one.

use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{WasiCtxBuilder, WasiView};

use super::streams::StandardStreams;

/// The maximum number of the host's descriptors for one guest: files, streams and sockets.
const DESCRIPTORS: usize = 512;

/// A context with the standard streams and nothing else.
pub(super) fn with_streams(streams: &StandardStreams) -> WasiCtxBuilder {
    let mut wasi = WasiCtxBuilder::new();
    wasi.stdin(streams.stdin.clone()).stdout(streams.stdout.clone()).stderr(streams.stderr.clone());
    wasi.allow_tcp(false).allow_udp(false);
    wasi
}

pub(super) fn build(mut wasi: WasiCtxBuilder) -> WasiP1Ctx {
    let mut wasi = wasi.build_p1();
    wasi.ctx().table.set_max_capacity(DESCRIPTORS);
    wasi
}
