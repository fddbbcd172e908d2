/* Executes its arguments with signals blocked and ignored, descriptors open, and limits unlike the usual ones; with
 * `--ignore-children` first, with SIGCHLD ignored only. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[1], "--ignore-children") == 0) {
        signal(SIGCHLD, SIG_IGN);
        execvp(argv[2], argv + 2);
        return 99;
    }
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    sigaddset(&blocked, SIGTERM);
    sigaddset(&blocked, SIGCHLD);
    sigaddset(&blocked, SIGRTMIN + 3);
    sigprocmask(SIG_SETMASK, &blocked, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGTTOU, SIG_IGN);
    int null = open("/dev/null", O_RDWR);
    dup2(null, 5);
    dup2(null, 9);
    dup3(null, 23, O_CLOEXEC);
    close(null);
    umask(027);
    struct rlimit files = { 321, 4321 }, core = { 0, 0 };
    setrlimit(RLIMIT_NOFILE, &files);
    setrlimit(RLIMIT_CORE, &core);
    setpriority(PRIO_PROCESS, 0, 3);
    prctl(PR_SET_TIMERSLACK, 123456, 0, 0, 0);
    execvp(argv[1], argv + 1);
    return 99;
}
