/*
 * hookvisor: the hooks of a host daemon, from C and from whatever can call C.
 *
 * Link with -lhookvisor (pkg-config --cflags --libs hookvisor).
 *
 * Threads. Every function may be called from every thread at any time, but not from a handler of a signal. A call blocks
 * until its hooks have ended, within their limits; 256 KiB of stack are enough for it. hookvisor_close may be called while
 * others are under way; what must not be is a use of a report's strings while the report is freed.
 *
 * Mistakes. NULL, a handle that was closed or freed before, text that is not UTF-8: each is answered by an error, and an
 * error is never leave to proceed. Handles are not addresses of memory: never read through them, or give them to free().
 *
 * Signals. SIGPIPE does not reach the process from here, and no disposition of it or of SIGCHLD is changed. A process that
 * ignores SIGCHLD or waits for every child itself takes the hooks' exit statuses away: the hooks run, and veto. Once a
 * WebAssembly hook is loaded, there are handlers for SIGSEGV, SIGBUS, SIGILL and SIGFPE that pass on what is not theirs:
 * install your own before hookvisor_open.
 *
 * fork. Open a runtime after the fork in the process that uses it: in a fork of that process its calls are errors, and
 * hookvisor_close and hookvisor_report_free are allowed.
 *
 * The rest. errno is left as it was. The shared library stays loaded after dlclose, for the sake of those handlers. What
 * hookvisor logs (hooks that are slow or cannot be loaded) is not available here.
 */

#ifndef HOOKVISOR_H
#define HOOKVISOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#if defined(__GNUC__)
#define HOOKVISOR_MUST_USE __attribute__((warn_unused_result))
#else
#define HOOKVISOR_MUST_USE
#endif


/**
 * The size of an error's message, with the NUL byte at its end.
 */
#define HOOKVISOR_ERROR_SIZE 1024

/**
 * What came of a call. Compare it, do not test its truth: 0 is none of these, so that a variable that was never set is no
 * leave to proceed, and whatever refuses is negative.
 */
typedef enum {
    /**
     * Start stage: every hook agreed. Go on.
     */
    HOOKVISOR_PROCEED = 1,
    /**
     * Shutdown stage: the hooks have been told.
     */
    HOOKVISOR_NOTIFIED = 2,
    /**
     * Start stage: a hook refused, or could not be asked. Do not go on.
     */
    HOOKVISOR_VETOED = -1,
    /**
     * The call itself failed. Before a start: do not go on.
     */
    HOOKVISOR_ERROR = -2,
} hookvisor_verdict;

/**
 * What came of an event. It may be read by many threads at once.
 */
typedef struct hookvisor_report hookvisor_report;

/**
 * An open directory of hooks. It may be used by many threads at once, and calls do not wait for each other.
 */
typedef struct hookvisor_runtime hookvisor_runtime;

/**
 * How hooks are run. Set what is not used to zero, which stands for the default.
 */
typedef struct {
    /**
     * A directory where compiled WebAssembly hooks are kept for the next time; NULL to keep nothing.
     */
    const char *cache;
    /**
     * How long a hook may take, where its settings do not say otherwise. 90,000 ms.
     */
    uint64_t timeout_ms;
    /**
     * How long a native hook has between SIGTERM and SIGKILL once its time is up. 5,000 ms.
     */
    uint64_t grace_ms;
    /**
     * How long a native hook's background processes may hold its output after it has exited. 100 ms.
     */
    uint64_t leak_wait_ms;
    /**
     * How many bytes of stdout a filter operation's hook may write. 8 MiB.
     */
    uint64_t stdout_bytes;
    /**
     * How many bytes of stderr are kept, half from its beginning and half from its end. 64 KiB.
     */
    uint64_t stderr_bytes;
    /**
     * How many bytes of memory a WebAssembly hook may have, where its settings do not say otherwise. 64 MiB.
     */
    uint64_t memory_bytes;
    /**
     * How many elements a WebAssembly hook's tables may have, each. 100,000.
     */
    uint64_t table_elements;
    /**
     * How many bytes a WebAssembly hook's stack may have. 512 KiB.
     */
    uint64_t stack_bytes;
    /**
     * How many bytes a WebAssembly hook's file may have. 64 MiB.
     */
    uint64_t module_bytes;
    /**
     * How many hooks run at once, for all threads together; one more waits. No bound.
     */
    uint64_t max_in_flight;
    /**
     * 0: room for later versions.
     */
    uint64_t reserved[8];
} hookvisor_options;

/**
 * Where a call says why. It belongs to the caller, who need not prepare it, and who may pass NULL instead: so there is
 * nothing to free, and no other call or thread changes it.
 */
typedef struct {
    /**
     * A string for a person to read, empty if nothing went wrong. One that is too long ends in "...".
     */
    char message[HOOKVISOR_ERROR_SIZE];
} hookvisor_error;

/**
 * What is about to happen to a guest, or has happened. Set what is not used to zero, as a designated initializer does:
 * `hookvisor_event event = { .driver = "mydaemon", .object = "web1", .operation = "start" };`
 */
typedef struct {
    /**
     * The name that hooks are looked up by: letters, digits, `-` and `_`. UTF-8 without a newline, as all of the strings.
     */
    const char *driver;
    /**
     * The guest that this is about.
     */
    const char *object;
    /**
     * What is happening.
     */
    const char *operation;
    /**
     * The part of the operation; NULL for the one that the driver's convention gives with it.
     */
    const char *sub_operation;
    /**
     * One more argument for the hooks; NULL for `-`.
     */
    const char *extra;
    /**
     * What the hooks find on stdin, any bytes; NULL if there is nothing.
     */
    const void *document;
    /**
     * How many bytes the document has.
     */
    size_t document_length;
    /**
     * NULL: room for later versions.
     */
    const void *reserved[4];
} hookvisor_event;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Opens a directory of hooks: they are found, checked and (WebAssembly) compiled.
 *
 * A hook that cannot be run does not fail this: it vetoes the starts that it would have been asked about. `options` may be
 * NULL, for the defaults.
 *
 * Returns the runtime, to be given to `hookvisor_close`, or NULL if the directory cannot be read, others may write to it, or
 * an argument is wrong. `directory` and `options` are not kept.
 *
 * # Safety
 * `directory` and the strings in `options` are NULL or end with a NUL byte; `options` and `error` are NULL or point to a
 * structure of their type.
 */
HOOKVISOR_MUST_USE
hookvisor_runtime *hookvisor_open(const char *directory,
                                  const hookvisor_options *options,
                                  hookvisor_error *error);

/**
 * Asks the hooks, before something is started, whether it may be. Blocks until they have ended, within their limits.
 *
 * Go on only after `HOOKVISOR_PROCEED`. `error->message` then is empty, and else says why not: what the hooks said, or what
 * is wrong with the call.
 *
 * `*report` becomes the report, to be given to `hookvisor_report_free`, or NULL after `HOOKVISOR_ERROR`. `report` may be
 * NULL, but for an event whose document a hook has rewritten: to go on without looking at that is an error. `event` and
 * what it points to are not kept.
 *
 * # Safety
 * `event`, `report` and `error` are NULL or point to a structure of their type; the strings in `event` are NULL or end with a
 * NUL byte, and `event->document` has `event->document_length` bytes, which nobody changes during the call.
 */
HOOKVISOR_MUST_USE
hookvisor_verdict hookvisor_start(const hookvisor_runtime *runtime,
                                  const hookvisor_event *event,
                                  hookvisor_report **report,
                                  hookvisor_error *error);

/**
 * Tells the hooks that something has been stopped. Every hook is called, whatever the others did.
 *
 * Returns `HOOKVISOR_NOTIFIED`, also where hooks failed: `error->message` then says which and how, and else is empty; or
 * `HOOKVISOR_ERROR` if no hook was told. Everything else is as for `hookvisor_start`.
 *
 * # Safety
 * As for `hookvisor_start`.
 */
hookvisor_verdict hookvisor_shutdown(const hookvisor_runtime *runtime,
                                     const hookvisor_event *event,
                                     hookvisor_report **report,
                                     hookvisor_error *error);

/**
 * Runs an event in the stage that its driver's convention puts its operation in: as `hookvisor_start`, or as
 * `hookvisor_shutdown`.
 *
 * # Safety
 * As for `hookvisor_start`.
 */
HOOKVISOR_MUST_USE
hookvisor_verdict hookvisor_run(const hookvisor_runtime *runtime,
                                const hookvisor_event *event,
                                hookvisor_report **report,
                                hookvisor_error *error);

/**
 * Looks for hooks again. Calls that are under way end with the hooks that they began with.
 *
 * Returns whether it was done. If not, the hooks are what they were before, and `error->message` says why.
 *
 * # Safety
 * `error` is NULL or points to a structure of its type.
 */
HOOKVISOR_MUST_USE bool hookvisor_reload(const hookvisor_runtime *runtime, hookvisor_error *error);

/**
 * Closes a runtime. Calls that are under way in other threads end as they would have; the last one of them frees it.
 *
 * Returns false, and does nothing, if the runtime is none that is open: NULL, or one that was closed before.
 *
 * # Safety
 * `error` is NULL or points to a structure of its type.
 */
bool hookvisor_close(hookvisor_runtime *runtime, hookvisor_error *error);

/**
 * The verdict that a report is about; `HOOKVISOR_ERROR` if it is no report, or one that was freed.
 */
HOOKVISOR_MUST_USE hookvisor_verdict hookvisor_report_verdict(const hookvisor_report *report);

/**
 * The exit status of the first hook that failed, as a shell would give it, 0 where none did; -1 if it is no report, or
 * one that was freed.
 */
HOOKVISOR_MUST_USE int hookvisor_report_exit_status(const hookvisor_report *report);

/**
 * The report as text: a line or more for each failure, empty where there is none. It holds what the hooks wrote to stderr as
 * they wrote it, which need not be UTF-8.
 *
 * Returns a string that belongs to the report and goes with it: do not free it. NULL if it is no report, or one that was
 * freed. `*length` becomes its length, without the NUL byte at its end; `length` may be NULL.
 *
 * # Safety
 * `length` is NULL or points to a `size_t`.
 */
HOOKVISOR_MUST_USE
const char *hookvisor_report_text(const hookvisor_report *report,
                                  size_t *length);

/**
 * The report as one line of JSON, in UTF-8. The README describes its fields.
 *
 * Returns a string as `hookvisor_report_text` does.
 *
 * # Safety
 * `length` is NULL or points to a `size_t`.
 */
HOOKVISOR_MUST_USE const char *hookvisor_report_json(const hookvisor_report *report, size_t *length);

/**
 * The document as the hooks of a filter operation made it: what is to be used from now on. It may hold NUL bytes.
 *
 * Returns a string as `hookvisor_report_text` does; NULL also where no hook changed the document.
 *
 * # Safety
 * `length` is NULL or points to a `size_t`.
 */
HOOKVISOR_MUST_USE const char *hookvisor_report_document(const hookvisor_report *report, size_t *length);

/**
 * Frees a report and the strings that belong to it.
 *
 * Returns false, and does nothing, if it is no report: NULL, or one that was freed before.
 */
bool hookvisor_report_free(hookvisor_report *report);

/**
 * The library's version, such as "0.1.0". The string is never freed.
 */
HOOKVISOR_MUST_USE const char *hookvisor_version(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* HOOKVISOR_H */
