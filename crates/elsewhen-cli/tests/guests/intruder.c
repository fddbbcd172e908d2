/* A member that tries to change a namespace it may not change. Prints what came of it.
 *
 *   reopen                       opens its own page for writing
 *   lock                         locks its own page, and ends
 *   forge INODE PAGE BELONGS     pretends to be a member of the namespace whose page has that inode, and sets its clock;
 *                                PAGE and BELONGS are addresses
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What the image asks its supervisor, by arch_prctl(ARCH_SET_FS). */
enum { SET_CLOCK = 3, PAGE = 7 };

static long ask(unsigned long word, unsigned long argument)
{
    return syscall(SYS_arch_prctl, 0x1002, 0xe15e000100000000ul + word, argument);
}

static void tell(const char *what, long result)
{
    printf("%s %s\n", what, result < 0 ? strerrorname_np(errno) : "done");
}

static int forge(unsigned long inode, void *page, unsigned long *belongs)
{
    struct stat stat = { 0 };
    int fd = -1;
    for (int number = 0; stat.st_ino < inode; number++) {
        char path[64];
        sprintf(path, "/dev/shm/%d", number);
        fd = open(path, O_RDWR | O_CREAT, 0600);
        if (fd < 0 || fstat(fd, &stat) < 0)
            return tell("make", -1), 1;
        unlink(path);
        if (stat.st_ino < inode)
            close(fd);
    }
    if (stat.st_ino != inode || write(fd, page, 4096) != 4096)
        return printf("no file with inode %lu\n", inode), 1;
    if (mmap(page, 4096, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
        return tell("map", -1), 1;
    *belongs = 2;
    long long date_ns = 1900000000ll * 1000000000;
    tell("set", ask(SET_CLOCK, (unsigned long)&date_ns));
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "forge") == 0)
        return forge(strtoul(argv[2], 0, 0), (void *)strtoul(argv[3], 0, 0), (unsigned long *)strtoul(argv[4], 0, 0));
    int fd = ask(PAGE, 1);
    if (fd < 0)
        return tell("page", fd), 1;
    if (argc == 2 && strcmp(argv[1], "lock") == 0) {
        struct flock lock = { .l_type = F_RDLCK };
        tell("lock", fcntl(fd, F_OFD_SETLK, &lock));
        tell("flock", flock(fd, LOCK_EX | LOCK_NB));
        return 0;
    }
    char path[64];
    sprintf(path, "/proc/self/fd/%d", fd);
    tell("reopen", open(path, O_RDWR));
    tell("truncate", ftruncate(fd, 0));
    return 0;
}
