// Sets and disciplines the clock, in every way that there is.
//
// Each line on its standard input, or else its arguments, is one thing to do, answered by one line. What the call
// returned and its errno come first.
//
//   read                      REALTIME MONOTONIC TAI COARSE, in nanoseconds
//   clock_settime NS          also `settimeofday NS`
//   adjtimex NAME=VALUE...    also `clock_adjtime`: sets fields of the struct, and answers with all that it is then
//   adjtime US                what the C library makes of it; answers with what was left, or `adjtime -` to ask only
//   until NS                  sleeps until REALTIME is this far, and answers with where it is then
//   errors                    a line for every call that has to fail, and `end`
//
// Outside of a namespace it does nothing, since it would be the machine's clock.
#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

#define NS_IN_S 1000000000LL

static int64_t now(clockid_t clock)
{
    struct timespec time;
    if (clock_gettime(clock, &time) != 0)
        abort();
    return time.tv_sec * NS_IN_S + time.tv_nsec;
}

static int is_member(void)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512];
    int found = 0;
    while (maps && fgets(line, sizeof line, maps))
        found |= strstr(line, "memfd:elsewhen-vdso") != NULL;
    if (maps)
        fclose(maps);
    return found;
}

static void answer(long result)
{
    printf("%ld %d", result, result == -1 ? errno : 0);
}

// REALTIME and MONOTONIC at nearly the same instant: of many tries the one that took least.
static void read_clocks(void)
{
    int64_t realtime = 0, monotonic = 0, least = INT64_MAX;
    for (int i = 0; i < 50; i++) {
        int64_t before = now(CLOCK_MONOTONIC), reading = now(CLOCK_REALTIME), after = now(CLOCK_MONOTONIC);
        if (after - before < least) {
            least = after - before;
            realtime = reading;
            monotonic = before + (after - before) / 2;
        }
    }
    printf("0 0 %lld %lld %lld %lld", (long long)realtime, (long long)monotonic, (long long)now(CLOCK_TAI),
           (long long)now(CLOCK_REALTIME_COARSE));
}

static const struct {
    const char *name;
    size_t at;
    int is_long;
} FIELDS[] = {
#define FIELD(name, of) { name, offsetof(struct timex, of), sizeof(((struct timex *)0)->of) == sizeof(long) }
    FIELD("modes", modes),       FIELD("offset", offset),         FIELD("freq", freq),
    FIELD("maxerror", maxerror), FIELD("esterror", esterror),     FIELD("status", status),
    FIELD("constant", constant), FIELD("precision", precision),   FIELD("tolerance", tolerance),
    FIELD("sec", time.tv_sec),   FIELD("fraction", time.tv_usec), FIELD("tick", tick),
    FIELD("tai", tai),
};

static void adjust(int by_clock, char *words)
{
    struct timex timex;
    memset(&timex, 0, sizeof timex);
    for (char *word = strtok(words, " \n"); word; word = strtok(NULL, " \n")) {
        char *value = strchr(word, '=');
        int known = 0;
        for (size_t i = 0; value && i < sizeof FIELDS / sizeof *FIELDS; i++) {
            if (strncmp(word, FIELDS[i].name, value - word) != 0 || FIELDS[i].name[value - word])
                continue;
            char *field = (char *)&timex + FIELDS[i].at;
            long number = strtol(value + 1, NULL, 0);
            if (FIELDS[i].is_long)
                *(long *)field = number;
            else
                *(int *)field = number;
            known = 1;
        }
        if (!known)
            abort();
    }
    answer(by_clock ? syscall(SYS_clock_adjtime, CLOCK_REALTIME, &timex) : syscall(SYS_adjtimex, &timex));
    for (size_t i = 1; i < sizeof FIELDS / sizeof *FIELDS; i++) {
        const char *field = (char *)&timex + FIELDS[i].at;
        printf(" %s=%ld", FIELDS[i].name, FIELDS[i].is_long ? *(const long *)field : *(const int *)field);
    }
}

static void gradually(const char *word)
{
    struct timeval delta = { 0, 0 }, old = { 0, 0 };
    int asks = word[0] == '-' && (word[1] == '\0' || word[1] == '\n');
    if (!asks) {
        long us = strtol(word, NULL, 0);
        delta.tv_sec = us / 1000000;
        delta.tv_usec = us % 1000000;
    }
    answer(adjtime(asks ? NULL : &delta, &old));
    printf(" %ld", old.tv_sec * 1000000L + old.tv_usec);
}

static void set(int by_clock, int64_t ns)
{
    struct timespec time = { ns / NS_IN_S, ns % NS_IN_S };
    struct timeval old = { ns / NS_IN_S, ns % NS_IN_S / 1000 };
    answer(by_clock ? clock_settime(CLOCK_REALTIME, &time) : settimeofday(&old, NULL));
}

static void sleep_until(int64_t ns)
{
    struct timespec time = { ns / NS_IN_S, ns % NS_IN_S };
    int error = clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &time, NULL);
    printf("%d %d %lld", error ? -1 : 0, error, (long long)now(CLOCK_REALTIME));
}

static void failing(const char *name, long result)
{
    int error = errno;
    printf("%s %ld %d\n", name, result, result == -1 ? error : 0);
}

static void errors(void)
{
    const struct timespec over = { 1, NS_IN_S }, under = { 1, -1 }, negative = { -1, 0 }, good = { 1900000000, 0 };
    const struct timeval over_old = { 1, 1000000 }, under_old = { 1, -1 }, negative_old = { -1, 0 };
    const struct timezone zone = { 0, 0 };
    // A page that cannot be written, and behind it one that is not there.
    char *pages = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED || munmap(pages + 4096, 4096) != 0)
        abort();
    void *gone = pages + 4096;
#define REALTIME(call, ...) syscall(SYS_##call, CLOCK_REALTIME, __VA_ARGS__)
    failing("clock_settime/over", REALTIME(clock_settime, &over));
    failing("clock_settime/under", REALTIME(clock_settime, &under));
    failing("clock_settime/negative", REALTIME(clock_settime, &negative));
    failing("clock_settime/null", REALTIME(clock_settime, NULL));
    failing("clock_settime/gone", REALTIME(clock_settime, gone));
    failing("clock_settime/half-gone", REALTIME(clock_settime, pages + 4096 - 8));
    failing("clock_settime/monotonic", syscall(SYS_clock_settime, CLOCK_MONOTONIC, &good));
    failing("clock_settime/boottime", syscall(SYS_clock_settime, CLOCK_BOOTTIME, &good));
    failing("clock_settime/tai", syscall(SYS_clock_settime, CLOCK_TAI, &good));
    failing("clock_settime/coarse", syscall(SYS_clock_settime, CLOCK_REALTIME_COARSE, &good));
    failing("clock_settime/unknown", syscall(SYS_clock_settime, 99, &good));
    failing("settimeofday/over", syscall(SYS_settimeofday, &over_old, NULL));
    failing("settimeofday/under", syscall(SYS_settimeofday, &under_old, NULL));
    failing("settimeofday/negative", syscall(SYS_settimeofday, &negative_old, NULL));
    failing("settimeofday/gone", syscall(SYS_settimeofday, gone, NULL));
    failing("settimeofday/zone-gone", syscall(SYS_settimeofday, NULL, gone));
    failing("settimeofday/over-and-zone", syscall(SYS_settimeofday, &over_old, &zone));
    failing("settimeofday/nothing", syscall(SYS_settimeofday, NULL, NULL));
    failing("adjtimex/null", syscall(SYS_adjtimex, NULL));
    failing("adjtimex/gone", syscall(SYS_adjtimex, gone));
    failing("adjtimex/half-gone", syscall(SYS_adjtimex, pages + 4096 - 100));
    failing("adjtimex/read-only", syscall(SYS_adjtimex, pages));
    static const struct {
        const char *name;
        struct timex timex;
    } BAD[] = {
        { "tick-slow", { .modes = ADJ_TICK, .tick = 8999 } },
        { "tick-fast", { .modes = ADJ_TICK, .tick = 11001 } },
        { "step-over", { .modes = ADJ_SETOFFSET, .time = { 0, 1000000 } } },
        { "step-under", { .modes = ADJ_SETOFFSET, .time = { 0, -1 } } },
        { "step-nano-over", { .modes = ADJ_SETOFFSET | ADJ_NANO, .time = { 0, NS_IN_S } } },
        { "frequency-far", { .modes = ADJ_FREQUENCY, .freq = INT64_MAX } },
        { "frequency-far-back", { .modes = ADJ_FREQUENCY, .freq = INT64_MIN } },
        { "single-without-offset", { .modes = 0x8000 } },
    };
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        char name[64];
        struct timex timex = BAD[i].timex;
        snprintf(name, sizeof name, "adjtimex/%s", BAD[i].name);
        failing(name, syscall(SYS_adjtimex, &timex));
        timex = BAD[i].timex;
        snprintf(name, sizeof name, "clock_adjtime/%s", BAD[i].name);
        failing(name, REALTIME(clock_adjtime, &timex));
    }
    struct timex read = { .modes = 0 };
    failing("clock_adjtime/unknown", syscall(SYS_clock_adjtime, 99, &read));
    failing("clock_adjtime/gone", REALTIME(clock_adjtime, gone));
    printf("end");
}

static void act(char *line)
{
    char *rest = strpbrk(line, " \n");
    if (rest)
        *rest++ = '\0';
    else
        rest = line + strlen(line);
    if (strcmp(line, "read") == 0)
        read_clocks();
    else if (strcmp(line, "clock_settime") == 0 || strcmp(line, "settimeofday") == 0)
        set(line[0] == 'c', strtoll(rest, NULL, 0));
    else if (strcmp(line, "adjtimex") == 0 || strcmp(line, "clock_adjtime") == 0)
        adjust(line[0] == 'c', rest);
    else if (strcmp(line, "adjtime") == 0)
        gradually(rest);
    else if (strcmp(line, "until") == 0)
        sleep_until(strtoll(rest, NULL, 0));
    else if (strcmp(line, "errors") == 0)
        errors();
    else
        abort();
    printf("\n");
    fflush(stdout);
}

int main(int argc, char **argv)
{
    char line[512] = "";
    if (!is_member()) {
        fprintf(stderr, "setting: not in a namespace\n");
        return 3;
    }
    if (argc > 1) {
        for (int i = 1; i < argc; i++)
            snprintf(line + strlen(line), sizeof line - strlen(line), "%s%s", i > 1 ? " " : "", argv[i]);
        act(line);
        return 0;
    }
    while (fgets(line, sizeof line, stdin))
        act(line);
    return 0;
}
