//! Provides a hook's machine code: from the cache, or by compiling its file.

use sha2::{Digest, Sha256};
use wasmtime::component::Component;
use wasmtime::{Engine, Module};

use super::cache::{Cache, CompiledCode, Key};
use super::compiler::{Compilation, Job, Layer};
use super::engine::Resources;
use super::error::{one_line, refused};
use super::precompiled;
use super::sandbox::Sandbox;
use super::stamp::Stamp;
use crate::backend::Calls;
use crate::hook::digest::hexadecimal;
use crate::hook::error::LaunchError;
use crate::hook::file::HookFile;
use crate::limits::Limits;

/// A hook's file and its SHA-256.
pub(super) struct ModuleFile<'a> {
    file: &'a HookFile,
    stamp: Stamp,
}

impl<'a> ModuleFile<'a> {
    /// Reads the file only if the cache does not know its digest.
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
        hexadecimal(&self.stamp.digest)
    }

    /// Refuses the file if the settings pin another digest.
    pub(super) fn check(&self, expected: &str) -> Result<(), LaunchError> {
        let found = self.sha256();
        if found.eq_ignore_ascii_case(expected) {
            return Ok(());
        }
        Err(refused(format!(
            "its SHA-256 is {found}, but its settings require {expected}: restore the right module, or correct `sha256`"
        )))
    }

    fn bytes(&self) -> Result<Vec<u8>, LaunchError> {
        let mut bytes = Vec::new();
        self.file.each_piece(|piece| bytes.extend_from_slice(piece))?;
        if Sha256::digest(&bytes).as_slice() != self.stamp.digest {
            return Err(refused("it changed while it was loaded: reload the hooks"));
        }
        Ok(bytes)
    }
}

/// A module or a component.
pub(super) trait Binary: Sized {
    const LAYER: Layer;

    fn load(engine: &Engine, code: &CompiledCode) -> wasmtime::Result<Self>;
}

impl Binary for Module {
    const LAYER: Layer = Layer::Module;

    fn load(engine: &Engine, code: &CompiledCode) -> wasmtime::Result<Self> {
        precompiled::module(engine, code)
    }
}

impl Binary for Component {
    const LAYER: Layer = Layer::Component;

    fn load(engine: &Engine, code: &CompiledCode) -> wasmtime::Result<Self> {
        precompiled::component(engine, code)
    }
}

/// Where a hook's code comes from.
pub(super) struct CodeSource<'a> {
    pub(super) calls: Calls,
    pub(super) cache: Option<&'a Cache>,
    pub(super) compilation: &'a Compilation,
    pub(super) limits: &'a Limits,
}

impl CodeSource<'_> {
    /// Loads a hook's code from the cache, or compiles it.
    pub(super) fn load<T: Binary>(&self, sandbox: &Sandbox, file: &ModuleFile<'_>) -> Result<T, LaunchError> {
        let key = Key::new(&file.stamp.digest, sandbox.resources);
        if let Some(code) = self.cache.and_then(|cache| cache.get(&key, self.calls, &file.stamp)) {
            match T::load(&sandbox.engine, &code) {
                Ok(loaded) => return Ok(loaded),
                Err(error) => tracing::warn!("the cache entry cannot be used: {}", one_line(&error)),
            }
        }
        let code = self.compile(T::LAYER, sandbox.resources, &key, file)?;
        let loaded = T::load(&sandbox.engine, &code);
        loaded.map_err(|e| refused(format!("its compiled code could not be loaded: {}", one_line(&e))))
    }

    fn compile(
        &self,
        layer: Layer,
        resources: Resources,
        key: &Key,
        file: &ModuleFile<'_>,
    ) -> Result<CompiledCode, LaunchError> {
        #[cfg(not(feature = "compiler"))]
        if !self.compilation.has_compiler() {
            let into = self.cache.map(|cache| format!(" --cache {}", cache.directory().display())).unwrap_or_default();
            return Err(LaunchError::NotCompiled(format!(
                "it is not in the cache, and this hookvisor has no compiler: run `hookvisor compile{into}` with \
                 a full build of the same version"
            )));
        }
        let job = Job { hook: &file.file.path, binary: file.bytes()?, layer, resources };
        let code = self.compilation.run(job, self.limits)?;
        if let Some(cache) = self.cache {
            cache.put(key, &code);
        }
        Ok(CompiledCode::compiled(code))
    }
}
