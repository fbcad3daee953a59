/* A leak that the tools must find. Otherwise their silence proves nothing. */
#include "check.h"

int main(void)
{
    for (int i = 0; i < 100; i++)
        CHECK(malloc(100) != NULL && hookvisor_version() != NULL);
    return 0;
}
