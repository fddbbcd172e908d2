/* Prints the realtime clock's seconds, then its arguments, on one line. */
#define _GNU_SOURCE
#include <stdio.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct timespec now;
    char line[4096];
    clock_gettime(CLOCK_REALTIME, &now);
    int length = snprintf(line, sizeof line, "%lld", (long long)now.tv_sec);
    for (int i = 1; i < argc; i++)
        length += snprintf(line + length, sizeof line - length, " %s", argv[i]);
    line[length++] = '\n';
    return write(1, line, length) == length ? 0 : 1;
}
