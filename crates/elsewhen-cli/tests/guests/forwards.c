/* THREADS threads read one clock after the other, each noting the latest reading of any thread, until standard input
 * ends. Prints `CLOCK READINGS STEPS_BACK` for every clock, and the size of the first step back in nanoseconds. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static const int clocks[] = { CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC_RAW, CLOCK_MONOTONIC_COARSE };
enum { CLOCKS = sizeof clocks / sizeof *clocks };

static _Atomic long long latest[CLOCKS], taken[CLOCKS], back[CLOCKS], size[CLOCKS];
static _Atomic int done;

static long long now(int clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void step_back(int i, long long by)
{
    if (atomic_fetch_add(&back[i], 1) == 0)
        atomic_store(&size[i], by);
}

static void *reader(void *unused)
{
    while (!atomic_load_explicit(&done, memory_order_relaxed))
        for (int i = 0; i < CLOCKS; i++)
            for (int repeat = 0; repeat < 100; repeat++) {
                /* Read before the clock is: whatever it holds was read earlier, by whichever thread. */
                long long before = atomic_load(&latest[i]), reading = now(clocks[i]);
                if (reading < before)
                    step_back(i, before - reading);
                while (before < reading && !atomic_compare_exchange_weak(&latest[i], &before, reading))
                    ;
                atomic_fetch_add_explicit(&taken[i], 1, memory_order_relaxed);
                /* A coarse clock never runs ahead of the fine one. */
                if (clocks[i] == CLOCK_MONOTONIC_COARSE) {
                    long long fine = now(CLOCK_MONOTONIC);
                    if (fine < reading)
                        step_back(i, reading - fine);
                }
            }
    return unused;
}

int main(int argc, char **argv)
{
    enum { MOST = 16 };
    pthread_t threads[MOST];
    int count = argc > 1 ? atoi(argv[1]) : 2;
    for (int i = 0; i < count && i < MOST; i++)
        if (pthread_create(&threads[i], NULL, reader, NULL) != 0)
            return 1;
    puts("reading");
    fflush(stdout);
    while (getchar() != EOF)
        ;
    atomic_store(&done, 1);
    for (int i = 0; i < count && i < MOST; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < CLOCKS; i++)
        printf("%d %lld %lld %lld\n", clocks[i], taken[i], back[i], size[i]);
    return 0;
}
