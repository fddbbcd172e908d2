//! Reading a clock: begin with the latch, ask the host, look at the latch again, apply the map.
//!
//! The latch brackets the host's reading because a map belongs to a span of host time: an old map applied to a
//! newer reading could step a clock back when a rate is lowered.

#[cfg(target_arch = "x86_64")]
use crate::TIME_CLOCK;
use crate::clock::{RawClockId, TIMELINES};
use crate::host::{ClockFn, Timespec, Timeval, Timezone, symbol, sys_timezone};
use crate::latch::Ticket;
use crate::page::{AFFINE, TimensPage};
use crate::transform::{HostNs, NSEC_PER_SEC, RATE_ONE, RATE_SHIFT, Split};
use core::hint::cold_path;
use core::mem::MaybeUninit;

/// The namespace's page, which whoever maps the image maps right before it.
#[inline(always)]
pub(crate) fn page() -> &'static TimensPage {
    let page = symbol!("__ns_page") as *const TimensPage;
    // SAFETY: image and page are mapped together, for as long as the process lives, and everything that changes
    // in the page is an atomic.
    unsafe { &*page }
}

/// `clock_gettime(2)`.
///
/// Everything rare is a call at the end, so that the common way keeps few registers over the host's function.
///
/// # Safety
/// As `clock_gettime(2)`; `host` is the host's function of that name.
#[inline(always)]
pub(crate) unsafe fn clock_gettime(clock: RawClockId, time: *mut Timespec, host: ClockFn) -> i32 {
    let page = page();
    if clock.place() >= TIMELINES {
        cold_path();
        // Not a clock that a namespace moves.
        // SAFETY: the caller's promise, passed on.
        return unsafe { host(clock.0, time) };
    }
    let ticket = page.begin();
    // SAFETY: the caller's promise, passed on.
    let result = unsafe { host(clock.0, time) };
    if result != 0 {
        cold_path();
        return result;
    }
    let Some((offset_sec, offset_nsec)) = page.offset(ticket, clock.place()) else { return 0 };
    if offset_nsec == AFFINE {
        cold_path();
        // SAFETY: the caller's promise, passed on; the host has just written there.
        return unsafe { apply_affine(clock.0, time, host, ticket) };
    }
    // SAFETY: the host has just written there.
    let host_sec = unsafe { (*time).sec };
    // SAFETY: as above.
    let host_nsec = unsafe { (*time).nsec };
    let nsec = host_nsec + i64::from(offset_nsec);
    let carry = nsec >= NSEC_PER_SEC;
    let sec = host_sec.wrapping_add(offset_sec).wrapping_add(i64::from(carry));
    let nsec = if carry { nsec - NSEC_PER_SEC } else { nsec };
    if !page.holds(ticket) {
        cold_path();
        // SAFETY: the caller's promise, passed on.
        return unsafe { again(clock.0, time, host) };
    }
    // SAFETY: as above.
    unsafe { (*time).sec = sec };
    // SAFETY: as above.
    unsafe { (*time).nsec = nsec };
    0
}

/// [`clock_gettime`] as the gate calls it.
///
/// # Safety
/// As [`clock_gettime`].
#[cfg(target_arch = "x86_64")]
pub(crate) unsafe extern "C" fn read(clock: i32, time: *mut Timespec, host: ClockFn) -> i32 {
    // SAFETY: the caller's promise, passed on.
    unsafe { clock_gettime(RawClockId(clock), time, host) }
}

/// Applies a clock's pivot to the host's reading in `time`, taken under `ticket`.
///
/// # Safety
/// As [`clock_gettime`], and `time` has been written.
#[inline(never)]
unsafe extern "C" fn apply_affine(clock: i32, time: *mut Timespec, host: ClockFn, ticket: Ticket) -> i32 {
    let page = page();
    let Some(pivot) = page.pivot(ticket, RawClockId(clock).place()) else { return 0 };
    // SAFETY: the caller's promise.
    let host_sec = unsafe { (*time).sec };
    // SAFETY: the caller's promise.
    let host_nsec = unsafe { (*time).nsec };
    let host_ns = HostNs(host_sec.wrapping_mul(NSEC_PER_SEC).wrapping_add(host_nsec));
    let map = if host_ns.0 < pivot.at_host_ns {
        cold_path();
        pivot.before
    } else {
        pivot.after
    };
    let split = match map.to_split_quick(host_ns) {
        Some(split) => split,
        None => {
            cold_path();
            Split::from_ns(map.to_member(host_ns).0)
        }
    };
    if !page.holds(ticket) {
        cold_path();
        // SAFETY: the caller's promise, passed on.
        return unsafe { again(clock, time, host) };
    }
    // SAFETY: the caller's promise.
    unsafe { (*time).sec = split.sec };
    // SAFETY: the caller's promise.
    unsafe { (*time).nsec = i64::from(split.nsec) };
    0
}

/// Reads once more, because a writer was faster.
///
/// # Safety
/// As [`clock_gettime`].
#[cold]
#[inline(never)]
unsafe extern "C" fn again(clock: i32, time: *mut Timespec, host: ClockFn) -> i32 {
    // SAFETY: the caller's promise, passed on.
    unsafe { clock_gettime(RawClockId(clock), time, host) }
}

/// `gettimeofday(2)`, from the same reading as `clock_gettime`, so that the two can be compared.
///
/// # Safety
/// As `gettimeofday(2)`; `host` is the host's `clock_gettime`.
#[inline(always)]
pub(crate) unsafe fn gettimeofday(time: *mut Timeval, zone: *mut Timezone, host: ClockFn) -> i32 {
    if !time.is_null() {
        let mut now = MaybeUninit::<Timespec>::uninit();
        // SAFETY: `now` is ours, and `host` is what the caller promised.
        let result = unsafe { clock_gettime(RawClockId(0), now.as_mut_ptr(), host) };
        if result != 0 {
            cold_path();
            return result;
        }
        // SAFETY: a reading that succeeded has been written.
        let now = unsafe { now.assume_init_ref() };
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
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) unsafe fn time(time: *mut i64, host: ClockFn) -> i64 {
    let mut now = MaybeUninit::<Timespec>::uninit();
    // SAFETY: `now` is ours, and `host` is what the caller promised.
    let result = unsafe { clock_gettime(RawClockId(TIME_CLOCK as i32), now.as_mut_ptr(), host) };
    if result != 0 {
        cold_path();
        return i64::from(result);
    }
    // SAFETY: a reading that succeeded has been written.
    let sec = unsafe { now.assume_init_ref() }.sec;
    if !time.is_null() {
        // SAFETY: the caller's promise.
        unsafe { *time = sec };
    }
    sec
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
