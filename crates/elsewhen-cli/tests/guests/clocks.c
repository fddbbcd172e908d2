/* Prints what the clocks read: lines `CLOCK RESOLUTION_NS VALUE_NS`, and `error CALL CLOCK RC ERRNO` where a call fails.
 * Without an argument once; with `ask`, once for every line of standard input, each time followed by `end`. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static void reading(int clock)
{
    struct timespec now = { -7, -7 };
    errno = 0;
    int rc = clock_gettime(clock, &now);
    if (rc != 0)
        printf("error gettime %d %d %d\n", clock, rc, errno);
    else
        printf("%d 1 %lld%09ld\n", clock, (long long)now.tv_sec, (long)now.tv_nsec);
}

static void resolution(int clock)
{
    struct timespec step = { -7, -7 };
    errno = 0;
    int rc = clock_getres(clock, &step);
    int without = clock_getres(clock, NULL);
    printf("resolution %d %d %d %lld %ld\n", clock, rc, without, (long long)step.tv_sec, (long)step.tv_nsec);
}

static void readings(void)
{
    static const int clocks[] = { 0, 1, 4, 5, 6, 7, 8, 9, 11 };
    for (unsigned i = 0; i < sizeof clocks / sizeof *clocks; i++)
        reading(clocks[i]);
    struct timeval now;
    struct timezone zone = { 77, 77 };
    if (gettimeofday(&now, &zone) == 0)
        printf("0 1000 %lld%06ld000\n", (long long)now.tv_sec, (long)now.tv_usec);
    /* Nothing to store to; by a pointer, as the compiler would object. */
    struct timeval *volatile nowhere = NULL;
#ifdef __i386__
    /* The C library's own has no such idea. */
    printf("null %ld\n", syscall(SYS_gettimeofday, nowhere, NULL));
#else
    printf("null %d\n", gettimeofday(nowhere, NULL));
#endif
    time_t stored = 0, seconds = time(&stored);
    if (seconds == stored)
        printf("5 1000000000 %lld000000000\n", (long long)seconds);
    printf("5 1000000000 %lld000000000\n", (long long)time(NULL));
}

static void unusual(void)
{
    static const int bad[] = { 99, 10, 12, -1 };
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
        reading(bad[i]);
    reading(2);
    reading(3);
    /* The processor time of this very process, as clock_getcpuclockid(3) names it. */
    reading((int)(~0u << 3) | 2);
    static const int known[] = { 0, 1, 2, 3, 4, 5, 6, 7, 11, 99 };
    for (unsigned i = 0; i < sizeof known / sizeof *known; i++)
        resolution(known[i]);
}

int main(int argc, char **argv)
{
    char line[64];
    if (argc < 2 || strcmp(argv[1], "ask") != 0) {
        readings();
        if (argc > 1 && strcmp(argv[1], "unusual") == 0)
            unusual();
        return 0;
    }
    while (fgets(line, sizeof line, stdin)) {
        readings();
        puts("end");
        fflush(stdout);
    }
    return 0;
}
