// Waits, in every way that the C library and the kernel have.
//
// Its first line is `ways` and their names, with `:r` behind those that end by the realtime clock. Each line `WAY NS`
// on its standard input is one wait of about so long, answered by `ASKED MONOTONIC REALTIME`: the length that was
// really asked for and what its own clocks counted from before to after, in nanoseconds. It fails where a wait ends
// otherwise than by its time.
//
// `waits cron COUNT` wakes at every full minute of realtime, and prints `MINUTE NOW` so often.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <threads.h>
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
#ifndef SYS_futex_wait
#define SYS_futex_wait 455
#endif
#ifndef SYS_io_pgetevents
#define SYS_io_pgetevents (sizeof(void *) == 8 && SYS_write == 1 ? 333 : 292)
#endif

// From linux/futex.h and linux/aio_abi.h, which not every C library comes with.
#define FUTEX_WAIT 0
#define FUTEX_LOCK_PI 6
#define FUTEX_WAIT_BITSET 9
#define FUTEX_LOCK_PI2 13
#define FUTEX_PRIVATE_FLAG 128
#define FUTEX_CLOCK_REALTIME 256
#define FUTEX_CMD_MASK ~(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME)
#define FUTEX_BITSET_MATCH_ANY 0xffffffff
#define FUTEX_32 2
typedef unsigned long aio_context_t;
struct io_event {
    uint64_t data, obj;
    int64_t res, res2;
};

#define NS_IN_S 1000000000LL

static const char *current = "the start";

#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "waits: %s: not so: %s (%s)\n", current, #condition, strerror(errno)); \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

static int64_t now(clockid_t clock) {
    struct timespec t;
    if (clock_gettime(clock, &t) != 0)
        abort();
    return t.tv_sec * NS_IN_S + t.tv_nsec;
}

static struct timespec timespec_of(int64_t ns) {
    return (struct timespec){.tv_sec = ns / NS_IN_S, .tv_nsec = ns % NS_IN_S};
}

static struct timeval timeval_of(int64_t ns) {
    return (struct timeval){.tv_sec = ns / NS_IN_S, .tv_usec = ns % NS_IN_S / 1000};
}

static struct timespec in(clockid_t clock, int64_t ns) {
    return timespec_of(now(clock) + ns);
}

static int64_t seconds_of(int64_t ns) {
    return (ns + NS_IN_S - 1) / NS_IN_S;
}

// Starts a thread that leaves all signals to the first one.
static pthread_t start(void *(*run)(void *)) {
    pthread_t thread;
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    MUST(pthread_create(&thread, NULL, run, NULL) == 0);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return thread;
}

// Locks that another thread holds for ever.

static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER, held_pi;
static pthread_rwlock_t held_rw = PTHREAD_RWLOCK_INITIALIZER;
static mtx_t held_c11;
static pthread_t holder;
static sem_t is_held;

static void *hold(void *unused) {
    (void)unused;
    MUST(pthread_mutex_lock(&held) == 0);
    MUST(pthread_mutex_lock(&held_pi) == 0);
    MUST(pthread_rwlock_wrlock(&held_rw) == 0);
    MUST(mtx_lock(&held_c11) == thrd_success);
    sem_post(&is_held);
    for (;;)
        pause();
    return NULL;
}

static void prepare(void) {
    pthread_mutexattr_t inherit;
    MUST(pthread_mutexattr_init(&inherit) == 0);
    MUST(pthread_mutexattr_setprotocol(&inherit, PTHREAD_PRIO_INHERIT) == 0);
    MUST(pthread_mutex_init(&held_pi, &inherit) == 0);
    MUST(mtx_init(&held_c11, mtx_timed) == thrd_success);
    MUST(sem_init(&is_held, 0, 0) == 0);
    holder = start(hold);
    MUST(sem_wait(&is_held) == 0);
}

static volatile sig_atomic_t caught;

static void catch(int signal) {
    (void)signal;
    caught++;
}

static void handle(int signal, void (*handler)(int)) {
    struct sigaction action = {.sa_handler = handler};
    MUST(sigaction(signal, &action, NULL) == 0);
    caught = 0;
}

static sigset_t only(int signal) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal);
    return set;
}

static sigset_t nothing(void) {
    sigset_t set;
    sigemptyset(&set);
    return set;
}

// Sleeps.

static int64_t way_nanosleep(int64_t ns) {
    struct timespec t = timespec_of(ns);
    MUST(nanosleep(&t, NULL) == 0);
    return ns;
}

static int64_t way_syscall_nanosleep(int64_t ns) {
    struct timespec t = timespec_of(ns);
#ifdef TIMES_OF_64_BITS
    MUST(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &t, NULL) == 0);
#else
    MUST(syscall(SYS_nanosleep, &t, NULL) == 0);
#endif
    return ns;
}

static int64_t way_usleep(int64_t ns) {
    MUST(usleep(ns / 1000) == 0);
    return ns;
}

static int64_t way_sleep(int64_t ns) {
    MUST(sleep(seconds_of(ns)) == 0);
    return seconds_of(ns) * NS_IN_S;
}

static int64_t way_thrd_sleep(int64_t ns) {
    struct timespec t = timespec_of(ns);
    MUST(thrd_sleep(&t, NULL) == 0);
    return ns;
}

static int64_t sleep_on(clockid_t clock, int flags, int64_t ns) {
    struct timespec t = flags ? in(clock, ns) : timespec_of(ns);
    MUST(clock_nanosleep(clock, flags, &t, NULL) == 0);
    return ns;
}

static int64_t way_sleep_realtime(int64_t ns) { return sleep_on(CLOCK_REALTIME, 0, ns); }
static int64_t way_sleep_monotonic(int64_t ns) { return sleep_on(CLOCK_MONOTONIC, 0, ns); }
static int64_t way_sleep_boottime(int64_t ns) { return sleep_on(CLOCK_BOOTTIME, 0, ns); }
static int64_t way_sleep_until_realtime(int64_t ns) { return sleep_on(CLOCK_REALTIME, TIMER_ABSTIME, ns); }
static int64_t way_sleep_until_monotonic(int64_t ns) { return sleep_on(CLOCK_MONOTONIC, TIMER_ABSTIME, ns); }
static int64_t way_sleep_until_boottime(int64_t ns) { return sleep_on(CLOCK_BOOTTIME, TIMER_ABSTIME, ns); }
static int64_t way_sleep_until_tai(int64_t ns) { return sleep_on(CLOCK_TAI, TIMER_ABSTIME, ns); }

// Locks and conditions.

static int64_t wait_on_condition(clockid_t clock, int64_t ns) {
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_condattr_t attributes;
    pthread_cond_t condition;
    pthread_condattr_init(&attributes);
    MUST(pthread_condattr_setclock(&attributes, clock) == 0);
    MUST(pthread_cond_init(&condition, &attributes) == 0);
    MUST(pthread_mutex_lock(&mutex) == 0);
    struct timespec t = in(clock, ns);
    int result;
    while ((result = pthread_cond_timedwait(&condition, &mutex, &t)) == 0) {
    }
    MUST(result == ETIMEDOUT);
    pthread_mutex_unlock(&mutex);
    pthread_cond_destroy(&condition);
    return ns;
}

static int64_t way_cond_timedwait_realtime(int64_t ns) { return wait_on_condition(CLOCK_REALTIME, ns); }
static int64_t way_cond_timedwait_monotonic(int64_t ns) { return wait_on_condition(CLOCK_MONOTONIC, ns); }

static int64_t way_cnd_timedwait(int64_t ns) {
    mtx_t mutex;
    cnd_t condition;
    MUST(mtx_init(&mutex, mtx_plain) == thrd_success && cnd_init(&condition) == thrd_success);
    MUST(mtx_lock(&mutex) == thrd_success);
    struct timespec t = in(CLOCK_REALTIME, ns);
    int result;
    while ((result = cnd_timedwait(&condition, &mutex, &t)) == thrd_success) {
    }
    MUST(result == thrd_timedout);
    mtx_unlock(&mutex);
    return ns;
}

static int64_t way_sem_timedwait(int64_t ns) {
    sem_t semaphore;
    MUST(sem_init(&semaphore, 0, 0) == 0);
    struct timespec t = in(CLOCK_REALTIME, ns);
    MUST(sem_timedwait(&semaphore, &t) == -1 && errno == ETIMEDOUT);
    return ns;
}

static int64_t way_mutex_timedlock(int64_t ns) {
    struct timespec t = in(CLOCK_REALTIME, ns);
    MUST(pthread_mutex_timedlock(&held, &t) == ETIMEDOUT);
    return ns;
}

static int64_t way_mutex_pi_timedlock(int64_t ns) {
    struct timespec t = in(CLOCK_REALTIME, ns);
    MUST(pthread_mutex_timedlock(&held_pi, &t) == ETIMEDOUT);
    return ns;
}

static int64_t way_rwlock_timedrdlock(int64_t ns) {
    struct timespec t = in(CLOCK_REALTIME, ns);
    MUST(pthread_rwlock_timedrdlock(&held_rw, &t) == ETIMEDOUT);
    return ns;
}

static int64_t way_mtx_timedlock(int64_t ns) {
    struct timespec t = in(CLOCK_REALTIME, ns);
    MUST(mtx_timedlock(&held_c11, &t) == thrd_timedout);
    return ns;
}

#ifdef __GLIBC__
static int64_t way_cond_clockwait(int64_t ns) {
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
    MUST(pthread_mutex_lock(&mutex) == 0);
    struct timespec t = in(CLOCK_MONOTONIC, ns);
    int result;
    while ((result = pthread_cond_clockwait(&condition, &mutex, CLOCK_MONOTONIC, &t)) == 0) {
    }
    MUST(result == ETIMEDOUT);
    return ns;
}

static int64_t way_sem_clockwait(int64_t ns) {
    sem_t semaphore;
    MUST(sem_init(&semaphore, 0, 0) == 0);
    struct timespec t = in(CLOCK_MONOTONIC, ns);
    MUST(sem_clockwait(&semaphore, CLOCK_MONOTONIC, &t) == -1 && errno == ETIMEDOUT);
    return ns;
}

static int64_t way_mutex_clocklock(int64_t ns) {
    struct timespec t = in(CLOCK_MONOTONIC, ns);
    MUST(pthread_mutex_clocklock(&held, CLOCK_MONOTONIC, &t) == ETIMEDOUT);
    return ns;
}

static int64_t way_rwlock_clockwrlock(int64_t ns) {
    struct timespec t = in(CLOCK_MONOTONIC, ns);
    MUST(pthread_rwlock_clockwrlock(&held_rw, CLOCK_MONOTONIC, &t) == ETIMEDOUT);
    return ns;
}

static int64_t way_timedjoin(int64_t ns) {
    struct timespec t = in(CLOCK_REALTIME, ns);
    MUST(pthread_timedjoin_np(holder, NULL, &t) == ETIMEDOUT);
    return ns;
}
#endif

// Futexes, as runtimes use them without a C library.

static int64_t wait_on_futex(int operation, clockid_t clock, int64_t ns) {
    uint32_t word = 0;
    struct timespec t = (operation & FUTEX_CMD_MASK) == FUTEX_WAIT ? timespec_of(ns) : in(clock, ns);
    MUST(syscall(SYS_futex, &word, operation, 0, &t, NULL, FUTEX_BITSET_MATCH_ANY) == -1 && errno == ETIMEDOUT);
    return ns;
}

static int64_t way_futex_wait(int64_t ns) {
    return wait_on_futex(FUTEX_WAIT | FUTEX_PRIVATE_FLAG, CLOCK_MONOTONIC, ns);
}

static int64_t way_futex_wait_shared(int64_t ns) { return wait_on_futex(FUTEX_WAIT, CLOCK_MONOTONIC, ns); }

static int64_t way_futex_bitset_monotonic(int64_t ns) {
    return wait_on_futex(FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, CLOCK_MONOTONIC, ns);
}

static int64_t way_futex_bitset_realtime(int64_t ns) {
    return wait_on_futex(FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME, CLOCK_REALTIME, ns);
}

// A lock with priority inheritance names its owner; it is a thread of this program that goes on living.
static uint32_t owner;

static void *own(void *unused) {
    (void)unused;
    __atomic_store_n(&owner, syscall(SYS_gettid), __ATOMIC_SEQ_CST);
    for (;;)
        pause();
    return NULL;
}

static int64_t wait_on_lock(int command, int clock, int64_t ns) {
    if (owner == 0) {
        start(own);
        while (__atomic_load_n(&owner, __ATOMIC_SEQ_CST) == 0)
            usleep(1000);
    }
    uint32_t word = owner;
    struct timespec t = in(clock, ns);
    MUST(syscall(SYS_futex, &word, command | FUTEX_PRIVATE_FLAG, 0, &t, NULL, 0) == -1 && errno == ETIMEDOUT);
    return ns;
}

static int64_t way_futex_lock_pi(int64_t ns) { return wait_on_lock(FUTEX_LOCK_PI, CLOCK_REALTIME, ns); }
static int64_t way_futex_lock_pi2(int64_t ns) { return wait_on_lock(FUTEX_LOCK_PI2, CLOCK_MONOTONIC, ns); }

struct futex_of_many {
    uint64_t value, address;
    uint32_t flags, reserved;
};

static long wait_on_many(clockid_t clock, struct timespec *t) {
    static uint32_t words[2];
    struct futex_of_many many[2] = {{.address = (uintptr_t)&words[0], .flags = FUTEX_32 | FUTEX_PRIVATE_FLAG},
                                    {.address = (uintptr_t)&words[1], .flags = FUTEX_32 | FUTEX_PRIVATE_FLAG}};
    return syscall(SYS_futex_waitv, many, 2, 0, WIDE(*t), clock);
}

static int64_t way_futex_waitv_monotonic(int64_t ns) {
    struct timespec t = in(CLOCK_MONOTONIC, ns);
    MUST(wait_on_many(CLOCK_MONOTONIC, &t) == -1 && errno == ETIMEDOUT);
    return ns;
}

static int64_t way_futex_waitv_realtime(int64_t ns) {
    struct timespec t = in(CLOCK_REALTIME, ns);
    MUST(wait_on_many(CLOCK_REALTIME, &t) == -1 && errno == ETIMEDOUT);
    return ns;
}

static long wait_on_one(clockid_t clock, struct timespec *t) {
    static uint32_t word;
    return syscall(SYS_futex_wait, &word, 0L, 0xffffffffL, FUTEX_32 | FUTEX_PRIVATE_FLAG, WIDE(*t), clock);
}

static int64_t way_futex2_wait_monotonic(int64_t ns) {
    struct timespec t = in(CLOCK_MONOTONIC, ns);
    MUST(wait_on_one(CLOCK_MONOTONIC, &t) == -1 && errno == ETIMEDOUT);
    return ns;
}

static int64_t way_futex2_wait_realtime(int64_t ns) {
    struct timespec t = in(CLOCK_REALTIME, ns);
    MUST(wait_on_one(CLOCK_REALTIME, &t) == -1 && errno == ETIMEDOUT);
    return ns;
}

static int has_futex_lock_pi2(void) {
    // Nothing to wait for: the lock is free.
    uint32_t word = 0;
    return syscall(SYS_futex, &word, FUTEX_LOCK_PI2 | FUTEX_PRIVATE_FLAG, 0, NULL, NULL, 0) == 0;
}

static int has_futex_waitv(void) {
    struct timespec past = {0};
    return wait_on_many(CLOCK_MONOTONIC, &past) == -1 && errno != ENOSYS;
}

static int has_futex_wait(void) {
    struct timespec past = {0};
    return wait_on_one(CLOCK_MONOTONIC, &past) == -1 && errno != ENOSYS;
}

// Descriptors.

static int quiet(void) {
    static int ends[2] = {-1, -1};
    if (ends[0] < 0)
        MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) == 0);
    return ends[0];
}

static int64_t way_poll(int64_t ns) {
    struct pollfd nothing_comes = {.fd = quiet(), .events = POLLIN};
    MUST(poll(&nothing_comes, 1, ns / 1000000) == 0);
    return ns;
}

static int64_t way_ppoll(int64_t ns) {
    struct pollfd nothing_comes = {.fd = quiet(), .events = POLLIN};
    struct timespec t = timespec_of(ns);
    MUST(ppoll(&nothing_comes, 1, &t, NULL) == 0);
    return ns;
}

static int64_t way_ppoll_mask(int64_t ns) {
    struct pollfd nothing_comes = {.fd = quiet(), .events = POLLIN};
    struct timespec t = timespec_of(ns);
    sigset_t mask = only(SIGUSR1);
    MUST(ppoll(&nothing_comes, 1, &t, &mask) == 0);
    return ns;
}

static int64_t way_select(int64_t ns) {
    fd_set set;
    FD_ZERO(&set);
    FD_SET(quiet(), &set);
    struct timeval t = timeval_of(ns);
    MUST(select(quiet() + 1, &set, NULL, NULL, &t) == 0);
    return ns;
}

#ifndef NO_SUCH_CALL
static int64_t way_syscall_select(int64_t ns) {
    struct timeval time = timeval_of(ns);
    // Of any program, as wide as a register.
    struct {
        machine_word sec, usec;
    } t = {time.tv_sec, time.tv_usec};
    MUST(syscall(SYS_select, 0, NULL, NULL, NULL, &t) == 0);
    // Nothing remains of it.
    MUST(t.sec == 0 && t.usec == 0);
    return ns;
}
#endif

static int64_t way_pselect_mask(int64_t ns) {
    struct timespec t = timespec_of(ns);
    sigset_t mask = only(SIGUSR1);
    MUST(pselect(0, NULL, NULL, NULL, &t, &mask) == 0);
    return ns;
}

static int64_t way_epoll_wait(int64_t ns) {
    struct epoll_event event;
    int set = epoll_create1(EPOLL_CLOEXEC);
    MUST(set >= 0);
    MUST(epoll_wait(set, &event, 1, ns / 1000000) == 0);
    close(set);
    return ns;
}

static int64_t way_epoll_pwait_mask(int64_t ns) {
    struct epoll_event event;
    sigset_t mask = only(SIGUSR1);
    int set = epoll_create1(EPOLL_CLOEXEC);
    MUST(set >= 0);
    MUST(epoll_pwait(set, &event, 1, ns / 1000000, &mask) == 0);
    close(set);
    return ns;
}

static int64_t way_epoll_pwait2(int64_t ns) {
    struct epoll_event event;
    struct timespec t = timespec_of(ns);
    int set = epoll_create1(EPOLL_CLOEXEC);
    MUST(set >= 0);
    MUST(syscall(SYS_epoll_pwait2, set, &event, 1, WIDE(t), NULL, 0) == 0);
    close(set);
    return ns;
}

static int has_epoll_pwait2(void) {
    return syscall(SYS_epoll_pwait2, -1, NULL, 1, NULL, NULL, 0) == -1 && errno != ENOSYS;
}

static int64_t way_receive_timeout(int64_t ns) {
    struct timeval t = timeval_of(ns);
    char byte;
    MUST(setsockopt(quiet(), SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t) == 0);
    MUST(recv(quiet(), &byte, 1, 0) == -1 && errno == EAGAIN);
    t = timeval_of(0);
    MUST(setsockopt(quiet(), SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t) == 0);
    return ns;
}

static int64_t way_send_timeout(int64_t ns) {
    int ends[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    static char much[1 << 16];
    while (send(ends[0], much, sizeof much, MSG_DONTWAIT) > 0) {
    }
    struct timeval t = timeval_of(ns);
    MUST(setsockopt(ends[0], SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t) == 0);
    MUST(send(ends[0], much, sizeof much, 0) == -1 && errno == EAGAIN);
    close(ends[0]);
    close(ends[1]);
    return ns;
}

static mqd_t queue_of(int flags) {
    char name[64];
    snprintf(name, sizeof name, "/elsewhen-waits-%d", getpid());
    struct mq_attr small = {.mq_maxmsg = 1, .mq_msgsize = 8};
    mqd_t queue = mq_open(name, O_CREAT | O_CLOEXEC | flags, 0600, &small);
    if (queue != (mqd_t)-1)
        mq_unlink(name);
    return queue;
}

static int has_queues(void) {
    mqd_t queue = queue_of(O_RDWR);
    if (queue == (mqd_t)-1)
        return 0;
    mq_close(queue);
    return 1;
}

static int64_t way_mq_timedreceive(int64_t ns) {
    char message[8];
    mqd_t queue = queue_of(O_RDWR);
    MUST(queue != (mqd_t)-1);
    struct timespec t = in(CLOCK_REALTIME, ns);
    MUST(mq_timedreceive(queue, message, sizeof message, NULL, &t) == -1 && errno == ETIMEDOUT);
    mq_close(queue);
    return ns;
}

static int64_t way_mq_timedsend(int64_t ns) {
    mqd_t queue = queue_of(O_RDWR);
    MUST(queue != (mqd_t)-1);
    MUST(mq_send(queue, "full", 4, 0) == 0);
    struct timespec t = in(CLOCK_REALTIME, ns);
    MUST(mq_timedsend(queue, "more", 4, 0, &t) == -1 && errno == ETIMEDOUT);
    mq_close(queue);
    return ns;
}

static int64_t way_semtimedop(int64_t ns) {
    int set = semget(IPC_PRIVATE, 1, 0600);
    MUST(set >= 0);
    struct sembuf down = {.sem_op = -1};
    struct timespec t = timespec_of(ns);
    MUST(semtimedop(set, &down, 1, &t) == -1 && errno == EAGAIN);
    semctl(set, 0, IPC_RMID);
    return ns;
}

static int has_semaphores(void) {
    int set = semget(IPC_PRIVATE, 1, 0600);
    return set >= 0 && semctl(set, 0, IPC_RMID) == 0;
}

static int has_aio(void) {
    aio_context_t context = 0;
    return syscall(SYS_io_setup, 1, &context) == 0 && syscall(SYS_io_destroy, context) == 0;
}

static int64_t wait_for_event(long call, int64_t ns) {
    aio_context_t context = 0;
    struct io_event event;
    struct timespec t = timespec_of(ns);
    MUST(syscall(SYS_io_setup, 1, &context) == 0);
    MUST(syscall(call, context, 1, 1, &event, &t, NULL) == 0);
    syscall(SYS_io_destroy, context);
    return ns;
}

static int64_t way_io_getevents(int64_t ns) { return wait_for_event(SYS_io_getevents, ns); }
static int64_t way_io_pgetevents(int64_t ns) { return wait_for_event(SYS_io_pgetevents, ns); }

// Timer descriptors.

enum how { READ, POLL, EPOLL };

static int64_t expirations_of(int timer, enum how how) {
    uint64_t count = 0;
    struct pollfd polled = {.fd = timer, .events = POLLIN};
    struct epoll_event event = {.events = EPOLLIN};
    int set;
    switch (how) {
    case READ:
        break;
    case POLL:
        MUST(poll(&polled, 1, -1) == 1 && polled.revents == POLLIN);
        break;
    case EPOLL:
        set = epoll_create1(EPOLL_CLOEXEC);
        MUST(set >= 0 && epoll_ctl(set, EPOLL_CTL_ADD, timer, &event) == 0);
        MUST(epoll_wait(set, &event, 1, -1) == 1);
        close(set);
        break;
    }
    MUST(read(timer, &count, sizeof count) == sizeof count && count > 0);
    return count;
}

static int64_t wait_on_timerfd(clockid_t clock, int flags, int64_t at_or_for, enum how how) {
    int timer = timerfd_create(clock, TFD_CLOEXEC);
    MUST(timer >= 0);
    struct itimerspec once = {.it_value = timespec_of(at_or_for)};
    MUST(timerfd_settime(timer, flags, &once, NULL) == 0);
    MUST(expirations_of(timer, how) == 1);
    return close(timer);
}

static int64_t timerfd_in(clockid_t clock, int64_t ns, enum how how) {
    wait_on_timerfd(clock, 0, ns, how);
    return ns;
}

static int64_t timerfd_at(clockid_t clock, int64_t ns, enum how how) {
    wait_on_timerfd(clock, TFD_TIMER_ABSTIME, now(clock) + ns, how);
    return ns;
}

static int64_t way_timerfd_monotonic(int64_t ns) { return timerfd_in(CLOCK_MONOTONIC, ns, READ); }
static int64_t way_timerfd_realtime(int64_t ns) { return timerfd_in(CLOCK_REALTIME, ns, POLL); }
static int64_t way_timerfd_boottime(int64_t ns) { return timerfd_in(CLOCK_BOOTTIME, ns, EPOLL); }
static int64_t way_timerfd_at_monotonic(int64_t ns) { return timerfd_at(CLOCK_MONOTONIC, ns, POLL); }
static int64_t way_timerfd_at_realtime(int64_t ns) { return timerfd_at(CLOCK_REALTIME, ns, READ); }
static int64_t way_timerfd_at_realtime_epoll(int64_t ns) { return timerfd_at(CLOCK_REALTIME, ns, EPOLL); }
static int64_t way_timerfd_at_boottime(int64_t ns) { return timerfd_at(CLOCK_BOOTTIME, ns, READ); }

static int64_t way_timerfd_interval(int64_t ns) {
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    MUST(timer >= 0);
    struct itimerspec every = {.it_value = timespec_of(ns / 4), .it_interval = timespec_of(ns / 4)};
    MUST(timerfd_settime(timer, 0, &every, NULL) == 0);
    for (int64_t count = 0; count < 4;)
        count += expirations_of(timer, READ);
    close(timer);
    return ns / 4 * 4;
}

// The boundary after `earliest` of a length that is counted from 1970, as minutes are.
static int64_t boundary_after(int64_t earliest, int64_t length) { return (earliest / length + 1) * length; }

// As a cron daemon waits for its next minute, one of `ns` here; not for one that has all but come.
static int64_t way_timerfd_minute(int64_t ns) {
    int64_t start = now(CLOCK_REALTIME), next = boundary_after(start + ns / 2, ns);
    wait_on_timerfd(CLOCK_REALTIME, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, next, READ);
    return next - start;
}

// Timers that signal.

static int64_t way_setitimer(int64_t ns) {
    handle(SIGALRM, catch);
    sigset_t block = only(SIGALRM), old;
    sigprocmask(SIG_BLOCK, &block, &old);
    struct itimerval once = {.it_value = timeval_of(ns)};
    MUST(setitimer(ITIMER_REAL, &once, NULL) == 0);
    while (caught == 0)
        sigsuspend(&old);
    sigprocmask(SIG_SETMASK, &old, NULL);
    return ns;
}

static int64_t way_setitimer_interval(int64_t ns) {
    handle(SIGALRM, catch);
    sigset_t block = only(SIGALRM), old;
    sigprocmask(SIG_BLOCK, &block, &old);
    struct itimerval every = {.it_value = timeval_of(ns / 4), .it_interval = timeval_of(ns / 4)};
    MUST(setitimer(ITIMER_REAL, &every, NULL) == 0);
    while (caught < 4)
        sigsuspend(&old);
    every = (struct itimerval){0};
    MUST(setitimer(ITIMER_REAL, &every, NULL) == 0);
    sigprocmask(SIG_SETMASK, &old, NULL);
    return ns / 4 * 4;
}

static int64_t way_alarm(int64_t ns) {
    sigset_t block = only(SIGALRM), old;
    handle(SIGALRM, catch);
    sigprocmask(SIG_BLOCK, &block, &old);
    alarm(seconds_of(ns));
    while (caught == 0)
        sigsuspend(&old);
    sigprocmask(SIG_SETMASK, &old, NULL);
    return seconds_of(ns) * NS_IN_S;
}

static int64_t way_sigtimedwait(int64_t ns) {
    sigset_t set = only(SIGUSR2), old;
    sigprocmask(SIG_BLOCK, &set, &old);
    struct timespec t = timespec_of(ns);
    MUST(sigtimedwait(&set, NULL, &t) == -1 && errno == EAGAIN);
    sigprocmask(SIG_SETMASK, &old, NULL);
    return ns;
}

static int64_t wait_on_timer(clockid_t clock, int flags, int64_t ns) {
    sigset_t set = only(SIGUSR1), old;
    sigprocmask(SIG_BLOCK, &set, &old);
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    MUST(timer_create(clock, &event, &timer) == 0);
    struct itimerspec once = {.it_value = flags ? in(clock, ns) : timespec_of(ns)};
    MUST(timer_settime(timer, flags, &once, NULL) == 0);
    siginfo_t info;
    MUST(sigwaitinfo(&set, &info) == SIGUSR1 && info.si_code == SI_TIMER);
    MUST(timer_delete(timer) == 0);
    sigprocmask(SIG_SETMASK, &old, NULL);
    return ns;
}

static int64_t way_timer_realtime(int64_t ns) { return wait_on_timer(CLOCK_REALTIME, 0, ns); }
static int64_t way_timer_monotonic(int64_t ns) { return wait_on_timer(CLOCK_MONOTONIC, 0, ns); }
static int64_t way_timer_at_realtime(int64_t ns) { return wait_on_timer(CLOCK_REALTIME, TIMER_ABSTIME, ns); }
static int64_t way_timer_at_monotonic(int64_t ns) { return wait_on_timer(CLOCK_MONOTONIC, TIMER_ABSTIME, ns); }
static int64_t way_timer_at_boottime(int64_t ns) { return wait_on_timer(CLOCK_BOOTTIME, TIMER_ABSTIME, ns); }

static int64_t way_timer_interval(int64_t ns) {
    handle(SIGUSR1, catch);
    sigset_t block = only(SIGUSR1), old;
    sigprocmask(SIG_BLOCK, &block, &old);
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    MUST(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    struct itimerspec every = {.it_value = timespec_of(ns / 4), .it_interval = timespec_of(ns / 4)};
    MUST(timer_settime(timer, 0, &every, NULL) == 0);
    // A signal that is late stands for those that it overran.
    for (int count = 0; count < 4;) {
        int before = caught;
        sigset_t none = nothing();
        sigsuspend(&none);
        if (caught > before)
            count += 1 + timer_getoverrun(timer);
    }
    MUST(timer_delete(timer) == 0);
    sigprocmask(SIG_SETMASK, &old, NULL);
    return ns / 4 * 4;
}

static sem_t notified;

static void notify(union sigval value) {
    (void)value;
    sem_post(&notified);
}

static int64_t way_timer_thread(int64_t ns) {
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = notify};
    MUST(sem_init(&notified, 0, 0) == 0);
    MUST(timer_create(CLOCK_REALTIME, &event, &timer) == 0);
    struct itimerspec once = {.it_value = in(CLOCK_REALTIME, ns)};
    MUST(timer_settime(timer, TIMER_ABSTIME, &once, NULL) == 0);
    while (sem_wait(&notified) != 0) {
    }
    MUST(timer_delete(timer) == 0);
    return ns;
}

static const struct {
    const char *name;
    int64_t (*wait)(int64_t ns);
    // Whether it ends by realtime.
    int realtime;
    // Tells whether the kernel has it; all have where there is none.
    int (*has)(void);
} ways[] = {
    {"nanosleep", way_nanosleep},
    {"syscall-nanosleep", way_syscall_nanosleep},
    {"usleep", way_usleep},
    {"sleep", way_sleep},
    {"thrd_sleep", way_thrd_sleep},
    {"sleep-realtime", way_sleep_realtime},
    {"sleep-monotonic", way_sleep_monotonic},
    {"sleep-boottime", way_sleep_boottime},
    {"sleep-until-realtime", way_sleep_until_realtime, 1},
    {"sleep-until-monotonic", way_sleep_until_monotonic},
    {"sleep-until-boottime", way_sleep_until_boottime},
    {"sleep-until-tai", way_sleep_until_tai, 1},
    {"cond_timedwait-realtime", way_cond_timedwait_realtime, 1},
    {"cond_timedwait-monotonic", way_cond_timedwait_monotonic},
    {"cnd_timedwait", way_cnd_timedwait, 1},
    {"sem_timedwait", way_sem_timedwait, 1},
    {"mutex_timedlock", way_mutex_timedlock, 1},
    {"mutex_timedlock-pi", way_mutex_pi_timedlock, 1},
    {"rwlock_timedrdlock", way_rwlock_timedrdlock, 1},
    {"mtx_timedlock", way_mtx_timedlock, 1},
#ifdef __GLIBC__
    {"cond_clockwait", way_cond_clockwait},
    {"sem_clockwait", way_sem_clockwait},
    {"mutex_clocklock", way_mutex_clocklock},
    {"rwlock_clockwrlock", way_rwlock_clockwrlock},
    {"timedjoin", way_timedjoin, 1},
#endif
    {"futex-wait", way_futex_wait},
    {"futex-wait-shared", way_futex_wait_shared},
    {"futex-bitset-monotonic", way_futex_bitset_monotonic},
    {"futex-bitset-realtime", way_futex_bitset_realtime, 1},
    {"futex-lock-pi", way_futex_lock_pi, 1},
    {"futex-lock-pi2", way_futex_lock_pi2, 0, has_futex_lock_pi2},
    {"futex-waitv-monotonic", way_futex_waitv_monotonic, 0, has_futex_waitv},
    {"futex-waitv-realtime", way_futex_waitv_realtime, 1, has_futex_waitv},
    {"futex2-wait-monotonic", way_futex2_wait_monotonic, 0, has_futex_wait},
    {"futex2-wait-realtime", way_futex2_wait_realtime, 1, has_futex_wait},
    {"poll", way_poll},
    {"ppoll", way_ppoll},
    {"ppoll-mask", way_ppoll_mask},
    {"select", way_select},
#ifndef NO_SUCH_CALL
    {"syscall-select", way_syscall_select},
#endif
    {"pselect-mask", way_pselect_mask},
    {"epoll_wait", way_epoll_wait},
    {"epoll_pwait-mask", way_epoll_pwait_mask},
    {"epoll_pwait2", way_epoll_pwait2, 0, has_epoll_pwait2},
    {"SO_RCVTIMEO", way_receive_timeout},
    {"SO_SNDTIMEO", way_send_timeout},
    {"mq_timedreceive", way_mq_timedreceive, 1, has_queues},
    {"mq_timedsend", way_mq_timedsend, 1, has_queues},
    {"semtimedop", way_semtimedop, 0, has_semaphores},
    {"io_getevents", way_io_getevents, 0, has_aio},
    {"io_pgetevents", way_io_pgetevents, 0, has_aio},
    {"timerfd-monotonic", way_timerfd_monotonic},
    {"timerfd-realtime-poll", way_timerfd_realtime},
    {"timerfd-boottime-epoll", way_timerfd_boottime},
    {"timerfd-at-monotonic-poll", way_timerfd_at_monotonic},
    {"timerfd-at-realtime", way_timerfd_at_realtime, 1},
    {"timerfd-at-realtime-epoll", way_timerfd_at_realtime_epoll, 1},
    {"timerfd-at-boottime", way_timerfd_at_boottime},
    {"timerfd-interval", way_timerfd_interval},
    {"timerfd-minute", way_timerfd_minute, 1},
    {"setitimer", way_setitimer},
    {"setitimer-interval", way_setitimer_interval},
    {"alarm", way_alarm},
    {"sigtimedwait", way_sigtimedwait},
    {"timer-realtime", way_timer_realtime},
    {"timer-monotonic", way_timer_monotonic},
    {"timer-at-realtime", way_timer_at_realtime, 1},
    {"timer-at-monotonic", way_timer_at_monotonic},
    {"timer-at-boottime", way_timer_at_boottime},
    {"timer-interval", way_timer_interval},
    {"timer-at-realtime-thread", way_timer_thread, 1},
};

#define WAYS (sizeof ways / sizeof *ways)

static void cron(int count) {
    current = "cron";
    int timer = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC);
    MUST(timer >= 0);
    for (; count > 0; count--) {
        int64_t minute = boundary_after(now(CLOCK_REALTIME), 60 * NS_IN_S);
        struct itimerspec at = {.it_value = timespec_of(minute)};
        MUST(timerfd_settime(timer, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &at, NULL) == 0);
        expirations_of(timer, POLL);
        printf("%lld %lld\n", (long long)minute, (long long)now(CLOCK_REALTIME));
        fflush(stdout);
    }
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "cron") == 0) {
        cron(atoi(argv[2]));
        return 0;
    }
    prepare();
    printf("ways");
    for (size_t i = 0; i < WAYS; i++)
        if (ways[i].has == NULL || ways[i].has())
            printf(" %s%s", ways[i].name, ways[i].realtime ? ":r" : "");
    printf("\n");
    fflush(stdout);
    char name[64];
    long long ns;
    while (scanf("%63s %lld", name, &ns) == 2) {
        size_t i = 0;
        while (i < WAYS && strcmp(ways[i].name, name) != 0)
            i++;
        MUST(i < WAYS);
        current = ways[i].name;
        int64_t monotonic = now(CLOCK_MONOTONIC), realtime = now(CLOCK_REALTIME);
        int64_t asked = ways[i].wait(ns);
        realtime = now(CLOCK_REALTIME) - realtime;
        monotonic = now(CLOCK_MONOTONIC) - monotonic;
        printf("%lld %lld %lld\n", (long long)asked, (long long)monotonic, (long long)realtime);
        fflush(stdout);
    }
    // What holds the locks never ends by itself.
    _exit(0);
}
