// Makes system calls in the ways that programs make them, and says how long they took. It answers one line with one
// line:
//
//   now                 the realtime and the monotonic clock in nanoseconds, as this program sees them
//   counters            "all" or "user": what cycles and instructions are counted of; or why they are not
//   pin CPU             "ok"
//   go CASE TIMES       ticks of the time stamp counter, cycles, instructions; or "failed" where a call did not do
//                       what it should
//
// With the argument "filter" it first loads a seccomp filter of one instruction, which allows everything.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#define NOINLINE __attribute__((noinline))

extern char **environ;

static int zero_fd, null_fd, epoll_fd, timer_fd;
static unsigned word;
static struct timespec past, elsewhere_time;
static sigset_t elsewhere_set;
static cpu_set_t everywhere, pinned;

// A system call by an instruction of this program's own.
static inline long inline_call(long number, long a, long b, long c, long d, long e, long f) {
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

// Keeps the compiler from knowing what a pointer points to.
static inline void *opaque(void *pointer) {
    __asm__ volatile("" : "+r"(pointer) : : "memory");
    return pointer;
}

// What one turn of a case does; nothing is a success.
typedef int turn(void);

static int getppid_by_libc(void) { return getppid() == 0; }

static int getppid_by_number(void) { return syscall(SYS_getppid) == 0; }

static int read_zero(void) {
    char byte;
    return read(zero_fd, &byte, 1) != 1;
}

static int close_nothing(void) { return close(-1) != -1; }

static int write_null(void) { return write(null_fd, "", 1) != 1; }

static int futex_wake(void) { return inline_call(SYS_futex, (long)&word, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0) != 0; }

static int futex_wait_changed(void) {
    return inline_call(SYS_futex, (long)&word, FUTEX_WAIT_PRIVATE, 1, 0, 0, 0) != -EAGAIN;
}

static int clock_by_vdso(void) {
    struct timespec time;
    return clock_gettime(CLOCK_REALTIME, opaque(&time));
}

static int clock_by_number(void) {
    struct timespec time;
    return syscall(SYS_clock_gettime, CLOCK_REALTIME, opaque(&time)) != 0;
}

static int clock_by_number_elsewhere(void) {
    return syscall(SYS_clock_gettime, CLOCK_REALTIME, opaque(&elsewhere_time)) != 0;
}

static int clock_inline(void) {
    struct timespec time;
    return inline_call(SYS_clock_gettime, CLOCK_REALTIME, (long)opaque(&time), 0, 0, 0, 0) != 0;
}

static int sigmask_pair(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    return pthread_sigmask(SIG_BLOCK, opaque(&set), NULL) != 0 || pthread_sigmask(SIG_UNBLOCK, opaque(&set), NULL) != 0;
}

static int sigmask_pair_elsewhere(void) {
    return pthread_sigmask(SIG_BLOCK, opaque(&elsewhere_set), NULL) != 0 ||
           pthread_sigmask(SIG_UNBLOCK, opaque(&elsewhere_set), NULL) != 0;
}

static int sigmask_inline(void) {
    uint64_t set = 1 << (SIGUSR1 - 1);
    return inline_call(SYS_rt_sigprocmask, SIG_UNBLOCK, (long)opaque(&set), 0, 8, 0, 0) != 0;
}

static volatile sig_atomic_t handled;

static void handler(int signal) {
    (void)signal;
    handled++;
}

static int sigaction_set(void) {
    struct sigaction action = {.sa_handler = handler};
    return sigaction(SIGUSR2, opaque(&action), NULL) != 0;
}

static int sigaction_query(void) {
    struct sigaction action;
    return sigaction(SIGUSR2, NULL, opaque(&action)) != 0;
}

static int signal_to_itself(void) {
    int before = handled;
    return raise(SIGUSR1) != 0 || handled != before + 1;
}

static int set_and_jump(void) {
    static sigjmp_buf place;
    if (sigsetjmp(place, 1) == 0) {
        siglongjmp(place, 1);
    }
    return 0;
}

static int futex_deadline(void) {
    return inline_call(SYS_futex, (long)&word, FUTEX_WAIT_BITSET_PRIVATE | FUTEX_CLOCK_REALTIME, 0, (long)&past, 0,
                       FUTEX_BITSET_MATCH_ANY) != -ETIMEDOUT;
}

static int sleep_until(void) { return clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &past, NULL) != 0; }

static int condition_deadline(void) {
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
    pthread_mutex_lock(&mutex);
    int result = pthread_cond_timedwait(&condition, &mutex, &past);
    pthread_mutex_unlock(&mutex);
    return result != ETIMEDOUT;
}

static int ppoll_mask(void) {
    struct timespec nothing = {0};
    sigset_t set;
    sigemptyset(&set);
    return ppoll(NULL, 0, opaque(&nothing), opaque(&set)) != 0;
}

static int poll_nothing(void) { return poll(NULL, 0, 0) != 0; }

static int epoll_nothing(void) {
    struct epoll_event event;
    return epoll_wait(epoll_fd, &event, 1, 0) != 0;
}

static int timerfd_set(void) {
    struct itimerspec timer = {.it_value.tv_sec = 3600};
    return timerfd_settime(timer_fd, 0, opaque(&timer), NULL) != 0;
}

static void *nothing(void *argument) { return argument; }

static int thread(void) {
    pthread_t thread;
    return pthread_create(&thread, NULL, nothing, NULL) != 0 || pthread_join(thread, NULL) != 0;
}

static int spawn(void) {
    char *arguments[] = {"/bin/true", NULL};
    pid_t pid;
    int status;
    return posix_spawn(&pid, arguments[0], NULL, NULL, arguments, environ) != 0 || waitpid(pid, &status, 0) != pid ||
           status != 0;
}

static int spawn_missing(void) {
    char *arguments[] = {"/missing", NULL};
    pid_t pid;
    return posix_spawn(&pid, arguments[0], NULL, NULL, arguments, environ) != ENOENT;
}

static const struct {
    const char *name;
    turn *turn;
    // Not on one processor: others have a part in it.
    int anywhere;
} cases[] = {
    {"getppid", getppid_by_libc, 0},
    {"getppid-by-number", getppid_by_number, 0},
    {"read-zero", read_zero, 0},
    {"close-nothing", close_nothing, 0},
    {"write-null", write_null, 0},
    {"futex-wake", futex_wake, 0},
    {"futex-wait-changed", futex_wait_changed, 0},
    {"clock-by-vdso", clock_by_vdso, 0},
    {"clock-by-number", clock_by_number, 0},
    {"clock-by-number-elsewhere", clock_by_number_elsewhere, 0},
    {"clock-inline", clock_inline, 0},
    {"sigmask-pair", sigmask_pair, 0},
    {"sigmask-pair-elsewhere", sigmask_pair_elsewhere, 0},
    {"sigmask-inline", sigmask_inline, 0},
    {"sigaction-set", sigaction_set, 0},
    {"sigaction-query", sigaction_query, 0},
    {"raise", signal_to_itself, 0},
    {"sigsetjmp", set_and_jump, 0},
    {"futex-deadline", futex_deadline, 0},
    {"sleep-until", sleep_until, 0},
    {"condition-deadline", condition_deadline, 0},
    {"ppoll-mask", ppoll_mask, 0},
    {"poll", poll_nothing, 0},
    {"epoll-wait", epoll_nothing, 0},
    {"timerfd-set", timerfd_set, 0},
    {"thread", thread, 0},
    {"spawn", spawn, 1},
    {"spawn-missing", spawn_missing, 1},
};

static int counters = -1;

static const char *open_counters(void) {
    struct perf_event_attr attributes = {.type = PERF_TYPE_HARDWARE,
                                         .size = sizeof attributes,
                                         .config = PERF_COUNT_HW_CPU_CYCLES,
                                         .read_format = PERF_FORMAT_GROUP,
                                         .exclude_hv = 1};
    counters = (int)syscall(SYS_perf_event_open, &attributes, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
    if (counters < 0 && errno == EACCES) {
        attributes.exclude_kernel = 1;
        counters = (int)syscall(SYS_perf_event_open, &attributes, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
    }
    if (counters < 0) {
        return strerror(errno);
    }
    attributes.config = PERF_COUNT_HW_INSTRUCTIONS;
    if (syscall(SYS_perf_event_open, &attributes, 0, -1, counters, PERF_FLAG_FD_CLOEXEC) < 0) {
        counters = -1;
        return strerror(errno);
    }
    return attributes.exclude_kernel ? "user" : "all";
}

// How many counters there are, cycles, instructions.
struct counted {
    uint64_t number, cycles, instructions;
};

static struct counted count(void) {
    struct counted counted = {0};
    if (counters >= 0 && read(counters, &counted, sizeof counted) != sizeof counted) {
        memset(&counted, 0, sizeof counted);
    }
    return counted;
}

static NOINLINE void go(const char *name, long times) {
    for (size_t at = 0; at < sizeof cases / sizeof *cases; at++) {
        if (strcmp(cases[at].name, name) != 0) {
            continue;
        }
        turn *turn = cases[at].turn;
        sched_setaffinity(0, sizeof(cpu_set_t), cases[at].anywhere ? &everywhere : &pinned);
        // The first finds cold what the others find warm.
        int failed = turn();
        struct counted before = count();
        uint64_t started = __rdtsc();
        for (long time = 0; time < times; time++) {
            failed |= turn();
        }
        uint64_t ticks = __rdtsc() - started;
        struct counted after = count();
        if (failed) {
            puts("failed");
        } else {
            printf("%llu %llu %llu\n", (unsigned long long)ticks, (unsigned long long)(after.cycles - before.cycles),
                   (unsigned long long)(after.instructions - before.instructions));
        }
        return;
    }
    puts("failed");
}

static long long now_ns(clockid_t clock) {
    struct timespec time = {0};
    clock_gettime(clock, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static int load_filter(void) {
    struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {.len = 1, .filter = &allow};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0;
}

int main(int count, char **arguments) {
    if (count > 1 && strcmp(arguments[1], "filter") == 0 && load_filter() != 0) {
        perror("seccomp");
        return 1;
    }
    struct sigaction action = {.sa_handler = handler};
    zero_fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    if (zero_fd < 0 || null_fd < 0 || epoll_fd < 0 || timer_fd < 0 || sigaction(SIGUSR1, &action, NULL) != 0 ||
        sched_getaffinity(0, sizeof everywhere, &everywhere) != 0) {
        perror("traps");
        return 1;
    }
    pinned = everywhere;
    sigemptyset(&elsewhere_set);
    sigaddset(&elsewhere_set, SIGUSR1);
    clock_gettime(CLOCK_REALTIME, &past);
    // Past by every clock, also where only some of the calls are by another.
    past.tv_sec -= 1000000;

    char line[128], name[64];
    long number;
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    while (fgets(line, sizeof line, stdin) != NULL) {
        if (strcmp(line, "now\n") == 0) {
            printf("%llu %lld %lld\n", (unsigned long long)__rdtsc(), now_ns(CLOCK_REALTIME), now_ns(CLOCK_MONOTONIC));
        } else if (strcmp(line, "counters\n") == 0) {
            puts(open_counters());
        } else if (sscanf(line, "pin %ld", &number) == 1) {
            CPU_ZERO(&pinned);
            CPU_SET(number, &pinned);
            puts(sched_setaffinity(0, sizeof pinned, &pinned) == 0 ? "ok" : strerror(errno));
        } else if (sscanf(line, "go %63s %ld", name, &number) == 2) {
            go(name, number);
        } else {
            puts("failed");
        }
    }
    return 0;
}
