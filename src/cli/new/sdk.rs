//! The guest SDK's source, built into the program, so that a new hook needs no network.

use std::fs;
use std::path::Path;

use anyhow::Context;

/// Each file's name and text; `manifest.toml` is the SDK's Cargo.toml.
const FILES: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/sdk.rs"));
const MANIFEST: &str = "manifest.toml";

/// Writes the SDK to this directory as an independent package.
pub(crate) fn write(directory: &Path) -> anyhow::Result<()> {
    for (name, text) in FILES {
        let (name, text) =
            if *name == MANIFEST { ("Cargo.toml", standalone(text)?) } else { (*name, (*text).to_owned()) };
        let path = directory.join(name);
        path.parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::write(&path, text))
            .with_context(|| format!("could not write {}", path.display()))?;
    }
    Ok(())
}

/// The manifest without references to this repository's workspace, and without the SDK's own tests.
fn standalone(manifest: &str) -> anyhow::Result<String> {
    let mut manifest: toml::Table = toml::from_str(manifest).context("the manifest of the guest SDK")?;
    for only_here in ["dev-dependencies", "lints", "test"] {
        manifest.remove(only_here);
    }
    if let Some(toml::Value::Table(package)) = manifest.get_mut("package") {
        for (key, value) in [
            ("version", env!("CARGO_PKG_VERSION")),
            ("rust-version", env!("CARGO_PKG_RUST_VERSION")),
            ("license", env!("CARGO_PKG_LICENSE")),
            ("edition", "2024"),
        ] {
            package.insert(key.to_owned(), value.into());
        }
    }
    let text = toml::to_string(&manifest).context("the manifest of the guest SDK")?;
    Ok(format!("# Written by `hookvisor new` from hookvisor {}.\n{text}", env!("CARGO_PKG_VERSION")))
}

#[cfg(test)]
mod tests {
    use super::{FILES, MANIFEST, standalone};

    #[test]
    fn the_manifest_stands_by_itself() -> anyhow::Result<()> {
        let (_, manifest) = FILES.iter().find(|(name, _)| *name == MANIFEST).ok_or(anyhow::anyhow!("no manifest"))?;
        let manifest = standalone(manifest)?;
        assert!(!manifest.contains("workspace"), "{manifest}");
        assert!(!manifest.contains("[dev-dependencies]"), "{manifest}");
        assert!(manifest.contains("features") && manifest.contains("edition = \"2024\""), "{manifest}");
        Ok(())
    }
}
