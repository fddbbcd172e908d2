//! The code that runs in members: clock reads through the host's vDSO, mapped by the timens page.
//!
//! Compiled by `build.rs` into an image of its own. It is mapped right behind the page, has no writable data, no
//! relocations, makes no calls but to the host's vDSO and the kernel, and cannot panic: only this object is
//! linked, so a panic, a `memcpy` or a reference to anything outside is a link error.
//!
//! There are two ways in:
//! - the *hooks* (`elsewhen_*`): the host vDSO's entries, redirected, arrive here with the address of the host's
//!   own function as an extra last argument;
//! - the *vDSO names* (`__vdso_*`, on arm64 `__kernel_*`): for when this image itself is the vDSO, with system calls as the host.

#![no_std]
#![deny(unsafe_op_in_unsafe_fn)]
#![expect(unsafe_code, reason = "raw pointers from callers in C, and system calls")]

#[path = "../src/clock.rs"]
#[expect(dead_code, reason = "the host side uses the rest")]
mod clock;
#[path = "../src/latch.rs"]
mod latch;
#[path = "../src/native.rs"]
mod native;
#[path = "../src/page.rs"]
#[expect(dead_code, reason = "members never publish")]
mod page;
#[path = "../src/state.rs"]
#[expect(dead_code, reason = "the host side uses the rest")]
mod state;
#[path = "../src/surface.rs"]
#[expect(dead_code, reason = "the host side uses the rest")]
mod surface;
#[cfg(target_arch = "x86_64")]
#[path = "../src/surface32.rs"]
mod surface32;
#[path = "../src/sync.rs"]
mod sync;
#[path = "../src/transform.rs"]
#[expect(dead_code, reason = "the host side uses the rest")]
mod transform;

mod arming;
#[cfg(target_arch = "x86_64")]
mod calls32;
mod confine;
mod dispatch;
mod files;
#[cfg_attr(target_arch = "aarch64", path = "gate_arm64.rs")]
mod gate;
#[cfg(target_arch = "x86_64")]
mod gate32;
#[cfg(target_arch = "x86_64")]
mod handle32;
mod host;
mod numbers;
mod read;
#[cfg(target_arch = "x86_64")]
mod reads32;
#[cfg(target_arch = "x86_64")]
mod remote;
mod setting;
mod signals;
mod timerfd;
mod timers;
mod user;
mod wait;

#[cfg(target_arch = "x86_64")]
use clock::ClockId;
use clock::RawClockId;
use host::{ClockFn, Timespec, Timeval, Timezone};

/// `clock_gettime(2)` with the host's function as third argument.
///
/// # Safety
/// As `clock_gettime(2)`; `host` is a function of that signature.
#[unsafe(no_mangle)]
unsafe extern "C" fn elsewhen_clock_gettime(clock: i32, time: *mut Timespec, host: ClockFn) -> i32 {
    // SAFETY: the caller's promise, passed on.
    unsafe { read::clock_gettime(RawClockId(clock), time, host) }
}

/// `gettimeofday(2)` with the host's `clock_gettime` as third argument.
///
/// # Safety
/// As `gettimeofday(2)`; `host` is the host's `clock_gettime`.
#[unsafe(no_mangle)]
unsafe extern "C" fn elsewhen_gettimeofday(time: *mut Timeval, zone: *mut Timezone, host: ClockFn) -> i32 {
    // SAFETY: the caller's promise, passed on.
    unsafe { read::gettimeofday(time, zone, host) }
}

/// `time(2)`; the third argument is the host's `clock_gettime`, the second is unused.
///
/// # Safety
/// As `time(2)`; `host` is the host's `clock_gettime`.
#[cfg(target_arch = "x86_64")]
#[unsafe(no_mangle)]
unsafe extern "C" fn elsewhen_time(time: *mut i64, _unused: usize, host: ClockFn) -> i64 {
    // SAFETY: the caller's promise, passed on.
    unsafe { read::time(time, host) }
}

/// `clock_getres(2)` with the host's function as third argument.
///
/// # Safety
/// As `clock_getres(2)`; `host` is a function of that signature.
#[unsafe(no_mangle)]
unsafe extern "C" fn elsewhen_clock_getres(clock: i32, resolution: *mut Timespec, host: ClockFn) -> i32 {
    // SAFETY: the caller's promise, passed on.
    unsafe { read::clock_getres(RawClockId(clock), resolution, host) }
}

/// Takes over `SIGSYS` in a new member: returns 0 or a negative error number.
///
/// # Safety
/// Page, image and empty state are mapped; no other thread runs.
#[unsafe(no_mangle)]
unsafe extern "C" fn elsewhen_boot(boot: &state::Boot) -> i64 {
    signals::boot(boot)
}

/// `clock_gettime(2)` where this image is the vDSO.
///
/// # Safety
/// As `clock_gettime(2)`.
#[cfg_attr(target_arch = "x86_64", unsafe(no_mangle))]
#[cfg_attr(target_arch = "aarch64", unsafe(export_name = "__kernel_clock_gettime"))]
unsafe extern "C" fn __vdso_clock_gettime(clock: i32, time: *mut Timespec) -> i32 {
    // SAFETY: the caller's promise, passed on.
    unsafe { read::clock_gettime(RawClockId(clock), time, host::sys_clock_gettime) }
}

/// `gettimeofday(2)` where this image is the vDSO.
///
/// # Safety
/// As `gettimeofday(2)`.
#[cfg_attr(target_arch = "x86_64", unsafe(no_mangle))]
#[cfg_attr(target_arch = "aarch64", unsafe(export_name = "__kernel_gettimeofday"))]
unsafe extern "C" fn __vdso_gettimeofday(time: *mut Timeval, zone: *mut Timezone) -> i32 {
    // SAFETY: the caller's promise, passed on.
    unsafe { read::gettimeofday(time, zone, host::sys_clock_gettime) }
}

/// `time(2)` where this image is the vDSO.
///
/// # Safety
/// As `time(2)`.
#[cfg(target_arch = "x86_64")]
#[unsafe(no_mangle)]
unsafe extern "C" fn __vdso_time(time: *mut i64) -> i64 {
    // SAFETY: the caller's promise, passed on.
    unsafe { read::time(time, host::sys_clock_gettime) }
}

/// `clock_getres(2)` where this image is the vDSO.
///
/// # Safety
/// As `clock_getres(2)`.
#[cfg_attr(target_arch = "x86_64", unsafe(no_mangle))]
#[cfg_attr(target_arch = "aarch64", unsafe(export_name = "__kernel_clock_getres"))]
unsafe extern "C" fn __vdso_clock_getres(clock: i32, resolution: *mut Timespec) -> i32 {
    // SAFETY: the caller's promise, passed on.
    unsafe { read::clock_getres(RawClockId(clock), resolution, host::sys_clock_getres) }
}

/// `getcpu(2)` where this image is the vDSO; nothing about it is time.
///
/// # Safety
/// As `getcpu(2)`.
#[cfg(target_arch = "x86_64")]
#[unsafe(no_mangle)]
unsafe extern "C" fn __vdso_getcpu(cpu: *mut u32, node: *mut u32, cache: *mut u8) -> i64 {
    // SAFETY: the caller's promise, passed on.
    unsafe { host::sys_getcpu(cpu, node, cache) }
}

// Where the linker script puts page and state.
const _: () = assert!(page::PAGE_SIZE == 0x1000 && state::STATE_SIZE == 0x15000);

/// The clock of `time(2)`: the second as of the last tick, as in the kernel's `__cvdso_time`.
#[cfg(target_arch = "x86_64")]
const TIME_CLOCK: ClockId = ClockId::RealtimeCoarse;

// The names without prefix that the kernel's image has too on x86, for old libcs: weak, same type and size.
#[cfg(all(vdso_image, target_arch = "x86_64"))]
core::arch::global_asm!(
    ".weak clock_gettime",
    ".set clock_gettime, __vdso_clock_gettime",
    ".weak gettimeofday",
    ".set gettimeofday, __vdso_gettimeofday",
    ".weak time",
    ".set time, __vdso_time",
    ".weak clock_getres",
    ".set clock_getres, __vdso_clock_getres",
    ".weak getcpu",
    ".set getcpu, __vdso_getcpu",
);

#[cfg(vdso_image)]
core::arch::global_asm!(
    // Old glibc asks for the note that names the kernel version; the host's is the truth and 0 promises least.
    ".pushsection .note.Linux, \"a\", @note",
    ".balign 4",
    ".long 6, 4, 0",
    ".asciz \"Linux\"",
    ".balign 4",
    ".long 0",
    ".popsection",
);
