"""Builds the wheel: the Python files and libhookvisor.so. A PEP 517 build backend, and a program.

    pip wheel python/                           builds the library with cargo, in release mode
    python3 python/build_wheel.py DIR LIBRARY   with a library that is already built; prints the wheel's path

The library is loaded with ctypes, so that one wheel is for every CPython from 3.9 on.
"""

import base64
import hashlib
import os
import platform
import re
import subprocess
import sys
import zipfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parent
ROOT = PROJECT.parent
CARGO = ["rustc", "--release", "--locked", "--lib", "--features", "capi", "--crate-type", "staticlib"]


def version() -> str:
    """The version of the workspace."""
    found = re.search(r'^version = "(.*)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def built_library() -> Path:
    """The shared library, built now."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
    subprocess.run([os.environ.get("CARGO", "cargo"), *CARGO], cwd=ROOT, check=True)
    linked = target / "python"
    subprocess.run([ROOT / "scripts/link-library", target / "release/libhookvisor.a", linked], check=True)
    return linked / "libhookvisor.so"


def metadata() -> str:
    lines = [
        "Metadata-Version: 2.1",
        "Name: hookvisor",
        f"Version: {version()}",
        "Summary: Hooks for a daemon: ordinary executables and sandboxed WebAssembly decide whether its guests start",
        "License: MIT OR Apache-2.0",
        "Requires-Python: >=3.9",
        "Classifier: Operating System :: POSIX :: Linux",
        "Classifier: Typing :: Typed",
        "Description-Content-Type: text/markdown",
    ]
    return "\n".join(lines) + "\n\n" + (PROJECT / "README.md").read_text()


def pack(directory: str, library: Path) -> str:
    """Writes the wheel into a directory and returns its file name."""
    tag = f"py3-none-linux_{platform.machine()}"
    name = f"hookvisor-{version()}"
    files = {f"hookvisor/{path.name}": path.read_bytes() for path in sorted((PROJECT / "src/hookvisor").iterdir()) if path.is_file()}
    files["hookvisor/libhookvisor.so"] = library.read_bytes()
    files[f"{name}.dist-info/METADATA"] = metadata().encode()
    files[f"{name}.dist-info/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: hookvisor\nRoot-Is-Purelib: false\nTag: {tag}\n".encode()
    )
    record = f"{name}.dist-info/RECORD"
    lines = []
    for path, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(content)}")
    files[record] = "\n".join([*lines, f"{record},,", ""]).encode()
    wheel = f"{name}-{tag}.whl"
    with zipfile.ZipFile(Path(directory) / wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            # A fixed time, so that the same files are the same wheel.
            entry = zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return wheel


def build_wheel(directory: str, config_settings: object = None, metadata_directory: object = None) -> str:
    """PEP 517."""
    return pack(directory, built_library())


def build_sdist(directory: str, config_settings: object = None) -> str:
    """PEP 517. The package needs the library's source, which is the repository."""
    raise NotImplementedError("build the wheel in a clone of the repository: pip wheel python/")


if __name__ == "__main__":
    print(Path(sys.argv[1]) / pack(sys.argv[1], Path(sys.argv[2])))
