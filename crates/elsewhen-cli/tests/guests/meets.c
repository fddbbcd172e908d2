/* What a change or a signal meets at an awkward moment. Inside a namespace whose clock can be set.
 *
 * meets reads SIZE: reads of so many bytes, whose result is the number of a system call, under SIGSYS from another
 *   process and under changes: prints how many were not what was read.
 * meets rearmed: a timer for an instant is armed again for five seconds, then the clock is set: milliseconds left.
 * meets stopped: a wait that a stop has interrupted, then the clock is set past its end: its error number.
 * meets alarm: a change makes a timer expire whose signal ends another wait: that wait's error number. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void handle(int signal)
{
    (void)signal;
}

static struct timespec now(int clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return time;
}

static void step(long seconds)
{
    struct timespec time = now(CLOCK_REALTIME);
    time.tv_sec += seconds;
    if (clock_settime(CLOCK_REALTIME, &time) != 0)
        exit(3);
}

static timer_t timer_until(long seconds)
{
    timer_t timer;
    struct itimerspec set = { { 0, 0 }, { now(CLOCK_REALTIME).tv_sec + seconds, 0 } };
    timer_create(CLOCK_REALTIME, NULL, &timer);
    timer_settime(timer, TIMER_ABSTIME, &set, NULL);
    return timer;
}

static int reads(size_t size)
{
    static char buffer[512];
    pid_t reader = getpid();
    struct sigaction action = { .sa_handler = handle, .sa_flags = SA_RESTART };
    sigaction(SIGSYS, &action, NULL);
    timer_until(100000);
    if (fork() == 0) {
        for (int i = 0; i < 300 && getppid() == reader; i++) {
            kill(reader, SIGSYS);
            if (i % 10 == 0)
                step(0);
            usleep(1000);
        }
        _exit(0);
    }
    int zero = open("/dev/zero", O_RDONLY);
    long bad = 0;
    while (waitpid(-1, NULL, WNOHANG) == 0)
        for (int i = 0; i < 1000; i++) {
            memset(buffer, 0, sizeof buffer);
            bad += read(zero, buffer, size) != (ssize_t)size || buffer[0] || buffer[1] || buffer[8];
        }
    printf("bad %ld\n", bad);
    return 0;
}

static int rearmed(void)
{
    timer_t timer = timer_until(3600);
    struct itimerspec set = { { 0, 0 }, { 5, 0 } }, left;
    timer_settime(timer, 0, &set, NULL);
    step(1);
    timer_gettime(timer, &left);
    printf("left %ld\n", left.it_value.tv_sec * 1000 + left.it_value.tv_nsec / 1000000);
    return 0;
}

static int ready[2];

/* A moment so far ahead, by the date before anybody changes that. */
static struct timespec in(long seconds)
{
    struct timespec end = now(CLOCK_REALTIME);
    end.tv_sec += seconds;
    if (write(ready[1], "", 1) != 1)
        _exit(1);
    return end;
}

static int child(int (*wait)(void), int stop, long seconds)
{
    char byte;
    if (pipe(ready) != 0)
        return 1;
    pid_t waiter = fork();
    if (waiter == 0)
        _exit(wait());
    /* By when it wants to end it knows. */
    if (read(ready[0], &byte, 1) != 1)
        return 1;
    usleep(200000);
    if (stop) {
        kill(waiter, SIGSTOP);
        usleep(100000);
        kill(waiter, SIGCONT);
        usleep(100000);
    }
    step(seconds);
    int status;
    waitpid(waiter, &status, 0);
    printf("ended %d\n", WEXITSTATUS(status));
    return 0;
}

static int waits_for_a_condition(void)
{
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
    struct timespec end = in(3600);
    pthread_mutex_lock(&mutex);
    return pthread_cond_timedwait(&condition, &mutex, &end);
}

static int sleeps_with_a_timer(void)
{
    struct sigaction action = { .sa_handler = handle };
    sigaction(SIGALRM, &action, NULL);
    timer_until(3600);
    struct timespec end = in(7200);
    return clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &end, NULL);
}

int main(int count, char **arguments)
{
    const char *what = count > 1 ? arguments[1] : "";
    if (!strcmp(what, "reads") && count == 3)
        return reads(strtoul(arguments[2], NULL, 10));
    if (!strcmp(what, "rearmed"))
        return rearmed();
    if (!strcmp(what, "stopped"))
        return child(waits_for_a_condition, 1, 7200);
    if (!strcmp(what, "alarm"))
        return child(sleeps_with_a_timer, 0, 5400);
    return 2;
}
