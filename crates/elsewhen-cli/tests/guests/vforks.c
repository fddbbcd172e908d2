/* Waits for a vfork child, which says so and ends at a line of input; then answers every line with the seconds of
 * REALTIME. */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int main(void)
{
    pid_t child = vfork();
    if (child == 0) {
        char byte;
        if (write(1, "waiting\n", 8) != 8 || read(0, &byte, 1) != 1)
            _exit(1);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    char line[64];
    while (fgets(line, sizeof line, stdin)) {
        printf("%ld\n", (long)time(NULL));
        fflush(stdout);
    }
    return 0;
}
