/* Prints the JSON report of one start: json DIRECTORY DOCUMENT */
#include "check.h"

int main(int argc, char **argv)
{
    hookvisor_runtime *hooks = hookvisor_open(argv[1], NULL, NULL);
    hookvisor_event event = event_of("mydaemon", "web1", "start");
    hookvisor_report *report;
    CHECK(argc == 3 && hooks != NULL && number_of_kinds(0, NULL) == 2 && kinds[0] != NULL);
    event.document = argv[2];
    event.document_length = strlen(argv[2]);
    CHECK(hookvisor_start(hooks, &event, NULL, &report, NULL) == HOOKVISOR_VETOED);
    fputs(hookvisor_report_json(report, NULL), stdout);
    CHECK(hookvisor_report_free(report) && hookvisor_close(hooks, NULL));
    return 0;
}
