//! What lies outside the image: the caller's structures, the host's functions, system calls.

use crate::numbers;
use crate::state::State;
use crate::transform::NSEC_PER_SEC;
use core::arch::asm;
use core::mem::MaybeUninit;
use core::sync::atomic::Ordering;

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


/// A system call.
///
/// # Safety
/// The kernel may read and write through the pointers among the arguments, as the call of that number documents.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) unsafe fn syscall(number: i64, args: [usize; 6]) -> i64 {
    let result;
    // SAFETY: the registers follow the kernel's convention (`syscall(2)`); rcx and r11 are declared lost, and
    // memory is not declared untouched.
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
             in("r10") args[3], in("r8") args[4], in("r9") args[5], lateout("rcx") _, lateout("r11") _,
             options(nostack));
    }
    result
}

/// A system call.
///
/// # Safety
/// The kernel may read and write through the pointers among the arguments, as the call of that number documents.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
pub(crate) unsafe fn syscall(number: i64, args: [usize; 6]) -> i64 {
    let result;
    // SAFETY: the registers follow the kernel's convention (`syscall(2)`), which keeps all others; memory is not declared
    // untouched.
    unsafe {
        asm!("svc #0", in("x8") number, inlateout("x0") args[0] => result, in("x1") args[1], in("x2") args[2],
             in("x3") args[3], in("x4") args[4], in("x5") args[5], options(nostack));
    }
    result
}

/// The system call `clock_gettime(2)`.
///
/// # Safety
/// As `clock_gettime(2)`, but a bad pointer gives `-EFAULT`.
pub(crate) unsafe extern "C" fn sys_clock_gettime(clock: i32, time: *mut Timespec) -> i32 {
    // SAFETY: the kernel checks the pointer and writes one timespec at most.
    unsafe { syscall(numbers::CLOCK_GETTIME, [clock as usize, time.expose_provenance(), 0, 0, 0, 0]) as i32 }
}

/// The system call `clock_getres(2)`.
///
/// # Safety
/// As `clock_getres(2)`, but a bad pointer gives `-EFAULT`.
pub(crate) unsafe extern "C" fn sys_clock_getres(clock: i32, resolution: *mut Timespec) -> i32 {
    // SAFETY: the kernel checks the pointer and writes one timespec at most.
    unsafe { syscall(numbers::CLOCK_GETRES, [clock as usize, resolution.expose_provenance(), 0, 0, 0, 0]) as i32 }
}

/// The time zone half of the system call `gettimeofday(2)`.
///
/// # Safety
/// As `gettimeofday(2)`, but a bad pointer gives `-EFAULT`.
pub(crate) unsafe fn sys_timezone(zone: *mut Timezone) -> i32 {
    // SAFETY: the kernel checks the pointer and writes one timezone at most.
    unsafe { syscall(numbers::GETTIMEOFDAY, [0, zone.expose_provenance(), 0, 0, 0, 0]) as i32 }
}

/// The system call `getcpu(2)`.
///
/// # Safety
/// As `getcpu(2)`, but a bad pointer gives `-EFAULT`.
#[cfg(target_arch = "x86_64")]
pub(crate) unsafe fn sys_getcpu(cpu: *mut u32, node: *mut u32, cache: *mut u8) -> i64 {
    // SAFETY: the kernel checks the pointers; it ignores the third.
    unsafe { syscall(numbers::GETCPU, [cpu.expose_provenance(), node.expose_provenance(), cache.expose_provenance(), 0, 0, 0]) }
}

/// A number about which the compiler knows nothing: neighbouring constants would be stored by a vector register,
/// and those of the interrupted program are not ours to change.
#[inline(always)]
pub(crate) fn opaque(mut value: u64) -> u64 {
    // SAFETY: does nothing.
    unsafe { asm!("/* {} */", inout(reg) value, options(pure, nomem, nostack, preserves_flags)) };
    value
}

/// The host's reading of a clock that a namespace can move, in nanoseconds.
#[inline(never)]
pub(crate) fn now(clock: i32) -> i64 {
    // An alarm clock reads as the clock that it is an alarm for, also on machines that have no alarms.
    let clock = match clock {
        8 => 0,
        9 => 7,
        other => other,
    };
    let mut time = MaybeUninit::<Timespec>::uninit();
    let state = state();
    let host = state.host_clock.load(Ordering::Relaxed);
    // A vDSO that cannot read the host's clock source makes a system call, which the filter catches; but this may be called by
    // a handler that holds off the signal for that.
    let result = if host == 0 || state.vdso_calls.load(Ordering::Relaxed) != 0 {
        // SAFETY: the kernel writes one timespec, into ours.
        unsafe { sys_clock_gettime(clock, time.as_mut_ptr()) }
    } else {
        // SAFETY: the host side has put the address of the vDSO's function there, before any thread came here.
        let host: ClockFn = unsafe { core::mem::transmute(host as usize) };
        // SAFETY: as `clock_gettime(2)`, with memory of ours.
        unsafe { host(clock, time.as_mut_ptr()) }
    };
    if result != 0 {
        return 0;
    }
    // SAFETY: a reading that succeeded has been written.
    let time = unsafe { time.assume_init_ref() };
    time.sec.wrapping_mul(NSEC_PER_SEC).wrapping_add(time.nsec)
}

/// The address of a symbol: of the linker script, or a label in assembly.
#[cfg(target_arch = "x86_64")]
macro_rules! symbol {
    ($name:literal) => {{
        let address: usize;
        // SAFETY: takes the address of a symbol of the image, relative to the instruction pointer.
        unsafe {
            core::arch::asm!(concat!("lea {}, [rip + ", $name, "]"), out(reg) address,
                options(pure, nomem, nostack, preserves_flags));
        }
        address
    }};
}

/// The address of a symbol: of the linker script, or a label in assembly.
#[cfg(target_arch = "aarch64")]
macro_rules! symbol {
    ($name:literal) => {{
        let address: usize;
        // SAFETY: takes the address of a symbol of the image, relative to the instruction pointer.
        unsafe {
            core::arch::asm!(concat!("adrp {0}, ", $name), concat!("add {0}, {0}, :lo12:", $name), out(reg) address,
                options(pure, nomem, nostack, preserves_flags));
        }
        address
    }};
}
pub(crate) use symbol;

/// What this process keeps for itself.
#[inline(always)]
pub(crate) fn state() -> &'static State {
    let state = symbol!("__ns_state") as *const State;
    // SAFETY: the state is mapped, zeroed, before the image is entered, for as long as the process lives; all of
    // it is atomics.
    unsafe { &*state }
}

/// Whether an address lies in this image.
pub(crate) fn in_image(address: u64) -> bool {
    address >= symbol!("__image_start") as u64 && address < symbol!("__image_end") as u64
}
