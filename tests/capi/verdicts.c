/* All results of an event, for both kinds of hooks. */
#include "check.h"

static hookvisor_runtime *hooks;
/* The same hooks with a short timeout. */
static hookvisor_runtime *impatient;

/* A start with this verdict. The report's text is the error's message and contains `says`. */
static hookvisor_report *start(hookvisor_verdict verdict, int status, hookvisor_event event, const char *says)
{
    hookvisor_error error;
    hookvisor_report *report = NULL;
    hookvisor_verdict got = hookvisor_start(hooks, &event, NULL, &report, &error);
    if (got != verdict || strstr(error.message, says) == NULL)
        fprintf(stderr, "%s %s: %d: %s\n", event.driver, event.object, got, error.message);
    CHECK(got == verdict && report != NULL);
    CHECK(hookvisor_report_verdict(report) == verdict);
    CHECK(hookvisor_report_exit_status(report) == status);
    CHECK(strstr(error.message, says) != NULL);
    size_t length = 0;
    const char *text = hookvisor_report_text(report, &length);
    CHECK(text != NULL && strlen(text) == length && text == hookvisor_report_text(report, NULL));
    CHECK(strncmp(text, error.message, strcspn(error.message, ":")) == 0);
    CHECK((verdict == HOOKVISOR_PROCEED) == (length == 0));
    return report;
}

static void ends(const char *kind)
{
    const struct {
        const char *object;
        hookvisor_verdict verdict;
        int status;
        const char *says;
    } table[] = {
        {"exit=0", HOOKVISOR_PROCEED, 0, ""},
        {"stderr=no room;exit=3", HOOKVISOR_VETOED, 3, "failed with error code 3: no room"},
        {"exit=255", HOOKVISOR_VETOED, 255, "failed with error code 255"},
        {"crash", HOOKVISOR_VETOED, 134, ""},
        {"sleep=60000", HOOKVISOR_VETOED, 124, "timed out after 700ms"},
        {"spin", HOOKVISOR_VETOED, 124, "timed out after 700ms"},
    };
    hookvisor_runtime *patient = hooks;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        hookvisor_event event = event_of(kind, table[i].object, "start");
        hooks = table[i].status == 124 ? impatient : patient;
        CHECK(hookvisor_report_free(start(table[i].verdict, table[i].status, event, table[i].says)));
    }
    hooks = patient;
}

static void arguments(const char *kind)
{
    hookvisor_event event = event_of(kind, "arguments;exit=1", "start");
    hookvisor_report_free(start(HOOKVISOR_VETOED, 1, event, "[\"arguments;exit=1\", \"start\", \"-\", \"-\"]"));
    event.sub_operation = "begin";
    event.extra = "\xe2\x88\x9a";
    hookvisor_report_free(start(HOOKVISOR_VETOED, 1, event, "\"begin\", \"\xe2\x88\x9a\"]"));
}

/* A document is bytes: it may contain NUL, exceed any pipe, and stay unread. The caller owns it again afterwards. */
static void documents(const char *kind)
{
    hookvisor_event event = event_of(kind, "read;exit=1", "start");
    char small[] = {'a', '\0', 'b'};
    event.document = small;
    event.document_length = sizeof small;
    hookvisor_report_free(start(HOOKVISOR_VETOED, 1, event, "read 3 bytes, 0000000000016c83"));
    char *large = malloc(4 << 20);
    CHECK(large != NULL);
    memset(large, 'x', 4 << 20);
    event.document = large;
    event.document_length = 4 << 20;
    hookvisor_report *report = start(HOOKVISOR_VETOED, 1, event, "read 4194304 bytes, ");
    event.object = "exit=0";
    hookvisor_report_free(start(HOOKVISOR_PROCEED, 0, event, ""));
    free(large);
    CHECK(strstr(hookvisor_report_text(report, NULL), "read 4194304 bytes, ") != NULL);
    hookvisor_report_free(report);
}

static void json(const char *kind)
{
    char wanted[64];
    hookvisor_report *report = start(HOOKVISOR_VETOED, 3, event_of(kind, "exit=3", "start"), "code 3");
    size_t length = 0;
    const char *text = hookvisor_report_json(report, &length);
    CHECK(text != NULL && strlen(text) == length && text[0] == '{' && text[length - 1] == '}');
    CHECK(strstr(text, "\"decision\":\"vetoed\",\"exit_status\":3") != NULL);
    snprintf(wanted, sizeof wanted, "\"kind\":\"%s\"", kind);
    CHECK(strstr(text, wanted) != NULL);
    CHECK(hookvisor_report_document(report, &length) == NULL && length == 0);
    hookvisor_report_free(report);
}

/* A hook's stderr may be longer than a message, and contain any bytes. */
static void odd_words(const char *kind)
{
    hookvisor_report *report = start(HOOKVISOR_VETOED, 1, event_of(kind, "flood-stderr=3000;exit=1", "start"), "xxx...");
    size_t length = 0;
    CHECK(hookvisor_report_text(report, &length) != NULL && length > 3000);
    hookvisor_report_free(report);
    hookvisor_error error;
    hookvisor_event event = event_of(kind, "stderr-hex=610062ff;exit=1", "start");
    CHECK(hookvisor_start(hooks, &event, NULL, &report, &error) == HOOKVISOR_VETOED);
    CHECK(strstr(error.message, ": a?b\xff") != NULL);
    const char *text = hookvisor_report_text(report, &length);
    CHECK(length > 5 && memcmp(text + length - 5, "a\0b\xff\n", 5) == 0 && text[length] == '\0');
    hookvisor_report_free(report);
}

static void shutdown_tells_all(const char *kind)
{
    hookvisor_error error;
    hookvisor_report *report;
    hookvisor_event event = event_of(kind, "exit=0", "stopped");
    CHECK(hookvisor_shutdown(hooks, &event, NULL, &report, &error) == HOOKVISOR_NOTIFIED && error.message[0] == '\0');
    CHECK(hookvisor_report_exit_status(report) == 0);
    hookvisor_report_free(report);
    event.object = "exit=4";
    CHECK(hookvisor_shutdown(hooks, &event, NULL, &report, &error) == HOOKVISOR_NOTIFIED);
    CHECK(strstr(error.message, "failed with error code 4") != NULL);
    CHECK(hookvisor_report_verdict(report) == HOOKVISOR_NOTIFIED && hookvisor_report_exit_status(report) == 4);
    hookvisor_report_free(report);
    CHECK(hookvisor_shutdown(hooks, &event, NULL, NULL, NULL) == HOOKVISOR_NOTIFIED);
    /* The convention decides the stage. */
    CHECK(hookvisor_run(hooks, &event, NULL, NULL, NULL) == HOOKVISOR_NOTIFIED);
    event.operation = "start";
    CHECK(hookvisor_run(hooks, &event, NULL, NULL, NULL) == HOOKVISOR_VETOED);
}

/* The hook in qemu.d replaces "old" in the document by "new". */
static void filter(void)
{
    hookvisor_error error;
    hookvisor_report *report;
    hookvisor_event event = event_of("qemu", "web1", "migrate");
    event.document = "<domain><name>old</name></domain>";
    event.document_length = strlen(event.document);
    CHECK(hookvisor_start(hooks, &event, NULL, &report, &error) == HOOKVISOR_PROCEED);
    size_t length = 0;
    const char *document = hookvisor_report_document(report, &length);
    CHECK(document != NULL && strcmp(document, "<domain><name>new</name></domain>") == 0 && strlen(document) == length);
    hookvisor_report_free(report);
    /* Without a report, the caller would start the guest with the old document. */
    CHECK(hookvisor_start(hooks, &event, NULL, NULL, &error) == HOOKVISOR_ERROR);
    CHECK(strcmp(error.message, "a hook rewrote the document: pass `report` to get it") == 0);
}

/* Non-default limits apply. Most of the hook's stderr is dropped. */
static void limits(char **argv, const char *kind)
{
    hookvisor_error error;
    hookvisor_report *report;
    hookvisor_options options = {.size = sizeof options, .timeout_ms = 60000, .stderr_bytes = 100, .stdout_bytes = 10, .memory_bytes = 4 << 20};
    hookvisor_runtime *limited = open_hooks(argv, options);
    hookvisor_event event = event_of(kind, "flood-stderr=5000;exit=1", "start");
    CHECK(hookvisor_start(limited, &event, NULL, &report, &error) == HOOKVISOR_VETOED);
    CHECK(strstr(hookvisor_report_json(report, NULL), "\"stderr_dropped\":4900") != NULL);
    hookvisor_report_free(report);
    event.object = "grow=16000000";
    CHECK((hookvisor_start(limited, &event, NULL, NULL, &error) == HOOKVISOR_PROCEED) == (strcmp(kind, "native") == 0));
    CHECK(hookvisor_start(hooks, &event, NULL, NULL, &error) == HOOKVISOR_PROCEED);
    event = event_of("qemu", "web1", "migrate");
    event.document = "<domain><name>old</name></domain>";
    event.document_length = strlen(event.document);
    CHECK(hookvisor_start(limited, &event, NULL, NULL, &error) == HOOKVISOR_VETOED);
    CHECK(strstr(error.message, "the limit is 10 bytes") != NULL);
    CHECK(hookvisor_close(limited, NULL));
}

int main(int argc, char **argv)
{
    hookvisor_options options = {.size = sizeof options, .timeout_ms = 60000, .grace_ms = 30000};
    hooks = open_hooks(argv, options);
    options.timeout_ms = 700;
    impatient = open_hooks(argv, options);
    for (size_t i = 0; i < number_of_kinds(argc, argv); i++) {
        ends(kinds[i]);
        arguments(kinds[i]);
        documents(kinds[i]);
        json(kinds[i]);
        odd_words(kinds[i]);
        shutdown_tells_all(kinds[i]);
        limits(argv, kinds[i]);
    }
    filter();
    CHECK(hookvisor_close(hooks, NULL) && hookvisor_close(impatient, NULL));
    return 0;
}
