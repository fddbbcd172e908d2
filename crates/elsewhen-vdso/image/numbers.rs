//! Numbers of system calls that the image itself makes, or tells from others: on x86-64
//! (`arch/x86/entry/syscalls/syscall_64.tbl`) and on arm64 (`include/uapi/asm-generic/unistd.h`).

use crate::native::native;

macro_rules! numbers {
    ($($name:ident $x86:literal $arm64:tt;)*) => {
        $(#[allow(dead_code, reason = "not every machine's image needs all")]
        pub(crate) const $name: i64 = native!($x86 $arm64) as i64;)*
    };
}

numbers! {
    READ 0 63;
    CLOSE 3 57;
    POLL 7 _;
    MMAP 9 222;
    MUNMAP 11 215;
    RT_SIGACTION 13 134;
    RT_SIGPROCMASK 14 135;
    RT_SIGRETURN 15 139;
    NANOSLEEP 35 101;
    GETITIMER 36 102;
    ALARM 37 _;
    SETITIMER 38 103;
    GETPID 39 172;
    GETTIMEOFDAY 96 169;
    RT_SIGPENDING 127 136;
    RT_SIGTIMEDWAIT 128 137;
    PRCTL 157 167;
    ADJTIMEX 159 171;
    GETTID 186 178;
    TIMER_SETTIME 223 110;
    TIMER_GETTIME 224 108;
    TIMER_DELETE 226 111;
    CLOCK_GETTIME 228 113;
    CLOCK_GETRES 229 114;
    EPOLL_WAIT 232 _;
    OPENAT 257 56;
    PPOLL 271 73;
    EPOLL_PWAIT 281 22;
    RT_TGSIGQUEUEINFO 297 240;
    GETCPU 309 168;
    SECCOMP 317 277;
    EPOLL_PWAIT2 441 441;
}
