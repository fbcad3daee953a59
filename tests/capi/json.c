/* Prints the JSON report of one event: json DIRECTORY CACHE CONVENTIONS OPERATION DOCUMENT */
#include "check.h"

int main(int argc, char **argv)
{
    CHECK(argc == 6 && number_of_kinds(0, NULL) == 2 && kinds[0] != NULL);
    hookvisor_options options = {.size = sizeof options, .conventions = argv[3]};
    hookvisor_runtime *hooks = open_hooks(argv, options);
    hookvisor_event event = event_of("mydaemon", "stderr=hi", argv[4]);
    hookvisor_report *report;
    event.document = argv[5];
    event.document_length = strlen(argv[5]);
    CHECK(hookvisor_run(hooks, &event, NULL, &report, NULL) != HOOKVISOR_ERROR);
    fputs(hookvisor_report_json(report, NULL), stdout);
    CHECK(hookvisor_report_free(report) && hookvisor_close(hooks, NULL));
    return 0;
}
