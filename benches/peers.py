"""The sandboxed hook by other WebAssembly runtimes, by their own best path: compiled once, a new instance for each call.

Prints a line for each package (pip install wasmtime extism): its name, a tab, and a call's median in seconds or why there is
none.
"""
import os
import statistics
import sys
import tempfile
import time

module_file, document = sys.argv[1:3]
ARGUMENTS = ["hook", "web2", "start", "begin", "read"]


def median(call, count=500):
    times = []
    for _ in range(count):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def by_wasmtime():
    import wasmtime

    engine = wasmtime.Engine()
    module = wasmtime.Module.from_file(engine, module_file)
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    for imported in module.imports:
        # The host's own functions. This hook does not call them.
        if imported.module == "hookvisor":
            linker.define_func(imported.module, imported.name, imported.type, lambda *_: 0)

    def call():
        store = wasmtime.Store(engine)
        wasi = wasmtime.WasiConfig()
        wasi.argv = ARGUMENTS
        wasi.stdin_file = document
        wasi.stderr_file = stderr
        store.set_wasi(wasi)
        try:
            linker.instantiate(store, module).exports(store)["_start"](store)
        except wasmtime.ExitTrap:
            pass

    with tempfile.TemporaryDirectory() as directory:
        stderr = os.path.join(directory, "stderr")
        return median(call)


def by_extism():
    import extism

    # The host's own functions. This hook does not call them.
    i32 = extism.ValType.I32
    own = [("command_run", 3, [i32]), ("command_response", 2, [i32]), ("log", 3, [])]
    own += [("unix_connect", 3, [i32]), ("unix_read", 4, [i32]), ("unix_write", 4, [i32])]
    own += [("unix_shutdown_write", 1, [i32]), ("unix_close", 1, [])]
    for name, arguments, results in own:
        signature = ([i32] * arguments, results)

        @extism.host_fn(name=name, namespace="hookvisor", signature=signature)
        def unused(*_):
            pass

    with open(module_file, "rb") as file:
        plugin = extism.Plugin(file.read(), wasi=True)
    with open(document, "rb") as file:
        text = file.read()

    def call():
        try:
            plugin.call("_start", text)
        except extism.Error:
            pass  # It exits with a status.

    return median(call)


for name, measure in [("wasmtime by its Python package", by_wasmtime), ("Extism by its Python package", by_extism)]:
    try:
        print(f"{name}\t{measure()}", flush=True)
    except Exception as error:  # It is not installed, or takes no such hook.
        print(f"{name}\t{' '.join(str(error).split())}", flush=True)
