/* Reads every clock in threads, while signals come, threads come and go, and others wait; until standard input ends.
 *
 * hammer THREADS: every line of input is answered with `REALTIME_NS CALLS`; at the end a line says how many readings of
 * MONOTONIC went back, how many readings made no sense, and how many waits ended with an error. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static atomic_int stop;
static atomic_long back, senseless, failed, calls, signals;
static int epoll;
static __thread volatile long long last;

static long long read_clock(clockid_t clock)
{
    struct timespec time;
    if (clock_gettime(clock, &time) != 0 || time.tv_nsec < 0 || time.tv_nsec > 999999999)
        senseless++;
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void handler(int signal)
{
    (void)signal;
    if (read_clock(CLOCK_MONOTONIC) < last)
        back++;
    signals++;
}

/* Within a century of now. */
static void date(long long seconds)
{
    if (seconds < 0 || seconds > 4900000000LL)
        senseless++;
}

static void readings(void)
{
    long long now = read_clock(CLOCK_MONOTONIC);
    if (now < last)
        back++;
    last = now;
    date(read_clock(CLOCK_REALTIME) / 1000000000);
    date(read_clock(CLOCK_REALTIME_COARSE) / 1000000000);
    read_clock(CLOCK_BOOTTIME);
    struct timeval micro;
    gettimeofday(&micro, NULL);
    date(micro.tv_sec);
    date(time(NULL));
    struct timespec raw;
    syscall(SYS_clock_gettime, CLOCK_REALTIME, &raw);
    date(raw.tv_sec);
    clock_getres(CLOCK_REALTIME, &raw);
    calls += 8;
}

static void *reader(void *unused)
{
    (void)unused;
    while (!stop)
        readings();
    return NULL;
}

static void *few(void *unused)
{
    (void)unused;
    for (int i = 0; i < 50; i++)
        readings();
    return NULL;
}

static void *churn(void *unused)
{
    (void)unused;
    while (!stop) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, few, NULL) == 0)
            pthread_join(thread, NULL);
        usleep(500);
    }
    return NULL;
}

static void *waiter(void *unused)
{
    (void)unused;
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    /* Not by REALTIME, whose steps are waited for. */
    pthread_cond_t condition;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&condition, &monotonic);
    /* Signals are for the others: none of these calls may end early. */
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    while (!stop) {
        struct timespec time = {0, 2000000};
        struct epoll_event event;
        failed += nanosleep(&time, NULL) != 0;
        failed += epoll_wait(epoll, &event, 1, 2) != 0;
        failed += poll(NULL, 0, 2) != 0;
        clock_gettime(CLOCK_MONOTONIC, &time);
        time.tv_nsec += 2000000;
        if (time.tv_nsec > 999999999) {
            time.tv_nsec -= 1000000000;
            time.tv_sec++;
        }
        failed += clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL) != 0;
        clock_gettime(CLOCK_MONOTONIC, &time);
        pthread_mutex_lock(&mutex);
        failed += pthread_cond_timedwait(&condition, &mutex, &time) != ETIMEDOUT;
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    int count = argc > 1 ? atoi(argv[1]) : 8;
    pthread_t threads[256], others[2];
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    sigaction(SIGPROF, &action, NULL);
    /* Before anybody may take descriptors away. */
    epoll = epoll_create1(0);
    for (int i = 0; i < count; i++)
        pthread_create(&threads[i], NULL, reader, NULL);
    pthread_create(&others[0], NULL, churn, NULL);
    pthread_create(&others[1], NULL, waiter, NULL);
    struct itimerval storm = {{0, 1000}, {0, 1000}};
    setitimer(ITIMER_PROF, &storm, NULL);
    char line[64];
    printf("ready\n");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        printf("%lld %ld\n", read_clock(CLOCK_REALTIME), (long)calls);
        fflush(stdout);
    }
    stop = 1;
    struct itimerval none = {{0, 0}, {0, 0}};
    setitimer(ITIMER_PROF, &none, NULL);
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    pthread_join(others[0], NULL);
    pthread_join(others[1], NULL);
    printf("back %ld senseless %ld failed %ld\n", (long)back, (long)senseless, (long)failed);
    return 0;
}
