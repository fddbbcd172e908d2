//! A vDSO that needs no other: every clock comes from the data page, which lies right before it, and where that says
//! nothing from a system call. One source for all designs; `--cfg design="…"` chooses.
//!
//! | design | a member is told by | whoever is none pays |
//! |---|---|---|
//! | `none` | nothing: there are no namespaces | nothing |
//! | `always` | the image: this one adds always, and is mapped for members only | nothing |
//! | `flag_page` | a flag on the namespace's page | a load, maybe of a cold line, and a branch |
//! | `flag_line` | a flag among the data | a branch |
//! | `branch` | a jump over the no-op of 5 bytes that is compiled | that no-op |
//! | `tail` | the jump to `elsewhen_clk_to_ns` that is compiled; a return is copied over it for others | nothing |
//! | `page` | a sequence that is odd for ever, on a page in the data page's place | nothing |

#![no_std]

#[allow(dead_code, unreachable_pub, reason = "the crate outside uses the rest")]
#[path = "../src/data.rs"]
mod data;
#[allow(dead_code, unreachable_pub, reason = "the crate outside uses the rest")]
#[path = "../src/read.rs"]
mod read;

use core::arch::{asm, global_asm};
use core::sync::atomic::Ordering;
use data::{DataPage, Source};
use read::{Reading, Time};

const REALTIME: u32 = 0;
const RAW: u32 = 4;
const REALTIME_COARSE: u32 = 5;
/// REALTIME, MONOTONIC, BOOTTIME and TAI.
const HRES: u32 = 1 << 0 | 1 << 1 | 1 << 7 | 1 << 11;
/// REALTIME_COARSE and MONOTONIC_COARSE.
const COARSE: u32 = 1 << 5 | 1 << 6;

const SYS_CLOCK_GETTIME: usize = 228;
const SYS_CLOCK_GETRES: usize = 229;
const SYS_GETCPU: usize = 309;

/// `struct timespec`, and where `nsec` counts microseconds `struct timeval`.
#[repr(C)]
pub struct Timespec {
    sec: i64,
    nsec: i64,
}

global_asm!(
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

/// `clock_gettime(2)`.
///
/// # Safety
/// As of the system call, but that a bad pointer faults.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __vdso_clock_gettime(clock: u32, ts: *mut Timespec) -> i32 {
    let bit = if clock < 32 { 1 << clock } else { 0 };
    let page = data_page();
    if bit & HRES != 0 {
        // SAFETY: the caller's pointer.
        unsafe { elsewhen_hres(&page.hres, clock, ts) }
    } else if bit & COARSE != 0 {
        // SAFETY: the caller's pointer.
        unsafe { elsewhen_coarse(clock, ts) }
    } else if clock == RAW {
        // SAFETY: the caller's pointer.
        unsafe { elsewhen_hres(&page.raw, clock, ts) }
    } else {
        // SAFETY: the call that was asked for.
        unsafe { syscall(SYS_CLOCK_GETTIME, clock as usize, ts as usize, 0) as i32 }
    }
}

/// `gettimeofday(2)`.
///
/// # Safety
/// As of the system call, but that a bad pointer faults.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __vdso_gettimeofday(tv: *mut Timespec, zone: *mut [u32; 2]) -> i32 {
    if !tv.is_null() {
        let mut time = Timespec { sec: 0, nsec: 0 };
        // SAFETY: the pointer is to a value of ours.
        let result = unsafe { elsewhen_hres(&data_page().hres, REALTIME, &mut time) };
        if result != 0 {
            return result;
        }
        time.nsec = ((time.nsec as u64) / 1000) as i64;
        // SAFETY: the caller's pointer.
        unsafe { tv.write(time) };
    }
    if !zone.is_null() {
        let [west, dst] = [0, 1].map(|at: usize| zone_page().zone.get(at).map_or(0, |word| word.load(Ordering::Relaxed)));
        // SAFETY: the caller's pointer.
        unsafe { zone.write([west, dst]) };
    }
    0
}

/// `time(2)`.
///
/// # Safety
/// As of the system call, but that a bad pointer faults.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __vdso_time(at: *mut i64) -> i64 {
    let mut time = Timespec { sec: 0, nsec: 0 };
    // SAFETY: the pointer is to a value of ours.
    let _ = unsafe { elsewhen_coarse(REALTIME_COARSE, &mut time) };
    if !at.is_null() {
        // SAFETY: the caller's pointer.
        unsafe { at.write(time.sec) };
    }
    time.sec
}

/// `clock_getres(2)`.
///
/// # Safety
/// As of the system call, but that a bad pointer faults.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __vdso_clock_getres(clock: u32, resolution: *mut Timespec) -> i32 {
    let bit = if clock < 32 { 1 << clock } else { 0 };
    let nsec = if bit & (HRES | 1 << RAW) != 0 {
        1
    } else if bit & COARSE != 0 && zone_page().hres.mode.load(Ordering::Relaxed) == data::MODE_TSC {
        zone_page().coarse_ns.load(Ordering::Relaxed).into()
    } else {
        // SAFETY: the call that was asked for.
        return unsafe { syscall(SYS_CLOCK_GETRES, clock as usize, resolution as usize, 0) as i32 };
    };
    if !resolution.is_null() {
        // SAFETY: the caller's pointer.
        unsafe { resolution.write(Timespec { sec: 0, nsec }) };
    }
    0
}

/// `getcpu(2)`.
///
/// # Safety
/// As of the system call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __vdso_getcpu(cpu: *mut u32, node: *mut u32, unused: usize) -> i64 {
    // SAFETY: the call that was asked for.
    unsafe { syscall(SYS_GETCPU, cpu as usize, node as usize, unused) as i64 }
}

/// Whether the data page is used, and if not why: `Status` of the crate.
#[unsafe(no_mangle)]
pub extern "C" fn elsewhen_status() -> u32 {
    read::status(&zone_page().hres, counter) as u32
}

/// `do_hres()`.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn elsewhen_hres(source: &Source, clock: u32, ts: *mut Timespec) -> i32 {
    match read::hres(source, clock as usize, counter) {
        // SAFETY: the caller's pointer.
        Reading::Time(time) => unsafe { finish(source, clock, ts, time) },
        // SAFETY: the caller's pointer.
        Reading::Member => unsafe { elsewhen_member(clock, ts) },
        // SAFETY: the caller's pointer.
        Reading::Unusable => unsafe { elsewhen_fallback(clock, ts) },
    }
}

/// `do_coarse()`.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn elsewhen_coarse(clock: u32, ts: *mut Timespec) -> i32 {
    let source = &data_page().hres;
    match read::coarse(source, clock as usize) {
        // SAFETY: the caller's pointer.
        Reading::Time(time) => unsafe { finish(source, clock, ts, time) },
        // SAFETY: the caller's pointer.
        Reading::Member => unsafe { elsewhen_member(clock, ts) },
        // SAFETY: the caller's pointer.
        Reading::Unusable => unsafe { elsewhen_fallback(clock, ts) },
    }
}

/// `do_hres_timens()` and `do_coarse_timens()`: the data are where other designs have the namespace's page.
#[unsafe(no_mangle)]
#[cold]
#[inline(never)]
unsafe extern "C" fn elsewhen_member(clock: u32, ts: *mut Timespec) -> i32 {
    #[cfg(design = "page")]
    {
        let page = ns_page();
        let reading = if COARSE & 1 << (clock & 31) != 0 {
            read::coarse(&page.hres, clock as usize)
        } else {
            read::hres(if clock == RAW { &page.raw } else { &page.hres }, clock as usize, counter)
        };
        if let Reading::Time(time) = reading {
            let time = time.plus(read::offset(data_page(), clock as usize));
            // SAFETY: the caller's pointer.
            return unsafe { put(ts, time) };
        }
    }
    // SAFETY: the caller's pointer.
    unsafe { elsewhen_fallback(clock, ts) }
}

/// A clock by a system call, with the namespace's offset.
#[unsafe(no_mangle)]
#[cold]
#[inline(never)]
unsafe extern "C" fn elsewhen_fallback(clock: u32, ts: *mut Timespec) -> i32 {
    // SAFETY: the call that was asked for.
    let result = unsafe { syscall(SYS_CLOCK_GETTIME, clock as usize, ts as usize, 0) } as i32;
    if result != 0 {
        return result;
    }
    // Nothing of this function's own is on the stack: so the call that follows can be the last thing, as `tail` needs it.
    #[cfg(design = "tail")]
    // SAFETY: the caller's pointer.
    return unsafe { elsewhen_clk_to_ns(clock, ts) };
    #[cfg(not(design = "tail"))]
    {
        // SAFETY: the caller's pointer, to which the kernel has just written.
        let host = unsafe { ts.read() };
        let time = Time { sec: host.sec, nsec: host.nsec as u64 };
        #[cfg(design = "page")]
        // 0 for whoever is no member.
        let time = time.plus(read::offset(data_page(), clock as usize));
        // SAFETY: the caller's pointer.
        unsafe { finish(&data_page().hres, clock, ts, time) }
    }
}

/// What the designs do differently: the host's time becomes the caller's.
#[inline(always)]
#[allow(unused_variables, reason = "each design uses others")]
unsafe fn finish(source: &Source, clock: u32, ts: *mut Timespec, time: Time) -> i32 {
    #[cfg(design = "tail")]
    {
        // SAFETY: the caller's pointer.
        unsafe { put(ts, time) };
        // SAFETY: the caller's pointer.
        unsafe { elsewhen_clk_to_ns(clock, ts) }
    }
    #[cfg(not(design = "tail"))]
    {
        #[cfg(any(design = "none", design = "page"))]
        let member = false;
        #[cfg(design = "always")]
        let member = true;
        #[cfg(design = "flag_page")]
        let member = ns_page().hres.member.load(Ordering::Relaxed) != 0;
        #[cfg(design = "flag_line")]
        let member = source.member.load(Ordering::Relaxed) != 0;
        #[cfg(design = "branch")]
        let member = branch();
        let time = if member { time.plus(read::offset(ns_page(), clock as usize)) } else { time };
        // SAFETY: the caller's pointer.
        unsafe { put(ts, time) }
    }
}

/// `clk_to_ns()` of the thread: adds the namespace's offset to a time that is there.
#[cfg(design = "tail")]
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn elsewhen_clk_to_ns(clock: u32, ts: *mut Timespec) -> i32 {
    // SAFETY: the caller's pointer.
    let host = unsafe { ts.read() };
    let time = Time { sec: host.sec, nsec: host.nsec as u64 };
    // SAFETY: the caller's pointer.
    unsafe { put(ts, time.plus(read::offset(ns_page(), clock as usize))) };
    let zero: i32;
    // Were the result known, the call would be none in tail position.
    // SAFETY: touches its output only.
    unsafe { asm!("xor {0:e}, {0:e}", out(reg) zero, options(pure, nomem, nostack)) };
    zero
}

/// `static_branch_unlikely()`: false where the no-op is, true where a jump takes its place. It lies within eight aligned
/// bytes, which one store replaces.
#[cfg(design = "branch")]
#[inline(always)]
fn branch() -> bool {
    // SAFETY: falls through or jumps to the label, and changes nothing.
    unsafe {
        asm!(
            ".p2align 3, , 4",
            "2:",
            ".byte 0x0f, 0x1f, 0x44, 0x00, 0x00",
            ".pushsection .sites, \"a\", @progbits",
            ".long 2b - .",
            ".long {member} - .",
            ".popsection",
            member = label { return true },
            options(nomem, nostack, preserves_flags),
        );
    }
    false
}

#[inline(always)]
unsafe fn put(ts: *mut Timespec, time: Time) -> i32 {
    // SAFETY: the caller's pointer.
    unsafe { ts.write(Timespec { sec: time.sec, nsec: time.nsec as i64 }) };
    0
}

/// The page right before the image.
#[inline(always)]
fn data_page() -> &'static DataPage {
    let address: usize;
    // SAFETY: computes an address.
    unsafe {
        asm!("lea {}, [rip + __data_page]", out(reg) address, options(pure, nomem, nostack, preserves_flags));
    }
    // SAFETY: whoever maps the image maps that page; all of it is atomics, and any bytes are values of them.
    unsafe { &*(address as *const DataPage) }
}

/// The page before that: the namespace's, or in the design `page` the data of members.
#[inline(always)]
#[allow(dead_code, reason = "one design has none")]
fn ns_page() -> &'static DataPage {
    let address: usize;
    // SAFETY: computes an address.
    unsafe {
        asm!("lea {}, [rip + __ns_page]", out(reg) address, options(pure, nomem, nostack, preserves_flags));
    }
    // SAFETY: as of the data page.
    unsafe { &*(address as *const DataPage) }
}

/// The page with what is the same for all namespaces: in the design `page` it is at the second place for members and for
/// others.
#[inline(always)]
fn zone_page() -> &'static DataPage {
    #[cfg(design = "page")]
    return ns_page();
    #[cfg(not(design = "page"))]
    data_page()
}

/// The time stamp counter, after everything before has been read and before anything behind is.
#[inline(always)]
fn counter() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reads a counter. Not `nomem`: the page is to be read before and behind.
    #[cfg(not(counter = "lfence"))]
    unsafe {
        asm!("rdtscp", out("eax") low, out("edx") high, out("ecx") _, options(nostack, preserves_flags));
    }
    // SAFETY: as above.
    #[cfg(counter = "lfence")]
    unsafe {
        asm!("lfence", "rdtsc", out("eax") low, out("edx") high, options(nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

#[inline(always)]
unsafe fn syscall(number: usize, first: usize, second: usize, third: usize) -> isize {
    let result: isize;
    // SAFETY: the caller's.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") first,
            in("rsi") second,
            in("rdx") third,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}
