/* Four threads read MONOTONIC and REALTIME through the vDSO until standard input ends; MONOTONIC must never go
 * back. The main thread answers every line with `REALTIME_NS MONOTONIC_NS`, and prints `steps back N` at the end. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/time.h>
#include <time.h>

static atomic_int stop;
static atomic_long steps_back;

static long long now(int clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void *reader(void *unused)
{
    (void)unused;
    long long last = 0;
    while (!stop) {
        long long reading = now(CLOCK_MONOTONIC);
        if (reading < last)
            steps_back++;
        last = reading;
        struct timeval time;
        gettimeofday(&time, NULL);
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, reader, NULL);
    char line[64];
    while (fgets(line, sizeof line, stdin)) {
        printf("%lld %lld\n", now(CLOCK_REALTIME), now(CLOCK_MONOTONIC));
        fflush(stdout);
    }
    stop = 1;
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    printf("steps back %ld\n", (long)steps_back);
    return 0;
}
