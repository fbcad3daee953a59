/* A process that ends while a hook runs in another thread. After the common arguments: how it ends, the hook's driver, the event's
 * object, and a file that the hook writes (optional). */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

static hookvisor_runtime *hooks;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int has_started;

static void see(const hookvisor_log_record *record, void *unused)
{
    (void)unused;
    if (record->topic != HOOKVISOR_TOPIC_STARTED)
        return;
    pthread_mutex_lock(&lock);
    has_started = 1;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
}

static void *ask(void *argv)
{
    char **arguments = argv;
    hookvisor_event event = event_of(arguments[5], arguments[6], "start");
    CHECK(hookvisor_start(hooks, &event, NULL, NULL, NULL) != HOOKVISOR_PROCEED);
    return NULL;
}

static void wait_for(const char *path)
{
    for (;;) {
        struct timespec moment = {.tv_sec = 0, .tv_nsec = 10000000};
        FILE *file = fopen(path, "r");
        int byte = 0, last = 0;
        while (file != NULL && (byte = fgetc(file)) != EOF)
            last = byte;
        if (file != NULL)
            fclose(file);
        if (last == '\n')
            return;
        nanosleep(&moment, NULL);
    }
}

int main(int argc, char **argv)
{
    hookvisor_options options = {.size = sizeof options, .timeout_ms = 600000, .end_with_host = 1};
    pthread_t thread;
    CHECK(argc > 6 && number_of_kinds(argc, argv) > 0 && kinds[0] != NULL);
    hooks = open_hooks(argv, options);
    CHECK(hookvisor_log_to(see, NULL, HOOKVISOR_LOG_DEBUG, NULL));
    CHECK(pthread_create(&thread, NULL, ask, argv) == 0);
    pthread_mutex_lock(&lock);
    while (!has_started)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    if (argc > 7)
        wait_for(argv[7]);
    if (strcmp(argv[4], "exit") == 0)
        exit(7);
    if (strcmp(argv[4], "_exit") == 0)
        _exit(7);
    return 7;
}
