//! What becomes of a call that the filter caught: by the surface table, from the caller's arguments to the kernel's
//! and from the kernel's results to the caller's.
//!
//! [`begin`] either answers the call itself, or prepares one for the gate to make; [`finish`] looks at what that
//! returned. Only the second kind can wait. Whatever the kernel would refuse is left to it, with the caller's own
//! arguments, so that the caller gets the kernel's own error.

use crate::clock::{ClockId, RawClockId, TIMELINES};
use crate::confine;
use crate::files;
use crate::gate::{AGAIN, Frame, Mask, Next};
use crate::host::{self, Timespec, now, opaque, state, syscall};
use crate::read::{self, page};
use crate::signals;
use crate::state::ALARM;
use crate::surface::{Action, Reach, WORD_ADJUST_CLOCK, WORD_CONFINED, WORD_SET_CLOCK, action, catches};
use crate::timers::{self, Armed};
use crate::transform::{NSEC_PER_SEC, RATE_ONE, wait_to_host, wait_to_member};
use crate::user::{self, FAULT};
use crate::wait::{Form, Kind, member_now, pace, pace_of, to_host};
use core::sync::atomic::Ordering;

const SYS_POLL: u64 = 7;
const SYS_PPOLL: u64 = 271;
const SYS_ALARM: u64 = 37;
const SYS_EPOLL_WAIT: u64 = 232;
const SYS_EPOLL_PWAIT: u64 = 281;
const SYS_EPOLL_PWAIT2: u64 = 441;
const SYS_SETITIMER: u64 = 38;
const SYS_TIMER_DELETE: i64 = 226;
const SYS_ARCH_PRCTL: i64 = 158;
const ARCH_SET_FS: usize = 0x1002;
const SYS_PRCTL: u64 = 157;
const PR_SET_SYSCALL_USER_DISPATCH: u64 = 59;

const EPERM: i64 = -1;
const EINTR: i64 = -4;
const EAGAIN: i64 = -11;
const EINVAL: i64 = -22;
const ETIMEDOUT: i64 = -110;

/// Set in a number that came from the vsyscall page, which does not return errors.
pub(crate) const VSYSCALL: u64 = 1 << 63;

/// How far a wait has come that one call in the gate carries out.
type Step = Result<Next, i64>;

/// Translates a call whose frame the gate has made.
pub(crate) extern "C" fn begin(frame: &mut Frame) -> Next {
    frame.stack = frame.stack_above();
    begin_filled(frame)
}

/// Translates a call. Its own call is in place; what an action does not change is made as it is.
pub(crate) fn begin_filled(frame: &mut Frame) -> Next {
    let by_vsyscall = frame.rax & VSYSCALL != 0;
    frame.rax &= !VSYSCALL;
    frame.number = frame.rax;
    frame.call[0] = frame.rax;
    for (at, place) in frame.call.iter_mut().skip(1).enumerate() {
        *place = frame.args.get(at as u8);
    }
    frame.wait.kind = Kind::Untimed;
    frame.mask = Mask::Silent;
    signals::after_fork();
    let state = state();
    let from_host_vdso = frame.return_address > state.vdso_start.load(Ordering::Relaxed)
        && frame.return_address < state.vdso_end.load(Ordering::Relaxed);
    // Calls of the C library come here unfiltered.
    let (number, reach) = (frame.rax as u32, Reach::from_bits(state.reach.load(Ordering::Relaxed)));
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
            frame.rax = result as u64;
            Next::Return
        }
    }
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

fn translate(frame: &mut Frame, action: Action) -> Step {
    match action {
        Action::ClockGettime => clock_gettime(frame),
        Action::Gettimeofday => gettimeofday(frame),
        Action::Time => time(frame),
        Action::ClockGetres => clock_getres(frame),
        Action::ClockSettime => clock_settime(frame),
        Action::Settimeofday => settimeofday(frame),
        Action::ClockNanosleep => clock_nanosleep(frame),
        Action::Nanosleep => sleep_for(frame, 0, 1),
        Action::Futex => futex(frame),
        Action::FutexWaitv => until(frame, 3, frame.args.get(4) as i32),
        Action::FutexWait => until(frame, 4, frame.args.get(5) as i32),
        Action::MqTimed => until(frame, 4, ClockId::Realtime as i32),
        Action::TimerSettime => timer_settime(frame),
        Action::TimerfdSettime => timerfd_settime(frame),
        Action::Setitimer => setitimer(frame),
        Action::Alarm => alarm(frame),
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
        Action::Adjtimex => adjtimex(frame, 0),
        Action::ClockAdjtime => adjtimex(frame, 1),
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
                ask(WORD_CONFINED, 0);
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
    if frame.call[0] != frame.number && is_refusal(result) && fall_back(frame) {
        return Next::Call;
    }
    frame.rax = result as u64;
    if frame.mask == Mask::KeepsOut {
        signals::deliver_pending();
    }
    let Some(action) = action(frame.number as u32) else { return Next::Return };
    match action {
        Action::ClockNanosleep | Action::Nanosleep if frame.wait.kind != Kind::Untimed => {
            if result == 0 && frame.is_early() {
                return again(frame);
            }
            if result == EINTR {
                remaining_sleep(frame);
            }
        }
        Action::Futex | Action::FutexWaitv | Action::FutexWait | Action::MqTimed => {
            if result == ETIMEDOUT && frame.is_early() {
                return again(frame);
            }
        }
        Action::Select | Action::Pselect6 => {
            if result == 0 && frame.wait.kind == Kind::Relative && has_sets_again(frame) {
                return again(frame);
            }
            write_back(frame, action);
        }
        Action::Ppoll => {
            if result == 0 && frame.is_early() {
                return again(frame);
            }
            write_back(frame, action);
        }
        Action::Poll
        | Action::EpollWait
        | Action::EpollPwait
        | Action::EpollPwait2
        | Action::IoGetevents
        | Action::IoPgetevents => {
            if result == 0 && frame.is_early() {
                return again(frame);
            }
        }
        Action::Semtimedop => {
            if result == EAGAIN && frame.is_early() {
                return again(frame);
            }
        }
        Action::Recvmmsg if result > 0 && frame.wait.kind == Kind::Relative => {
            let (sec, nsec) = frame.remaining(0);
            if user::write(frame.stack, frame.args.get(4), &[sec, nsec]).is_err() {
                frame.rax = FAULT as u64;
            }
        }
        Action::RtSigtimedwait => {
            if result == EAGAIN && frame.is_early() {
                return again(frame);
            }
            frame.rax = signals::after_sigtimedwait(frame, result) as u64;
        }
        Action::TimerSettime if result == 0 && is_moved_timer(frame) => rescale(frame.args.get(3), 4, Form::Timespec),
        Action::TimerGettime if result == 0 && is_moved_timer(frame) => rescale(frame.args.get(1), 4, Form::Timespec),
        Action::TimerfdSettime if result == 0 => {
            if frame.by_old_page() {
                // The namespace changed between translating and arming: once more, from the caller's arguments.
                let again = timerfd_settime(frame);
                // The old value is there already.
                frame.call[4] = 0;
                return again.unwrap_or(Next::Return);
            }
            rescale(frame.args.get(3), 4, Form::Timespec);
        }
        Action::TimerfdGettime if result == 0 => rescale(frame.args.get(1), 4, Form::Timespec),
        Action::Getitimer if result == 0 => rescale(frame.args.get(1), 4, Form::Timeval),
        Action::Setitimer if result == 0 => rescale(frame.args.get(2), 4, Form::Timeval),
        Action::Alarm if frame.call[0] == SYS_SETITIMER => {
            if result == 0 {
                after_alarm(frame);
            }
        }
        Action::Alarm => {
            let left_ns = (result * NSEC_PER_SEC).max(0);
            frame.rax = (wait_to_member(left_ns, pace()) as u64).div_ceil(NSEC_PER_SEC as u64);
        }
        Action::Getsockopt if result == 0 => after_getsockopt(frame),
        Action::TimerCreate if result == 0 => frame.rax = after_timer_create(frame) as u64,
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
            frame.rax = (result + moved / 10_000_000) as u64;
        }
        Action::Adjtimex | Action::ClockAdjtime if result >= 0 => after_adjtimex(frame),
        Action::Stat if result == 0 => files::after_stat(frame, 1),
        Action::Fstatat if result == 0 => files::after_stat(frame, 2),
        Action::Statx if result == 0 => files::after_statx(frame),
        Action::RtSigpending if result == 0 => signals::after_sigpending(frame),
        _ => {}
    }
    Next::Return
}

/// Translates a wait once more and makes it again.
fn again(frame: &mut Frame) -> Next {
    frame.aim();
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
    unsafe { syscall(frame.rax as i64, args) }
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
    if user::read(frame.stack, frame.args.get(argument), &mut time).is_ok() && frame.wait_until(clock, time[0], time[1]) {
        frame.point(argument);
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
    if user::read(frame.stack, address, &mut time).is_ok() && frame.wait_for(form, time[0], time[1]) {
        frame.point(argument);
    }
    Ok(Next::Call)
}

impl Frame {
    /// Whether the page has changed since a timer descriptor was translated.
    fn by_old_page(&mut self) -> bool {
        let counter = u64::from(page().begin().counter());
        let before = core::mem::replace(&mut self.scratch[7], counter);
        before != counter
    }

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
    let to = if frame.number == 35 { frame.args.get(1) } else { frame.args.get(3) };
    if frame.wait.kind == Kind::Relative && to != 0 {
        let (sec, nsec) = frame.remaining(2);
        if user::write(frame.stack, to, &[sec, nsec]).is_err() {
            frame.rax = FAULT as u64;
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
    frame.call[0] = successor;
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

/// Whether a `select` was over too early and can be made again, with its sets as they were.
#[inline(never)]
fn has_sets_again(frame: &Frame) -> bool {
    if frame.args.get(0) as u32 > WORD_OF_DESCRIPTORS || !frame.is_early() {
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
    frame.call[0] = frame.number;
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
fn is_moved_timer(frame: &Frame) -> bool {
    let clock = state().timer_clock(frame.args.get(0) as i32);
    clock.is_some_and(|clock| RawClockId(clock).place() < TIMELINES)
}

#[inline(never)]
fn timer_settime(frame: &mut Frame) -> Step {
    let id = frame.args.get(0) as i32;
    arm(frame, || state().timer_clock(id), |armed| timers::note(id, armed))
}

#[inline(never)]
fn timerfd_settime(frame: &mut Frame) -> Step {
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
    arm(frame, || crate::timerfd::clock(fd), note)
}

/// After `timer_create`: remembers the clock. Without a place for it the timer is given up.
#[inline(never)]
fn after_timer_create(frame: &Frame) -> i64 {
    let id = user::reread_int(frame.args.get(2));
    signals::after_fork();
    if state().add_timer(id, frame.args.get(0) as i32) {
        return 0;
    }
    // SAFETY: deletes the timer that has just been made; takes no pointers.
    unsafe { syscall(SYS_TIMER_DELETE, [id as usize, 0, 0, 0, 0, 0]) };
    EAGAIN
}

/// Scales what the kernel wrote about a timer, in pairs of words, back to the member's pace.
#[inline(never)]
fn rescale(address: u64, words: usize, form: Form) {
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
fn setitimer(frame: &mut Frame) -> Step {
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
fn alarm(frame: &mut Frame) -> Step {
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
    frame.call[0] = SYS_SETITIMER;
    frame.call[1] = 0;
    frame.call[2] = frame.scratch_address(0);
    frame.call[3] = frame.scratch_address(4);
    Ok(Next::Call)
}

/// What remained of an alarm, in seconds, never 0 where something did.
#[inline(never)]
fn after_alarm(frame: &mut Frame) {
    let old_ns = Form::Timeval.to_ns(frame.scratch[6], frame.scratch[7]).unwrap_or(0);
    let old_ns = wait_to_member(old_ns, pace()) as u64;
    let (sec, rest) = (old_ns / NSEC_PER_SEC as u64, old_ns % NSEC_PER_SEC as u64);
    frame.rax = sec + u64::from((sec == 0 && rest > 0) || rest >= NSEC_PER_SEC as u64 / 2);
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
        rescale(frame.args.get(3), 2, Form::Timeval);
    }
}

/// Asks the supervisor for something; the answer is an error number or what the call returns.
fn ask(word: u64, address: u64) -> i64 {
    const ENOSYS: i64 = -38;
    // SAFETY: the filter announces the call; the kernel never makes it.
    let result = unsafe { syscall(SYS_ARCH_PRCTL, [ARCH_SET_FS, word as usize, address as usize, 0, 0, 0]) };
    // Nobody answers: nobody can set the clock any more.
    if result == ENOSYS { EPERM } else { result }
}

/// Sets REALTIME: the namespace's, never the host's.
#[inline(never)]
fn clock_settime(frame: &mut Frame) -> Step {
    let mut time = [opaque(0); 2];
    user::read(frame.stack, frame.args.get(1), &mut time).map_err(|_| FAULT)?;
    set_clock(frame, Form::Timespec.to_ns(time[0], time[1]))
}

/// As [`clock_settime`]; the checks are in the kernel's order. A time zone cannot be had: it is the machine's.
#[inline(never)]
fn settimeofday(frame: &mut Frame) -> Step {
    const FARTHEST_MINUTES: i32 = 15 * 60;
    let (address, zone) = (frame.args.get(0), frame.args.get(1));
    let mut time = [opaque(0); 2];
    if address != 0 {
        user::read(frame.stack, address, &mut time).map_err(|_| FAULT)?;
        if time[1] >= 1_000_000 {
            return Err(EINVAL);
        }
    }
    let mut minutes = [opaque(0)];
    if zone != 0 {
        user::read(frame.stack, zone, &mut minutes).map_err(|_| FAULT)?;
    }
    let ns = if time[1] < 1_000_000 { Form::Timeval.to_ns(time[0], time[1]) } else { None };
    if address != 0 && ns.is_none() {
        return Err(EINVAL);
    }
    if zone != 0 {
        let allowed = ask(WORD_SET_CLOCK, 0);
        let minutes = minutes[0] as u32 as i32;
        return Err(match allowed {
            0 if minutes > FARTHEST_MINUTES || minutes < -FARTHEST_MINUTES => EINVAL,
            _ => EPERM,
        });
    }
    if address == 0 {
        return Err(ask(WORD_SET_CLOCK, 0));
    }
    set_clock(frame, ns)
}

fn set_clock(frame: &mut Frame, ns: Option<i64>) -> Step {
    let Some(ns) = ns else { return Err(EINVAL) };
    frame.scratch[0] = ns as u64;
    Err(ask(WORD_SET_CLOCK, frame.scratch_address(0)))
}

/// `struct timex` in an argument: reads are the kernel's with the member's time, the rest is the supervisor's.
#[inline(never)]
fn adjtimex(frame: &mut Frame, argument: u8) -> Step {
    const ADJ_OFFSET_SS_READ: u32 = 0xa001;
    let address = frame.args.get(argument);
    let mut modes = [0];
    user::read(frame.stack, address, &mut modes).map_err(|_| FAULT)?;
    let modes = modes[0] as u32;
    let reach = Reach::from_bits(state().reach.load(Ordering::Relaxed));
    if !reach.settable && (modes == 0 || modes == ADJ_OFFSET_SS_READ) {
        return Ok(Next::Call);
    }
    // The supervisor writes without asking whether that is allowed.
    const LAST: u64 = 200;
    let mut last = [opaque(0)];
    user::read(frame.stack, address + LAST, &mut last).map_err(|_| FAULT)?;
    let mut first = [opaque(0)];
    user::reread(address, &mut first);
    user::write(frame.stack, address, &first).map_err(|_| FAULT)?;
    user::write(frame.stack, address + LAST, &last).map_err(|_| FAULT)?;
    Err(ask(WORD_ADJUST_CLOCK, address))
}

#[inline(never)]
fn after_adjtimex(frame: &Frame) {
    const STATUS: u64 = 40;
    const TIME: u64 = 72;
    const STA_NANO: u64 = 0x2000;
    let address = frame.args.get(if frame.number == 159 { 0 } else { 1 });
    let (mut status, now_ns) = ([opaque(0)], member_now(ClockId::Realtime as i32) as u64);
    user::reread(address + STATUS, &mut status);
    let (sec, rest) = (now_ns / NSEC_PER_SEC as u64, now_ns % NSEC_PER_SEC as u64);
    user::rewrite(address + TIME, &[sec, if status[0] & STA_NANO != 0 { rest } else { rest / 1000 }]);
}
