/* Prints what a program inherits: arguments, environment, directory, descriptors, signals, limits, identity. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

extern char **environ;

int main(int argc, char **argv)
{
    for (int i = 0; i < argc; i++)
        printf("argument %s\n", argv[i]);
    for (char **entry = environ; *entry; entry++)
        printf("environment %s\n", *entry);
    char path[4096];
    printf("directory %s\n", getcwd(path, sizeof path));
    for (int fd = 0; fd < 1024; fd++) {
        struct stat stat;
        if (fstat(fd, &stat) == 0)
            printf("descriptor %d type %o access %o flags %d\n", fd, stat.st_mode & S_IFMT,
                   fcntl(fd, F_GETFL) & O_ACCMODE, fcntl(fd, F_GETFD));
    }
    for (int limit = 0; limit < RLIM_NLIMITS; limit++) {
        struct rlimit value;
        getrlimit(limit, &value);
        printf("limit %d %lld %lld\n", limit, (long long)value.rlim_cur, (long long)value.rlim_max);
    }
    int death = -1;
    prctl(PR_GET_PDEATHSIG, &death);
    printf("slack %d, death signal %d, dumpable %d\n", prctl(PR_GET_TIMERSLACK), death, prctl(PR_GET_DUMPABLE));
    printf("priority %d, session of its own %d\n", getpriority(PRIO_PROCESS, 0), getsid(0) == getpid());
    static const char *kept[] = { "Umask", "Uid", "Gid", "Groups", "ShdPnd", "SigPnd", "SigBlk", "SigIgn", "SigCgt",
                                  "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Threads", "TracerPid" };
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(path, sizeof path, status))
        for (unsigned i = 0; i < sizeof kept / sizeof *kept; i++)
            if (strncmp(path, kept[i], strlen(kept[i])) == 0)
                fputs(path, stdout);
    return 0;
}
