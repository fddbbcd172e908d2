//! Calls that set or discipline the clock: the supervisor answers them, for the namespace.

use crate::clock::ClockId;
use crate::dispatch::Step;
use crate::gate::{Frame, Next};
use crate::host::{opaque, state, syscall};
use crate::numbers;
use crate::surface::{ASK, Reach, WORD_ADJUST_CLOCK, WORD_SET_CLOCK};
use crate::transform::NSEC_PER_SEC;
use crate::user::{self, FAULT};
use crate::wait::{Form, member_now};
use core::sync::atomic::Ordering;

const EPERM: i64 = -1;
const EINVAL: i64 = -22;

/// Asks the supervisor for something; the answer is an error number or what the call returns.
pub(crate) fn ask(word: u64, address: u64) -> i64 {
    const ENOSYS: i64 = -38;
    // SAFETY: the filter announces the call; the kernel never makes it.
    let result = unsafe { syscall(ASK.0.into(), [ASK.1 as usize, word as usize, address as usize, 0, 0, 0]) };
    // Nobody answers: nobody can set the clock any more.
    if result == ENOSYS { EPERM } else { result }
}

/// Sets REALTIME: the namespace's, never the host's.
#[inline(never)]
pub(crate) fn clock_settime(frame: &mut Frame) -> Step {
    let mut time = [opaque(0); 2];
    user::read(frame.stack, frame.args.get(1), &mut time).map_err(|_| FAULT)?;
    set_clock(frame, Form::Timespec.to_ns(time[0], time[1]))
}

/// As [`clock_settime`]; the checks are in the kernel's order. A time zone cannot be had: it is the machine's.
#[inline(never)]
pub(crate) fn settimeofday(frame: &mut Frame) -> Step {
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
pub(crate) fn adjtimex(frame: &mut Frame, argument: u8) -> Step {
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
pub(crate) fn after_adjtimex(frame: &Frame) {
    const STATUS: u64 = 40;
    const TIME: u64 = 72;
    const STA_NANO: u64 = 0x2000;
    let address = frame.args.get(if frame.number == numbers::ADJTIMEX as u64 { 0 } else { 1 });
    let (mut status, now_ns) = ([opaque(0)], member_now(ClockId::Realtime as i32) as u64);
    user::reread(address + STATUS, &mut status);
    let (sec, rest) = (now_ns / NSEC_PER_SEC as u64, now_ns % NSEC_PER_SEC as u64);
    user::rewrite(address + TIME, &[sec, if status[0] & STA_NANO != 0 { rest } else { rest / 1000 }]);
}
