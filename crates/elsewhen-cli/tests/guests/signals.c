/* Prints `ready PID`, then `got NUMBER` for every signal that arrives; ends with 3 on SIGUSR2 or where its input
 * ends. */
#define _GNU_SOURCE
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <unistd.h>

int main(void)
{
    static const int handled[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGCONT, SIGWINCH, SIGALRM };
    sigset_t set;
    sigemptyset(&set);
    for (unsigned i = 0; i < sizeof handled / sizeof *handled; i++)
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
