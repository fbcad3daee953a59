/* What a tool that looks for leaks is to find, or else its silence says nothing. */
#include "check.h"

int main(void)
{
    for (int i = 0; i < 100; i++)
        CHECK(malloc(100) != NULL && hookvisor_version() != NULL);
    return 0;
}
