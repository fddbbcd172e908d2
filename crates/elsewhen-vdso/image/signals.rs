//! `SIGSYS` belongs to the program, though the kernel must always be able to send it.
//!
//! A `SIGSYS` that is blocked or ignored when the filter catches a call kills the process. So it is kept out of
//! every mask that the kernel gets, its handler is always ours, and the program is shown what it asked for: its own
//! mask, its own action, a signal pending that it blocks. A `SIGSYS` that is none of ours goes to the program's own
//! handler.
//!
//! The handlers of signals 32 and 33, with which libcs cancel threads, are entered through ours as well, since they
//! decide by where the thread was interrupted, which must not be the gate.

use crate::numbers;
#[cfg(target_arch = "aarch64")]
use crate::gate::{Context, Frame as Room};
#[cfg(target_arch = "x86_64")]
use crate::dispatch::VSYSCALL;
use crate::gate::{self, Frame, Mask, Next, Registers};
#[cfg(target_arch = "x86_64")]
use crate::gate32::{self, Wait32 as Room};
#[cfg(target_arch = "x86_64")]
use crate::handle32;
use crate::host::{in_image, opaque, state, syscall};
#[cfg(target_arch = "x86_64")]
use crate::calls32::{self, ActionCall};
#[cfg(target_arch = "x86_64")]
use crate::state::ABI_X32;
use crate::state::{Boot, SigAction};
#[cfg(target_arch = "x86_64")]
use crate::surface::native_of;
use crate::surface::{TRAP_MARK, WAIT_IS_OVER, WAKE_MARK, WAKE_TIMERS_MARK};
use crate::user::{self, FAULT};
use core::sync::atomic::Ordering;



pub(crate) const SIGSYS: u64 = 31;
/// The signals with which libcs cancel threads.
pub(crate) const CANCEL: [u64; 2] = [32, 33];
const SIG_DFL: u64 = 0;
pub(crate) const SIG_IGN: u64 = 1;
pub(crate) const SA_SIGINFO: u64 = 4;
const SA_RESTORER: u64 = 0x0400_0000;
const SA_ONSTACK: u64 = 0x0800_0000;
const SA_RESTART: u64 = 0x1000_0000;
const SA_NODEFER: u64 = 0x4000_0000;
const SA_RESETHAND: u64 = 0x8000_0000;
/// `UAPI_SA_FLAGS` of `include/linux/signal_types.h`, with `SA_RESTORER`.
pub(crate) const SA_KNOWN: u64 = 0xdc00_0c07;
pub(crate) const SIGKILL: u64 = 9;
pub(crate) const SIGSTOP: u64 = 19;
const EINTR: i64 = -4;

const EINVAL: i64 = -22;
const SIG_BLOCK: u64 = 0;
const SIG_UNBLOCK: u64 = 1;
const SIG_SETMASK: u64 = 2;

/// `si_code` of a `SIGSYS` by which a filter says that it has caught a call.
const SYS_SECCOMP: i32 = 1;

/// Bytes of a kernel `sigset_t`, and words of a `siginfo_t` and a `struct sigaction`.
pub(crate) const SET_SIZE: u64 = 8;
const INFO_WORDS: usize = 16;

pub(crate) const fn bit(signal: u64) -> u64 {
    1 << (signal - 1)
}

/// The default action.
pub(crate) fn blank() -> SigAction {
    SigAction { handler: opaque(SIG_DFL), flags: opaque(0), restorer: opaque(0), mask: opaque(0) }
}

/// What the kernel is told about `SIGSYS` for good. Every other signal waits until the handler is through: its own
/// handler might make a call that is caught, which kills while `SIGSYS` is blocked.
fn own_action() -> SigAction {
    SigAction {
        handler: gate::sigsys_handler(),
        flags: SA_SIGINFO | SA_RESTORER | SA_ONSTACK | SA_RESTART,
        restorer: gate::restorer(),
        mask: opaque(u64::MAX),
    }
}

/// `rt_sigaction(2)`.
fn set_action(signal: u64, new: Option<&SigAction>, old: u64) -> i64 {
    let new = new.map_or(core::ptr::null(), core::ptr::from_ref);
    // SAFETY: the kernel reads an action of ours, and checks the caller's pointer.
    unsafe {
        syscall(numbers::RT_SIGACTION, [signal as usize, new.addr(), old as usize, SET_SIZE as usize, 0, 0])
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
    state.belongs.store(boot.belongs, Ordering::Relaxed);
    state.filtered.store(boot.filtered, Ordering::Relaxed);
    state.abi.store(boot.abi, Ordering::Relaxed);
    state.vdso_calls.store(boot.vdso_calls, Ordering::Relaxed);
    after_fork();
    let mut old = blank();
    let result = set_action(SIGSYS, Some(&own_action()), &raw mut old as u64);
    // Ignored signals stay ignored over an execution, and handlers do not stay.
    state.sigsys.store(&old);
    result
}

/// Takes over `SIGSYS` in a running process, whose state says already how it does at the start of one. Masks of handlers
/// lose `SIGSYS`, which would kill while they run. Negative is an error number.
#[cfg(target_arch = "x86_64")]
#[inline(never)]
pub(crate) fn take_over() -> i64 {
    after_fork();
    let mut old = blank();
    let result = set_action(SIGSYS, Some(&own_action()), &raw mut old as u64);
    if result < 0 {
        return result;
    }
    let state = state();
    state.sigsys.store(&old);
    for signal in 1..=64 {
        let mut action = blank();
        if signal == SIGSYS || set_action(signal, None, &raw mut action as u64) < 0 || action.handler <= SIG_IGN {
            continue;
        }
        let place = CANCEL.iter().position(|cancel| *cancel == signal);
        let has = action.mask & bit(SIGSYS) != 0;
        if !has && place.is_none() {
            continue;
        }
        action.mask &= !bit(SIGSYS);
        if let Some(place) = place {
            state.cancel[place].store(&action);
            action.handler = gate::cancel_handler();
            action.flags |= SA_SIGINFO;
        }
        if has {
            state.masked.fetch_or(bit(signal), Ordering::Relaxed);
        }
        set_action(signal, Some(&action), 0);
    }
    0
}

/// Undoes [`take_over`].
#[cfg(target_arch = "x86_64")]
#[inline(never)]
pub(crate) fn give_back() {
    let state = state();
    for signal in 1..=64 {
        let place = CANCEL.iter().position(|cancel| *cancel == signal);
        let had = state.masked.load(Ordering::Relaxed) & bit(signal) != 0;
        let mut action = blank();
        if signal == SIGSYS || (!had && place.is_none()) || set_action(signal, None, &raw mut action as u64) < 0 {
            continue;
        }
        if let Some(place) = place {
            if action.handler != gate::cancel_handler() {
                continue;
            }
            action = state.cancel[place].load();
        }
        if had {
            action.mask |= bit(SIGSYS);
        }
        set_action(signal, Some(&action), 0);
    }
    state.masked.store(0, Ordering::Relaxed);
    let action = state.sigsys.load();
    set_action(SIGSYS, Some(&action), 0);
}

/// What identifies a thread: its FS base, or its GS base where it is a 32-bit one, which a forked child has too; its id
/// where there is neither.
#[cfg(target_arch = "x86_64")]
fn thread() -> u64 {
    const SYS_ARCH_PRCTL: i64 = 158;
    const ARCH_GET_FS: usize = 0x1003;
    const ARCH_GET_GS: usize = 0x1004;
    let (mut base, mut other): (u64, u64);
    if state().fsgsbase.load(Ordering::Relaxed) != 0 {
        // SAFETY: reads registers, on a machine whose kernel allows it.
        unsafe {
            core::arch::asm!("rdfsbase {}", "rdgsbase {}", out(reg) base, out(reg) other,
                options(nomem, nostack, preserves_flags));
        }
    } else {
        (base, other) = (opaque(0), opaque(0));
        // SAFETY: the kernel writes one word, into ours.
        unsafe { syscall(SYS_ARCH_PRCTL, [ARCH_GET_FS, &raw mut base as usize, 0, 0, 0, 0]) };
        // SAFETY: as above.
        unsafe { syscall(SYS_ARCH_PRCTL, [ARCH_GET_GS, &raw mut other as usize, 0, 0, 0, 0]) };
    }
    if base | other != 0 {
        return if base != 0 { base } else { other };
    }
    thread_id()
}

/// What identifies a thread: its `TPIDR_EL0`, which a forked child has too; its id where that is not set.
#[cfg(target_arch = "aarch64")]
fn thread() -> u64 {
    let base: u64;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mrs {}, tpidr_el0", out(reg) base, options(nomem, nostack, preserves_flags)) };
    if base != 0 { base } else { thread_id() }
}

/// A thread's id, as no address is.
fn thread_id() -> u64 {
    // SAFETY: takes no pointers.
    unsafe { syscall(numbers::GETTID, [0; 6]) as u64 | 1 << 63 }
}

fn process() -> u32 {
    // SAFETY: takes no pointers.
    unsafe { syscall(numbers::GETPID, [0; 6]) as u32 }
}

/// Settles a process that has just been forked, which has none of its parent's timers and pending signals.
pub(crate) fn after_fork() {
    let state = state();
    if state.wiped.owner.load(Ordering::Relaxed) == 0 {
        state.wiped.owner.store(process(), Ordering::Relaxed);
        state.remove_timers();
    }
}

/// Settles a process that is about to confine itself, after which it may not be allowed to ask who it is.
pub(crate) fn confine() {
    after_fork();
    if !is_guest() {
        state().wiped.confined.store(1, Ordering::Relaxed);
    }
}

/// Whether this is a child that still runs in its parent's memory: what it sets is its own, and not to be kept here.
pub(crate) fn is_guest() -> bool {
    if state().wiped.confined.load(Ordering::Relaxed) != 0 {
        return false;
    }
    after_fork();
    state().wiped.owner.load(Ordering::Relaxed) != process()
}

/// A signal's frame: from `ucontext_t` what is needed.
#[cfg(target_arch = "x86_64")]
#[repr(C)]
pub(crate) struct Context {
    _flags_link: [u64; 2],
    /// Of the alternate stack: where it begins, `SS_*` in the low half, and its size.
    alternate_start: u64,
    alternate_flags: u64,
    alternate_size: u64,
    pub(crate) registers: Registers,
    _rest: [u64; 13],
    /// The signals blocked when the handler was entered.
    blocked: u64,
}

impl Context {
    /// Whether the handler runs on an alternate stack, and the thread was on another.
    pub(crate) fn is_elsewhere(&self) -> bool {
        const SS_DISABLE: u64 = 2;
        // As the kernel counts (`__on_sig_stack`): the stack grows down from its end.
        let depth = self.registers.stack().wrapping_sub(self.alternate_start);
        let inside = depth != 0 && depth <= self.alternate_size;
        self.alternate_size != 0 && self.alternate_flags & SS_DISABLE == 0 && !inside
    }

    /// Where the alternate stack ends, and begins to be used.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn alternate_end(&self) -> u64 {
        self.alternate_start.wrapping_add(self.alternate_size)
    }
}

impl Info {
    /// Whether it says that a filter has caught a call.
    pub(crate) fn is_of_a_call(&self) -> bool {
        self.code == SYS_SECCOMP
    }
}

// `struct ucontext` of `arch/x86/include/uapi/asm/sigcontext.h` and `include/uapi/asm-generic/ucontext.h`.
#[cfg(target_arch = "x86_64")]
const _: () = assert!(core::mem::offset_of!(Context, registers) == 40 && core::mem::offset_of!(Context, blocked) == 296);

/// `siginfo_t`: what is common, and what `SIGSYS` and queued signals have.
#[repr(C)]
pub(crate) struct Info {
    _signal: i32,
    errno: i32,
    code: i32,
    _pad: i32,
    /// The address of a caught call, or the sender: process and user.
    address_or_sender: u64,
    /// The number of a caught call, in the low half, and its `AUDIT_ARCH_*`; or the value of a queued signal.
    value: u64,
}

/// How much less than in a 64-bit program's there is before the registers in an x32 program's `ucontext_t`.
#[cfg(target_arch = "x86_64")]
const X32_LESS: usize = 16;

/// What the handler's entry does next.
#[repr(C)]
pub(crate) struct Forward {
    /// The program's own handler to call, or 0.
    handler: u64,
    /// Whether `SIGSYS` is to be let in again after it.
    unblock: u64,
}

impl Forward {
    const NOTHING: Self = Self { handler: 0, unblock: 0 };
}

/// Handles `SIGSYS`.
///
/// `room` stays untouched until the thread goes on. On x86 it is there where 32-bit code was interrupted.
pub(crate) extern "C" fn on_sigsys(_signal: i32, info: &mut Info, context: &mut Context, room: *mut Room) -> Forward {
    const SI_QUEUE: i32 = -1;
    const SI_TKILL: i32 = -6;
    if info.is_of_a_call() && info.errno == i32::from(TRAP_MARK) {
        catch(info, context, room);
        return Forward::NOTHING;
    }
    // Where a signal of ours or of the program was waiting already, the kernel drops the one of the call.
    if info.is_of_a_call() {
        // A filter of the program's own has caught the gate's call: to the program, its own.
        if let Some(address) = gate::disown(&mut context.registers) {
            info.address_or_sender = address;
        }
    } else if matches!(info.code, SI_TKILL | SI_QUEUE) {
        // Only signals sent to the thread share a queue with that of the call.
        catch_lost(context, room);
    }
    #[cfg(target_arch = "x86_64")]
    let detour = Detour::of(context, room);
    let (registers, blocked) = (&mut context.registers, &mut context.blocked);
    // A queue that is full loses what came with the signal, and nobody else sends from nowhere.
    let bare = info.code == 0 && info.address_or_sender == 0;
    let queued = info.code == SI_QUEUE;
    if (queued && info.value == WAKE_TIMERS_MARK) || bare {
        crate::timers::rearm();
    }
    if (queued && (info.value == WAKE_MARK || info.value == WAKE_TIMERS_MARK)) || bare {
        // A signal for the program that came at the same time ends the wait, as it would alone.
        gate::translate_again(registers, || is_to_be_interrupted(*blocked));
        return Forward::NOTHING;
    }
    foreign(
        info,
        registers,
        blocked,
        #[cfg(target_arch = "x86_64")]
        detour,
    )
}

/// Where a handler of the program's that is 32-bit code is called.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Detour {
    stack: u64,
    /// What stays untouched until the thread goes on.
    pub(crate) room: *mut Room,
}

#[cfg(target_arch = "x86_64")]
impl Detour {
    fn of(context: &Context, room: *mut Room) -> Self {
        Self { stack: context.handler_stack(), room }
    }
}

/// Translates a call that the filter has caught.
#[cfg(target_arch = "x86_64")]
fn catch(info: &Info, context: &mut Context, room: *mut Room) {
    const ENOSYS: i64 = -38;
    const AUDIT_ARCH_I386: u32 = 0x4000_0003;
    let (elsewhere, detour) = (context.is_elsewhere(), Detour::of(context, room));
    let (registers, blocked) = (&mut context.registers, &mut context.blocked);
    let number = info.value as u32;
    if registers.is_32_bit() {
        gate32::catch(registers, blocked, number, detour);
        return;
    }
    // Nobody translates what a 64-bit program calls by the 32-bit interface.
    if (info.value >> 32) as u32 == AUDIT_ARCH_I386 || (number == WAIT_IS_OVER && !in_image(info.address_or_sender)) {
        registers.set_result(ENOSYS);
        return;
    }
    // `VSYSCALL_ADDR` of `arch/x86/include/uapi/asm/vsyscall.h`; the kernel has returned from there already.
    let by_vsyscall = info.address_or_sender >> 12 == 0xffff_ffff_ff60_0000 >> 12;
    let number = if by_vsyscall { u64::from(number) | VSYSCALL } else { u64::from(number) };
    catch_number(registers, blocked, number, elsewhere);
}

/// Translates a call that the filter has caught, but of which the kernel could not say so.
#[cfg(target_arch = "x86_64")]
fn catch_lost(context: &mut Context, _room: *mut Room) {
    let elsewhere = context.is_elsewhere();
    let (registers, blocked) = (&mut context.registers, &mut context.blocked);
    if registers.is_32_bit() {
        // It is made, and caught, once more.
        if gate32::lost_call(registers) {
            registers.rip -= 2;
        }
    } else if let Some(number) = gate::lost_call(registers) {
        catch_number(registers, blocked, number, elsewhere);
    }
}

/// Translates a call that the filter has caught.
#[cfg(target_arch = "aarch64")]
fn catch(info: &Info, context: &mut Context, room: *mut Room) {
    const ENOSYS: i64 = -38;
    let number = info.value as u32;
    if number == WAIT_IS_OVER && !in_image(info.address_or_sender) {
        context.registers.set_result(ENOSYS);
        return;
    }
    gate::catch(context, number, room);
}

/// Translates a call that the filter has caught, but of which the kernel could not say so.
#[cfg(target_arch = "aarch64")]
fn catch_lost(context: &mut Context, room: *mut Room) {
    if let Some(number) = gate::lost_call(context) {
        gate::catch(context, number, room);
    }
}

/// Translates a caught call of a thread with that mask.
#[cfg(target_arch = "x86_64")]
fn catch_number(registers: &mut Registers, blocked: &mut u64, number: u64, elsewhere: bool) {
    let native = i64::from(native_of(number as u32));
    if elsewhere && native == numbers::RT_SIGPROCMASK {
        // The kernel gives the thread the mask in the frame when the handler returns.
        gate::answer_by_handler(registers, number, |frame| sigprocmask_of(frame, blocked));
    } else if number == u64::from(WAIT_IS_OVER) {
        gate::leave_by_handler(registers);
    } else if elsewhere && state().wiped.pending.load(Ordering::Relaxed) == 0 && number & VSYSCALL == 0 {
        let set = registers.rdi;
        gate::enter_by_handler(registers, number);
        if native == numbers::RT_SIGPENDING && registers.rax == 0 {
            hide_unblocked(set, *blocked);
        }
    } else {
        gate::enter(registers, number);
    }
}

/// A `SIGSYS` that is the program's own.
#[inline(never)]
fn foreign(
    info: &Info,
    registers: &mut Registers,
    masked: &mut u64,
    #[cfg(target_arch = "x86_64")] detour: Detour,
) -> Forward {
    let (state, forced) = (state(), info.is_of_a_call());
    let blocked = match gate::mask(registers) {
        Mask::Silent => state.is_blocked(thread),
        Mask::LetsIn => false,
        Mask::KeepsOut => true,
    };
    if !forced && blocked {
        after_fork();
        // As of the kernel's standard signals, the first stays.
        if state.wiped.pending.load(Ordering::Relaxed) == 0 {
            let mut words = [opaque(0); INFO_WORDS];
            user::reread(&raw const *info as u64, &mut words);
            for (place, word) in state.wiped.info.iter().zip(&words) {
                place.store(*word, Ordering::Relaxed);
            }
            state.wiped.pending.store(1, Ordering::Release);
        }
        // A blocked signal interrupts nothing, but a wait for it.
        gate::translate_again_unless_waited(registers);
        return Forward::NOTHING;
    }
    let action = state.sigsys.load();
    // A forced signal that is blocked kills.
    let handler = if forced && blocked { SIG_DFL } else { action.handler };
    match handler {
        SIG_IGN if !forced => {
            gate::translate_again(registers, || false);
            Forward::NOTHING
        }
        SIG_DFL | SIG_IGN => {
            set_action(SIGSYS, Some(&blank()), 0);
            requeue(info);
            Forward::NOTHING
        }
        handler => {
            if action.flags & SA_RESETHAND != 0 {
                state.sigsys.forget_handler();
            }
            let defers = action.flags & SA_NODEFER == 0 || action.mask & bit(SIGSYS) != 0;
            let blocks = defers && !state.is_blocked(thread);
            if blocks {
                state.set_blocked(thread(), true);
            }
            let during = (*masked | action.mask) & !bit(SIGSYS);
            #[cfg(target_arch = "x86_64")]
            if registers.is_32_bit() {
                let Detour { stack, room } = detour;
                handle32::call(info, registers, *masked, handle32::Call { handler, stack, unblocks: blocks }, room);
                *masked = during;
                return Forward::NOTHING;
            }
            // What the program wants blocked, and not what ours does; undone by the kernel when the handler returns.
            set_mask(during);
            Forward { handler: opaque(handler), unblock: opaque(u64::from(blocks)) }
        }
    }
}

/// After the program's own handler has returned.
pub(crate) extern "C" fn after_sigsys(unblock: u64) {
    if unblock != 0 {
        // What is pending comes when the kernel gives the thread's mask back, and not on top of this.
        set_mask(u64::MAX);
        state().set_blocked(thread(), false);
        deliver_pending();
    }
}

/// After the program's own handler, 32-bit code, has returned: what the kernel is to give the thread.
#[cfg(target_arch = "x86_64")]
pub(crate) fn after_handler_32(registers: &mut Registers, blocked: &mut u64) {
    let (mask, unblocks) = handle32::return_from(registers);
    *blocked = mask & !(bit(SIGSYS) | bit(SIGKILL) | bit(SIGSTOP));
    if unblocks {
        state().set_blocked(thread(), false);
        deliver_pending();
    }
}

/// Delivers a pending `SIGSYS` that a wait of a 32-bit program has let in: to the program's handler, which is called before
/// the wait returns, and with `SIGSYS` blocked as it was.
#[cfg(target_arch = "x86_64")]
pub(crate) fn let_in(registers: &mut Registers, blocked: &mut u64, detour: Detour) {
    if state().wiped.pending.swap(0, Ordering::Acquire) == 0 {
        return;
    }
    let mut words = [opaque(0); INFO_WORDS];
    pending_info(&mut words);
    let action = state().sigsys.load();
    match action.handler {
        SIG_IGN => {}
        SIG_DFL => {
            set_action(SIGSYS, Some(&blank()), 0);
            requeue(words.as_ptr().cast());
        }
        handler => {
            if action.flags & SA_RESETHAND != 0 {
                state().sigsys.forget_handler();
            }
            let call = handle32::Call { handler, stack: detour.stack, unblocks: false };
            // SAFETY: as many words as a `siginfo_t` has.
            handle32::call(unsafe { &*words.as_ptr().cast() }, registers, *blocked, call, detour.room);
            *blocked = (*blocked | action.mask) & !bit(SIGSYS);
        }
    }
}

/// Sets the kernel's mask of this thread.
fn set_mask(mask: u64) {
    let mask = opaque(mask);
    // SAFETY: the kernel reads one word of ours.
    unsafe { syscall(numbers::RT_SIGPROCMASK, [SIG_SETMASK as usize, &raw const mask as usize, 0, SET_SIZE as usize, 0, 0]) };
}

/// Sends this thread the `SIGSYS` that is pending, if it does not block that.
#[inline(never)]
pub(crate) fn deliver_pending() {
    let state = state();
    if state.wiped.pending.load(Ordering::Relaxed) != 0 && !state.is_blocked(thread) {
        send_pending();
    }
}

/// Sends this thread the `SIGSYS` that is pending, if another has not taken it.
pub(crate) fn send_pending() {
    let state = state();
    if state.wiped.pending.swap(0, Ordering::Acquire) != 0 {
        let mut info = [opaque(0); INFO_WORDS];
        pending_info(&mut info);
        requeue(info.as_ptr().cast());
    }
}

/// Whether a signal is pending for this thread, which has that mask, that the program handles.
///
/// What is pending for the process comes to its first thread, if that lets it; others are not asked.
fn is_to_be_interrupted(blocked: u64) -> bool {
    // SAFETY: takes no pointers.
    if unsafe { syscall(numbers::GETTID, [0; 6]) } as u32 != process() {
        return false;
    }
    let mut pending = opaque(0);
    // SAFETY: the kernel writes one word, into ours.
    unsafe { syscall(numbers::RT_SIGPENDING, [&raw mut pending as usize, SET_SIZE as usize, 0, 0, 0, 0]) };
    let mut left = pending & !blocked & !bit(SIGSYS);
    while left != 0 {
        let signal = u64::from(left.trailing_zeros()) + 1;
        left &= left - 1;
        let mut action = blank();
        set_action(signal, None, &raw mut action as u64);
        if action.handler > SIG_IGN {
            return true;
        }
    }
    false
}

/// Sends this thread a `SIGSYS` once more.
fn requeue(info: *const Info) {
    // SAFETY: takes no pointers.
    let thread = unsafe { syscall(numbers::GETTID, [0; 6]) } as usize;
    let process = process() as usize;
    // SAFETY: the kernel reads the whole of a `siginfo_t`.
    unsafe { syscall(numbers::RT_TGSIGQUEUEINFO, [process, thread, SIGSYS as usize, info.addr(), 0, 0]) };
}

/// Handles a cancelling signal. Returns the program's own handler.
pub(crate) extern "C" fn on_cancel(signal: i32, _info: &mut Info, context: *mut Context) -> u64 {
    // What the registers are behind takes less in the frame of an x32 program, by which this is found all the same.
    #[cfg(target_arch = "x86_64")]
    let context = if state().abi.load(Ordering::Relaxed) == ABI_X32 {
        context.wrapping_byte_sub(X32_LESS)
    } else {
        context
    };
    // SAFETY: the frame of the kernel's, in which there are registers at that place.
    let registers = unsafe { &mut (*context).registers };
    // SAFETY: these are the registers of this thread, interrupted.
    unsafe { gate::leave(registers) };
    state().cancel[usize::from(signal as u64 == CANCEL[1])].load().handler
}

/// `rt_sigprocmask(2)`.
#[inline(never)]
pub(crate) fn sigprocmask(frame: &mut Frame) -> Result<Next, i64> {
    let (how, new, old, size) = (frame.args.get(0), frame.args.get(1), frame.args.get(2), frame.args.get(3));
    if size != SET_SIZE {
        return Ok(Next::Call);
    }
    let mut set = [0];
    if new != 0 {
        user::read(frame.stack, new, &mut set).map_err(|_| FAULT)?;
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
    let changes = will != was && !is_guest();
    if changes {
        state.set_blocked(thread(), will);
    }
    // SAFETY: the kernel reads a word of ours and checks the caller's pointer.
    let result =
        unsafe { syscall(numbers::RT_SIGPROCMASK, [how as usize, copy as usize, old as usize, SET_SIZE as usize, 0, 0]) };
    if was && old != 0 && result == 0 {
        user::reread(old, &mut set);
        user::rewrite(old, &[set[0] | bit(SIGSYS)]);
    }
    if changes && was {
        deliver_pending();
    }
    Err(result)
}

/// `rt_sigprocmask(2)` on the mask in a signal's frame.
#[inline(never)]
pub(crate) fn sigprocmask_of(frame: &Frame, mask: &mut u64) -> i64 {
    let (how, new, old, size) = (frame.args.get(0), frame.args.get(1), frame.args.get(2), frame.args.get(3));
    if size != SET_SIZE {
        return EINVAL;
    }
    let mut set = [opaque(0)];
    if new != 0 && user::read(frame.stack, new, &mut set).is_err() {
        return FAULT;
    }
    let was = state().is_blocked(thread);
    let before = *mask | if was { bit(SIGSYS) } else { 0 };
    let after = match how as u32 as u64 {
        _ if new == 0 => before,
        SIG_BLOCK => before | set[0],
        SIG_UNBLOCK => before & !set[0],
        SIG_SETMASK => set[0],
        _ => return EINVAL,
    };
    *mask = after & !(bit(SIGSYS) | bit(SIGKILL) | bit(SIGSTOP));
    let will = after & bit(SIGSYS) != 0;
    if will != was && !is_guest() {
        state().set_blocked(thread(), will);
        deliver_pending();
    }
    if old != 0 && user::write(frame.stack, old, &[before]).is_err() { FAULT } else { 0 }
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
    #[cfg(target_arch = "x86_64")]
    if frame.is_x32() {
        // By the interface of the call the kernel knows which frame the handler gets.
        let (call, number) = (ActionCall { stack: frame.stack, signal, new, old }, frame.original() as i64);
        return Err(calls32::set_action(&call, gate::cancel_handler(), |new, old| {
            // SAFETY: the kernel reads one action and writes one, both ours.
            unsafe { syscall(number, [signal as usize, new, old, SET_SIZE as usize, 0, 0]) }
        }));
    }
    let mut action = blank();
    if new != 0 {
        let mut words = [opaque(0); 4];
        user::read(frame.stack, new, &mut words).map_err(|_| FAULT)?;
        action.handler = opaque(words[0]);
        // What the kernel keeps of flags and mask.
        action.flags = opaque(words[1] & SA_KNOWN);
        action.restorer = opaque(words[2]);
        action.mask = opaque(words[3] & !(bit(SIGKILL) | bit(SIGSTOP)));
    }
    if signal == SIGSYS {
        return Err(sigsys_action(frame.stack, new, &action, old));
    }
    let state = state();
    let place = CANCEL.iter().position(|cancel| *cancel == signal);
    let has = new != 0 && action.mask & bit(SIGSYS) != 0;
    let had = state.masked.load(Ordering::Relaxed) & bit(signal) != 0;
    let previous = place.map(|place| {
        let action = state.cancel[place].load();
        (action.handler, action.flags)
    });
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
            words[0] = previous.0;
            words[1] = previous.1;
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
pub(crate) fn sigsys_action(stack: u64, new: u64, action: &SigAction, old: u64) -> i64 {
    let previous = state().sigsys.load();
    if new != 0 {
        keep_sigsys(action);
    }
    let words = [previous.handler, previous.flags, previous.restorer, previous.mask];
    if old != 0 && user::write(stack, old, &words).is_err() { FAULT } else { 0 }
}

/// Remembers what the program wants done on `SIGSYS`.
pub(crate) fn keep_sigsys(action: &SigAction) {
    if !is_guest() {
        state().sigsys.store(action);
        if action.handler == SIG_IGN {
            state().wiped.pending.store(0, Ordering::Relaxed);
        }
    }
}

/// Takes `SIGSYS` out of a signal mask given for the time of a wait. What cannot be read is the kernel's to refuse. An
/// error is what the call returns at once.
#[inline(never)]
pub(crate) fn strip_mask(frame: &mut Frame, argument: u8, size: u8) -> Result<(), i64> {
    let (address, mut set) = (frame.args.get(argument), [opaque(0)]);
    if address == 0 || frame.args.get(size) != SET_SIZE || user::read(frame.stack, address, &mut set).is_err() {
        return Ok(());
    }
    let copy = frame.scratch_address(4);
    if let Some(place) = frame.call.get_mut(usize::from(argument) + 1) {
        *place = copy;
    }
    strip(frame, set[0])
}

/// As [`strip_mask`], where the last argument points to the mask's address and size.
#[inline(never)]
pub(crate) fn strip_pointed_mask(frame: &mut Frame) -> Result<(), i64> {
    let (address, mut pair, mut set) = (frame.args.get(5), [opaque(0); 2], [opaque(0)]);
    if address == 0 || user::read(frame.stack, address, &mut pair).is_err() {
        return Ok(());
    }
    if pair[0] == 0 || pair[1] != SET_SIZE || user::read(frame.stack, pair[0], &mut set).is_err() {
        return Ok(());
    }
    frame.scratch[5] = frame.scratch_address(4);
    frame.scratch[6] = SET_SIZE;
    frame.call[6] = frame.scratch_address(5);
    strip(frame, set[0])
}

fn strip(frame: &mut Frame, set: u64) -> Result<(), i64> {
    frame.scratch[4] = set & !bit(SIGSYS);
    if set & bit(SIGSYS) != 0 {
        frame.mask = Mask::KeepsOut;
        return Ok(());
    }
    frame.mask = Mask::LetsIn;
    let state = state();
    if state.wiped.pending.load(Ordering::Relaxed) != 0 && state.is_blocked(thread) {
        if frame.is_by_handler() {
            // All signals are blocked here; see `let_in`.
            return Err(EINTR);
        }
        let thread = thread();
        state.set_blocked(thread, false);
        deliver_pending();
        state.set_blocked(thread, true);
        return Err(EINTR);
    }
    Ok(())
}

/// `rt_sigtimedwait(2)`: a `SIGSYS` comes from where it is kept, not from the kernel.
#[inline(never)]
pub(crate) fn sigtimedwait(frame: &mut Frame) -> Result<(), i64> {
    if frame.args.get(3) != SET_SIZE {
        return Ok(());
    }
    let mut set = [0];
    user::read(frame.stack, frame.args.get(0), &mut set).map_err(|_| FAULT)?;
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
    #[cfg(target_arch = "x86_64")]
    if frame.is_x32() && frame.args.get(1) != 0 {
        return Some(calls32::write_info(frame.stack, frame.args.get(1)).err().unwrap_or(SIGSYS as i64));
    }
    let mut info = [opaque(0); INFO_WORDS];
    pending_info(&mut info);
    if frame.args.get(1) != 0 && user::write(frame.stack, frame.args.get(1), &info).is_err() {
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

/// Takes out of a set of pending signals those that only the handler blocks.
pub(crate) fn hide_unblocked(address: u64, blocked: u64) {
    let mut set = [opaque(0)];
    user::reread(address, &mut set);
    user::rewrite(address, &[set[0] & (blocked | bit(SIGSYS))]);
}
