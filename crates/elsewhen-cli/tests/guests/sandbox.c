/* Programs that confine themselves with filters of their own. Run with the names of cases, or `--list`; prints what
 * each observes, the same on every run. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/ucontext.h>
#include <sys/wait.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#include "interfaces.h"

/* As in linux/seccomp.h, linux/filter.h and linux/futex.h, which not every compiler finds. */
struct instruction {
    uint16_t code;
    uint8_t jt, jf;
    uint32_t k;
};
struct program {
    unsigned short len;
    struct instruction *filter;
};
enum { LOAD = 0x20, JUMP_EQUAL = 0x15, RETURN = 0x06 };
#define ALLOW 0x7fff0000u
#define ERROR(number) (0x00050000u | (number))
#define TRAP(data) (0x00030000u | (data))
#define KILL_PROCESS 0x80000000u
#ifdef __aarch64__
#define ARCH_NATIVE 0xc00000b7u
#else
#define ARCH_NATIVE 0xc000003eu
#endif
enum { SET_MODE_FILTER = 1, FLAG_TSYNC = 1 };
enum { FUTEX_WAIT_BITSET = 9, FUTEX_CLOCK_REALTIME = 256 };

#define MS 1000000LL
#define SECOND (1000 * MS)
#define COUNT(array) (sizeof(array) / sizeof *(array))

static const char *running;

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

/* A result, or the error number, negative. */
static long outcome(long result)
{
    return result == -1 ? -errno : result;
}

/* Lets these calls through; the rest gets `otherwise`. */
static void confine(const int *allowed, int count, uint32_t otherwise)
{
    static struct instruction code[256];
    int length = 0;
    code[length++] = (struct instruction) { LOAD, 0, 0, 4 };
    code[length++] = (struct instruction) { JUMP_EQUAL, 1, 0, ARCH_NATIVE };
    code[length++] = (struct instruction) { RETURN, 0, 0, KILL_PROCESS };
    code[length++] = (struct instruction) { LOAD, 0, 0, 0 };
    for (int each = 0; each < count; each++) {
        code[length++] = (struct instruction) { JUMP_EQUAL, 0, 1, allowed[each] };
        code[length++] = (struct instruction) { RETURN, 0, 0, ALLOW };
    }
    code[length++] = (struct instruction) { RETURN, 0, 0, otherwise };
    struct program program = { length, code };
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (syscall(SYS_seccomp, SET_MODE_FILTER, 0, &program) != 0)
        _exit(90);
}

/* Gives these calls something; lets the rest through. */
static void forbid(const int *forbidden, int count, uint32_t with)
{
    static struct instruction code[256];
    int length = 0;
    code[length++] = (struct instruction) { LOAD, 0, 0, 0 };
    for (int each = 0; each < count; each++) {
        code[length++] = (struct instruction) { JUMP_EQUAL, 0, 1, forbidden[each] };
        code[length++] = (struct instruction) { RETURN, 0, 0, with };
    }
    code[length++] = (struct instruction) { RETURN, 0, 0, ALLOW };
    struct program program = { length, code };
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (syscall(SYS_seccomp, SET_MODE_FILTER, FLAG_TSYNC, &program) != 0)
        _exit(90);
}

static long long now(int clock)
{
    struct timespec time = { -1, -1 };
    if (syscall(SYS_clock_gettime, clock, &time) != 0)
        return -1;
    return time.tv_sec * SECOND + time.tv_nsec;
}

/* Calls that a sandbox for a program with timers may allow, each with its result. */
static void say_time_calls(void)
{
    struct timespec time;
    struct timeval micro;
    static uint32_t word;
    say("clock_gettime %ld", outcome(syscall(SYS_clock_gettime, CLOCK_REALTIME, &time)));
    say("clock_gettime monotonic %ld", outcome(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &time)));
    say("clock_gettime of libc %d", clock_gettime(CLOCK_REALTIME, &time));
    say("clock_getres %ld", outcome(syscall(SYS_clock_getres, CLOCK_REALTIME, &time)));
    say("gettimeofday %ld", outcome(syscall(SYS_gettimeofday, &micro, NULL)));
    long seconds = outcome(syscall(SYS_time, NULL));
    say("time %ld", seconds > 1000000 ? 1 : seconds);
    long long end = now(CLOCK_MONOTONIC) + 5 * MS;
    time = (struct timespec) { end / SECOND, end % SECOND };
    long result = outcome(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 1, &time, NULL));
    say("clock_nanosleep %ld %s", result, now(CLOCK_MONOTONIC) >= end ? "full" : "short");
    end = now(CLOCK_REALTIME) + 5 * MS;
    time = (struct timespec) { end / SECOND, end % SECOND };
    result = outcome(syscall(SYS_futex, &word, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, &time, NULL, -1));
    say("futex %ld %s", result, now(CLOCK_REALTIME) >= end ? "full" : "short");
    time = (struct timespec) { 0, 5 * MS };
    say("nanosleep %ld", outcome(syscall(SYS_nanosleep, &time, NULL)));
    say("poll %ld", outcome(syscall(SYS_poll, NULL, 0, 5)));
    uint64_t set = 0, old = 7;
    say("rt_sigprocmask %ld %llx", outcome(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &set, &old, 8)), (long long)old);
}

/* What such a sandbox lets through. */
static const int time_calls[] = {
    SYS_read, SYS_write, SYS_exit_group, SYS_exit, SYS_rt_sigreturn, SYS_rt_sigprocmask, SYS_rt_sigaction, SYS_futex,
    SYS_clock_gettime, SYS_clock_getres, SYS_gettimeofday, SYS_time, SYS_clock_nanosleep, SYS_nanosleep, SYS_poll,
};

static void allow_or_error(void)
{
    confine(time_calls, COUNT(time_calls), ERROR(EPERM));
    say("getppid %ld", outcome(syscall(SYS_getppid)));
    say_time_calls();
}

static void allow_or_kill(void)
{
    confine(time_calls, COUNT(time_calls), KILL_PROCESS);
    say_time_calls();
    syscall(SYS_getppid);
    say("lives on");
}

/* With signal handlers that are set up afterwards. */
static volatile int handled;

static void counts(int signal)
{
    (void)signal;
    struct timespec time;
    handled += syscall(SYS_clock_gettime, CLOCK_REALTIME, &time) == 0;
}

static void allow_or_kill_with_handlers(void)
{
    confine(time_calls, COUNT(time_calls), KILL_PROCESS);
    struct sigaction action = { .sa_handler = counts }, old;
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, SIGSYS);
    say("sigaction %d", sigaction(SIGUSR1, &action, NULL));
    say("sigaction of SIGSYS %d", sigaction(SIGSYS, &action, NULL));
    int result = sigaction(SIGSYS, NULL, &old);
    say("read back %d %d", result, old.sa_handler == counts);
    uint64_t set = 1 << 30;
    say("block %ld", outcome(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &set, NULL, 8)));
    say("unblock %ld", outcome(syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, &set, NULL, 8)));
    say_time_calls();
}

/* The least that a program needs which reads clocks and waits, and has no signal handlers. */
static const int few_calls[] = { SYS_read, SYS_write, SYS_exit_group, SYS_clock_gettime, SYS_clock_nanosleep };

static void few(uint32_t otherwise)
{
    confine(few_calls, COUNT(few_calls), otherwise);
    struct timespec time;
    say("clock_gettime %ld", outcome(syscall(SYS_clock_gettime, CLOCK_REALTIME, &time)));
    long long end = now(CLOCK_REALTIME) + 5 * MS;
    time = (struct timespec) { end / SECOND, end % SECOND };
    long result = outcome(syscall(SYS_clock_nanosleep, CLOCK_REALTIME, 1, &time, NULL));
    say("clock_nanosleep %ld %s", result, now(CLOCK_REALTIME) >= end ? "full" : "short");
}

static void few_or_kill(void)
{
    few(KILL_PROCESS);
}

static void few_or_error(void)
{
    few(ERROR(EACCES));
}

/* What the program denies itself stays denied. */
static void denied(void)
{
    static const int forbidden[] = { SYS_clock_gettime, SYS_gettimeofday, SYS_time,      SYS_clock_nanosleep,
                                     SYS_clock_getres,  SYS_nanosleep,    SYS_rt_sigpending };
    forbid(forbidden, COUNT(forbidden), ERROR(EACCES));
    struct timespec time = { 0, 5 * MS };
    struct timeval micro;
    uint64_t set;
    say("clock_gettime %ld", outcome(syscall(SYS_clock_gettime, CLOCK_REALTIME, &time)));
    say("clock_gettime of libc %d", clock_gettime(CLOCK_REALTIME, &time));
    say("clock_getres %ld", outcome(syscall(SYS_clock_getres, CLOCK_REALTIME, &time)));
    say("gettimeofday %ld", outcome(syscall(SYS_gettimeofday, &micro, NULL)));
    say("time %ld", outcome(syscall(SYS_time, NULL)));
    say("clock_nanosleep %ld", outcome(syscall(SYS_clock_nanosleep, CLOCK_REALTIME, 1, &time, NULL)));
    time = (struct timespec) { 0, 5 * MS };
    say("nanosleep %ld", outcome(syscall(SYS_nanosleep, &time, NULL)));
    say("rt_sigpending %ld", outcome(syscall(SYS_rt_sigpending, &set, 8)));
}

/* Where a system call leaves and takes what. */
#ifdef __aarch64__
#define CALL_INSTRUCTION "\x01\x00\x00\xd4"
#define PC(context) (context)->pc
#define RESULT(context) (context)->regs[0]
#define FIRST(context) (context)->regs[0]
#define LAST(context) (context)->regs[5]
#else
#define CALL_INSTRUCTION "\x0f\x05"
#define PC(context) (context)->gregs[REG_RIP]
#define RESULT(context) (context)->gregs[REG_RAX]
#define FIRST(context) (context)->gregs[REG_RDI]
#define LAST(context) (context)->gregs[REG_R9]
#endif

/* Emulates calls in a handler of SIGSYS, and checks what the kernel tells it. */
enum { DATA = 0x123 };
static volatile struct {
    int traps, number, errno_, arch, code, right_address, in_handler;
} trapped;

static void emulates(int signal, siginfo_t *info, void *context)
{
    mcontext_t *registers = &((ucontext_t *)context)->uc_mcontext;
    /* The last instruction was a `syscall` or `svc`, which is where the thread stands behind. */
    const unsigned char *address = info->si_call_addr;
    size_t length = sizeof CALL_INSTRUCTION - 1;
    (void)signal;
    trapped.traps++;
    trapped.number = info->si_syscall;
    trapped.errno_ = info->si_errno;
    trapped.arch = info->si_arch == ARCH_NATIVE;
    trapped.code = info->si_code;
    trapped.right_address = address == (unsigned char *)PC(registers) && memcmp(address - length, CALL_INSTRUCTION, length) == 0;
    struct timespec time;
    trapped.in_handler = syscall(SYS_clock_gettime, CLOCK_BOOTTIME, &time) == 0;
    if (info->si_syscall == SYS_getppid)
        RESULT(registers) = 4711;
    else if (info->si_syscall == SYS_getuid)
        RESULT(registers) = FIRST(registers) + LAST(registers);
    else
        RESULT(registers) = -EDOM;
}

static void say_trapped(const char *what, long result)
{
    say("%s: %ld, traps %d number %d errno %x arch %d code %d address %s in the handler %d", what, result,
        trapped.traps, trapped.number, trapped.errno_, trapped.arch, trapped.code,
        trapped.right_address ? "right" : "wrong", trapped.in_handler);
}

static void set_emulator(int flags)
{
    struct sigaction action = { .sa_sigaction = emulates, .sa_flags = SA_SIGINFO | flags };
    sigemptyset(&action.sa_mask);
    sigaction(SIGSYS, &action, NULL);
}

static const int emulated[] = { SYS_uname, SYS_getppid, SYS_getuid };

static void trap(void)
{
    forbid(emulated, COUNT(emulated), TRAP(DATA));
    set_emulator(0);
    say_trapped("getppid", outcome(syscall(SYS_getppid)));
    say_trapped("getuid", outcome(syscall(SYS_getuid, 40, 0, 0, 0, 0, 2)));
    char name[400];
    say_trapped("uname", outcome(syscall(SYS_uname, name)));
    say_time_calls();
    say_trapped("getppid", outcome(syscall(SYS_getppid)));
    set_emulator(SA_NODEFER | SA_RESTART);
    say_trapped("getppid", outcome(syscall(SYS_getppid)));
    pid_t child = fork();
    if (child == 0) {
        say_trapped("getppid in a child", outcome(syscall(SYS_getppid)));
        _exit(3);
    }
    int status;
    waitpid(child, &status, 0);
    say("child %d", WEXITSTATUS(status));
    raise(SIGSYS);
    say("raised: traps %d code %d", trapped.traps, trapped.code);
}

static void *in_thread(void *with)
{
    (void)with;
    return (void *)outcome(syscall(SYS_getppid));
}

static void trap_in_threads(void)
{
    set_emulator(0);
    forbid(emulated, COUNT(emulated), TRAP(DATA));
    void *result;
    pthread_t thread;
    if (pthread_create(&thread, NULL, in_thread, NULL) != 0)
        _exit(91);
    pthread_join(thread, &result);
    say_trapped("in a thread", (long)result);
}

/* Who forbids itself a call and does not handle that, dies, whatever becomes of other SIGSYS. */
static void trap_unhandled(void)
{
    for (int way = 0; way < 4; way++) {
        pid_t child = fork();
        if (child == 0) {
            uint64_t set = 1 << 30;
            if (way == 1)
                signal(SIGSYS, SIG_IGN);
            if (way >= 2)
                set_emulator(0);
            if (way == 2)
                syscall(SYS_rt_sigprocmask, SIG_BLOCK, &set, NULL, 8);
            forbid(emulated, COUNT(emulated), TRAP(DATA));
            say("getppid %ld", outcome(syscall(SYS_getppid)));
            _exit(0);
        }
        int status;
        waitpid(child, &status, 0);
        say("way %d: %s %d", way, WIFSIGNALED(status) ? "signal" : "exit",
            WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    }
}

/* Emulates what a namespace is about. */
static void trap_time_calls(void)
{
    static const int caught[] = { SYS_clock_nanosleep, SYS_nanosleep, SYS_gettimeofday, SYS_time, SYS_clock_getres };
    set_emulator(0);
    forbid(caught, COUNT(caught), TRAP(DATA));
    struct timespec time = { 1, 0 };
    struct timeval micro;
    say_trapped("clock_nanosleep", outcome(syscall(SYS_clock_nanosleep, CLOCK_REALTIME, 1, &time, NULL)));
    say_trapped("nanosleep", outcome(syscall(SYS_nanosleep, &time, NULL)));
    say_trapped("gettimeofday", outcome(syscall(SYS_gettimeofday, &micro, NULL)));
    say_trapped("time", outcome(syscall(SYS_time, NULL)));
    say_trapped("clock_getres", outcome(syscall(SYS_clock_getres, CLOCK_REALTIME, &time)));
}

/* The mode in which a process can only read, write and exit. */
static void strict(void)
{
    say("set");
    long set = outcome(prctl(PR_SET_SECCOMP, 1, 0, 0, 0));
    static const char done[] = "strict is strict\n";
    if (set != 0)
        say("fails %ld", set);
    else if (write(1, done, sizeof done - 1) != sizeof done - 1)
        syscall(SYS_exit, 1);
    syscall(SYS_exit, 0);
}

static const struct test {
    const char *name;
    void (*run)(void);
} cases[] = {
    { "allow_or_error", allow_or_error },
    { "allow_or_kill", allow_or_kill },
    { "allow_or_kill_with_handlers", allow_or_kill_with_handlers },
    { "few_or_kill", few_or_kill },
    { "few_or_error", few_or_error },
    { "denied", denied },
    { "trap", trap },
    { "trap_in_threads", trap_in_threads },
    { "trap_unhandled", trap_unhandled },
    { "trap_time_calls", trap_time_calls },
    { "strict", strict },
};

int main(int count_of_arguments, char **arguments)
{
    for (unsigned each = 0; each < COUNT(cases); each++) {
        if (count_of_arguments > 1 && strcmp(arguments[1], "--list") == 0) {
            puts(cases[each].name);
            continue;
        }
        for (int at = 1; at < count_of_arguments; at++) {
            if (strcmp(arguments[at], cases[each].name) != 0)
                continue;
            running = cases[each].name;
            pid_t child = fork();
            if (child == 0) {
                cases[each].run();
                _exit(0);
            }
            int status = 0;
            pid_t over = 0;
            for (int ms = 0; ms < 20000 && (over = waitpid(child, &status, WNOHANG)) == 0; ms += 2)
                poll(NULL, 0, 2);
            if (over == 0) {
                say("HANG");
                kill(child, SIGKILL);
                waitpid(child, &status, 0);
            } else {
                say("%s %d", WIFSIGNALED(status) ? "ended by signal" : "exit",
                    WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
            }
        }
    }
    return 0;
}
