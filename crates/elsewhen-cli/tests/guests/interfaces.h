/* Raw system calls of a 32-bit program: those with the times that its C library has, of 32 or of 64 bits. And what other
 * machines do not have. */
#pragma once
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>

/* The times of calls that have 64-bit ones in every program. */
struct wide {
    int64_t sec, nsec;
};
#define WIDE(time) (&(struct wide) { (time).tv_sec, (time).tv_nsec })

/* What a register holds, and times of calls that are made by number: in an x32 program more than a `long`. */
#if defined __x86_64__ && defined __ILP32__
typedef long long machine_word;
#else
typedef long machine_word;
#endif

#ifdef __i386__
#undef SYS_select
#define SYS_select SYS__newselect
#if defined _TIME_BITS && _TIME_BITS == 64
#define TIMES_OF_64_BITS
#undef SYS_futex
#define SYS_futex SYS_futex_time64
#undef SYS_clock_gettime
#define SYS_clock_gettime SYS_clock_gettime64
#undef SYS_clock_nanosleep
#define SYS_clock_nanosleep SYS_clock_nanosleep_time64
#undef SYS_ppoll
#define SYS_ppoll SYS_ppoll_time64
#undef SYS_pselect6
#define SYS_pselect6 SYS_pselect6_time64
#undef SYS_rt_sigtimedwait
#define SYS_rt_sigtimedwait SYS_rt_sigtimedwait_time64
/* These have no successor but a call of another name. */
#undef SYS_io_getevents
#define SYS_io_getevents 416
#undef SYS_io_pgetevents
#define SYS_io_pgetevents 416
#endif
#endif

#ifdef __aarch64__
/* Calls for which there are others on arm64: as any number that no call has, they fail with ENOSYS. */
#define NO_SUCH_CALL 0x3ffff
#define SYS_alarm NO_SUCH_CALL
#define SYS_epoll_wait NO_SUCH_CALL
#define SYS_futimesat NO_SUCH_CALL
#define SYS_lstat NO_SUCH_CALL
#define SYS_poll NO_SUCH_CALL
#define SYS_select NO_SUCH_CALL
#define SYS_stat NO_SUCH_CALL
#define SYS_time NO_SUCH_CALL
#define SYS_utime NO_SUCH_CALL
#define SYS_utimes NO_SUCH_CALL
#endif
