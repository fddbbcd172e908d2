/* Reads clocks in a 32-bit program: each line `CALL COUNT` of standard input is answered by the ticks of the time stamp
 * counter that so many calls took. */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define TIMES(call)                                                                                                  \
    for (unsigned left = count; left; left--)                                                                        \
        call

int main(void)
{
    char name[32];
    unsigned count;
    struct timespec now;
    struct timeval micro;
    while (scanf("%31s %u", name, &count) == 2) {
        uint64_t from = __builtin_ia32_rdtsc();
        if (!strcmp(name, "realtime"))
            TIMES(clock_gettime(CLOCK_REALTIME, &now));
        else if (!strcmp(name, "monotonic"))
            TIMES(clock_gettime(CLOCK_MONOTONIC, &now));
        else if (!strcmp(name, "gettimeofday"))
            TIMES(gettimeofday(&micro, NULL));
        else if (!strcmp(name, "time"))
            TIMES(time(NULL));
        else if (!strcmp(name, "system-call"))
            TIMES(syscall(SYS_clock_gettime, CLOCK_REALTIME, &now));
        else
            return 1;
        printf("%llu\n", (unsigned long long)(__builtin_ia32_rdtsc() - from));
        fflush(stdout);
    }
    return 0;
}
