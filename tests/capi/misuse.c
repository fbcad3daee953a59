/* Mistakes of a caller get an error, and never HOOKVISOR_PROCEED. */
#include <errno.h>

#include "check.h"

static hookvisor_runtime *hooks;

/* An event that is refused with this message before any hook is called. */
static void refused(const hookvisor_event *event, const char *says)
{
    hookvisor_error error;
    memset(&error, 'x', sizeof error);
    hookvisor_report *report = (hookvisor_report *)&error;
    errno = 77;
    CHECK(hookvisor_start(hooks, event, NULL, &report, &error) == HOOKVISOR_ERROR);
    if (strcmp(error.message, says) != 0)
        fprintf(stderr, "%s\n", error.message);
    CHECK(report == NULL && strcmp(error.message, says) == 0 && errno == 77);
    CHECK(hookvisor_start(hooks, event, NULL, NULL, NULL) == HOOKVISOR_ERROR);
    CHECK(hookvisor_run(hooks, event, NULL, NULL, NULL) == HOOKVISOR_ERROR);
    CHECK(hookvisor_shutdown(hooks, event, NULL, NULL, NULL) == HOOKVISOR_ERROR);
    CHECK(hookvisor_stopped(hooks, event, NULL, NULL, NULL) == HOOKVISOR_ERROR);
}

static void events(void)
{
    hookvisor_event event = event_of(NULL, "web", "start");
    refused(NULL, "`event` is missing (NULL)");
    refused(&event, "`event.driver` is missing (NULL)");
    event = event_of("native", NULL, "start");
    refused(&event, "`event.object` is missing (NULL)");
    event = event_of("native", "web", NULL);
    refused(&event, "`event.operation` is missing (NULL)");
    event = event_of("native", "a\xff", "start");
    refused(&event, "`event.object` is not UTF-8: \"a\xef\xbf\xbd\"");
    event = event_of("../native", "web", "start");
    refused(&event, "\"../native\" is not a driver's name: use letters, digits, `-` and `_`, and begin with a letter "
                    "or digit");
    event = event_of("native", "web", "start");
    event.extra = "a\nb";
    refused(&event, "the extra \"a\\nb\" contains a newline, which is not allowed in an event");
    event = event_of("native", "web", "start");
    event.document_length = 5;
    refused(&event, "the document is NULL, but `document_length` is 5");
    event.document = "";
    event.document_length = (size_t)-1;
    refused(&event, "`document_length` is 18446744073709551615, which is more than the address space holds");
    event = event_of("native", "web", "start");
    event.size = 8;
    refused(&event, "`event.size` is 8: set it to sizeof(hookvisor_event), which is 64 in this version");
    /* A caller that was built with a later header and uses a new field. */
    struct {
        hookvisor_event event;
        char later[16];
    } newer = {.event = event_of("native", "exit=0", "start")};
    newer.event.size = sizeof newer;
    CHECK(hookvisor_start(hooks, &newer.event, NULL, NULL, NULL) == HOOKVISOR_PROCEED);
    newer.later[15] = 1;
    char says[128];
    snprintf(says, sizeof says, "`event` uses fields of a later version of this library: %s does not have them",
             hookvisor_version());
    refused(&newer.event, says);
    char bytes[2 * sizeof event];
    memset(bytes, 0, sizeof bytes);
    char *odd = bytes + ((size_t)bytes % 2 == 0 ? 1 : 0);
    void *misaligned = odd;
    refused(misaligned, "`event` is not aligned for its type");
}

static void opening(const char *directory)
{
    hookvisor_error error;
    hookvisor_options options = {.size = sizeof options, .timeout_ms = 0};
    CHECK(hookvisor_open(NULL, NULL, &error) == NULL);
    CHECK(strcmp(error.message, "`directory` is missing (NULL)") == 0);
    CHECK(hookvisor_open(NULL, NULL, NULL) == NULL);
    CHECK(hookvisor_open("/nonexistent/\xff", NULL, &error) == NULL);
    CHECK(strstr(error.message, "/nonexistent/") != NULL);
    options.size = 0;
    CHECK(hookvisor_open(directory, &options, &error) == NULL);
    CHECK(strstr(error.message, "`options.size` is 0: set it to sizeof(hookvisor_options), which is ") == error.message);
    options.size = (size_t)-1;
    CHECK(hookvisor_open(directory, &options, &error) == NULL && strstr(error.message, "`options.size` is 1844") != NULL);
    options.size = sizeof options;
    options.conventions = "[convention.vmm]\nopen = true";
    CHECK(hookvisor_open(directory, &options, &error) == NULL);
    CHECK(strstr(error.message, "`options.conventions`: line 2: unknown field `open`") == error.message);
    options.conventions = NULL;
    options.cancel = (hookvisor_cancel *)&error;
    CHECK(hookvisor_open(directory, &options, &error) == NULL);
    CHECK(strcmp(error.message, "invalid cancel handle: freed, or never made") == 0);
    options.cancel = NULL;
    options.cache = "/proc/nonexistent";
    CHECK(hookvisor_open(directory, &options, &error) == NULL && error.message[0] != '\0');
}

/* A handle that was closed, freed, invented or is of another kind is not a runtime. */
static void no_runtime(const void *handle)
{
    const char *says = "invalid runtime handle: NULL, closed, or never opened";
    hookvisor_error error;
    hookvisor_event event = event_of("native", "exit=0", "start");
    hookvisor_runtime *runtime = (hookvisor_runtime *)handle;
    CHECK(hookvisor_start(runtime, &event, NULL, NULL, &error) == HOOKVISOR_ERROR && strcmp(error.message, says) == 0);
    CHECK(hookvisor_shutdown(runtime, &event, NULL, NULL, &error) == HOOKVISOR_ERROR && strcmp(error.message, says) == 0);
    CHECK(hookvisor_stopped(runtime, &event, NULL, NULL, &error) == HOOKVISOR_ERROR && strcmp(error.message, says) == 0);
    CHECK(!hookvisor_reload(runtime, NULL, &error) && strcmp(error.message, says) == 0);
    CHECK(!hookvisor_close(runtime, &error) && strcmp(error.message, says) == 0);
    CHECK(!hookvisor_close(runtime, NULL));
    CHECK(hookvisor_inventory(runtime, &error) == NULL && strcmp(error.message, says) == 0);
}

static void no_report(const void *handle)
{
    hookvisor_report *report = (hookvisor_report *)handle;
    size_t length = 5;
    errno = 77;
    CHECK(hookvisor_report_text(report, &length) == NULL && length == 0);
    CHECK(hookvisor_report_json(report, &length) == NULL && hookvisor_report_document(report, NULL) == NULL);
    CHECK(hookvisor_report_verdict(report) == HOOKVISOR_ERROR && hookvisor_report_exit_status(report) == -1);
    CHECK(!hookvisor_report_free(report) && errno == 77);
    length = 5;
    CHECK(hookvisor_text_get((const hookvisor_text *)handle, &length) == NULL && length == 0);
    CHECK(!hookvisor_text_free((hookvisor_text *)handle) && !hookvisor_cancel_free((hookvisor_cancel *)handle));
    CHECK(!hookvisor_cancel_throw((const hookvisor_cancel *)handle, NULL));
    CHECK(!hookvisor_cancel_kill((const hookvisor_cancel *)handle, NULL));
}

int main(int argc, char **argv)
{
    (void)argc;
    hookvisor_options options = {.size = sizeof options, .timeout_ms = 60000};
    hooks = open_hooks(argv, options);
    events();
    opening(argv[1]);
    int local = 0;
    hookvisor_event event = event_of("native", "exit=0", "start");
    hookvisor_report *report = NULL;
    errno = 77;
    CHECK(hookvisor_start(hooks, &event, NULL, &report, NULL) == HOOKVISOR_PROCEED && errno == 77);
    no_runtime(NULL);
    no_runtime(report);
    no_runtime(&local);
    no_report(NULL);
    no_report(hooks);
    no_report(&local);
    CHECK(hookvisor_report_free(report));
    no_report(report);
    /* A report outlives its runtime. */
    CHECK(hookvisor_start(hooks, &event, NULL, &report, NULL) == HOOKVISOR_PROCEED);
    CHECK(hookvisor_close(hooks, NULL));
    no_runtime(hooks);
    CHECK(hookvisor_report_verdict(report) == HOOKVISOR_PROCEED && hookvisor_report_free(report));
    /* A new runtime does not get the handle of an old one. */
    hookvisor_runtime *other = open_hooks(argv, options);
    CHECK(other != hooks);
    no_runtime(hooks);
    CHECK(hookvisor_start(other, &event, NULL, NULL, NULL) == HOOKVISOR_PROCEED && hookvisor_close(other, NULL));
    CHECK(strcmp(hookvisor_version(), argv[argc - 1]) == 0);
    return 0;
}
