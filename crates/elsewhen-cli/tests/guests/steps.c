/* What comes to a thread on its way into a wait: in one run after each instruction that it executes. It is `canceled`; or
 * `moved`, that is, its clock is set while it waits, and it is canceled on its way into the wait again; or `overtaken`: its
 * clock is set beyond the end of the wait. Setting the clock is for inside. Prints after which instruction that did not end
 * the thread, and then how many instructions there were. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LIMIT_MS = 20000, WAIT_S = 3600, GETSIGMASK = 0x420a };

/* What the process of the thread and the one that traces it tell each other. */
static struct shared {
    atomic_int thread, go, cancel, is_canceled, move, is_moved, ended, was_canceled, cleaned;
} *shared;

/* glibc ends a thread wherever it is, so that not every place says something new; others look at where it is. */
#ifdef __GLIBC__
enum { STRIDE = 5 };
#else
enum { STRIDE = 1 };
#endif
/* In a handler during which signals are held off, one place is like the next. */
enum { STRIDE_MASKED = 16, MOST_WRONG = 5 };
/* As far as the first wait, a thread with such a clock goes where others go. */
enum { STRIDE_MOVED = 5 };

static enum { CANCELED, MOVED, OVERTAKEN } way;
static int has_waited, wrong;

static void cleans(void *with)
{
    (void)with;
    shared->cleaned = 1;
}

static void *waits(void *with)
{
    int clock = way == CANCELED ? CLOCK_MONOTONIC : CLOCK_REALTIME;
    struct timespec time = { 0, 0 };
    if (way != CANCELED)
        clock_gettime(clock, &time);
    time.tv_sec += WAIT_S;
    pthread_cleanup_push(cleans, NULL);
    shared->thread = (int)syscall(SYS_gettid);
    while (!shared->go)
        continue;
    clock_nanosleep(clock, way == CANCELED ? 0 : TIMER_ABSTIME, &time, NULL);
    pthread_cleanup_pop(0);
    return with;
}

/* The process of the thread: does what it is asked for. */
static void serve(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, waits, NULL);
    for (;; poll(NULL, 0, 1)) {
        if (shared->move == 1) {
            struct timespec time;
            clock_gettime(CLOCK_REALTIME, &time);
            time.tv_sec += way == OVERTAKEN ? 2 * WAIT_S : 1;
            shared->move = 2;
            shared->is_moved = clock_settime(CLOCK_REALTIME, &time) == 0 ? 1 : -1;
        }
        if (shared->cancel)
            break;
    }
    if (way != OVERTAKEN)
        pthread_cancel(thread);
    shared->is_canceled = 1;
    void *result;
    pthread_join(thread, &result);
    shared->was_canceled = result == PTHREAD_CANCELED;
    shared->ended = 1;
    pause();
}

static void give_up(const char *what, int step)
{
    printf("step %d: %s\n", step, what);
    exit(1);
}

static int times_up(int *passed_ms)
{
    poll(NULL, 0, 1);
    return ++*passed_ms > LIMIT_MS;
}

static void wait_for(atomic_int *place, const char *what, int step)
{
    for (int ms = 0; !*place;)
        if (times_up(&ms))
            give_up(what, step);
}

static int is_asleep(pid_t process, pid_t thread)
{
    char path[64], text[256];
    snprintf(path, sizeof path, "/proc/%d/task/%d/stat", process, thread);
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    size_t length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[length] = 0;
    const char *state = strrchr(text, ')');
    return state && state[1] && state[2] == 'S';
}

/* What a thread that goes on does: the status with which it stops, or -1 where it waits. */
static int stops(pid_t process, pid_t thread, int step)
{
    int ms = 0;
    for (int tries = 0;; tries++) {
        int status;
        pid_t changed = waitpid(thread, &status, WNOHANG | __WALL);
        if (changed == thread)
            return status;
        if (changed < 0)
            give_up("the thread is gone", step);
        if (tries < 1000)
            continue;
        if (is_asleep(process, thread) && waitpid(thread, &status, WNOHANG | __WALL) == 0)
            return -1;
        if (times_up(&ms))
            give_up("neither stops nor waits", step);
    }
}

/* The instruction that a thread executes next, or its stack pointer; 0 where neither matters. */
enum { INSTRUCTION, STACK };
static unsigned long place_of(pid_t thread, int which)
{
#if defined __x86_64__ || defined __i386__
    struct user_regs_struct registers;
    if (ptrace(PTRACE_GETREGS, thread, 0, &registers) == 0) {
#ifdef __x86_64__
        return which == INSTRUCTION ? registers.rip : registers.rsp;
#else
        return which == INSTRUCTION ? registers.eip : registers.esp;
#endif
    }
#endif
    (void)thread;
    (void)which;
    return 0;
}

/* Executes one instruction, and returns with what status the thread then stops, or -1 where it waits. */
static int step_over(pid_t process, pid_t thread, int signal, int step)
{
    unsigned long at = signal == 0 ? place_of(thread, INSTRUCTION) : 0;
    int pushes_flags = at && (ptrace(PTRACE_PEEKTEXT, thread, (void *)at, 0) & 0xff) == 0x9c;
    ptrace(PTRACE_SINGLESTEP, thread, 0, (void *)(long)signal);
    int status = stops(process, thread, step);
    if (pushes_flags && status != -1 && WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP) {
        /* What `pushf` has pushed is to say nothing of being traced. */
        void *pushed = (void *)place_of(thread, STACK);
        long flags = ptrace(PTRACE_PEEKDATA, thread, pushed, 0);
        ptrace(PTRACE_POKEDATA, thread, pushed, (void *)(flags & ~0x100L));
    }
    return status;
}

/* Whether signals are held off, as in the handler of a caught call: what comes then, comes when that returns. */
static int is_masked(pid_t thread)
{
    uint64_t mask = 0;
    syscall(SYS_ptrace, GETSIGMASK, thread, sizeof mask, &mask);
    return (mask & (3ULL << 31)) == 3ULL << 31;
}

/* Disturbs a thread after a number of steps, or where it waits for its end before that. Returns how many it has made. */
static int disturb_after(int steps, int *masked)
{
    memset(shared, 0, sizeof *shared);
    pid_t process = fork();
    if (process == 0) {
        serve();
        _exit(1);
    }
    wait_for(&shared->thread, "no thread", steps);
    pid_t thread = shared->thread;
    if (ptrace(PTRACE_SEIZE, thread, 0, 0) != 0 || ptrace(PTRACE_INTERRUPT, thread, 0, 0) != 0)
        give_up("cannot be traced", steps);
    int status = 0, signal = 0, made = 0, waited = 0;
    if (waitpid(thread, &status, __WALL) != thread)
        give_up("does not stop", steps);
    shared->go = 1;
    for (; made < steps; made++) {
        status = step_over(process, thread, signal, steps);
        if (status == -1 && way == MOVED && !waited) {
            waited = has_waited = 1;
            shared->move = 1;
            wait_for(&shared->is_moved, "the clock is not moved", steps);
            int ms = 0;
            while (shared->is_moved > 0 && (status = stops(process, thread, steps)) == -1)
                if (times_up(&ms))
                    give_up("is not told of the change", steps);
        }
        if (status == -1)
            break;
        if (!WIFSTOPPED(status))
            give_up("ended", steps);
        signal = WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
    }
    *masked = status != -1 && is_masked(thread);
    if (way == OVERTAKEN) {
        shared->move = 1;
        wait_for(&shared->is_moved, "the clock is not moved", steps);
    }
    shared->cancel = 1;
    wait_for(&shared->is_canceled, "nothing is canceled", steps);
    if (status != -1)
        ptrace(PTRACE_CONT, thread, 0, (void *)(long)signal);
    for (int ms = 0; !shared->ended;) {
        pid_t changed = waitpid(thread, &status, WNOHANG | __WALL);
        if (changed == thread && WIFSTOPPED(status)) {
            signal = WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
            ptrace(PTRACE_CONT, thread, 0, (void *)(long)signal);
        } else if (times_up(&ms)) {
            break;
        }
    }
    if (!shared->ended || shared->was_canceled != (way != OVERTAKEN) || shared->cleaned != shared->was_canceled) {
        printf("after step %d: ended %d, canceled %d, cleaned %d\n", made, shared->ended, shared->was_canceled,
            shared->cleaned);
        wrong++;
    }
    kill(process, SIGKILL);
    while (waitpid(-1, &status, __WALL) != process)
        continue;
    return made;
}

int main(int count_of_arguments, char **arguments)
{
    const char *asked = count_of_arguments > 1 ? arguments[1] : "canceled";
    way = strcmp(asked, "moved") == 0 ? MOVED : strcmp(asked, "overtaken") == 0 ? OVERTAKEN : CANCELED;
    setvbuf(stdout, NULL, _IOLBF, 0);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int steps = 0, made = 0, masked = 0, was_masked = 0, fine = 0;
    while (wrong < MOST_WRONG && (made = disturb_after(steps, &masked)) == steps) {
        if (was_masked && !masked && steps > fine) {
            /* The handler has ended somewhere on the way here. */
            fine = steps;
            steps -= STRIDE_MASKED - 1;
            was_masked = 0;
            continue;
        }
        was_masked = masked && steps >= fine;
        steps += was_masked ? STRIDE_MASKED : way == MOVED && !has_waited ? STRIDE_MOVED : way == OVERTAKEN ? 1 : STRIDE;
    }
    printf("%d steps, %d wrong\n", made, wrong);
    return 0;
}
