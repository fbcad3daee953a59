//! From a hook's file to machine code: out of the cache, or else by compiling it.

use sha2::{Digest, Sha256};
use wasmtime::component::Component;
use wasmtime::{Engine, Module};

use super::cache::{self, Cache, Key, Verified};
#[cfg(feature = "compiler")]
use super::pool;
use super::{one_line, precompiled, refused};
use crate::backend::{Calls, LaunchError};
use crate::hook::file::HookFile;

/// A module's or component's file, and its SHA-256.
pub(super) struct Source<'a> {
    file: &'a HookFile,
    digest: [u8; 32],
}

impl<'a> Source<'a> {
    pub(super) fn new(file: &'a HookFile) -> Result<Self, LaunchError> {
        let mut digest = Sha256::new();
        file.each_piece(|piece| digest.update(piece))?;
        Ok(Self { file, digest: digest.finalize().into() })
    }

    /// Refuses it if its settings want another one.
    pub(super) fn check(&self, expected: &str) -> Result<(), LaunchError> {
        let found = cache::hex(&self.digest);
        if found.eq_ignore_ascii_case(expected) {
            return Ok(());
        }
        Err(refused(format!(
            "its SHA-256 is {found}, and its settings want {expected}: put the right module back, or correct `sha256` there"
        )))
    }

    /// Whether these bytes are somewhere in it.
    pub(super) fn holds(&self, what: &[u8]) -> bool {
        let mut bytes = Vec::new();
        self.file.each_piece(|piece| bytes.extend_from_slice(piece)).is_ok()
            && bytes.windows(what.len()).any(|found| found == what)
    }

    #[cfg(feature = "compiler")]
    fn bytes(&self) -> Result<Vec<u8>, LaunchError> {
        let mut bytes = Vec::new();
        self.file.each_piece(|piece| bytes.extend_from_slice(piece))?;
        if Sha256::digest(&bytes).as_slice() != self.digest {
            return Err(refused("it was changed while it was loaded: load the hooks again".to_owned()));
        }
        Ok(bytes)
    }
}

/// One of the two forms that a program has.
pub(super) trait Form: Sized {
    #[cfg(feature = "compiler")]
    const NAME: &'static str;

    fn load(engine: &Engine, code: &Verified) -> wasmtime::Result<Self>;

    #[cfg(feature = "compiler")]
    fn compile(compiler: &Engine, bytes: &[u8]) -> wasmtime::Result<Vec<u8>>;
}

impl Form for Module {
    #[cfg(feature = "compiler")]
    const NAME: &'static str = "module";

    fn load(engine: &Engine, code: &Verified) -> wasmtime::Result<Self> {
        precompiled::module(engine, code)
    }

    #[cfg(feature = "compiler")]
    fn compile(compiler: &Engine, bytes: &[u8]) -> wasmtime::Result<Vec<u8>> {
        compiler.precompile_module(bytes)
    }
}

impl Form for Component {
    #[cfg(feature = "compiler")]
    const NAME: &'static str = "component";

    fn load(engine: &Engine, code: &Verified) -> wasmtime::Result<Self> {
        precompiled::component(engine, code)
    }

    #[cfg(feature = "compiler")]
    fn compile(compiler: &Engine, bytes: &[u8]) -> wasmtime::Result<Vec<u8>> {
        compiler.precompile_component(bytes)
    }
}

/// The code of a program, for an engine that is made for so many calls.
pub(super) fn get<T: Form>(
    engine: &Engine,
    calls: Calls,
    cache: Option<&Cache>,
    source: &Source<'_>,
) -> Result<T, LaunchError> {
    let key = Key::new(&source.digest);
    if let Some(code) = cache.and_then(|cache| cache.get(&key, calls)) {
        match T::load(engine, &code) {
            Ok(loaded) => return Ok(loaded),
            Err(error) => tracing::warn!("compiled code in the cache is of no use: {}", one_line(&error)),
        }
    }
    let code = compile::<T>(cache, &key, source)?;
    T::load(engine, &code).map_err(|e| refused(format!("it was compiled, and could not be loaded: {}", one_line(&e))))
}

#[cfg(feature = "compiler")]
fn compile<T: Form>(cache: Option<&Cache>, key: &Key, source: &Source<'_>) -> Result<Verified, LaunchError> {
    let bytes = source.bytes()?;
    let compiler = pool::compiler().map_err(|e| super::no_engine(&e))?;
    // On all cores, with threads that are gone afterwards: by itself wasmtime would use some of its process's own, and
    // leave them there.
    let threads = rayon::ThreadPoolBuilder::new()
        .build()
        .map_err(|e| LaunchError::Host { what: "could not start the threads that compile it", why: e.to_string() })?;
    let code = threads.install(|| T::compile(&compiler, &bytes)).map_err(|e| {
        let why = e.root_cause().to_string().replace('\n', "; ");
        refused(format!("it is no valid WebAssembly {}, build or copy it again: {why}", T::NAME))
    })?;
    if let Some(cache) = cache {
        cache.put(key, &code);
    }
    Ok(Verified::compiled(code))
}

#[cfg(not(feature = "compiler"))]
fn compile<T: Form>(cache: Option<&Cache>, _: &Key, _: &Source<'_>) -> Result<Verified, LaunchError> {
    let into = cache.map(|cache| format!(" --cache {}", cache.directory().display())).unwrap_or_default();
    Err(refused(format!(
        "it has not been compiled yet, and this build of hookvisor has no compiler: run `hookvisor compile{into}` of a full \
         build of the same version"
    )))
}
