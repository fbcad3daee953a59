use std::env;
use std::path::{Path, PathBuf};

/// Resolves a path in a granted directory.
///
/// In a hook, it returns the path unchanged. In a unit test, it returns the path below the harness's directories, so
/// that the test does not touch the real files.
///
/// ```no_run
/// use hookvisor_guest::granted;
///
/// std::fs::write(granted("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"), "512")?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn granted(path: impl AsRef<Path>) -> PathBuf {
    let path = path.as_ref();
    #[cfg(feature = "testing")]
    if let Some(place) = crate::testing::place(path) {
        return place;
    }
    path.to_owned()
}

/// Reads an environment variable that the administrator sets for the hook: `env = { NAME = "…" }` in its settings.
///
/// Returns `None` if the variable is not set or not UTF-8. In a unit test, it returns the harness's value.
pub fn setting(name: &str) -> Option<String> {
    #[cfg(feature = "testing")]
    if let Some(setting) = crate::testing::setting(name) {
        return setting;
    }
    env::var(name).ok()
}
