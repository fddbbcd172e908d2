/* Signals. Without arguments: prints `ready PID`, then `got NUMBER` for every signal that arrives; ends with 3 on
 * SIGUSR2 or where its input ends.
 *
 * With the names of cases, or `--list`: runs each case in a child of its own, in bounded time, and prints its name
 * and what it observes. All of that is the same on every run, whatever the clocks say: what a namespace must not
 * change can be compared line by line. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/ucontext.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "interfaces.h"

enum { AT_MINSIGSTKSZ_ = 51 };

/* As in linux/futex.h, which not every compiler finds. */
enum { FUTEX_WAIT_BITSET = 9, FUTEX_PRIVATE_FLAG = 128, FUTEX_CLOCK_REALTIME = 256 };
#define FUTEX_BITSET_MATCH_ANY 0xffffffff

#define MS 1000000LL
#define SECOND (1000 * MS)
#define COUNT(array) (sizeof(array) / sizeof *(array))
#define AT(address) ((uint64_t)(uintptr_t)(address))

/* Prints a line of the running case. */
static const char *running;
static char *self;

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
    char line[512];
    int length = snprintf(line, sizeof line, "%s ", running);
    va_list list;
    va_start(list, format);
    length += vsnprintf(line + length, sizeof line - length - 1, format, list);
    va_end(list);
    line[length++] = '\n';
    if (write(1, line, length) != length)
        _exit(99);
}

static const char *error_name(int number)
{
    switch (number) {
    case 0: return "0";
    case EINTR: return "EINTR";
    case ETIMEDOUT: return "ETIMEDOUT";
    case EAGAIN: return "EAGAIN";
    case EINVAL: return "EINVAL";
    case EFAULT: return "EFAULT";
    case ENOSYS: return "ENOSYS";
    case EPERM: return "EPERM";
    case ECANCELED: return "ECANCELED";
    }
    static _Thread_local char text[16];
    snprintf(text, sizeof text, "E%d", number);
    return text;
}

/* A result and, where it is an error, which. */
static const char *shown(long result)
{
    static _Thread_local char text[32];
    if (result == -1)
        return error_name(errno);
    snprintf(text, sizeof text, "%ld", result);
    return text;
}

static long long now_of(int clock)
{
    struct timespec time = { -1, -1 };
    if (syscall(SYS_clock_gettime, clock, &time) != 0)
        return -1;
    return time.tv_sec * SECOND + time.tv_nsec;
}

static long long now(void)
{
    return now_of(CLOCK_MONOTONIC);
}

static struct timespec spec(long long ns)
{
    return (struct timespec) { ns / SECOND, ns % SECOND };
}

static struct timespec after(int clock, long long ns)
{
    return spec(now_of(clock) + ns);
}

/* Sleeps in full, whatever arrives, without a call that is ever caught. */
static void rest(long long ns)
{
    long long end = now() + ns;
    do {
        poll(NULL, 0, 1);
    } while (now() < end);
}

static long sleep_until_raw(int clock, long long ns)
{
    struct timespec time = after(clock, ns);
    return syscall(SYS_clock_nanosleep, clock, TIMER_ABSTIME, &time, NULL);
}

static long futex_until(int clock, long long ns)
{
    static int word;
    struct timespec time = after(clock, ns);
    int flags = FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG | (clock == CLOCK_REALTIME ? FUTEX_CLOCK_REALTIME : 0);
    return syscall(SYS_futex, &word, flags, 0, &time, NULL, FUTEX_BITSET_MATCH_ANY);
}

#ifdef NO_SUCH_CALL
#define SYSCALL_TIME(seconds) time(seconds)
#else
#define SYSCALL_TIME(seconds) syscall(SYS_time, seconds)
#endif

/* Every kind of call that is caught, once; says what is wrong with them. */
static const char *time_calls(void)
{
    for (int clock = CLOCK_REALTIME; clock <= CLOCK_BOOTTIME; clock++) {
        struct timespec time;
        if (clock == CLOCK_PROCESS_CPUTIME_ID || clock == CLOCK_THREAD_CPUTIME_ID)
            continue;
        if (clock_gettime(clock, &time) != 0)
            return "clock_gettime fails";
        long long first = time.tv_sec * SECOND + time.tv_nsec, second = now_of(clock);
        if (second < first || second > first + 60 * SECOND)
            return "the two ways to read a clock differ";
    }
    struct timeval micro;
    long seconds;
    long long realtime = now_of(CLOCK_REALTIME);
    if (syscall(SYS_gettimeofday, &micro, NULL) != 0 || SYSCALL_TIME(&seconds) != seconds)
        return "gettimeofday or time fails";
    if (micro.tv_sec < realtime / SECOND || micro.tv_sec > realtime / SECOND + 60 || seconds < realtime / SECOND - 1
        || seconds > realtime / SECOND + 60)
        return "gettimeofday or time is off";
    long long start = now();
    if (sleep_until_raw(CLOCK_MONOTONIC, 3 * MS) != 0 || sleep_until_raw(CLOCK_REALTIME, 3 * MS) != 0)
        return "clock_nanosleep fails";
    struct timespec time = after(CLOCK_MONOTONIC, 3 * MS);
    if (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL) != 0)
        return "clock_nanosleep of libc fails";
    time = spec(3 * MS);
    if (syscall(SYS_nanosleep, &time, NULL) != 0 || nanosleep(&time, NULL) != 0)
        return "nanosleep fails";
    if (futex_until(CLOCK_MONOTONIC, 3 * MS) != -1 || errno != ETIMEDOUT)
        return "futex does not time out";
    if (futex_until(CLOCK_REALTIME, 3 * MS) != -1 || errno != ETIMEDOUT)
        return "futex on realtime does not time out";
    if (now() - start < 20 * MS)
        return "waits are too short";
    return "work";
}

/* Signal masks as the kernel takes them. */
typedef uint64_t mask;
#define BIT(signal) (1ULL << ((signal)-1))

static long change_mask(int how, const mask *new, mask *old)
{
    return syscall(SYS_rt_sigprocmask, how, new, old, 8);
}

static mask current_mask(void)
{
    mask now = 0;
    if (change_mask(SIG_BLOCK, NULL, &now) != 0)
        return -1;
    return now;
}

static void block(int how, int signal)
{
    mask set = BIT(signal);
    change_mask(how, &set, NULL);
}

static mask pending(void)
{
    mask set = 0;
    if (syscall(SYS_rt_sigpending, &set, 8) != 0)
        return -1;
    return set;
}

/* Signal actions as the kernel takes them. */
struct action {
    void *handler;
    unsigned long flags;
    void *restorer;
    mask mask;
};

static void set_handler(int signal, void (*handler)(int, siginfo_t *, void *), int flags)
{
    struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags };
    sigemptyset(&action.sa_mask);
    if (sigaction(signal, &action, NULL) != 0)
        say("sigaction fails");
}

static void set_plain(int signal, void (*handler)(int))
{
    struct sigaction action = { .sa_handler = handler };
    sigemptyset(&action.sa_mask);
    if (sigaction(signal, &action, NULL) != 0)
        say("sigaction fails");
}

/* Counts of signals, and the last one. */
static atomic_int counts[65];
static struct {
    int code, pid, uid, value, tid;
} last;

static void count(int signal, siginfo_t *info, void *context)
{
    (void)context;
    last.code = info->si_code;
    last.pid = info->si_pid;
    last.uid = info->si_uid;
    last.value = info->si_value.sival_int;
    last.tid = syscall(SYS_gettid);
    counts[signal]++;
}

static void say_last(const char *what)
{
    say("%s: count=%d code=%d pid=%s uid=%s", what, counts[SIGSYS], last.code, last.pid == getpid() ? "self" : "other",
        last.uid == (int)getuid() ? "self" : "other");
}

/* What became of a child. */
static const char *ended(pid_t child)
{
    static char text[32];
    int status;
    while (waitpid(child, &status, 0) != child)
        if (errno != EINTR)
            return "lost";
    if (WIFSIGNALED(status))
        snprintf(text, sizeof text, "signal %d", WTERMSIG(status));
    else
        snprintf(text, sizeof text, "exit %d", WEXITSTATUS(status));
    return text;
}

#define IN_CHILD(what) \
    ({ \
        pid_t child_ = fork(); \
        if (child_ == 0) { \
            what; \
            _exit(0); \
        } \
        ended(child_); \
    })

static pthread_t thread_of(void *(*run)(void *), void *with)
{
    pthread_t thread;
    int error = pthread_create(&thread, NULL, run, with);
    if (error != 0) {
        say("pthread_create: %s", error_name(error));
        _exit(98);
    }
    return thread;
}

/* SIGSYS belongs to the program. */

static void sys_block_raw(void)
{
    mask set = BIT(SIGSYS), old = 7;
    say("block %s", shown(change_mask(SIG_BLOCK, &set, &old)));
    say("old %llx now %llx, calls %s", (long long)old, (long long)current_mask(), time_calls());
    set = BIT(SIGUSR1) | BIT(SIGSYS) | BIT(40);
    say("set %s", shown(change_mask(SIG_SETMASK, &set, &old)));
    say("old %llx now %llx, calls %s", (long long)old, (long long)current_mask(), time_calls());
    set = BIT(SIGUSR1);
    say("unblock %s", shown(change_mask(SIG_UNBLOCK, &set, &old)));
    say("old %llx now %llx, calls %s", (long long)old, (long long)current_mask(), time_calls());
    set = BIT(SIGSYS);
    say("unblock %s", shown(change_mask(SIG_UNBLOCK, &set, &old)));
    say("old %llx now %llx, calls %s", (long long)old, (long long)current_mask(), time_calls());
    set = -1;
    say("all %s", shown(change_mask(SIG_SETMASK, &set, &old)));
    say("old %llx now %llx, calls %s", (long long)old, (long long)current_mask(), time_calls());
    /* The new set may lie where the old one goes. */
    set = BIT(SIGUSR2);
    say("in place %s", shown(change_mask(SIG_SETMASK, &set, &set)));
    say("old %llx now %llx", (long long)set, (long long)current_mask());
    set = BIT(SIGSYS);
    say("no how %s", shown(change_mask(7, &set, &old)));
    say("bad new %s", shown(change_mask(SIG_BLOCK, (mask *)8, &old)));
    say("bad old %s", shown(change_mask(SIG_BLOCK, &set, (mask *)8)));
    say("now %llx", (long long)current_mask());
    say("bad size %s", shown(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &set, &old, 16)));
    say("no how, no set %s", shown(change_mask(7, NULL, &old)));
}

static void sys_block_libc(void)
{
    sigset_t set, old;
    sigfillset(&set);
    say("all %d", sigprocmask(SIG_SETMASK, &set, &old));
    say("old %d, calls %s", sigismember(&old, SIGSYS), time_calls());
    sigprocmask(SIG_BLOCK, NULL, &old);
    say("now %d %d", sigismember(&old, SIGSYS), sigismember(&old, SIGUSR1));
    sigemptyset(&set);
    sigaddset(&set, SIGSYS);
    say("unblock %d", pthread_sigmask(SIG_UNBLOCK, &set, &old));
    say("old %d", sigismember(&old, SIGSYS));
    pthread_sigmask(SIG_SETMASK, NULL, &old);
    say("now %d %d, calls %s", sigismember(&old, SIGSYS), sigismember(&old, SIGUSR1), time_calls());
}

static pthread_barrier_t meeting;

static void *blocks_sigsys(void *blocks)
{
    if (blocks)
        block(SIG_BLOCK, SIGSYS);
    pthread_barrier_wait(&meeting);
    mask seen = current_mask();
    const char *calls = time_calls();
    pthread_barrier_wait(&meeting);
    static _Thread_local char text[100];
    snprintf(text, sizeof text, "%llx, calls %s", (long long)seen, calls);
    return strdup(text);
}

static void sys_block_threads(void)
{
    pthread_barrier_init(&meeting, NULL, 2);
    pthread_t one = thread_of(blocks_sigsys, NULL), two = thread_of(blocks_sigsys, "");
    void *first, *second;
    pthread_join(one, &first);
    pthread_join(two, &second);
    say("first %s", (char *)first);
    say("second %s", (char *)second);
    say("main %llx", (long long)current_mask());
}

static void *reads_mask(void *to)
{
    *(mask *)to = current_mask();
    return NULL;
}

static void sys_block_inherited(void)
{
    mask seen = 0;
    block(SIG_BLOCK, SIGSYS);
    pthread_join(thread_of(reads_mask, &seen), NULL);
    say("by a thread %llx", (long long)seen);
    say("by fork %s", IN_CHILD(say("child %llx, calls %s", (long long)current_mask(), time_calls())));
    say("now %llx", (long long)current_mask());
    block(SIG_UNBLOCK, SIGSYS);
    pthread_join(thread_of(reads_mask, &seen), NULL);
    say("by a thread %llx", (long long)seen);
    say("by fork %s", IN_CHILD(say("child %llx", (long long)current_mask())));
}

static void sys_ign(void)
{
    struct sigaction old;
    signal(SIGSYS, SIG_IGN);
    sigaction(SIGSYS, NULL, &old);
    say("ignored %d, calls %s", old.sa_handler == SIG_IGN, time_calls());
    say("raise %d", raise(SIGSYS));
    say("kill %s", shown(kill(getpid(), SIGSYS)));
    say("sigqueue %s", shown(sigqueue(getpid(), SIGSYS, (union sigval) { 5 })));
    say("calls %s", time_calls());
    block(SIG_BLOCK, SIGSYS);
    raise(SIGSYS);
    say("blocked and ignored: pending %llx, calls %s", (long long)pending(), time_calls());
    block(SIG_UNBLOCK, SIGSYS);
    say("in a child: %s", IN_CHILD(raise(SIGSYS); say("calls %s", time_calls())));
}

static void sys_dfl(void)
{
    signal(SIGSYS, SIG_IGN);
    signal(SIGSYS, SIG_DFL);
    say("calls %s", time_calls());
    say("raise: %s", IN_CHILD(raise(SIGSYS)));
    say("kill: %s", IN_CHILD(kill(getpid(), SIGSYS); pause()));
    say("sigqueue: %s", IN_CHILD(sigqueue(getpid(), SIGSYS, (union sigval) { 5 }); pause()));
    say("blocked: %s", IN_CHILD(block(SIG_BLOCK, SIGSYS); raise(SIGSYS); say("lives"); block(SIG_UNBLOCK, SIGSYS)));
    pid_t child = fork();
    if (child == 0) {
        sleep_until_raw(CLOCK_MONOTONIC, 30 * SECOND);
        _exit(1);
    }
    rest(50 * MS);
    kill(child, SIGSYS);
    say("in a sleep: %s", ended(child));
    child = fork();
    if (child == 0) {
        pause();
        _exit(1);
    }
    rest(50 * MS);
    kill(child, SIGSYS);
    say("in a pause: %s", ended(child));
    say("a handler that is reset: %s", IN_CHILD(set_handler(SIGSYS, count, SA_RESETHAND); raise(SIGSYS);
                                                 say("count %d", counts[SIGSYS]); raise(SIGSYS)));
}

static void sys_handler(void)
{
    set_handler(SIGSYS, count, 0);
    say("calls %s", time_calls());
    kill(getpid(), SIGSYS);
    say_last("kill");
    raise(SIGSYS);
    say_last("raise");
    sigqueue(getpid(), SIGSYS, (union sigval) { 4711 });
    say_last("sigqueue");
    say("value %d", last.value);
    pthread_kill(pthread_self(), SIGSYS);
    say_last("pthread_kill");
    syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGSYS);
    say_last("tgkill");
    say("tid %s", last.tid == syscall(SYS_gettid) ? "self" : "other");
    pid_t parent = getpid();
    say("by a child: %s", IN_CHILD(kill(parent, SIGSYS)));
    say_last("kill by a child");
    say("calls %s", time_calls());
    say("in a child: %s", IN_CHILD(raise(SIGSYS); say_last("child")));
    say_last("parent");
}

static void show_action(int signal)
{
    struct action action;
    memset(&action, 0xee, sizeof action);
    long result = syscall(SYS_rt_sigaction, signal, NULL, &action, 8);
    const char *what = action.handler == SIG_DFL   ? "default"
                       : action.handler == SIG_IGN ? "ignored"
                       : action.handler == count   ? "count"
                                                   : "other";
    say("action of %d: %s %s flags %lx mask %llx", signal, shown(result), what, action.flags, (long long)action.mask);
}

static void nothing(int signal)
{
    (void)signal;
}

static void sys_oldact(void)
{
    static const int signals[] = { SIGSYS, SIGUSR1, 32, 33, 34, 64 };
    static const mask masks[] = { 0, BIT(SIGSYS), BIT(SIGUSR2), -1 };
    static const int flags[] = { 0, SA_SIGINFO | SA_NODEFER, SA_RESTART | SA_ONSTACK | SA_RESETHAND, SA_NOCLDSTOP };
    struct action old;
    for (unsigned at = 0; at < COUNT(signals); at++) {
        /* With the restorer of libc, which the raw call knows nothing of. */
        syscall(SYS_rt_sigaction, SIGTERM, NULL, &old, 8);
        set_plain(SIGHUP, nothing);
        syscall(SYS_rt_sigaction, SIGHUP, NULL, &old, 8);
        for (unsigned each = 0; each < COUNT(masks); each++) {
            struct action new = { count, flags[each] | old.flags, old.restorer, masks[each] };
            say("set %s", shown(syscall(SYS_rt_sigaction, signals[at], &new, NULL, 8)));
            show_action(signals[at]);
        }
        struct action ignore = { SIG_IGN, 0, NULL, BIT(SIGSYS) | BIT(SIGINT) };
        say("ignore %s", shown(syscall(SYS_rt_sigaction, signals[at], &ignore, &old, 8)));
        say("old %d %lx %llx", old.handler == count, old.flags, (long long)old.mask);
        show_action(signals[at]);
        struct action set_default = { SIG_DFL, 0, NULL, 0 };
        say("default %s", shown(syscall(SYS_rt_sigaction, signals[at], &set_default, &set_default, 8)));
        say("old %d %lx %llx", set_default.handler == SIG_IGN, set_default.flags, (long long)set_default.mask);
        show_action(signals[at]);
        say("bad new %s", shown(syscall(SYS_rt_sigaction, signals[at], 8, NULL, 8)));
        say("bad old %s", shown(syscall(SYS_rt_sigaction, signals[at], NULL, 8, 8)));
        say("bad size %s", shown(syscall(SYS_rt_sigaction, signals[at], NULL, NULL, 16)));
    }
    struct action new = { SIG_IGN, 0, NULL, 0 };
    say("set KILL %s", shown(syscall(SYS_rt_sigaction, SIGKILL, &new, NULL, 8)));
    say("get KILL %s", shown(syscall(SYS_rt_sigaction, SIGKILL, NULL, &old, 8)));
    say("set 0 %s", shown(syscall(SYS_rt_sigaction, 0, &new, NULL, 8)));
    say("set 65 %s", shown(syscall(SYS_rt_sigaction, 65, &new, NULL, 8)));
    say("set -1 %s", shown(syscall(SYS_rt_sigaction, -1, &new, NULL, 8)));
}

/* What a handler sees. */
static struct {
    mask blocked, context, pending;
    int count, depth, deepest;
    const char *calls;
} seen;

static void looks(int signal, siginfo_t *info, void *context)
{
    (void)info;
    seen.blocked = current_mask();
    memcpy(&seen.context, &((ucontext_t *)context)->uc_sigmask, 8);
    seen.calls = time_calls();
    if (signal == SIGUSR1) {
        raise(SIGSYS);
        seen.pending = pending();
        seen.count = counts[SIGSYS];
    }
}

static void say_seen(const char *what)
{
    say("%s: in the handler blocked %llx, of the thread %llx, pending %llx, count %d, calls %s; then count %d", what,
        (long long)seen.blocked, (long long)seen.context, (long long)seen.pending, seen.count, seen.calls,
        counts[SIGSYS]);
}

static void sys_in_mask(void)
{
    set_handler(SIGSYS, count, 0);
    struct sigaction action = { .sa_sigaction = looks, .sa_flags = SA_SIGINFO };
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, SIGSYS);
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    say_seen("with SIGSYS in its mask");
    sigfillset(&action.sa_mask);
    sigdelset(&action.sa_mask, SIGSYS);
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    say_seen("with everything else in its mask");
    say("now %llx, calls %s", (long long)current_mask(), time_calls());
}

/* A handler sees the mask of the thread that it interrupted. */
static void sys_in_context(void)
{
    set_handler(SIGSYS, count, 0);
    set_handler(SIGUSR1, looks, 0);
    block(SIG_BLOCK, SIGSYS);
    raise(SIGUSR1);
    say_seen("blocked");
    say("now %llx", (long long)current_mask());
    block(SIG_UNBLOCK, SIGSYS);
    say("then count %d", counts[SIGSYS]);
}

static void fills_context(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)info;
    memset(&((ucontext_t *)context)->uc_sigmask, 0xff, 8);
}

static void empties_context(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)info;
    memset(&((ucontext_t *)context)->uc_sigmask, 0, 8);
}

/* A handler sets the mask of the thread that it interrupted. */
static void sys_set_by_context(void)
{
    set_handler(SIGSYS, count, 0);
    set_handler(SIGUSR1, fills_context, 0);
    raise(SIGUSR1);
    say("filled: now %llx", (long long)current_mask());
    say("calls %s", time_calls());
    raise(SIGSYS);
    say("count %d pending %llx", counts[SIGSYS], (long long)pending());
    mask only = ~BIT(SIGUSR2);
    change_mask(SIG_SETMASK, &only, NULL);
    set_handler(SIGUSR2, empties_context, 0);
    raise(SIGUSR2);
    say("emptied: now %llx count %d, calls %s", (long long)current_mask(), counts[SIGSYS], time_calls());
}

static void nests(int signal, siginfo_t *info, void *context)
{
    (void)info, (void)context;
    seen.depth++;
    if (seen.depth > seen.deepest)
        seen.deepest = seen.depth;
    seen.blocked = current_mask();
    if (++counts[signal] < 3) {
        raise(signal);
        seen.pending = pending();
    }
    seen.calls = time_calls();
    seen.depth--;
}

static void sys_nested(void)
{
    static const int flags[] = { 0, SA_NODEFER, SA_RESTART, SA_RESETHAND | SA_NODEFER };
    for (unsigned each = 0; each < COUNT(flags); each++) {
        memset(&seen, 0, sizeof seen);
        counts[SIGSYS] = flags[each] & SA_RESETHAND ? 2 : 0;
        set_handler(SIGSYS, nests, flags[each]);
        raise(SIGSYS);
        say("flags %x: count %d deepest %d blocked %llx pending %llx calls %s", flags[each], counts[SIGSYS],
            seen.deepest, (long long)seen.blocked, (long long)seen.pending, seen.calls);
        say("now %llx", (long long)current_mask());
        show_action(SIGSYS);
    }
}

static void sys_pending(void)
{
    set_handler(SIGSYS, count, 0);
    set_handler(SIGUSR1, count, 0);
    block(SIG_BLOCK, SIGSYS);
    raise(SIGSYS);
    kill(getpid(), SIGSYS);
    say("pending %llx count %d, calls %s", (long long)pending(), counts[SIGSYS], time_calls());
    sigset_t set;
    sigpending(&set);
    say("pending by libc %d %d", sigismember(&set, SIGSYS), sigismember(&set, SIGUSR1));
    say("in a child: %s", IN_CHILD(say("pending %llx", (long long)pending())));
    raise(SIGUSR1);
    say("pending %llx count %d %d", (long long)pending(), counts[SIGSYS], counts[SIGUSR1]);
    block(SIG_UNBLOCK, SIGSYS);
    say("pending %llx", (long long)pending());
    say("bad set %s", shown(syscall(SYS_rt_sigpending, 8, 8)));
}

/* Of one kind, so that it is the same whether one of the thread and one of the process are two. */
static void sys_pending_once(void)
{
    set_handler(SIGSYS, count, 0);
    block(SIG_BLOCK, SIGSYS);
    for (int each = 0; each < 5; each++)
        sigqueue(getpid(), SIGSYS, (union sigval) { 100 + each });
    say("pending %llx count %d", (long long)pending(), counts[SIGSYS]);
    mask none = 0;
    change_mask(SIG_SETMASK, &none, NULL);
    say("pending %llx value %d", (long long)pending(), last.value);
    say_last("delivered");
    block(SIG_BLOCK, SIGSYS);
    raise(SIGSYS);
    signal(SIGSYS, SIG_IGN);
    say("ignored pending %llx", (long long)pending());
    set_handler(SIGSYS, count, 0);
    block(SIG_UNBLOCK, SIGSYS);
    say("count %d", counts[SIGSYS]);
}

static long wait_raw(mask set, siginfo_t *info, long long ns)
{
    struct timespec time = spec(ns);
    return syscall(SYS_rt_sigtimedwait, &set, info, ns < 0 ? NULL : &time, 8);
}

static void sys_sigwait_pending(void)
{
    siginfo_t info = { 0 };
    block(SIG_BLOCK, SIGSYS);
    block(SIG_BLOCK, SIGUSR1);
    long long start = now();
    say("nothing %s", shown(wait_raw(BIT(SIGSYS), &info, 30 * MS)));
    say("waited %s", now() - start >= 30 * MS ? "yes" : "no");
    say("at once %s", shown(wait_raw(BIT(SIGSYS), &info, 0)));
    sigqueue(getpid(), SIGSYS, (union sigval) { 815 });
    say("queued %s", shown(wait_raw(BIT(SIGSYS) | BIT(SIGUSR1), &info, SECOND)));
    say("signo %d code %d value %d pid %d", info.si_signo, info.si_code, info.si_value.sival_int,
        info.si_pid == getpid());
    say("gone %llx %s", (long long)pending(), shown(wait_raw(BIT(SIGSYS), &info, 0)));
    raise(SIGSYS);
    raise(SIGUSR1);
    say("first %s", shown(wait_raw(BIT(SIGSYS) | BIT(SIGUSR1), NULL, SECOND)));
    say("second %s", shown(wait_raw(BIT(SIGSYS) | BIT(SIGUSR1), NULL, SECOND)));
    raise(SIGSYS);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGSYS);
    say("sigwaitinfo %d", sigwaitinfo(&set, &info));
    kill(getpid(), SIGSYS);
    int got = 0;
    say("sigwait %d", sigwait(&set, &got));
    say("got %d, now %llx", got, (long long)current_mask());
    raise(SIGSYS);
    say("bad info %s", shown(wait_raw(BIT(SIGSYS), (siginfo_t *)8, SECOND)));
    say("bad set %s", shown(syscall(SYS_rt_sigtimedwait, 8, NULL, NULL, 8)));
}

static atomic_int no_longer;

/* Sends something to a thread, or to a process, after a while. */
struct sender {
    pthread_t thread;
    pid_t process;
    int signal, value;
    long long ns;
};

static void *sends(void *with)
{
    struct sender *sender = with;
    mask all = -1;
    change_mask(SIG_SETMASK, &all, NULL);
    for (long long end = now() + sender->ns; now() < end;) {
        rest(MS);
        if (no_longer)
            return NULL;
    }
    if (sender->process)
        sigqueue(sender->process, sender->signal, (union sigval) { sender->value });
    else
        pthread_kill(sender->thread, sender->signal);
    return NULL;
}

static void sys_sigwait_sent(void)
{
    block(SIG_BLOCK, SIGSYS);
    siginfo_t info = { 0 };
    for (int to_process = 0; to_process < 2; to_process++) {
        struct sender sender = { pthread_self(), to_process ? getpid() : 0, SIGSYS, 9, 50 * MS };
        pthread_t thread = thread_of(sends, &sender);
        long long start = now();
        say("to the %s: %s", to_process ? "process" : "thread", shown(wait_raw(BIT(SIGSYS), &info, 5 * SECOND)));
        say("waited %s signo %d code %d", now() - start >= 40 * MS ? "yes" : "no", info.si_signo, info.si_code);
        pthread_join(thread, NULL);
    }
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        rest(50 * MS);
        kill(parent, SIGSYS);
        _exit(0);
    }
    say("without end, by a child: %s", shown(wait_raw(BIT(SIGSYS), &info, -1)));
    say("by the child %d; %s", info.si_pid == child, ended(child));
    struct sender sender = { pthread_self(), 0, SIGUSR1, 0, 50 * MS };
    set_handler(SIGUSR1, count, SA_RESTART);
    pthread_t thread = thread_of(sends, &sender);
    say("another signal: %s count %d", shown(wait_raw(BIT(SIGSYS), &info, 5 * SECOND)), counts[SIGUSR1]);
    pthread_join(thread, NULL);
}

static void *waits_for_sigsys(void *to)
{
    *(long *)to = wait_raw(BIT(SIGSYS), NULL, 5 * SECOND);
    return NULL;
}

/* A process's signal is taken by the thread that waits for it. */
static void sys_sigwait_other_thread(void)
{
    block(SIG_BLOCK, SIGSYS);
    long got = 0;
    pthread_t thread = thread_of(waits_for_sigsys, &got);
    rest(50 * MS);
    long long start = now();
    kill(getpid(), SIGSYS);
    pthread_join(thread, NULL);
    say("got %ld, soon %s, pending %llx", got, now() - start < 3 * SECOND ? "yes" : "no", (long long)pending());
}

static atomic_int leave;

static void *idles(void *with)
{
    (void)with;
    block(SIG_UNBLOCK, SIGSYS);
    pthread_barrier_wait(&meeting);
    while (!leave)
        rest(MS);
    return (void *)(long)syscall(SYS_gettid);
}

/* A process's signal goes to a thread that does not block it. */
static void sys_other_thread(void)
{
    set_handler(SIGSYS, count, 0);
    pthread_barrier_init(&meeting, NULL, 2);
    block(SIG_BLOCK, SIGSYS);
    pthread_t thread = thread_of(idles, NULL);
    pthread_barrier_wait(&meeting);
    kill(getpid(), SIGSYS);
    rest(100 * MS);
    say("count %d pending %llx", counts[SIGSYS], (long long)pending());
    leave = 1;
    void *tid;
    pthread_join(thread, &tid);
    say("in the other thread %d", last.tid == (long)tid);
}

static void *has_pending(void *to)
{
    *(mask *)to = pending();
    return NULL;
}

/* A thread's signal is not another's. */
static void sys_pending_of_thread(void)
{
    set_handler(SIGSYS, count, 0);
    block(SIG_BLOCK, SIGSYS);
    raise(SIGSYS);
    mask other = 0;
    pthread_join(thread_of(has_pending, &other), NULL);
    say("of the thread: main %llx other %llx", (long long)pending(), (long long)other);
    block(SIG_UNBLOCK, SIGSYS);
    say("count %d", counts[SIGSYS]);
    block(SIG_BLOCK, SIGSYS);
    kill(getpid(), SIGSYS);
    pthread_join(thread_of(has_pending, &other), NULL);
    say("of the process: main %llx other %llx", (long long)pending(), (long long)other);
    block(SIG_UNBLOCK, SIGSYS);
    say("count %d", counts[SIGSYS]);
}

static void signalfd_sigsys(void)
{
    block(SIG_BLOCK, SIGSYS);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGSYS);
    int file = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    struct signalfd_siginfo info = { 0 };
    sigqueue(getpid(), SIGSYS, (union sigval) { 21 });
    struct pollfd ready = { file, POLLIN, 0 };
    say("poll %s", shown(poll(&ready, 1, 100)));
    long result = read(file, &info, sizeof info);
    say("read %s signo %d value %d", shown(result), info.ssi_signo, info.ssi_int);
    say("pending %llx, calls %s", (long long)pending(), time_calls());
}

/* Waits with a mask of their own. */
static long masked_wait(int which, const mask *set, long long ns)
{
    static int epoll = -1;
    if (epoll < 0)
        epoll = epoll_create1(0);
    struct timespec time = spec(ns);
    struct {
        const mask *set;
        size_t size;
    } pair = { set, 8 };
    struct epoll_event event;
    sigset_t wide;
    memset(&wide, 0, sizeof wide);
    memcpy(&wide, set, 8);
    switch (which) {
    case 0: return syscall(SYS_rt_sigsuspend, set, 8);
    case 1: return syscall(SYS_ppoll, NULL, 0, &time, set, 8);
    case 2: return syscall(SYS_pselect6, 0, NULL, NULL, NULL, &time, &pair);
    case 3: return syscall(SYS_epoll_pwait, epoll, &event, 1, (int)(ns / MS), set, 8);
    case 4: return syscall(SYS_epoll_pwait2, epoll, &event, 1, WIDE(time), set, 8);
    case 5: return sigsuspend(&wide);
    case 6: return ppoll(NULL, 0, &time, &wide);
    case 7: return pselect(0, NULL, NULL, NULL, &time, &wide);
    case 8: return epoll_pwait(epoll, &event, 1, ns / MS, &wide);
    case 9: return syscall(SYS_ppoll, NULL, 0, NULL, set, 8);
    case 10: return syscall(SYS_pselect6, 0, NULL, NULL, NULL, NULL, &pair);
    case 11: return syscall(SYS_epoll_pwait, epoll, &event, 1, -1, set, 8);
    }
    return -2;
}

static const char *const masked_waits[] = { "sigsuspend raw", "ppoll raw",    "pselect raw",   "epoll_pwait raw",
                                            "epoll_pwait2",   "sigsuspend",   "ppoll",         "pselect",
                                            "epoll_pwait",    "ppoll for ever", "pselect for ever", "epoll_pwait for ever" };

static void sys_masked_waits(void)
{
    set_handler(SIGUSR1, count, 0);
    set_handler(SIGSYS, count, 0);
    mask all = -1, most = ~BIT(SIGUSR1);
    change_mask(SIG_SETMASK, &all, NULL);
    for (unsigned which = 0; which < COUNT(masked_waits); which++) {
        counts[SIGUSR1] = counts[SIGSYS] = 0;
        raise(SIGUSR1);
        long result = masked_wait(which, &most, 5 * SECOND);
        say("%s: %s count %d", masked_waits[which], shown(result), counts[SIGUSR1]);
        struct sender sender = { pthread_self(), 0, SIGUSR1, 0, 30 * MS };
        pthread_t thread = thread_of(sends, &sender);
        result = masked_wait(which, &most, 5 * SECOND);
        say("sent: %s count %d", shown(result), counts[SIGUSR1]);
        say("mask %llx, calls %s", (long long)current_mask(), time_calls());
        pthread_join(thread, NULL);
    }
}

/* SIGSYS itself is let in for the time of a wait. */
static void sys_let_in(void)
{
    set_handler(SIGSYS, count, 0);
    set_handler(SIGUSR1, count, 0);
    mask all = -1, most = ~(BIT(SIGSYS) | BIT(SIGUSR1));
    change_mask(SIG_SETMASK, &all, NULL);
    for (unsigned which = 0; which < COUNT(masked_waits); which++) {
        counts[SIGSYS] = 0;
        raise(SIGSYS);
        say("%s: pending %llx", masked_waits[which], (long long)pending());
        /* Ends a wait that misses it. */
        struct sender late = { pthread_self(), 0, SIGUSR1, 0, 1500 * MS };
        no_longer = 0;
        pthread_t thread = thread_of(sends, &late);
        long long start = now();
        long result = masked_wait(which, &most, 5 * SECOND);
        const char *what = shown(result);
        int soon = now() - start < SECOND;
        no_longer = 1;
        pthread_join(thread, NULL);
        no_longer = 0;
        say("%s count %d, at once %s", what, counts[SIGSYS], soon ? "yes" : "no");
        wait_raw(BIT(SIGSYS), NULL, 0);
        counts[SIGSYS] = 0;
        struct sender sender = { pthread_self(), 0, SIGSYS, 0, 30 * MS };
        thread = thread_of(sends, &sender);
        late.ns = 3 * SECOND;
        pthread_t rescue = thread_of(sends, &late);
        what = shown(masked_wait(which, &most, 5 * SECOND));
        pthread_join(thread, NULL);
        no_longer = 1;
        pthread_join(rescue, NULL);
        say("sent: %s count %d", what, counts[SIGSYS]);
    }
}

/* SIGSYS is kept out for the time of a wait. */
static void sys_kept_out(void)
{
    set_handler(SIGSYS, count, 0);
    mask most = BIT(SIGSYS);
    for (unsigned which = 1; which < 9; which++) {
        if (which == 5)
            continue;
        counts[SIGSYS] = 0;
        struct sender sender = { pthread_self(), 0, SIGSYS, 0, 30 * MS };
        pthread_t thread = thread_of(sends, &sender);
        long long start = now();
        long result = masked_wait(which, &most, 600 * MS);
        long long waited = now() - start;
        say("%s: %s, full %s, count %d", masked_waits[which], shown(result), waited >= 600 * MS ? "yes" : "no",
            counts[SIGSYS]);
        pthread_join(thread, NULL);
    }
}

/* What SIGSYS does to a wait, by what the program wants done on it. */
static void sys_interrupts(void)
{
    static const char *const ways[] = { "ignored", "blocked", "handled", "handled, with restart" };
    static const char *const waits[] = { "poll", "clock_nanosleep", "nanosleep", "read", "futex" };
    int ends[2];
    if (pipe(ends) != 0)
        return;
    for (unsigned way = 0; way < COUNT(ways); way++) {
        if (way == 0)
            signal(SIGSYS, SIG_IGN);
        else
            set_handler(SIGSYS, count, way == 3 ? SA_RESTART : 0);
        block(way == 1 ? SIG_BLOCK : SIG_UNBLOCK, SIGSYS);
        for (unsigned wait = 0; wait < COUNT(waits); wait++) {
            struct sender sender = { pthread_self(), 0, SIGSYS, 0, 50 * MS };
            counts[SIGSYS] = 0;
            pid_t child = -1;
            if (wait == 3 && (child = fork()) == 0) {
                rest(600 * MS);
                _exit(write(ends[1], "x", 1) != 1);
            }
            pthread_t thread = thread_of(sends, &sender);
            long long start = now();
            struct timespec time = spec(600 * MS);
            char byte;
            long result = wait == 0   ? poll(NULL, 0, 600)
                          : wait == 1 ? sleep_until_raw(CLOCK_MONOTONIC, 600 * MS)
                          : wait == 2 ? syscall(SYS_nanosleep, &time, NULL)
                          : wait == 3 ? read(ends[0], &byte, 1)
                                      : futex_until(CLOCK_MONOTONIC, 600 * MS);
            const char *what = shown(result);
            long long waited = now() - start;
            say("%s, %s: %s %s count %d", ways[way], waits[wait], what, waited >= 590 * MS ? "full" : "cut",
                counts[SIGSYS]);
            pthread_join(thread, NULL);
            if (child > 0) {
                ended(child);
                if (result != 1 && read(ends[0], &byte, 1) != 1)
                    return;
            }
            wait_raw(BIT(SIGSYS), NULL, 0);
        }
    }
}

static void *on_stack_low, *on_stack_high;
static int on_stack;

static void looks_where(int signal, siginfo_t *info, void *context)
{
    char here;
    count(signal, info, context);
    on_stack = (void *)&here >= on_stack_low && (void *)&here < on_stack_high;
    seen.calls = time_calls();
}

static void sys_flags(void)
{
    static char stack[1 << 16];
    on_stack_low = stack, on_stack_high = stack + sizeof stack;
    sigaltstack(&(stack_t) { .ss_sp = stack, .ss_size = sizeof stack }, NULL);
    set_handler(SIGSYS, looks_where, SA_ONSTACK);
    raise(SIGSYS);
    say("with SA_ONSTACK: on its stack %d, calls %s", on_stack, seen.calls);
    set_handler(SIGSYS, looks_where, 0);
    raise(SIGSYS);
    say("without: on its stack %d, calls %s", on_stack, seen.calls);
    set_handler(SIGSYS, looks_where, SA_RESETHAND);
    raise(SIGSYS);
    show_action(SIGSYS);
    say("calls %s", time_calls());
    signal(SIGSYS, nothing);
    struct sigaction old;
    sigaction(SIGSYS, NULL, &old);
    say("by signal: %d %x", old.sa_handler == nothing, old.sa_flags);
    raise(SIGSYS);
    say("calls %s", time_calls());
}

/* After an execution: says what it finds. */
static void found(void)
{
    show_action(SIGSYS);
    show_action(SIGUSR1);
    say("found blocked %llx pending %llx, calls %s", (long long)current_mask(), (long long)pending(), time_calls());
}

static void execute(void)
{
    execl(self, self, "--found", running, NULL);
    say("execution fails: %d", errno);
    _exit(97);
}

static void sys_exec(void)
{
    say("handled: %s", IN_CHILD(set_handler(SIGSYS, count, 0); set_handler(SIGUSR1, count, 0); execute()));
    say("ignored: %s", IN_CHILD(signal(SIGSYS, SIG_IGN); signal(SIGUSR1, SIG_IGN); execute()));
    say("blocked: %s", IN_CHILD(block(SIG_BLOCK, SIGSYS); block(SIG_BLOCK, SIGUSR1); execute()));
    say("blocked and pending: %s", IN_CHILD(block(SIG_BLOCK, SIGSYS); raise(SIGSYS); execute()));
    say("blocked and ignored: %s", IN_CHILD(signal(SIGSYS, SIG_IGN); block(SIG_BLOCK, SIGSYS); execute()));
}

/* Waits that are interrupted. */

static sem_t semaphore;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static mqd_t queue = -1;

static const char *const timed_waits[] = {
    "clock_nanosleep raw", "clock_nanosleep",       "clock_nanosleep realtime", "futex",  "futex realtime",
    "nanosleep raw",       "nanosleep",             "select",                   "ppoll",  "poll",
    "epoll_wait",          "sem_timedwait",         "pthread_cond_timedwait",   "mq_timedreceive",
    "rt_sigtimedwait",     "clock_nanosleep for",   "futex for",                "usleep",
};
static long long remaining;

static long returned(int error)
{
    errno = error;
    return error ? -1 : 0;
}

/* Waits in one of these ways for so long. */
static long timed_wait(unsigned which, long long ns)
{
    static int word;
    struct timespec realtime = after(CLOCK_REALTIME, ns), monotonic = after(CLOCK_MONOTONIC, ns), length = spec(ns);
    struct timespec rest = { -1, -1 };
    struct timeval micro = { ns / SECOND, ns % SECOND / 1000 };
    struct epoll_event event;
    long result;
    remaining = -1;
    switch (which) {
    case 0: return syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &monotonic, NULL);
    case 1: return returned(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &monotonic, NULL));
    case 2: return returned(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &realtime, NULL));
    case 3: return futex_until(CLOCK_MONOTONIC, ns);
    case 4: return futex_until(CLOCK_REALTIME, ns);
    case 5: result = syscall(SYS_nanosleep, &length, &rest); break;
    case 6: result = nanosleep(&length, &rest); break;
    case 7: result = select(0, NULL, NULL, NULL, &micro); return result;
    case 8: return ppoll(NULL, 0, &length, NULL);
    case 9: return poll(NULL, 0, ns / MS);
    case 10: {
        int epoll = epoll_create1(EPOLL_CLOEXEC);
        result = epoll_wait(epoll, &event, 1, ns / MS);
        int error = errno;
        close(epoll);
        errno = error;
        return result;
    }
    case 11: return sem_timedwait(&semaphore, &realtime);
    case 12:
        pthread_mutex_lock(&lock);
        result = pthread_cond_timedwait(&condition, &lock, &realtime);
        pthread_mutex_unlock(&lock);
        return returned(result);
    case 13: {
        char message[64];
        return mq_timedreceive(queue, message, sizeof message, NULL, &realtime);
    }
    case 14: return wait_raw(BIT(SIGUSR2), NULL, ns);
    case 15: result = returned(clock_nanosleep(CLOCK_MONOTONIC, 0, &length, &rest)); break;
    case 16: return syscall(SYS_futex, &word, FUTEX_PRIVATE_FLAG, 0, &length, NULL, 0);
    default: return usleep(ns / 1000);
    }
    if (rest.tv_sec >= 0)
        remaining = rest.tv_sec * SECOND + rest.tv_nsec;
    return result;
}

static void prepare_waits(void)
{
    if (queue != (mqd_t)-1)
        return;
    char name[64];
    snprintf(name, sizeof name, "/elsewhen-signals-%d", getpid());
    struct mq_attr attributes = { .mq_maxmsg = 1, .mq_msgsize = 64 };
    queue = mq_open(name, O_CREAT | O_EXCL | O_RDWR, 0600, &attributes);
    mq_unlink(name);
    sem_init(&semaphore, 0, 0);
}

static void interrupt_each(int flags)
{
    prepare_waits();
    set_handler(SIGUSR1, count, flags);
    for (unsigned which = 0; which < COUNT(timed_waits); which++) {
        counts[SIGUSR1] = 0;
        struct sender sender = { pthread_self(), 0, SIGUSR1, 0, 50 * MS };
        pthread_t thread = thread_of(sends, &sender);
        long long start = now();
        long result = timed_wait(which, 1000 * MS);
        const char *what = shown(result);
        long long waited = now() - start;
        pthread_join(thread, NULL);
        say("%s: %s %s count %d%s", timed_waits[which], what,
            waited >= 999 * MS  ? "full"
            : waited >= 45 * MS ? "cut"
                                : "short",
            counts[SIGUSR1],
            remaining < 0                                          ? ""
            : remaining > 0 && remaining <= 1000 * MS - waited + 10 * MS ? ", remaining as it should"
                                                                   : ", remaining wrong");
    }
}

static void cut_without_restart(void)
{
    interrupt_each(0);
}

static void cut_with_restart(void)
{
    interrupt_each(SA_RESTART);
}

/* A signal that is ignored, or whose default is that, interrupts nothing; nor does one that is blocked. */
static void cut_ignored(void)
{
    prepare_waits();
    signal(SIGUSR1, SIG_IGN);
    for (unsigned which = 0; which < COUNT(timed_waits); which++) {
        struct sender sender = { pthread_self(), 0, which % 3 ? SIGUSR1 : SIGWINCH, 0, 30 * MS };
        pthread_t thread = thread_of(sends, &sender);
        long long start = now();
        const char *what = shown(timed_wait(which, 120 * MS));
        say("%s: %s %s", timed_waits[which], what, now() - start >= 119 * MS ? "full" : "short");
        pthread_join(thread, NULL);
    }
}

/* Stopped and continued in the middle. */
static void cut_stopped(void)
{
    prepare_waits();
    for (unsigned which = 0; which < COUNT(timed_waits); which++) {
        pid_t parent = getpid(), child = fork();
        if (child == 0) {
            rest(30 * MS);
            kill(parent, SIGSTOP);
            rest(30 * MS);
            kill(parent, SIGCONT);
            _exit(0);
        }
        long long start = now();
        long result = timed_wait(which, 150 * MS);
        const char *what = shown(result);
        long long waited = now() - start;
        say("%s: %s %s", timed_waits[which], what, waited >= 149 * MS ? "full" : waited >= 55 * MS ? "cut" : "short");
        ended(child);
    }
}

static sigjmp_buf jump;
static volatile sig_atomic_t jumps;

static void leaves(int signal)
{
    (void)signal;
    siglongjmp(jump, 1);
}

static void cut_by_jump(void)
{
    set_plain(SIGALRM, leaves);
    for (unsigned which = 0; which < 17; which++) {
        if (which == 12 || which == 10 || which == 13)
            continue;
        volatile int jumped = 0, returned_early = 0;
        sem_init(&semaphore, 0, 0);
        for (volatile int each = 0; each < 50; each++) {
            if (sigsetjmp(jump, 1) == 0) {
                setitimer(ITIMER_REAL, &(struct itimerval) { .it_value.tv_usec = 1000 + each * 20 }, NULL);
                timed_wait(which, 2 * SECOND);
                returned_early++;
            } else {
                jumped++;
            }
        }
        say("%s: jumped %d returned %d, mask %llx, calls %s", timed_waits[which], jumped, returned_early,
            (long long)current_mask(), time_calls());
    }
}

/* Out of calls that do not wait, wherever the signal happens to find them. */
static void cut_short_calls_by_jump(void)
{
    set_plain(SIGALRM, leaves);
    volatile int jumped = 0, wrong = 0;
    for (volatile int each = 0; each < 300; each++) {
        if (sigsetjmp(jump, 1) == 0) {
            setitimer(ITIMER_REAL, &(struct itimerval) { .it_value.tv_usec = 200 + each }, NULL);
            long long before = now();
            for (;;) {
                long long after = now();
                if (after < before)
                    wrong++;
                before = after;
                current_mask();
            }
        }
        jumped++;
    }
    say("jumped %d wrong %d, mask %llx, calls %s", jumped, wrong, (long long)current_mask(), time_calls());
}

static atomic_int stop, handled, wrong_in_handler;

static void checks_clock(int signal)
{
    static _Thread_local long long previous;
    (void)signal;
    int error = errno;
    long long time = now();
    if (time < previous)
        wrong_in_handler++;
    previous = time;
    struct timespec one = { 0, 1000 };
    if (handled++ % 16 == 0)
        syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &one, NULL);
    errno = error;
}

static void *storms(void *with)
{
    struct sender *sender = with;
    block(SIG_BLOCK, SIGUSR1);
    for (int each = 0; each < 10000 && !stop; each++) {
        pthread_kill(sender->thread, sender->signal);
        if (each % 4 == 0)
            sched_yield();
    }
    stop = 1;
    return NULL;
}

static void storm(int signal, int flags)
{
    stop = handled = wrong_in_handler = 0;
    struct sigaction action = { .sa_handler = checks_clock, .sa_flags = flags };
    sigemptyset(&action.sa_mask);
    sigaction(signal, &action, NULL);
    struct sender sender = { pthread_self(), 0, signal, 0, 0 };
    pthread_t thread = thread_of(storms, &sender);
    long long previous = now();
    int wrong = 0, calls = 0;
    while (!stop) {
        long long time = now();
        wrong += time < previous;
        previous = time;
        long long target = time + 20000;
        struct timespec deadline = spec(target), length = { 0, 20000 };
        long result = syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &deadline, NULL);
        if (result == 0 ? now() < target : errno != EINTR)
            wrong++;
        result = syscall(SYS_nanosleep, &length, &length);
        if (result != 0 && (errno != EINTR || length.tv_sec != 0 || length.tv_nsec > MS))
            wrong++;
        result = futex_until(CLOCK_MONOTONIC, 20000);
        if (result != -1 || (errno != EINTR && errno != ETIMEDOUT))
            wrong++;
        wrong += current_mask() != 0;
        calls++;
    }
    pthread_join(thread, NULL);
    say("signal %d flags %x: wrong %d, in the handler %d, calls %s, handled %s", signal, flags, wrong,
        wrong_in_handler, calls > 0 ? "some" : "none", handled > 0 ? "yes" : "no");
}

static void storm_of_signals(void)
{
    storm(SIGUSR1, 0);
    storm(SIGUSR1, SA_RESTART);
    storm(SIGSYS, 0);
    storm(SIGSYS, SA_RESTART);
}

static void calls_in_handler(int signal)
{
    (void)signal;
    int error = errno;
    seen.calls = time_calls();
    seen.blocked = current_mask();
    counts[signal]++;
    errno = error;
}

/* A handler that makes caught calls while it interrupts one. */
static void cut_and_calls(void)
{
    prepare_waits();
    set_plain(SIGUSR1, calls_in_handler);
    for (unsigned which = 0; which < COUNT(timed_waits); which++) {
        struct sender sender = { pthread_self(), 0, SIGUSR1, 0, 30 * MS };
        seen.calls = "were not made";
        pthread_t thread = thread_of(sends, &sender);
        long result = timed_wait(which, 600 * MS);
        const char *what = shown(result);
        pthread_join(thread, NULL);
        say("%s: %s, calls in the handler %s, mask %llx, then %s", timed_waits[which], what, seen.calls,
            (long long)seen.blocked, time_calls());
    }
}

/* Threads. */

static atomic_int cleaned, entered;
static atomic_int asynchronous;

static void cleans(void *with)
{
    (void)with;
    cleaned++;
    if (now() < 0)
        cleaned += 1000;
}

static void unlocks(void *with)
{
    (void)with;
    cleaned++;
    pthread_mutex_unlock(&lock);
}

static void *waits_long(void *with)
{
    long which = (long)with;
    if (asynchronous)
        pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    if (which == 12) {
        struct timespec realtime = after(CLOCK_REALTIME, 15 * SECOND);
        pthread_mutex_lock(&lock);
        pthread_cleanup_push(unlocks, NULL);
        entered = 1;
        while (pthread_cond_timedwait(&condition, &lock, &realtime) == 0)
            continue;
        pthread_cleanup_pop(1);
        return "returned";
    }
    pthread_cleanup_push(cleans, NULL);
    entered = 1;
    timed_wait(which, 15 * SECOND);
    pthread_cleanup_pop(0);
    return "returned";
}

static void cancel_each(const char *how, int times)
{
    static const int ways[] = { 1, 2, 6, 7, 8, 9, 11, 12, 13, 15 };
    prepare_waits();
    unsigned seed = 42;
    for (unsigned at = 0; at < COUNT(ways); at++) {
        int canceled = 0;
        cleaned = 0;
        long long start = now();
        for (int each = 0; each < times; each++) {
            entered = 0;
            pthread_t thread = thread_of(waits_long, (void *)(long)ways[at]);
            while (!entered)
                sched_yield();
            seed = seed * 1103515245 + 12345;
            long long end = now() + (seed >> 16) % 300 * 1000;
            if (each % 8 == 0)
                end += 2 * MS;
            while (each % 4 && now() < end)
                sched_yield();
            if (each % 8 == 0)
                rest(2 * MS);
            pthread_cancel(thread);
            void *result;
            pthread_join(thread, &result);
            canceled += result == PTHREAD_CANCELED;
        }
        say("%s %s: canceled %d cleaned %d, soon %s, calls %s", how, timed_waits[ways[at]], canceled, cleaned,
            now() - start < 12 * SECOND ? "yes" : "no", time_calls());
    }
}

static void cancel_deferred(void)
{
    cancel_each("deferred", 200);
}

static void cancel_asynchronous(void)
{
    asynchronous = 1;
    cancel_each("asynchronous", 200);
}

static void *computes(void *with)
{
    (void)with;
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    entered = 1;
    for (;;)
        syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &(struct timespec) { 0 });
    return NULL;
}

/* Asynchronously, in calls that do not wait. */
static void cancel_in_short_calls(void)
{
    int canceled = 0;
    for (int each = 0; each < 300; each++) {
        entered = 0;
        pthread_t thread = thread_of(computes, NULL);
        while (!entered)
            sched_yield();
        for (int turn = 0; turn < each % 20; turn++)
            sched_yield();
        pthread_cancel(thread);
        void *result;
        pthread_join(thread, &result);
        canceled += result == PTHREAD_CANCELED;
    }
    say("canceled %d, mask %llx, calls %s", canceled, (long long)current_mask(), time_calls());
}

static void *disables(void *with)
{
    (void)with;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    entered = 1;
    struct timespec time = after(CLOCK_MONOTONIC, 60 * MS);
    long long end = time.tv_sec * SECOND + time.tv_nsec;
    int result = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
    static char text[64];
    snprintf(text, sizeof text, "%s %s", error_name(result), now() >= end ? "full" : "cut");
    return text;
}

/* A thread that is not to be canceled sleeps on. */
static void cancel_disabled(void)
{
    entered = 0;
    pthread_t thread = thread_of(disables, NULL);
    while (!entered)
        sched_yield();
    rest(20 * MS);
    pthread_cancel(thread);
    void *result;
    pthread_join(thread, &result);
    say("%s", result == PTHREAD_CANCELED ? "canceled" : (char *)result);
}

static void *returns_mask(void *with)
{
    (void)with;
    const char *calls = time_calls();
    static _Thread_local char text[100];
    snprintf(text, sizeof text, "%llx, calls %s", (long long)current_mask(), calls);
    return strdup(text);
}

static void thread_all_blocked(void)
{
    mask all = -1;
    change_mask(SIG_SETMASK, &all, NULL);
    int same = 0;
    void *result = NULL, *first = NULL;
    for (int each = 0; each < 100; each++) {
        pthread_join(thread_of(returns_mask, NULL), &result);
        if (!first)
            first = result;
        same += strcmp(first, result) == 0;
    }
    say("threads %s, same %d, main %llx", (char *)first, same, (long long)current_mask());
}

static void thread_small_stack(void)
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    /* A signal's frame can be larger than the smallest stack, where the processor has large registers; it is in none of the C
     * libraries' reckonings but glibc's. */
    enum { SMALLEST = 2048 };
    long size = PTHREAD_STACK_MIN, frame = getauxval(AT_MINSIGSTKSZ_) + SMALLEST;
    size = size > frame ? size : frame;
    say("size %d", pthread_attr_setstacksize(&attributes, size));
    for (int each = 0; each < 3; each++) {
        pthread_t thread;
        void *result = "no thread";
        if (pthread_create(&thread, &attributes, returns_mask, NULL) == 0)
            pthread_join(thread, &result);
        say("thread %s", (char *)result);
    }
}

static void *only_calls(void *with)
{
    (void)with;
    for (int each = 0; each < 10; each++)
        now(), sleep_until_raw(CLOCK_MONOTONIC, 1000);
    return NULL;
}

/* More threads that block SIGSYS than one might count on, one after the other and at once. */
static void *blocks_and_meets(void *with)
{
    (void)with;
    block(SIG_BLOCK, SIGSYS);
    pthread_barrier_wait(&meeting);
    mask seen_here = current_mask();
    only_calls(NULL);
    pthread_barrier_wait(&meeting);
    return (void *)(long)(seen_here == BIT(SIGSYS));
}

static void thread_many(void)
{
    enum { THREADS = 1600, TURNS = 5000 };
    static pthread_t threads[THREADS];
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 64 << 10);
    block(SIG_BLOCK, SIGSYS);
    for (int each = 0; each < TURNS; each++) {
        pthread_create(&threads[0], &attributes, only_calls, NULL);
        pthread_join(threads[0], NULL);
    }
    say("mask %llx, calls %s", (long long)current_mask(), time_calls());
    block(SIG_UNBLOCK, SIGSYS);
    say("mask %llx", (long long)current_mask());
    pthread_barrier_init(&meeting, NULL, THREADS);
    int made = 0;
    while (made < THREADS && pthread_create(&threads[made], &attributes, blocks_and_meets, NULL) == 0)
        made++;
    if (made < THREADS) {
        say("too few threads can be had");
        return;
    }
    int right = 0;
    for (int each = 0; each < THREADS; each++) {
        void *result;
        pthread_join(threads[each], &result);
        right += result != NULL;
    }
    say("all %d", right);
}

/* Alternate stacks. */

static void calls_here(int signal)
{
    char here;
    on_stack = (void *)&here >= on_stack_low && (void *)&here < on_stack_high;
    struct timespec time;
    seen.calls = "fail";
    if (syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &time) == 0 && sleep_until_raw(CLOCK_MONOTONIC, MS) == 0
        && futex_until(CLOCK_REALTIME, MS) == -1 && errno == ETIMEDOUT && current_mask() == BIT(signal))
        seen.calls = "work";
    counts[signal]++;
}

static void with_stack(long size)
{
    size_t page = 4096, whole = (size + page - 1) / page * page;
    char *memory = mmap(NULL, whole + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(memory, page, PROT_NONE);
    /* Its low end is right above a page that cannot be touched. */
    on_stack_low = memory + page, on_stack_high = memory + page + size;
    stack_t stack = { .ss_sp = on_stack_low, .ss_size = size };
    int set = sigaltstack(&stack, NULL);
    struct sigaction action = { .sa_handler = calls_here, .sa_flags = SA_ONSTACK };
    sigemptyset(&action.sa_mask);
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    say("set %d count %d calls %s on its stack %d", set, counts[SIGUSR1], seen.calls, on_stack);
}

static void stack_8k(void)
{
    with_stack(8192);
}

/* As the kernel tells, which sysconf does not in every libc. */
static long minimal_stack(void)
{
    long minimal = getauxval(AT_MINSIGSTKSZ_);
    return minimal < MINSIGSTKSZ ? MINSIGSTKSZ : minimal;
}

static void stack_minimal(void)
{
    with_stack(minimal_stack() + 2048);
}

/* With room for a second signal in the handler. */
static void stack_twice_minimal(void)
{
    with_stack(2 * minimal_stack() + 2048);
}

/* The handler interrupts a wait, and is on its own stack. */
static void stack_in_wait(void)
{
    static char stack[16384];
    on_stack_low = stack, on_stack_high = stack + sizeof stack;
    sigaltstack(&(stack_t) { .ss_sp = stack, .ss_size = sizeof stack }, NULL);
    struct sigaction action = { .sa_handler = calls_here, .sa_flags = SA_ONSTACK };
    sigemptyset(&action.sa_mask);
    sigaction(SIGUSR1, &action, NULL);
    for (unsigned which = 0; which < 7; which++) {
        struct sender sender = { pthread_self(), 0, SIGUSR1, 0, 20 * MS };
        pthread_t thread = thread_of(sends, &sender);
        const char *what = shown(timed_wait(which, 3 * SECOND));
        pthread_join(thread, NULL);
        say("%s: %s calls %s on its stack %d", timed_waits[which], what, seen.calls, on_stack);
    }
}

/* Those of 64-bit programs. */
#if defined __x86_64__ && !defined __ILP32__

/* Registers. */

struct registers {
    uint64_t rax, rdi, rsi, rdx, r10, r8, r9, rbx, rbp, r12, r13, r14, r15, flags, red_zone[16];
    uint64_t vectors[16][4];
    uint32_t mxcsr;
} given __attribute__((aligned(64))), found_registers __attribute__((aligned(64)));

/* Loads `given`, makes a call, and stores `found_registers`; with or without the upper halves of vectors. */
void probe_registers(int avx);
__asm__(".text\n"
        ".globl probe_registers\n"
        ".type probe_registers, @function\n"
        "probe_registers:\n"
        "push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15; push %rdi\n"
        "test %edi, %edi\n"
        "jz 1f\n"
        ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
        "vmovdqu given+240+32*\\n(%rip), %ymm\\n\n"
        ".endr\n"
        "jmp 2f\n"
        "1:\n"
        ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
        "movdqu given+240+32*\\n(%rip), %xmm\\n\n"
        ".endr\n"
        "2:\n"
        "ldmxcsr given+752(%rip)\n"
        "pushq given+104(%rip)\n"
        "popfq\n"
        ".irp n, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16\n"
        "mov given+104+8*\\n(%rip), %rax\n"
        "mov %rax, -8*\\n(%rsp)\n"
        ".endr\n"
        "mov given(%rip), %rax\n"
        "mov given+8(%rip), %rdi\n"
        "mov given+16(%rip), %rsi\n"
        "mov given+24(%rip), %rdx\n"
        "mov given+32(%rip), %r10\n"
        "mov given+40(%rip), %r8\n"
        "mov given+48(%rip), %r9\n"
        "mov given+56(%rip), %rbx\n"
        "mov given+64(%rip), %rbp\n"
        "mov given+72(%rip), %r12\n"
        "mov given+80(%rip), %r13\n"
        "mov given+88(%rip), %r14\n"
        "mov given+96(%rip), %r15\n"
        "syscall\n"
        "mov %rax, found_registers(%rip)\n"
        "mov %rdi, found_registers+8(%rip)\n"
        "mov %rsi, found_registers+16(%rip)\n"
        "mov %rdx, found_registers+24(%rip)\n"
        "mov %r10, found_registers+32(%rip)\n"
        "mov %r8, found_registers+40(%rip)\n"
        "mov %r9, found_registers+48(%rip)\n"
        "mov %rbx, found_registers+56(%rip)\n"
        "mov %rbp, found_registers+64(%rip)\n"
        "mov %r12, found_registers+72(%rip)\n"
        "mov %r13, found_registers+80(%rip)\n"
        "mov %r14, found_registers+88(%rip)\n"
        "mov %r15, found_registers+96(%rip)\n"
        ".irp n, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16\n"
        "mov -8*\\n(%rsp), %rax\n"
        "mov %rax, found_registers+104+8*\\n(%rip)\n"
        ".endr\n"
        "pushfq\n"
        "popq found_registers+104(%rip)\n"
        "cld\n"
        "stmxcsr found_registers+752(%rip)\n"
        "cmpl $0, (%rsp)\n"
        "je 1f\n"
        ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
        "vmovdqu %ymm\\n, found_registers+240+32*\\n(%rip)\n"
        ".endr\n"
        "vzeroupper\n"
        "jmp 2f\n"
        "1:\n"
        ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
        "movdqu %xmm\\n, found_registers+240+32*\\n(%rip)\n"
        ".endr\n"
        "2:\n"
        "ldmxcsr default_mxcsr(%rip)\n"
        "pop %rdi; pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
        "ret\n"
        ".size probe_registers, . - probe_registers\n");
_Static_assert(offsetof(struct registers, vectors) == 240 && offsetof(struct registers, mxcsr) == 752, "as in probe");
uint32_t default_mxcsr = 0x1f80;

static void probe(const char *what, long number, int arguments, const uint64_t *values)
{
    static const char *const names[] = { "rax", "rdi", "rsi", "rdx", "r10", "r8",  "r9",
                                         "rbx", "rbp", "r12", "r13", "r14", "r15" };
    enum { FLAGS = 0xcd5 };
    __builtin_cpu_init();
    int avx = __builtin_cpu_supports("avx") != 0;
    uint64_t pattern = 0x9e3779b97f4a7c15;
    for (unsigned each = 0; each < offsetof(struct registers, mxcsr) / 8; each++)
        ((uint64_t *)&given)[each] = pattern = pattern * 6364136223846793005 + 1442695040888963407;
    memset(&found_registers, 0, sizeof found_registers);
    given.rax = number;
    memcpy(&given.rdi, values, 8 * arguments);
    given.flags = 0x202 | (pattern & 1 ? 0xcd5 : 0x4c1);
    given.mxcsr = 0x1f80 | 0x6000;
    probe_registers(avx);
    char wrong[256] = "";
    for (unsigned each = 1; each < COUNT(names); each++)
        if ((&given.rax)[each] != (&found_registers.rax)[each])
            strcat(strcat(wrong, " "), names[each]);
    if ((given.flags ^ found_registers.flags) & FLAGS)
        strcat(wrong, " flags");
    if (memcmp(given.red_zone, found_registers.red_zone, sizeof given.red_zone) != 0)
        strcat(wrong, " the red zone");
    for (unsigned each = 0; each < 16; each++)
        if (memcmp(given.vectors[each], found_registers.vectors[each], avx ? 32 : 16) != 0) {
            strcat(wrong, " vectors");
            break;
        }
    if (given.mxcsr != found_registers.mxcsr)
        strcat(wrong, " mxcsr");
    long result = found_registers.rax;
    /* Of the clock, only that it was read. */
    if (result > 1000000)
        result = 1000000;
    say("%s: %ld, lost:%s", what, result, *wrong ? wrong : " nothing");
}

#define PROBE(what, number, ...) \
    do { \
        uint64_t values_[] = { __VA_ARGS__ }; \
        probe(what, number, COUNT(values_), values_); \
    } while (0)

static void registers(void)
{
    static struct timespec time, start;
    static mask set = BIT(SIGUSR1) | BIT(SIGSYS), old;
    static struct action action;
    static uint32_t word;
    PROBE("sched_yield", SYS_sched_yield, 0);
    PROBE("clock_gettime", SYS_clock_gettime, CLOCK_REALTIME, AT(&time));
    PROBE("clock_gettime monotonic", SYS_clock_gettime, CLOCK_MONOTONIC, AT(&start));
    PROBE("clock_gettime, bad pointer", SYS_clock_gettime, CLOCK_REALTIME, 8);
    PROBE("clock_getres", SYS_clock_getres, CLOCK_REALTIME, AT(&time));
    PROBE("gettimeofday", SYS_gettimeofday, AT(&time), 0);
    PROBE("time", SYS_time, AT(&time));
    time = after(CLOCK_MONOTONIC, 10 * MS);
    PROBE("clock_nanosleep", SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, AT(&time), 0);
    time = after(CLOCK_REALTIME, 10 * MS);
    PROBE("clock_nanosleep realtime", SYS_clock_nanosleep, CLOCK_REALTIME, TIMER_ABSTIME, AT(&time), 0);
    time = spec(10 * MS);
    PROBE("nanosleep", SYS_nanosleep, AT(&time), 0);
    time = after(CLOCK_MONOTONIC, 10 * MS);
    PROBE("futex", SYS_futex, AT(&word), FUTEX_WAIT_BITSET, 0, AT(&time), 0, FUTEX_BITSET_MATCH_ANY);
    PROBE("futex, another value", SYS_futex, AT(&word), FUTEX_WAIT_BITSET, 1, AT(&time), 0, FUTEX_BITSET_MATCH_ANY);
    PROBE("poll", SYS_poll, 0, 0, 10);
    time = spec(10 * MS);
    PROBE("ppoll", SYS_ppoll, 0, 0, AT(&time), AT(&set), 8);
    PROBE("rt_sigprocmask", SYS_rt_sigprocmask, SIG_BLOCK, AT(&set), AT(&old), 8);
    PROBE("rt_sigprocmask, with SIGSYS blocked", SYS_rt_sigprocmask, SIG_SETMASK, AT(&old), AT(&set), 8);
    PROBE("rt_sigaction", SYS_rt_sigaction, SIGSYS, 0, AT(&action), 8);
    PROBE("rt_sigaction of another", SYS_rt_sigaction, SIGUSR1, 0, AT(&action), 8);
    PROBE("rt_sigpending", SYS_rt_sigpending, AT(&old), 8);
    time = spec(10 * MS);
    PROBE("rt_sigtimedwait", SYS_rt_sigtimedwait, AT(&set), 0, AT(&time), 8);
}

static void scrambles(int signal)
{
    (void)signal;
    static float values[64];
    for (int each = 0; each < 64; each++)
        values[each] = values[each] * 1.5f + each;
    __asm__ volatile("pxor %%xmm0, %%xmm0; pxor %%xmm5, %%xmm5; pxor %%xmm15, %%xmm15" ::: "xmm0", "xmm5", "xmm15");
    int error = errno;
    seen.calls = time_calls();
    errno = error;
}

/* As they are after a handler that interrupted the call. */
static void registers_interrupted(void)
{
    static struct timespec time;
    static uint32_t word;
    for (int each = 0; each < 3; each++) {
        struct sigaction action = { .sa_handler = scrambles, .sa_flags = each == 1 ? SA_RESTART : 0 };
        sigemptyset(&action.sa_mask);
        sigaction(each == 2 ? SIGSYS : SIGUSR1, &action, NULL);
        struct sender sender = { pthread_self(), 0, each == 2 ? SIGSYS : SIGUSR1, 0, 30 * MS };
        pthread_t thread = thread_of(sends, &sender);
        time = after(CLOCK_MONOTONIC, 5 * SECOND);
        PROBE("clock_nanosleep", SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, AT(&time), 0);
        pthread_join(thread, NULL);
        thread = thread_of(sends, &sender);
        time = after(CLOCK_REALTIME, 5 * SECOND);
        PROBE("futex", SYS_futex, AT(&word), FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, AT(&time), 0,
              FUTEX_BITSET_MATCH_ANY);
        pthread_join(thread, NULL);
        thread = thread_of(sends, &sender);
        time = spec(5 * SECOND);
        PROBE("nanosleep", SYS_nanosleep, AT(&time), 0);
        pthread_join(thread, NULL);
    }
}

/* How far below the stack pointer a call is noticed. Stacks that grow when they must, such as Go's, leave little. */
static void stack_use(void)
{
    static struct timespec time;
    static uint32_t word;
    static mask set, old;
    const struct {
        const char *name;
        uint64_t call[7];
    } calls[] = {
        { "clock_gettime", { SYS_clock_gettime, CLOCK_REALTIME, AT(&time) } },
        { "clock_gettime, bad clock", { SYS_clock_gettime, 99, AT(&time) } },
        { "gettimeofday", { SYS_gettimeofday, AT(&time) } },
        { "time", { SYS_time } },
        { "clock_nanosleep", { SYS_clock_nanosleep, CLOCK_REALTIME, TIMER_ABSTIME, AT(&time) } },
        { "clock_nanosleep for", { SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, AT(&time) } },
        { "nanosleep", { SYS_nanosleep, AT(&time) } },
        { "futex", { SYS_futex, AT(&word), FUTEX_WAIT_BITSET, 1, AT(&time), 0, 1 } },
        { "futex for", { SYS_futex, AT(&word), 0, 1, AT(&time) } },
        { "epoll_wait", { SYS_epoll_wait, -1, AT(&time), 1, 1 } },
        { "rt_sigprocmask", { SYS_rt_sigprocmask, SIG_BLOCK, AT(&set), AT(&old), 8 } },
    };
    static char stack[1 << 16] __attribute__((aligned(4096))), painted[1 << 14] __attribute__((aligned(4096)));
    /* Signals go elsewhere. */
    sigaltstack(&(stack_t) { .ss_sp = stack, .ss_size = sizeof stack }, NULL);
    for (unsigned each = 0; each < COUNT(calls); each++) {
        memset(painted, 0x5a, sizeof painted);
        time = (struct timespec) { 0, 1000 };
        const uint64_t *call = calls[each].call;
        register uint64_t r10 __asm__("r10") = call[4];
        register uint64_t r8 __asm__("r8") = call[5];
        register uint64_t r9 __asm__("r9") = call[6];
        register char *top __asm__("r12") = painted + sizeof painted - 256;
        uint64_t result = call[0];
        __asm__ volatile("mov %%rsp, %%rbx; mov %[top], %%rsp; syscall; mov %%rbx, %%rsp"
                         : "+a"(result)
                         : "D"(call[1]), "S"(call[2]), "d"(call[3]), "r"(r10), "r"(r8), "r"(r9), [top] "r"(top)
                         : "rcx", "r11", "rbx", "memory");
        unsigned untouched = 0;
        while (untouched < sizeof painted && painted[untouched] == 0x5a)
            untouched++;
        int used = sizeof painted - 256 - untouched;
        /* What a system call of Go's may count on: 800 bytes less the frames of the functions that make it. */
        say("%s: %s", calls[each].name, used <= 560 ? "little" : "much");
        if (used > 560)
            say("%d bytes", used);
    }
}

#endif

/* Processes. */

static const char *volatile told;

static void vfork_calls(void)
{
    for (int each = 0; each < 20; each++) {
        pid_t child = vfork();
        if (child == 0) {
            told = time_calls();
            _exit(7);
        }
        const char *end = ended(child);
        if (each < 2 || strcmp(end, "exit 7") != 0)
            say("%s, calls in the child %s, then %s", end, told, time_calls());
    }
}

/* As libcs do before an execution. */
static void vfork_defaults(void)
{
    set_handler(SIGSYS, count, SA_NODEFER);
    set_handler(SIGUSR1, count, 0);
    for (int ignore = 0; ignore < 2; ignore++) {
        pid_t child = vfork();
        if (child == 0) {
            struct action action = { ignore ? SIG_IGN : SIG_DFL, 0, NULL, 0 };
            for (int signal = 1; signal <= 64; signal++)
                syscall(SYS_rt_sigaction, signal, &action, NULL, 8);
            told = time_calls();
            execl(self, self, "--found", running, NULL);
            _exit(7);
        }
        const char *end = ended(child);
        say("%s, calls in the child %s", end, told);
        show_action(SIGSYS);
        show_action(SIGUSR1);
        raise(SIGSYS);
        raise(SIGUSR1);
        say("counts %d %d, calls %s", counts[SIGSYS], counts[SIGUSR1], time_calls());
    }
}

static void counts_twice(int signal)
{
    counts[signal] += 100;
}

/* What the child sets is its own. */
static void vfork_own_handler(void)
{
    set_handler(SIGSYS, count, 0);
    pid_t child = vfork();
    if (child == 0) {
        struct sigaction action = { .sa_handler = counts_twice };
        sigemptyset(&action.sa_mask);
        sigaction(SIGSYS, &action, NULL);
        syscall(SYS_tgkill, syscall(SYS_getpid), syscall(SYS_gettid), SIGSYS);
        _exit(0);
    }
    say("%s count %d", ended(child), counts[SIGSYS]);
    raise(SIGSYS);
    say("count %d", counts[SIGSYS]);
}

static void vfork_mask(void)
{
    block(SIG_BLOCK, SIGSYS);
    pid_t child = vfork();
    if (child == 0) {
        mask none = 0;
        syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, 8);
        _exit(0);
    }
    say("%s, then %llx", ended(child), (long long)current_mask());
    mask none = 0;
    change_mask(SIG_SETMASK, &none, NULL);
    child = vfork();
    if (child == 0) {
        mask all = -1;
        syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, 8);
        _exit(0);
    }
    say("%s, then %llx, calls %s", ended(child), (long long)current_mask(), time_calls());
}

static int in_clone(void *with)
{
    told = time_calls();
    if (with) {
        set_handler(SIGSYS, NULL, 0);
        signal(SIGUSR1, SIG_IGN);
        told = time_calls();
    }
    return 11;
}

static void clone_memory(void)
{
    static char stack[1 << 16] __attribute__((aligned(16)));
    set_handler(SIGSYS, count, 0);
    for (int sets = 0; sets < 2; sets++) {
        pid_t child = clone(in_clone, stack + sizeof stack, CLONE_VM | SIGCHLD, sets ? "" : NULL);
        const char *end = child < 0 ? "no clone" : ended(child);
        say("%s, calls %s", end, told);
        raise(SIGSYS);
        say("count %d, then %s", counts[SIGSYS], time_calls());
    }
    show_action(SIGSYS);
}

static _Atomic(pid_t) raw_tid;
static mask mask_in_clone, mask_of_maker;

static int in_raw_thread(void *with)
{
    if (with)
        block(SIG_BLOCK, SIGSYS);
    mask_in_clone = current_mask();
    struct timespec time;
    int works = 1;
    for (int each = 0; each < 200; each++) {
        works &= syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &time) == 0;
        time.tv_nsec = (time.tv_nsec + 10000) % 1000000000;
        works &= syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL) == 0;
    }
    told = works ? "work" : "fail";
    syscall(SYS_exit, 0);
    return 0;
}

static void raw_thread(const char *what, int flags, void *tls, void *with)
{
    static char stack[1 << 16] __attribute__((aligned(16)));
    raw_tid = 1;
    told = "were not made";
    mask before = with ? 0 : mask_of_maker;
    change_mask(SIG_SETMASK, &before, NULL);
    int thread = clone(in_raw_thread, stack + sizeof stack,
                       CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM
                           | CLONE_CHILD_CLEARTID | flags,
                       with, NULL, tls, &raw_tid);
    while (thread > 0 && raw_tid != 0)
        rest(MS);
    say("%s: %s, calls %s, mask %llx, main %llx", what, thread > 0 ? "made" : "failed", told,
        (long long)mask_in_clone, (long long)current_mask());
}

/* Threads that no libc has made; what they do does not use thread-local storage unless a call fails. */
static void clone_threads(void)
{
    static uint64_t storage[512] __attribute__((aligned(64)));
    storage[256] = AT(&storage[256]);
    raw_thread("with the maker's storage", 0, NULL, NULL);
    raw_thread("with storage of its own", CLONE_SETTLS, &storage[256], NULL);
}

static void clone_thread_masks(void)
{
    static uint64_t storage[512] __attribute__((aligned(64)));
    storage[256] = AT(&storage[256]);
    raw_thread("blocks, with the maker's storage", 0, NULL, "");
    raw_thread("blocks, with storage of its own", CLONE_SETTLS, &storage[256], "");
    mask_of_maker = BIT(SIGSYS);
    raw_thread("inherits, with the maker's storage", 0, NULL, NULL);
    static uint64_t another[512] __attribute__((aligned(64)));
    another[256] = AT(&another[256]);
    raw_thread("inherits, with storage of its own", CLONE_SETTLS, &another[256], NULL);
}

static int spawn(const char *argument, const posix_spawnattr_t *attributes)
{
    extern char **environ;
    char *arguments[] = { self, (char *)argument, (char *)running, NULL };
    pid_t child;
    int error = posix_spawn(&child, self, NULL, attributes, arguments, environ);
    if (error != 0)
        return 1000 + error;
    int status;
    while (waitpid(child, &status, 0) != child)
        continue;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 500 + WTERMSIG(status);
}

static void spawns(void)
{
    set_handler(SIGSYS, count, 0);
    set_handler(SIGUSR1, count, 0);
    int sum = 0;
    for (int each = 0; each < 50; each++)
        sum += spawn("--five", NULL);
    say("sum %d, mask %llx, calls %s", sum, (long long)current_mask(), time_calls());
    show_action(SIGSYS);
    raise(SIGSYS);
    raise(SIGUSR1);
    say("counts %d %d", counts[SIGSYS], counts[SIGUSR1]);
}

/* In the child everything is at its default. */
static void spawns_with_defaults(void)
{
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t set;
    sigfillset(&set);
    posix_spawnattr_setsigdefault(&attributes, &set);
    sigemptyset(&set);
    posix_spawnattr_setsigmask(&attributes, &set);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
    set_handler(SIGSYS, count, SA_RESTART);
    set_handler(SIGUSR1, count, 0);
    block(SIG_BLOCK, SIGSYS);
    for (int each = 0; each < 3; each++)
        say("%d", spawn("--found", &attributes));
    say("mask %llx, calls %s", (long long)current_mask(), time_calls());
    show_action(SIGSYS);
    raise(SIGSYS);
    say("pending %llx count %d", (long long)pending(), counts[SIGSYS]);
    block(SIG_UNBLOCK, SIGSYS);
    say("pending %llx count %d", (long long)pending(), counts[SIGSYS]);
}

/* What the shell and its pipes do. */
static void shells(void)
{
    set_handler(SIGSYS, count, 0);
    int status = system("exit 3");
    say("system %d", WEXITSTATUS(status));
    char text[64] = "";
    FILE *stream = popen("echo said", "r");
    if (stream && fgets(text, sizeof text, stream))
        text[strcspn(text, "\n")] = 0;
    say("popen %s %d", text, stream ? pclose(stream) : -1);
    signal(SIGSYS, SIG_IGN);
    say("system, ignored %d", WEXITSTATUS(system("sleep 0.01; exit 4")));
    block(SIG_BLOCK, SIGSYS);
    say("system, blocked %d", WEXITSTATUS(system("sleep 0.01; exit 5")));
    say("mask %llx, calls %s", (long long)current_mask(), time_calls());
}

static void forks_in_handler(int signal)
{
    int error = errno;
    pid_t child = fork();
    if (child == 0) {
        seen.calls = time_calls();
        seen.blocked = current_mask();
        _exit(strcmp(seen.calls, "work") == 0 && seen.blocked == BIT(signal) ? 3 : 4);
    }
    say("child %s", ended(child));
    errno = error;
}

/* The child of a handler that interrupted a call. */
static void fork_in_handler(void)
{
    set_plain(SIGUSR1, forks_in_handler);
    for (unsigned which = 0; which < 7; which++) {
        struct sender sender = { pthread_self(), 0, SIGUSR1, 0, 20 * MS };
        pthread_t thread = thread_of(sends, &sender);
        const char *what = shown(timed_wait(which, 3 * SECOND));
        say("%s: %s, calls %s", timed_waits[which], what, time_calls());
        pthread_join(thread, NULL);
    }
}

static void returns_from_fork(int signal)
{
    int error = errno;
    counts[signal] = fork();
    errno = error;
}

/* The child returns from the handler, into the call. */
static void fork_returns_into_call(void)
{
    set_plain(SIGUSR1, returns_from_fork);
    for (unsigned which = 0; which < 7; which++) {
        struct sender sender = { pthread_self(), 0, SIGUSR1, 0, 20 * MS };
        pthread_t thread = thread_of(sends, &sender);
        const char *what = shown(timed_wait(which, 3 * SECOND));
        if (counts[SIGUSR1] == 0)
            _exit(strcmp(what, "EINTR") == 0 && strcmp(time_calls(), "work") == 0 ? 21 : 22);
        pthread_join(thread, NULL);
        say("%s: %s, child %s", timed_waits[which], what, ended(counts[SIGUSR1]));
    }
}

/* Forks while other threads make caught calls and get signals. */
static void *keeps_calling(void *with)
{
    (void)with;
    while (!leave) {
        now();
        sleep_until_raw(CLOCK_MONOTONIC, 10000);
        block(SIG_BLOCK, SIGSYS);
        block(SIG_UNBLOCK, SIGSYS);
    }
    return NULL;
}

static void fork_among_threads(void)
{
    set_handler(SIGSYS, count, SA_RESTART);
    pthread_t one = thread_of(keeps_calling, NULL), two = thread_of(keeps_calling, NULL);
    int right = 0;
    for (int each = 0; each < 100; each++) {
        kill(getpid(), SIGSYS);
        pid_t child = fork();
        if (child == 0)
            _exit(current_mask() == 0 && pending() == 0 && sleep_until_raw(CLOCK_MONOTONIC, 1000) == 0 ? 1 : 0);
        right += strcmp(ended(child), "exit 1") == 0;
    }
    leave = 1;
    pthread_join(one, NULL);
    pthread_join(two, NULL);
    say("right %d, mask %llx, calls %s", right, (long long)current_mask(), time_calls());
}

static const struct test {
    const char *name;
    void (*run)(void);
} cases[] = {
    { "sys_block_raw", sys_block_raw },
    { "sys_block_libc", sys_block_libc },
    { "sys_block_threads", sys_block_threads },
    { "sys_block_inherited", sys_block_inherited },
    { "sys_ign", sys_ign },
    { "sys_dfl", sys_dfl },
    { "sys_handler", sys_handler },
    { "sys_oldact", sys_oldact },
    { "sys_in_mask", sys_in_mask },
    { "sys_in_context", sys_in_context },
    { "sys_set_by_context", sys_set_by_context },
    { "sys_nested", sys_nested },
    { "sys_pending", sys_pending },
    { "sys_pending_once", sys_pending_once },
    { "sys_pending_of_thread", sys_pending_of_thread },
    { "sys_sigwait_pending", sys_sigwait_pending },
    { "sys_sigwait_sent", sys_sigwait_sent },
    { "sys_sigwait_other_thread", sys_sigwait_other_thread },
    { "sys_other_thread", sys_other_thread },
    { "signalfd_sigsys", signalfd_sigsys },
    { "sys_masked_waits", sys_masked_waits },
    { "sys_let_in", sys_let_in },
    { "sys_kept_out", sys_kept_out },
    { "sys_interrupts", sys_interrupts },
    { "sys_flags", sys_flags },
    { "sys_exec", sys_exec },
    { "cut_without_restart", cut_without_restart },
    { "cut_with_restart", cut_with_restart },
    { "cut_ignored", cut_ignored },
    { "cut_stopped", cut_stopped },
    { "cut_by_jump", cut_by_jump },
    { "cut_short_calls_by_jump", cut_short_calls_by_jump },
    { "storm_of_signals", storm_of_signals },
    { "cut_and_calls", cut_and_calls },
    { "cancel_deferred", cancel_deferred },
    { "cancel_asynchronous", cancel_asynchronous },
    { "cancel_in_short_calls", cancel_in_short_calls },
    { "cancel_disabled", cancel_disabled },
    { "thread_all_blocked", thread_all_blocked },
    { "thread_small_stack", thread_small_stack },
    { "thread_many", thread_many },
    { "stack_8k", stack_8k },
    { "stack_minimal", stack_minimal },
    { "stack_twice_minimal", stack_twice_minimal },
    { "stack_in_wait", stack_in_wait },
#if defined __x86_64__ && !defined __ILP32__
    { "registers", registers },
    { "registers_interrupted", registers_interrupted },
    { "stack_use", stack_use },
#endif
    { "vfork_calls", vfork_calls },
    { "vfork_defaults", vfork_defaults },
    { "vfork_own_handler", vfork_own_handler },
    { "vfork_mask", vfork_mask },
    { "clone_memory", clone_memory },
    { "clone_threads", clone_threads },
    { "clone_thread_masks", clone_thread_masks },
    { "spawns", spawns },
    { "spawns_with_defaults", spawns_with_defaults },
    { "shells", shells },
    { "fork_in_handler", fork_in_handler },
    { "fork_returns_into_call", fork_returns_into_call },
    { "fork_among_threads", fork_among_threads },
};

/* Runs one case in a child. */
static void attempt(const struct test *test)
{
    running = test->name;
    pid_t child = fork();
    if (child == 0) {
        setpgid(0, 0);
        test->run();
        _exit(0);
    }
    setpgid(child, child);
    int status = 0;
    pid_t over = 0;
    for (int ms = 0; ms < 120000 && (over = waitpid(child, &status, WNOHANG)) == 0; ms += 2)
        poll(NULL, 0, 2);
    kill(-child, SIGKILL);
    if (over == 0) {
        say("HANG");
        waitpid(child, &status, 0);
    } else if (WIFSIGNALED(status)) {
        say("ended by signal %d", WTERMSIG(status));
    } else {
        say("exit %d", WEXITSTATUS(status));
    }
}

static int listen_to_signals(void)
{
    static const int handled[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGCONT, SIGWINCH, SIGALRM };
    sigset_t set;
    sigemptyset(&set);
    for (unsigned i = 0; i < COUNT(handled); i++)
        sigaddset(&set, handled[i]);
    sigprocmask(SIG_BLOCK, &set, NULL);
    struct pollfd ready[] = { { signalfd(-1, &set, SFD_CLOEXEC), POLLIN, 0 }, { 0, POLLIN, 0 } };
    printf("ready %d\n", getpid());
    fflush(stdout);
    while (poll(ready, 2, -1) > 0) {
        struct signalfd_siginfo info;
        if (ready[0].revents && read(ready[0].fd, &info, sizeof info) == sizeof info) {
            printf("got %d\n", info.ssi_signo);
            fflush(stdout);
            if (info.ssi_signo == SIGUSR2)
                break;
        }
        char byte;
        if (ready[1].revents && read(0, &byte, 1) != 1)
            break;
    }
    return 3;
}

int main(int count_of_arguments, char **arguments)
{
    self = arguments[0];
    if (count_of_arguments == 1)
        return listen_to_signals();
    if (strcmp(arguments[1], "--found") == 0) {
        running = arguments[2];
        found();
        return 0;
    }
    if (strcmp(arguments[1], "--five") == 0)
        return strcmp(time_calls(), "work") == 0 ? 5 : 6;
    for (unsigned each = 0; each < COUNT(cases); each++) {
        if (strcmp(arguments[1], "--list") == 0) {
            puts(cases[each].name);
            continue;
        }
        for (int at = 1; at < count_of_arguments; at++)
            if (strcmp(arguments[at], cases[each].name) == 0)
                attempt(&cases[each]);
    }
    return 0;
}
