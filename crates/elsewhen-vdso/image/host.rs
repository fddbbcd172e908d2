//! What lies outside the image: the caller's structures, the host's functions, system calls.

use core::arch::asm;

/// `struct timespec`.
#[repr(C)]
pub(crate) struct Timespec {
    pub(crate) sec: i64,
    pub(crate) nsec: i64,
}

/// `struct timeval`.
#[repr(C)]
pub(crate) struct Timeval {
    pub(crate) sec: i64,
    pub(crate) usec: i64,
}

/// `struct timezone`.
#[repr(C)]
pub(crate) struct Timezone {
    _minutes_west: i32,
    _dst_time: i32,
}

/// `clock_gettime` or `clock_getres`: returns 0 or a negative error number.
pub(crate) type ClockFn = unsafe extern "C" fn(i32, *mut Timespec) -> i32;

const SYS_GETTIMEOFDAY: i64 = 96;
const SYS_CLOCK_GETTIME: i64 = 228;
const SYS_CLOCK_GETRES: i64 = 229;
const SYS_GETCPU: i64 = 309;

/// A system call of up to three arguments.
///
/// # Safety
/// The kernel may write through the pointers among the arguments, as the call of that number documents.
#[inline(always)]
unsafe fn syscall(number: i64, first: usize, second: usize, third: usize) -> i64 {
    let result;
    // SAFETY: the registers follow the kernel's convention (`syscall(2)`); rcx and r11 are declared lost, and
    // memory is not declared untouched.
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") first, in("rsi") second, in("rdx") third,
             lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// The system call `clock_gettime(2)`.
///
/// # Safety
/// As `clock_gettime(2)`, but a bad pointer gives `-EFAULT`.
pub(crate) unsafe extern "C" fn sys_clock_gettime(clock: i32, time: *mut Timespec) -> i32 {
    // SAFETY: the kernel checks the pointer and writes one timespec at most.
    unsafe { syscall(SYS_CLOCK_GETTIME, clock as usize, time.expose_provenance(), 0) as i32 }
}

/// The system call `clock_getres(2)`.
///
/// # Safety
/// As `clock_getres(2)`, but a bad pointer gives `-EFAULT`.
pub(crate) unsafe extern "C" fn sys_clock_getres(clock: i32, resolution: *mut Timespec) -> i32 {
    // SAFETY: the kernel checks the pointer and writes one timespec at most.
    unsafe { syscall(SYS_CLOCK_GETRES, clock as usize, resolution.expose_provenance(), 0) as i32 }
}

/// The time zone half of the system call `gettimeofday(2)`.
///
/// # Safety
/// As `gettimeofday(2)`, but a bad pointer gives `-EFAULT`.
pub(crate) unsafe fn sys_timezone(zone: *mut Timezone) -> i32 {
    // SAFETY: the kernel checks the pointer and writes one timezone at most.
    unsafe { syscall(SYS_GETTIMEOFDAY, 0, zone.expose_provenance(), 0) as i32 }
}

/// The system call `getcpu(2)`.
///
/// # Safety
/// As `getcpu(2)`, but a bad pointer gives `-EFAULT`.
pub(crate) unsafe fn sys_getcpu(cpu: *mut u32, node: *mut u32, cache: *mut u8) -> i64 {
    // SAFETY: the kernel checks the pointers; it ignores the third.
    unsafe { syscall(SYS_GETCPU, cpu.expose_provenance(), node.expose_provenance(), cache.expose_provenance()) }
}
