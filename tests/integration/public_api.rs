//! The library's public interface as a snapshot, so that every change is seen and intended.

use std::path::Path;
use std::process::Command;

#[test]
#[ignore = "it asks for a check of every dependency, which .ci/run has made when it comes to this"]
fn the_public_interface_is_what_it_was() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let documented = Command::new(env!("CARGO"))
        .current_dir(root)
        .args(["rustdoc", "--quiet", "--locked", "--lib", "--features", "async,metrics", "--target-dir"])
        .arg(target)
        .env("RUSTDOC", root.join("scripts/rustdoc-json"))
        .output()
        .unwrap();
    assert!(documented.status.success(), "{}", String::from_utf8_lossy(&documented.stderr));
    let api = public_api::Builder::from_rustdoc_json(target.join("doc/hookvisor.json"))
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()
        .unwrap();
    insta::assert_snapshot!(api.to_string());
}
