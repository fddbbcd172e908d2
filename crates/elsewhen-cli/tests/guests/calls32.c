/* Raw calls of the 32-bit interface, old ones and those with 64-bit times: each line says what one of them did, in words
 * that are the same in every namespace. Times are compared with the C library's clocks. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/net.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/times.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#ifndef __i386__
#error "the system calls are those of i386"
#endif

#define SECOND 1000000000LL

struct narrow {
    int32_t sec, fraction;
};
struct wide {
    int64_t sec, nsec;
};

/* As the C library's `syscall`, but the result is the kernel's. */
static long call(long number, long a, long b, long c, long d, long e, long f)
{
    long result = syscall(number, a, b, c, d, e, f);
    return result == -1 ? -errno : result;
}
#define AT(place) ((long)(place))
#define CALL(...) CALL_(__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define CALL_(number, a, b, c, d, e, f, ...) call(number, a, b, c, d, e, f)

static int64_t now(int clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * SECOND + time.tv_nsec;
}

/* Whether a reading lies between one before and one now, or a tick before where it is coarse. */
static const char *between(int64_t before, int64_t read, int64_t unit, int clock)
{
    int64_t after = now(clock);
    if (read < (before / unit - (unit > 1)) * unit - 20000000)
        return "early";
    return read > after + 20000000 ? "late" : "right";
}

static void reads(void)
{
    static const int clocks[] = { 0, 1, 7, 11 };
    for (int at = 0; at < 4; at++) {
        struct narrow narrow;
        struct wide wide;
        int64_t before = now(clocks[at]);
        long result = CALL(265, clocks[at], AT(&narrow));
        printf("clock_gettime %d %ld %s\n", clocks[at], result, between(before, narrow.sec * SECOND + narrow.fraction, 1, clocks[at]));
        before = now(clocks[at]);
        result = CALL(403, clocks[at], AT(&wide));
        printf("clock_gettime64 %d %ld %s\n", clocks[at], result, between(before, wide.sec * SECOND + wide.nsec, 1, clocks[at]));
        result = CALL(266, clocks[at], AT(&narrow));
        printf("clock_getres %d %ld %d %d\n", clocks[at], result, narrow.sec, narrow.fraction);
        result = CALL(406, clocks[at], AT(&wide));
        printf("clock_getres_time64 %d %ld %lld %lld\n", clocks[at], result, (long long)wide.sec, (long long)wide.nsec);
    }
    struct narrow micro;
    struct timezone zone = { 7, 7 };
    int64_t before = now(0);
    long result = CALL(78, AT(&micro), AT(&zone));
    printf("gettimeofday %ld %s zone %d\n", result, between(before, micro.sec * SECOND + micro.fraction * 1000LL, 1000, 0), zone.tz_minuteswest);
    int32_t stored[2] = { 0, 77 };
    before = now(0);
    result = CALL(13, AT(stored));
    printf("time %s %s %d\n", between(before, result * SECOND, SECOND, 0), stored[0] == result ? "stored" : "not stored", stored[1]);
    before = now(0);
    result = CALL(13, 0);
    printf("time of nowhere %s\n", between(before, result * SECOND, SECOND, 0));
    struct sysinfo info;
    before = now(7);
    result = CALL(116, AT(&info));
    int64_t after = now(7);
    printf("sysinfo %ld %s %s\n", result, info.uptime >= before / SECOND && info.uptime <= after / SECOND + 1 ? "right" : "wrong",
           info.totalram > 0 && info.mem_unit > 0 ? "memory" : "nothing");
    struct tms spent;
    before = now(1);
    result = CALL(43, AT(&spent));
    long again = CALL(43, AT(&spent));
    printf("times %s\n", again - result >= 0 && again - result < 1000 && spent.tms_utime >= 0 ? "right" : "wrong");
    printf("bad pointers %ld %ld %ld %ld %ld %ld\n", CALL(265, 0, 8), CALL(403, 0, 8), CALL(78, 8, 0), CALL(13, 8), CALL(116, 8), CALL(43, 8));
    printf("bad clocks %ld %ld %ld %ld %ld\n", CALL(265, 99, AT(&micro)), CALL(403, 99, AT(&micro)), CALL(266, 99, 0),
           CALL(267, 99, 0, AT(&micro)), CALL(407, 99, 0, AT(&micro)));
    struct wide cpu;
    printf("processor time %ld %ld\n", CALL(265, (int)(~0u << 3) | 2, AT(&micro)), CALL(403, 2, AT(&cpu)));
}

/* How long something took by MONOTONIC. */
static const char *length(int64_t from, int64_t least)
{
    int64_t took = now(1) - from;
    return took < least ? "short" : took < least + 2 * SECOND ? "full" : "long";
}

static void waits(void)
{
    const int64_t ns = 30000000;
    struct narrow narrow = { 0, ns }, micro = { 0, ns / 1000 }, left;
    /* The upper half of nanoseconds counts for nothing. */
    struct wide wide = { 0, 0x7700000000000000 | ns };
    fd_set set;
    int ends[2];
    if (pipe(ends) != 0)
        exit(1);
    int64_t from = now(1);
    long result = CALL(162, AT(&narrow), 0);
    printf("nanosleep %ld %s\n", result, length(from, ns));
    from = now(1), result = CALL(267, 1, 0, AT(&narrow), AT(&left));
    printf("clock_nanosleep %ld %s\n", result, length(from, ns));
    from = now(1), result = CALL(407, 1, 0, AT(&wide), 0);
    printf("clock_nanosleep_time64 %ld %s\n", result, length(from, ns));
    for (int clock = 0; clock < 2; clock++) {
        int64_t until = now(clock) + ns;
        struct narrow at = { until / SECOND, until % SECOND };
        struct wide at64 = { until / SECOND, until % SECOND | 0x5500000000000000 };
        from = now(1), result = CALL(267, clock, 1, AT(&at), 0);
        printf("clock_nanosleep until %d %ld %s\n", clock, result, now(clock) >= until ? "full" : "short");
        until += ns, at64.nsec += ns;
        if ((at64.nsec & 0xffffffff) < SECOND) {
            result = CALL(407, clock, 1, AT(&at64), 0);
            printf("clock_nanosleep_time64 until %d %ld %s\n", clock, result, now(clock) >= until ? "full" : "short");
        } else {
            printf("clock_nanosleep_time64 until %d 0 full\n", clock);
        }
    }
    long selects[5] = { 0, 0, 0, 0, AT(&micro) };
    from = now(1), result = CALL(82, AT(selects));
    printf("old select %ld %s left %d %d\n", result, length(from, ns), micro.sec, micro.fraction);
    FD_ZERO(&set);
    FD_SET(ends[0], &set);
    micro = (struct narrow) { 0, 1000000 + ns / 1000 };
    from = now(1), result = CALL(142, ends[0] + 1, AT(&set), 0, 0, AT(&micro));
    printf("select %ld %s set %d left %d %d\n", result, length(from, SECOND + ns), FD_ISSET(ends[0], &set) != 0, micro.sec, micro.fraction);
    if (write(ends[1], "x", 1) != 1)
        exit(1);
    FD_ZERO(&set);
    FD_SET(ends[0], &set);
    micro = (struct narrow) { 5, 0 };
    result = CALL(142, ends[0] + 1, AT(&set), 0, 0, AT(&micro));
    printf("select with data %ld set %d left %s\n", result, FD_ISSET(ends[0], &set) != 0, micro.sec == 4 && micro.fraction > 0 && micro.fraction < 1000000 ? "most" : "wrong");
    micro = (struct narrow) { -1, 0 };
    printf("select of the past %ld\n", CALL(142, 0, 0, 0, 0, AT(&micro)));
    uint64_t mask = 0;
    struct {
        const uint64_t *mask;
        unsigned size;
    } pair = { &mask, 8 };
    narrow = (struct narrow) { 0, ns };
    from = now(1), result = CALL(308, 0, 0, 0, 0, AT(&narrow), AT(&pair));
    printf("pselect6 %ld %s left %d %d\n", result, length(from, ns), narrow.sec, narrow.fraction);
    from = now(1), result = CALL(413, 0, 0, 0, 0, AT(&wide), AT(&pair));
    printf("pselect6_time64 %ld %s left %lld %lld\n", result, length(from, ns), (long long)wide.sec, (long long)wide.nsec);
    pair.size = 4;
    printf("pselect6 with half a mask %ld\n", CALL(308, 0, 0, 0, 0, AT(&narrow), AT(&pair)));
    struct pollfd nothing = { -1, 0, 0 };
    from = now(1), result = CALL(168, AT(&nothing), 1, 30);
    printf("poll %ld %s\n", result, length(from, ns));
    narrow = (struct narrow) { 0, ns }, wide = (struct wide) { 0, ns };
    from = now(1), result = CALL(309, AT(&nothing), 1, AT(&narrow), AT(&mask), 8);
    printf("ppoll %ld %s left %d %d\n", result, length(from, ns), narrow.sec, narrow.fraction);
    from = now(1), result = CALL(414, AT(&nothing), 1, AT(&wide), AT(&mask), 8);
    printf("ppoll_time64 %ld %s left %lld %lld\n", result, length(from, ns), (long long)wide.sec, (long long)wide.nsec);
    uint32_t word = 0;
    narrow = (struct narrow) { 0, ns }, wide = (struct wide) { 0, ns };
    from = now(1), result = CALL(240, AT(&word), 0, 0, AT(&narrow));
    printf("futex %ld %s\n", result, length(from, ns));
    from = now(1), result = CALL(422, AT(&word), 0, 0, AT(&wide));
    printf("futex_time64 %ld %s\n", result, length(from, ns));
    printf("futex of nothing %ld %ld\n", CALL(240, AT(&word), 0, 1, AT(&narrow)), CALL(240, AT(&word), 0, 0, 8));
    uint64_t usr1 = 1 << (SIGUSR1 - 1);
    siginfo_t info;
    from = now(1), result = CALL(177, AT(&usr1), AT(&info), AT(&narrow), 8);
    printf("rt_sigtimedwait %ld %s\n", result, length(from, ns));
    from = now(1), result = CALL(421, AT(&usr1), AT(&info), AT(&wide), 8);
    printf("rt_sigtimedwait_time64 %ld %s\n", result, length(from, ns));
    /* SIGSYS and another, sent and waited for. */
    static const int signals[] = { SIGUSR1, SIGSYS };
    for (int at = 0; at < 2; at++) {
        uint64_t set64 = 1u << (signals[at] - 1);
        CALL(175, SIG_BLOCK, AT(&set64), 0, 8);
        sigqueue(getpid(), signals[at], (union sigval) { 4711 });
        memset(&info, 0xee, sizeof info);
        result = CALL(177, AT(&set64), AT(&info), AT(&narrow), 8);
        printf("rt_sigtimedwait of %d: %ld %d %d %d %s\n", signals[at], result, info.si_signo, info.si_code, info.si_value.sival_int,
               info.si_pid == getpid() ? "own" : "other");
        CALL(175, SIG_UNBLOCK, AT(&set64), 0, 8);
    }
    printf("bad pointers %ld %ld %ld %ld %ld %ld\n", CALL(162, 8, 0), CALL(267, 1, 0, 8, 0), CALL(407, 1, 0, 8, 0), CALL(142, 0, 0, 0, 0, 8),
           CALL(309, 0, 0, 8, 0, 8), CALL(177, AT(&usr1), 0, 8, 8));
    narrow.fraction = 1000000000;
    printf("bad times %ld %ld %ld\n", CALL(162, AT(&narrow), 0), CALL(267, 1, 0, AT(&narrow), 0), CALL(309, 0, 0, AT(&narrow), 0, 8));
}

static volatile int ticks;
static void tick(int signal) { (void)signal, ticks++; }

/* What remains of ten seconds, or of a second's interval. */
static const char *rest(int64_t ns, int64_t most) { return ns > most - 3 * SECOND && ns <= most + 2000 ? "most" : "wrong"; }

static void timers(void)
{
    struct {
        struct narrow interval, value;
    } set = { { 10, 0 }, { 10, 0 } }, old = { { 7, 7 }, { 7, 7 } };
    struct {
        struct wide interval, value;
    } set64 = { { 10, 0 }, { 10, 0 } }, old64;
    int id;
    struct sigevent quiet = { .sigev_notify = SIGEV_NONE };
    long result = CALL(259, 1, AT(&quiet), AT(&id));
    printf("timer_create %ld\n", result);
    result = CALL(260, id, 0, AT(&set), AT(&old));
    printf("timer_settime %ld old %d %d\n", result, old.value.sec, old.value.fraction);
    result = CALL(261, id, AT(&old));
    printf("timer_gettime %ld %s %s\n", result, rest(old.value.sec * SECOND + old.value.fraction, 10 * SECOND),
           rest(old.interval.sec * SECOND + old.interval.fraction, 10 * SECOND));
    result = CALL(409, id, 0, AT(&set64), AT(&old64));
    printf("timer_settime64 %ld old %s\n", result, rest(old64.value.sec * SECOND + old64.value.nsec, 10 * SECOND));
    result = CALL(408, id, AT(&old64));
    printf("timer_gettime64 %ld %s\n", result, rest(old64.value.sec * SECOND + old64.value.nsec, 10 * SECOND));
    int64_t until = now(1) + 10 * SECOND;
    set.value = (struct narrow) { until / SECOND, until % SECOND };
    result = CALL(260, id, 1, AT(&set), 0);
    CALL(261, id, AT(&old));
    printf("timer_settime until %ld %s\n", result, rest(old.value.sec * SECOND + old.value.fraction, 10 * SECOND));
    printf("timer_settime of nothing %ld %ld %ld\n", CALL(260, id, 0, 0, 0), CALL(260, id, 0, 8, 0), CALL(260, id + 1, 0, AT(&set), 0));
    result = CALL(263, id);
    printf("timer_delete %ld %ld\n", result, CALL(263, id));
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    set.value = (struct narrow) { 10, 0 };
    result = CALL(325, fd, 0, AT(&set), AT(&old));
    printf("timerfd_settime %ld old %d %d\n", result, old.value.sec, old.value.fraction);
    result = CALL(326, fd, AT(&old));
    printf("timerfd_gettime %ld %s\n", result, rest(old.value.sec * SECOND + old.value.fraction, 10 * SECOND));
    set64.value = (struct wide) { until / SECOND, until % SECOND | 0x3300000000000000 };
    result = CALL(411, fd, 1, AT(&set64), 0);
    CALL(410, fd, AT(&old64));
    printf("timerfd_settime64 until %ld %s\n", result, rest(old64.value.sec * SECOND + old64.value.nsec, 10 * SECOND));
    signal(SIGALRM, tick);
    set.interval = (struct narrow) { 0, 0 }, set.value = (struct narrow) { 10, 0 };
    result = CALL(104, 0, AT(&set), AT(&old));
    printf("setitimer %ld old %d %d\n", result, old.value.sec, old.value.fraction);
    result = CALL(105, 0, AT(&old));
    printf("getitimer %ld %s\n", result, rest(old.value.sec * SECOND + old.value.fraction * 1000LL, 10 * SECOND));
    result = CALL(27, 0);
    printf("alarm %s\n", result >= 8 && result <= 10 ? "most" : "wrong");
    set.value = (struct narrow) { 0, 20000 };
    CALL(104, 0, AT(&set), 0);
    int64_t from = now(1);
    while (ticks == 0 && now(1) - from < 20 * SECOND)
        poll(NULL, 0, 5);
    printf("alarm comes %d %s\n", ticks, length(from, 10000000));
}

/* Sockets count ticks of the kernel, of 4 ms or 10. */
static const char *close_to(int64_t micro, int64_t asked)
{
    return micro >= asked - 1 && micro <= asked + 21000 ? "as asked" : "wrong";
}

static void sockets(void)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) != 0)
        exit(1);
    struct narrow micro = { 0, 40000 }, got = { 7, 7 };
    struct wide micro64 = { 0, 50000 }, got64;
    int size = sizeof got;
    long result = CALL(366, ends[0], SOL_SOCKET, 20, AT(&micro), sizeof micro);
    long second = CALL(365, ends[0], SOL_SOCKET, 20, AT(&got), AT(&size));
    printf("old timeout %ld %ld %d %s size %d\n", result, second, got.sec, close_to(got.fraction, 40000), size);
    char byte;
    int64_t from = now(1);
    result = recv(ends[0], &byte, 1, 0) == -1 ? -errno : 0;
    printf("recv %ld %s\n", result, length(from, 36000000));
    size = sizeof got64;
    result = CALL(366, ends[0], SOL_SOCKET, 66, AT(&micro64), sizeof micro64);
    second = CALL(365, ends[0], SOL_SOCKET, 66, AT(&got64), AT(&size));
    printf("new timeout %ld %ld %lld %s size %d\n", result, second, (long long)got64.sec, close_to(got64.nsec, 50000), size);
    size = sizeof got;
    long by_set[] = { ends[0], SOL_SOCKET, 20, AT(&micro), sizeof micro }, by_get[] = { ends[0], SOL_SOCKET, 20, AT(&got), AT(&size) };
    micro.fraction = 30000;
    result = CALL(102, 14, AT(by_set)), second = CALL(102, 15, AT(by_get));
    printf("by socketcall %ld %ld %d %s\n", result, second, got.sec, close_to(got.fraction, 30000));
    printf("short option %ld\n", CALL(366, ends[0], SOL_SOCKET, 20, AT(&micro), 4));
    int number = 0;
    size = sizeof number;
    by_get[2] = SO_TYPE, by_get[3] = AT(&number);
    result = CALL(102, 15, AT(by_get));
    printf("another option %ld %s\n", result, number == SOCK_DGRAM ? "right" : "wrong");
    struct iovec part = { &byte, 1 };
    struct mmsghdr message = { .msg_hdr = { .msg_iov = &part, .msg_iovlen = 1 } };
    if (send(ends[1], "x", 1, 0) != 1)
        exit(1);
    struct narrow most = { 5, 0 };
    struct wide most64 = { 5, 0 };
    result = CALL(337, ends[0], AT(&message), 1, 0, AT(&most));
    printf("recvmmsg %ld left %s\n", result, most.sec == 4 ? "most" : "wrong");
    if (send(ends[1], "x", 1, 0) != 1)
        exit(1);
    result = CALL(417, ends[0], AT(&message), 1, 0, AT(&most64));
    printf("recvmmsg_time64 %ld left %s\n", result, most64.sec == 4 ? "most" : "wrong");
    printf("bad pointers %ld %ld %ld\n", CALL(366, ends[0], SOL_SOCKET, 20, 8, 8), CALL(365, ends[0], SOL_SOCKET, 20, 8, AT(&size)), CALL(102, 14, 8));
}

/* Whether a file's time is about now, by the clock of the program or by another. */
static const char *about(int64_t sec)
{
    int64_t apart = sec - now(0) / SECOND;
    return apart >= -600 && apart <= 600 ? "now" : "another time";
}

static void files(void)
{
    const char *path = getenv("CALLS32_FILE");
    int fd = open(path, O_CREAT | O_TRUNC | O_RDWR, 0600);
    /* `struct stat` and `struct stat64`, of which the times count. */
    int32_t old[64], large[64];
    long a = CALL(106, AT(path), AT(old)), b = CALL(108, fd, AT(old)), c = CALL(107, AT(path), AT(old));
    printf("stat %ld %ld %ld modified %s\n", a, b, c, about(old[10]));
    a = CALL(195, AT(path), AT(large)), b = CALL(197, fd, AT(large)), c = CALL(300, -100, AT(path), AT(large), 0);
    printf("stat64 %ld %ld %ld modified %s\n", a, b, c, about(large[18]));
    int32_t at = now(0) / SECOND - 5000;
    struct narrow times[2] = { { at, 0 }, { at + 1, 0 } };
    struct wide times64[2] = { { at + 2, 0 }, { at + 3, 0x1100000000000000 } };
    int32_t seconds[2] = { at + 4, at + 5 };
    a = CALL(271, AT(path), AT(times)), CALL(195, AT(path), AT(large));
    printf("utimes %ld %d %d\n", a, large[16] - at, large[18] - at);
    a = CALL(30, AT(path), AT(seconds)), CALL(195, AT(path), AT(large));
    printf("utime %ld %d %d\n", a, large[16] - at, large[18] - at);
    a = CALL(412, -100, AT(path), AT(times64), 0), CALL(195, AT(path), AT(large));
    printf("utimensat_time64 %ld %d %d\n", a, large[16] - at, large[18] - at);
    times[0].sec = at + 6, times[1].fraction = 0x3fffffff;
    a = CALL(320, -100, AT(path), AT(times), 0), CALL(195, AT(path), AT(large));
    printf("utimensat %ld %d modified %s\n", a, large[16] - at, about(large[18]));
    times[1] = (struct narrow) { at + 8, 0 };
    a = CALL(299, -100, AT(path), AT(times)), CALL(195, AT(path), AT(large));
    printf("futimesat %ld %d %d\n", a, large[16] - at, large[18] - at);
    printf("bad pointers %ld %ld %ld\n", CALL(195, AT(path), 8), CALL(271, AT(path), 8), CALL(30, AT(path), 8));
    unlink(path);
}

static void clocks_set(void)
{
    /* `struct timex`, of 32-bit words and as it is in every program. */
    int32_t timex[32] = { 0 };
    int64_t timex64[26] = { 0 };
    int64_t before = now(0);
    long state = CALL(124, AT(timex));
    int64_t fraction = timex[5] & 0x2000 ? timex[10] : timex[10] * 1000LL;
    printf("adjtimex %s %s tick %d\n", state >= 0 ? "done" : "failed", between(before, timex[9] * SECOND + fraction, 1000, 0), timex[11]);
    before = now(0), state = CALL(343, 0, AT(timex));
    fraction = timex[5] & 0x2000 ? timex[10] : timex[10] * 1000LL;
    printf("clock_adjtime %s %s\n", state >= 0 ? "done" : "failed", between(before, timex[9] * SECOND + fraction, 1000, 0));
    before = now(0), state = CALL(405, 0, AT(timex64));
    fraction = timex64[5] & 0x2000 ? timex64[10] : timex64[10] * 1000;
    printf("clock_adjtime64 %s %s\n", state >= 0 ? "done" : "failed", between(before, timex64[9] * SECOND + fraction, 1000, 0));
    printf("bad pointers %ld %ld %ld\n", CALL(124, 8), CALL(343, 0, 8), CALL(264, 0, 8));
}

/* For namespaces whose members may set the clock. */
static void sets(void)
{
    int64_t to = now(0) / SECOND + 100;
    struct narrow at = { to, 0 };
    printf("clock_settime %ld\n", CALL(264, 0, AT(&at)));
    printf("%s\n", now(0) >= to * SECOND && now(0) < (to + 20) * SECOND ? "set" : "not set");
    struct wide at64 = { to += 100, 0x2200000000000000 };
    printf("clock_settime64 %ld\n", CALL(404, 0, AT(&at64)));
    printf("%s\n", now(0) >= to * SECOND && now(0) < (to + 20) * SECOND ? "set" : "not set");
    at.sec = to += 100;
    printf("settimeofday %ld\n", CALL(79, AT(&at), 0));
    printf("%s\n", now(0) >= to * SECOND && now(0) < (to + 20) * SECOND ? "set" : "not set");
    at.sec = to += 100;
    printf("stime %ld\n", CALL(25, AT(&at)));
    printf("%s\n", now(0) >= to * SECOND && now(0) < (to + 20) * SECOND ? "set" : "not set");
    /* `ADJ_SETOFFSET`: on by 100 seconds. */
    int32_t timex[32] = { 0x0100, [9] = 100 };
    printf("adjtimex %d\n", CALL(124, AT(timex)) >= 0);
    to += 100;
    printf("%s\n", now(0) >= to * SECOND && now(0) < (to + 20) * SECOND ? "set" : "not set");
}

/* Filters: one that lets everything through, one that refuses a call and traps another, and one that kills for calls of other
 * architectures. */
static void on_trap(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    ucontext_t *found = context;
    found->uc_mcontext.gregs[REG_EAX] = info->si_syscall == SYS_getppid && info->si_arch == AUDIT_ARCH_I386 ? 4711 : -1;
}

#define LOAD(what) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, what))
#define IF(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, yes, no)
#define END(what) BPF_STMT(BPF_RET | BPF_K, what)

static void filters(void)
{
    struct sock_filter all[] = { END(SECCOMP_RET_ALLOW) };
    struct sock_filter some[] = { LOAD(arch), IF(AUDIT_ARCH_I386, 0, 5), LOAD(nr), IF(SYS_getppid, 2, 0), IF(SYS_getpgid, 0, 2),
                                  END(SECCOMP_RET_ERRNO | 77), END(SECCOMP_RET_TRAP), END(SECCOMP_RET_ALLOW) };
    struct sock_filter own[] = { LOAD(arch), IF(AUDIT_ARCH_I386, 1, 0), END(SECCOMP_RET_KILL_PROCESS), END(SECCOMP_RET_ALLOW) };
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    struct sigaction action = { .sa_sigaction = on_trap, .sa_flags = SA_SIGINFO };
    sigaction(SIGSYS, &action, NULL);
    struct sock_fprog program = { 1, all };
    printf("all by prctl %ld\n", CALL(172, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, AT(&program)));
    program = (struct sock_fprog) { 8, some };
    printf("some by seccomp %ld\n", CALL(354, SECCOMP_SET_MODE_FILTER, 0, AT(&program)));
    printf("trapped %ld refused %ld\n", CALL(SYS_getppid), CALL(SYS_getpgid, 0));
    struct narrow narrow;
    struct wide wide;
    int64_t before = now(0);
    long result = CALL(265, 0, AT(&narrow));
    printf("clock_gettime %ld %s\n", result, between(before, narrow.sec * SECOND + narrow.fraction, 1, 0));
    program = (struct sock_fprog) { 4, own };
    printf("own architecture alone %ld\n", CALL(354, SECCOMP_SET_MODE_FILTER, 0, AT(&program)));
    result = CALL(403, 0, AT(&wide));
    printf("clock_gettime64 %ld %s\n", result, between(before, wide.sec * SECOND + wide.nsec, 1, 0));
    printf("bad pointer %ld\n", CALL(354, SECCOMP_SET_MODE_FILTER, 0, 8));
}

int main(int count, char **arguments)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    if (count > 1 && strcmp(arguments[1], "sets") == 0) {
        sets();
        return 0;
    }
    if (count > 1 && strcmp(arguments[1], "filters") == 0) {
        filters();
        return 0;
    }
    reads();
    waits();
    timers();
    sockets();
    files();
    clocks_set();
    puts("end");
    return 0;
}
