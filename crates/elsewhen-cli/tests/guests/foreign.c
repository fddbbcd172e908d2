/* Executes its argument by the 32-bit system call, from a 64-bit program; built for a fixed low address. */
#include <stdio.h>
#include <string.h>

static char path[4096];
static unsigned arguments[2], environment[1];

int main(int argc, char **argv)
{
    long result;
    if (argc != 2 || strlen(argv[1]) >= sizeof path)
        return 2;
    strcpy(path, argv[1]);
    arguments[0] = (unsigned)(unsigned long)path;
    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"(11L), "b"(path), "c"(arguments), "d"(environment)
                     : "r8", "r9", "r10", "r11", "memory");
    printf("failed %d\n", -(int)result);
    return 99;
}
