//! The gate on arm64: where a thread waits in place of a system call that the filter caught.
//!
//! A system call keeps every register but x0 there, so that only the return from a handler can bring a thread back to behind
//! its call as if that had been made. Hence the handler of `SIGSYS` translates, and answers most calls. A wait is made by the
//! few instructions here, in the thread itself, so that it is interrupted, restarted or left by `longjmp` as any is; a call
//! that the filter catches there then leads back to the handler. The registers that these instructions use are kept in a
//! [`Frame`] at the stack pointer; all others stay the caller's.

use crate::dispatch;
pub(crate) use crate::dispatch::{AGAIN, Mask, Next};
use crate::host::{in_image, opaque, state, symbol, syscall};
use crate::numbers;
use crate::signals;
use crate::state::frame;
use crate::surface::{Action, Reach, WAIT_IS_OVER, action, catches};
use crate::user;
use crate::wait::Wait;
use core::arch::global_asm;
use core::mem::{MaybeUninit, offset_of, size_of};
use core::sync::atomic::Ordering;

const EINTR: i64 = -4;

/// A call, and what the dispatcher needs on the way.
#[repr(C, align(16))]
pub(crate) struct Frame {
    /// Translated copies of the caller's structures.
    pub(crate) scratch: [u64; 8],
    /// Number and arguments of the call to make.
    pub(crate) call: [u64; 7],
    /// What it returned.
    pub(crate) result: i64,
    /// The caller's number, as a native one.
    pub(crate) number: u64,
    /// The caller's stack pointer.
    pub(crate) stack: u64,
    /// What a signal mask given for the time of the wait says about `SIGSYS`.
    pub(crate) mask: Mask,
    _reserved: u32,
    /// Of a wait, in the dispatcher's hands.
    pub(crate) wait: Wait,
    /// The caller's arguments.
    pub(crate) args: Arguments,
    /// The caller's number; in the end, what the caller finds in place of its first argument.
    pub(crate) answer: u64,
    /// The caller's x8, of which the kernel takes the lower half for the number.
    x8: u64,
    /// Right behind the caller's `svc` instruction.
    pub(crate) return_address: u64,
}

/// A call's six arguments.
#[derive(Clone, Copy)]
pub(crate) struct Arguments([u64; 6]);

impl Arguments {
    /// An argument, counted from 0.
    #[inline(always)]
    pub(crate) fn get(&self, index: u8) -> u64 {
        self.0.get(usize::from(index)).map_or(0, |argument| *argument)
    }
}

global_asm!(
    ".pushsection .text.elsewhen_gate, \"ax\", @progbits",
    ".balign 64",
    ".globl elsewhen_gate, elsewhen_gate_over, elsewhen_sigsys, elsewhen_restorer, elsewhen_cancel",
    ".type elsewhen_gate, @function",
    ".type elsewhen_gate_over, @function",
    ".type elsewhen_sigsys, @function",
    ".type elsewhen_restorer, @function",
    ".type elsewhen_cancel, @function",
    "elsewhen_gate:",
    "svc #0",
    "elsewhen_gate_made:",
    "mov x8, {wait_is_over}",
    "svc #0",
    "elsewhen_gate_over:",
    "brk #1",
    ".size elsewhen_gate, . - elsewhen_gate",
    // The handler of SIGSYS. The program's own handler, where the signal is for that, is called with what the kernel
    // gave; what was blocked meanwhile is put right after it. There is room that stays untouched until the kernel has given
    // the thread its registers back, since it may wait there afterwards.
    ".balign 16",
    "elsewhen_sigsys:",
    "stp x29, x30, [sp, #-64]!",
    "mov x29, sp",
    "stp x0, x1, [sp, #16]",
    "str x2, [sp, #32]",
    "sub sp, sp, {room}",
    "mov x3, sp",
    "bl {on_sigsys}",
    "mov x9, x0",
    "str x1, [x29, #40]",
    "ldp x0, x1, [x29, #16]",
    "ldr x2, [x29, #32]",
    "cbz x9, 2f",
    "blr x9",
    "ldr x0, [x29, #40]",
    "bl {after_sigsys}",
    "2:",
    "mov sp, x29",
    "ldp x29, x30, [sp], #64",
    "ret",
    ".size elsewhen_sigsys, . - elsewhen_sigsys",
    // The handler of the signals that cancel threads: they look at where the thread was.
    ".balign 16",
    "elsewhen_cancel:",
    "stp x29, x30, [sp, #-48]!",
    "mov x29, sp",
    "stp x0, x1, [sp, #16]",
    "str x2, [sp, #32]",
    "bl {on_cancel}",
    "mov x16, x0",
    "ldp x0, x1, [sp, #16]",
    "ldr x2, [sp, #32]",
    "ldp x29, x30, [sp], #48",
    "br x16",
    ".size elsewhen_cancel, . - elsewhen_cancel",
    // Unwinders know a signal's frame by exactly these instructions.
    ".balign 16",
    "elsewhen_restorer:",
    "mov x8, {rt_sigreturn}",
    "svc #0",
    ".size elsewhen_restorer, . - elsewhen_restorer",
    ".popsection",
    wait_is_over = const WAIT_IS_OVER,
    room = const size_of::<Frame>(),
    rt_sigreturn = const numbers::RT_SIGRETURN,
    on_sigsys = sym signals::on_sigsys,
    after_sigsys = sym signals::after_sigsys,
    on_cancel = sym signals::on_cancel,
);

/// The handler of `SIGSYS`, for the kernel.
pub(crate) fn sigsys_handler() -> u64 {
    symbol!("elsewhen_sigsys") as u64
}

/// The handler of cancelling signals.
pub(crate) fn cancel_handler() -> u64 {
    symbol!("elsewhen_cancel") as u64
}

/// The way back from a handler.
pub(crate) fn restorer() -> u64 {
    symbol!("elsewhen_restorer") as u64
}

/// How far behind the beginning of the way back from a handler the kernel sees the call.
pub(crate) const RESTORER_LEN: u64 = 8;

/// Of a thread in the gate: before its call.
fn at_call() -> u64 {
    symbol!("elsewhen_gate") as u64
}

/// Behind its call.
fn at_made() -> u64 {
    symbol!("elsewhen_gate_made") as u64
}

/// Behind the call that leads back to the handler.
fn at_over() -> u64 {
    symbol!("elsewhen_gate_over") as u64
}

/// The registers that the kernel saved in a signal's frame: those of `struct sigcontext`.
#[repr(C)]
pub(crate) struct Registers {
    x: [u64; 31],
    sp: u64,
    pc: u64,
    _pstate: u64,
}

impl Registers {
    /// The result of a call that is over.
    pub(crate) const fn set_result(&mut self, result: i64) {
        self.x[0] = result as u64;
    }

    /// The thread's stack pointer.
    pub(crate) const fn stack(&self) -> u64 {
        self.sp
    }

    /// An argument of the call, counted from 0.
    fn argument(&self, index: u8) -> u64 {
        self.x.get(usize::from(index)).map_or(0, |register| *register)
    }
}

/// A signal's frame: from `ucontext_t` what is needed.
#[repr(C)]
pub(crate) struct Context {
    _flags_link: [u64; 2],
    /// Of the alternate stack: where it begins, `SS_*` in the low half, and its size.
    pub(crate) alternate_start: u64,
    pub(crate) alternate_flags: u64,
    pub(crate) alternate_size: u64,
    /// The signals blocked when the handler was entered.
    pub(crate) blocked: u64,
    /// Left free by the kernel, which neither reads nor writes it.
    free: [u64; 16],
    _fault_address: u64,
    pub(crate) registers: Registers,
}

// `struct ucontext` and `struct sigcontext` of `arch/arm64/include/uapi/asm/`.
const _: () = assert!(offset_of!(Context, blocked) == 40 && offset_of!(Context, registers) == 184);

impl Context {
    /// What tells a thread behind a call that the handler has answered from one whose call has been lost, but for a call that
    /// is made over and over and returns what its first argument is. No other register is gone by: a call that was not
    /// caught, with a result that looks like such an argument, is in other ones.
    fn note(&self) -> [u64; 4] {
        const ANSWERED: u64 = 0xe15e_0001_616e_7377;
        [opaque(ANSWERED), self.registers.pc, self.registers.sp, self.registers.x[0]]
    }

    /// Notes that a call has been answered. A signal that arrives when the handler returns finds its frame in the very same
    /// place.
    fn set_note(&mut self) {
        let note = self.note();
        for (place, word) in self.free.iter_mut().zip(note) {
            *place = opaque(word);
        }
    }

    /// Whether the call behind which the thread is has been answered.
    fn is_answered(&self) -> bool {
        self.free.iter().zip(self.note()).all(|(place, word)| *place == word)
    }
}

/// Translates a call of that number, which the filter has caught; `room` stays untouched until the thread goes on.
pub(crate) fn catch(context: &mut Context, number: u32, room: *mut Frame) {
    let elsewhere = context.is_elsewhere();
    let (registers, blocked) = (&mut context.registers, &mut context.blocked);
    if number == WAIT_IS_OVER {
        leave_wait(registers);
    } else if dispatch::is_wait(number) {
        // With the handler on a stack of its own there is nothing below the thread's; otherwise what the kernel saved.
        let room = if elsewhere { registers.sp.wrapping_sub(size_of::<Frame>() as u64) as *mut Frame } else { room };
        // SAFETY: nobody's memory, of the thread's stack or the handler's, made of integers and enums, each of which is
        // written before it is read.
        wait(registers, number, unsafe { &mut *room });
    } else {
        let set = registers.x[0];
        answer(registers, number, blocked);
        if i64::from(number) == numbers::RT_SIGPENDING && registers.x[0] == 0 {
            signals::hide_unblocked(set, *blocked);
        }
    }
    if !in_image(context.registers.pc) {
        context.set_note();
    }
}

/// Answers a call that cannot wait.
#[inline(never)]
fn answer(registers: &mut Registers, number: u32, blocked: &mut u64) {
    let mut frame = MaybeUninit::<Frame>::uninit();
    // SAFETY: made of integers and enums, every one of which is written by `fill` or before it is read.
    let frame = unsafe { &mut *frame.as_mut_ptr() };
    frame.fill(registers, number);
    if i64::from(number) == numbers::RT_SIGPROCMASK {
        // The kernel gives the thread the mask in the frame when the handler returns.
        registers.set_result(signals::sigprocmask_of(frame, blocked));
        return;
    }
    let mut next = dispatch::begin_filled(frame);
    while next == Next::Call {
        frame.make_call();
        next = dispatch::finish(frame);
    }
    registers.x[0] = frame.answer;
}

/// Sends a thread into a wait.
#[inline(never)]
fn wait(registers: &mut Registers, number: u32, frame: &mut Frame) {
    frame.fill(registers, number);
    if dispatch::begin_filled(frame) == Next::Call {
        frame.enter(registers);
    } else if frame.answer as i64 == EINTR && frame.mask == Mask::LetsIn {
        // A `SIGSYS` that the mask lets in is pending: it comes when this handler returns, to a wait that is over.
        frame.enter(registers);
        registers.pc = at_made();
        registers.set_result(EINTR);
        signals::send_pending();
    } else {
        registers.x[0] = frame.answer;
    }
}

/// Ends a wait, or makes it once more.
fn leave_wait(registers: &mut Registers) {
    // SAFETY: only the gate makes this call, with its frame at the stack pointer.
    let frame = unsafe { &mut *(registers.sp as *mut Frame) };
    frame.result = registers.x[0] as i64;
    if dispatch::finish(frame) == Next::Call {
        frame.enter(registers);
    } else {
        frame.restore(registers, frame.return_address);
        registers.x[0] = frame.answer;
    }
}

/// The number of a call that the filter has caught, where another signal came in place of the one that should say so: the
/// call has not been made, and the thread has the registers that it had before.
pub(crate) fn lost_call(context: &Context) -> Option<u32> {
    const SVC: i32 = 0xd400_0001_u32 as i32;
    let registers = &context.registers;
    let number = registers.x[8] as u32;
    if in_image(registers.pc) {
        return (registers.pc == at_over()).then_some(number);
    }
    let reach = Reach::from_bits(state().reach.load(Ordering::Relaxed));
    let caught = catches(number, reach, |at| registers.argument(at));
    (caught && !context.is_answered() && user::reread_int(registers.pc - 4) == SVC).then_some(number)
}

/// Gives a thread whose call in the gate was caught by another filter its own registers back, as if its own call had
/// been. Returns the address behind that.
pub(crate) fn disown(registers: &mut Registers) -> Option<u64> {
    if registers.pc != at_made() {
        return None;
    }
    let frame = waiting(registers)?;
    frame.restore(registers, frame.return_address);
    Some(frame.return_address)
}

/// The frame of a thread that a signal found in the gate's own call, before it or right behind it.
fn waiting<'a>(registers: &Registers) -> Option<&'a mut Frame> {
    if registers.pc != at_made() && registers.pc != at_call() {
        return None;
    }
    // SAFETY: in its own call the gate's frame is at the stack pointer, and nobody else refers to it.
    Some(unsafe { &mut *(registers.sp as *mut Frame) })
}

/// What the mask of the wait that a signal found says about `SIGSYS`.
pub(crate) fn mask(registers: &Registers) -> Mask {
    match waiting(registers) {
        Some(frame) => frame.mask,
        None => Mask::Silent,
    }
}

/// What a signal found of a thread in the gate's own call: makes it translate again. Where the signal has interrupted that,
/// `unless` can let it end.
pub(crate) fn translate_again(registers: &mut Registers, unless: impl FnOnce() -> bool) {
    let is_interrupted = registers.pc == at_made() && registers.x[0] as i64 == EINTR;
    if registers.pc == at_call() || (is_interrupted && !unless()) {
        registers.pc = at_made();
        registers.set_result(AGAIN);
    }
}

/// As [`translate_again`], but for a wait for signals, which is to end.
pub(crate) fn translate_again_unless_waited(registers: &mut Registers) {
    if let Some(frame) = waiting(registers)
        && !matches!(action(frame.number as u32), Some(Action::RtSigtimedwait))
    {
        translate_again(registers, || false);
    }
}

/// Makes a thread that a signal found in the gate look as if there were no gate: at its own `svc` instruction where the call
/// has not been made, behind it where it has. A thread elsewhere stays as it is.
///
/// # Safety
/// `registers` are those of this thread, interrupted.
pub(crate) unsafe fn leave(registers: &mut Registers) {
    let is_made = registers.pc >= at_made() && registers.pc < at_over();
    if !is_made && registers.pc != at_call() {
        return;
    }
    // SAFETY: in the gate the frame is at the stack pointer.
    let frame = unsafe { &mut *(registers.sp as *mut Frame) };
    if is_made {
        dispatch::finish_for_good(frame, registers.x[0] as i64);
        frame.restore(registers, frame.return_address);
        registers.x[0] = frame.answer;
        return;
    }
    frame.restore(registers, frame.return_address - 4);
}

impl Frame {
    /// Takes a thread's registers at a call.
    #[inline(never)]
    fn fill(&mut self, registers: &Registers, number: u32) {
        for (at, place) in self.args.0.iter_mut().enumerate() {
            *place = opaque(registers.argument(at as u8));
        }
        self.answer = opaque(u64::from(number));
        self.x8 = opaque(registers.x[8]);
        self.return_address = opaque(registers.pc);
        self.stack = opaque(registers.sp);
    }

    /// Whether the handler translates, as it always does here.
    pub(crate) const fn is_by_handler(&self) -> bool {
        true
    }

    /// Makes the call that has been prepared.
    fn make_call(&mut self) {
        let args = [1, 2, 3, 4, 5, 6].map(|at| self.call[at] as usize);
        // SAFETY: the caller's call, with pointers of the caller's or to the scratch.
        self.result = unsafe { syscall(self.call[0] as i64, args) };
    }

    /// Lets a thread make the call that has been prepared.
    fn enter(&self, registers: &mut Registers) {
        for (register, argument) in registers.x.iter_mut().zip(self.call.iter().skip(1)) {
            *register = opaque(*argument);
        }
        registers.x[8] = opaque(self.call[0]);
        registers.sp = &raw const *self as u64;
        registers.pc = at_call();
    }

    /// Gives back the caller's registers, at an address.
    fn restore(&self, registers: &mut Registers, pc: u64) {
        for (register, argument) in registers.x.iter_mut().zip(&self.args.0) {
            *register = opaque(*argument);
        }
        registers.x[8] = opaque(self.x8);
        registers.sp = self.stack;
        registers.pc = pc;
    }
}

// What whoever looks for waits from outside relies on.
const _: () = {
    assert!(offset_of!(Frame, call) == frame::CALL);
    assert!(offset_of!(Frame, wait) + Wait::KIND == frame::KIND);
    assert!(offset_of!(Frame, wait) + Wait::TICKET == frame::TICKET);
};
