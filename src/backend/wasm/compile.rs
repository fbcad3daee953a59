//! Gets a hook's machine code: from the cache, or by compiling its file.

use sha2::{Digest, Sha256};
use wasmtime::component::Component;
use wasmtime::{Engine, Module};

use super::cache::{self, Cache, CompiledCode, Key};
#[cfg(feature = "compiler")]
use super::engine;
use super::error::{one_line, refused};
use super::precompiled;
use super::stamp::Stamp;
use crate::backend::Calls;
use crate::hook::error::LaunchError;
use crate::hook::file::HookFile;

/// A hook's file and its SHA-256.
pub(super) struct ModuleFile<'a> {
    file: &'a HookFile,
    stamp: Stamp,
}

impl<'a> ModuleFile<'a> {
    /// Reads the file only if the cache does not know its digest yet.
    pub(super) fn new(file: &'a HookFile, cache: Option<&Cache>) -> Result<Self, LaunchError> {
        if let Some(stamp) = cache.and_then(|cache| cache.stamp(file.identity)) {
            return Ok(Self { file, stamp });
        }
        let mut digest = Sha256::new();
        file.each_piece(|piece| digest.update(piece))?;
        Ok(Self { file, stamp: Stamp::new(file.identity, digest.finalize().into()) })
    }

    /// The digest in hexadecimal digits.
    pub(super) fn sha256(&self) -> String {
        cache::hex(&self.stamp.digest)
    }

    /// Refuses the file if the settings ask for another digest.
    pub(super) fn check(&self, expected: &str) -> Result<(), LaunchError> {
        let found = self.sha256();
        if found.eq_ignore_ascii_case(expected) {
            return Ok(());
        }
        Err(refused(format!(
            "its SHA-256 is {found}, and its settings want {expected}: put the right module back, or correct `sha256` there"
        )))
    }

    /// Whether the file contains these bytes.
    pub(super) fn holds(&self, what: &[u8]) -> bool {
        let mut bytes = Vec::new();
        self.file.each_piece(|piece| bytes.extend_from_slice(piece)).is_ok()
            && bytes.windows(what.len()).any(|found| found == what)
    }

    #[cfg(feature = "compiler")]
    fn bytes(&self) -> Result<Vec<u8>, LaunchError> {
        let mut bytes = Vec::new();
        self.file.each_piece(|piece| bytes.extend_from_slice(piece))?;
        if Sha256::digest(&bytes).as_slice() != self.stamp.digest {
            return Err(refused("it was changed while it was loaded: load the hooks again"));
        }
        Ok(bytes)
    }
}

/// A module or a component.
pub(super) trait Binary: Sized {
    #[cfg(feature = "compiler")]
    const NAME: &'static str;

    fn load(engine: &Engine, code: &CompiledCode) -> wasmtime::Result<Self>;

    #[cfg(feature = "compiler")]
    fn compile(compiler: &Engine, bytes: &[u8]) -> wasmtime::Result<Vec<u8>>;
}

impl Binary for Module {
    #[cfg(feature = "compiler")]
    const NAME: &'static str = "module";

    fn load(engine: &Engine, code: &CompiledCode) -> wasmtime::Result<Self> {
        precompiled::module(engine, code)
    }

    #[cfg(feature = "compiler")]
    fn compile(compiler: &Engine, bytes: &[u8]) -> wasmtime::Result<Vec<u8>> {
        compiler.precompile_module(bytes)
    }
}

impl Binary for Component {
    #[cfg(feature = "compiler")]
    const NAME: &'static str = "component";

    fn load(engine: &Engine, code: &CompiledCode) -> wasmtime::Result<Self> {
        precompiled::component(engine, code)
    }

    #[cfg(feature = "compiler")]
    fn compile(compiler: &Engine, bytes: &[u8]) -> wasmtime::Result<Vec<u8>> {
        compiler.precompile_component(bytes)
    }
}

/// Loads a hook's code from the cache, or compiles it.
pub(super) fn get<T: Binary>(
    engine: &Engine,
    calls: Calls,
    cache: Option<&Cache>,
    file: &ModuleFile<'_>,
) -> Result<T, LaunchError> {
    let key = Key::new(&file.stamp.digest);
    if let Some(code) = cache.and_then(|cache| cache.get(&key, calls, &file.stamp)) {
        match T::load(engine, &code) {
            Ok(loaded) => return Ok(loaded),
            Err(error) => tracing::warn!("the cache entry cannot be used: {}", one_line(&error)),
        }
    }
    let code = compile::<T>(cache, &key, file)?;
    T::load(engine, &code).map_err(|e| refused(format!("it was compiled, and could not be loaded: {}", one_line(&e))))
}

#[cfg(feature = "compiler")]
fn compile<T: Binary>(cache: Option<&Cache>, key: &Key, file: &ModuleFile<'_>) -> Result<CompiledCode, LaunchError> {
    let bytes = file.bytes()?;
    let compiler = engine::compiler().map_err(|e| super::error::no_engine(&e))?;
    // Uses all cores, with threads that end afterwards. By default wasmtime would start threads that stay in the process.
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
    Ok(CompiledCode::compiled(code))
}

#[cfg(not(feature = "compiler"))]
fn compile<T: Binary>(cache: Option<&Cache>, _: &Key, _: &ModuleFile<'_>) -> Result<CompiledCode, LaunchError> {
    let into = cache.map(|cache| format!(" --cache {}", cache.directory().display())).unwrap_or_default();
    Err(LaunchError::NotCompiled(format!(
        "it has not been compiled yet, and this build of hookvisor has no compiler: run `hookvisor compile{into}` of a full \
         build of the same version"
    )))
}
