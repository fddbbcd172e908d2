// Waits while somebody changes the clocks.
//
// `changes threads NS WAY...` or `changes processes NS WAY...` waits in each of the ways for so long, all at once, each
// in a thread or a process of its own. An absolute deadline lies so far from now. It prints `ready` when all of them
// are about to wait, and for each that is over `WAY RESULT AHEAD`: 0 or an error number, or a signal above 1000 where
// none belongs there; and how far the clock of the wait was then past its end. `changes list` prints `WAY KIND` for
// all ways.
//
// `changes repeated NS WAY...` waits in each way over and over, in threads, and prints only what goes wrong.
//
// In other threads it waits meanwhile for what never comes. Each line on standard input is answered with
// `idle SWITCHES DISTURBED COUNT...`: how often those threads have given the processor away, which they do not do while
// nobody disturbs them; how many of their calls have returned; and how many waits of each way are over in threads. It
// ends with its standard input.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "interfaces.h"

#ifndef TFD_TIMER_CANCEL_ON_SET
#define TFD_TIMER_CANCEL_ON_SET 2
#endif
#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif
#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif

// From linux/futex.h, which not every C library comes with.
#define FUTEX_WAIT 0
#define FUTEX_WAIT_BITSET 9
#define FUTEX_CLOCK_REALTIME 256

#define NS_IN_S 1000000000LL
#define UNEXPECTED 1000

static int64_t length;
static int is_thread, is_repeated;

#define MUST(condition)                                                                        \
    do {                                                                                       \
        if (!(condition)) {                                                                    \
            fprintf(stderr, "changes: not so: %s (%s)\n", #condition, strerror(errno));        \
            _exit(1);                                                                          \
        }                                                                                      \
    } while (0)

static int64_t now(clockid_t clock)
{
    struct timespec time;
    if (clock_gettime(clock, &time) != 0)
        abort();
    return time.tv_sec * NS_IN_S + time.tv_nsec;
}

static struct timespec timespec_of(int64_t ns)
{
    return (struct timespec){ ns / NS_IN_S, ns % NS_IN_S };
}

static struct timeval timeval_of(int64_t ns)
{
    return (struct timeval){ ns / NS_IN_S, ns % NS_IN_S / 1000 };
}

// 0 for a call that has failed as it does when the time is over, and what went wrong otherwise.
static int over(long result, int expected)
{
    if (result == -1)
        return errno == expected ? 0 : errno;
    return UNEXPECTED;
}

// 0 for a call that returns 0 when the time is over.
static int none(long result)
{
    return result == 0 ? 0 : result == -1 ? errno : UNEXPECTED;
}

// Sleeps. Each way is told when to end by its clock, and how long that is from now.

static int sleep_until(clockid_t clock, int64_t end)
{
    struct timespec time = timespec_of(end);
    return clock_nanosleep(clock, TIMER_ABSTIME, &time, NULL);
}

static int until_realtime(int64_t end, int64_t ns)
{
    (void)ns;
    return sleep_until(CLOCK_REALTIME, end);
}

static int until_tai(int64_t end, int64_t ns)
{
    (void)ns;
    return sleep_until(CLOCK_TAI, end);
}

static int until_monotonic(int64_t end, int64_t ns)
{
    (void)ns;
    return sleep_until(CLOCK_MONOTONIC, end);
}

static int until_boottime(int64_t end, int64_t ns)
{
    (void)ns;
    return sleep_until(CLOCK_BOOTTIME, end);
}

static int for_nanosleep(int64_t end, int64_t ns)
{
    (void)end;
    struct timespec time = timespec_of(ns);
    return none(nanosleep(&time, NULL));
}

static int for_on_realtime(int64_t end, int64_t ns)
{
    (void)end;
    struct timespec time = timespec_of(ns);
    return clock_nanosleep(CLOCK_REALTIME, 0, &time, NULL);
}

// Futexes.

static int futex(int operation, int64_t ns)
{
    static uint32_t word;
    struct timespec time = timespec_of(ns);
    return over(syscall(SYS_futex, &word, operation, 0, &time, NULL, ~0u), ETIMEDOUT);
}

static int futex_realtime(int64_t end, int64_t ns)
{
    (void)ns;
    return futex(FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, end);
}

static int futex_monotonic(int64_t end, int64_t ns)
{
    (void)ns;
    return futex(FUTEX_WAIT_BITSET, end);
}

static int futex_for(int64_t end, int64_t ns)
{
    (void)end;
    return futex(FUTEX_WAIT, ns);
}

static int futex_waitv(int64_t end, int64_t ns)
{
    (void)ns;
    static uint32_t word;
    struct {
        uint64_t val, uaddr;
        uint32_t flags, reserved;
    } waiter = { 0, (uintptr_t)&word, 2, 0 };
    struct timespec time = timespec_of(end);
    return over(syscall(SYS_futex_waitv, &waiter, 1, 0, WIDE(time), CLOCK_REALTIME), ETIMEDOUT);
}

// What the C library makes of futexes.

static int cond_on(clockid_t clock, int64_t end)
{
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_condattr_t attributes;
    pthread_cond_t cond;
    struct timespec time = timespec_of(end);
    MUST(pthread_condattr_init(&attributes) == 0);
    MUST(pthread_condattr_setclock(&attributes, clock) == 0);
    MUST(pthread_cond_init(&cond, &attributes) == 0);
    MUST(pthread_mutex_lock(&mutex) == 0);
    int error = pthread_cond_timedwait(&cond, &mutex, &time);
    return error == ETIMEDOUT ? 0 : error ? error : UNEXPECTED;
}

static int cond_realtime(int64_t end, int64_t ns)
{
    (void)ns;
    return cond_on(CLOCK_REALTIME, end);
}

static int cond_monotonic(int64_t end, int64_t ns)
{
    (void)ns;
    return cond_on(CLOCK_MONOTONIC, end);
}

static int semaphore(int64_t end, int64_t ns)
{
    (void)ns;
    sem_t sem;
    struct timespec time = timespec_of(end);
    MUST(sem_init(&sem, 0, 0) == 0);
    return over(sem_timedwait(&sem, &time), ETIMEDOUT);
}

static int mutex(int64_t end, int64_t ns)
{
    (void)ns;
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    struct timespec time = timespec_of(end);
    MUST(pthread_mutex_lock(&mutex) == 0);
    int error = pthread_mutex_timedlock(&mutex, &time);
    return error == ETIMEDOUT ? 0 : error ? error : UNEXPECTED;
}

static int rwlock(int64_t end, int64_t ns)
{
    (void)ns;
    pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
    struct timespec time = timespec_of(end);
    MUST(pthread_rwlock_rdlock(&lock) == 0);
    int error = pthread_rwlock_timedwrlock(&lock, &time);
    return error == ETIMEDOUT ? 0 : error ? error : UNEXPECTED;
}

// Queues.

static mqd_t queue(int full)
{
    char name[64];
    struct mq_attr attributes = { .mq_maxmsg = 1, .mq_msgsize = 8 };
    snprintf(name, sizeof name, "/elsewhen-changes-%ld", syscall(SYS_gettid));
    mqd_t queue = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attributes);
    MUST(queue != (mqd_t)-1);
    MUST(mq_unlink(name) == 0);
    MUST(!full || mq_send(queue, "", 1, 0) == 0);
    return queue;
}

static int receive(int64_t end, int64_t ns)
{
    (void)ns;
    char message[8];
    struct timespec time = timespec_of(end);
    mqd_t empty = queue(0);
    int result = over(mq_timedreceive(empty, message, sizeof message, NULL, &time), ETIMEDOUT);
    mq_close(empty);
    return result;
}

static int send_to_full(int64_t end, int64_t ns)
{
    (void)ns;
    struct timespec time = timespec_of(end);
    mqd_t full = queue(1);
    int result = over(mq_timedsend(full, "", 1, 0, &time), ETIMEDOUT);
    mq_close(full);
    return result;
}

// They outlive processes, so the first one removes them at its end.
static int semaphore_set = -1;

static int semaphores(int64_t end, int64_t ns)
{
    (void)end;
    struct sembuf wait = { 0, -1, 0 };
    struct timespec time = timespec_of(ns);
    return over(semtimedop(semaphore_set, &wait, 1, &time), EAGAIN);
}

// Descriptors.

// A pipe into which nobody writes.
static int silent_ends[2];

static int silent(void)
{
    return silent_ends[0];
}

static int poll_for(int64_t end, int64_t ns)
{
    (void)end;
    struct pollfd one = { silent(), POLLIN, 0 };
    return none(poll(&one, 1, (ns + 999999) / 1000000));
}

static int ppoll_for(int64_t end, int64_t ns)
{
    (void)end;
    struct pollfd one = { silent(), POLLIN, 0 };
    struct timespec time = timespec_of(ns);
    return none(ppoll(&one, 1, &time, NULL));
}

static int select_for(int64_t end, int64_t ns)
{
    (void)end;
    int fd = silent();
    fd_set set;
    FD_ZERO(&set);
    FD_SET(fd, &set);
    struct timeval time = timeval_of(ns);
    return none(select(fd + 1, &set, NULL, NULL, &time));
}

static int pselect_for(int64_t end, int64_t ns)
{
    (void)end;
    int fd = silent();
    fd_set set;
    FD_ZERO(&set);
    FD_SET(fd, &set);
    // A signal is pending all the time, which any other mask than this one would let in.
    sigset_t all, pending;
    sigfillset(&all);
    sigemptyset(&pending);
    sigaddset(&pending, SIGUSR1);
    pthread_kill(pthread_self(), SIGUSR1);
    struct timespec time = timespec_of(ns), nothing = { 0, 0 };
    int result = none(pselect(fd + 1, &set, NULL, NULL, &time, &all));
    MUST(sigtimedwait(&pending, NULL, &nothing) == SIGUSR1);
    return result;
}

static int epoll(void)
{
    int fd = epoll_create1(0);
    MUST(fd >= 0);
    struct epoll_event event = { .events = EPOLLIN };
    MUST(epoll_ctl(fd, EPOLL_CTL_ADD, silent(), &event) == 0);
    return fd;
}

static int epoll_for(int64_t end, int64_t ns)
{
    (void)end;
    struct epoll_event event;
    int fd = epoll();
    int result = none(epoll_wait(fd, &event, 1, (ns + 999999) / 1000000));
    close(fd);
    return result;
}

static int epoll_pwait2_for(int64_t end, int64_t ns)
{
    (void)end;
    struct epoll_event event;
    struct timespec time = timespec_of(ns);
    int fd = epoll();
    int result = none(syscall(SYS_epoll_pwait2, fd, &event, 1, WIDE(time), NULL, 0));
    close(fd);
    return result;
}

static int signal_for(int64_t end, int64_t ns)
{
    (void)end;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    struct timespec time = timespec_of(ns);
    return over(sigtimedwait(&set, NULL, &time), EAGAIN);
}

static int socket_for(int64_t end, int64_t ns)
{
    (void)end;
    int ends[2];
    char byte;
    struct timeval time = timeval_of(ns);
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    MUST(setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time) == 0);
    return over(recv(ends[0], &byte, 1, 0), EAGAIN);
}

// Timers, which go on whether anybody waits or not.

static int timerfd(clockid_t clock, int flags, int64_t ns)
{
    int fd = timerfd_create(clock, TFD_CLOEXEC);
    struct itimerspec time = { .it_value = timespec_of(ns) };
    MUST(fd >= 0 && timerfd_settime(fd, flags, &time, NULL) == 0);
    return fd;
}

static int expired(int fd)
{
    uint64_t count = 0;
    long got = read(fd, &count, sizeof count);
    return got == -1 ? errno : got == sizeof count && count == 1 ? 0 : UNEXPECTED;
}

static int timerfd_realtime(int64_t end, int64_t ns)
{
    (void)ns;
    return expired(timerfd(CLOCK_REALTIME, TFD_TIMER_ABSTIME, end));
}

static int timerfd_monotonic(int64_t end, int64_t ns)
{
    (void)ns;
    return expired(timerfd(CLOCK_MONOTONIC, TFD_TIMER_ABSTIME, end));
}

static int timerfd_boottime(int64_t end, int64_t ns)
{
    (void)ns;
    return expired(timerfd(CLOCK_BOOTTIME, TFD_TIMER_ABSTIME, end));
}

static int timerfd_for(int64_t end, int64_t ns)
{
    (void)end;
    return expired(timerfd(CLOCK_MONOTONIC, 0, ns));
}

static int timerfd_for_on_realtime(int64_t end, int64_t ns)
{
    (void)end;
    return expired(timerfd(CLOCK_REALTIME, 0, ns));
}

static int timerfd_polled(int64_t end, int64_t ns)
{
    (void)ns;
    int fd = timerfd(CLOCK_REALTIME, TFD_TIMER_ABSTIME, end);
    struct pollfd one = { fd, POLLIN, 0 };
    int found = poll(&one, 1, -1);
    return found == 1 ? expired(fd) : found == -1 ? errno : UNEXPECTED;
}

static int timerfd_cancelled(int64_t end, int64_t ns)
{
    (void)ns;
    return expired(timerfd(CLOCK_REALTIME, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, end));
}

static int timerfd_cancelled_polled(int64_t end, int64_t ns)
{
    (void)ns;
    int fd = timerfd(CLOCK_REALTIME, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, end);
    struct pollfd one = { fd, POLLIN, 0 };
    int found = poll(&one, 1, -1);
    return found == 1 ? expired(fd) : found == -1 ? errno : UNEXPECTED;
}

// Every signal is blocked, so that it waits to be taken.
static int take(int signal)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal);
    int taken = sigwaitinfo(&set, NULL);
    return taken == signal ? 0 : taken == -1 ? errno : UNEXPECTED + taken;
}

static int timer(clockid_t clock, int flags, int64_t ns)
{
    // Each thread has a signal of its own.
    static atomic_int used;
    int signal = SIGRTMIN + 1 + used++;
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = signal };
    struct itimerspec time = { .it_value = timespec_of(ns) };
    timer_t timer;
    MUST(timer_create(clock, &event, &timer) == 0);
    MUST(timer_settime(timer, flags, &time, NULL) == 0);
    return take(signal);
}

static int timer_realtime(int64_t end, int64_t ns)
{
    (void)ns;
    return timer(CLOCK_REALTIME, TIMER_ABSTIME, end);
}

static int timer_monotonic(int64_t end, int64_t ns)
{
    (void)ns;
    return timer(CLOCK_MONOTONIC, TIMER_ABSTIME, end);
}

static int timer_for(int64_t end, int64_t ns)
{
    (void)end;
    return timer(CLOCK_MONOTONIC, 0, ns);
}

static int timer_for_on_realtime(int64_t end, int64_t ns)
{
    (void)end;
    return timer(CLOCK_REALTIME, 0, ns);
}

static void posts(union sigval value)
{
    sem_post(value.sival_ptr);
}

static int timer_thread(int64_t end, int64_t ns)
{
    (void)ns;
    static sem_t sem;
    MUST(sem_init(&sem, 0, 0) == 0);
    struct sigevent event = { .sigev_notify = SIGEV_THREAD, .sigev_notify_function = posts };
    event.sigev_value.sival_ptr = &sem;
    struct itimerspec time = { .it_value = timespec_of(end) };
    timer_t timer;
    MUST(timer_create(CLOCK_REALTIME, &event, &timer) == 0);
    MUST(timer_settime(timer, TIMER_ABSTIME, &time, NULL) == 0);
    return none(sem_wait(&sem));
}

static int interval_timer(int64_t end, int64_t ns)
{
    (void)end;
    struct itimerval time = { .it_value = timeval_of(ns) };
    MUST(setitimer(ITIMER_REAL, &time, NULL) == 0);
    return take(SIGALRM);
}

static int alarm_for(int64_t end, int64_t ns)
{
    (void)end;
    alarm((ns + NS_IN_S - 1) / NS_IN_S);
    return take(SIGALRM);
}

// Kinds: a deadline of REALTIME or of another clock, or a duration; `libc` where it is not said what calls are made,
// and `timer` where the kernel counts on by itself.
static const struct way {
    const char *name;
    clockid_t clock;
    int (*wait)(int64_t end, int64_t ns);
    const char *kind;
} WAYS[] = {
    { "clock_nanosleep-realtime", CLOCK_REALTIME, until_realtime, "date" },
    { "clock_nanosleep-tai", CLOCK_TAI, until_tai, "date" },
    { "futex-realtime", CLOCK_REALTIME, futex_realtime, "date" },
    { "futex_waitv-realtime", CLOCK_REALTIME, futex_waitv, "date" },
    { "mq_timedreceive", CLOCK_REALTIME, receive, "date" },
    { "mq_timedsend", CLOCK_REALTIME, send_to_full, "date" },
    { "pthread_cond_timedwait", CLOCK_REALTIME, cond_realtime, "libc-date" },
    { "sem_timedwait", CLOCK_REALTIME, semaphore, "libc-date" },
    { "pthread_mutex_timedlock", CLOCK_REALTIME, mutex, "libc-date" },
    { "pthread_rwlock_timedwrlock", CLOCK_REALTIME, rwlock, "libc-date" },
    { "clock_nanosleep-monotonic", CLOCK_MONOTONIC, until_monotonic, "deadline" },
    { "clock_nanosleep-boottime", CLOCK_BOOTTIME, until_boottime, "deadline" },
    { "futex-monotonic", CLOCK_MONOTONIC, futex_monotonic, "deadline" },
    { "pthread_cond_timedwait-monotonic", CLOCK_MONOTONIC, cond_monotonic, "deadline" },
    { "nanosleep", CLOCK_MONOTONIC, for_nanosleep, "duration" },
    { "clock_nanosleep-for", CLOCK_MONOTONIC, for_on_realtime, "duration" },
    { "futex-for", CLOCK_MONOTONIC, futex_for, "duration" },
    { "poll", CLOCK_MONOTONIC, poll_for, "duration" },
    { "ppoll", CLOCK_MONOTONIC, ppoll_for, "duration" },
    { "select", CLOCK_MONOTONIC, select_for, "duration" },
    { "pselect", CLOCK_MONOTONIC, pselect_for, "duration" },
    { "epoll_wait", CLOCK_MONOTONIC, epoll_for, "duration" },
    { "epoll_pwait2", CLOCK_MONOTONIC, epoll_pwait2_for, "duration" },
    { "sigtimedwait", CLOCK_MONOTONIC, signal_for, "duration" },
    { "semtimedop", CLOCK_MONOTONIC, semaphores, "duration" },
    { "timerfd-realtime", CLOCK_REALTIME, timerfd_realtime, "timer-date" },
    { "timerfd-polled", CLOCK_REALTIME, timerfd_polled, "timer-date" },
    { "timer-realtime", CLOCK_REALTIME, timer_realtime, "timer-date" },
    { "timer-thread", CLOCK_REALTIME, timer_thread, "timer-date" },
    { "timerfd-monotonic", CLOCK_MONOTONIC, timerfd_monotonic, "timer-deadline" },
    { "timerfd-boottime", CLOCK_BOOTTIME, timerfd_boottime, "timer-deadline" },
    { "timer-monotonic", CLOCK_MONOTONIC, timer_monotonic, "timer-deadline" },
    { "timerfd-for", CLOCK_MONOTONIC, timerfd_for, "timer-duration" },
    { "timerfd-for-realtime", CLOCK_MONOTONIC, timerfd_for_on_realtime, "timer-duration" },
    { "timer-for", CLOCK_MONOTONIC, timer_for, "timer-duration" },
    { "timer-for-realtime", CLOCK_MONOTONIC, timer_for_on_realtime, "timer-duration" },
    { "setitimer", CLOCK_MONOTONIC, interval_timer, "timer-duration" },
    { "alarm", CLOCK_MONOTONIC, alarm_for, "timer-duration" },
    { "timerfd-cancelled", CLOCK_REALTIME, timerfd_cancelled, "cancelled" },
    { "timerfd-cancelled-polled", CLOCK_REALTIME, timerfd_cancelled_polled, "cancelled" },
    { "so_rcvtimeo", CLOCK_MONOTONIC, socket_for, "socket" },
};

static sem_t begun;
static atomic_long counts[64];
static int way_count;

// One of the waits that were asked for.
struct one {
    const struct way *way;
    atomic_long *count;
};

static void *carry_out(void *argument)
{
    struct one one = *(struct one *)argument;
    if (is_thread)
        sem_post(&begun);
    do {
        int64_t end = now(one.way->clock) + length;
        int result = one.way->wait(end, length);
        int64_t ahead = now(one.way->clock) - end;
        // In one write, since others do so too.
        if (!is_repeated || result != 0)
            dprintf(1, "%s %d %lld\n", one.way->name, result, (long long)ahead);
        ++*one.count;
    } while (is_repeated);
    return NULL;
}

// Waits that nobody ends.

static atomic_int disturbed;
static pid_t idle_ids[8];
static int idle_count;
static uint32_t idle_word;

static void *idle_pause(void *place)
{
    *(pid_t *)place = syscall(SYS_gettid);
    sem_post(&begun);
    pause();
    disturbed++;
    return NULL;
}

static void *idle_reads(void *place)
{
    char byte;
    *(pid_t *)place = syscall(SYS_gettid);
    sem_post(&begun);
    (void)!read(silent(), &byte, 1);
    disturbed++;
    return NULL;
}

static void *idle_polls(void *place)
{
    struct pollfd one = { silent(), POLLIN, 0 };
    *(pid_t *)place = syscall(SYS_gettid);
    sem_post(&begun);
    poll(&one, 1, -1);
    disturbed++;
    return NULL;
}

static void *idle_futex(void *place)
{
    *(pid_t *)place = syscall(SYS_gettid);
    sem_post(&begun);
    syscall(SYS_futex, &idle_word, FUTEX_WAIT, 0, NULL);
    disturbed++;
    return NULL;
}

static void *idle_signals(void *place)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    *(pid_t *)place = syscall(SYS_gettid);
    sem_post(&begun);
    sigwaitinfo(&set, NULL);
    disturbed++;
    return NULL;
}

static void *idle_suspends(void *place)
{
    sigset_t set;
    sigfillset(&set);
    *(pid_t *)place = syscall(SYS_gettid);
    sem_post(&begun);
    sigsuspend(&set);
    disturbed++;
    return NULL;
}

static long switches(void)
{
    long sum = 0;
    for (int i = 0; i < idle_count; i++) {
        char path[64], line[256];
        snprintf(path, sizeof path, "/proc/self/task/%d/status", idle_ids[i]);
        FILE *status = fopen(path, "re");
        MUST(status);
        while (fgets(line, sizeof line, status)) {
            long count;
            if (sscanf(line, "voluntary_ctxt_switches: %ld", &count) == 1)
                sum += count;
        }
        fclose(status);
    }
    return sum;
}

int main(int argc, char **argv)
{
    const size_t count = sizeof WAYS / sizeof *WAYS;
    if (argc == 2 && strcmp(argv[1], "list") == 0) {
        for (size_t i = 0; i < count; i++)
            printf("%s %s\n", WAYS[i].name, WAYS[i].kind);
        return 0;
    }
    if (argc < 4)
        return 2;
    is_repeated = strcmp(argv[1], "repeated") == 0;
    is_thread = is_repeated || strcmp(argv[1], "threads") == 0;
    length = strtoll(argv[2], NULL, 0);
    // Signals of timers are taken by who waits for them; the rest stay away from all.
    sigset_t all;
    sigfillset(&all);
    MUST(sigprocmask(SIG_SETMASK, &all, NULL) == 0);
    MUST(sem_init(&begun, 0, 0) == 0 && pipe(silent_ends) == 0);
    semaphore_set = semget(IPC_PRIVATE, 1, 0600);
    MUST(semaphore_set >= 0);
    pthread_t thread;
    int waiting = 0;
    for (int i = 3; i < argc; i++) {
        const struct way *way = NULL;
        for (size_t each = 0; each < count; each++)
            if (strcmp(WAYS[each].name, argv[i]) == 0)
                way = &WAYS[each];
        MUST(way && way_count < 64);
        static struct one ones[64];
        struct one *one = &ones[way_count];
        *one = (struct one){ way, &counts[way_count] };
        way_count++;
        if (is_thread) {
            MUST(pthread_create(&thread, NULL, carry_out, one) == 0);
            waiting++;
        } else {
            pid_t child = fork();
            MUST(child >= 0);
            if (child == 0) {
                // It must not outlive a guest that was killed.
                MUST(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
                carry_out(one);
                _exit(0);
            }
        }
    }
    void *(*idle[])(void *) = { idle_pause, idle_reads, idle_polls, idle_futex, idle_signals, idle_suspends };
    for (size_t i = 0; i < sizeof idle / sizeof *idle; i++) {
        MUST(pthread_create(&thread, NULL, idle[i], &idle_ids[idle_count++]) == 0);
        waiting++;
    }
    while (waiting-- > 0)
        MUST(sem_wait(&begun) == 0);
    dprintf(1, "ready\n");
    char line[64];
    while (fgets(line, sizeof line, stdin)) {
        char answer[1024];
        int length = snprintf(answer, sizeof answer, "idle %ld %d", switches(), disturbed);
        for (int i = 0; i < way_count; i++)
            length += snprintf(answer + length, sizeof answer - length, " %ld", counts[i]);
        dprintf(1, "%s\n", answer);
    }
    semctl(semaphore_set, 0, IPC_RMID);
    _exit(0);
}
