//! What becomes of a call that the filter caught: by the surface table, from the caller's arguments to the kernel's
//! and from the kernel's results to the caller's.
//!
//! [`begin`] either answers the call itself, or prepares one for the gate to make; [`finish`] looks at what that
//! returned. Only the second kind can wait. Whatever the kernel would refuse is left to it, with the caller's own
//! arguments, so that the caller gets the kernel's own error.

use crate::numbers;
use crate::clock::{ClockId, RawClockId, TIMELINES};
use crate::arming;
use crate::confine;
use crate::files;
use crate::gate::Frame;
use crate::host::{self, Timespec, now, opaque, state, syscall};
use crate::read::{self, page};
use crate::setting;
use crate::signals;
use crate::state::{ALARM, has_hosts_time};
#[cfg(target_arch = "x86_64")]
use crate::surface::X32_BIT;
use crate::surface::{Action, Reach, WORD_CONFINED, action, catches, native_of};
use crate::timers;
use crate::transform::{NSEC_PER_SEC, RATE_ONE, wait_to_host, wait_to_member};
use crate::user::{self, FAULT};
use crate::wait::{Form, Kind, member_now, pace};
use core::sync::atomic::Ordering;

const SYS_POLL: u64 = numbers::POLL as u64;
const SYS_PPOLL: u64 = numbers::PPOLL as u64;
const SYS_ALARM: u64 = numbers::ALARM as u64;
const SYS_EPOLL_WAIT: u64 = numbers::EPOLL_WAIT as u64;
const SYS_EPOLL_PWAIT: u64 = numbers::EPOLL_PWAIT as u64;
const SYS_EPOLL_PWAIT2: u64 = numbers::EPOLL_PWAIT2 as u64;
const SYS_NANOSLEEP: u64 = numbers::NANOSLEEP as u64;
const SYS_PRCTL: u64 = numbers::PRCTL as u64;
const PR_SET_SYSCALL_USER_DISPATCH: u64 = 59;

const EPERM: i64 = -1;
const EINTR: i64 = -4;
const EAGAIN: i64 = -11;
const EINVAL: i64 = -22;
const ETIMEDOUT: i64 = -110;

/// Set in a number that came from the vsyscall page, which does not return errors.
pub(crate) const VSYSCALL: u64 = 1 << 63;

/// What a signal mask says about `SIGSYS`.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mask {
    /// There is no such mask.
    Silent = 0,
    /// The signal is let in.
    LetsIn = 1,
    /// The signal is kept out.
    KeepsOut = 2,
}

/// The dispatcher's word to the gate.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Return to the caller.
    Return = 0,
    /// Make the call in [`Frame::call`], then ask again.
    Call = 1,
}

/// In place of a result: the call was interrupted to be translated again.
pub(crate) const AGAIN: i64 = -512;

/// How far a wait has come that one call in the gate carries out.
pub(crate) type Step = Result<Next, i64>;

/// Translates a call whose frame the gate has made.
#[cfg(target_arch = "x86_64")]
pub(crate) extern "C" fn begin(frame: &mut Frame) -> Next {
    frame.stack = frame.stack_above();
    begin_filled(frame)
}

/// Translates a call. Its own call is in place; what an action does not change is made as it is.
pub(crate) fn begin_filled(frame: &mut Frame) -> Next {
    let by_vsyscall = frame.answer & VSYSCALL != 0;
    frame.answer &= !VSYSCALL;
    // The kernel looks at no more of it.
    frame.wait.original = frame.answer as u32;
    frame.number = u64::from(native_of(frame.answer as u32));
    frame.call[0] = frame.answer;
    for (at, place) in frame.call.iter_mut().skip(1).enumerate() {
        *place = frame.args.get(at as u8);
    }
    frame.wait.kind = Kind::Untimed;
    frame.mask = Mask::Silent;
    signals::after_fork();
    let state = state();
    let from_host_vdso = frame.return_address > state.vdso_start.load(Ordering::Relaxed)
        && frame.return_address < state.vdso_end.load(Ordering::Relaxed);
    if from_host_vdso && frame.number == numbers::CLOCK_GETTIME as u64 && is_read_by_vdsos(frame.args.get(0)) {
        state.vdso_calls.store(1, Ordering::Relaxed);
    }
    // Calls of the C library come here unfiltered.
    let (number, reach) = (frame.answer as u32, Reach::from_bits(state.reach.load(Ordering::Relaxed)));
    let Some(action) = action(number) else { return as_it_is(frame) };
    // The host's own fallback: whoever called it maps what it returns.
    if from_host_vdso || !catches(number, reach, |at| frame.args.get(at)) {
        return as_it_is(frame);
    }
    match translate(frame, action) {
        Ok(next) => next,
        Err(result) => {
            if by_vsyscall && result == FAULT {
                // One of these words is the bad one.
                let (first, second) = (frame.args.get(0), frame.args.get(1));
                for address in [first, first + 8, second] {
                    user::die_of(address);
                }
            }
            frame.answer = result as u64;
            Next::Return
        }
    }
}

/// Whether a vDSO reads this clock, if it can read the clock source.
fn is_read_by_vdsos(clock: u64) -> bool {
    use ClockId::{Boottime, Monotonic, Realtime, Tai};
    [Realtime, Monotonic, Boottime, Tai].iter().any(|known| *known as u64 == clock)
}

/// Makes the caller's own call, whose result is nobody's business.
fn as_it_is(frame: &mut Frame) -> Next {
    frame.number = u64::MAX;
    Next::Call
}

/// Whether a call of this number can wait, and does nothing before it does.
pub(crate) fn is_wait(number: u32) -> bool {
    use Action::*;
    let Some(action) = action(number) else { return false };
    matches!(
        action,
        ClockNanosleep
            | Nanosleep
            | Futex
            | FutexWaitv
            | FutexWait
            | MqTimed
            | Poll
            | Ppoll
            | Select
            | Pselect6
            | EpollWait
            | EpollPwait
            | EpollPwait2
            | Recvmmsg
            | Semtimedop
            | IoGetevents
            | IoPgetevents
            | RtSigtimedwait
            | RtSigsuspend
    )
}

/// Whether a call of this number can have a mask for the time of its wait, or waits for signals.
#[cfg(target_arch = "x86_64")]
pub(crate) fn lets_signals_in(number: u32) -> bool {
    use Action::*;
    matches!(
        action(number),
        Some(Ppoll | Pselect6 | EpollPwait | EpollPwait2 | IoPgetevents | RtSigtimedwait | RtSigsuspend)
    )
}

fn translate(frame: &mut Frame, action: Action) -> Step {
    use Action::{Adjtimex, ClockAdjtime, ClockSettime, Settimeofday};
    let is_hosts = has_hosts_time(state().belongs.load(Ordering::Relaxed));
    if is_hosts && matches!(action, Adjtimex | ClockAdjtime | ClockSettime | Settimeofday) {
        // The clock is the host's, and so is the answer.
        return Ok(Next::Call);
    }
    match action {
        Action::ClockGettime => clock_gettime(frame),
        Action::Gettimeofday => gettimeofday(frame),
        Action::Time => time(frame),
        Action::ClockGetres => clock_getres(frame),
        Action::ClockSettime => setting::clock_settime(frame),
        Action::Settimeofday => setting::settimeofday(frame),
        Action::ClockNanosleep => clock_nanosleep(frame),
        Action::Nanosleep => sleep_for(frame, 0, 1),
        Action::Futex => futex(frame),
        Action::FutexWaitv => until(frame, 3, frame.args.get(4) as i32),
        Action::FutexWait => until(frame, 4, frame.args.get(5) as i32),
        Action::MqTimed => until(frame, 4, ClockId::Realtime as i32),
        Action::TimerSettime => arming::timer_settime(frame),
        Action::TimerfdSettime => arming::timerfd_settime(frame),
        Action::Setitimer => arming::setitimer(frame),
        Action::Alarm => arming::alarm(frame),
        Action::Poll => poll(frame, SYS_PPOLL, 2),
        Action::EpollWait => poll(frame, SYS_EPOLL_PWAIT2, 3),
        Action::EpollPwait => epoll_pwait(frame),
        Action::Ppoll => {
            signals::strip_mask(frame, 3, 4)?;
            for_given(frame, 2, Form::Timespec)
        }
        Action::EpollPwait2 => {
            signals::strip_mask(frame, 4, 5)?;
            for_given(frame, 3, Form::Timespec)
        }
        Action::Pselect6 => {
            signals::strip_pointed_mask(frame)?;
            select(frame, Form::Timespec)
        }
        Action::IoPgetevents => {
            signals::strip_pointed_mask(frame)?;
            for_given(frame, 4, Form::Sum)
        }
        Action::Select => select(frame, Form::Timeval),
        Action::Recvmmsg => for_given(frame, 4, Form::Timespec),
        Action::IoGetevents => for_given(frame, 4, Form::Sum),
        Action::Semtimedop => for_given(frame, 3, Form::Timespec),
        Action::RtSigtimedwait => {
            signals::sigtimedwait(frame)?;
            for_given(frame, 2, Form::Timespec)
        }
        Action::Setsockopt => setsockopt(frame),
        Action::Adjtimex => setting::adjtimex(frame, 0),
        Action::ClockAdjtime => setting::adjtimex(frame, 1),
        Action::RtSigaction => signals::sigaction(frame),
        Action::RtSigprocmask => signals::sigprocmask(frame),
        Action::RtSigsuspend => {
            signals::strip_mask(frame, 0, 1)?;
            Ok(Next::Call)
        }
        Action::Confine => {
            if frame.number == SYS_PRCTL && frame.args.get(0) == PR_SET_SYSCALL_USER_DISPATCH {
                // It would dispatch the image's own calls. As a kernel that has no such thing.
                return Err(EINVAL);
            }
            if !confine::lets_handlers_return(frame) {
                setting::ask(WORD_CONFINED, 0);
                return Err(EPERM);
            }
            signals::confine();
            Ok(Next::Call)
        }
        Action::SetTimes => Ok(files::set_two(frame, 2, 1)),
        Action::Futimesat => Ok(files::set_two(frame, 2, 1000)),
        Action::Utimes => Ok(files::set_two(frame, 1, 1000)),
        Action::Utime => Ok(files::set_seconds(frame)),
        Action::Stat
        | Action::Fstatat
        | Action::Statx
        | Action::TimerCreate
        | Action::TimerDelete
        | Action::TimerGettime
        | Action::TimerfdGettime
        | Action::Getitimer
        | Action::Sysinfo
        | Action::Times
        | Action::RtSigpending
        | Action::Getsockopt
        | Action::Refuse => Ok(Next::Call),
    }
}

/// Looks at the result of the call that the gate has made.
pub(crate) extern "C" fn finish(frame: &mut Frame) -> Next {
    if frame.result == AGAIN {
        return again(frame);
    }
    let result = frame.result;
    if frame.call[0] as u32 != frame.wait.original && is_refusal(result) && fall_back(frame) {
        return Next::Call;
    }
    frame.answer = result as u64;
    if frame.mask == Mask::KeepsOut {
        signals::deliver_pending();
    }
    let Some(action) = action(frame.number as u32) else { return Next::Return };
    if time_is_over(action, result) && frame.is_early() && is_whole(frame, action) {
        return again(frame);
    }
    match action {
        Action::ClockNanosleep | Action::Nanosleep if result == EINTR => remaining_sleep(frame),
        Action::Select | Action::Pselect6 | Action::Ppoll => write_back(frame, action),
        Action::Recvmmsg if result > 0 && frame.wait.kind == Kind::Relative => {
            let (sec, nsec) = frame.remaining(0);
            if user::write(frame.stack, frame.args.get(4), &[sec, nsec]).is_err() {
                frame.answer = FAULT as u64;
            }
        }
        Action::RtSigtimedwait => frame.answer = signals::after_sigtimedwait(frame, result) as u64,
        Action::TimerSettime if result == 0 && arming::is_moved_timer(frame) => {
            if frame.by_old_page() {
                timers::rearm_one(frame.args.get(0) as i32);
            }
            arming::rescale(frame.args.get(3), 4, Form::Timespec);
        }
        Action::TimerGettime if result == 0 && arming::is_moved_timer(frame) => arming::rescale(frame.args.get(1), 4, Form::Timespec),
        Action::TimerfdSettime if result == 0 => {
            if frame.by_old_page() {
                // The namespace changed between translating and arming: once more, from the caller's arguments.
                let again = arming::timerfd_settime(frame);
                // The old value is there already.
                frame.call[4] = 0;
                return again.unwrap_or(Next::Return);
            }
            arming::rescale(frame.args.get(3), 4, Form::Timespec);
        }
        Action::TimerfdGettime if result == 0 => arming::rescale(frame.args.get(1), 4, Form::Timespec),
        Action::Getitimer if result == 0 => arming::rescale(frame.args.get(1), 4, Form::Timeval),
        Action::Setitimer if result == 0 => {
            const ITIMER_REAL: u64 = 0;
            if frame.by_old_page() && frame.args.get(0) == ITIMER_REAL {
                timers::rearm_one(ALARM);
            }
            arming::rescale(frame.args.get(2), 4, Form::Timeval);
        }
        Action::Alarm if frame.call[0] as u32 != frame.wait.original => {
            if result == 0 {
                arming::after_alarm(frame);
                // Where the pace is still the one that has been noted, nothing is done.
                timers::rearm_one(ALARM);
            }
        }
        Action::Alarm => {
            let left_ns = (result * NSEC_PER_SEC).max(0);
            frame.answer = (wait_to_member(left_ns, pace()) as u64).div_ceil(NSEC_PER_SEC as u64);
        }
        Action::Getsockopt if result == 0 => after_getsockopt(frame),
        Action::TimerCreate if result == 0 => frame.answer = arming::after_timer_create(frame) as u64,
        Action::TimerDelete if result == 0 => state().remove_timer(frame.args.get(0) as i32),
        Action::Sysinfo if result == 0 => {
            let boottime_ns = member_now(ClockId::Boottime as i32);
            let uptime = (boottime_ns as u64).div_ceil(NSEC_PER_SEC as u64);
            user::rewrite(frame.args.get(0), &[uptime]);
        }
        Action::Times if result > 0 => {
            // A tick is a hundredth of a second.
            let monotonic = ClockId::Monotonic as i32;
            let moved = member_now(monotonic).wrapping_sub(now(monotonic));
            frame.answer = (result + moved / 10_000_000) as u64;
        }
        Action::Adjtimex | Action::ClockAdjtime if result >= 0 => setting::after_adjtimex(frame),
        Action::Stat if result == 0 => files::after_stat(frame, 1),
        Action::Fstatat if result == 0 => files::after_stat(frame, 2),
        Action::Statx if result == 0 => files::after_statx(frame),
        Action::RtSigpending if result == 0 => signals::after_sigpending(frame),
        _ => {}
    }
    Next::Return
}

/// Looks at the result of a wait that is not to be made once more.
pub(crate) fn finish_for_good(frame: &mut Frame, result: i64) {
    frame.result = result;
    if finish(frame) == Next::Call {
        frame.result = EINTR;
        finish(frame);
    }
}

/// Whether a wait's result says that its time is over.
const fn time_is_over(action: Action, result: i64) -> bool {
    use Action::*;
    match action {
        Futex | FutexWaitv | FutexWait | MqTimed => result == ETIMEDOUT,
        Semtimedop | RtSigtimedwait => result == EAGAIN,
        ClockNanosleep | Nanosleep | Select | Pselect6 | Poll | Ppoll | EpollWait | EpollPwait | EpollPwait2
        | IoGetevents | IoPgetevents => result == 0,
        _ => false,
    }
}

/// Translates a wait once more and makes it again.
pub(crate) fn again(frame: &mut Frame) -> Next {
    frame.aim();
    if frame.wait.kind == Kind::Untimed {
        return Next::Call;
    }
    if matches!(action(frame.number as u32), Some(Action::ClockNanosleep | Action::Nanosleep)) {
        // What remains of a sleep that has not begun.
        frame.scratch[2] = opaque(frame.scratch[0]);
        frame.scratch[3] = opaque(frame.scratch[1]);
    }
    if frame.wait.form == Form::Millis {
        let argument = if frame.number == SYS_POLL { 2 } else { 3 };
        frame.call[argument + 1] = frame.scratch[0];
    }
    Next::Call
}

#[inline(never)]
fn clock_gettime(frame: &mut Frame) -> Step {
    let (clock, time) = (RawClockId(frame.args.get(0) as i32), frame.args.get(1) as *mut Timespec);
    // SAFETY: the kernel checks the pointer before anything is written there, and a bad one is an error.
    let result = unsafe { read::clock_gettime(clock, time, host::sys_clock_gettime) };
    Err(i64::from(result))
}

#[inline(never)]
fn clock_getres(frame: &mut Frame) -> Step {
    let (clock, time) = (RawClockId(frame.args.get(0) as i32), frame.args.get(1) as *mut Timespec);
    // SAFETY: as in `clock_gettime`.
    let result = unsafe { read::clock_getres(clock, time, host::sys_clock_getres) };
    Err(i64::from(result))
}

/// Makes the caller's own call, here.
fn make(frame: &Frame) -> i64 {
    let args = [0, 1, 2, 3, 4, 5].map(|at| frame.args.get(at) as usize);
    // SAFETY: the caller's own call with the caller's own arguments.
    unsafe { syscall(frame.original() as i64, args) }
}

#[inline(never)]
fn gettimeofday(frame: &mut Frame) -> Step {
    // The kernel checks the pointers and fills in the time zone.
    let result = make(frame);
    if result == 0 && frame.args.get(0) != 0 {
        let now_ns = member_now(ClockId::Realtime as i32) as u64;
        let (sec, rest) = (now_ns / NSEC_PER_SEC as u64, now_ns % NSEC_PER_SEC as u64);
        user::rewrite(frame.args.get(0), &[sec, rest / 1000]);
    }
    Err(result)
}

#[inline(never)]
fn time(frame: &mut Frame) -> Step {
    let result = make(frame);
    if result < 0 {
        return Err(result);
    }
    // As of the last tick, as the kernel's.
    let sec = (member_now(ClockId::RealtimeCoarse as i32) as u64) / NSEC_PER_SEC as u64;
    if frame.args.get(0) != 0 {
        user::rewrite(frame.args.get(0), &[sec]);
    }
    Err(sec as i64)
}

/// A deadline on a clock, in one argument.
#[inline(never)]
fn until(frame: &mut Frame, argument: u8, clock: i32) -> Step {
    let mut time = [opaque(0); 2];
    // What cannot be read is the kernel's to refuse, in its turn.
    if user::read(frame.stack, frame.args.get(argument), &mut time).is_ok() {
        frame.narrow(&mut time);
        if frame.wait_until(clock, time[0], time[1]) {
            frame.point(argument);
        }
    }
    Ok(Next::Call)
}

/// A duration in one argument, if that is given.
#[inline(never)]
fn for_given(frame: &mut Frame, argument: u8, form: Form) -> Step {
    let address = frame.args.get(argument);
    if address == 0 {
        return Ok(Next::Call);
    }
    let mut time = [opaque(0); 2];
    if user::read(frame.stack, address, &mut time).is_ok() {
        if form == Form::Timespec || form == Form::Sum {
            frame.narrow(&mut time);
        }
        if frame.wait_for(form, time[0], time[1]) {
            frame.point(argument);
        }
    }
    Ok(Next::Call)
}

impl Frame {
    /// Whether the page has changed since the value of a timer was translated.
    fn by_old_page(&mut self) -> bool {
        let counter = u64::from(page().begin().counter());
        let before = core::mem::replace(&mut self.scratch[7], counter);
        before != counter
    }

    /// The caller's number, as it is.
    pub(crate) const fn original(&self) -> u64 {
        self.wait.original as u64
    }

    /// Whether the call is one of the x32 interface.
    #[cfg(target_arch = "x86_64")]
    pub(crate) const fn is_x32(&self) -> bool {
        self.wait.original & X32_BIT != 0
    }

    /// The number of a native call in the interface by which the caller makes its own.
    #[cfg(target_arch = "x86_64")]
    pub(crate) const fn by_own_interface(&self, number: u64) -> u64 {
        number | (self.wait.original & X32_BIT) as u64
    }

    /// There is one interface.
    #[cfg(target_arch = "aarch64")]
    pub(crate) const fn by_own_interface(&self, number: u64) -> u64 {
        number
    }

    /// Does to the nanoseconds of some times what the kernel does to those of x32 programs, which may have no more than a
    /// word of 32 bits for them.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn narrow(&self, times: &mut [u64]) {
        if self.is_x32() {
            for nsec in times.iter_mut().skip(1).step_by(2) {
                *nsec = opaque(*nsec & 0xffff_ffff);
            }
        }
    }

    /// There are no such programs.
    #[cfg(target_arch = "aarch64")]
    pub(crate) const fn narrow(&self, _times: &mut [u64]) {}

    /// Gives the kernel the translated time in place of an argument.
    pub(crate) fn point(&mut self, argument: u8) {
        let scratch = &raw const self.scratch;
        if let Some(place) = self.call.get_mut(usize::from(argument) + 1) {
            *place = scratch as u64;
        }
    }

    /// The address of a word of the scratch.
    pub(crate) fn scratch_address(&self, word: usize) -> u64 {
        &raw const self.scratch as u64 + 8 * word as u64
    }
}

/// A sleep for a duration; what remains goes to the scratch first.
#[inline(never)]
fn sleep_for(frame: &mut Frame, argument: u8, remaining: usize) -> Step {
    let step = for_given(frame, argument, Form::Timespec)?;
    if frame.wait.kind != Kind::Untimed && frame.args.get(remaining as u8) != 0 {
        let address = frame.scratch_address(2);
        if let Some(place) = frame.call.get_mut(remaining + 1) {
            *place = address;
        }
    }
    Ok(step)
}

/// What remains of an interrupted sleep.
#[inline(never)]
fn remaining_sleep(frame: &mut Frame) {
    let to = if frame.number == SYS_NANOSLEEP { frame.args.get(1) } else { frame.args.get(3) };
    if frame.wait.kind == Kind::Relative && to != 0 {
        let (sec, nsec) = frame.remaining(2);
        if user::write(frame.stack, to, &[sec, nsec]).is_err() {
            frame.answer = FAULT as u64;
        }
    }
}

#[inline(never)]
fn clock_nanosleep(frame: &mut Frame) -> Step {
    const TIMER_ABSTIME: u64 = 1;
    if frame.args.get(1) & TIMER_ABSTIME != 0 {
        let clock = frame.args.get(0) as i32;
        return until(frame, 2, clock);
    }
    if RawClockId(frame.args.get(0) as i32).place() >= TIMELINES {
        return Ok(Next::Call);
    }
    sleep_for(frame, 2, 3)
}

#[inline(never)]
fn futex(frame: &mut Frame) -> Step {
    const CLOCK_REALTIME: u64 = 0x100;
    let operation = frame.args.get(1);
    match operation & 0x7f {
        0 => for_given(frame, 3, Form::Timespec),
        6 => until(frame, 3, ClockId::Realtime as i32),
        _ if operation & CLOCK_REALTIME != 0 => until(frame, 3, ClockId::Realtime as i32),
        _ => until(frame, 3, ClockId::Monotonic as i32),
    }
}

/// `poll` and `epoll_wait`. At the host's pace they are made as they are, since a program that confines itself may
/// allow nothing else; at another their milliseconds are too coarse, and their successors are called.
#[inline(never)]
fn poll(frame: &mut Frame, successor: u64, argument: u8) -> Step {
    let timeout_ms = frame.args.get(argument) as i32;
    if timeout_ms <= 0 {
        return Ok(Next::Call);
    }
    let timeout_ms = timeout_ms as u64;
    if pace() == RATE_ONE {
        frame.wait_for(Form::Millis, timeout_ms, 0);
        frame.call[usize::from(argument) + 1] = frame.scratch[0];
        return Ok(Next::Call);
    }
    frame.wait_for(Form::Timespec, timeout_ms / 1000, timeout_ms % 1000 * 1_000_000);
    frame.point(argument);
    frame.call[0] = frame.by_own_interface(successor);
    if successor == SYS_PPOLL || frame.number != SYS_EPOLL_PWAIT {
        frame.call[usize::from(argument) + 2] = opaque(0);
        frame.call[usize::from(argument) + 3] = opaque(0);
    }
    Ok(Next::Call)
}

/// Words of the scratch that neither a time nor a mask needs: for the sets of `select`.
const SETS: [usize; 3] = [2, 3, 7];

/// The most descriptors whose sets are a word each.
const WORD_OF_DESCRIPTORS: u32 = 64;

/// `select` and `pselect6`. The kernel clears the sets when the time is over: small ones are kept, for a wait that has
/// to go on.
#[inline(never)]
fn select(frame: &mut Frame, form: Form) -> Step {
    let step = for_given(frame, 4, form)?;
    if frame.wait.kind == Kind::Relative && frame.args.get(0) as u32 <= WORD_OF_DESCRIPTORS {
        for (at, word) in SETS.into_iter().enumerate() {
            let (set, mut words) = (frame.args.get(at as u8 + 1), [opaque(0)]);
            if frame.args.get(0) as u32 != 0 && set != 0 {
                // What cannot be read is the kernel's to refuse.
                let _ = user::read(frame.stack, set, &mut words);
            }
            frame.scratch[word] = words[0];
        }
    }
    Ok(step)
}

/// Whether a call whose time is over can be made again as it was. The sets of `select` are put back for that.
#[inline(never)]
fn is_whole(frame: &Frame, action: Action) -> bool {
    if !matches!(action, Action::Select | Action::Pselect6) {
        return true;
    }
    if frame.args.get(0) as u32 > WORD_OF_DESCRIPTORS {
        return false;
    }
    for (at, word) in SETS.into_iter().enumerate() {
        let set = frame.args.get(at as u8 + 1);
        if frame.args.get(0) as u32 != 0 && set != 0 {
            user::rewrite(set, &[frame.scratch[word]]);
        }
    }
    true
}

/// Whether a call is not there, or a filter of the program's own does not let it through.
const fn is_refusal(result: i64) -> bool {
    const EACCES: i64 = -13;
    const ENOSYS: i64 = -38;
    result == ENOSYS || result == EPERM || result == EACCES
}

/// Makes the caller's own call after all, in the caller's coarser unit, rounded up. False for what has no such way.
#[inline(never)]
#[cfg_attr(target_arch = "aarch64", expect(unreachable_patterns, reason = "three of the calls do not exist there"))]
fn fall_back(frame: &mut Frame) -> bool {
    let argument = match frame.number {
        SYS_POLL => 2,
        SYS_EPOLL_WAIT | SYS_EPOLL_PWAIT => 3,
        SYS_ALARM => 0,
        _ => return false,
    };
    let mask = frame.call[5];
    for (at, place) in frame.call.iter_mut().skip(1).enumerate() {
        *place = frame.args.get(at as u8);
    }
    frame.call[0] = frame.original();
    if frame.number == SYS_ALARM {
        let value_ns = (u64::from(frame.args.get(0) as u32) * NSEC_PER_SEC as u64) as i64;
        frame.call[1] = (wait_to_host(value_ns, pace()) as u64).div_ceil(NSEC_PER_SEC as u64);
        return true;
    }
    if frame.number == SYS_EPOLL_PWAIT {
        frame.call[5] = mask;
    }
    let timeout_ms = frame.args.get(argument) as u32 as u64;
    frame.wait_for(Form::Millis, timeout_ms, 0);
    frame.call[usize::from(argument) + 1] = frame.scratch[0];
    true
}

#[inline(never)]
fn epoll_pwait(frame: &mut Frame) -> Step {
    signals::strip_mask(frame, 4, 5)?;
    poll(frame, SYS_EPOLL_PWAIT2, 3)
}

/// Writes what remains of a timeout to where the caller keeps it, as the kernel does; it does not mind either if
/// that cannot be written.
#[inline(never)]
fn write_back(frame: &mut Frame, action: Action) {
    let argument = if matches!(action, Action::Ppoll) { 2 } else { 4 };
    if frame.wait.kind == Kind::Relative {
        let (sec, fraction) = frame.remaining(0);
        let _ = user::write(frame.stack, frame.args.get(argument), &[sec, fraction]);
    }
}

#[inline(never)]
fn setsockopt(frame: &mut Frame) -> Step {
    // The length is an int.
    if frame.args.get(4) as u32 as i32 >= 16 {
        let mut time = [opaque(0); 2];
        if user::read(frame.stack, frame.args.get(3), &mut time).is_ok()
            && time[1] < 1_000_000
            && let Some(duration_ns) = Form::Timeval.to_ns(time[0], time[1])
        {
            let (sec, usec) = Form::Timeval.words(wait_to_host(duration_ns, pace()));
            frame.scratch[0] = sec;
            frame.scratch[1] = usec;
            frame.point(3);
        }
    }
    Ok(Next::Call)
}

#[inline(never)]
fn after_getsockopt(frame: &Frame) {
    if user::reread_int(frame.args.get(4)) >= 16 {
        arming::rescale(frame.args.get(3), 2, Form::Timeval);
    }
}
