/* The library is loaded and closed repeatedly, like an interpreter's module. Its signal handlers stay usable. */
#define _POSIX_C_SOURCE 200809L
#include <dlfcn.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

typedef hookvisor_runtime *open_function(const char *, const hookvisor_options *, hookvisor_error *);
typedef hookvisor_verdict start_function(const hookvisor_runtime *, const hookvisor_event *,
                                         const hookvisor_call_options *, hookvisor_report **, hookvisor_error *);
typedef bool close_function(hookvisor_runtime *, hookvisor_error *);

int main(int argc, char **argv)
{
    hookvisor_options options = {.size = sizeof options, .timeout_ms = 60000};
    options.cache = strcmp(argv[2], "-") == 0 ? NULL : argv[2];
    const char *library = argv[argc - 1];
    for (int i = 0; i < 3; i++) {
        open_function *open_hooks = NULL;
        start_function *start = NULL;
        close_function *close_hooks = NULL;
        void *loaded = dlopen(library, RTLD_NOW | RTLD_LOCAL);
        CHECK(loaded != NULL);
        /* POSIX's way to convert the result of dlsym to a function. */
        *(void **)&open_hooks = dlsym(loaded, "hookvisor_open");
        *(void **)&start = dlsym(loaded, "hookvisor_start");
        *(void **)&close_hooks = dlsym(loaded, "hookvisor_close");
        CHECK(open_hooks != NULL && start != NULL && close_hooks != NULL);
        hookvisor_runtime *hooks = open_hooks(argv[1], &options, NULL);
        CHECK(hooks != NULL);
        for (size_t kind = 0; kind < number_of_kinds(argc, argv); kind++) {
            hookvisor_event event = event_of(kinds[kind], "crash", "start");
            CHECK(start(hooks, &event, NULL, NULL, NULL) == HOOKVISOR_VETOED);
        }
        CHECK(close_hooks(hooks, NULL) && dlclose(loaded) == 0);
    }
    /* A later fault ends the process with the fault's own signal. */
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        volatile int *volatile nowhere = NULL;
        _exit(*nowhere);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    void *still = dlopen(library, RTLD_NOW | RTLD_NOLOAD);
    CHECK(still != NULL);
    return 0;
}
