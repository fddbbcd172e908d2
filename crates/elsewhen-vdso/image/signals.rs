//! `SIGSYS` belongs to the program, though the kernel must always be able to send it.
//!
//! A `SIGSYS` that is blocked or ignored when the filter catches a call kills the process. So it is kept out of
//! every mask that the kernel gets, its handler is always ours, and the program is shown what it asked for: its own
//! mask, its own action, a signal pending that it blocks. A `SIGSYS` that is none of ours goes to the program's own
//! handler.
//!
//! The handlers of signals 32 and 33, with which libcs cancel threads, are entered through ours as well, since they
//! decide by where the thread was interrupted, which must not be the gate.

use crate::dispatch::VSYSCALL;
use crate::gate::{self, Frame, Next, Registers};
use crate::host::{opaque, state, syscall};
use crate::state::{Boot, SigAction};
use crate::surface::{TRAP_MARK, WAKE_MARK};
use crate::user::{self, FAULT};
use core::sync::atomic::Ordering;

const SYS_RT_SIGACTION: i64 = 13;
const SYS_RT_SIGPROCMASK: i64 = 14;
const SYS_GETPID: i64 = 39;
const SYS_ARCH_PRCTL: i64 = 158;
const SYS_GETTID: i64 = 186;
const SYS_RT_TGSIGQUEUEINFO: i64 = 297;
const ARCH_GET_FS: usize = 0x1003;

const SIGSYS: u64 = 31;
/// The signals with which libcs cancel threads.
const CANCEL: [u64; 2] = [32, 33];
const SIG_DFL: u64 = 0;
const SIG_IGN: u64 = 1;
const SA_SIGINFO: u64 = 4;
const SA_RESTORER: u64 = 0x0400_0000;
const SA_ONSTACK: u64 = 0x0800_0000;
const SA_RESTART: u64 = 0x1000_0000;
const SA_NODEFER: u64 = 0x4000_0000;
const SA_RESETHAND: u64 = 0x8000_0000;
const EINTR: i64 = -4;

/// Bytes of a kernel `sigset_t`, and words of a `siginfo_t` and a `struct sigaction`.
const SET_SIZE: u64 = 8;
const INFO_WORDS: usize = 16;

const fn bit(signal: u64) -> u64 {
    1 << (signal - 1)
}

/// The default action.
fn blank() -> SigAction {
    SigAction { handler: opaque(SIG_DFL), flags: opaque(0), restorer: opaque(0), mask: opaque(0) }
}

/// What the kernel is told about `SIGSYS` for good. The cancelling signals wait until the handler is through, so
/// that none finds a thread on its way to the gate.
fn own_action() -> SigAction {
    SigAction {
        handler: gate::sigsys_handler(),
        flags: SA_SIGINFO | SA_RESTORER | SA_ONSTACK | SA_RESTART | SA_NODEFER,
        restorer: gate::restorer(),
        mask: bit(CANCEL[0]) | bit(CANCEL[1]),
    }
}

/// `rt_sigaction(2)`.
fn set_action(signal: u64, new: Option<&SigAction>, old: u64) -> i64 {
    let new = new.map_or(core::ptr::null(), core::ptr::from_ref);
    // SAFETY: the kernel reads an action of ours, and checks the caller's pointer.
    unsafe {
        syscall(SYS_RT_SIGACTION, [signal as usize, new.addr(), old as usize, SET_SIZE as usize, 0, 0])
    }
}

/// Takes over `SIGSYS` in a new member. Negative is an error number.
pub(crate) fn boot(boot: &Boot) -> i64 {
    let state = state();
    state.vdso_start.store(boot.vdso_start, Ordering::Relaxed);
    state.vdso_end.store(boot.vdso_end, Ordering::Relaxed);
    state.host_clock.store(boot.host_clock, Ordering::Relaxed);
    state.fsgsbase.store(boot.fsgsbase, Ordering::Relaxed);
    state.reach.store(boot.reach, Ordering::Relaxed);
    after_fork();
    let mut old = blank();
    let result = set_action(SIGSYS, Some(&own_action()), &raw mut old as u64);
    // Ignored signals stay ignored over an execution, and handlers do not stay.
    state.sigsys.store(&old);
    result
}

/// What identifies a thread: its FS base, which a forked child has too, or its id where there is none.
fn thread() -> u64 {
    let base: u64;
    if state().fsgsbase.load(Ordering::Relaxed) != 0 {
        // SAFETY: reads a register, on a machine whose kernel allows it.
        unsafe { core::arch::asm!("rdfsbase {}", out(reg) base, options(nomem, nostack, preserves_flags)) };
    } else {
        let mut read = 0u64;
        // SAFETY: the kernel writes one word, into ours.
        unsafe { syscall(SYS_ARCH_PRCTL, [ARCH_GET_FS, &raw mut read as usize, 0, 0, 0, 0]) };
        base = read;
    }
    if base != 0 {
        return base;
    }
    // SAFETY: takes no pointers.
    unsafe { syscall(SYS_GETTID, [0; 6]) as u64 | 1 << 63 }
}

fn process() -> u32 {
    // SAFETY: takes no pointers.
    unsafe { syscall(SYS_GETPID, [0; 6]) as u32 }
}

/// Settles a process that has just been forked, which has none of its parent's timers and pending signals.
pub(crate) fn after_fork() {
    let state = state();
    if state.wiped.owner.load(Ordering::Relaxed) == 0 {
        state.wiped.owner.store(process(), Ordering::Relaxed);
        state.remove_timers();
    }
}

/// Whether this is a child that still runs in its parent's memory: what it sets is its own, and not to be kept here.
fn is_guest() -> bool {
    after_fork();
    state().wiped.owner.load(Ordering::Relaxed) != process()
}

/// A signal's frame: from `ucontext_t` what is needed.
#[repr(C)]
pub(crate) struct Context {
    _flags_link_stack: [u64; 5],
    registers: Registers,
}

/// `siginfo_t`: what is common, and what `SIGSYS` and queued signals have.
#[repr(C)]
pub(crate) struct Info {
    _signal: i32,
    errno: i32,
    code: i32,
    _pad: i32,
    /// The address of a caught call, or the sender: process and user.
    address_or_sender: u64,
    /// The number of a caught call, in the low half; or the value of a queued signal.
    value: u64,
}

/// Handles `SIGSYS`. Returns the program's own handler where the signal is for that.
pub(crate) extern "C" fn on_sigsys(_signal: i32, info: &mut Info, context: &mut Context) -> u64 {
    const SYS_SECCOMP: i32 = 1;
    const SI_QUEUE: i32 = -1;
    let registers = &mut context.registers;
    if info.code == SYS_SECCOMP && info.errno == i32::from(TRAP_MARK) {
        // `VSYSCALL_ADDR` of `arch/x86/include/uapi/asm/vsyscall.h`; the kernel has returned from there already.
        let by_vsyscall = info.address_or_sender >> 12 == 0xffff_ffff_ff60_0000 >> 12;
        let number = u64::from(info.value as u32);
        gate::enter(registers, if by_vsyscall { number | VSYSCALL } else { number });
        return 0;
    }
    // A queue that is full loses what came with the signal, and nobody else sends from nowhere.
    let bare = info.code == 0 && info.address_or_sender == 0;
    if (info.code == SI_QUEUE && info.value == WAKE_MARK) || bare {
        gate::translate_again(registers);
        return 0;
    }
    foreign(info, registers, info.code == SYS_SECCOMP)
}

/// A `SIGSYS` that is the program's own.
#[inline(never)]
fn foreign(info: &Info, registers: &mut Registers, forced: bool) -> u64 {
    let state = state();
    if !forced && state.is_blocked(thread) {
        let mut words = [opaque(0); INFO_WORDS];
        user::reread(&raw const *info as u64, &mut words);
        after_fork();
        for (place, word) in state.wiped.info.iter().zip(&words) {
            place.store(*word, Ordering::Relaxed);
        }
        state.wiped.pending.store(1, Ordering::Release);
        // A blocked signal interrupts nothing, but a wait for it.
        gate::translate_again_unless_waited(registers);
        return 0;
    }
    let action = state.sigsys.load();
    match action.handler {
        SIG_IGN if !forced => 0,
        SIG_DFL | SIG_IGN => {
            set_action(SIGSYS, Some(&blank()), 0);
            requeue(info);
            0
        }
        handler => {
            if action.flags & SA_RESETHAND != 0 {
                state.sigsys.store(&blank());
            }
            let mask = action.mask & !bit(SIGSYS);
            if mask != 0 {
                // Undone by the kernel when the handler returns.
                // SAFETY: the kernel reads one word of ours.
                unsafe { syscall(SYS_RT_SIGPROCMASK, [0, &raw const mask as usize, 0, SET_SIZE as usize, 0, 0]) };
            }
            handler
        }
    }
}

/// Sends this thread a `SIGSYS` once more.
fn requeue(info: *const Info) {
    // SAFETY: takes no pointers.
    let thread = unsafe { syscall(SYS_GETTID, [0; 6]) } as usize;
    let process = process() as usize;
    // SAFETY: the kernel reads the whole of a `siginfo_t`.
    unsafe { syscall(SYS_RT_TGSIGQUEUEINFO, [process, thread, SIGSYS as usize, info.addr(), 0, 0]) };
}

/// Handles a cancelling signal. Returns the program's own handler.
pub(crate) extern "C" fn on_cancel(signal: i32, _info: &mut Info, context: &mut Context) -> u64 {
    // SAFETY: these are the registers of this thread, interrupted.
    unsafe { gate::leave(&mut context.registers) };
    state().cancel[usize::from(signal as u64 == CANCEL[1])].load().handler
}

/// `rt_sigprocmask(2)`.
#[inline(never)]
pub(crate) fn sigprocmask(frame: &mut Frame) -> Result<Next, i64> {
    const SIG_BLOCK: u64 = 0;
    const SIG_UNBLOCK: u64 = 1;
    const SIG_SETMASK: u64 = 2;
    let (how, new, old, size) = (frame.args.get(0), frame.args.get(1), frame.args.get(2), frame.args.get(3));
    if size != SET_SIZE {
        return Ok(Next::Call);
    }
    let mut set = [0];
    if new != 0 {
        user::read(new, &mut set).map_err(|_| FAULT)?;
    }
    let has = set[0] & bit(SIGSYS) != 0;
    let state = state();
    let was = state.is_blocked(thread);
    let will = match how as u32 as u64 {
        _ if new == 0 => was,
        SIG_BLOCK => was || has,
        SIG_UNBLOCK => was && !has,
        SIG_SETMASK => has,
        _ => return Ok(Next::Call),
    };
    frame.scratch[0] = set[0] & !bit(SIGSYS);
    let copy = if new == 0 { 0 } else { frame.scratch_address(0) };
    if will != was {
        state.set_blocked(thread(), will);
    }
    // SAFETY: the kernel reads a word of ours and checks the caller's pointer.
    let result =
        unsafe { syscall(SYS_RT_SIGPROCMASK, [how as usize, copy as usize, old as usize, SET_SIZE as usize, 0, 0]) };
    if was && old != 0 && result == 0 {
        user::reread(old, &mut set);
        user::rewrite(old, &[set[0] | bit(SIGSYS)]);
    }
    if was && !will && state.wiped.pending.swap(0, Ordering::Acquire) != 0 {
        let mut info = [opaque(0); INFO_WORDS];
        pending_info(&mut info);
        requeue(info.as_ptr().cast());
    }
    Err(result)
}

/// The `siginfo_t` of the pending signal.
fn pending_info(words: &mut [u64; INFO_WORDS]) {
    for (word, place) in words.iter_mut().zip(&state().wiped.info) {
        *word = place.load(Ordering::Relaxed);
    }
}

/// `rt_sigaction(2)`.
#[inline(never)]
pub(crate) fn sigaction(frame: &mut Frame) -> Result<Next, i64> {
    let (signal, new, old, size) = (frame.args.get(0) as u32 as u64, frame.args.get(1), frame.args.get(2), frame.args.get(3));
    if size != SET_SIZE || signal == 0 || signal > 64 {
        return Ok(Next::Call);
    }
    let mut action = blank();
    if new != 0 {
        let mut words = [opaque(0); 4];
        user::read(new, &mut words).map_err(|_| FAULT)?;
        action.handler = opaque(words[0]);
        action.flags = opaque(words[1]);
        action.restorer = opaque(words[2]);
        action.mask = opaque(words[3]);
    }
    if signal == SIGSYS {
        return Err(sigsys_action(new, &action, old));
    }
    let state = state();
    let place = CANCEL.iter().position(|cancel| *cancel == signal);
    let has = new != 0 && action.mask & bit(SIGSYS) != 0;
    let had = state.masked.load(Ordering::Relaxed) & bit(signal) != 0;
    let previous = place.map(|place| state.cancel[place].load().handler);
    action.mask &= !bit(SIGSYS);
    let changes = new != 0 && (has != had || place.is_some());
    let keep = changes && !is_guest();
    if let Some(place) = place
        && new != 0
        && action.handler > SIG_IGN
        && keep
    {
        state.cancel[place].store(&action);
        action.handler = gate::cancel_handler();
        action.flags |= SA_SIGINFO;
    }
    let result = set_action(signal, (new != 0).then_some(&action), old);
    if result != 0 {
        return Err(result);
    }
    if old != 0 {
        let mut words = [opaque(0); 4];
        user::reread(old, &mut words);
        if let Some(previous) = previous
            && words[0] == gate::cancel_handler()
        {
            words[0] = previous;
        }
        if had {
            words[3] |= bit(SIGSYS);
        }
        user::rewrite(old, &words);
    }
    if keep && has != had {
        state.masked.fetch_xor(bit(signal), Ordering::Relaxed);
    }
    Err(0)
}

/// What the program wants done on `SIGSYS` is remembered, never told to the kernel.
fn sigsys_action(new: u64, action: &SigAction, old: u64) -> i64 {
    let state = state();
    let previous = state.sigsys.load();
    if new != 0 && !is_guest() {
        state.sigsys.store(action);
        if action.handler == SIG_IGN {
            state.wiped.pending.store(0, Ordering::Relaxed);
        }
    }
    let words = [previous.handler, previous.flags, previous.restorer, previous.mask];
    if old != 0 && user::write(old, &words).is_err() { FAULT } else { 0 }
}

/// Takes `SIGSYS` out of a signal mask given for the time of a wait. What cannot be read is the kernel's to refuse.
#[inline(never)]
pub(crate) fn strip_mask(frame: &mut Frame, argument: u8, size: u8) {
    let (address, mut set) = (frame.args.get(argument), [opaque(0)]);
    if address == 0 || frame.args.get(size) != SET_SIZE || user::read(address, &mut set).is_err() {
        return;
    }
    frame.scratch[4] = set[0] & !bit(SIGSYS);
    let copy = frame.scratch_address(4);
    if let Some(place) = frame.call.get_mut(usize::from(argument) + 1) {
        *place = copy;
    }
}

/// As [`strip_mask`], where the last argument points to the mask's address and size.
#[inline(never)]
pub(crate) fn strip_pointed_mask(frame: &mut Frame) {
    let (address, mut pair, mut set) = (frame.args.get(5), [opaque(0); 2], [opaque(0)]);
    if address == 0 || user::read(address, &mut pair).is_err() {
        return;
    }
    if pair[0] == 0 || pair[1] != SET_SIZE || user::read(pair[0], &mut set).is_err() {
        return;
    }
    frame.scratch[4] = set[0] & !bit(SIGSYS);
    frame.scratch[5] = frame.scratch_address(4);
    frame.scratch[6] = SET_SIZE;
    frame.call[6] = frame.scratch_address(5);
}

/// `rt_sigtimedwait(2)`: a `SIGSYS` comes from where it is kept, not from the kernel.
#[inline(never)]
pub(crate) fn sigtimedwait(frame: &mut Frame) -> Result<(), i64> {
    if frame.args.get(3) != SET_SIZE {
        return Ok(());
    }
    let mut set = [0];
    user::read(frame.args.get(0), &mut set).map_err(|_| FAULT)?;
    if set[0] & bit(SIGSYS) == 0 {
        return Ok(());
    }
    if let Some(result) = take_pending(frame) {
        return Err(result);
    }
    frame.scratch[4] = set[0] & !bit(SIGSYS);
    frame.call[1] = frame.scratch_address(4);
    Ok(())
}

/// What `rt_sigtimedwait` returns, given what the kernel did.
#[inline(never)]
pub(crate) fn after_sigtimedwait(frame: &mut Frame, result: i64) -> i64 {
    if result == EINTR && frame.call[1] == frame.scratch_address(4) {
        return take_pending(frame).unwrap_or(result);
    }
    result
}

fn take_pending(frame: &Frame) -> Option<i64> {
    if state().wiped.pending.swap(0, Ordering::Acquire) == 0 {
        return None;
    }
    let mut info = [opaque(0); INFO_WORDS];
    pending_info(&mut info);
    if frame.args.get(1) != 0 && user::write(frame.args.get(1), &info).is_err() {
        return Some(FAULT);
    }
    Some(SIGSYS as i64)
}

/// After `rt_sigpending(2)`: shows a `SIGSYS` that the program blocks.
#[inline(never)]
pub(crate) fn after_sigpending(frame: &Frame) {
    let state = state();
    if state.wiped.pending.load(Ordering::Relaxed) != 0 && state.is_blocked(thread) && frame.args.get(1) == SET_SIZE {
        let mut set = [0];
        user::reread(frame.args.get(0), &mut set);
        user::rewrite(frame.args.get(0), &[set[0] | bit(SIGSYS)]);
    }
}
