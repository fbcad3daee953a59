use std::env;
use std::path::{Path, PathBuf};

/// The place of a path in a granted directory: in a hook, the path itself.
///
/// A hook's unit test runs on the host, where `/sys` is not the hook's to write to. What a hook opens by this function
/// is found in the harness's directories there.
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

/// A variable that the administrator gives the hook: `env = { NAME = "…" }` in its settings.
///
/// `None` if it is not set or not UTF-8. In a unit test, it is what the harness was told.
pub fn setting(name: &str) -> Option<String> {
    #[cfg(feature = "testing")]
    if let Some(setting) = crate::testing::setting(name) {
        return setting;
    }
    env::var(name).ok()
}
