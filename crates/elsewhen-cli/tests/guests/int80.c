/* Makes calls of the 32-bit interface from a 64-bit program, and prints what they return; built for a fixed low address. */
#define _GNU_SOURCE
#include <stdio.h>
#include <unistd.h>

static int place[4];

static int call(int number, unsigned long first, unsigned long second)
{
    long result;
    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"((long)number), "b"(first), "c"(second), "d"(0L), "S"(8L), "D"(0L)
                     : "r8", "r9", "r10", "r11", "memory");
    return (int)result;
}

int main(void)
{
    unsigned long at = (unsigned long)place;
    printf("getpid %d\n", call(20, 0, 0) == getpid());
    printf("time %d\n", call(13, 0, 0) > 1000000000 ? 0 : call(13, 0, 0));
    printf("clock_gettime %d\n", call(265, 0, at));
    printf("clock_gettime64 %d\n", call(403, 1, at));
    printf("rt_sigprocmask %d\n", call(175, 0, 0));
    place[0] = place[1] = 0;
    printf("nanosleep %d\n", call(162, at, 0));
    return 0;
}
