/*
 * hookvisor.h: calls hooks before a guest starts and after it stops
 *
 * Link with -lhookvisor (pkg-config --cflags --libs hookvisor).
 *
 * Start a guest only if hookvisor_start() returns HOOKVISOR_PROCEED.
 *
 * Arguments: strings end with a NUL byte. Pointers are NULL, where that is allowed, or point to what their type says, which
 * must not change during the call. Structures begin with their size. The library keeps no pointer after a call, except the
 * function and data of hookvisor_log_to().
 *
 * Ownership: runtimes, reports, texts and cancel handles are freed by their own function, everything else belongs to the
 * caller. Handles are not addresses: do not read through them, and do not pass them to free().
 *
 * Mistakes: NULL, a handle that was freed, a structure without its size, text that is not UTF-8: the call fails with a message,
 * and does not return HOOKVISOR_PROCEED.
 *
 * Threads: any thread may call any function at any time. A call blocks until its hooks have ended, within their limits, and
 * needs 256 KiB of stack. hookvisor_close() may be called during other calls. Do not use a report's strings while another
 * thread frees it. pthread_cancel() acts after the call.
 *
 * Signals: do not call any function from a signal handler. SIGPIPE does not reach the process because of the library, which
 * changes no disposition of SIGPIPE or SIGCHLD. In a process that ignores SIGCHLD, or waits for all children itself, the exit
 * statuses of hooks may be lost; the hooks then veto. Once a WebAssembly hook is loaded, the process has handlers for SIGSEGV,
 * SIGBUS, SIGILL and SIGFPE, which pass on what is not theirs: install your own before hookvisor_open().
 *
 * fork: a runtime or cancel handle belongs to the process that made it. In a fork, calls with it fail, and it can be freed.
 * Open another one there.
 *
 * Exit: a process may end during the calls of other threads. Their native hooks run on, or are killed with `end_with_host`.
 *
 * errno is not changed. The shared library stays loaded after dlclose(), because of the signal handlers.
 *
 * Compatibility: later versions of the library append fields and functions. Programs built with this header run with them.
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
 * The size of an error's message, with its NUL byte.
 */
#define HOOKVISOR_ERROR_SIZE 1024

/**
 * The result of a call. Compare it with HOOKVISOR_PROCEED; do not test whether it is true. 0 is not a verdict, so a variable that
 * was never set does not start anything. Refusals are negative.
 */
typedef enum {
    /**
     * Start stage: every hook agreed. Start the guest.
     */
    HOOKVISOR_PROCEED = 1,
    /**
     * Shutdown stage: the hooks have been called.
     */
    HOOKVISOR_NOTIFIED = 2,
    /**
     * Start stage: a hook refused, or could not be called. Do not start the guest.
     */
    HOOKVISOR_VETOED = -1,
    /**
     * The call itself failed. Do not start the guest.
     */
    HOOKVISOR_ERROR = -2,
} hookvisor_verdict;

/**
 * How important a record is. A lower number is more important.
 */
typedef enum {
    /**
     * hookvisor itself failed.
     */
    HOOKVISOR_LOG_ERROR = 1,
    /**
     * A hook failed, is slow, or cannot be called.
     */
    HOOKVISOR_LOG_WARNING = 2,
    /**
     * A hook was called; a start was vetoed.
     */
    HOOKVISOR_LOG_INFO = 3,
    /**
     * A hook was loaded, a hook is about to be called.
     */
    HOOKVISOR_LOG_DEBUG = 4,
} hookvisor_log_level;

/**
 * What a record is about.
 */
typedef enum {
    /**
     * Anything else.
     */
    HOOKVISOR_TOPIC_OTHER = 0,
    /**
     * A hook is called.
     */
    HOOKVISOR_TOPIC_STARTED = 1,
    /**
     * A hook still runs after `slow_ms`.
     */
    HOOKVISOR_TOPIC_SLOW = 2,
    /**
     * A hook has ended: `exit_status` and `duration_us` are set.
     */
    HOOKVISOR_TOPIC_ENDED = 3,
    /**
     * A start was vetoed: `exit_status` is set.
     */
    HOOKVISOR_TOPIC_VETOED = 4,
    /**
     * A hook cannot be called; it will veto.
     */
    HOOKVISOR_TOPIC_BROKEN = 5,
    /**
     * A WebAssembly hook wrote to its log.
     */
    HOOKVISOR_TOPIC_GUEST = 6,
} hookvisor_log_topic;

/**
 * Ends running calls from another thread.
 */
typedef struct hookvisor_cancel hookvisor_cancel;

/**
 * The result of an event. Many threads may read it at once.
 */
typedef struct hookvisor_report hookvisor_report;

/**
 * An open hooks directory. Many threads may use it at once; their calls do not wait for each other.
 */
typedef struct hookvisor_runtime hookvisor_runtime;

/**
 * A text that the library made for the caller.
 */
typedef struct hookvisor_text hookvisor_text;

/**
 * How a runtime calls hooks. Fields that are zero have their default:
 *
 * ```c
 * hookvisor_options options = {.size = sizeof options, .timeout_ms = 30000};
 * ```
 */
typedef struct {
    /**
     * sizeof(hookvisor_options).
     */
    size_t size;
    /**
     * A directory for compiled WebAssembly hooks, so that the next process need not compile them; NULL to keep nothing.
     */
    const char *cache;
    /**
     * Loads the hooks of this driver only; NULL for all.
     */
    const char *only_driver;
    /**
     * What the operations of the caller's own drivers mean: TOML, the `[convention.NAME]` tables of hookvisor.toml; NULL for
     * the built-in conventions.
     */
    const char *conventions;
    /**
     * Ends every call of this runtime; NULL for none.
     */
    const hookvisor_cancel *cancel;
    /**
     * Run time of a hook whose settings have no `timeout`. 90,000 ms.
     */
    uint64_t timeout_ms;
    /**
     * Time between SIGTERM and SIGKILL for a native hook that ran out of time. 5,000 ms.
     */
    uint64_t grace_ms;
    /**
     * How long a native hook's background processes may hold its output after the hook has exited. 100 ms.
     */
    uint64_t leak_wait_ms;
    /**
     * How long a hook runs before the log mentions it. 10,000 ms.
     */
    uint64_t slow_ms;
    /**
     * Bytes of stdout that the hook of a filter operation may write. 8 MiB.
     */
    uint64_t stdout_bytes;
    /**
     * Bytes of stderr that are kept, half from the beginning and half from the end. 64 KiB.
     */
    uint64_t stderr_bytes;
    /**
     * Memory of a WebAssembly hook whose settings have no `memory`. 64 MiB.
     */
    uint64_t memory_bytes;
    /**
     * Elements in each table of a WebAssembly hook. 100,000.
     */
    uint64_t table_elements;
    /**
     * Stack of a WebAssembly hook. 512 KiB.
     */
    uint64_t stack_bytes;
    /**
     * Size of a WebAssembly hook's file. 64 MiB.
     */
    uint64_t module_bytes;
    /**
     * How many hooks run at once, over all threads; others wait. No limit.
     */
    uint64_t max_in_flight;
    /**
     * Not 0: native hooks end with this process, also if it is killed. The runtime then has one child process, a small
     * shell, until it is closed.
     */
    int end_with_host;
    /**
     * The known drivers, and NULL after the last. A start of any other driver is vetoed, which catches misspelt names. NULL
     * accepts any driver.
     */
    const char *const *known_drivers;
    /**
     * A program that compiles WebAssembly hooks in a process of its own, with limits on its time and memory: the path of a
     * `hookvisor` of this library's version. NULL to compile in this process.
     */
    const char *compiler;
    /**
     * Not 0: confines every native hook to what its settings grant, as `confine = true` there does.
     */
    int confine_all;
    /**
     * Not 0: vetoes a start if its driver has no hooks.
     */
    int require_hooks;
    /**
     * Where hooks with `state = true` have a directory each; NULL for `/var/lib/hookvisor/state`.
     */
    const char *state_directory;
} hookvisor_options;

/**
 * Where a call puts the reason of a failure. It belongs to the caller, who need not initialize it. There is nothing to free, and
 * no other thread writes to it.
 */
typedef struct {
    /**
     * A text for a person, empty if nothing failed. A text that is too long ends in "...".
     */
    char message[HOOKVISOR_ERROR_SIZE];
} hookvisor_error;

/**
 * What is about to happen to a guest, or has happened:
 *
 * ```c
 * hookvisor_event event = {
 *     .size = sizeof event, .driver = "mydaemon", .object = "web1", .operation = "start",
 * };
 * ```
 */
typedef struct {
    /**
     * sizeof(hookvisor_event). A later version of the library knows by it which fields the caller has.
     */
    size_t size;
    /**
     * The driver, by which hooks are found: letters, digits, `-` and `_`. As all strings, UTF-8 without a newline.
     */
    const char *driver;
    /**
     * The guest's name.
     */
    const char *object;
    /**
     * What happens to the guest.
     */
    const char *operation;
    /**
     * The part of the operation; NULL for the one that the driver's convention has.
     */
    const char *sub_operation;
    /**
     * One more argument for the hooks; NULL for `-`.
     */
    const char *extra;
    /**
     * What hooks read from stdin, any bytes; NULL for nothing.
     */
    const void *document;
    /**
     * The number of bytes in the document.
     */
    size_t document_length;
} hookvisor_event;

/**
 * Options for one call. Fields that are zero have the runtime's value.
 */
typedef struct {
    /**
     * sizeof(hookvisor_call_options).
     */
    size_t size;
    /**
     * Ends this call; NULL for none.
     */
    const hookvisor_cancel *cancel;
    /**
     * Time for all hooks of this call together. No bound.
     */
    uint64_t within_ms;
    /**
     * Run time of a hook whose settings have no `timeout`.
     */
    uint64_t timeout_ms;
    /**
     * Time between SIGTERM and SIGKILL for a native hook that ran out of time.
     */
    uint64_t grace_ms;
    /**
     * Bytes of stdout that the hook of a filter operation may write.
     */
    uint64_t stdout_bytes;
    /**
     * Bytes of stderr that are kept.
     */
    uint64_t stderr_bytes;
} hookvisor_call_options;

/**
 * One record of the log. It and its strings are valid until the function returns. Strings that do not apply are NULL.
 */
typedef struct {
    /**
     * The size of this structure in the library's version. Fields beyond it do not exist.
     */
    size_t size;
    /**
     * How important it is.
     */
    hookvisor_log_level level;
    /**
     * What it is about.
     */
    hookvisor_log_topic topic;
    /**
     * A text for a person.
     */
    const char *message;
    /**
     * The event's driver.
     */
    const char *driver;
    /**
     * The guest's name.
     */
    const char *object;
    /**
     * The event's operation.
     */
    const char *operation;
    /**
     * The hook's file.
     */
    const char *hook;
    /**
     * The hook's exit status, as a shell has it; -1 if it does not apply.
     */
    int exit_status;
    /**
     * The hook's run time in microseconds; -1 if it does not apply.
     */
    int64_t duration_us;
} hookvisor_log_record;

/**
 * A function of the caller that gets the log's records. Several threads may call it at once.
 */
typedef void (*hookvisor_log_function)(const hookvisor_log_record *record, void *data);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * hookvisor_open:
 * @directory: the hooks directory
 * @options: how hooks are called, or NULL for the defaults
 * @error: where a failure is explained, or NULL
 *
 * Opens a hooks directory: finds, checks and (WebAssembly) compiles the hooks. A hook that cannot be called is not a failure: it
 * vetoes the starts that it would have been called for. The arguments may be freed afterwards.
 *
 * Returns the runtime, which hookvisor_close() frees, or NULL if the directory cannot be read, others may write to it, or an
 * argument is wrong.
 */
HOOKVISOR_MUST_USE
hookvisor_runtime *hookvisor_open(const char *directory,
                                  const hookvisor_options *options,
                                  hookvisor_error *error);

/**
 * hookvisor_start:
 * @runtime: an open runtime
 * @event: what is about to start
 * @options: options for this call, or NULL
 * @report: where the report goes, or NULL
 * @error: where the reason of a refusal goes, or NULL
 *
 * Asks the hooks whether a guest may start. Blocks until the hooks have ended, within their limits. Start the guest only if this
 * returns HOOKVISOR_PROCEED; otherwise @error has the hooks' words, or says what is wrong with the call.
 *
 * *@report has to be freed with hookvisor_report_free(); it is NULL after HOOKVISOR_ERROR. @report may be NULL unless a hook
 * rewrites the event's document, since ignoring that document is an error. The other arguments may be freed afterwards.
 *
 * Returns HOOKVISOR_PROCEED, HOOKVISOR_VETOED or HOOKVISOR_ERROR.
 */
HOOKVISOR_MUST_USE
hookvisor_verdict hookvisor_start(const hookvisor_runtime *runtime,
                                  const hookvisor_event *event,
                                  const hookvisor_call_options *options,
                                  hookvisor_report **report,
                                  hookvisor_error *error);

/**
 * hookvisor_shutdown:
 * @runtime: an open runtime
 * @event: what has stopped
 * @options: options for this call, or NULL
 * @report: where the report goes, or NULL
 * @error: where failures go, or NULL
 *
 * Tells the hooks that a guest has stopped. Every hook is called, also after one has failed; @error then names the failures. The
 * arguments are those of hookvisor_start().
 *
 * Returns HOOKVISOR_NOTIFIED, or HOOKVISOR_ERROR if no hook was called.
 */
hookvisor_verdict hookvisor_shutdown(const hookvisor_runtime *runtime,
                                     const hookvisor_event *event,
                                     const hookvisor_call_options *options,
                                     hookvisor_report **report,
                                     hookvisor_error *error);

/**
 * hookvisor_stopped:
 * @runtime: an open runtime
 * @event: the start of the guest that has stopped
 * @options: options for this call, or NULL
 * @report: where the report goes, or NULL
 * @error: where failures go, or NULL
 *
 * Tells the hooks that a guest has stopped, as hookvisor_shutdown() does. The operation is the one by which the driver's convention
 * announces the end of a guest: "stopped", or its `ended_by`. The event's own operation, sub-operation and extra are not used.
 *
 * Returns HOOKVISOR_NOTIFIED, or HOOKVISOR_ERROR if no hook was called.
 */
hookvisor_verdict hookvisor_stopped(const hookvisor_runtime *runtime,
                                    const hookvisor_event *event,
                                    const hookvisor_call_options *options,
                                    hookvisor_report **report,
                                    hookvisor_error *error);

/**
 * hookvisor_run:
 * @runtime: an open runtime
 * @event: what is about to happen, or has happened
 * @options: options for this call, or NULL
 * @report: where the report goes, or NULL
 * @error: where failures go, or NULL
 *
 * Calls the hooks as hookvisor_start() or as hookvisor_shutdown() does, whichever the driver's convention says for the operation.
 *
 * Returns what that function returns.
 */
HOOKVISOR_MUST_USE
hookvisor_verdict hookvisor_run(const hookvisor_runtime *runtime,
                                const hookvisor_event *event,
                                const hookvisor_call_options *options,
                                hookvisor_report **report,
                                hookvisor_error *error);

/**
 * hookvisor_reload:
 * @runtime: an open runtime
 * @inventory: where the new inventory goes, or NULL; see hookvisor_inventory()
 * @error: where a failure is explained, or NULL
 *
 * Loads the hooks again, all or none. Running calls end with the hooks that they began with.
 *
 * Returns true, or false if the hooks are the same as before.
 */
HOOKVISOR_MUST_USE
bool hookvisor_reload(const hookvisor_runtime *runtime,
                      hookvisor_text **inventory,
                      hookvisor_error *error);

/**
 * hookvisor_inventory:
 * @runtime: an open runtime
 * @error: where a failure is explained, or NULL
 *
 * Lists the files of the hooks directory and how each is treated, as one line of JSON: the same as `hookvisor list --format json`.
 *
 * Returns the text, which hookvisor_text_free() frees, or NULL if the runtime is not open.
 */
HOOKVISOR_MUST_USE
hookvisor_text *hookvisor_inventory(const hookvisor_runtime *runtime,
                                    hookvisor_error *error);

/**
 * hookvisor_close:
 * @runtime: an open runtime
 * @error: where a failure is explained, or NULL
 *
 * Closes a runtime. Calls that run in other threads end normally; the last one frees it.
 *
 * Returns true, or false if the runtime is not open.
 */
bool hookvisor_close(hookvisor_runtime *runtime, hookvisor_error *error);

/**
 * hookvisor_log_to:
 * @function: gets the records, or NULL for none
 * @data: passed to the function
 * @level: a hookvisor_log_level: the least important records that it gets
 * @error: where a failure is explained, or NULL
 *
 * Passes what hookvisor logs to a function, for all runtimes of this process, and tells it when hooks start and end. At first
 * nothing is logged. The function is called by the threads that call hooks, several at once; it must return normally. Records that
 * it causes itself by calling hookvisor are dropped. Once this returns, a former function is no longer running.
 *
 * Returns true, or false if it is called from the function itself, or another library has taken over the process's logging.
 */
bool hookvisor_log_to(hookvisor_log_function function,
                      void *data,
                      int level,
                      hookvisor_error *error);

/**
 * hookvisor_version:
 *
 * Returns the library's version, such as "0.1.0". The string is never freed.
 */
HOOKVISOR_MUST_USE const char *hookvisor_version(void);

/**
 * hookvisor_report_verdict:
 * @report: a report
 *
 * Returns the report's verdict, or HOOKVISOR_ERROR if @report is not a report or was freed.
 */
HOOKVISOR_MUST_USE hookvisor_verdict hookvisor_report_verdict(const hookvisor_report *report);

/**
 * hookvisor_report_exit_status:
 * @report: a report
 *
 * Returns the exit status of the first hook that failed, as a shell has it, or 0 if none did; -1 if @report is not a report or was
 * freed.
 */
HOOKVISOR_MUST_USE
int hookvisor_report_exit_status(const hookvisor_report *report);

/**
 * hookvisor_report_text:
 * @report: a report
 * @length: where the number of bytes goes, without the NUL byte at the end, or NULL
 *
 * Returns the report for a person, at least one line for each failure, empty if nothing failed. It has the hooks' stderr as they
 * wrote it, which may not be UTF-8. The string belongs to the report: do not free it, and do not use it after
 * hookvisor_report_free(). NULL if @report is not a report or was freed.
 */
HOOKVISOR_MUST_USE
const char *hookvisor_report_text(const hookvisor_report *report,
                                  size_t *length);

/**
 * hookvisor_report_json:
 * @report: a report
 * @length: where the number of bytes goes, or NULL
 *
 * Returns the report as one line of JSON in UTF-8, otherwise as hookvisor_report_text(). The book's reference describes its fields.
 */
HOOKVISOR_MUST_USE
const char *hookvisor_report_json(const hookvisor_report *report,
                                  size_t *length);

/**
 * hookvisor_report_document:
 * @report: a report
 * @length: where the number of bytes goes, or NULL
 *
 * Returns the document that the hooks of a filter operation made, which replaces the event's; otherwise as
 * hookvisor_report_text(). It may contain NUL bytes. NULL also if no hook changed the document.
 */
HOOKVISOR_MUST_USE const char *hookvisor_report_document(const hookvisor_report *report, size_t *length);

/**
 * hookvisor_report_free:
 * @report: a report
 *
 * Frees a report and its strings.
 *
 * Returns true, or false if @report is not a report or was freed before.
 */
bool hookvisor_report_free(hookvisor_report *report);

/**
 * hookvisor_text_get:
 * @text: a text
 * @length: where the number of bytes goes, without the NUL byte at the end, or NULL
 *
 * Returns the text's string, which hookvisor_text_free() frees; NULL if @text is not a text or was freed.
 */
HOOKVISOR_MUST_USE const char *hookvisor_text_get(const hookvisor_text *text, size_t *length);

/**
 * hookvisor_text_free:
 * @text: a text
 *
 * Frees a text.
 *
 * Returns true, or false if @text is not a text or was freed before.
 */
bool hookvisor_text_free(hookvisor_text *text);

/**
 * hookvisor_cancel_new:
 *
 * Makes a handle that ends running calls. Put it into hookvisor_options for all calls of a runtime, or into
 * hookvisor_call_options for one call.
 *
 * Returns the handle, which hookvisor_cancel_free() frees.
 */
HOOKVISOR_MUST_USE hookvisor_cancel *hookvisor_cancel_new(void);

/**
 * hookvisor_cancel_throw:
 * @cancel: a cancel handle
 * @error: where a failure is explained, or NULL
 *
 * Ends the calls that have this handle: their hooks are ended, and starts are vetoed. It returns at once. Cancellation is
 * permanent: later calls with this handle fail too. It must not be called from a signal handler: have the handler wake a thread
 * (signalfd, sigwait or a pipe).
 *
 * Returns true, or false if @cancel is not a cancel handle or was freed.
 */
bool hookvisor_cancel_throw(const hookvisor_cancel *cancel,
                            hookvisor_error *error);

/**
 * hookvisor_cancel_kill:
 * @cancel: a cancel handle
 * @error: where a failure is explained, or NULL
 *
 * As hookvisor_cancel_throw(), and kills native hooks at once (SIGKILL) instead of giving them time to end.
 *
 * Returns true, or false if @cancel is not a cancel handle or was freed.
 */
bool hookvisor_cancel_kill(const hookvisor_cancel *cancel, hookvisor_error *error);

/**
 * hookvisor_cancel_free:
 * @cancel: a cancel handle
 *
 * Frees a cancel handle. Calls and runtimes that have it go on; they can then no longer be cancelled by it.
 *
 * Returns true, or false if @cancel is not a cancel handle or was freed before.
 */
bool hookvisor_cancel_free(hookvisor_cancel *cancel);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* HOOKVISOR_H */
