/* Sets a file's times by one system call and prints them as every other tells them.
 *
 * files PATH WAY SECONDS NANOSECONDS: a line each, "CALL ATIME MTIME" in nanoseconds, then what bad calls return. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "interfaces.h"

static void show(const char *call, long sec, long nsec, long modified_sec, long modified_nsec)
{
    printf("%s %ld%09ld %ld%09ld\n", call, sec, nsec, modified_sec, modified_nsec);
}

static void show_stat(const char *call, long result, const struct stat *of)
{
    if (result != 0)
        printf("%s failed %d\n", call, errno);
    else
        show(call, of->st_atim.tv_sec, of->st_atim.tv_nsec, of->st_mtim.tv_sec, of->st_mtim.tv_nsec);
}

int main(int count, char **arguments)
{
    if (count != 5)
        return 2;
    const char *path = arguments[1], *way = arguments[2];
    long sec = atol(arguments[3]), nsec = atol(arguments[4]);
    struct timespec times[2] = { { sec, nsec }, { sec + 1, nsec } };
    struct timeval values[2] = { { sec, nsec / 1000 }, { sec + 1, nsec / 1000 } };
    long seconds[2] = { sec, sec + 1 };
    long result = -1;
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    if (!strcmp(way, "utimensat"))
        result = syscall(SYS_utimensat, AT_FDCWD, path, times, 0);
    if (!strcmp(way, "futimens"))
        result = syscall(SYS_utimensat, fd, NULL, times, 0);
    if (!strcmp(way, "omit")) {
        times[0].tv_nsec = UTIME_OMIT;
        result = syscall(SYS_utimensat, AT_FDCWD, path, times, 0);
    }
    if (!strcmp(way, "now")) {
        times[0].tv_nsec = times[1].tv_nsec = UTIME_NOW;
        result = syscall(SYS_utimensat, AT_FDCWD, path, times, 0);
    }
    if (!strcmp(way, "null"))
        result = syscall(SYS_utimensat, AT_FDCWD, path, NULL, 0);
    if (!strcmp(way, "futimesat"))
        result = syscall(SYS_futimesat, AT_FDCWD, path, values);
    if (!strcmp(way, "utimes"))
        result = syscall(SYS_utimes, path, values);
    if (!strcmp(way, "utime"))
        result = syscall(SYS_utime, path, seconds);
    if (result != 0)
        printf("%s failed %d\n", way, errno);
    struct stat of;
#ifndef NO_SUCH_CALL
    show_stat("stat", syscall(SYS_stat, path, &of), &of);
    show_stat("lstat", syscall(SYS_lstat, path, &of), &of);
#endif
    show_stat("fstat", syscall(SYS_fstat, fd, &of), &of);
    show_stat("newfstatat", syscall(SYS_newfstatat, AT_FDCWD, path, &of, 0), &of);
    struct statx ofx;
    if (syscall(SYS_statx, AT_FDCWD, path, 0, STATX_BASIC_STATS, &ofx) == 0)
        show("statx", ofx.stx_atime.tv_sec, ofx.stx_atime.tv_nsec, ofx.stx_mtime.tv_sec, ofx.stx_mtime.tv_nsec);
    struct timespec bad[2] = { { sec, 1000000000 }, { sec, 0 } };
    struct timeval worse[2] = { { sec, 1000000 }, { sec, 0 } };
    printf("bad %ld", syscall(SYS_utimensat, AT_FDCWD, path, bad, 0) ? (long)errno : 0);
    printf(" %ld", syscall(SYS_utimensat, AT_FDCWD, path, 1L, 0) ? (long)errno : 0);
    printf(" %ld", syscall(SYS_utimes, path, worse) ? (long)errno : 0);
    printf(" %ld", syscall(SYS_utime, path, 1L) ? (long)errno : 0);
    printf(" %ld", syscall(SYS_stat, path, 1L) ? (long)errno : 0);
    printf(" %ld\n", syscall(SYS_statx, AT_FDCWD, path, 0, STATX_BASIC_STATS, 1L) ? (long)errno : 0);
    return 0;
}
