/* Eight concurrent threads, reloads meanwhile, and a runtime that is closed during calls. */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "check.h"

enum { THREADS = 8, ROUNDS = 6 };

static hookvisor_runtime *hooks;
static size_t number;

static void *ask(void *unused)
{
    (void)unused;
    for (int i = 0; i < ROUNDS * (int)number; i++) {
        hookvisor_error error;
        hookvisor_report *report;
        int vetoes = i / (int)number % 2;
        hookvisor_event event = event_of(kinds[i % number], vetoes ? "stderr=no;exit=3" : "read", "start");
        event.document = "document";
        event.document_length = 8;
        hookvisor_verdict verdict = hookvisor_start(hooks, &event, NULL, &report, &error);
        if (verdict != (vetoes ? HOOKVISOR_VETOED : HOOKVISOR_PROCEED))
            fprintf(stderr, "%d: %d: %s\n", i, verdict, error.message);
        CHECK(verdict == (vetoes ? HOOKVISOR_VETOED : HOOKVISOR_PROCEED));
        CHECK(hookvisor_report_json(report, NULL) != NULL && hookvisor_report_free(report));
    }
    return NULL;
}

static void *ask_slowly(void *kind)
{
    hookvisor_error error;
    hookvisor_event event = event_of(kind, "sleep=1500;exit=7", "start");
    hookvisor_report *report;
    CHECK(hookvisor_start(hooks, &event, NULL, &report, &error) == HOOKVISOR_VETOED);
    CHECK(hookvisor_report_exit_status(report) == 7 && hookvisor_report_free(report));
    return NULL;
}

#ifndef __SANITIZE_ADDRESS__
static hookvisor_verdict verdict_of_cancelled;

static void *ask_and_be_cancelled(void *kind)
{
    hookvisor_event event = event_of(kind, "sleep=1000;exit=7", "start");
    hookvisor_report *report;
    verdict_of_cancelled = hookvisor_start(hooks, &event, NULL, &report, NULL);
    CHECK(hookvisor_report_exit_status(report) == 7 && hookvisor_report_free(report));
    pthread_testcancel();
    return NULL;
}

/* A thread that is cancelled during a call finishes the call first. */
static void cancelled(const char *kind)
{
    pthread_t thread;
    void *result;
    struct timespec moment = {.tv_sec = 0, .tv_nsec = 300000000};
    verdict_of_cancelled = HOOKVISOR_ERROR;
    CHECK(pthread_create(&thread, NULL, ask_and_be_cancelled, (void *)kind) == 0);
    nanosleep(&moment, NULL);
    CHECK(pthread_cancel(thread) == 0 && pthread_join(thread, &result) == 0);
    CHECK(result == PTHREAD_CANCELED && verdict_of_cancelled == HOOKVISOR_VETOED);
}
#endif

/* As the thread that takes a daemon's signals: it waits for one, and calls hooks with all signals blocked. */
static void *take_signals(void *arguments)
{
    sigset_t all;
    int taken = 0;
    (void)arguments;
    sigfillset(&all);
    CHECK(pthread_sigmask(SIG_BLOCK, &all, NULL) == 0 && sigwait(&all, &taken) == 0 && taken == SIGUSR1);
    for (size_t i = 0; i < number; i++) {
        hookvisor_event event = event_of(kinds[i], "exit=0", "start");
        CHECK(hookvisor_start(hooks, &event, NULL, NULL, NULL) == HOOKVISOR_PROCEED);
    }
    return NULL;
}

static void signalled(void)
{
    pthread_t thread;
    sigset_t usr1, before;
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    /* The thread inherits the mask, so that the signal does not end the process before it waits. */
    CHECK(pthread_sigmask(SIG_BLOCK, &usr1, &before) == 0);
    CHECK(pthread_create(&thread, NULL, take_signals, NULL) == 0 && pthread_kill(thread, SIGUSR1) == 0);
    CHECK(pthread_join(thread, NULL) == 0 && pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS];
    hookvisor_options options = {.size = sizeof options, .timeout_ms = 60000, .max_in_flight = 4};
    hooks = open_hooks(argv, options);
    number = number_of_kinds(argc, argv);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, ask, NULL) == 0);
    for (int i = 0; i < 3; i++)
        CHECK(hookvisor_reload(hooks, NULL, NULL));
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
#ifndef __SANITIZE_ADDRESS__
    /* AddressSanitizer reports the stack that a cancelled thread leaves behind, with any program. */
    for (size_t i = 0; i < number; i++)
        cancelled(kinds[i]);
#endif
    signalled();
    /* Closed while calls run. They end normally. */
    for (size_t i = 0; i < number; i++)
        CHECK(pthread_create(&threads[i], NULL, ask_slowly, (void *)kinds[i]) == 0);
    struct timespec moment = {.tv_sec = 0, .tv_nsec = 500000000};
    nanosleep(&moment, NULL);
    CHECK(hookvisor_close(hooks, NULL));
    hookvisor_event event = event_of("native", "exit=0", "start");
    CHECK(hookvisor_start(hooks, &event, NULL, NULL, NULL) == HOOKVISOR_ERROR);
    for (size_t i = 0; i < number; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    return 0;
}
