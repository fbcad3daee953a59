/* Shared by the C tests. Each gets a hooks directory and a directory for compiled code. The hooks directory has one hook for
 * each of the drivers `native` and `wasm`, which does what the event's object says (tests/guests/probe). */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hookvisor.h"

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                                    \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

static const char *const kinds[] = {"native", "wasm"};

/* The kinds of hooks that this library supports. The second argument is `native` if it supports no others. */
static inline size_t number_of_kinds(int argc, char **argv)
{
    return argc > 3 && strcmp(argv[3], "native") == 0 ? 1 : 2;
}

static inline hookvisor_runtime *open_hooks(char **argv, hookvisor_options options)
{
    hookvisor_error error;
    options.cache = strcmp(argv[2], "-") == 0 ? NULL : argv[2];
    hookvisor_runtime *hooks = hookvisor_open(argv[1], &options, &error);
    if (hooks == NULL)
        fprintf(stderr, "%s\n", error.message);
    CHECK(hooks != NULL && error.message[0] == '\0');
    return hooks;
}

static inline hookvisor_event event_of(const char *driver, const char *object, const char *operation)
{
    hookvisor_event event = {.size = sizeof event, .driver = driver, .object = object, .operation = operation};
    return event;
}

#endif
