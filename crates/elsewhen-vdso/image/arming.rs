//! Calls that arm the process's timers and its alarm, or read what is left of them.

use crate::numbers;
use crate::clock::{ClockId, RawClockId, TIMELINES};
use crate::dispatch::Step;
use crate::gate::{Frame, Next};
use crate::host::{opaque, state, syscall};
use crate::read::page;
use crate::signals;
use crate::state::ALARM;
use crate::timerfd;
use crate::timers::{self, Armed};
use crate::transform::{NSEC_PER_SEC, RATE_ONE, wait_to_host, wait_to_member};
use crate::user;
use crate::wait::{Form, pace, pace_of, to_host};

const EAGAIN: i64 = -11;

/// Copies a timer's `struct itimerspec` or `struct itimerval`. False where the kernel is to refuse it.
fn copy_timer(frame: &Frame, argument: u8, timer: &mut [u64; 4]) -> bool {
    frame.args.get(argument) != 0 && user::read(frame.stack, frame.args.get(argument), timer).is_ok()
}

/// Puts a timer's interval and value, in nanoseconds of the host, in place.
fn place_timer(frame: &mut Frame, argument: u8, form: Form, interval_ns: i64, value_ns: i64) {
    let (sec, fraction) = form.words(interval_ns);
    frame.scratch[0] = sec;
    frame.scratch[1] = fraction;
    // A value of nothing would disarm.
    let (sec, fraction) = form.words(if value_ns < 1 { 1 } else { value_ns });
    frame.scratch[2] = sec;
    frame.scratch[3] = fraction;
    frame.point(argument);
}

/// Arms a timer whose clock is known, where its flags are in argument 1 and its new value in argument 2; `note` is
/// told for what.
#[inline(never)]
fn arm(frame: &mut Frame, clock: impl FnOnce() -> Option<i32>, note: impl Fn(Armed)) -> Step {
    const ABSTIME: u64 = 1;
    let mut timer = [opaque(0); 4];
    if !copy_timer(frame, 2, &mut timer) {
        return Ok(Next::Call);
    }
    frame.narrow(&mut timer);
    let (Some(interval_ns), Some(value_ns)) =
        (Form::Timespec.to_ns(timer[0], timer[1]), Form::Timespec.to_ns(timer[2], timer[3]))
    else {
        return Ok(Next::Call);
    };
    note(Armed::Nothing);
    if value_ns == 0 {
        return Ok(Next::Call);
    }
    if frame.args.get(1) & ABSTIME == 0 {
        let Some(clock) = clock() else { return Ok(Next::Call) };
        if RawClockId(clock).place() >= TIMELINES {
            return Ok(Next::Call);
        }
        let mult = pace();
        place_timer(frame, 2, Form::Timespec, wait_to_host(interval_ns, mult), wait_to_host(value_ns, mult));
        note(Armed::For(mult));
        return Ok(Next::Call);
    }
    let Some(clock) = clock() else { return Ok(Next::Call) };
    let place = RawClockId(clock).place();
    if place >= TIMELINES {
        return Ok(Next::Call);
    }
    let host_ns = to_host(clock, value_ns, &mut page().begin());
    place_timer(frame, 2, Form::Timespec, wait_to_host(interval_ns, pace_of(place)), host_ns);
    note(Armed::Until(value_ns, interval_ns));
    Ok(Next::Call)
}

/// Whether a timer runs on a clock that a namespace can move.
pub(crate) fn is_moved_timer(frame: &Frame) -> bool {
    let clock = state().timer_clock(frame.args.get(0) as i32);
    clock.is_some_and(|clock| RawClockId(clock).place() < TIMELINES)
}

#[inline(never)]
pub(crate) fn timer_settime(frame: &mut Frame) -> Step {
    frame.scratch[7] = u64::from(page().begin().counter());
    let id = frame.args.get(0) as i32;
    arm(frame, || state().timer_clock(id), |armed| timers::note(id, armed))
}

#[inline(never)]
pub(crate) fn timerfd_settime(frame: &mut Frame) -> Step {
    const ABSTIME: u64 = 1;
    let fd = frame.args.get(0) as i32;
    let counter = page().begin().counter();
    frame.scratch[7] = u64::from(counter);
    let note = |armed| match armed {
        Armed::Until(until_ns, _) => state().note_descriptor(fd, until_ns, counter),
        Armed::For(_) => state().note_descriptor(fd, 0, counter),
        Armed::Nothing => {}
    };
    if frame.args.get(1) & ABSTIME == 0 {
        // A duration goes by MONOTONIC's pace, whichever the clock; there are no others for descriptors.
        return arm(frame, || Some(ClockId::Monotonic as i32), note);
    }
    arm(frame, || timerfd::clock(fd), note)
}

/// After `timer_create`: remembers the clock. Without a place for it the timer is given up.
#[inline(never)]
pub(crate) fn after_timer_create(frame: &Frame) -> i64 {
    let id = user::reread_int(frame.args.get(2));
    signals::after_fork();
    if state().add_timer(id, frame.args.get(0) as i32) {
        return 0;
    }
    // SAFETY: deletes the timer that has just been made; takes no pointers.
    unsafe { syscall(numbers::TIMER_DELETE, [id as usize, 0, 0, 0, 0, 0]) };
    EAGAIN
}

/// Scales what the kernel wrote about a timer, in pairs of words, back to the member's pace.
#[inline(never)]
pub(crate) fn rescale(address: u64, words: usize, form: Form) {
    let mult = pace();
    if address == 0 || mult == RATE_ONE {
        return;
    }
    let mut at = 0;
    while at < words {
        let (place, mut pair) = (address + 8 * at as u64, [opaque(0); 2]);
        user::reread(place, &mut pair);
        if let Some(host_ns) = form.to_ns(pair[0], pair[1])
            && host_ns > 0
        {
            let (sec, fraction) = form.words(wait_to_member(host_ns, mult));
            user::rewrite(place, &[sec, fraction]);
        }
        at += 2;
    }
}

#[inline(never)]
pub(crate) fn setitimer(frame: &mut Frame) -> Step {
    frame.scratch[7] = u64::from(page().begin().counter());
    let mut timer = [opaque(0); 4];
    if !copy_timer(frame, 1, &mut timer) {
        return Ok(Next::Call);
    }
    let valid = timer[1] < 1_000_000 && timer[3] < 1_000_000;
    let times = (Form::Timeval.to_ns(timer[0], timer[1]), Form::Timeval.to_ns(timer[2], timer[3]));
    if let (true, (Some(interval_ns), Some(value_ns))) = (valid, times)
        && value_ns > 0
    {
        let mult = pace();
        place_timer(frame, 1, Form::Timeval, wait_to_host(interval_ns, mult), wait_to_host(value_ns, mult));
        note_alarm(mult);
    }
    Ok(Next::Call)
}

/// Remembers the pace at which the process's alarm has been set.
fn note_alarm(mult: u64) {
    signals::after_fork();
    if state().timer(ALARM).is_none() {
        // Without a place it stays at the pace at which it was set.
        state().add_timer(ALARM, ClockId::Monotonic as i32);
    }
    timers::note(ALARM, Armed::For(mult));
}

/// `alarm`, whose seconds are too coarse for a rate, as `setitimer`.
#[inline(never)]
pub(crate) fn alarm(frame: &mut Frame) -> Step {
    let seconds = u64::from(frame.args.get(0) as u32);
    // The scratch holds the new value and then the old one.
    let value_ns = (seconds * NSEC_PER_SEC as u64) as i64;
    let mult = pace();
    let (sec, usec) = Form::Timeval.words(wait_to_host(value_ns, mult));
    note_alarm(mult);
    frame.scratch[0] = opaque(0);
    frame.scratch[1] = opaque(0);
    frame.scratch[2] = sec;
    frame.scratch[3] = usec;
    frame.call[0] = frame.by_own_interface(numbers::SETITIMER as u64);
    frame.call[1] = 0;
    frame.call[2] = frame.scratch_address(0);
    frame.call[3] = frame.scratch_address(4);
    Ok(Next::Call)
}

/// What remained of an alarm, in seconds, never 0 where something did.
#[inline(never)]
pub(crate) fn after_alarm(frame: &mut Frame) {
    let old_ns = Form::Timeval.to_ns(frame.scratch[6], frame.scratch[7]).unwrap_or(0);
    let old_ns = wait_to_member(old_ns, pace()) as u64;
    let (sec, rest) = (old_ns / NSEC_PER_SEC as u64, old_ns % NSEC_PER_SEC as u64);
    frame.answer = sec + u64::from((sec == 0 && rest > 0) || rest >= NSEC_PER_SEC as u64 / 2);
}
