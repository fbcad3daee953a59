/* How the library and its process affect each other: signals, forks, thread stacks. */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

static hookvisor_runtime *hooks;
static volatile sig_atomic_t faults;

static hookvisor_verdict start(const char *kind, const char *object, hookvisor_error *error)
{
    hookvisor_event event = event_of(kind, object, "start");
    return hookvisor_start(hooks, &event, NULL, NULL, error);
}

/* A hook that does not read its stdin does not kill a host with the default action for SIGPIPE. */
static void sigpipe(const char *kind)
{
    hookvisor_event event = event_of(kind, "exit=0", "start");
    struct sigaction disposition;
    char *large = calloc(1, 4 << 20);
    CHECK(sigaction(SIGPIPE, NULL, &disposition) == 0 && disposition.sa_handler == SIG_DFL);
    event.document = large;
    event.document_length = 4 << 20;
    CHECK(large != NULL && hookvisor_start(hooks, &event, NULL, NULL, NULL) == HOOKVISOR_PROCEED);
    CHECK(sigaction(SIGPIPE, NULL, &disposition) == 0 && disposition.sa_handler == SIG_DFL);
    free(large);
}

/* A host that ignores SIGCHLD takes the exit status. Linux 6.15 and later keep it; before, the start is vetoed. */
static void sigchld(void)
{
    hookvisor_error error;
    CHECK(signal(SIGCHLD, SIG_IGN) != SIG_ERR);
    CHECK(start("native", "exit=3", NULL) == HOOKVISOR_VETOED);
    if (start("native", "exit=0", &error) != HOOKVISOR_PROCEED)
        CHECK(strstr(error.message, "the host process ignores SIGCHLD") != NULL);
    CHECK(signal(SIGCHLD, SIG_DFL) == SIG_IGN);
    CHECK(start("native", "exit=0", &error) == HOOKVISOR_PROCEED);
}

/* A fork cannot use its parent's runtime, but can close it. Its own runtime works. */
static void forked(char **argv, size_t number)
{
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        hookvisor_error error;
        hookvisor_options options = {.size = sizeof options, .timeout_ms = 60000};
        alarm(60);
        CHECK(start("native", "exit=0", &error) == HOOKVISOR_ERROR);
        CHECK(strstr(error.message, "and this process is a fork of it: make one here, after the fork") != NULL);
        CHECK(!hookvisor_reload(hooks, NULL, NULL) && hookvisor_close(hooks, NULL) && !hookvisor_close(hooks, NULL));
        hooks = open_hooks(argv, options);
        for (size_t i = 0; i < number; i++) {
            CHECK(start(kinds[i], "exit=0", NULL) == HOOKVISOR_PROCEED);
            CHECK(start(kinds[i], "exit=3", NULL) == HOOKVISOR_VETOED);
        }
        CHECK(hookvisor_close(hooks, NULL));
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(start("native", "exit=0", NULL) == HOOKVISOR_PROCEED);
}

static void count_fault(int signal)
{
    (void)signal;
    faults++;
}

/* A hook's crash does not crash the host. The host's own handler gets all other faults. */
static void faulting(const char *kind)
{
    CHECK(start(kind, "crash", NULL) == HOOKVISOR_VETOED && start(kind, "recurse=1000000", NULL) == HOOKVISOR_VETOED);
    CHECK(faults == 0 && raise(SIGSEGV) == 0 && faults == 1);
    faults = 0;
}

static void *on_a_small_stack(void *number)
{
    for (size_t i = 0; i < *(size_t *)number; i++) {
        CHECK(start(kinds[i], "exit=0", NULL) == HOOKVISOR_PROCEED);
        CHECK(start(kinds[i], "exit=3", NULL) == HOOKVISOR_VETOED);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    size_t number = number_of_kinds(argc, argv);
    hookvisor_options options = {.size = sizeof options, .timeout_ms = 60000};
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = count_fault;
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
    hooks = open_hooks(argv, options);
    for (size_t i = 0; i < number; i++) {
        sigpipe(kinds[i]);
        faulting(kinds[i]);
    }
    sigchld();
    forked(argv, number);
    pthread_attr_t attributes;
    pthread_t thread;
    CHECK(pthread_attr_init(&attributes) == 0 && pthread_attr_setstacksize(&attributes, 256 << 10) == 0);
    CHECK(pthread_create(&thread, &attributes, on_a_small_stack, &number) == 0 && pthread_join(thread, NULL) == 0);
    CHECK(pthread_attr_destroy(&attributes) == 0 && hookvisor_close(hooks, NULL));
    return 0;
}
