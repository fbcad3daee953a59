/* Forks while other threads are in calls. A fork has a copy of every lock that another thread holds at that moment, and no
 * thread to release it. */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

static hookvisor_runtime *hooks;
static volatile int forking = 1;

static void *keep_the_locks_busy(void *unused)
{
    (void)unused;
    while (forking)
        CHECK(!hookvisor_reload((const hookvisor_runtime *)1001, NULL, NULL));
    return NULL;
}

int main(int argc, char **argv)
{
    enum { THREADS = 4, FORKS = 200 };
    pthread_t threads[THREADS];
    hookvisor_options options = {.size = sizeof options, .timeout_ms = 60000};
    (void)argc;
    hooks = open_hooks(argv, options);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, keep_the_locks_busy, NULL) == 0);
    for (int i = 0; i < FORKS; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            alarm(20);
            CHECK(hookvisor_close(hooks, NULL) && !hookvisor_close(hooks, NULL));
            _exit(0);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    forking = 0;
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    return 0;
}
