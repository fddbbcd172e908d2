//! The process's armed timers and its alarm, set anew when the namespace changes.
//!
//! The kernel knows them by the host's clocks. What they were armed for by the member's is kept in the
//! [state](crate::state); the host side asks for this with a signal.

use crate::numbers;
use crate::host::{opaque, state, syscall};
use crate::read::page;
use crate::state::{ALARM, Timer};
#[cfg(target_arch = "x86_64")]
use crate::transform::RATE_ONE;
use crate::transform::{wait_to_host, wait_to_member};
use crate::wait::{Form, member_now, pace, pace_of, since_change_ns, to_host};
#[cfg(target_arch = "x86_64")]
use crate::clock::ClockId;
use crate::clock::{RawClockId, TIMELINES};
use core::sync::atomic::Ordering;

const ABSTIME: usize = 1;

/// What a timer has just been armed for.
#[derive(Clone, Copy)]
pub(crate) enum Armed {
    /// An instant and an interval, in nanoseconds of the member's clock.
    Until(i64, i64),
    /// A duration, at this pace.
    For(u64),
    /// Nothing, or something that no change concerns.
    Nothing,
}

/// Remembers what a timer has been armed for.
#[inline(never)]
pub(crate) fn note(id: i32, armed: Armed) {
    let Some(timer) = state().timer(id) else { return };
    timer.disarm();
    match armed {
        Armed::Nothing => {}
        Armed::For(mult) => timer.mult.store(mult, Ordering::Relaxed),
        Armed::Until(until_ns, interval_ns) => {
            timer.interval_ns.store(interval_ns as u64, Ordering::Relaxed);
            timer.until_ns.store(until_ns as u64, Ordering::Relaxed);
        }
    }
}

/// Keeps book of the alarm of a process that has become a member while it ran.
#[cfg(target_arch = "x86_64")]
pub(crate) fn adopt() {
    let mut left = [opaque(0); 4];
    get(ALARM, &mut left);
    if left[2] | left[3] != 0 && state().add_timer(ALARM, ClockId::Monotonic as i32) {
        note(ALARM, Armed::For(RATE_ONE));
    }
}

/// Sets every armed timer anew, once for each state of the page.
#[inline(never)]
pub(crate) fn rearm() {
    let (state, counter) = (state(), page().begin().counter());
    if state.timers_ticket.swap(counter, Ordering::Relaxed) == counter {
        return;
    }
    for (id, clock, timer) in state.timers() {
        set_anew(id, clock, timer);
    }
}

/// Sets one armed timer anew: it was armed while the page changed, and [`rearm`] may have come before.
#[inline(never)]
pub(crate) fn rearm_one(wanted: i32) {
    for (id, clock, timer) in state().timers() {
        if id == wanted {
            set_anew(id, clock, timer);
        }
    }
}

fn set_anew(id: i32, clock: i32, timer: &Timer) {
    let until_ns = timer.until_ns.load(Ordering::Relaxed) as i64;
    let mult = timer.mult.load(Ordering::Relaxed);
    if mult != 0 {
        rescale(id, timer, mult);
    } else if until_ns != 0 && RawClockId(clock).place() < TIMELINES {
        aim(id, clock, until_ns, timer.interval_ns.load(Ordering::Relaxed) as i64);
    }
}

/// Reads what remains of a timer or the alarm.
fn get(id: i32, left: &mut [u64; 4]) {
    let place = left.as_mut_ptr() as usize;
    let (number, first) = if id == ALARM { (numbers::GETITIMER, 0) } else { (numbers::TIMER_GETTIME, id as usize) };
    // SAFETY: the kernel writes four words, into ours.
    unsafe { syscall(number, [first, place, 0, 0, 0, 0]) };
}

/// A timer that was armed for a duration: what is left of it at the new pace.
fn rescale(id: i32, timer: &Timer, mult: u64) {
    let (new, mut left) = (pace(), [opaque(0); 4]);
    if new == mult {
        return;
    }
    let form = if id == ALARM { Form::Timeval } else { Form::Timespec };
    get(id, &mut left);
    let rescaled = |host_ns: i64| wait_to_host(wait_to_member(host_ns, mult), new);
    // Since the change it has run by the host's time that is now too long or too short.
    let since = since_change_ns();
    let interval_ns = rescaled(form.to_ns(left[0], left[1]).unwrap_or(0));
    let value_ns = form.to_ns(left[2], left[3]).unwrap_or(0);
    let value_ns = rescaled(value_ns.saturating_add(since)).saturating_sub(since);
    // One that has expired stays so.
    if left[2] | left[3] == 0 {
        return;
    }
    let ((interval_sec, interval), (sec, fraction)) = (form.words(interval_ns), form.words(value_ns));
    left[0] = opaque(interval_sec);
    left[1] = opaque(interval);
    left[2] = opaque(sec);
    left[3] = opaque(if sec | fraction == 0 { 1 } else { fraction });
    let set = left.as_ptr() as usize;
    if id == ALARM {
        // SAFETY: the kernel reads four words of ours.
        unsafe { syscall(numbers::SETITIMER, [0, set, 0, 0, 0, 0]) };
    } else {
        // SAFETY: as above.
        unsafe { syscall(numbers::TIMER_SETTIME, [id as usize, 0, set, 0, 0, 0]) };
    }
    timer.mult.store(new, Ordering::Relaxed);
}

/// A timer that was armed for an instant: the same instant, where that is now.
fn aim(id: i32, clock: i32, until_ns: i64, interval_ns: i64) {
    let mut left = [opaque(0); 4];
    get(id, &mut left);
    if left[2] | left[3] == 0 {
        return;
    }
    let mut next_ns = until_ns;
    let passed = member_now(clock).wrapping_sub(until_ns);
    if interval_ns > 0 && passed > 0 {
        // One that repeats goes on with its next turn.
        next_ns = until_ns.wrapping_add((passed / interval_ns + 1).wrapping_mul(interval_ns));
    }
    let host_ns = to_host(clock, next_ns, &mut page().begin());
    let (interval_sec, interval) = Form::Timespec.words(wait_to_host(interval_ns, pace_of(RawClockId(clock).place())));
    let (sec, nsec) = Form::Timespec.words(if host_ns < 1 { 1 } else { host_ns });
    left[0] = opaque(interval_sec);
    left[1] = opaque(interval);
    left[2] = opaque(sec);
    left[3] = opaque(nsec);
    // SAFETY: the kernel reads four words of ours.
    unsafe { syscall(numbers::TIMER_SETTIME, [id as usize, ABSTIME, left.as_ptr() as usize, 0, 0, 0]) };
}
