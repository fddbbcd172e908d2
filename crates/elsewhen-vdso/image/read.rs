//! Reading a clock: begin with the latch, ask the host, look at the latch again, apply the map.
//!
//! The latch brackets the host's reading because a map belongs to a span of host time: an old map applied to a
//! newer reading could step a clock back when a rate is lowered.

use crate::TIME_CLOCK;
use crate::clock::RawClockId;
use crate::host::{ClockFn, Timespec, Timeval, Timezone, sys_timezone};
use crate::page::{AFFINE, TimensPage};
use crate::transform::{HostNs, NSEC_PER_SEC, RATE_ONE, RATE_SHIFT, Split};
use core::hint::cold_path;

/// The namespace's page, which whoever maps the image maps right before it.
#[inline(always)]
fn page() -> &'static TimensPage {
    let page: *const TimensPage;
    // SAFETY: takes the address of a symbol of the linker script, relative to the instruction pointer.
    unsafe {
        core::arch::asm!("lea {}, [rip + __ns_page]", out(reg) page, options(pure, nomem, nostack, preserves_flags));
    }
    // SAFETY: image and page are mapped together, for as long as the process lives, and everything that changes
    // in the page is an atomic.
    unsafe { &*page }
}

/// `clock_gettime(2)`.
///
/// # Safety
/// As `clock_gettime(2)`; `host` is the host's function of that name.
#[inline(always)]
pub(crate) unsafe fn clock_gettime(clock: RawClockId, time: *mut Timespec, host: ClockFn) -> i32 {
    let place = clock.place();
    let page = page();
    loop {
        let ticket = page.begin();
        let Some((offset_sec, offset_nsec)) = page.offset(ticket, place) else {
            cold_path();
            // Not a clock that a namespace moves.
            // SAFETY: the caller's promise, passed on.
            return unsafe { host(clock.0, time) };
        };
        // SAFETY: the caller's promise, passed on.
        let result = unsafe { host(clock.0, time) };
        if result != 0 {
            cold_path();
            return result;
        }
        // SAFETY: the host has just written there.
        let host_sec = unsafe { (*time).sec };
        // SAFETY: as above.
        let host_nsec = unsafe { (*time).nsec };
        let (sec, nsec) = if offset_nsec == AFFINE {
            cold_path();
            let Some(pivot) = page.pivot(ticket, place) else { return result };
            let host_ns = HostNs(host_sec.wrapping_mul(NSEC_PER_SEC).wrapping_add(host_nsec));
            let split = Split::from_ns(pivot.to_member(host_ns).0);
            (split.sec, i64::from(split.nsec))
        } else {
            let nsec = host_nsec + i64::from(offset_nsec);
            let carry = nsec >= NSEC_PER_SEC;
            let sec = host_sec.wrapping_add(offset_sec);
            (sec.wrapping_add(i64::from(carry)), if carry { nsec - NSEC_PER_SEC } else { nsec })
        };
        if !page.holds(ticket) {
            cold_path();
            continue;
        }
        // SAFETY: as above.
        unsafe { (*time).sec = sec };
        // SAFETY: as above.
        unsafe { (*time).nsec = nsec };
        return 0;
    }
}

/// `gettimeofday(2)`, from the same reading as `clock_gettime`, so that the two can be compared.
///
/// # Safety
/// As `gettimeofday(2)`; `host` is the host's `clock_gettime`.
#[inline(always)]
pub(crate) unsafe fn gettimeofday(time: *mut Timeval, zone: *mut Timezone, host: ClockFn) -> i32 {
    if !time.is_null() {
        let mut now = Timespec { sec: 0, nsec: 0 };
        // SAFETY: `now` is ours, and `host` is what the caller promised.
        let result = unsafe { clock_gettime(RawClockId(0), &mut now, host) };
        if result != 0 {
            cold_path();
            return result;
        }
        // SAFETY: the caller's promise.
        unsafe { (*time).sec = now.sec };
        // SAFETY: the caller's promise.
        unsafe { (*time).usec = i64::from(now.nsec as u32 / 1000) };
    }
    if zone.is_null() {
        return 0;
    }
    cold_path();
    // SAFETY: the caller's promise, passed on.
    unsafe { sys_timezone(zone) }
}

/// `time(2)`.
///
/// # Safety
/// As `time(2)`; `host` is the host's `clock_gettime`.
#[inline(always)]
pub(crate) unsafe fn time(time: *mut i64, host: ClockFn) -> i64 {
    let mut now = Timespec { sec: 0, nsec: 0 };
    // SAFETY: `now` is ours, and `host` is what the caller promised.
    let result = unsafe { clock_gettime(RawClockId(TIME_CLOCK as i32), &mut now, host) };
    if result != 0 {
        cold_path();
        return i64::from(result);
    }
    if !time.is_null() {
        // SAFETY: the caller's promise.
        unsafe { *time = now.sec };
    }
    now.sec
}

/// `clock_getres(2)`: the host's resolution, scaled where the clock has a rate, and never below a nanosecond.
///
/// # Safety
/// As `clock_getres(2)`; `host` is the host's function of that name.
#[inline(always)]
pub(crate) unsafe fn clock_getres(clock: RawClockId, resolution: *mut Timespec, host: ClockFn) -> i32 {
    // SAFETY: the caller's promise, passed on.
    let result = unsafe { host(clock.0, resolution) };
    if result != 0 || resolution.is_null() {
        return result;
    }
    let page = page();
    let mult = loop {
        let ticket = page.begin();
        let Some((_, offset_nsec)) = page.offset(ticket, clock.place()) else { return result };
        let pivot = page.pivot(ticket, clock.place());
        if page.holds(ticket) {
            break if offset_nsec == AFFINE { pivot.map_or(RATE_ONE, |pivot| pivot.after.mult) } else { RATE_ONE };
        }
    };
    if mult != RATE_ONE {
        // SAFETY: the host has just written there, less than a second.
        let host_ns = unsafe { (*resolution).nsec };
        let scaled = (((host_ns as u32) as u128 * mult as u128) >> RATE_SHIFT) as i64;
        let split = Split::from_ns(if scaled < 1 { 1 } else { scaled });
        // SAFETY: as above.
        unsafe { (*resolution).sec = split.sec };
        // SAFETY: as above.
        unsafe { (*resolution).nsec = i64::from(split.nsec) };
    }
    0
}
