/* No guest starts without a title: a hook in C. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* All of stdin as a string; NULL where memory or the stream fails. */
static char *read_document(void)
{
    size_t size = 0, room = 4096;
    char *document = malloc(room + 1);

    while (document != NULL) {
        size += fread(document + size, 1, room - size, stdin);
        if (size < room)
            break;
        room *= 2;
        char *larger = realloc(document, room + 1);
        if (larger == NULL)
            free(document);
        document = larger;
    }
    if (document != NULL && ferror(stdin)) {
        free(document);
        return NULL;
    }
    if (document != NULL)
        document[size] = '\0';
    return document;
}

int main(int argc, char **argv)
{
    const char *guest = argc > 1 ? argv[1] : "-";
    const char *operation = argc > 2 ? argv[2] : "-";

    if (strcmp(operation, "start") != 0)
        return 0;
    char *document = read_document();
    if (document == NULL) {
        perror("the document");
        return 1;
    }
    if (strstr(document, "<title>") == NULL) {
        fprintf(stderr, "guest %s has no title: virsh desc %s --config --title TITLE\n", guest, guest);
        return 3;
    }
    return 0;
}
