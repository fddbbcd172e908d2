/* Prints the realtime clock's seconds and the effective user. */
#include <stdio.h>
#include <time.h>
#include <unistd.h>

int main(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    printf("%lld %u\n", (long long)now.tv_sec, geteuid());
    return 0;
}
