/* starter WAY TARGET [ARGUMENT...]: starts TARGET in one of many ways and ends as it ends. Where the execution fails,
 * prints `failed ERRNO` and exits with 99. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* As in linux/sched.h, which musl has not. */
struct clone_args {
    unsigned long flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
};

extern char **environ;
static char **target;

static void failed(void)
{
    printf("failed %d\n", errno);
    fflush(stdout);
    _exit(99);
}

static int collect(pid_t child)
{
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child)
        failed();
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void execute(void)
{
    execve(target[0], target, environ);
    failed();
}

static void *executing_thread(void *unused)
{
    execute();
    return unused;
}

static void *waiting_thread(void *barrier)
{
    pthread_barrier_wait(barrier);
    execute();
    return barrier;
}

static void *idle_thread(void *unused)
{
    pause();
    return unused;
}

static int in_memory(void)
{
    int from = open(target[0], O_RDONLY | O_CLOEXEC), to = memfd_create("target", MFD_CLOEXEC);
    char block[65536];
    ssize_t length;
    while ((length = read(from, block, sizeof block)) > 0)
        if (write(to, block, length) != length)
            failed();
    return to;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    const char *way = argv[1];
    target = argv + 2;
    if (!strcmp(way, "execve"))
        execute();
    if (!strcmp(way, "fork")) {
        pid_t child = fork();
        if (child == 0)
            execute();
        return collect(child);
    }
    if (!strcmp(way, "vfork")) {
        pid_t child = vfork();
        if (child == 0) {
            execve(target[0], target, environ);
            _exit(98);
        }
        return collect(child);
    }
    if (!strcmp(way, "posix_spawn")) {
        pid_t child;
        errno = posix_spawn(&child, target[0], NULL, NULL, target, environ);
        if (errno)
            failed();
        return collect(child);
    }
    if (!strcmp(way, "clone3") || !strcmp(way, "clone3-vfork")) {
        struct clone_args arguments = { .exit_signal = SIGCHLD };
        if (!strcmp(way, "clone3-vfork"))
            arguments.flags = CLONE_VFORK;
        pid_t child = syscall(SYS_clone3, &arguments, sizeof arguments);
        // As libcs do where there is no such call.
        if (child < 0 && errno == ENOSYS)
            child = fork();
        if (child == 0)
            execute();
        return collect(child);
    }
    if (!strcmp(way, "execveat")) {
        syscall(SYS_execveat, AT_FDCWD, target[0], target, environ, 0);
        failed();
    }
    if (!strcmp(way, "execveat-memfd")) {
        syscall(SYS_execveat, in_memory(), "", target, environ, AT_EMPTY_PATH);
        failed();
    }
    if (!strcmp(way, "execveat-folder")) {
        char *slash = strrchr(target[0], '/');
        *slash = 0;
        int folder = open(*target[0] ? target[0] : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        *slash = '/';
        syscall(SYS_execveat, folder, slash + 1, target, environ, 0);
        failed();
    }
    if (!strcmp(way, "execveat-path")) {
        syscall(SYS_execveat, open(target[0], O_PATH | O_CLOEXEC), "", target, environ, AT_EMPTY_PATH);
        failed();
    }
    if (!strcmp(way, "fexecve")) {
        fexecve(open(target[0], O_RDONLY | O_CLOEXEC), target, environ);
        failed();
    }
    if (!strcmp(way, "proc-fd")) {
        char path[64];
        snprintf(path, sizeof path, "/proc/self/fd/%d", open(target[0], O_RDONLY));
        execve(path, target, environ);
        failed();
    }
    if (!strcmp(way, "thread")) {
        pthread_t idle, thread;
        pthread_create(&idle, NULL, idle_thread, NULL);
        pthread_create(&thread, NULL, executing_thread, NULL);
        pthread_join(thread, NULL);
        return 97;
    }
    if (!strcmp(way, "seven-threads")) {
        /* One of them wins, the others die in their call. */
        pthread_t thread;
        pthread_barrier_t barrier;
        pthread_barrier_init(&barrier, NULL, 7);
        for (int i = 0; i < 6; i++)
            pthread_create(&thread, NULL, waiting_thread, &barrier);
        waiting_thread(&barrier);
    }
    if (!strcmp(way, "no-environment")) {
        char *nothing[] = { NULL };
        execve(target[0], target, nothing);
        failed();
    }
    if (!strcmp(way, "null-environment")) {
        execve(target[0], target, NULL);
        failed();
    }
    if (!strcmp(way, "empty-name")) {
        char *arguments[] = { "", NULL };
        execve(target[0], arguments, environ);
        failed();
    }
    if (!strcmp(way, "no-arguments")) {
        syscall(SYS_execve, target[0], NULL, environ);
        failed();
    }
    if (!strcmp(way, "bad-address")) {
        syscall(SYS_execve, (char *)8, target, environ);
        failed();
    }
    if (!strcmp(way, "bad-arguments")) {
        syscall(SYS_execve, target[0], (char **)8, environ);
        failed();
    }
    if (!strcmp(way, "empty-path")) {
        execve("", target, environ);
        failed();
    }
    if (!strcmp(way, "twice")) {
        /* An execution that fails, then one that does not. */
        execve("/nonexistent/program", target, environ);
        execute();
    }
    if (!strcmp(way, "many")) {
        /* A thousand children, eight at a time. */
        int running = 0, bad = 0;
        for (int i = 0; i < 1000; i++) {
            if (running == 8) {
                int status;
                wait(&status);
                bad += status != 0;
                running--;
            }
            pid_t child = fork();
            if (child == 0)
                execute();
            running++;
        }
        for (int status; running; running--) {
            wait(&status);
            bad += status != 0;
        }
        return bad ? 96 : 0;
    }
    if (!strcmp(way, "daemon")) {
        /* Prints the target's output a while after its parents, to the file named by the first argument. */
        if (fork())
            return 0;
        setsid();
        if (fork())
            return 0;
        usleep(300000);
        int to = open(target[1], O_WRONLY | O_CREAT | O_APPEND, 0644), nothing = open("/dev/null", O_RDWR);
        dup2(nothing, 0);
        dup2(to, 1);
        dup2(nothing, 2);
        for (int i = 0; i < 3; i++) {
            pid_t child = fork();
            if (child == 0)
                execve(target[0], (char *[]){ target[0], "daemon", NULL }, environ);
            collect(child);
            usleep(100000);
        }
        return 0;
    }
    return 2;
}
