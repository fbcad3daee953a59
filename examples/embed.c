/* Hooks decide whether a guest starts, and are told when it stops: cc embed.c $(pkg-config --cflags --libs hookvisor) */
#include <hookvisor.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    hookvisor_error error;
    hookvisor_runtime *hooks = hookvisor_open(argc > 1 ? argv[1] : "/etc/mydaemon/hooks", NULL, &error);
    if (hooks == NULL) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    hookvisor_event event = {.size = sizeof event, .driver = "mydaemon", .object = "web1", .operation = "start"};
    event.document = "{\"memory\": 512}";
    event.document_length = strlen(event.document);

    /* Before: start the guest only on HOOKVISOR_PROCEED. */
    if (hookvisor_start(hooks, &event, NULL, NULL, &error) != HOOKVISOR_PROCEED) {
        fprintf(stderr, "%s\n", error.message);
        hookvisor_close(hooks, NULL);
        return 1;
    }

    /* ... the guest runs, and stops ... */

    /* After: failures are reported, and nothing can be prevented. */
    event.operation = "stopped";
    hookvisor_shutdown(hooks, &event, NULL, NULL, &error);
    if (error.message[0] != '\0')
        fprintf(stderr, "%s\n", error.message);
    hookvisor_close(hooks, NULL);
    return 0;
}
