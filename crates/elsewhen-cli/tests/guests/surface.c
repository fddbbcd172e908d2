/* Makes every system call that carries time, each in many ways, and says what came of it.
 *
 *   surface --list                      prints `ROW CASE` for every case; ROW is the name of the system call
 *   surface --measure                   prints how often the time stamp counter counts in a millisecond
 *   surface KHZ WAIT_MS [CASE...]       runs all cases, or these, and prints `CASE RESULT ERRNO ELAPSED_NS EXTRA...`
 *
 * ELAPSED_NS is taken from the time stamp counter, which no namespace moves: KHZ is what `--measure` said natively.
 * WAIT_MS is how long a wait is to last in the time of the program. RESULT is `skip` where the kernel cannot do it
 * (EXTRA says why), `died` with a signal, or `hangs` after LIMIT. EXTRA is `-` or words, which are the same wherever
 * the case runs, unless they are of one of these forms (nanoseconds all, of the program's time if not of the host's):
 *
 *   after=WAIT,SLACK        a wait of WAIT has ended; the kernel itself may end it by SLACK of the host's time early
 *   host=WAIT               not before so much of the host's time
 *   cpu                     as late as processors are busy
 *   left=TOTAL,LEFT,ROUND   what the call said to be left of TOTAL; rounded by up to ROUND
 *   count=GONE,STEP,COUNT   how often a timer had expired whose first time was GONE ago, and then every STEP
 *   read=CLOCK,VALUE,UNIT   a clock's value; also `between`, if it lay between those of its vDSO function
 *   step=CLOCK,NS           a clock's resolution
 *   about=SET,GOT,ROUND     a duration that was set and read back; rounded by up to ROUND of the host's time
 *   ticks=DISTANCE          times(2) less MONOTONIC, in clock ticks
 *
 * All calls under test are made without the C library. What ends a wait from outside is done by another process at an
 * instant of the host's time. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/times.h>
#include <sys/timex.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "interfaces.h"

#if !defined __x86_64__ && !defined __aarch64__
#error "the system calls are those of x86-64 and arm64"
#endif

/* Newer than some headers. */
enum { NR_io_pgetevents = SYS_write == 1 ? 333 : 292, NR_epoll_pwait2 = 441, NR_futex_waitv = 449, NR_futex_wait = 455 };
/* As in linux/futex.h, linux/time.h, linux/timex.h, asm/socket.h and linux/personality.h, which musl has not. */
enum {
    WAIT = 0, WAKE = 1, REQUEUE = 3, CMP_REQUEUE = 4, WAKE_OP = 5, LOCK_PI = 6, UNLOCK_PI = 7, TRYLOCK_PI = 8,
    WAIT_BITSET = 9, WAIT_REQUEUE_PI = 11, CMP_REQUEUE_PI = 12, LOCK_PI2 = 13, PRIVATE = 128, REAL = 256, SIZE_U32 = 2,
};
enum { REALTIME = 0, MONOTONIC = 1, BOOTTIME = 7, TAI = 11 };
enum {
    MODE_FREQUENCY = 2, MODE_SETOFFSET = 0x100, MODE_TICK = 0x4000, MODE_SINGLESHOT = 0x8001, MODE_SS_READ = 0xa001,
};
enum { RCVTIMEO = 20, SNDTIMEO = 21, RCVTIMEO_NEW = 66, SNDTIMEO_NEW = 67 };
enum { STICKY_TIMEOUTS = 0x4000000 };

#define MS 1000000LL
#define SECOND 1000000000LL
/* How long another process lets a wait last, in the host's time, and how long that would have gone on. */
#define ACTS (60 * MS)
#define LONG (1000 * SECOND)
/* How much longer a wait is that something happens in the midst of, so that it does not end before that. */
#define MIDST (300 * MS)
/* The exit status of a case whose helper came too late, and how often it may. */
enum { AGAIN = 75, ATTEMPTS = 5 };
/* A case that takes so much of the host's time hangs. */
#define LIMIT (20 * SECOND)
/* The length of a tick of the slowest kernel: some timeouts are counted in these, from the middle of one. */
#define TICK (10 * MS)

#ifdef __aarch64__
static long call6(long number, const long *a)
{
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = a[0], x1 __asm__("x1") = a[1], x2 __asm__("x2") = a[2],
                  x3 __asm__("x3") = a[3], x4 __asm__("x4") = a[4], x5 __asm__("x5") = a[5];
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}
#else
static long call6(long number, const long *a)
{
    register long r10 __asm__("r10") = a[3], r8 __asm__("r8") = a[4], r9 __asm__("r9") = a[5];
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "0"(number), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
#endif

/* What the kernel has as an int is in the low half of a register; a case can have something in the other half. */
static long dirt;
#define D(number) ((long)(int)(number) ^ dirt)
#define P(pointer) ((long)(pointer))
#define CALL(number, ...) call6(number, (const long[6]){ __VA_ARGS__ })

/* ---- Time of the host ---- */

static uint64_t khz;

static uint64_t stamp(void)
{
#ifdef __aarch64__
    uint64_t ticks;
    __asm__ volatile("dsb ish; isb; mrs %0, cntvct_el0; isb" : "=r"(ticks)::"memory");
    return ticks;
#else
    uint32_t low, high;
    __asm__ volatile("mfence; lfence; rdtsc; lfence" : "=a"(low), "=d"(high)::"memory");
    return (uint64_t)high << 32 | low;
#endif
}

static long long host_ns(uint64_t ticks)
{
    return (unsigned __int128)ticks * 1000000 / khz;
}

/* Sleeps for a few milliseconds of the host's, found out by trying: a namespace may count faster. */
static void nap(void)
{
    static long long ns = 4 * MS;
    struct timespec time = { ns / SECOND, ns % SECOND };
    uint64_t start = stamp();
    CALL(SYS_nanosleep, P(&time), 0);
    if (host_ns(stamp() - start) < 3 * MS && ns < 4 * SECOND)
        ns *= 2;
}

static void host_wait(uint64_t since, long long ns)
{
    while (host_ns(stamp() - since) < ns)
        nap();
}

static void measure(void)
{
    struct timespec time[2];
    uint64_t ticks[2];
    for (int i = 0; i < 2; i++) {
        uint64_t best = UINT64_MAX;
        /* The reading that took least is the one that was not interrupted. */
        for (int try = 0; try < 100; try++) {
            struct timespec now;
            uint64_t before = stamp();
            clock_gettime(CLOCK_MONOTONIC, &now);
            uint64_t after = stamp();
            if (after - before < best) {
                best = after - before;
                ticks[i] = before + best / 2;
                time[i] = now;
            }
        }
        if (i == 0)
            usleep(100000);
    }
    long long ns = (time[1].tv_sec - time[0].tv_sec) * SECOND + time[1].tv_nsec - time[0].tv_nsec;
    printf("%llu\n", (unsigned long long)((unsigned __int128)(ticks[1] - ticks[0]) * 1000000 / ns));
}

/* ---- A case, its process and its line ---- */

struct test {
    const char *row;
    char name[64];
    void (*run)(const struct test *);
    const void *of;
    long arg;
};

/* What a case shares with its helper, and with the process that started it. */
static struct shared {
    _Atomic int begun, acted, semaphores;
    _Atomic uint64_t stopped;
    _Atomic uint32_t word, other;
} *shared;

static const struct test *this;
static long long wait_ns;
static char extra[512];
static size_t noted;
static uint64_t begun, ended;
static pid_t helper;

__attribute__((format(printf, 1, 2))) static void note(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    extra[noted++] = ' ';
    noted += vsnprintf(extra + noted, sizeof extra - noted, format, arguments);
    va_end(arguments);
}

static void say(const char *name, const char *result, long error, long long elapsed, const char *words)
{
    char line[768];
    int length = snprintf(line, sizeof line, "%s %s %ld %lld%s\n", name, result, error, elapsed, words);
    if (write(1, line, length) != length)
        _exit(1);
}

/* The call under test comes next. Whatever is to happen so long after this happens after. */
static void begin(void)
{
    begun = stamp();
    atomic_store(&shared->begun, 1);
}

static void end(void)
{
    ended = stamp();
}

static void stop_helper(void)
{
    if (helper > 0) {
        kill(helper, SIGKILL);
        while (waitpid(helper, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    helper = 0;
}

static void done(long raw)
{
    char result[24];
    if (ended < begun)
        end();
    stop_helper();
    int failed = raw < 0 && raw > -4096;
    snprintf(result, sizeof result, "%ld", failed ? -1 : raw);
    say(this->name, result, failed ? -raw : 0, host_ns(ended - begun), noted ? extra : " -");
    _exit(0);
}

__attribute__((noreturn, format(printf, 1, 2))) static void skip(const char *format, ...)
{
    char words[128] = " ";
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(words + 1, sizeof words - 1, format, arguments);
    va_end(arguments);
    stop_helper();
    say(this->name, "skip", 0, 0, words);
    _exit(0);
}

/* Privileged calls with good arguments must not succeed: a clock would be set that others use. */
static void give_up_rights(void)
{
    struct { uint32_t version; int pid; } header = { 0x20080522, 0 };
    struct { uint32_t effective, permitted, inheritable; } sets[2];
    CALL(SYS_setresuid, 65534, 65534, 65534);
    if (CALL(SYS_capget, P(&header), P(sets)) != 0 || sets[0].effective & 1u << 25)
        skip("CAP_SYS_TIME cannot be given up");
}

/* ---- Another process, which acts while a case waits ---- */

enum aid { IDLE, SIGNALS, ACT, STOPS, PINGS };

static int waits(pid_t process)
{
    char path[32], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", process);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    text[length > 0 ? length : 0] = 0;
    const char *name_end = strrchr(text, ')');
    return name_end && name_end[2] == 'S';
}

static void aid(enum aid what, void (*act)(void))
{
    sigset_t all, before;
    pid_t parent = getpid();
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    helper = fork();
    if (helper != 0) {
        sigprocmask(SIG_SETMASK, &before, NULL);
        return;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (what == IDLE || !atomic_load(&shared->begun))
        nap();
    /* From when it waits, however late it gets there: so long has it waited then at least. */
    for (uint64_t since = stamp(); !waits(parent) && host_ns(stamp() - since) < SECOND;)
        nap();
    if (what != PINGS)
        host_wait(stamp(), ACTS);
    /* In the midst of a wait, or not at all. */
    while ((what == PINGS || what == STOPS) && !waits(parent))
        nap();
    atomic_store(&shared->acted, 1);
    if (what == STOPS) {
        kill(parent, SIGSTOP);
        atomic_store(&shared->stopped, stamp());
        host_wait(stamp(), 20 * MS);
        kill(parent, SIGCONT);
    }
    for (;;) {
        if (what == SIGNALS || what == PINGS)
            kill(parent, SIGUSR1);
        if (what == PINGS && shared->stopped == 0)
            atomic_store(&shared->stopped, stamp());
        if (what == ACT)
            act();
        nap();
    }
}

static void on_signal(int number)
{
    (void)number;
}

static void handle(int number, int flags)
{
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = flags };
    sigaction(number, &action, NULL);
}

static void block(int number)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, number);
    sigprocmask(SIG_BLOCK, &set, NULL);
}

static long wait_for(int number)
{
    uint64_t set = 1ULL << (number - 1);
    return CALL(SYS_rt_sigtimedwait, P(&set), 0, 0, 8);
}

/* ---- Memory ---- */

static const char *const places[] = { "good", "null", "one", "high", "readonly", "across" };
enum place { GOOD, NOWHERE, ONE, HIGH, READONLY, ACROSS, PLACES };

/* Somewhere for an object of this size: its last eight bytes cannot be used with ACROSS. With READONLY it cannot be
 * written once `protect` has been called. */
static char *page;

static void *somewhere(enum place place, size_t size)
{
    page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(page + 4096, 4096, PROT_NONE);
    switch (place) {
    case NOWHERE:
        return NULL;
    case ONE:
        return (void *)1;
    case HIGH:
        return (void *)-64L;
    case ACROSS:
        return page + 4096 - (size - 8);
    default:
        return page;
    }
}

static void protect(enum place place)
{
    if (place == READONLY)
        mprotect(page, 4096, PROT_READ);
}

/* ---- Calls that wait ---- */

enum { NO_CLOCK = -1 };
enum flag {
    /* What remains is written to the timeout; to another place when interrupted. */
    LEFT = 1,
    REMAINS = 2,
    /* A signal lets it start again. */
    RESTARTS = 4,
    /* Nothing means for ever. */
    ZERO_IS_NEVER = 8,
    /* Parts of a second may be anything; may be more than a second. */
    UNCHECKED = 16,
    CARRIES = 32,
    /* The timeout is the second half of what is passed, behind an interval. */
    INTERVAL = 64,
    /* The helper holds the lock. */
    OWNED = 128,
    /* The kernel counts in ticks. */
    TICKS = 256,
    /* Only waits, without anything unusual. */
    PLAIN = 512,
};

struct call {
    const char *row, *name;
    int clock;
    enum { SPEC, VAL, MILLI } unit;
    unsigned flags;
    void (*prepare)(void);
    long (*make)(void *timeout);
    void (*event)(void);
    long arg;
};

static const struct call *current;
static int ends[2], descriptor;
/* A timer, or the descriptor of one. */
static int timer;
static unsigned long context;
static struct timespec remains = { -7, -7 };

static void nothing(void)
{
}

static void with_pipe(void)
{
    if (pipe(ends) != 0)
        skip("there is no pipe");
}

static void write_byte(void)
{
    if (write(ends[1], "x", 1) != 1)
        _exit(1);
}

static long nanosleep_(void *timeout)
{
    return CALL(SYS_nanosleep, P(timeout), P(&remains));
}

static long clock_nanosleep_(void *timeout)
{
    return CALL(SYS_clock_nanosleep, D(current->arg), D(current->clock != NO_CLOCK), P(timeout), P(&remains));
}

static long select_(void *timeout)
{
    fd_set set;
    FD_ZERO(&set);
    FD_SET(ends[0], &set);
    return CALL(SYS_select, D(ends[0] + 1), P(&set), 0, 0, P(timeout));
}

static long pselect6_(void *timeout)
{
    fd_set set;
    FD_ZERO(&set);
    FD_SET(ends[0], &set);
    return CALL(SYS_pselect6, D(ends[0] + 1), P(&set), 0, 0, P(timeout), 0);
}

static long poll_(void *timeout)
{
    struct pollfd on = { ends[0], POLLIN, 0 };
    return CALL(SYS_poll, P(&on), D(1), D(*(int *)timeout));
}

static long ppoll_(void *timeout)
{
    struct pollfd on = { ends[0], POLLIN, 0 };
    return CALL(SYS_ppoll, P(&on), D(1), P(timeout), 0, 8);
}

static void with_epoll(void)
{
    struct epoll_event event = { .events = EPOLLIN };
    with_pipe();
    descriptor = epoll_create1(EPOLL_CLOEXEC);
    epoll_ctl(descriptor, EPOLL_CTL_ADD, ends[0], &event);
}

static long epoll_(void *timeout)
{
    struct epoll_event event;
    return CALL(current->arg, D(descriptor), P(&event), D(1), D(*(int *)timeout), 0, 8);
}

static long epoll_pwait2_(void *timeout)
{
    struct epoll_event event;
    return CALL(NR_epoll_pwait2, D(descriptor), P(&event), D(1), P(timeout), 0, 8);
}

static void has_pwait2(void)
{
    with_epoll();
    if (CALL(NR_epoll_pwait2, -1, 0, 0, 0, 0, 0) == -ENOSYS)
        skip("there is no epoll_pwait2");
}

static long futex_(void *timeout)
{
    return CALL(SYS_futex, P(&shared->word), D(current->arg), D(shared->word), P(timeout), P(&shared->other), D(-1));
}

static void wake(void)
{
    CALL(SYS_futex, P(&shared->word), WAKE, 1);
}

static void unlock(void)
{
    CALL(SYS_futex, P(&shared->word), UNLOCK_PI);
}

static void requeue(void)
{
    CALL(SYS_futex, P(&shared->word), CMP_REQUEUE_PI, 1, 0, P(&shared->other), shared->word);
}

static void has_lock_pi2(void)
{
    if (CALL(SYS_futex, P(&shared->other), LOCK_PI2, 0, 0, 0, 0) == -ENOSYS)
        skip("there is no FUTEX_LOCK_PI2");
    shared->other = 0;
}

struct waiter {
    uint64_t value, address;
    uint32_t flags, reserved;
};

static void has_waitv(void)
{
    if (CALL(NR_futex_waitv, 0, 0, 0, 0, 0) == -ENOSYS)
        skip("there is no futex_waitv");
}

static long futex_waitv_(void *timeout)
{
    struct waiter on[] = { { shared->other, P(&shared->other), SIZE_U32, 0 },
                           { shared->word, P(&shared->word), SIZE_U32, 0 } };
    return CALL(NR_futex_waitv, P(on), D(2), D(0), P(timeout), D(current->arg));
}

static void has_wait(void)
{
    if (CALL(NR_futex_wait, P(&shared->word), 1, 1, SIZE_U32, 0, 0) == -ENOSYS)
        skip("there is no futex_wait");
}

static long futex_wait_(void *timeout)
{
    return CALL(NR_futex_wait, P(&shared->word), shared->word, 1, D(SIZE_U32), P(timeout), D(current->arg));
}

static void with_queue(void)
{
    struct { long flags, messages, size, queued, reserved[4]; } one = { 0, 1, 8, 0, { 0 } };
    char name[32];
    snprintf(name, sizeof name, "elsewhen-surface-%d", getpid());
    descriptor = CALL(SYS_mq_open, P(name), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600, P(&one));
    if (descriptor < 0)
        skip("mq_open: %s", strerror(-descriptor));
    CALL(SYS_mq_unlink, P(name));
}

static void fill_queue(void)
{
    with_queue();
    CALL(SYS_mq_timedsend, descriptor, P("12345678"), 8, 0, 0);
}

static long mq_timedsend_(void *timeout)
{
    return CALL(SYS_mq_timedsend, D(descriptor), P("12345678"), 8, D(0), P(timeout));
}

static long mq_timedreceive_(void *timeout)
{
    char message[8];
    return CALL(SYS_mq_timedreceive, D(descriptor), P(message), 8, 0, P(timeout));
}

static void take_message(void)
{
    mq_timedreceive_(NULL);
}

static void send_message(void)
{
    mq_timedsend_(NULL);
}

static void with_usr2(void)
{
    block(SIGUSR2);
}

static long rt_sigtimedwait_(void *timeout)
{
    uint64_t set = 1ULL << (SIGUSR2 - 1);
    return CALL(SYS_rt_sigtimedwait, P(&set), 0, P(timeout), 8);
}

static void send_usr2(void)
{
    kill(getppid(), SIGUSR2);
}

static void with_semaphore(void)
{
    int id = semget(IPC_PRIVATE, 1, 0600);
    if (id < 0)
        skip("semget: %s", strerror(errno));
    /* So that it can be removed whatever happens to this process. */
    shared->semaphores = id + 1;
}

static long semtimedop_(void *timeout)
{
    struct sembuf down = { 0, -1, 0 };
    return CALL(SYS_semtimedop, D(shared->semaphores - 1), P(&down), D(1), P(timeout));
}

static void raise_semaphore(void)
{
    struct sembuf up = { 0, 1, 0 };
    semop(shared->semaphores - 1, &up, 1);
}

/* As in linux/aio_abi.h; `command` 5 is to poll. */
struct request {
    uint64_t data;
    uint32_t key, rw;
    uint16_t command;
    int16_t priority;
    uint32_t descriptor;
    uint64_t buffer, bytes, offset, reserved;
    uint32_t flags, result;
};

static void with_context(void)
{
    static struct request request;
    with_pipe();
    long result = CALL(SYS_io_setup, 1, P(&context));
    if (result != 0)
        skip("io_setup: %s", strerror(-result));
    request = (struct request){ .command = 5, .descriptor = ends[0], .buffer = POLLIN };
    result = CALL(SYS_io_submit, context, 1, P((struct request *[]){ &request }));
    if (result != 1)
        skip("io_submit: %s", strerror(-result));
}

static long io_getevents_(void *timeout)
{
    uint64_t event[4];
    return CALL(current->arg, context, 1, 1, P(event), P(timeout), 0);
}

/* A full socket to write to, an empty one to read from. */
static void with_sockets(void)
{
    static char block[65536];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0)
        skip("there are no sockets");
    while (send(ends[0], block, sizeof block, MSG_DONTWAIT) > 0)
        ;
}

static long sending(void *timeout)
{
    static char block[4096];
    long result = CALL(SYS_setsockopt, D(ends[0]), D(SOL_SOCKET), D(current->arg), P(timeout), D(16));
    if (result == 0)
        result = CALL(SYS_sendto, ends[0], P(block), sizeof block, MSG_NOSIGNAL, 0, 0);
    return result;
}

static long receiving(void *timeout)
{
    char byte;
    long result = CALL(SYS_setsockopt, D(ends[0]), D(SOL_SOCKET), D(current->arg), P(timeout), D(16));
    return result ? result : CALL(SYS_recvfrom, ends[0], P(&byte), 1, 0, 0, 0);
}

static long reading(void *timeout)
{
    char byte;
    long result = CALL(SYS_setsockopt, D(ends[0]), D(SOL_SOCKET), D(current->arg), P(timeout), D(16));
    return result ? result : CALL(SYS_read, ends[0], P(&byte), 1);
}

static void drain(void)
{
    static char block[65536];
    while (recv(ends[1], block, sizeof block, MSG_DONTWAIT) > 0)
        ;
}

static void with_listener(void)
{
    static struct sockaddr_un nameless = { .sun_family = AF_UNIX };
    ends[0] = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(ends[0], (struct sockaddr *)&nameless, sizeof nameless.sun_family) != 0 || listen(ends[0], 5) != 0)
        skip("a socket cannot listen: %s", strerror(errno));
}

static long accepting(void *timeout)
{
    long result = CALL(SYS_setsockopt, D(ends[0]), D(SOL_SOCKET), D(current->arg), P(timeout), D(16));
    return result ? result : CALL(SYS_accept4, ends[0], 0, 0, 0);
}

static void with_alarm(void)
{
    block(SIGALRM);
}

static long setitimer_(void *timeout)
{
    long result = CALL(SYS_setitimer, D(ITIMER_REAL), P(timeout), 0);
    return result ? result : wait_for(SIGALRM);
}

static void make_timer(int clock)
{
    block(SIGALRM);
    long result = CALL(SYS_timer_create, clock, 0, P(&timer));
    if (result != 0)
        skip("timer_create: %s", strerror(-result));
}

static void with_timer(void)
{
    make_timer(current->arg);
}

static long timer_settime_(void *timeout)
{
    long result = CALL(SYS_timer_settime, D(timer), D(current->clock != NO_CLOCK), P(timeout), 0);
    return result ? result : wait_for(SIGALRM);
}

static void make_timerfd(int clock, int flags)
{
    timer = CALL(SYS_timerfd_create, clock, flags);
    if (timer < 0)
        skip("timerfd_create: %s", strerror(-timer));
}

static void with_timerfd(void)
{
    make_timerfd(current->arg & 255, 0);
}

static long read_timerfd(void)
{
    uint64_t count;
    long result = CALL(SYS_read, timer, P(&count), 8);
    return result == 8 ? (long)count : result;
}

static long timerfd_settime_(void *timeout)
{
    int flags = (current->clock != NO_CLOCK) | current->arg >> 8;
    long result = CALL(SYS_timerfd_settime, D(timer), D(flags), P(timeout), 0);
    return result ? result : read_timerfd();
}

static long timerfd_poll(void *timeout)
{
    struct pollfd on = { timer, POLLIN, 0 };
    long result = CALL(SYS_timerfd_settime, timer, current->clock != NO_CLOCK, P(timeout), 0);
    return result ? result : CALL(SYS_poll, P(&on), 1, -1);
}

/* The clock in the upper half of what cancels a timer. */
#define CANCEL(clock) ((clock) | TFD_TIMER_CANCEL_ON_SET << 8)

static const struct call calls[] = {
#define ABSOLUTE(row, name, clock, flags, prepare, make, event, arg) \
    { row, name, clock, SPEC, flags, prepare, make, event, arg }
#define RELATIVE(row, name, unit, flags, prepare, make, event, arg) \
    { row, name, NO_CLOCK, unit, flags, prepare, make, event, arg }
#define ON_CLOCK(name, clock) \
    ABSOLUTE("clock_nanosleep", "clock_nanosleep-until-" name, clock, 0, nothing, clock_nanosleep_, NULL, clock), \
    RELATIVE("clock_nanosleep", "clock_nanosleep-for-" name, SPEC, REMAINS, nothing, clock_nanosleep_, NULL, clock), \
    ABSOLUTE("timer_settime", "timer-until-" name, clock, INTERVAL | ZERO_IS_NEVER, with_timer, timer_settime_, NULL, \
             clock), \
    RELATIVE("timer_settime", "timer-for-" name, SPEC, INTERVAL | ZERO_IS_NEVER, with_timer, timer_settime_, NULL, \
             clock)
    ON_CLOCK("realtime", REALTIME),
    ON_CLOCK("monotonic", MONOTONIC),
    ON_CLOCK("boottime", BOOTTIME),
    ON_CLOCK("tai", TAI),
#define TIMERFD(name, clock, arg) \
    ABSOLUTE("timerfd_settime", "timerfd-until-" name, clock, INTERVAL | ZERO_IS_NEVER, with_timerfd, \
             timerfd_settime_, NULL, arg), \
    RELATIVE("timerfd_settime", "timerfd-for-" name, SPEC, INTERVAL | ZERO_IS_NEVER, with_timerfd, timerfd_settime_, \
             NULL, arg)
    TIMERFD("realtime", REALTIME, REALTIME),
    TIMERFD("monotonic", MONOTONIC, MONOTONIC),
    TIMERFD("boottime", BOOTTIME, BOOTTIME),
    TIMERFD("realtime-alarm", REALTIME, CLOCK_REALTIME_ALARM),
    TIMERFD("boottime-alarm", BOOTTIME, CLOCK_BOOTTIME_ALARM),
    TIMERFD("realtime-cancelled", REALTIME, CANCEL(REALTIME)),
    TIMERFD("monotonic-cancelled", MONOTONIC, CANCEL(MONOTONIC)),
    ABSOLUTE("timerfd_settime", "timerfd-poll", REALTIME, INTERVAL | PLAIN, with_timerfd, timerfd_poll, NULL, REALTIME),
#define FUTEX(name, clock, flags, make, event, op) \
    ABSOLUTE("futex", "futex-" name, clock, flags, nothing, make, event, op), \
    ABSOLUTE("futex", "futex-" name "-private", clock, PLAIN | (flags), nothing, make, NULL, (op) | PRIVATE)
    FUTEX("wait-bitset", MONOTONIC, 0, futex_, wake, WAIT_BITSET),
    FUTEX("wait-bitset-realtime", REALTIME, 0, futex_, wake, WAIT_BITSET | REAL),
    FUTEX("wait-requeue-pi", MONOTONIC, RESTARTS, futex_, requeue, WAIT_REQUEUE_PI),
    FUTEX("wait-requeue-pi-realtime", REALTIME, RESTARTS, futex_, requeue, WAIT_REQUEUE_PI | REAL),
    ABSOLUTE("futex", "futex-lock-pi", REALTIME, RESTARTS | OWNED, nothing, futex_, unlock, LOCK_PI),
    ABSOLUTE("futex", "futex-lock-pi2", MONOTONIC, RESTARTS | OWNED, has_lock_pi2, futex_, unlock, LOCK_PI2),
    ABSOLUTE("futex", "futex-lock-pi2-realtime", REALTIME, RESTARTS | OWNED, has_lock_pi2, futex_, unlock,
             LOCK_PI2 | REAL),
    RELATIVE("futex", "futex-wait", SPEC, 0, nothing, futex_, wake, WAIT),
    RELATIVE("futex", "futex-wait-private", SPEC, PLAIN, nothing, futex_, NULL, WAIT | PRIVATE),
    ABSOLUTE("futex_waitv", "futex_waitv", MONOTONIC, 0, has_waitv, futex_waitv_, wake, MONOTONIC),
    ABSOLUTE("futex_waitv", "futex_waitv-realtime", REALTIME, 0, has_waitv, futex_waitv_, wake, REALTIME),
    ABSOLUTE("futex_wait", "futex_wait", MONOTONIC, 0, has_wait, futex_wait_, wake, MONOTONIC),
    ABSOLUTE("futex_wait", "futex_wait-realtime", REALTIME, 0, has_wait, futex_wait_, wake, REALTIME),
    ABSOLUTE("mq_timedsend", "mq_timedsend", REALTIME, 0, fill_queue, mq_timedsend_, take_message, 0),
    ABSOLUTE("mq_timedreceive", "mq_timedreceive", REALTIME, 0, with_queue, mq_timedreceive_, send_message, 0),
    RELATIVE("nanosleep", "nanosleep", SPEC, REMAINS, nothing, nanosleep_, NULL, 0),
    RELATIVE("select", "select", VAL, LEFT | CARRIES, with_pipe, select_, write_byte, 0),
    RELATIVE("pselect6", "pselect6", SPEC, LEFT, with_pipe, pselect6_, write_byte, 0),
    RELATIVE("poll", "poll", MILLI, 0, with_pipe, poll_, write_byte, 0),
    RELATIVE("ppoll", "ppoll", SPEC, LEFT, with_pipe, ppoll_, write_byte, 0),
    RELATIVE("epoll_wait", "epoll_wait", MILLI, 0, with_epoll, epoll_, write_byte, SYS_epoll_wait),
    RELATIVE("epoll_pwait", "epoll_pwait", MILLI, 0, with_epoll, epoll_, write_byte, SYS_epoll_pwait),
    RELATIVE("epoll_pwait2", "epoll_pwait2", SPEC, 0, has_pwait2, epoll_pwait2_, write_byte, 0),
    RELATIVE("rt_sigtimedwait", "rt_sigtimedwait", SPEC, 0, with_usr2, rt_sigtimedwait_, send_usr2, 0),
    RELATIVE("semtimedop", "semtimedop", SPEC, 0, with_semaphore, semtimedop_, raise_semaphore, 0),
#define EVENTS(name, number) \
    RELATIVE(name, name, SPEC, UNCHECKED, with_context, io_getevents_, write_byte, number)
    EVENTS("io_getevents", SYS_io_getevents),
    EVENTS("io_pgetevents", NR_io_pgetevents),
    RELATIVE("setitimer", "setitimer", VAL, INTERVAL | ZERO_IS_NEVER, with_alarm, setitimer_, NULL, 0),
#define SOCKET(name, make, event, option) \
    RELATIVE("setsockopt", name, VAL, ZERO_IS_NEVER | TICKS, with_sockets, make, event, option)
    SOCKET("recv", receiving, write_byte, RCVTIMEO),
    SOCKET("recv-new", receiving, write_byte, RCVTIMEO_NEW),
    SOCKET("recv-read", reading, write_byte, RCVTIMEO),
    SOCKET("send", sending, drain, SNDTIMEO),
    SOCKET("send-new", sending, drain, SNDTIMEO_NEW),
    RELATIVE("setsockopt", "accept", VAL, PLAIN | TICKS, with_listener, accepting, NULL, RCVTIMEO),
};

/* What is asked of these calls. */
static const struct form {
    const char *name;
    enum ask {
        IN_A_WHILE, BEFORE, FIRST, AT_ZERO, BELOW_ZERO, OVER, UNDER, AT_THE_END, AT_THE_EDGE, LATE, BY_POINTER
    } ask;
    enum aid aid;
    enum place place;
    int dirty, in_thread;
} forms[] = {
    { "soon", IN_A_WHILE, IDLE, GOOD, 0, 0 },
    { "dirty", IN_A_WHILE, IDLE, GOOD, 1, 0 },
    { "thread", IN_A_WHILE, IDLE, GOOD, 0, 1 },
    { "readonly", IN_A_WHILE, IDLE, READONLY, 0, 0 },
    { "stopped", IN_A_WHILE, STOPS, GOOD, 0, 0 },
    { "pinged", IN_A_WHILE, PINGS, GOOD, 0, 0 },
    { "past", BEFORE, IDLE, GOOD, 0, 0 },
    { "first", FIRST, IDLE, GOOD, 0, 0 },
    { "zero", AT_ZERO, IDLE, GOOD, 0, 0 },
    { "negative", BELOW_ZERO, IDLE, GOOD, 0, 0 },
    { "over", OVER, IDLE, GOOD, 0, 0 },
    { "under", UNDER, IDLE, GOOD, 0, 0 },
    { "never", AT_THE_END, SIGNALS, GOOD, 0, 0 },
    { "never-event", AT_THE_END, ACT, GOOD, 0, 0 },
    { "edge", AT_THE_EDGE, SIGNALS, GOOD, 0, 0 },
    { "signal", LATE, SIGNALS, GOOD, 0, 0 },
    { "signal-readonly", LATE, SIGNALS, READONLY, 0, 0 },
    { "event", LATE, ACT, GOOD, 0, 0 },
    { "event-readonly", LATE, ACT, READONLY, 0, 0 },
    { "null-signal", BY_POINTER, SIGNALS, NOWHERE, 0, 0 },
    { "null-event", BY_POINTER, ACT, NOWHERE, 0, 0 },
    { "one", BY_POINTER, IDLE, ONE, 0, 0 },
    { "high", BY_POINTER, IDLE, HIGH, 0, 0 },
    { "across", BY_POINTER, IDLE, ACROSS, 0, 0 },
};

/* What would never end, could not be prepared or says nothing. */
static int makes_sense(const struct call *call, const struct form *form)
{
    if (call->flags & PLAIN)
        return form->ask == IN_A_WHILE && form->aid == IDLE && form->place == GOOD;
    if (form->aid == ACT && !call->event)
        return 0;
    if (form->aid == SIGNALS && call->flags & RESTARTS)
        return 0;
    if (call->unit == MILLI &&
        (form->place != GOOD || form->ask == OVER || form->ask == UNDER || form->ask == AT_THE_EDGE))
        return 0;
    if (call->flags & UNCHECKED && (form->ask == BELOW_ZERO || form->ask == OVER || form->ask == UNDER))
        return 0;
    if (call->clock == NO_CLOCK && form->ask == BEFORE)
        return 0;
    return 1;
}

/* The time that is asked for: from now on where the call takes an instant. */
static struct timespec time_for(const struct call *call, enum ask ask, struct timespec now, long long wait)
{
    long long ns = now.tv_nsec + (ask == IN_A_WHILE ? wait : ask == BEFORE ? -SECOND : LONG);
    long long sec = now.tv_sec + ns / SECOND;
    switch (ask) {
    case FIRST:
        return (struct timespec){ 0, call->unit == SPEC ? 1 : call->unit == VAL ? 1000 : MS };
    case AT_ZERO:
        return (struct timespec){ 0, 0 };
    case BELOW_ZERO:
        return (struct timespec){ -1, 0 };
    case OVER:
        return (struct timespec){ sec, SECOND };
    case UNDER:
        return (struct timespec){ sec, call->unit == VAL ? -1000 : -1 };
    case AT_THE_END:
        return (struct timespec){ INT64_MAX, 999999999 };
    case AT_THE_EDGE:
        return (struct timespec){ INT64_MAX / SECOND, INT64_MAX % SECOND };
    default:
        return ns < 0 ? (struct timespec){ sec - 1, ns + SECOND } : (struct timespec){ sec, ns % SECOND };
    }
}

/* Where what remains was written: what it says. */
static void note_what_is_left(const struct call *call, const struct form *form, const char *timeout, long long wait,
                              struct timespec asked, long raw)
{
    struct timespec left = { -7, -7 };
    if (call->flags & LEFT && form->ask != BY_POINTER) {
        memcpy(&left, timeout, sizeof left);
        if (call->unit == VAL)
            left.tv_nsec *= 1000;
    }
    if (call->flags & REMAINS) {
        left = remains;
        if (raw != -EINTR)
            note(left.tv_sec == -7 && left.tv_nsec == -7 ? "untouched" : "touched");
    }
    if (left.tv_sec > 100LL * 365 * 86400)
        note("far");
    else if (form->place == READONLY && call->flags & LEFT)
        note(left.tv_sec == asked.tv_sec && left.tv_nsec == asked.tv_nsec ? "kept" : "changed");
    else if ((form->ask == LATE && left.tv_sec != -7) || (form->ask == IN_A_WHILE && call->flags & LEFT))
        note("left=%lld,%lld,%lld", form->ask == LATE ? LONG : wait, left.tv_sec * SECOND + left.tv_nsec,
             call->unit == VAL ? 1000LL : 1LL);
}

static void waiting(const struct test *test)
{
    const struct form *form = &forms[test->arg];
    const struct call *call = current = test->of;
    enum aid what = form->aid;
    int in_the_midst = what == STOPS || what == PINGS;
    long long wait = wait_ns + (in_the_midst ? MIDST : 0);
    size_t interval = call->flags & INTERVAL ? 16 : 0;
    char *timeout = somewhere(form->place, 16 + interval);
    struct timespec now = { 0, 0 };

    call->prepare();
    /* These never end by themselves. */
    if ((form->ask == AT_ZERO && call->flags & ZERO_IS_NEVER) || (form->ask == BELOW_ZERO && call->unit == MILLI) ||
        (form->ask == OVER && call->flags & CARRIES))
        what = SIGNALS;
    handle(SIGUSR1, what == PINGS ? SA_RESTART : 0);
    aid(what, call->event);
    if (call->flags & OWNED)
        shared->word = helper;
    dirt = form->dirty ? 0x5a5a5a5a00000000 : 0;

    begin();
    if (call->clock != NO_CLOCK)
        CALL(SYS_clock_gettime, call->clock, P(&now));
    struct timespec asked = time_for(call, form->ask, now, wait);
    struct timeval value = { asked.tv_sec, asked.tv_nsec / 1000 };
    int milliseconds = form->ask == AT_THE_END ? INT_MAX : asked.tv_sec * 1000 + asked.tv_nsec / MS;
    const void *as[] = { [SPEC] = &asked, [VAL] = &value, [MILLI] = &milliseconds };
    if (form->ask != BY_POINTER)
        memcpy(timeout + interval, as[call->unit], call->unit == MILLI ? sizeof milliseconds : sizeof asked);
    protect(form->place);
    long raw = call->make(timeout);
    end();
    while (in_the_midst && shared->acted && shared->stopped == 0)
        nap();
    stop_helper();

    if (what == SIGNALS || what == ACT) {
        note(shared->acted ? "acted" : "alone");
        if (shared->acted)
            note("host=%lld", ACTS);
    }
    if (form->ask == IN_A_WHILE && (raw >= 0 || raw == -ETIMEDOUT || raw == -EAGAIN))
        note("after=%lld,%lld", wait, call->flags & TICKS ? TICK : 0);
    /* Every wait is longer than this, by the host, from there on. */
    if (in_the_midst && (!shared->acted || host_ns(shared->stopped - begun) > MIDST))
        _exit(AGAIN);
    if (!in_the_midst)
        note_what_is_left(call, form, timeout, wait, asked, raw);
    done(raw);
}

static void *in_thread(void *test)
{
    waiting(test);
    return test;
}

static void waiting_in_a_thread(const struct test *test)
{
    pthread_t thread;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    if (pthread_create(&thread, NULL, in_thread, (void *)test) != 0)
        skip("there are no threads");
    pthread_join(thread, NULL);
}

/* ---- Clocks ---- */

static long long ns_of(struct timespec time)
{
    return time.tv_sec * SECOND + time.tv_nsec;
}

static long long now(int clock)
{
    struct timespec time = { 0, 0 };
    clock_gettime(clock, &time);
    return ns_of(time);
}

/* A reading that was made since the same clock's vDSO function read `before`. */
static void note_reading(int clock, long long before, long long ns, long long unit)
{
    long long after = now(clock);
    note("read=%d,%lld,%lld", clock, ns, unit);
    if (before / unit * unit <= ns && ns <= after)
        note("between");
    else
        note("outside");
}

static int can_be_moved(int clock)
{
    return clock == 0 || clock == 1 || (clock >= 4 && clock <= 9) || clock == TAI;
}

/* The place of what a case writes to is in the upper half of its argument. */
#define AT(place, number) ((long)(place) << 32 | (uint32_t)(number))
#define PLACE(test) ((enum place)((test)->arg >> 32))
#define NUMBER(test) ((int)(test)->arg)

static void reads_clock(const struct test *test)
{
    int clock = NUMBER(test);
    struct timespec *time = somewhere(PLACE(test), sizeof *time);
    protect(PLACE(test));
    long long before = now(clock);
    begin();
    long raw = CALL(SYS_clock_gettime, D(clock), P(time));
    end();
    if (raw == 0 && can_be_moved(clock))
        note_reading(clock, before, ns_of(*time), 1);
    done(raw);
}

static void reads_clock_by_a_dirty_number(const struct test *test)
{
    dirt = 0x5a5a5a5a00000000;
    reads_clock(test);
}

static void reads_resolution(const struct test *test)
{
    int clock = NUMBER(test);
    struct timespec *time = somewhere(PLACE(test), sizeof *time);
    protect(PLACE(test));
    begin();
    long raw = CALL(SYS_clock_getres, D(clock), P(time));
    end();
    if (raw == 0 && time)
        note(can_be_moved(clock) ? "step=%d,%lld" : "%d:%lld", clock, ns_of(*time));
    done(raw);
}

/* The functions of the vsyscall page are calls without an instruction for them. */
#define VSYSCALL_GETTIMEOFDAY 0xffffffffff600000
#define VSYSCALL_TIME 0xffffffffff600400

static void needs_vsyscalls(void)
{
    char line[256];
    int found = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps && fgets(line, sizeof line, maps))
        found |= strstr(line, "[vsyscall]") != NULL;
    if (!found)
        skip("there is no vsyscall page");
}

static void reads_day(int by_page, enum place at, enum place zone_at)
{
    struct timeval *time = somewhere(at, sizeof *time);
    protect(at);
    struct timezone *zone = somewhere(zone_at, sizeof *zone);
    protect(zone_at);
    if (by_page)
        needs_vsyscalls();
    long long before = now(CLOCK_REALTIME);
    begin();
    long raw = by_page ? ((long (*)(void *, void *))VSYSCALL_GETTIMEOFDAY)(time, zone)
                       : CALL(SYS_gettimeofday, P(time), P(zone));
    end();
    if (raw == 0 && at == GOOD)
        note_reading(CLOCK_REALTIME, before, time->tv_sec * SECOND + time->tv_usec * 1000, 1000);
    if (raw == 0 && zone)
        note("%d:%d", zone->tz_minuteswest, zone->tz_dsttime);
    done(raw);
}

static void reads_timeofday(const struct test *test)
{
    reads_day(0, PLACE(test), NUMBER(test));
}

static void reads_timeofday_by_page(const struct test *test)
{
    reads_day(1, PLACE(test), NUMBER(test));
}

static void reads_time(const struct test *test)
{
    long *time = somewhere(PLACE(test), sizeof *time);
    protect(PLACE(test));
    if (NUMBER(test))
        needs_vsyscalls();
    long long before = now(CLOCK_REALTIME_COARSE);
    begin();
    long raw = NUMBER(test) ? ((long (*)(void *))VSYSCALL_TIME)(time) : CALL(SYS_time, P(time));
    end();
    if (raw < 0)
        done(raw);
    note_reading(CLOCK_REALTIME_COARSE, before, raw * SECOND, SECOND);
    if (time)
        note(*time == raw ? "stored" : "not stored");
    done(0);
}

static void reads_uptime(const struct test *test)
{
    /* That of musl is longer than the kernel's. */
    enum { SIZE = 112 };
    struct sysinfo *info = somewhere(PLACE(test), SIZE);
    protect(PLACE(test));
    long long before = now(CLOCK_BOOTTIME);
    begin();
    long raw = CALL(SYS_sysinfo, P(info));
    end();
    /* It is rounded up. */
    if (raw == 0)
        note_reading(CLOCK_BOOTTIME, before, (info->uptime - 1) * SECOND, SECOND);
    done(raw);
}

static void reads_ticks(const struct test *test)
{
    struct tms *times = somewhere(PLACE(test), sizeof *times);
    protect(PLACE(test));
    begin();
    long raw = CALL(SYS_times, P(times));
    end();
    if (raw < 0)
        done(raw);
    /* Whatever comes between the two readings makes this less. */
    long long most = LLONG_MIN;
    for (int tried = 0; tried < 10; tried++) {
        long long distance = raw - now(CLOCK_MONOTONIC) / (SECOND / 100);
        most = distance > most ? distance : most;
        nap();
        raw = CALL(SYS_times, P(times));
    }
    note("ticks=%lld", most);
    done(0);
}

/* adjtimex, or clock_adjtime with a clock. */
static void reads_adjustment(const struct test *test)
{
    int clock = NUMBER(test);
    struct timex *time = somewhere(PLACE(test), sizeof *time);
    protect(PLACE(test));
    long long before = now(CLOCK_REALTIME);
    begin();
    long raw = test->of ? CALL(SYS_clock_adjtime, D(clock), P(time)) : CALL(SYS_adjtimex, P(time));
    end();
    if (raw >= 0) {
        int fine = (time->status & STA_NANO) != 0;
        note_reading(CLOCK_REALTIME, before, time->time.tv_sec * SECOND + time->time.tv_usec * (fine ? 1 : 1000),
                     fine ? 1 : 1000);
    }
    done(raw);
}

/* ---- Timers and what they say ---- */

static struct timespec wait_time(void)
{
    return (struct timespec){ wait_ns / SECOND, wait_ns % SECOND };
}

/* The longest interval is longer than any time is counted. */
static struct itimerspec spec_of(long long ns, long long interval)
{
    if (interval == INT64_MAX)
        return (struct itimerspec){ { INT64_MAX, 0 }, { ns / SECOND, ns % SECOND } };
    return (struct itimerspec){ { interval / SECOND, interval % SECOND }, { ns / SECOND, ns % SECOND } };
}

static struct itimerval val_of(long long ns, long long interval)
{
    if (interval == INT64_MAX)
        return (struct itimerval){ { INT64_MAX, 0 }, { ns / SECOND, ns % SECOND / 1000 } };
    return (struct itimerval){ { interval / SECOND, interval % SECOND / 1000 }, { ns / SECOND, ns % SECOND / 1000 } };
}

static void makes_timer(const struct test *test)
{
    done(CALL(SYS_timer_create, D(test->arg), 0, P(&timer)));
}

static void makes_timerfd(const struct test *test)
{
    long raw = CALL(SYS_timerfd_create, D(NUMBER(test)), D(test->arg >> 32));
    done(raw < 0 ? raw : 0);
}

/* What the three kinds of timers have in common. */
struct kind {
    const char *set_row, *get_row, *name;
    void (*make)(void);
    long (*set)(const struct kind *, long long ns, long long interval, int absolute, long long was[2]);
    long (*get)(const struct kind *, long long is[2]);
    long (*expire)(void);
    long set_number, get_number;
    long long unit;
};

static long set_val(const struct kind *kind, long long ns, long long interval, int absolute, long long was[2])
{
    struct itimerval set = val_of(ns, interval), old = val_of(7 * SECOND, 7 * SECOND);
    long raw = CALL(kind->set_number, D(ITIMER_REAL), P(&set), P(was ? &old : NULL));
    (void)absolute;
    if (was) {
        was[0] = old.it_value.tv_sec * SECOND + old.it_value.tv_usec * 1000;
        was[1] = old.it_interval.tv_sec * SECOND + old.it_interval.tv_usec * 1000;
    }
    return raw;
}

static long get_val(const struct kind *kind, long long is[2])
{
    struct itimerval get = val_of(7 * SECOND, 7 * SECOND);
    long raw = CALL(kind->get_number, D(ITIMER_REAL), P(&get));
    is[0] = get.it_value.tv_sec * SECOND + get.it_value.tv_usec * 1000;
    is[1] = get.it_interval.tv_sec * SECOND + get.it_interval.tv_usec * 1000;
    return raw;
}

static long set_spec(const struct kind *kind, long long ns, long long interval, int absolute, long long was[2])
{
    struct itimerspec set = spec_of(ns, interval), old = spec_of(7 * SECOND, 7 * SECOND);
    long raw = CALL(kind->set_number, D(timer), D(absolute), P(&set), P(was ? &old : NULL));
    if (was) {
        was[0] = ns_of(old.it_value);
        was[1] = ns_of(old.it_interval);
    }
    return raw;
}

static long get_spec(const struct kind *kind, long long is[2])
{
    struct itimerspec get = spec_of(7 * SECOND, 7 * SECOND);
    long raw = CALL(kind->get_number, D(timer), P(&get));
    is[0] = ns_of(get.it_value);
    is[1] = ns_of(get.it_interval);
    return raw;
}

static long next_alarm(void)
{
    long raw = wait_for(SIGALRM);
    return raw == SIGALRM ? 1 : raw;
}

static void make_itimer(void)
{
    block(SIGALRM);
}

static void make_realtime_timer(void)
{
    make_timer(CLOCK_REALTIME);
}

static void make_realtime_timerfd(void)
{
    make_timerfd(CLOCK_REALTIME, 0);
}

static const struct kind kinds[] = {
    { "setitimer", "getitimer", "itimer", make_itimer, set_val, get_val, next_alarm, SYS_setitimer, SYS_getitimer,
      1000 },
    { "timer_settime", "timer_gettime", "timer", make_realtime_timer, set_spec, get_spec, next_alarm, SYS_timer_settime,
      SYS_timer_gettime, 1 },
    { "timerfd_settime", "timerfd_gettime", "timerfd", make_realtime_timerfd, set_spec, get_spec, read_timerfd,
      SYS_timerfd_settime, SYS_timerfd_gettime, 1 },
};
static const struct kind *const posix_timer = &kinds[1], *const descriptor_timer = &kinds[2];

/* Three times, or as often as it could be until a slow reader came. */
static void expires_often(const struct test *test)
{
    const struct kind *kind = test->of;
    long count = 0, raw;
    kind->make();
    begin();
    raw = kind->set(kind, wait_ns, wait_ns, 0, NULL);
    while (raw >= 0 && count < 3) {
        raw = kind->expire();
        count += raw;
    }
    end();
    note("after=%lld,0", 3 * wait_ns);
    done(raw < 0 ? raw : 0);
}

/* And never again. */
static void expires_once_with_an_interval(const struct test *test)
{
    const struct kind *kind = test->of;
    struct timespec time = { 0, 0 };
    kind->make();
    begin();
    if (test->arg)
        CALL(SYS_clock_gettime, CLOCK_REALTIME, P(&time));
    long raw = kind->set(kind, ns_of(time) + wait_ns, INT64_MAX, test->arg, NULL);
    if (raw == 0)
        raw = kind->expire();
    end();
    note("after=%lld,0", wait_ns);
    done(raw);
}

/* An interval that is nearly nothing is still one. */
static void expires_at_the_smallest_interval(const struct test *test)
{
    const struct kind *kind = test->of;
    kind->make();
    begin();
    long raw = kind->set(kind, kind->unit, kind->unit, 0, NULL);
    for (int i = 0; i < 3 && raw >= 0; i++)
        raw = kind->expire();
    done(raw < 0 ? raw : 0);
}

/* What is left after a while, and the interval: of a timer set for a time, of one set to an instant, and as the old
 * value when it is set again. */
enum { LEFT_FOR, LEFT_UNTIL, LEFT_OLD };

static void says_what_is_left(const struct test *test)
{
    const struct kind *kind = test->of;
    struct timespec time = { 0, 0 };
    long long left[2];
    kind->make();
    begin();
    if (test->arg == LEFT_UNTIL)
        CALL(SYS_clock_gettime, CLOCK_REALTIME, P(&time));
    long raw = kind->set(kind, ns_of(time) + LONG, 3 * LONG, test->arg == LEFT_UNTIL, NULL);
    host_wait(stamp(), ACTS);
    if (raw == 0)
        raw = test->arg == LEFT_OLD ? kind->set(kind, 0, 0, 0, left) : kind->get(kind, left);
    end();
    note("host=%lld left=%lld,%lld,%lld about=%lld,%lld,%lld", ACTS, LONG, left[0], kind->unit, 3 * LONG, left[1],
         kind->unit);
    done(raw);
}

/* Neither set, nor any more. */
static void says_that_nothing_is_left(const struct test *test)
{
    const struct kind *kind = test->of;
    long long left[2];
    kind->make();
    long raw = kind->get(kind, left);
    note("%lld:%lld", left[0], left[1]);
    begin();
    if (raw == 0)
        raw = kind->set(kind, wait_ns, 0, 0, left);
    note("%lld:%lld", left[0], left[1]);
    if (raw == 0)
        raw = kind->expire();
    end();
    if (raw >= 0)
        raw = kind->get(kind, left);
    note("%lld:%lld after=%lld,0", left[0], left[1], wait_ns);
    done(raw);
}

/* How often a timer has expired whose first time is long gone. */
static void counts_what_is_gone(const struct test *test)
{
    const struct kind *kind = test->of;
    long long gone = 105 * MS, step = 10 * MS;
    struct timespec time;
    kind->make();
    begin();
    CALL(SYS_clock_gettime, CLOCK_REALTIME, P(&time));
    long raw = kind->set(kind, ns_of(time) - gone, step, 1, NULL);
    if (raw == 0)
        raw = kind->expire();
    if (raw > 0 && kind == posix_timer)
        raw = CALL(SYS_timer_getoverrun, D(timer)) + 1;
    end();
    note("count=%lld,%lld,%ld", gone, step, raw);
    done(raw < 0 ? raw : 0);
}

static void read_before_it_expires(const struct test *test)
{
    (void)test;
    make_timerfd(CLOCK_MONOTONIC, TFD_NONBLOCK);
    set_spec(descriptor_timer, LONG, 0, 0, NULL);
    done(read_timerfd());
}

/* Without a signal, it can only be asked. */
static void silent_timer(const struct test *test)
{
    struct sigevent none = { .sigev_notify = SIGEV_NONE };
    long long left[2] = { 1, 0 };
    (void)test;
    long raw = CALL(SYS_timer_create, CLOCK_MONOTONIC, P(&none), P(&timer));
    begin();
    if (raw == 0)
        raw = set_spec(posix_timer, wait_ns, 0, 0, NULL);
    while (raw == 0 && left[0] > 0) {
        nap();
        raw = get_spec(posix_timer, left);
    }
    end();
    note("after=%lld,0", wait_ns);
    done(raw);
}

static void delete_timer(const struct test *test)
{
    long long left[2];
    (void)test;
    make_timer(CLOCK_MONOTONIC);
    long raw = CALL(SYS_timer_delete, D(timer));
    note("%ld", get_spec(posix_timer, left));
    note("%ld", CALL(SYS_timer_delete, D(timer)));
    /* Another one, which may have the same number, is on its own clock. */
    make_timer(CLOCK_REALTIME);
    struct timespec time;
    begin();
    CALL(SYS_clock_gettime, CLOCK_REALTIME, P(&time));
    if (raw == 0)
        raw = set_spec(posix_timer, ns_of(time) + wait_ns, 0, 1, NULL);
    if (raw == 0)
        raw = wait_for(SIGALRM);
    end();
    note("after=%lld,0", wait_ns);
    done(raw);
}

/* A descriptor that was another timer's before, by another number. */
static void reused_timerfd(const struct test *test)
{
    struct timespec time;
    (void)test;
    make_timerfd(CLOCK_MONOTONIC, 0);
    set_spec(descriptor_timer, LONG, 0, 1, NULL);
    close(timer);
    make_timerfd(CLOCK_REALTIME, 0);
    timer = dup(timer);
    begin();
    CALL(SYS_clock_gettime, CLOCK_REALTIME, P(&time));
    long raw = set_spec(descriptor_timer, ns_of(time) + wait_ns, 0, 1, NULL);
    if (raw == 0)
        raw = read_timerfd();
    end();
    note("after=%lld,0", wait_ns);
    done(raw);
}

/* Processor time is the host's. */
static void burn(void)
{
    static volatile unsigned spent;
    for (unsigned i = 0; i < 1000000; i++)
        spent += i;
}

/* So much of it is asked for. A slower clock counts it in ticks, and begins in the middle of one. */
#define USED (120 * MS)

static void note_used(long long before)
{
    note("cpu %s", now(CLOCK_PROCESS_CPUTIME_ID) - before < USED / 2 ? "early" : "enough");
}

static _Atomic int got;

static void on_expiry(int number)
{
    (void)number;
    got = 1;
}

static void cpu_itimer(const struct test *test)
{
    struct itimerval set = val_of(USED, 0), first = val_of(LONG, LONG), old;
    int number = test->arg == ITIMER_PROF ? SIGPROF : SIGVTALRM;
    sigaction(number, &(struct sigaction){ .sa_handler = on_expiry }, NULL);
    begin();
    long raw = CALL(SYS_setitimer, D(test->arg), P(&first), 0);
    long long before = now(CLOCK_PROCESS_CPUTIME_ID);
    if (raw == 0)
        raw = CALL(SYS_setitimer, D(test->arg), P(&set), P(&old));
    while (raw == 0 && !got)
        burn();
    end();
    note_used(before);
    note("about=%lld,%lld,0", LONG, old.it_interval.tv_sec * SECOND);
    done(raw);
}

static void cpu_timer(const struct test *test)
{
    struct itimerspec set = spec_of(USED, 0);
    (void)test;
    sigaction(SIGALRM, &(struct sigaction){ .sa_handler = on_expiry }, NULL);
    long raw = CALL(SYS_timer_create, CLOCK_PROCESS_CPUTIME_ID, 0, P(&timer));
    long long before = now(CLOCK_PROCESS_CPUTIME_ID);
    begin();
    if (raw == 0)
        raw = CALL(SYS_timer_settime, D(timer), 0, P(&set), 0);
    while (raw == 0 && !got)
        burn();
    end();
    note_used(before);
    done(raw);
}

static void cpu_timer_left(const struct test *test)
{
    struct itimerspec set = spec_of(LONG, LONG), get = spec_of(0, 0);
    long raw = CALL(SYS_timer_create, CLOCK_PROCESS_CPUTIME_ID, 0, P(&timer));
    if (raw == 0)
        raw = CALL(SYS_timer_settime, D(timer), 0, P(&set), 0);
    if (raw == 0)
        raw = test->arg ? CALL(SYS_timer_settime, D(timer), 0, P(&set), P(&get))
                        : CALL(SYS_timer_gettime, D(timer), P(&get));
    note("about=%lld,%lld,%lld about=%lld,%lld,0", LONG, ns_of(get.it_value), SECOND, LONG, ns_of(get.it_interval));
    done(raw);
}

static void cpu_itimer_left(const struct test *test)
{
    struct itimerval set = val_of(LONG, LONG), get = val_of(0, 0);
    long raw = CALL(SYS_setitimer, D(test->arg), P(&set), 0);
    if (raw == 0)
        raw = CALL(SYS_getitimer, D(test->arg), P(&get));
    note("about=%lld,%lld,%lld about=%lld,%lld,0", LONG, get.it_value.tv_sec * SECOND + get.it_value.tv_usec * 1000,
         SECOND, LONG, get.it_interval.tv_sec * SECOND);
    done(raw);
}

static void *burning(void *unused)
{
    for (;;)
        burn();
    return unused;
}

/* Sleeps while another thread uses processor time. */
static void sleeps_on_cpu(const struct test *test)
{
    struct timespec time = { 0, USED };
    pthread_t thread;
    if (pthread_create(&thread, NULL, burning, NULL) != 0)
        skip("there are no threads");
    long long before = now(CLOCK_PROCESS_CPUTIME_ID);
    begin();
    if (test->arg) {
        CALL(SYS_clock_gettime, CLOCK_PROCESS_CPUTIME_ID, P(&time));
        long long ns = ns_of(time) + USED;
        time = (struct timespec){ ns / SECOND, ns % SECOND };
    }
    long raw = CALL(SYS_clock_nanosleep, CLOCK_PROCESS_CPUTIME_ID, D(test->arg), P(&time), 0);
    end();
    note_used(before);
    done(raw);
}

static void alarm_rings(const struct test *test)
{
    unsigned seconds = (wait_ns + SECOND - 1) / SECOND;
    (void)test;
    block(SIGALRM);
    begin();
    long raw = CALL(SYS_alarm, D(seconds));
    if (raw == 0)
        raw = wait_for(SIGALRM);
    end();
    note("after=%lld,0", seconds * SECOND);
    done(raw);
}

static void alarm_says_what_was_left(const struct test *test)
{
    block(SIGALRM);
    begin();
    long raw = CALL(SYS_alarm, D(1000));
    if (raw == 0 && test->arg)
        host_wait(stamp(), test->arg * ACTS);
    if (raw == 0)
        raw = CALL(SYS_alarm, 0);
    end();
    note("host=%lld left=%lld,%lld,%lld", test->arg * ACTS, LONG, raw * SECOND, SECOND / 2);
    note("%ld", CALL(SYS_alarm, 0));
    done(0);
}

static void alarm_in_the_far_future(const struct test *test)
{
    (void)test;
    block(SIGALRM);
    long raw = CALL(SYS_alarm, 0xffffffff);
    note("%ld", raw);
    raw = CALL(SYS_alarm, 0);
    /* A hundred years and more. */
    note("%s", raw > 3153600000 ? "far" : "near");
    done(0);
}

/* ---- Oddities ---- */

/* Interrupted where what remains has nowhere to go. */
static void nowhere_for_the_rest(const struct test *test)
{
    struct timespec time = { LONG / SECOND, 0 };
    void *rest = somewhere(PLACE(test), sizeof time);
    protect(PLACE(test));
    handle(SIGUSR1, 0);
    aid(SIGNALS, nothing);
    begin();
    long raw = NUMBER(test) ? CALL(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, P(&time), P(rest))
                            : CALL(SYS_nanosleep, P(&time), P(rest));
    end();
    note("host=%lld", ACTS);
    done(raw);
}

/* What remains is written over what was asked for, as sleeping in a loop does. */
static void rest_in_place(const struct test *test)
{
    struct timespec time = { LONG / SECOND, 0 };
    handle(SIGUSR1, 0);
    aid(SIGNALS, nothing);
    begin();
    long raw = test->arg ? CALL(SYS_clock_nanosleep, CLOCK_REALTIME, 0, P(&time), P(&time))
                         : CALL(SYS_nanosleep, P(&time), P(&time));
    end();
    note("host=%lld left=%lld,%lld,1", ACTS, LONG, ns_of(time));
    done(raw);
}

static void sleep_for_a_while(int number)
{
    struct timespec time = wait_time();
    signal(number, SIG_IGN);
    CALL(SYS_nanosleep, P(&time), 0);
}

/* The handler that interrupts the sleep sleeps too. */
static void sleeps_within(const struct test *test)
{
    struct timespec time = { LONG / SECOND, 0 };
    (void)test;
    sigaction(SIGUSR1, &(struct sigaction){ .sa_handler = sleep_for_a_while }, NULL);
    aid(SIGNALS, nothing);
    begin();
    long raw = CALL(SYS_nanosleep, P(&time), P(&time));
    end();
    note("host=%lld left=%lld,%lld,1", ACTS, LONG, ns_of(time));
    done(raw);
}

static sigjmp_buf out;

static void leave(int number)
{
    (void)number;
    siglongjmp(out, 1);
}

/* The handler does not return; the next sleep is as any. */
static void leaves_a_sleep(const struct test *test)
{
    struct timespec time = { LONG / SECOND, 0 };
    long raw;
    (void)test;
    sigaction(SIGUSR1, &(struct sigaction){ .sa_handler = leave }, NULL);
    aid(SIGNALS, nothing);
    begin();
    if (sigsetjmp(out, 1) == 0) {
        raw = CALL(SYS_nanosleep, P(&time), P(&time));
    } else {
        signal(SIGUSR1, SIG_IGN);
        time = wait_time();
        raw = CALL(SYS_nanosleep, P(&time), 0);
    }
    end();
    note("host=%lld after=%lld,0", ACTS, wait_ns);
    done(raw);
}

static void sleeps_on(const struct test *test)
{
    struct timespec time = { 0, 0 };
    begin();
    if (test->of)
        time = wait_time();
    done(CALL(SYS_clock_nanosleep, D(NUMBER(test)), D(test->arg >> 32), P(&time), 0));
}

/* All flags but that for an absolute deadline mean nothing. */
static void sleeps_with_flags(const struct test *test)
{
    struct timespec time = { 0, 0 };
    begin();
    if (test->arg & TIMER_ABSTIME)
        CALL(SYS_clock_gettime, CLOCK_REALTIME, P(&time));
    long long ns = ns_of(time) + wait_ns;
    time = (struct timespec){ ns / SECOND, ns % SECOND };
    long raw = CALL(SYS_clock_nanosleep, CLOCK_REALTIME, D(test->arg), P(&time), 0);
    end();
    note("after=%lld,0", wait_ns);
    done(raw);
}

/* More than a second of microseconds. */
static void select_carries(const struct test *test)
{
    struct timeval time = { -1, (SECOND + wait_ns) / 1000 };
    (void)test;
    begin();
    long raw = CALL(SYS_select, 0, 0, 0, 0, P(&time));
    end();
    note("after=%lld,0", wait_ns);
    done(raw);
}

static void select_leaves_the_time(const struct test *test)
{
    struct timeval time = { wait_ns / SECOND, wait_ns % SECOND / 1000 }, given = time;
    (void)test;
    CALL(SYS_personality, STICKY_TIMEOUTS);
    begin();
    long raw = CALL(SYS_select, 0, 0, 0, 0, P(&time));
    end();
    note("after=%lld,0", wait_ns);
    note(time.tv_sec == given.tv_sec && time.tv_usec == given.tv_usec ? "kept" : "changed");
    done(raw);
}

/* A signal that is only let in for the wait. */
static void let_in(const struct test *test)
{
    struct timespec time = { LONG / SECOND, 0 };
    uint64_t none = 0, event[4];
    struct { uint64_t *set; size_t size; } with = { &none, 8 };
    handle(SIGUSR1, 0);
    block(SIGUSR1);
    current = test->of;
    current->prepare();
    aid(SIGNALS, nothing);
    struct pollfd on = { ends[0], POLLIN, 0 };
    begin();
    long raw = -ENOSYS;
    switch (test->arg) {
    case SYS_pselect6:
        raw = CALL(SYS_pselect6, 0, 0, 0, 0, P(&time), P(&with));
        break;
    case SYS_ppoll:
        raw = CALL(SYS_ppoll, P(&on), 1, P(&time), P(&none), 8);
        break;
    case SYS_epoll_pwait:
        raw = CALL(SYS_epoll_pwait, descriptor, P(event), 1, LONG / MS, P(&none), 8);
        break;
    case NR_epoll_pwait2:
        raw = CALL(NR_epoll_pwait2, descriptor, P(event), 1, P(&time), P(&none), 8);
        break;
    case NR_io_pgetevents:
        raw = CALL(NR_io_pgetevents, context, 1, 1, P(event), P(&time), P(&with));
        break;
    }
    end();
    note("host=%lld", ACTS);
    if (test->arg == SYS_pselect6 || test->arg == SYS_ppoll)
        note("left=%lld,%lld,1", LONG, ns_of(time));
    done(raw);
}

/* Without end: as every number below zero. */
static void for_ever(const struct test *test)
{
    int minus_one = -1;
    current = test->of;
    current->prepare();
    aid(ACT, current->event);
    begin();
    long raw = current->make(&minus_one);
    end();
    note("host=%lld", ACTS);
    done(raw);
}

/* An operation that does not wait, or not for this: where others have a timeout, it has none or a number. */
static void futex_without_a_timeout(const struct test *test)
{
    shared->word = test->of ? 1 : 0;
    done(CALL(SYS_futex, P(&shared->word), D(NUMBER(test)), 0, test->arg >> 32, P(&shared->other), 0));
}

static void futex_of_another_value(const struct test *test)
{
    struct timespec time = { 0, NUMBER(test) };
    done(CALL(SYS_futex, P(&shared->word), D(test->arg >> 32), 1, P(&time), P(&shared->other), -1));
}

/* A lock that is free, or one's own. */
static void futex_lock(const struct test *test)
{
    struct timespec time = { 0, 0 };
    shared->word = test->of ? getpid() : 0;
    done(CALL(SYS_futex, P(&shared->word), D(test->arg), 0, P(&time), 0, 0));
}

/* Between the same two threads, with the deadline on a clock that there is not. */
static void futex_on_clock(const struct test *test)
{
    struct timespec time = { 1, 0 };
    struct waiter on = { 0, P(&shared->word), SIZE_U32, 0 };
    if (test->of) {
        has_wait();
        done(CALL(NR_futex_wait, P(&shared->word), 0, 1, SIZE_U32, P(&time), D(test->arg)));
    }
    has_waitv();
    done(CALL(NR_futex_waitv, P(&on), 1, 0, P(&time), D(test->arg)));
}

/* A queue that need not be waited for. */
static void queue_at_once(const struct test *test)
{
    struct timespec time = { 0, test->arg };
    char message[8];
    if (test->of)
        fill_queue();
    else
        with_queue();
    done(test->of ? CALL(SYS_mq_timedreceive, D(descriptor), P(message), 8, 0, P(&time))
                  : CALL(SYS_mq_timedsend, D(descriptor), P("12345678"), 8, 0, P(&time)));
}

static void queue_without_waiting(const struct test *test)
{
    struct timespec time = { INT64_MAX, 0 };
    (void)test;
    with_queue();
    fcntl(descriptor, F_SETFL, O_NONBLOCK);
    done(mq_timedreceive_(&time));
}

static void send_datagrams(void)
{
    if (send(ends[1], "x", 1, MSG_DONTWAIT) != 1 && errno != EAGAIN)
        _exit(1);
}

/* The timeout only counts when a message has come. */
static void many_messages(const struct test *test)
{
    enum { MANY = 1024 };
    static struct mmsghdr messages[MANY];
    static char bytes[MANY];
    struct iovec parts[MANY];
    int most = test->arg, ended_by_time = most > 1;
    struct timespec time = ended_by_time ? wait_time() : (struct timespec){ LONG / SECOND, 0 };
    for (int i = 0; i < most; i++) {
        parts[i] = (struct iovec){ &bytes[i], 1 };
        messages[i].msg_hdr = (struct msghdr){ .msg_iov = &parts[i], .msg_iovlen = 1 };
    }
    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) != 0)
        skip("there are no sockets");
    dirt = ended_by_time ? 0 : 0x5a5a5a5a00000000;
    aid(ACT, send_datagrams);
    begin();
    long raw = CALL(SYS_recvmmsg, D(ends[0]), P(messages), D(most), D(0), P(&time));
    end();
    if (ended_by_time) {
        note("after=%lld,0 %lld:%ld %s", wait_ns, (long long)time.tv_sec, time.tv_nsec, raw < most ? "some" : "all");
        done(raw > 0 ? 1 : raw);
    }
    note("host=%lld left=%lld,%lld,1", ACTS, LONG, ns_of(time));
    done(raw);
}

/* Without messages, with a timeout that is not one. */
static void no_message(const struct test *test)
{
    struct timespec time = { 0, NUMBER(test) };
    enum place place = PLACE(test);
    void *timeout = place == GOOD ? &time : somewhere(place, sizeof time);
    protect(place);
    char byte;
    struct iovec part = { &byte, 1 };
    struct mmsghdr message = { .msg_hdr = { .msg_iov = &part, .msg_iovlen = 1 } };
    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) != 0)
        skip("there are no sockets");
    if (test->of)
        send_datagrams();
    done(CALL(SYS_recvmmsg, ends[0], P(&message), 1, MSG_DONTWAIT, P(timeout)));
}

/* These are not looked at: a part of a second that is more, and less than nothing, which is for ever. */
static void events_of_odd_times(const struct test *test)
{
    struct timespec times[] = { { -1, SECOND + wait_ns }, { 0, -1 }, { -1, 0 } }, time = times[NUMBER(test)];
    uint64_t event[4];
    with_context();
    handle(SIGUSR1, 0);
    if (NUMBER(test) != 0)
        aid(SIGNALS, nothing);
    begin();
    long raw = CALL(test->arg >> 32, context, 1, 1, P(event), P(&time), 0);
    end();
    if (NUMBER(test) == 0)
        note("after=%lld,0", wait_ns);
    else
        note("host=%lld", ACTS);
    done(raw);
}

static void events_that_nobody_needs(const struct test *test)
{
    struct timespec time = { LONG / SECOND, 0 };
    uint64_t event[4];
    with_context();
    done(CALL(test->arg, context, 0, 1, P(event), P(&time), 0));
}

static void socket_says_its_timeout(const struct test *test)
{
    struct timeval time = { 12, 340000 };
    socklen_t size = sizeof time;
    with_sockets();
    if (test->of)
        CALL(SYS_setsockopt, ends[0], SOL_SOCKET, test->arg, P(&time), sizeof time);
    begin();
    long raw = CALL(SYS_getsockopt, D(ends[0]), D(SOL_SOCKET), D(test->arg), P(&time), P(&size));
    end();
    if (test->of)
        note("about=%lld,%lld,%lld", 12 * SECOND + 340 * MS, time.tv_sec * SECOND + time.tv_usec * 1000, TICK);
    else
        note("%lld:%ld", (long long)time.tv_sec, (long)time.tv_usec);
    note("%u", size);
    done(raw);
}

/* The size of what is passed to or asked of a socket. */
static void socket_option_of_size(const struct test *test)
{
    char value[64] = { 1 };
    socklen_t size = NUMBER(test);
    with_sockets();
    long raw = test->of ? CALL(SYS_setsockopt, ends[0], SOL_SOCKET, test->arg >> 32, P(value), D(size))
                        : CALL(SYS_getsockopt, ends[0], SOL_SOCKET, test->arg >> 32, P(value), P(&size));
    note("%d", (int)size);
    done(raw);
}

static void socket_option_at(const struct test *test)
{
    with_sockets();
    socklen_t size = 16;
    void *value = somewhere(PLACE(test), size);
    protect(PLACE(test));
    done(CALL(SYS_getsockopt, ends[0], SOL_SOCKET, NUMBER(test), P(value), P(&size)));
}

/* ---- Setting clocks ----
 *
 * Only what has to fail is done: with arguments that are not valid, or without the right. */

static struct timespec good_time(void)
{
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    return time;
}

static void sets_clock(const struct test *test)
{
    struct timespec time = good_time();
    give_up_rights();
    done(CALL(SYS_clock_settime, D(test->arg), P(&time)));
}

static void sets_time_of_day(const struct test *test)
{
    struct timespec now = good_time();
    struct timeval time = { now.tv_sec, now.tv_nsec / 1000 };
    struct timezone zone = { 0, 0 };
    give_up_rights();
    done(CALL(SYS_settimeofday, P(test->arg & 1 ? &time : NULL), P(test->arg & 2 ? &zone : NULL)));
}

static void adjusts(const struct test *test)
{
    struct timex time = { .modes = NUMBER(test), .tick = 10000 };
    give_up_rights();
    long raw = test->arg >> 32 ? CALL(SYS_clock_adjtime, D(CLOCK_REALTIME), P(&time)) : CALL(SYS_adjtimex, P(&time));
    done(raw);
}

/* ---- Calls that return at once, whose arguments are all known ---- */

static struct timespec minute = { 60, 0 }, none, over = { 0, SECOND }, under = { 0, -1 }, negative = { -1, 0 };
static struct itimerspec timer_minute = { { 0, 0 }, { 60, 0 } }, timer_over = { { 0, SECOND }, { 60, 0 } },
                         timer_off = { { 0, SECOND }, { 0, 0 } }, timer_2096 = { { 0, 0 }, { 4000000000, 0 } };
static struct itimerval itimer_minute = { { 0, 0 }, { 60, 0 } }, itimer_over = { { 0, 1000000 }, { 60, 0 } };
static struct timeval val_over = { 0, 1000000 }, val_under = { 0, -1 }, val_negative = { -1, 0 };
static struct timezone far_west = { 16 * 60, 0 };
static struct timex setoffset_under = { .modes = MODE_SETOFFSET, .time = { 0, -1 } },
                    slow_tick = { .modes = MODE_TICK, .tick = 1 };
static uint64_t no_signals;
static struct { uint64_t *set; size_t size; } wrong_size = { &no_signals, 7 };
static char room[256];
static int number;

static const struct plain {
    const char *row, *name;
    long number;
    const void *a[6];
} plains[] = {
#define N(number) ((const void *)(long)(number))
    { "clock_gettime", "x32", SYS_clock_gettime | 0x40000000, { N(MONOTONIC), room } },
    { "clock_nanosleep", "null-on-bad-clock", SYS_clock_nanosleep, { N(99), N(1), NULL } },
    { "clock_nanosleep", "over-on-bad-clock", SYS_clock_nanosleep, { N(99), N(1), &over } },
    { "clock_nanosleep", "raw-one", SYS_clock_nanosleep, { N(4), N(0), N(1) } },
    { "clock_nanosleep", "raw-one-until", SYS_clock_nanosleep, { N(4), N(1), N(1) } },
    { "clock_nanosleep", "coarse-null-until", SYS_clock_nanosleep, { N(5), N(1), NULL } },
    { "clock_nanosleep", "bad-clock-one", SYS_clock_nanosleep, { N(99), N(0), N(1) } },
    { "timer_create", "event-one", SYS_timer_create, { N(MONOTONIC), N(1), &number } },
    { "timer_create", "number-one", SYS_timer_create, { N(MONOTONIC), NULL, N(1) } },
    { "timer_create", "number-null", SYS_timer_create, { N(MONOTONIC), NULL, NULL } },
    { "timer_settime", "no-timer", SYS_timer_settime, { N(12345), N(0), &timer_minute } },
    { "timer_settime", "no-timer-until", SYS_timer_settime, { N(-1), N(1), &timer_minute } },
    { "timer_settime", "no-timer-null", SYS_timer_settime, { N(12345), N(1), NULL } },
    { "timer_settime", "no-timer-one", SYS_timer_settime, { N(12345), N(1), N(1) } },
    { "timer_gettime", "no-timer", SYS_timer_gettime, { N(12345), room } },
    { "timer_getoverrun", "no-timer", SYS_timer_getoverrun, { N(12345) } },
    { "timer_delete", "no-timer", SYS_timer_delete, { N(12345) } },
    { "timerfd_create", "odd-flags", SYS_timerfd_create, { N(MONOTONIC), N(1) } },
    { "timerfd_settime", "closed", SYS_timerfd_settime, { N(-1), N(0), &timer_minute } },
    { "timerfd_settime", "closed-until", SYS_timerfd_settime, { N(-1), N(1), &timer_minute } },
    { "timerfd_settime", "closed-null", SYS_timerfd_settime, { N(-1), N(1), NULL } },
    { "timerfd_settime", "closed-over", SYS_timerfd_settime, { N(-1), N(1), &timer_over } },
    { "timerfd_settime", "odd-flags-one", SYS_timerfd_settime, { N(-1), N(4), N(1) } },
    { "timerfd_settime", "no-timer", SYS_timerfd_settime, { N(1), N(1), &timer_minute } },
    { "timerfd_gettime", "closed", SYS_timerfd_gettime, { N(-1), room } },
    { "timerfd_gettime", "no-timer", SYS_timerfd_gettime, { N(1), room } },
    { "setitimer", "which", SYS_setitimer, { N(3), &itimer_minute } },
    { "setitimer", "interval-over", SYS_setitimer, { N(0), &itimer_over } },
    { "setitimer", "old-one", SYS_setitimer, { N(0), &itimer_minute, N(1) } },
    { "getitimer", "which", SYS_getitimer, { N(3), room } },
    { "getitimer", "null", SYS_getitimer, { N(0), NULL } },
    { "getitimer", "one", SYS_getitimer, { N(0), N(1) } },
    { "getitimer", "prof-one", SYS_getitimer, { N(2), N(1) } },
    { "futex", "unknown", SYS_futex, { room, N(60), N(0), &minute } },
    { "futex", "wait-realtime", SYS_futex, { room, N(WAIT | REAL), N(0), &minute } },
    { "futex", "lock-pi-realtime", SYS_futex, { room, N(LOCK_PI | REAL), N(0), &none } },
    { "futex", "wait-bitset-none", SYS_futex, { room, N(WAIT_BITSET), N(0), &minute, NULL, N(0) } },
    { "futex", "wait-at-one", SYS_futex, { N(1), N(WAIT), N(0), &minute } },
    { "futex", "wait-at-null", SYS_futex, { NULL, N(WAIT), N(0), &minute } },
    { "futex", "requeue-to-itself", SYS_futex, { room, N(WAIT_REQUEUE_PI), N(0), &minute, room, N(-1) } },
    { "futex_waitv", "none", NR_futex_waitv, { room, N(0), N(0), &minute, N(MONOTONIC) } },
    { "futex_waitv", "flags", NR_futex_waitv, { room, N(1), N(1), &minute, N(MONOTONIC) } },
    { "futex_waitv", "flags-and-one", NR_futex_waitv, { room, N(1), N(1), N(1), N(MONOTONIC) } },
    { "futex_waitv", "clock-and-one", NR_futex_waitv, { room, N(1), N(0), N(1), N(BOOTTIME) } },
    { "futex_waitv", "none-and-one", NR_futex_waitv, { room, N(0), N(0), N(1), N(REALTIME) } },
    { "futex_waitv", "null", NR_futex_waitv, { NULL, N(1), N(0), &minute, N(MONOTONIC) } },
    { "futex_wait", "flags", NR_futex_wait, { room, N(0), N(1), N(64), &minute, N(MONOTONIC) } },
    { "futex_wait", "flags-and-one", NR_futex_wait, { room, N(0), N(1), N(64), N(1), N(MONOTONIC) } },
    { "futex_wait", "clock-and-one", NR_futex_wait, { room, N(0), N(1), N(SIZE_U32), N(1), N(BOOTTIME) } },
    { "futex_wait", "none", NR_futex_wait, { room, N(0), N(0), N(SIZE_U32), &minute, N(MONOTONIC) } },
    { "mq_timedsend", "closed", SYS_mq_timedsend, { N(-1), room, N(8), N(0), &minute } },
    { "mq_timedsend", "closed-over", SYS_mq_timedsend, { N(-1), room, N(8), N(0), &over } },
    { "mq_timedreceive", "closed", SYS_mq_timedreceive, { N(-1), room, N(8), NULL, &minute } },
    { "mq_timedreceive", "closed-one", SYS_mq_timedreceive, { N(-1), room, N(8), NULL, N(1) } },
    { "select", "negative-count", SYS_select, { N(-1), NULL, NULL, NULL, &minute } },
    { "select", "set-one", SYS_select, { N(1), N(1), NULL, NULL, &minute } },
    { "select", "val-under", SYS_select, { N(0), NULL, NULL, NULL, &val_under } },
    { "pselect6", "mask-one", SYS_pselect6, { N(0), NULL, NULL, NULL, &minute, N(1) } },
    { "pselect6", "mask-size", SYS_pselect6, { N(0), NULL, NULL, NULL, &minute, &wrong_size } },
    { "pselect6", "over-and-mask-size", SYS_pselect6, { N(0), NULL, NULL, NULL, &over, &wrong_size } },
    { "pselect6", "over-and-mask-one", SYS_pselect6, { N(0), NULL, NULL, NULL, &over, N(1) } },
    { "pselect6", "one-and-mask-size", SYS_pselect6, { N(0), NULL, NULL, NULL, N(1), &wrong_size } },
    { "poll", "one", SYS_poll, { N(1), N(1), N(60000) } },
    { "poll", "too-many", SYS_poll, { room, N(INT_MAX), N(60000) } },
    { "ppoll", "mask-size", SYS_ppoll, { room, N(0), &minute, &no_signals, N(7) } },
    { "ppoll", "mask-one", SYS_ppoll, { room, N(0), &minute, N(1), N(8) } },
    { "ppoll", "one-fd", SYS_ppoll, { N(1), N(1), &minute, NULL, N(8) } },
    { "ppoll", "over-and-mask-one", SYS_ppoll, { room, N(0), &over, N(1), N(8) } },
    { "ppoll", "one-and-mask-size", SYS_ppoll, { room, N(0), N(1), &no_signals, N(7) } },
    { "epoll_wait", "closed", SYS_epoll_wait, { N(-1), room, N(1), N(60000) } },
    { "epoll_wait", "no-epoll", SYS_epoll_wait, { N(1), room, N(1), N(60000) } },
    { "epoll_wait", "no-room", SYS_epoll_wait, { N(-1), room, N(0), N(60000) } },
    { "epoll_pwait", "closed", SYS_epoll_pwait, { N(-1), room, N(1), N(60000), NULL, N(8) } },
    { "epoll_pwait", "mask-size", SYS_epoll_pwait, { N(-1), room, N(1), N(60000), &no_signals, N(7) } },
    { "epoll_pwait", "mask-one", SYS_epoll_pwait, { N(-1), room, N(1), N(60000), N(1), N(8) } },
    { "epoll_pwait2", "closed", NR_epoll_pwait2, { N(-1), room, N(1), &minute, NULL, N(8) } },
    { "epoll_pwait2", "closed-one", NR_epoll_pwait2, { N(-1), room, N(1), N(1), NULL, N(8) } },
    { "epoll_pwait2", "closed-over", NR_epoll_pwait2, { N(-1), room, N(1), &over, NULL, N(8) } },
    { "epoll_pwait2", "mask-size", NR_epoll_pwait2, { N(-1), room, N(1), &minute, &no_signals, N(7) } },
    { "epoll_pwait2", "over-and-mask-one", NR_epoll_pwait2, { N(-1), room, N(1), &over, N(1), N(8) } },
    { "epoll_pwait2", "one-and-mask-size", NR_epoll_pwait2, { N(-1), room, N(1), N(1), &no_signals, N(7) } },
    { "rt_sigtimedwait", "set-one", SYS_rt_sigtimedwait, { N(1), NULL, &minute, N(8) } },
    { "rt_sigtimedwait", "set-null", SYS_rt_sigtimedwait, { NULL, NULL, &minute, N(8) } },
    { "rt_sigtimedwait", "set-size", SYS_rt_sigtimedwait, { &no_signals, NULL, &minute, N(7) } },
    { "rt_sigtimedwait", "over-and-set-size", SYS_rt_sigtimedwait, { &no_signals, NULL, &over, N(7) } },
    { "rt_sigtimedwait", "one-and-set-size", SYS_rt_sigtimedwait, { &no_signals, NULL, N(1), N(7) } },
    { "rt_sigtimedwait", "over-and-set-one", SYS_rt_sigtimedwait, { N(1), NULL, &over, N(8) } },
    { "semtimedop", "none", SYS_semtimedop, { N(-1), room, N(1), &minute } },
    { "semtimedop", "none-over", SYS_semtimedop, { N(-1), room, N(1), &over } },
    { "semtimedop", "none-one", SYS_semtimedop, { N(-1), room, N(1), N(1) } },
    { "semtimedop", "no-operation", SYS_semtimedop, { N(0), room, N(0), &minute } },
    { "semtimedop", "no-operation-one", SYS_semtimedop, { N(0), room, N(0), N(1) } },
    { "io_getevents", "no-context", SYS_io_getevents, { N(1), N(1), N(1), room, &minute } },
    { "io_getevents", "no-context-one", SYS_io_getevents, { N(1), N(1), N(1), room, N(1) } },
    { "io_pgetevents", "no-context", NR_io_pgetevents, { N(1), N(1), N(1), room, &minute } },
    { "io_pgetevents", "mask-size", NR_io_pgetevents, { N(1), N(1), N(1), room, &minute, &wrong_size } },
    { "io_pgetevents", "one-and-mask-size", NR_io_pgetevents, { N(1), N(1), N(1), room, N(1), &wrong_size } },
    { "io_pgetevents", "mask-one", NR_io_pgetevents, { N(1), N(1), N(1), room, &minute, N(1) } },
    { "recvmmsg", "closed", SYS_recvmmsg, { N(-1), room, N(1), N(0), &minute } },
    { "recvmmsg", "closed-over", SYS_recvmmsg, { N(-1), room, N(1), N(0), &over } },
    { "recvmmsg", "closed-one", SYS_recvmmsg, { N(-1), room, N(1), N(0), N(1) } },
    { "setsockopt", "closed", SYS_setsockopt, { N(-1), N(SOL_SOCKET), N(RCVTIMEO), &val_negative, N(16) } },
    { "setsockopt", "closed-one", SYS_setsockopt, { N(-1), N(SOL_SOCKET), N(RCVTIMEO), N(1), N(16) } },
    { "setsockopt", "no-socket-one", SYS_setsockopt, { N(1), N(SOL_SOCKET), N(RCVTIMEO), N(1), N(16) } },
    { "getsockopt", "closed", SYS_getsockopt, { N(-1), N(SOL_SOCKET), N(RCVTIMEO), room, room } },
    { "clock_settime", "over", SYS_clock_settime, { N(REALTIME), &over } },
    { "clock_settime", "under", SYS_clock_settime, { N(REALTIME), &under } },
    { "clock_settime", "negative", SYS_clock_settime, { N(REALTIME), &negative } },
    { "clock_settime", "null", SYS_clock_settime, { N(REALTIME), NULL } },
    { "clock_settime", "one", SYS_clock_settime, { N(REALTIME), N(1) } },
    { "clock_settime", "monotonic-over", SYS_clock_settime, { N(MONOTONIC), &over } },
    { "clock_settime", "bad-clock-null", SYS_clock_settime, { N(99), NULL } },
    { "settimeofday", "over", SYS_settimeofday, { &val_over, NULL } },
    { "settimeofday", "under", SYS_settimeofday, { &val_under, NULL } },
    { "settimeofday", "negative", SYS_settimeofday, { &val_negative, NULL } },
    { "settimeofday", "one", SYS_settimeofday, { N(1), NULL } },
    { "settimeofday", "zone-one", SYS_settimeofday, { NULL, N(1) } },
    { "settimeofday", "over-and-zone-one", SYS_settimeofday, { &val_over, N(1) } },
    { "settimeofday", "one-and-zone-one", SYS_settimeofday, { N(1), N(1) } },
    { "settimeofday", "far-west", SYS_settimeofday, { NULL, &far_west } },
    { "adjtimex", "setoffset-under", SYS_adjtimex, { &setoffset_under } },
    { "adjtimex", "slow-tick", SYS_adjtimex, { &slow_tick } },
    { "clock_adjtime", "setoffset-under", SYS_clock_adjtime, { N(REALTIME), &setoffset_under } },
    { "clock_adjtime", "slow-tick", SYS_clock_adjtime, { N(REALTIME), &slow_tick } },
};

static void plain(const struct test *test)
{
    const struct plain *plain = test->of;
    begin();
    done(CALL(plain->number, P(plain->a[0]), P(plain->a[1]), P(plain->a[2]), P(plain->a[3]), P(plain->a[4]),
              P(plain->a[5])));
}

static void plain_without_rights(const struct test *test)
{
    give_up_rights();
    plain(test);
}

/* Timers that exist, with arguments that are not right. */
static const struct odd {
    const char *name;
    struct itimerspec *set;
    void *old;
    int flags;
} odds[] = {
    { "interval-over", &timer_over, NULL, 0 },
    { "off-and-interval-over", &timer_off, NULL, 0 },
    { "old-one", &timer_2096, (void *)1, 0 },
    { "old-high", &timer_2096, (void *)-64L, 0 },
    { "odd-flags", &timer_2096, NULL, 4 },
};

static void timer_with(const struct test *test)
{
    const struct kind *kind = test->of;
    const struct odd *odd = &odds[NUMBER(test)];
    long long left[2];
    kind->make();
    long raw = CALL(kind->set_number, timer, D(odd->flags | test->arg >> 32), P(odd->set), P(odd->old));
    kind->get(kind, left);
    /* Set or not, whatever was said. */
    note(left[0] ? "set" : "off");
    done(raw);
}

static void timer_asked_at(const struct test *test)
{
    void *to = somewhere(PLACE(test), sizeof(struct itimerspec));
    protect(PLACE(test));
    const struct kind *kind = test->of;
    kind->make();
    done(CALL(kind->get_number, timer, P(to)));
}

/* ---- All cases ---- */

enum { MOST = 4096, AT_ONCE = 48 };
static struct test tests[MOST];
static unsigned count;

__attribute__((format(printf, 5, 6))) static void add(const char *row, void (*run)(const struct test *), const void *of,
                                                     long arg, const char *format, ...)
{
    struct test *test = &tests[count++];
    va_list arguments;
    if (count > MOST)
        _exit(1);
    *test = (struct test){ .row = row, .run = run, .of = of, .arg = arg };
    va_start(arguments, format);
    vsnprintf(test->name, sizeof test->name, format, arguments);
    va_end(arguments);
}

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define EACH(item, array) (unsigned item = 0; item < COUNT(array); item++)

static const struct call *call_of(const char *name)
{
    for EACH (i, calls)
        if (strcmp(calls[i].name, name) == 0)
            return &calls[i];
    _exit(1);
}

static void add_all(void)
{
    static const int clocks[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 16, 17, 99, INT_MAX, INT_MIN,
                                  /* None, and descriptors' clocks: of 0, and of one that is not open. */
                                  -1, -5, (int)(~99999u << 3 | 3),
                                  /* Processor times of the process, in three ways, of a thread, and of none. */
                                  -6, -7, -8, -2, (int)(~4194304u << 3 | 2) };
    static const int movable[] = { 0, 1, 4, 5, 6, 7, 8, 9, 11 }, some[] = { 0, 1, 2, 5, 7, 11, 99, -6 };
    static const char yes;
    for EACH (i, clocks) {
        add("clock_gettime", reads_clock, NULL, AT(GOOD, clocks[i]), "clock_gettime/%d", clocks[i]);
        add("clock_getres", reads_resolution, NULL, AT(GOOD, clocks[i]), "clock_getres/%d", clocks[i]);
        add("clock_adjtime", reads_adjustment, &yes, AT(GOOD, clocks[i]), "clock_adjtime/%d", clocks[i]);
        add("clock_settime", sets_clock, NULL, clocks[i], "clock_settime/%d-without-rights", clocks[i]);
        add("timer_create", makes_timer, NULL, clocks[i], "timer_create/%d", clocks[i]);
        add("timerfd_create", makes_timerfd, NULL, AT(0, clocks[i]), "timerfd_create/%d", clocks[i]);
        add("clock_nanosleep", sleeps_on, NULL, AT(1, clocks[i]), "clock_nanosleep/until-0-on-%d", clocks[i]);
        add("clock_nanosleep", sleeps_on, NULL, AT(0, clocks[i]), "clock_nanosleep/for-0-on-%d", clocks[i]);
        /* Processor time does not go on in a process that waits for it. */
        if (!(clocks[i] == 2 || (clocks[i] < 0 && (clocks[i] & 3) != 3)))
            add("clock_nanosleep", sleeps_on, &yes, AT(0, clocks[i]), "clock_nanosleep/for-a-while-on-%d", clocks[i]);
    }
    for EACH (i, movable)
        add("clock_gettime", reads_clock_by_a_dirty_number, NULL, AT(GOOD, movable[i]), "clock_gettime/%d-dirty",
            movable[i]);
    for (enum place place = NOWHERE; place < PLACES; place++) {
        for EACH (i, some) {
            add("clock_gettime", reads_clock, NULL, AT(place, some[i]), "clock_gettime/%d-%s", some[i], places[place]);
            add("clock_getres", reads_resolution, NULL, AT(place, some[i]), "clock_getres/%d-%s", some[i],
                places[place]);
        }
        add("gettimeofday", reads_timeofday, NULL, AT(place, NOWHERE), "gettimeofday/%s", places[place]);
        add("gettimeofday", reads_timeofday, NULL, AT(GOOD, place), "gettimeofday/zone-%s", places[place]);
        add("gettimeofday", reads_timeofday, NULL, AT(NOWHERE, place), "gettimeofday/only-zone-%s", places[place]);
        add("gettimeofday", reads_timeofday_by_page, NULL, AT(place, NOWHERE), "vsyscall-gettimeofday/%s",
            places[place]);
        add("clock_adjtime", reads_adjustment, &yes, AT(place, 0), "clock_adjtime/%s", places[place]);
        add("timer_gettime", timer_asked_at, posix_timer, AT(place, 0), "timer_gettime/%s", places[place]);
        add("timerfd_gettime", timer_asked_at, descriptor_timer, AT(place, 0), "timerfd_gettime/%s", places[place]);
        add("getsockopt", socket_option_at, NULL, AT(place, RCVTIMEO), "getsockopt/%s", places[place]);
        add("nanosleep", nowhere_for_the_rest, NULL, AT(place, 0), "nanosleep/rest-%s", places[place]);
        add("clock_nanosleep", nowhere_for_the_rest, NULL, AT(place, 1), "clock_nanosleep/rest-%s", places[place]);
    }
    for (enum place place = GOOD; place < PLACES; place++) {
        add("time", reads_time, NULL, AT(place, 0), "time/%s", places[place]);
        add("time", reads_time, NULL, AT(place, 1), "vsyscall-time/%s", places[place]);
        add("sysinfo", reads_uptime, NULL, AT(place, 0), "sysinfo/%s", places[place]);
        add("times", reads_ticks, NULL, AT(place, 0), "times/%s", places[place]);
        add("adjtimex", reads_adjustment, NULL, AT(place, 0), "adjtimex/%s", places[place]);
    }
    add("gettimeofday", reads_timeofday, NULL, AT(GOOD, GOOD), "gettimeofday/both");
    add("gettimeofday", reads_timeofday, NULL, AT(NOWHERE, GOOD), "gettimeofday/only-zone");
    add("gettimeofday", reads_timeofday_by_page, NULL, AT(GOOD, GOOD), "vsyscall-gettimeofday/both");

    for EACH (i, calls)
        for EACH (j, forms)
            if (makes_sense(&calls[i], &forms[j]))
                add(calls[i].row, forms[j].in_thread ? waiting_in_a_thread : waiting, &calls[i], j, "%s/%s",
                    calls[i].name, forms[j].name);

    for EACH (i, kinds) {
        add(kinds[i].set_row, expires_often, &kinds[i], 0, "%s/thrice", kinds[i].name);
        add(kinds[i].set_row, expires_at_the_smallest_interval, &kinds[i], 0, "%s/smallest-interval", kinds[i].name);
        add(kinds[i].set_row, expires_once_with_an_interval, &kinds[i], 0, "%s/once", kinds[i].name);
        add(kinds[i].set_row, says_what_is_left, &kinds[i], LEFT_OLD, "%s/old", kinds[i].name);
        add(kinds[i].get_row, says_what_is_left, &kinds[i], LEFT_FOR, "%s/left", kinds[i].name);
        add(kinds[i].get_row, says_that_nothing_is_left, &kinds[i], 0, "%s/nothing-left", kinds[i].name);
        if (&kinds[i] != posix_timer && &kinds[i] != descriptor_timer)
            continue;
        add(kinds[i].set_row, expires_once_with_an_interval, &kinds[i], 1, "%s/once-until", kinds[i].name);
        add(kinds[i].get_row, says_what_is_left, &kinds[i], LEFT_UNTIL, "%s/left-until", kinds[i].name);
        add(&kinds[i] == posix_timer ? "timer_getoverrun" : kinds[i].set_row, counts_what_is_gone, &kinds[i], 0,
            "%s/gone", kinds[i].name);
        for EACH (j, odds) {
            add(kinds[i].set_row, timer_with, &kinds[i], AT(0, j), "%s/%s", kinds[i].name, odds[j].name);
            add(kinds[i].set_row, timer_with, &kinds[i], AT(1, j), "%s/%s-until", kinds[i].name, odds[j].name);
        }
    }
    add("timerfd_create", makes_timerfd, NULL, AT(TFD_NONBLOCK | TFD_CLOEXEC, MONOTONIC), "timerfd_create/with-flags");
    add("timerfd_settime", read_before_it_expires, NULL, 0, "timerfd/early");
    add("timerfd_settime", reused_timerfd, NULL, 0, "timerfd/reused");
    add("timer_gettime", silent_timer, NULL, 0, "timer/silent");
    add("timer_delete", delete_timer, NULL, 0, "timer/deleted");
    add("timer_create", cpu_timer, NULL, 0, "timer/cpu");
    add("timer_gettime", cpu_timer_left, NULL, 0, "timer/cpu-left");
    add("timer_settime", cpu_timer_left, NULL, 1, "timer/cpu-old");
    add("getitimer", cpu_itimer_left, NULL, ITIMER_VIRTUAL, "itimer/virtual-left");
    add("getitimer", cpu_itimer_left, NULL, ITIMER_PROF, "itimer/prof-left");
    add("clock_nanosleep", sleeps_on_cpu, NULL, 0, "clock_nanosleep/cpu-for");
    add("clock_nanosleep", sleeps_on_cpu, NULL, TIMER_ABSTIME, "clock_nanosleep/cpu-until");
    add("setitimer", cpu_itimer, NULL, ITIMER_VIRTUAL, "itimer/virtual");
    add("setitimer", cpu_itimer, NULL, ITIMER_PROF, "itimer/prof");
    add("alarm", alarm_rings, NULL, 0, "alarm/rings");
    add("alarm", alarm_says_what_was_left, NULL, 0, "alarm/again");
    add("alarm", alarm_says_what_was_left, NULL, 11, "alarm/later");
    add("alarm", alarm_in_the_far_future, NULL, 0, "alarm/far");

    add("nanosleep", rest_in_place, NULL, 0, "nanosleep/rest-in-place");
    add("clock_nanosleep", rest_in_place, NULL, 1, "clock_nanosleep/rest-in-place");
    add("nanosleep", sleeps_within, NULL, 0, "nanosleep/within-another");
    add("nanosleep", leaves_a_sleep, NULL, 0, "nanosleep/left-by-a-jump");
    add("clock_nanosleep", sleeps_with_flags, NULL, 2, "clock_nanosleep/flags-for");
    add("clock_nanosleep", sleeps_with_flags, NULL, (int)0x80000003, "clock_nanosleep/flags-until");
    add("select", select_carries, NULL, 0, "select/carries");
    add("select", select_leaves_the_time, NULL, 0, "select/sticky");
    add("poll", for_ever, call_of("poll"), 0, "poll/minus-one");
    add("epoll_wait", for_ever, call_of("epoll_wait"), 0, "epoll_wait/minus-one");
    add("epoll_pwait", for_ever, call_of("epoll_pwait"), 0, "epoll_pwait/minus-one");
    add("pselect6", let_in, call_of("pselect6"), SYS_pselect6, "pselect6/let-in");
    add("ppoll", let_in, call_of("ppoll"), SYS_ppoll, "ppoll/let-in");
    add("epoll_pwait", let_in, call_of("epoll_pwait"), SYS_epoll_pwait, "epoll_pwait/let-in");
    add("epoll_pwait2", let_in, call_of("epoll_pwait2"), NR_epoll_pwait2, "epoll_pwait2/let-in");
    add("io_pgetevents", let_in, call_of("io_pgetevents"), NR_io_pgetevents, "io_pgetevents/let-in");

    static const int harmless[] = { WAKE, REQUEUE, CMP_REQUEUE, WAKE_OP, TRYLOCK_PI, WAKE | PRIVATE, 10 };
    for EACH (i, harmless) {
        add("futex", futex_without_a_timeout, NULL, AT(1, harmless[i]), "futex/%d-with-1", harmless[i]);
        add("futex", futex_without_a_timeout, &yes, AT(INT_MAX, harmless[i]), "futex/%d-with-many", harmless[i]);
    }
    static const int waits[] = { WAIT, WAIT_BITSET, WAIT_BITSET | REAL, WAIT_REQUEUE_PI, WAIT_REQUEUE_PI | REAL };
    for EACH (i, waits) {
        add("futex", futex_of_another_value, NULL, AT(waits[i], 0), "futex/%d-other-value", waits[i]);
        add("futex", futex_of_another_value, NULL, AT(waits[i], -1), "futex/%d-other-value-under", waits[i]);
    }
    static const int locks[] = { LOCK_PI, LOCK_PI2, LOCK_PI2 | REAL, LOCK_PI | PRIVATE };
    for EACH (i, locks) {
        add("futex", futex_lock, NULL, locks[i], "futex/%d-free", locks[i]);
        add("futex", futex_lock, &yes, locks[i], "futex/%d-own", locks[i]);
    }
    for EACH (i, clocks) {
        add("futex_waitv", futex_on_clock, NULL, clocks[i], "futex_waitv/%d", clocks[i]);
        add("futex_wait", futex_on_clock, &yes, clocks[i], "futex_wait/%d", clocks[i]);
    }
    for (int odd = 0; odd < 2; odd++) {
        add("mq_timedsend", queue_at_once, NULL, odd ? SECOND : 0, "mq_timedsend/at-once%s", odd ? "-over" : "");
        add("mq_timedreceive", queue_at_once, &yes, odd ? SECOND : 0, "mq_timedreceive/at-once%s", odd ? "-over" : "");
    }
    add("mq_timedreceive", queue_without_waiting, NULL, 0, "mq_timedreceive/without-waiting");
    add("recvmmsg", many_messages, NULL, 1, "recvmmsg/one-message");
    add("recvmmsg", many_messages, NULL, 1024, "recvmmsg/many-messages");
    static const int parts[] = { 0, 1, SECOND, -1 };
    for EACH (i, parts) {
        add("recvmmsg", no_message, NULL, AT(GOOD, parts[i]), "recvmmsg/none-%d", parts[i]);
        add("recvmmsg", no_message, &yes, AT(GOOD, parts[i]), "recvmmsg/one-%d", parts[i]);
    }
    for (enum place place = NOWHERE; place < PLACES; place++) {
        add("recvmmsg", no_message, NULL, AT(place, 0), "recvmmsg/none-%s", places[place]);
        add("recvmmsg", no_message, &yes, AT(place, 0), "recvmmsg/one-%s", places[place]);
    }
    for (int odd = 0; odd < 3; odd++) {
        add("io_getevents", events_of_odd_times, NULL, AT(SYS_io_getevents, odd), "io_getevents/odd-%d", odd);
        add("io_pgetevents", events_of_odd_times, NULL, AT(NR_io_pgetevents, odd), "io_pgetevents/odd-%d", odd);
    }
    add("io_getevents", events_that_nobody_needs, NULL, SYS_io_getevents, "io_getevents/needless");
    add("io_pgetevents", events_that_nobody_needs, NULL, NR_io_pgetevents, "io_pgetevents/needless");
    static const int options[] = { RCVTIMEO, SNDTIMEO, RCVTIMEO_NEW, SNDTIMEO_NEW };
    static const int sizes[] = { -1, 0, 4, 15, 17, 64 };
    for EACH (i, options) {
        add("getsockopt", socket_says_its_timeout, &yes, options[i], "getsockopt/%d", options[i]);
        add("getsockopt", socket_says_its_timeout, NULL, options[i], "getsockopt/%d-unset", options[i]);
        for EACH (j, sizes) {
            long which = AT(options[i], sizes[j]);
            add("setsockopt", socket_option_of_size, &yes, which, "setsockopt/%d-size-%d", options[i], sizes[j]);
            add("getsockopt", socket_option_of_size, NULL, which, "getsockopt/%d-size-%d", options[i], sizes[j]);
        }
    }
    for (int which = 0; which < 4; which++)
        add("settimeofday", sets_time_of_day, NULL, which, "settimeofday/%d-without-rights", which);
    static const int modes[] = { MODE_FREQUENCY, MODE_SETOFFSET, MODE_SINGLESHOT, MODE_SS_READ, MODE_TICK };
    for EACH (i, modes) {
        add("adjtimex", adjusts, NULL, AT(0, modes[i]), "adjtimex/mode-%x-without-rights", modes[i]);
        add("clock_adjtime", adjusts, NULL, AT(1, modes[i]), "clock_adjtime/mode-%x-without-rights", modes[i]);
    }
    for EACH (i, plains) {
        const struct plain *each = &plains[i];
        add(each->row, plain, each, 0, "%s/with-%s", each->row, each->name);
        if (each->number == SYS_clock_settime || each->number == SYS_settimeofday || each->number == SYS_adjtimex ||
            each->number == SYS_clock_adjtime)
            add(each->row, plain_without_rights, each, 0, "%s/with-%s-without-rights", each->row, each->name);
    }
}

/* ---- Running them ---- */

static struct running {
    const struct test *test;
    struct shared *shared;
    pid_t process;
    int attempts;
    uint64_t since;
} running[AT_ONCE];

static void start(struct running *slot, const struct test *test, int attempts)
{
    struct shared *with = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t process = fork();
    if (process == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        shared = with;
        this = test;
        begun = stamp();
        test->run(test);
        _exit(1);
    }
    *slot = (struct running){ test, with, process, attempts, stamp() };
}

static void ended_with(const struct running *slot, int status)
{
    if (WIFSIGNALED(status))
        say(slot->test->name, "died", WTERMSIG(status), host_ns(stamp() - slot->since), " -");
    else if (WEXITSTATUS(status) != 0 && (WEXITSTATUS(status) != AGAIN || slot->attempts == 1))
        say(slot->test->name, "failed", WEXITSTATUS(status), host_ns(stamp() - slot->since), " -");
}

static void collect(void)
{
    for (struct running *slot = running; slot < running + AT_ONCE; slot++) {
        int status = 0;
        if (!slot->process)
            continue;
        if (waitpid(slot->process, &status, WNOHANG) == slot->process) {
            ended_with(slot, status);
        } else if (host_ns(stamp() - slot->since) > LIMIT) {
            say(slot->test->name, "hangs", 0, host_ns(stamp() - slot->since), " -");
            kill(slot->process, SIGKILL);
            waitpid(slot->process, &status, 0);
        } else {
            continue;
        }
        if (slot->shared->semaphores)
            semctl(slot->shared->semaphores - 1, 0, IPC_RMID);
        munmap(slot->shared, 4096);
        slot->process = 0;
        if (WIFEXITED(status) && WEXITSTATUS(status) == AGAIN && slot->attempts > 1)
            start(slot, slot->test, slot->attempts - 1);
    }
}

static struct running *free_slot(void)
{
    for (struct running *slot = running; slot < running + AT_ONCE; slot++)
        if (!slot->process)
            return slot;
    return NULL;
}

static int busy(void)
{
    for (struct running *slot = running; slot < running + AT_ONCE; slot++)
        if (slot->process)
            return 1;
    return 0;
}

static int wanted(const struct test *test, char **names)
{
    if (!*names)
        return 1;
    for (; *names; names++)
        if (strcmp(test->name, *names) == 0)
            return 1;
    return 0;
}

int main(int argc, char **argv)
{
    add_all();
    if (argc > 1 && strcmp(argv[1], "--list") == 0) {
        for (unsigned i = 0; i < count; i++)
            printf("%s %s\n", tests[i].row, tests[i].name);
        return 0;
    }
    if (argc > 1 && strcmp(argv[1], "--measure") == 0) {
        measure();
        return 0;
    }
    if (argc < 3)
        return 2;
    khz = strtoull(argv[1], NULL, 10);
    wait_ns = strtoll(argv[2], NULL, 10) * MS;
    for (unsigned i = 0; i < count; i++)
        if (wanted(&tests[i], argv + 3)) {
            struct running *slot;
            while (!(slot = free_slot())) {
                collect();
                if (!free_slot())
                    nap();
            }
            start(slot, &tests[i], ATTEMPTS);
        }
    while (busy()) {
        collect();
        nap();
    }
    return 0;
}
