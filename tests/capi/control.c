/* A daemon's controls: cancellation, limits for one call, the log, the inventory, its own operations. */
#define _POSIX_C_SOURCE 200809L
#include <limits.h>
#include <pthread.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

static hookvisor_runtime *hooks;

static void moment(long ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static void *throw_soon(void *cancel)
{
    moment(300);
    CHECK(hookvisor_cancel_throw(cancel, NULL));
    return NULL;
}

/* Another thread cancels a call. Later calls with the same handle are cancelled too, and other calls continue. */
static void cancelled(const char *kind)
{
    hookvisor_error error;
    hookvisor_report *report;
    hookvisor_cancel *cancel = hookvisor_cancel_new();
    hookvisor_call_options options = {.size = sizeof options, .cancel = cancel};
    hookvisor_event event = event_of(kind, "sleep=60000", "start");
    pthread_t thread;
    CHECK(cancel != NULL && pthread_create(&thread, NULL, throw_soon, cancel) == 0);
    CHECK(hookvisor_start(hooks, &event, &options, &report, &error) == HOOKVISOR_VETOED);
    CHECK(strstr(hookvisor_report_json(report, NULL), "\"termination\":\"cancelled\"") != NULL);
    CHECK(pthread_join(thread, NULL) == 0 && hookvisor_report_free(report));
    event.object = "exit=0";
    CHECK(hookvisor_start(hooks, &event, &options, NULL, NULL) == HOOKVISOR_VETOED);
    CHECK(hookvisor_start(hooks, &event, NULL, NULL, NULL) == HOOKVISOR_PROCEED);
    CHECK(hookvisor_cancel_kill(cancel, &error) && error.message[0] == '\0');
    CHECK(hookvisor_cancel_free(cancel) && !hookvisor_cancel_free(cancel));
    CHECK(hookvisor_start(hooks, &event, &options, NULL, &error) == HOOKVISOR_ERROR);
    CHECK(strcmp(error.message, "invalid cancel handle: freed, or never made") == 0);
}

/* A cancel handle keeps working in a runtime after it was freed here. A fork cannot use it. */
static void cancelled_runtime(char **argv)
{
    hookvisor_cancel *cancel = hookvisor_cancel_new();
    hookvisor_options options = {.size = sizeof options, .timeout_ms = 60000, .cancel = cancel, .end_with_host = 1};
    hookvisor_runtime *ending = open_hooks(argv, options);
    hookvisor_event event = event_of("native", "exit=0", "start");
    CHECK(hookvisor_start(ending, &event, NULL, NULL, NULL) == HOOKVISOR_PROCEED);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        hookvisor_error error;
        CHECK(!hookvisor_cancel_throw(cancel, &error) && strstr(error.message, "this process is a fork of it") != NULL);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(hookvisor_start(ending, &event, NULL, NULL, NULL) == HOOKVISOR_PROCEED);
    CHECK(hookvisor_cancel_throw(cancel, NULL) && hookvisor_cancel_free(cancel));
    CHECK(hookvisor_start(ending, &event, NULL, NULL, NULL) == HOOKVISOR_VETOED);
    CHECK(hookvisor_close(ending, NULL));
}

static void limits_of_one_call(const char *kind)
{
    hookvisor_error error;
    hookvisor_event event = event_of(kind, "sleep=60000", "start");
    hookvisor_call_options options = {.size = sizeof options, .timeout_ms = 500};
    CHECK(hookvisor_start(hooks, &event, &options, NULL, &error) == HOOKVISOR_VETOED);
    CHECK(strstr(error.message, "timed out after 500ms") != NULL);
    options.timeout_ms = 0;
    options.within_ms = 400;
    CHECK(hookvisor_start(hooks, &event, &options, NULL, &error) == HOOKVISOR_VETOED);
    event.object = "flood-stderr=3000;exit=1";
    options.within_ms = 0;
    options.stderr_bytes = 100;
    CHECK(hookvisor_start(hooks, &event, &options, NULL, &error) == HOOKVISOR_VETOED);
    CHECK(strlen(error.message) < 700);
    options.size = 0;
    CHECK(hookvisor_start(hooks, &event, &options, NULL, &error) == HOOKVISOR_ERROR);
    CHECK(strstr(error.message, "`call_options.size` is 0") == error.message);
}

struct seen {
    pthread_mutex_t lock;
    int topics[8];
    int status;
    int faults;
    char hook[256];
};

static void see(const hookvisor_log_record *record, void *data)
{
    struct seen *seen = data;
    hookvisor_event event = event_of("native", "exit=0", "start");
    pthread_mutex_lock(&seen->lock);
    seen->topics[record->topic]++;
    seen->faults += record->size != sizeof *record || record->message == NULL || record->message[0] == '\0';
    if (record->topic == HOOKVISOR_TOPIC_ENDED) {
        seen->status = record->exit_status;
        seen->faults += record->duration_us < 0 || strcmp(record->driver, "native") != 0;
        seen->faults += strcmp(record->operation, "start") != 0 || record->object == NULL;
        snprintf(seen->hook, sizeof seen->hook, "%s", record->hook);
    }
    pthread_mutex_unlock(&seen->lock);
    /* A call from here is allowed, and not logged. hookvisor_log_to is not allowed here. */
    seen->faults += record->topic == HOOKVISOR_TOPIC_VETOED
                    && hookvisor_start(hooks, &event, NULL, NULL, NULL) != HOOKVISOR_PROCEED;
    seen->faults += hookvisor_log_to(NULL, NULL, HOOKVISOR_LOG_ERROR, NULL);
}

static void logged(void)
{
    static struct seen seen = {.lock = PTHREAD_MUTEX_INITIALIZER};
    hookvisor_error error;
    hookvisor_event event = event_of("native", "exit=3", "start");
    CHECK(!hookvisor_log_to(see, &seen, 0, &error) && strstr(error.message, "`level` is 0") == error.message);
    CHECK(hookvisor_log_to(see, &seen, HOOKVISOR_LOG_DEBUG, &error) && error.message[0] == '\0');
    CHECK(hookvisor_start(hooks, &event, NULL, NULL, NULL) == HOOKVISOR_VETOED);
    CHECK(seen.topics[HOOKVISOR_TOPIC_STARTED] == 1 && seen.topics[HOOKVISOR_TOPIC_ENDED] == 1);
    CHECK(seen.topics[HOOKVISOR_TOPIC_VETOED] == 1 && seen.status == 3 && seen.faults == 0);
    CHECK(strstr(seen.hook, "/native.d/10-probe") != NULL);
    /* At the warning level, success is silent, and a record still names its hook. */
    CHECK(hookvisor_log_to(see, &seen, HOOKVISOR_LOG_WARNING, NULL));
    event.object = "exit=0";
    CHECK(hookvisor_start(hooks, &event, NULL, NULL, NULL) == HOOKVISOR_PROCEED);
    CHECK(seen.topics[HOOKVISOR_TOPIC_STARTED] == 1 && seen.topics[HOOKVISOR_TOPIC_ENDED] == 1);
    event.object = "exit=4";
    CHECK(hookvisor_start(hooks, &event, NULL, NULL, NULL) == HOOKVISOR_VETOED);
    CHECK(seen.topics[HOOKVISOR_TOPIC_ENDED] == 2 && seen.status == 4 && seen.faults == 0);
    CHECK(hookvisor_log_to(NULL, NULL, HOOKVISOR_LOG_ERROR, NULL));
    CHECK(hookvisor_start(hooks, &event, NULL, NULL, NULL) == HOOKVISOR_VETOED);
    CHECK(seen.topics[HOOKVISOR_TOPIC_ENDED] == 2);
}

static void listed(void)
{
    hookvisor_error error;
    size_t length = 0;
    hookvisor_text *inventory = hookvisor_inventory(hooks, &error);
    const char *json = hookvisor_text_get(inventory, &length);
    CHECK(json != NULL && strlen(json) == length && strstr(json, "/native.d/10-probe\"") != NULL && error.message[0] == '\0');
    CHECK(hookvisor_text_free(inventory) && !hookvisor_text_free(inventory));
    CHECK(hookvisor_text_get(inventory, &length) == NULL && length == 0);
    CHECK(hookvisor_reload(hooks, &inventory, &error));
    CHECK(strstr(hookvisor_text_get(inventory, NULL), "\"state\":\"ready\"") != NULL && hookvisor_text_free(inventory));
}

static void operations_of_ones_own(char **argv)
{
    hookvisor_options options = {.size = sizeof options, .timeout_ms = 60000, .only_driver = "native"};
    options.conventions = "[convention.native]\n"
                          "closed = true\n"
                          "ended_by = 'delete'\n"
                          "operations = { create = 'start', delete = 'shutdown' }\n";
    hookvisor_runtime *own = open_hooks(argv, options);
    hookvisor_error error;
    hookvisor_event event = event_of("native", "exit=3", "delete");
    CHECK(hookvisor_run(own, &event, NULL, NULL, &error) == HOOKVISOR_NOTIFIED);
    CHECK(strstr(error.message, "failed with error code 3") != NULL);
    event.operation = "destroy";
    CHECK(hookvisor_run(own, &event, NULL, NULL, &error) == HOOKVISOR_VETOED);
    CHECK(strstr(error.message, "driver native has no operation \"destroy\"") != NULL);
    /* The end of a guest is announced by `ended_by`. */
    hookvisor_report *report;
    event.operation = "create";
    event.extra = "of the start";
    event.object = "arguments";
    CHECK(hookvisor_stopped(own, &event, NULL, &report, &error) == HOOKVISOR_NOTIFIED && error.message[0] == '\0');
    CHECK(strstr(hookvisor_report_json(report, NULL), "[\\\"arguments\\\", \\\"delete\\\", \\\"-\\\", \\\"-\\\"]") != NULL);
    CHECK(hookvisor_report_free(report));
    CHECK(hookvisor_close(own, NULL));
}

/* Which drivers there are, and that one without hooks does not start anything. */
static void drivers(char **argv)
{
    const char *const known[] = {"native", "wasm", "empty", NULL};
    const char *const latin[] = {"native", "\xff", NULL};
    hookvisor_options options = {.size = sizeof options, .timeout_ms = 60000, .known_drivers = known, .require_hooks = 1};
    hookvisor_runtime *strict = open_hooks(argv, options);
    hookvisor_error error;
    hookvisor_event event = event_of("native", "exit=0", "start");
    CHECK(hookvisor_start(strict, &event, NULL, NULL, NULL) == HOOKVISOR_PROCEED);
    event.driver = "natvie";
    CHECK(hookvisor_start(strict, &event, NULL, NULL, &error) == HOOKVISOR_VETOED);
    CHECK(strstr(error.message, "driver natvie is not one of the known drivers (native, wasm, empty)") != NULL);
    event.driver = "empty";
    CHECK(hookvisor_start(strict, &event, NULL, NULL, &error) == HOOKVISOR_VETOED);
    CHECK(strstr(error.message, "there are no hooks for driver empty") != NULL && hookvisor_close(strict, NULL));
    CHECK(hookvisor_start(hooks, &event, NULL, NULL, NULL) == HOOKVISOR_PROCEED);
    options.known_drivers = latin;
    CHECK(hookvisor_open(argv[1], &options, &error) == NULL);
    CHECK(strstr(error.message, "`options.known_drivers` is not UTF-8") == error.message);
    options.known_drivers = (const char *const *)(const void *)((const char *)known + 1);
    CHECK(hookvisor_open(argv[1], &options, &error) == NULL);
    CHECK(strcmp(error.message, "`options.known_drivers` is not aligned for its type") == 0);
}

/* Writes the settings of the native hook, and leaves their path. */
static void write_settings(char **argv, const char *text, char path[PATH_MAX])
{
    CHECK((size_t)snprintf(path, PATH_MAX, "%s/native.d/10-probe.toml", argv[1]) < PATH_MAX);
    FILE *settings = fopen(path, "w");
    CHECK(settings != NULL && fputs(text, settings) >= 0 && fclose(settings) == 0);
}

/* `confine_all` refuses a hook whose settings say otherwise. */
static void confined(char **argv)
{
    hookvisor_options options = {.size = sizeof options, .timeout_ms = 60000, .confine_all = 1};
    hookvisor_error error;
    hookvisor_event event = event_of("native", "exit=0", "start");
    char path[PATH_MAX];
    write_settings(argv, "confine = false\n", path);
    hookvisor_runtime *all = open_hooks(argv, options);
    CHECK(hookvisor_start(all, &event, NULL, NULL, &error) == HOOKVISOR_VETOED);
    CHECK(strstr(error.message, "every hook is confined here") != NULL && hookvisor_close(all, NULL));
    options.confine_all = 0;
    hookvisor_runtime *none = open_hooks(argv, options);
    CHECK(hookvisor_start(none, &event, NULL, NULL, NULL) == HOOKVISOR_PROCEED && hookvisor_close(none, NULL));
    CHECK(remove(path) == 0);
}

/* A hook whose own directory cannot be created does not run. */
static void kept(char **argv)
{
    hookvisor_options options = {.size = sizeof options, .timeout_ms = 60000, .state_directory = "/proc/hookvisor"};
    hookvisor_error error;
    hookvisor_event event = event_of("native", "exit=0", "start");
    char path[PATH_MAX];
    write_settings(argv, "confine = true\nstate = true\n", path);
    hookvisor_runtime *keeping = open_hooks(argv, options);
    CHECK(hookvisor_start(keeping, &event, NULL, NULL, &error) == HOOKVISOR_VETOED);
    /* valgrind lacks Landlock's system calls. */
    CHECK(strstr(error.message, "directory /proc/hookvisor") != NULL || strstr(error.message, "Landlock") != NULL);
    CHECK(hookvisor_close(keeping, NULL));
    CHECK(remove(path) == 0);
}

/* A compiler that is not there compiles nothing, and so the hook vetoes. */
static void compiled(char **argv)
{
    hookvisor_options options = {.size = sizeof options, .timeout_ms = 60000, .compiler = "/nonexistent/hookvisor"};
    hookvisor_error error;
    hookvisor_event event = event_of("wasm", "exit=0", "start");
    hookvisor_runtime *uncompiled = hookvisor_open(argv[1], &options, &error);
    CHECK(uncompiled != NULL && hookvisor_start(uncompiled, &event, NULL, NULL, &error) == HOOKVISOR_VETOED);
    CHECK(strstr(error.message, "/nonexistent/hookvisor") != NULL && hookvisor_close(uncompiled, NULL));
}

/* A program that was built before fields were appended: neither they nor what fills the end of its structure is read. */
static void older_program(char **argv)
{
    hookvisor_options options;
    hookvisor_error error;
    hookvisor_event event = event_of("native", "exit=0", "start");
    memset(&options, 0xff, sizeof options);
    memset(&options, 0, offsetof(hookvisor_options, end_with_host) + sizeof options.end_with_host);
    options.size = offsetof(hookvisor_options, known_drivers);
    hookvisor_runtime *old = hookvisor_open(argv[1], &options, &error);
    CHECK(old != NULL && hookvisor_start(old, &event, NULL, NULL, NULL) == HOOKVISOR_PROCEED && hookvisor_close(old, NULL));
}

int main(int argc, char **argv)
{
    hookvisor_options options = {.size = sizeof options, .timeout_ms = 60000, .grace_ms = 30000};
    hooks = open_hooks(argv, options);
    for (size_t i = 0; i < number_of_kinds(argc, argv); i++) {
        cancelled(kinds[i]);
        limits_of_one_call(kinds[i]);
    }
    cancelled_runtime(argv);
    logged();
    listed();
    operations_of_ones_own(argv);
    drivers(argv);
    confined(argv);
    kept(argv);
    if (number_of_kinds(argc, argv) == 2)
        compiled(argv);
    older_program(argv);
    CHECK(hookvisor_close(hooks, NULL));
    return 0;
}
