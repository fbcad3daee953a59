/* A large document: the library makes one copy of it, which ends with the call. Its size is the last argument. */
#define _POSIX_C_SOURCE 200809L
#include <sys/resource.h>

#include "check.h"

/* Memory of anything else, such as buffers and threads. */
enum { OTHER_KIB = 64 << 10 };

static hookvisor_runtime *hooks;

static long kib(const char *field)
{
    char line[256];
    long found = -1;
    FILE *status = fopen("/proc/self/status", "r");
    CHECK(status != NULL);
    while (found < 0 && fgets(line, sizeof line, status) != NULL)
        if (strncmp(line, field, strlen(field)) == 0)
            found = strtol(line + strlen(field), NULL, 10);
    CHECK(fclose(status) == 0 && found >= 0);
    return found;
}

static void taken(hookvisor_event event, const char *driver, const char *object)
{
    hookvisor_error error;
    hookvisor_report *report;
    event.driver = driver;
    event.object = object;
    hookvisor_verdict verdict = hookvisor_start(hooks, &event, NULL, &report, &error);
    if (verdict != HOOKVISOR_PROCEED)
        fprintf(stderr, "%s %s: %s\n", driver, object, error.message);
    CHECK(verdict == HOOKVISOR_PROCEED && hookvisor_report_document(report, NULL) == NULL);
    /* The report does not keep the document. */
    CHECK(kib("VmRSS:") < kib("VmHWM:") - (long)(event.document_length >> 11) && hookvisor_report_free(report));
}

/* Without memory for the copy, the call fails, and the process goes on. */
static void refused(hookvisor_event event)
{
    hookvisor_error error;
    struct rlimit before, less;
    CHECK(getrlimit(RLIMIT_AS, &before) == 0);
    less = before;
    less.rlim_cur = ((rlim_t)kib("VmSize:") << 10) + event.document_length / 2;
    CHECK(setrlimit(RLIMIT_AS, &less) == 0);
    hookvisor_verdict verdict = hookvisor_start(hooks, &event, NULL, NULL, &error);
    CHECK(setrlimit(RLIMIT_AS, &before) == 0 && verdict == HOOKVISOR_ERROR);
    CHECK(strstr(error.message, "there is not enough memory for a copy of the document (") == error.message);
}

int main(int argc, char **argv)
{
    hookvisor_options options = {.size = sizeof options, .timeout_ms = 600000};
    hookvisor_event event = event_of("native", "exit=0", "start");
    size_t size = strtoull(argv[argc - 1], NULL, 10);
    char *document = malloc(size);
    CHECK(size > 0 && document != NULL);
    memset(document, 'x', size);
    event.document = document;
    event.document_length = size;
    hooks = open_hooks(argv, options);
    long before = kib("VmRSS:");
    for (size_t i = 0; i < number_of_kinds(argc, argv); i++)
        taken(event, kinds[i], "exit=0");
    taken(event, "counts", argv[argc - 1]);
    CHECK(kib("VmHWM:") - before < (long)(size >> 10) + OTHER_KIB);
    refused(event);
    CHECK(hookvisor_close(hooks, NULL));
    free(document);
    return 0;
}
