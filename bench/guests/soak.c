// Waits in every way there is, over and over, and says in shared memory what it waits for and how each wait ended.
//
//   soak FILE FIRST THREADS SEED all|no-timerfd
//
// FILE is shared with whoever changes the clocks meanwhile and judges the waits; FIRST is the number of the first of
// the THREADS slots in it that are this process's. The names of the kinds of waits are printed in one line, in the
// order of their numbers. The program ends with its standard input.
//
// Most threads wait alone, for a time that passes or that somebody's step of the clock reaches. The others go in
// pairs: one waits for a time far away, the other one wakes it.
//
// Time stamps are the processor's counter, which is the same for everybody.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif

// From linux/futex.h, which not every C library comes with.
#define FUTEX_WAIT 0
#define FUTEX_WAKE 1
#define FUTEX_WAIT_BITSET 9
#define FUTEX_CLOCK_REALTIME 256

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

// musl makes a duration of a deadline that is not a sleep's; a step does not concern it then.
#ifdef __GLIBC__
#define DEADLINES_ARE_KEPT 1
#else
#define DEADLINES_ARE_KEPT 0
#endif

#define NS_IN_S 1000000000LL
#define NS_IN_MS 1000000LL

#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "soak: not so: %s (%s)\n", #condition, strerror(errno));                                   \
            _exit(1);                                                                                                  \
        }                                                                                                              \
    } while (0)

// The shared memory; whoever judges has the same layout.

#define RECORDS 2048

enum form { ABSOLUTE, RELATIVE, APPROXIMATE };
enum timer { NONE, POSIX, DESCRIPTOR };

// A wait that is over.
struct record {
    // The kind; the form from bit 8 on, the clock from bit 16 on, how the clock was read from bit 24 on, and whether it
    // is a timer in bit 32.
    uint64_t what;
    // 0 where the time was over, 1 where it was woken, 2 where nobody knows why it ended, an error number above 1000.
    uint64_t result;
    // By the clock, or the duration.
    int64_t deadline;
    uint64_t began;
    uint64_t ended;
    // What the clock read before and after.
    int64_t before;
    int64_t after;
    // After that reading.
    uint64_t read;
    // When it was woken; 0 where it was not.
    uint64_t woken;
};

struct slot {
    // Odd while the thread waits.
    _Atomic uint64_t sequence;
    _Atomic uint64_t tid;
    _Atomic uint64_t what;
    _Atomic int64_t deadline;
    _Atomic uint64_t began;
    _Atomic uint64_t woken;
    // Records written, records taken, and records for which there was no room.
    _Atomic uint64_t head;
    _Atomic uint64_t tail;
    _Atomic uint64_t dropped;
    // How often a clock went back, and the last time: clock and way, what had been read before, what was read then.
    _Atomic uint64_t backwards;
    _Atomic uint64_t backwards_what;
    _Atomic int64_t backwards_from;
    _Atomic int64_t backwards_to;
    // Counts whatever the thread does.
    _Atomic uint64_t beat;
    uint64_t unused[2];
    struct record records[RECORDS];
};

#define UPWARD 4

struct shared {
    // The latest readings by anybody of the clocks that only go up.
    _Atomic int64_t latest[UPWARD];
    uint64_t unused[512 - UPWARD];
    struct slot slots[];
};

_Static_assert(sizeof(struct record) == 72, "as the other side has it");
_Static_assert(sizeof(struct slot) == 128 + RECORDS * 72, "as the other side has it");
_Static_assert(offsetof(struct shared, slots) == 4096, "as the other side has it");

static struct shared *shared;
static int with_timerfd;

// A thread.
struct self {
    int index;
    struct slot *slot;
    uint64_t random;
    struct pair *pair;
    int side;
    int pipe[2];
    int epoll;
    mqd_t queue;
    // On REALTIME, MONOTONIC and BOOTTIME.
    int timerfds[3];
    // On REALTIME and MONOTONIC.
    timer_t timers[2];
    sem_t semaphore;
    _Atomic uint32_t word;
    pthread_mutex_t mutex;
    // On REALTIME and MONOTONIC.
    pthread_cond_t conditions[2];
    // Somebody has signalled the condition.
    int signalled;
};

struct pair {
    uint64_t random;
    _Atomic uint64_t round;
    struct self *sides[2];
};

static uint64_t next(uint64_t *random) {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    return *random * 0x2545f4914f6cdd1dULL >> 16;
}

static int64_t between(uint64_t *random, int64_t low, int64_t high) { return low + next(random) % (high - low); }

// Between the two, with every order of magnitude as likely as any other.
static int64_t about(uint64_t *random, int64_t low, int64_t high) {
    int64_t top = low;
    while (top < high && next(random) % 8 != 0) {
        top *= 2;
    }
    return top >= high ? between(random, low, high) : between(random, low, top + 1);
}

static uint64_t ticks(void) {
    unsigned unused;
    uint64_t now = __rdtscp(&unused);
    _mm_lfence();
    return now;
}

static struct timespec timespec_of(int64_t ns) { return (struct timespec){ns / NS_IN_S, ns % NS_IN_S}; }

// A system call by an instruction of this program's own.
static long inline_call(long number, long a, long b, long c, long d, long e, long f) {
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

// Reads a clock by the vDSO, by the C library's system call, or by one of our own.
static int64_t read_by(clockid_t clock, int way) {
    struct timespec time;
    switch (way) {
    case 0:
        MUST(clock_gettime(clock, &time) == 0);
        break;
    case 1:
        MUST(syscall(SYS_clock_gettime, clock, &time) == 0);
        break;
    default:
        MUST(inline_call(SYS_clock_gettime, clock, (long)&time, 0, 0, 0, 0) == 0);
    }
    return time.tv_sec * NS_IN_S + time.tv_nsec;
}

// Where the latest reading of a clock that only goes up is kept, or -1.
static int place_of(clockid_t clock) {
    switch (clock) {
    case CLOCK_MONOTONIC:
        return 0;
    case CLOCK_BOOTTIME:
        return 1;
    case CLOCK_MONOTONIC_RAW:
        return 2;
    case CLOCK_MONOTONIC_COARSE:
        return 3;
    default:
        return -1;
    }
}

// Reads a clock, and sees to it that it does not read less than somebody else has read before.
static int64_t now(struct self *self, clockid_t clock, int way) {
    int place = place_of(clock);
    if (place < 0) {
        return read_by(clock, way);
    }
    int64_t latest = atomic_load(&shared->latest[place]);
    int64_t reading = read_by(clock, way);
    if (reading < latest) {
        atomic_store(&self->slot->backwards_what, clock | way << 8);
        atomic_store(&self->slot->backwards_from, latest);
        atomic_store(&self->slot->backwards_to, reading);
        atomic_fetch_add(&self->slot->backwards, 1);
    }
    while (reading > latest && !atomic_compare_exchange_weak(&shared->latest[place], &latest, reading)) {
    }
    return reading;
}

// How a wait ends.
enum { OVER = 0, WOKEN = 1, SPURIOUS = 2, FAILED = 1000 };

static int over_if(int error, int expected) { return error == expected ? OVER : FAILED + error; }

// What each kind does: waits until `end` by its clock, or for `ns`. A thread that is to be woken is woken in the way
// that the kind names.

static int sleep_until(struct self *self, clockid_t clock, int64_t end) {
    struct timespec time = timespec_of(end);
    int error = next(&self->random) % 2
                    ? clock_nanosleep(clock, TIMER_ABSTIME, &time, NULL)
                    : (int)-inline_call(SYS_clock_nanosleep, clock, TIMER_ABSTIME, (long)&time, 0, 0, 0);
    return over_if(error, 0);
}

static int sleep_realtime(struct self *self, int64_t end, int64_t ns) {
    (void)ns;
    return sleep_until(self, CLOCK_REALTIME, end);
}

static int sleep_monotonic(struct self *self, int64_t end, int64_t ns) {
    (void)ns;
    return sleep_until(self, CLOCK_MONOTONIC, end);
}

static int sleep_boottime(struct self *self, int64_t end, int64_t ns) {
    (void)ns;
    return sleep_until(self, CLOCK_BOOTTIME, end);
}

static int sleep_for(struct self *self, int64_t end, int64_t ns) {
    (void)self, (void)end;
    struct timespec time = timespec_of(ns);
    return nanosleep(&time, NULL) == 0 ? OVER : FAILED + errno;
}

static int sleep_for_on_a_clock(struct self *self, int64_t end, int64_t ns) {
    (void)end;
    static const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME};
    struct timespec time = timespec_of(ns);
    return over_if(clock_nanosleep(clocks[next(&self->random) % 3], 0, &time, NULL), 0);
}

static int futex(struct self *self, int operation, int64_t ns) {
    if (atomic_exchange(&self->word, 0) != 0) {
        return WOKEN;
    }
    struct timespec time = timespec_of(ns);
    long result = next(&self->random) % 2
                      ? inline_call(SYS_futex, (long)&self->word, operation, 0, (long)&time, 0, -1)
                      : syscall(SYS_futex, &self->word, operation, 0, &time, NULL, -1) == 0 ? 0 : -errno;
    if (atomic_exchange(&self->word, 0) != 0) {
        return WOKEN;
    }
    return result == 0 ? SPURIOUS : over_if(-result, ETIMEDOUT);
}

static int futex_realtime(struct self *self, int64_t end, int64_t ns) {
    (void)ns;
    return futex(self, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, end);
}

static int futex_monotonic(struct self *self, int64_t end, int64_t ns) {
    (void)ns;
    return futex(self, FUTEX_WAIT_BITSET, end);
}

static int futex_for(struct self *self, int64_t end, int64_t ns) {
    (void)end;
    return futex(self, FUTEX_WAIT, ns);
}

static void wake_futex(struct self *other) {
    atomic_store(&other->word, 1);
    MUST(syscall(SYS_futex, &other->word, FUTEX_WAKE, 1, NULL, NULL, 0) >= 0);
}

static int condition(struct self *self, pthread_cond_t *condition, int64_t end) {
    struct timespec time = timespec_of(end);
    int error = 0, spurious = 0;
    MUST(pthread_mutex_lock(&self->mutex) == 0);
    if (!self->signalled) {
        error = pthread_cond_timedwait(condition, &self->mutex, &time);
        spurious = error == 0 && !self->signalled;
    }
    int signalled = self->signalled;
    self->signalled = 0;
    MUST(pthread_mutex_unlock(&self->mutex) == 0);
    return signalled ? WOKEN : spurious ? SPURIOUS : over_if(error, ETIMEDOUT);
}

static int condition_realtime(struct self *self, int64_t end, int64_t ns) {
    (void)ns;
    return condition(self, &self->conditions[0], end);
}

static int condition_monotonic(struct self *self, int64_t end, int64_t ns) {
    (void)ns;
    return condition(self, &self->conditions[1], end);
}

static void wake_condition(struct self *other, pthread_cond_t *condition) {
    MUST(pthread_mutex_lock(&other->mutex) == 0);
    other->signalled = 1;
    MUST(pthread_mutex_unlock(&other->mutex) == 0);
    MUST(pthread_cond_signal(condition) == 0);
}

static void wake_condition_realtime(struct self *other) { wake_condition(other, &other->conditions[0]); }

static void wake_condition_monotonic(struct self *other) { wake_condition(other, &other->conditions[1]); }

static int semaphore(struct self *self, int64_t end, int64_t ns) {
    (void)ns;
    struct timespec time = timespec_of(end);
    return sem_timedwait(&self->semaphore, &time) == 0 ? WOKEN : over_if(errno, ETIMEDOUT);
}

static void wake_semaphore(struct self *other) { MUST(sem_post(&other->semaphore) == 0); }

// From what a call returned that says how many descriptors are ready.
static int ready(struct self *self, int count) {
    char byte;
    if (count == 0) {
        return OVER;
    }
    int error = errno;
    if (count == -1) {
        return FAILED + error;
    }
    MUST(read(self->pipe[0], &byte, 1) == 1);
    return WOKEN;
}

static int ms_of(int64_t ns) { return (ns + NS_IN_MS - 1) / NS_IN_MS; }

static int poll_for(struct self *self, int64_t end, int64_t ns) {
    (void)end;
    struct pollfd one = {self->pipe[0], POLLIN, 0};
    return ready(self, poll(&one, 1, ms_of(ns)));
}

static int ppoll_for(struct self *self, int64_t end, int64_t ns) {
    (void)end;
    struct pollfd one = {self->pipe[0], POLLIN, 0};
    struct timespec time = timespec_of(ns);
    return ready(self, ppoll(&one, 1, &time, NULL));
}

static int select_for(struct self *self, int64_t end, int64_t ns) {
    (void)end;
    fd_set set;
    FD_ZERO(&set);
    FD_SET(self->pipe[0], &set);
    struct timeval time = {ns / NS_IN_S, (ns % NS_IN_S + 999) / 1000};
    return ready(self, select(self->pipe[0] + 1, &set, NULL, NULL, &time));
}

static int pselect_for(struct self *self, int64_t end, int64_t ns) {
    (void)end;
    fd_set set;
    FD_ZERO(&set);
    FD_SET(self->pipe[0], &set);
    struct timespec time = timespec_of(ns);
    return ready(self, pselect(self->pipe[0] + 1, &set, NULL, NULL, &time, NULL));
}

static int epoll_for(struct self *self, int64_t end, int64_t ns) {
    (void)end;
    struct epoll_event event;
    return ready(self, epoll_wait(self->epoll, &event, 1, ms_of(ns)));
}

static int epoll_pwait2_for(struct self *self, int64_t end, int64_t ns) {
    (void)end;
    struct epoll_event event;
    struct timespec time = timespec_of(ns);
    return ready(self, syscall(SYS_epoll_pwait2, self->epoll, &event, 1, &time, NULL, 0));
}

static void wake_pipe(struct self *other) { MUST(write(other->pipe[1], "", 1) == 1); }

static int receive(struct self *self, int64_t end, int64_t ns) {
    (void)ns;
    char message[8];
    struct timespec time = timespec_of(end);
    return mq_timedreceive(self->queue, message, sizeof message, NULL, &time) >= 0 ? WOKEN : over_if(errno, ETIMEDOUT);
}

static void wake_queue(struct self *other) { MUST(mq_send(other->queue, "", 1, 0) == 0); }

static int signal_for(struct self *self, int64_t end, int64_t ns) {
    (void)self, (void)end;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    struct timespec time = timespec_of(ns);
    int signal = sigtimedwait(&set, NULL, &time);
    return signal == SIGUSR2 ? WOKEN : signal == -1 ? over_if(errno, EAGAIN) : FAILED + 500 + signal;
}

static void wake_by_signal(struct self *other) {
    MUST(syscall(SYS_tgkill, getpid(), atomic_load(&other->slot->tid), SIGUSR2) == 0);
}

// Timers, which go on whether anybody waits or not.

static int expired(int fd, int flags, int64_t ns) {
    uint64_t count = 0;
    struct itimerspec time = {.it_value = timespec_of(ns)};
    MUST(timerfd_settime(fd, flags, &time, NULL) == 0);
    long got = read(fd, &count, sizeof count);
    return got == -1 ? FAILED + errno : got == sizeof count && count == 1 ? OVER : FAILED + 500;
}

static int timerfd_realtime(struct self *self, int64_t end, int64_t ns) {
    (void)ns;
    return expired(self->timerfds[0], TFD_TIMER_ABSTIME, end);
}

static int timerfd_monotonic(struct self *self, int64_t end, int64_t ns) {
    (void)ns;
    return expired(self->timerfds[1], TFD_TIMER_ABSTIME, end);
}

static int timerfd_boottime(struct self *self, int64_t end, int64_t ns) {
    (void)ns;
    return expired(self->timerfds[2], TFD_TIMER_ABSTIME, end);
}

static int timerfd_for(struct self *self, int64_t end, int64_t ns) {
    (void)end;
    return expired(self->timerfds[next(&self->random) % 3], 0, ns);
}

static int signalled(timer_t timer, int flags, int64_t ns) {
    struct itimerspec time = {.it_value = timespec_of(ns)};
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    MUST(timer_settime(timer, flags, &time, NULL) == 0);
    int signal = sigwaitinfo(&set, NULL);
    return signal == SIGUSR1 ? OVER : signal == -1 ? FAILED + errno : FAILED + 500 + signal;
}

static int timer_realtime(struct self *self, int64_t end, int64_t ns) {
    (void)ns;
    return signalled(self->timers[0], TIMER_ABSTIME, end);
}

static int timer_monotonic(struct self *self, int64_t end, int64_t ns) {
    (void)ns;
    return signalled(self->timers[1], TIMER_ABSTIME, end);
}

static int timer_for(struct self *self, int64_t end, int64_t ns) {
    (void)end;
    return signalled(self->timers[next(&self->random) % 2], 0, ns);
}

// Where the C library is free to make a duration of a deadline.
#define BY_LIBRARY (DEADLINES_ARE_KEPT ? ABSOLUTE : APPROXIMATE)

static const struct kind {
    const char *name;
    enum form form;
    clockid_t clock;
    int (*wait)(struct self *, int64_t end, int64_t ns);
    void (*wake)(struct self *);
    enum timer timer;
} KINDS[] = {
    {"sleep-realtime", ABSOLUTE, CLOCK_REALTIME, sleep_realtime, NULL, NONE},
    {"sleep-monotonic", ABSOLUTE, CLOCK_MONOTONIC, sleep_monotonic, NULL, NONE},
    {"sleep-boottime", ABSOLUTE, CLOCK_BOOTTIME, sleep_boottime, NULL, NONE},
    {"nanosleep", RELATIVE, CLOCK_MONOTONIC, sleep_for, NULL, NONE},
    {"clock-nanosleep", RELATIVE, CLOCK_MONOTONIC, sleep_for_on_a_clock, NULL, NONE},
    {"futex-realtime", ABSOLUTE, CLOCK_REALTIME, futex_realtime, wake_futex, NONE},
    {"futex-monotonic", ABSOLUTE, CLOCK_MONOTONIC, futex_monotonic, wake_futex, NONE},
    {"futex-for", RELATIVE, CLOCK_MONOTONIC, futex_for, wake_futex, NONE},
    {"cond-realtime", BY_LIBRARY, CLOCK_REALTIME, condition_realtime, wake_condition_realtime, NONE},
    {"cond-monotonic", BY_LIBRARY, CLOCK_MONOTONIC, condition_monotonic, wake_condition_monotonic, NONE},
    {"semaphore", BY_LIBRARY, CLOCK_REALTIME, semaphore, wake_semaphore, NONE},
    {"poll", RELATIVE, CLOCK_MONOTONIC, poll_for, wake_pipe, NONE},
    {"ppoll", RELATIVE, CLOCK_MONOTONIC, ppoll_for, wake_pipe, NONE},
    {"select", RELATIVE, CLOCK_MONOTONIC, select_for, wake_pipe, NONE},
    {"pselect", RELATIVE, CLOCK_MONOTONIC, pselect_for, wake_pipe, NONE},
    {"epoll", RELATIVE, CLOCK_MONOTONIC, epoll_for, wake_pipe, NONE},
    {"epoll-pwait2", RELATIVE, CLOCK_MONOTONIC, epoll_pwait2_for, wake_pipe, NONE},
    {"mq", ABSOLUTE, CLOCK_REALTIME, receive, wake_queue, NONE},
    {"sigtimedwait", RELATIVE, CLOCK_MONOTONIC, signal_for, wake_by_signal, NONE},
    {"timerfd-realtime", ABSOLUTE, CLOCK_REALTIME, timerfd_realtime, NULL, DESCRIPTOR},
    {"timerfd-monotonic", ABSOLUTE, CLOCK_MONOTONIC, timerfd_monotonic, NULL, DESCRIPTOR},
    {"timerfd-boottime", ABSOLUTE, CLOCK_BOOTTIME, timerfd_boottime, NULL, DESCRIPTOR},
    {"timerfd-for", RELATIVE, CLOCK_MONOTONIC, timerfd_for, NULL, DESCRIPTOR},
    {"timer-realtime", ABSOLUTE, CLOCK_REALTIME, timer_realtime, NULL, POSIX},
    {"timer-monotonic", ABSOLUTE, CLOCK_MONOTONIC, timer_monotonic, NULL, POSIX},
    {"timer-for", RELATIVE, CLOCK_MONOTONIC, timer_for, NULL, POSIX},
};

#define KIND_COUNT (int)(sizeof KINDS / sizeof *KINDS)

// Waits once, for so long by the clock of the kind, and says how it ended.
static int wait_once(struct self *self, int number, int64_t ns) {
    const struct kind *kind = &KINDS[number];
    struct slot *slot = self->slot;
    int way = next(&self->random) % 3;
    int64_t before = now(self, kind->clock, way);
    int64_t end = before + ns;
    uint64_t what = (uint64_t)number | (uint64_t)kind->form << 8 | (uint64_t)kind->clock << 16 | (uint64_t)way << 24 |
                    (uint64_t)(kind->timer != NONE) << 32;
    int64_t deadline = kind->form == RELATIVE ? ns : end;
    // Counted from after the reading of which the C library makes a duration again, or by which we do.
    uint64_t began = ticks();
    atomic_store(&slot->what, what);
    atomic_store(&slot->deadline, deadline);
    atomic_store(&slot->began, began);
    atomic_fetch_add(&slot->sequence, 1);
    int result = kind->wait(self, end, ns);
    uint64_t ended = ticks();
    uint64_t woken = atomic_load(&slot->woken);
    if (result == WOKEN) {
        atomic_store(&slot->woken, 0);
    }
    atomic_fetch_add(&slot->sequence, 1);
    int64_t after = now(self, kind->clock, way);
    uint64_t head = atomic_load(&slot->head);
    if (head - atomic_load(&slot->tail) >= RECORDS) {
        atomic_fetch_add(&slot->dropped, 1);
    } else {
        slot->records[head % RECORDS] =
            (struct record){what, result, deadline, began, ended, before, after, ticks(), woken};
        atomic_store(&slot->head, head + 1);
    }
    // Others look too: whoever reads more often finds more.
    now(self, CLOCK_MONOTONIC_RAW, way);
    now(self, CLOCK_MONOTONIC_COARSE, way);
    atomic_fetch_add(&slot->beat, 1);
    return result;
}

static int is_wanted(int number) { return with_timerfd || KINDS[number].timer != DESCRIPTOR; }

// Times that pass, and now and then one that comes only when somebody steps the clock.
static void wait_alone(struct self *self) {
    for (;;) {
        int number = next(&self->random) % KIND_COUNT;
        const struct kind *kind = &KINDS[number];
        // Where a deadline becomes a duration between two readings, a step between these may make it endless.
        if (!is_wanted(number) || kind->form == APPROXIMATE) {
            continue;
        }
        int64_t ns = about(&self->random, NS_IN_MS, 300 * NS_IN_MS);
        if (kind->form == ABSOLUTE && next(&self->random) % 50 == 0) {
            int64_t farthest = kind->clock == CLOCK_REALTIME ? 3 * 86400 : 3600;
            ns = about(&self->random, 5 * NS_IN_S, farthest * NS_IN_S);
        }
        wait_once(self, number, ns);
    }
}

// One of a pair: waits until it is woken, and wakes the other one, in turns.
static void wait_for_each_other(struct self *self) {
    struct pair *pair = self->pair;
    for (uint64_t round = 0;; round++) {
        uint64_t random = pair->random + round * 0x9e3779b97f4a7c15ULL;
        random ^= random >> 29;
        random |= 1;
        // Both sides find the same one. Turns are taken strictly: a second wake-up would be lost in the first.
        int number;
        do {
            number = next(&random) % KIND_COUNT;
        } while (!KINDS[number].wake);
        const struct kind *kind = &KINDS[number];
        if (round % 2 == (uint64_t)self->side) {
            struct self *other = pair->sides[!self->side];
            if (next(&self->random) % 4 != 0) {
                // By a sleep that is judged as well.
                wait_once(self, 3, about(&self->random, NS_IN_MS / 10, 30 * NS_IN_MS));
            }
            // Before it is woken: afterwards it may be waiting for something else already.
            atomic_store(&other->slot->woken, ticks());
            kind->wake(other);
            atomic_fetch_add(&self->slot->beat, 1);
            continue;
        }
        int64_t ns;
        do {
            ns = next(&self->random) % 4 == 0 ? about(&self->random, NS_IN_MS, 100 * NS_IN_MS)
                                              : about(&self->random, 3600 * NS_IN_S, 86400 * NS_IN_S);
        } while (wait_once(self, number, ns) != WOKEN);
    }
}

static void *live(void *argument) {
    struct self *self = argument;
    pid_t tid = syscall(SYS_gettid);
    atomic_store(&self->slot->tid, tid);
    for (int i = 0; i < 2; i++) {
        struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
        event.sigev_notify_thread_id = tid;
        MUST(timer_create(i == 0 ? CLOCK_REALTIME : CLOCK_MONOTONIC, &event, &self->timers[i]) == 0);
    }
    if (self->pair) {
        // The other one must be there to be woken.
        while (atomic_load(&self->pair->sides[!self->side]->slot->tid) == 0) {
            sched_yield();
        }
        wait_for_each_other(self);
    }
    wait_alone(self);
    return NULL;
}

static void prepare(struct self *self) {
    static const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME};
    char name[64];
    struct mq_attr queue = {.mq_maxmsg = 1, .mq_msgsize = 8};
    struct epoll_event event = {.events = EPOLLIN};
    MUST(pipe(self->pipe) == 0);
    self->epoll = epoll_create1(0);
    MUST(self->epoll >= 0);
    MUST(epoll_ctl(self->epoll, EPOLL_CTL_ADD, self->pipe[0], &event) == 0);
    snprintf(name, sizeof name, "/elsewhen-soak-%d-%d", getpid(), self->index);
    self->queue = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &queue);
    MUST(self->queue != (mqd_t)-1);
    MUST(mq_unlink(name) == 0);
    MUST(sem_init(&self->semaphore, 0, 0) == 0);
    MUST(pthread_mutex_init(&self->mutex, NULL) == 0);
    for (int i = 0; i < 3; i++) {
        self->timerfds[i] = timerfd_create(clocks[i], TFD_CLOEXEC);
        MUST(self->timerfds[i] >= 0);
    }
    for (int i = 0; i < 2; i++) {
        pthread_condattr_t attributes;
        MUST(pthread_condattr_init(&attributes) == 0);
        MUST(pthread_condattr_setclock(&attributes, clocks[i]) == 0);
        MUST(pthread_cond_init(&self->conditions[i], &attributes) == 0);
    }
}

int main(int argc, char **argv) {
    enum { MOST = 64, PAIRED = 6 };
    static struct self selves[MOST];
    static struct pair pairs[PAIRED / 2];
    MUST(argc == 6);
    int first = atoi(argv[2]), count = atoi(argv[3]);
    uint64_t seed = strtoull(argv[4], NULL, 10);
    with_timerfd = strcmp(argv[5], "all") == 0;
    MUST(count >= PAIRED && count <= MOST);

    int file = open(argv[1], O_RDWR | O_CLOEXEC);
    MUST(file >= 0);
    off_t length = lseek(file, 0, SEEK_END);
    shared = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    MUST(shared != MAP_FAILED);

    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    MUST(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);

    for (int i = 0; i < count; i++) {
        struct self *self = &selves[i];
        self->index = i;
        self->slot = &shared->slots[first + i];
        self->random = (seed + first + i + 1) * 0x9e3779b97f4a7c15ULL | 1;
        next(&self->random);
        prepare(self);
        if (i < PAIRED) {
            self->pair = &pairs[i / 2];
            self->side = i % 2;
            self->pair->sides[self->side] = self;
            self->pair->random = seed * 31 + first + i / 2;
        }
    }
    for (int i = 0; i < KIND_COUNT; i++) {
        printf(i == 0 ? "%s" : " %s", KINDS[i].name);
    }
    printf("\n");
    fflush(stdout);
    for (int i = 0; i < count; i++) {
        pthread_t thread;
        MUST(pthread_create(&thread, NULL, live, &selves[i]) == 0);
    }
    char byte;
    // Whoever sets timers anew may choose this thread for that; it must not notice.
    MUST(read(0, &byte, 1) == 0);
    _exit(0);
}
