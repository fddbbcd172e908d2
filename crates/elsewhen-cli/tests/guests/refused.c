/* Makes the calls that fail in a namespace and prints their error numbers: io_uring_setup and clone3, by the C library
 * and by an instruction of its own; then whether a thread can be made all the same. */

#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

static long raw(long number, long first, void *second)
{
#ifdef __aarch64__
    register long result __asm__("x0") = first, call __asm__("x8") = number;
    register void *argument __asm__("x1") = second;
    __asm__ volatile("svc 0" : "+r"(result) : "r"(call), "r"(argument) : "memory");
#else
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "0"(number), "D"(first), "S"(second) : "rcx", "r11", "memory");
#endif
    return result;
}

static void *thread(void *unused)
{
    (void)unused;
    return NULL;
}

int main(void)
{
    char parameters[256] = { 0 };
    long by_library = syscall(SYS_io_uring_setup, 1, parameters);
    printf("io_uring_setup %d %ld\n", by_library < 0 ? errno : 0, -raw(SYS_io_uring_setup, 1, parameters));
    printf("clone3 %d %ld\n", syscall(SYS_clone3, parameters, 0) < 0 ? errno : 0, -raw(SYS_clone3, 0, NULL));
    pthread_t made;
    printf("thread %d\n", pthread_create(&made, NULL, thread, NULL) ?: pthread_join(made, NULL));
    return 0;
}
