//! The gate: what a thread executes in place of a system call that the filter caught.
//!
//! The filter makes the kernel send `SIGSYS`. Its handler does nothing but send the thread here: with all its
//! registers, as if it had called a function where the system call was. The gate keeps the registers in a
//! [`Frame`] on the thread's own stack, below the red zone, lets the [dispatcher](crate::dispatch) translate, makes
//! the call from here, which the filter exempts, and goes back to behind the original instruction. So a wait is
//! interrupted, restarted or left by `longjmp` as it is without us.
//!
//! A thread with an alternate signal stack may have next to no other (a goroutine has a few hundred bytes). Its calls
//! are translated by the handler itself, on that stack; a wait returns into the gate with its frame ready, and comes
//! back to the handler, by a call that the filter always catches, when it is over.

use crate::dispatch;
pub(crate) use crate::dispatch::{AGAIN, Mask, Next};
use crate::host::{in_image, opaque, state, syscall};
use crate::clock::ClockId;
use crate::gate32::Wait32;
use crate::numbers;
use crate::page::COUNTER_AT;
use crate::signals::{Context, SET_SIZE, SIGSYS};
use crate::state::{BLOCKED_SLOTS, SigAction, State, frame};
use crate::surface::{Reach, X32_BIT, action, catches};
use crate::user;
use crate::wait::Wait;
use core::arch::global_asm;
use core::mem::{MaybeUninit, offset_of, size_of};
use core::sync::atomic::Ordering;

mod met;

pub(crate) use met::{disown, leave, mask, translate_again, translate_again_unless_waited};

/// The registers of a thread at a call, and what the dispatcher needs on the way.
#[repr(C)]
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
    /// Whether the handler translates, and not the gate.
    by_handler: u16,
    /// What a signal that has found the thread on its way to a call wants done in place of that: `LEAVE` and `TRANSLATE`.
    told: u16,
    /// Of a wait, in the dispatcher's hands.
    pub(crate) wait: Wait,
    r15: u64,
    r14: u64,
    r13: u64,
    r12: u64,
    rbx: u64,
    /// The caller's arguments.
    pub(crate) args: Arguments,
    /// The caller's number; in the end, what the caller finds in place of it.
    pub(crate) answer: u64,
    flags: u64,
    rbp: u64,
    /// Right behind the caller's `syscall` instruction.
    pub(crate) return_address: u64,
}

/// A call's six arguments, as the gate pushes them.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Arguments {
    r9: u64,
    r8: u64,
    r10: u64,
    rdx: u64,
    rsi: u64,
    rdi: u64,
}

impl Arguments {
    /// Other arguments.
    pub(crate) fn set(&mut self, index: u8, value: u64) {
        match index {
            0 => self.rdi = value,
            1 => self.rsi = value,
            2 => self.rdx = value,
            3 => self.r10 = value,
            4 => self.r8 = value,
            _ => self.r9 = value,
        }
    }

    /// An argument, counted from 0.
    #[inline(always)]
    pub(crate) const fn get(&self, index: u8) -> u64 {
        match index {
            0 => self.rdi,
            1 => self.rsi,
            2 => self.rdx,
            3 => self.r10,
            4 => self.r8,
            _ => self.r9,
        }
    }
}

/// Told to a frame: a thread that is to be canceled is not to wait once more.
const LEAVE: u16 = 1;
/// Told to a frame: its call has been translated by a page that has changed.
const TRANSLATE: u16 = 2;
const EINTR: i64 = -4;
/// From the frame to its end at the caller's frame record, in bytes.
const RECORD: usize = offset_of!(Frame, rbp);
/// Numbers from here on are not of the surface.
const NUMBERS: usize = 512;
/// The numbers of the surface, a bit each.
static OF_SURFACE: [u64; NUMBERS / 64] = {
    let mut bits = [0; NUMBERS / 64];
    let mut number = 0;
    while number < NUMBERS {
        if action(number as u32).is_some() {
            bits[number / 64] |= 1 << (number % 64);
        }
        number += 1;
    }
    bits
};
/// What the gate leaves untouched below the caller's stack pointer.
const RED_ZONE: usize = 128;

global_asm!(
    ".pushsection .text.elsewhen_gate, \"ax\", @progbits",
    ".balign 64",
    ".globl elsewhen_site, elsewhen_gate, elsewhen_sigsys, elsewhen_restorer, elsewhen_cancel",
    ".type elsewhen_site, @function",
    ".type elsewhen_gate, @function",
    ".type elsewhen_sigsys, @function",
    ".type elsewhen_restorer, @function",
    ".type elsewhen_cancel, @function",
    // The gate for calls of the C library, most of whose clock reads take a short way: into the caller's own stack, or
    // just above, where the pointer cannot be bad. Flags are not kept: the C library does not expect that.
    // Masks and actions that have nothing to do with `SIGSYS` are set here, without a frame.
    // What is not of the surface is made at the address in r11, which the caller's `syscall` would lose anyway: a
    // thread that `clone` makes there must not come here.
    "elsewhen_site:",
    "cmp eax, {clock_gettime}",
    "jne 7f",
    "cmp edi, {last_clock}",
    "ja elsewhen_gate",
    "mov r11, rsi",
    "sub r11, rsp",
    "add r11, {red_zone}",
    "cmp r11, {near}",
    "jae elsewhen_gate",
    "lea rsp, [rsp - {red_zone}]",
    "push rcx",
    "push rdi",
    "push rsi",
    "push rdx",
    "push r8",
    "push r9",
    "push r10",
    "push rbp",
    "mov rbp, rsp",
    "and rsp, -16",
    "mov rdx, [rip + __ns_state + {host_clock}]",
    "call {read}",
    "cdqe",
    "mov rsp, rbp",
    "pop rbp",
    "pop r10",
    "pop r9",
    "pop r8",
    "pop rdx",
    "pop rsi",
    "pop rdi",
    "pop rcx",
    "lea rsp, [rsp + {red_zone}]",
    "jmp rcx",
    "7:",
    "cmp eax, {rt_sigprocmask}",
    "je 9f",
    "cmp eax, {rt_sigaction}",
    "je 10f",
    "cmp eax, {numbers}",
    "jae 8f",
    "bt [rip + {of_surface}], eax",
    "jc elsewhen_gate",
    "8:",
    "jmp r11",
    // A new mask without `SIGSYS`, or none, where no thread blocks that as it sees it, or none of this one's slot: as it is.
    // (Threads of glibc end with all signals blocked, and nobody is told that they have.)
    "9:",
    "cmp dword ptr [rip + __ns_state + {blocked_count}], 0",
    "je 13f",
    "cmp qword ptr [rip + __ns_state + {fsgsbase}], 0",
    "je elsewhen_gate",
    "rdfsbase r11",
    "test r11, r11",
    "jz elsewhen_gate",
    "shr r11, {slot_shift}",
    "and r11d, {last_slot}",
    "lea rax, [rip + __ns_state + {blocked_slots}]",
    "cmp word ptr [rax + 2 * r11], 0",
    "mov eax, {rt_sigprocmask}",
    "jne elsewhen_gate",
    "13:",
    "mov r11, rsi",
    "jmp 11f",
    // So too an action on one of the first signals, where no action's mask has had it taken out.
    "10:",
    "cmp edi, {sigsys}",
    "jae elsewhen_gate",
    "cmp qword ptr [rip + __ns_state + {masked}], 0",
    "jne elsewhen_gate",
    "lea r11, [rsi + {action_mask}]",
    "11:",
    "cmp r10, {set_size}",
    "jne elsewhen_gate",
    "test rsi, rsi",
    "jz 12f",
    "sub r11, rsp",
    "cmp r11, {near}",
    "jae elsewhen_gate",
    "test dword ptr [rsp + r11], {sigsys_bit}",
    "jnz elsewhen_gate",
    "12:",
    "lea rsp, [rsp - {red_zone}]",
    "push rcx",
    "syscall",
    "pop rcx",
    "lea rsp, [rsp + {red_zone}]",
    "jmp rcx",
    ".size elsewhen_site, . - elsewhen_site",
    ".balign 16",
    // As a `syscall` instruction would be entered, but for rcx, which holds the address behind it.
    "elsewhen_gate:",
    "lea rsp, [rsp - {red_zone}]",
    "push rcx",
    "push rbp",
    "mov rbp, rsp",
    "elsewhen_gate_settled:",
    "pushfq",
    "push rax",
    "push rdi",
    "push rsi",
    "push rdx",
    "push r10",
    "push r8",
    "push r9",
    "push rbx",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "lea rsp, [rbp - {record}]",
    "and rsp, -16",
    "cld",
    "mov dword ptr [rbp - {record} + {by_handler}], 0",
    "mov [rbp - {record} + {original}], eax",
    "elsewhen_gate_filled:",
    "lea rdi, [rbp - {record}]",
    "call {begin}",
    "elsewhen_gate_begun:",
    "test eax, eax",
    "jz 3f",
    "elsewhen_gate_call:",
    "mov rax, [rbp - {record} + {call}]",
    "mov rdi, [rbp - {record} + {call} + 8]",
    "mov rsi, [rbp - {record} + {call} + 16]",
    "mov rdx, [rbp - {record} + {call} + 24]",
    "mov r10, [rbp - {record} + {call} + 32]",
    "mov r8, [rbp - {record} + {call} + 40]",
    "mov r9, [rbp - {record} + {call} + 48]",
    "cmp word ptr [rbp - {record} + {told}], 0",
    "jne 15f",
    "cmp word ptr [rbp - {record} + {kind}], 0",
    "je elsewhen_gate_syscall",
    "mov ecx, [rip + __ns_page + {counter}]",
    "cmp ecx, [rbp - {record} + {ticket}]",
    "jne 16f",
    "elsewhen_gate_syscall:",
    "syscall",
    "elsewhen_gate_made:",
    "mov [rbp - {record} + {result}], rax",
    "cmp word ptr [rbp - {record} + {by_handler}], 0",
    "jne 6f",
    "lea rdi, [rbp - {record}]",
    "call {finish}",
    "elsewhen_gate_finished:",
    "test eax, eax",
    "jnz elsewhen_gate_call",
    "elsewhen_gate_return:",
    "3:",
    "lea rsp, [rbp - {record} + {r15}]",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbx",
    "pop r9",
    "pop r8",
    "pop r10",
    "pop rdx",
    "pop rsi",
    "pop rdi",
    "pop rax",
    "popfq",
    "pop rbp",
    "pop rcx",
    "lea rsp, [rsp + {red_zone}]",
    "jmp rcx",
    "elsewhen_gate_back:",
    "6:",
    "mov eax, {wait_is_over}",
    "syscall",
    "elsewhen_gate_over:",
    "ud2",
    "15:",
    "mov rax, {eintr}",
    "test word ptr [rbp - {record} + {told}], {leave}",
    "jnz elsewhen_gate_made",
    "16:",
    "mov rax, {again}",
    "and word ptr [rbp - {record} + {told}], {not_translate}",
    "jmp elsewhen_gate_made",
    "elsewhen_gate_end:",
    ".size elsewhen_gate, . - elsewhen_gate",
    // The handler of SIGSYS. The program's own handler, where the signal is for that, is called with what the kernel
    // gave; what was blocked meanwhile is put right after it.
    ".balign 16",
    "elsewhen_sigsys:",
    "push rdi",
    "push rsi",
    "push rdx",
    "cmp word ptr [rdx + {segments}], {cs_32}",
    "je 14f",
    "call {on_sigsys}",
    "mov rcx, rdx",
    "pop rdx",
    "pop rsi",
    "pop rdi",
    "test rax, rax",
    "jnz 5f",
    "ret",
    "5:",
    "push rcx",
    "call rax",
    "pop rdi",
    "sub rsp, 8",
    "call {after_sigsys}",
    "add rsp, 8",
    "ret",
    // 32-bit code has been interrupted: there must be room here that stays untouched until the kernel has given that its
    // registers back, since it may wait there afterwards.
    "14:",
    "sub rsp, {room}",
    "mov rcx, rsp",
    "call {on_sigsys}",
    "add rsp, {room}",
    "pop rdx",
    "pop rsi",
    "pop rdi",
    "ret",
    ".size elsewhen_sigsys, . - elsewhen_sigsys",
    // The handler of the signals that cancel threads: they look at where the thread was.
    ".balign 16",
    "elsewhen_cancel:",
    "push rdi",
    "push rsi",
    "push rdx",
    "call {on_cancel}",
    "pop rdx",
    "pop rsi",
    "pop rdi",
    "jmp rax",
    ".size elsewhen_cancel, . - elsewhen_cancel",
    // Unwinders know a signal's frame by exactly these bytes.
    ".balign 16",
    "elsewhen_restorer:",
    ".byte 0x48, 0xc7, 0xc0, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05",
    ".size elsewhen_restorer, . - elsewhen_restorer",
    ".popsection",
    red_zone = const RED_ZONE,
    clock_gettime = const numbers::CLOCK_GETTIME,
    last_clock = const ClockId::Tai as u32,
    near = const user::NEAR,
    host_clock = const offset_of!(State, host_clock),
    read = sym crate::read::read,
    numbers = const NUMBERS,
    rt_sigprocmask = const numbers::RT_SIGPROCMASK,
    rt_sigaction = const numbers::RT_SIGACTION,
    sigsys = const SIGSYS,
    sigsys_bit = const 1 << (SIGSYS - 1),
    set_size = const SET_SIZE,
    action_mask = const offset_of!(SigAction, mask),
    blocked_count = const State::BLOCKED_COUNT,
    fsgsbase = const State::FSGSBASE,
    blocked_slots = const State::BLOCKED_SLOTS,
    slot_shift = const State::SLOT_SHIFT,
    last_slot = const BLOCKED_SLOTS - 1,
    masked = const offset_of!(State, masked),
    of_surface = sym OF_SURFACE,
    record = const RECORD,
    call = const offset_of!(Frame, call),
    result = const offset_of!(Frame, result),
    r15 = const offset_of!(Frame, r15),
    begin = sym dispatch::begin,
    finish = sym dispatch::finish,
    by_handler = const offset_of!(Frame, by_handler),
    told = const offset_of!(Frame, told),
    kind = const offset_of!(Frame, wait) + Wait::KIND,
    ticket = const offset_of!(Frame, wait) + Wait::TICKET,
    counter = const COUNTER_AT,
    leave = const LEAVE,
    not_translate = const !TRANSLATE,
    original = const offset_of!(Frame, wait) + offset_of!(Wait, original),
    eintr = const EINTR,
    again = const AGAIN,
    wait_is_over = const WAIT_IS_OVER,
    segments = const offset_of!(Context, registers) + offset_of!(Registers, segments),
    cs_32 = const USER_CS_32,
    room = const size_of::<Wait32>(),
    on_sigsys = sym crate::signals::on_sigsys,
    after_sigsys = sym crate::signals::after_sigsys,
    on_cancel = sym crate::signals::on_cancel,
);

/// The address of a label of the gate.
macro_rules! label {
    ($name:literal) => {
        $crate::host::symbol!($name) as u64
    };
}
pub(crate) use label;

/// The addresses that the host or the kernel is told.
pub(crate) fn sigsys_handler() -> u64 {
    label!("elsewhen_sigsys")
}

/// Of the handler of cancelling signals.
pub(crate) fn cancel_handler() -> u64 {
    label!("elsewhen_cancel")
}

/// Of the way back from a handler.
pub(crate) fn restorer() -> u64 {
    label!("elsewhen_restorer")
}

/// Of the gate.
pub(crate) fn entry() -> u64 {
    label!("elsewhen_gate")
}

/// What follows `syscall` in the way back from a handler: where the kernel sees the call.
pub(crate) const RESTORER_LEN: u64 = 9;

/// The registers that the kernel saved in a signal's frame: `gregs` of `ucontext_t`, from its 40th byte.
#[repr(C)]
pub(crate) struct Registers {
    pub(crate) r8: u64,
    r9: u64,
    r10: u64,
    r11: u64,
    r12: u64,
    r13: u64,
    r14: u64,
    r15: u64,
    pub(crate) rdi: u64,
    pub(crate) rsi: u64,
    pub(crate) rbp: u64,
    pub(crate) rbx: u64,
    pub(crate) rdx: u64,
    pub(crate) rax: u64,
    pub(crate) rcx: u64,
    pub(crate) rsp: u64,
    pub(crate) rip: u64,
    pub(crate) flags: u64,
    /// CS in the low 16 bits, then GS, FS and SS.
    segments: u64,
}

/// `__USER32_CS`.
const USER_CS_32: u16 = 0x23;

impl Registers {
    /// The result of a call that is over.
    pub(crate) const fn set_result(&mut self, result: i64) {
        self.rax = result as u64;
    }

    /// The thread's stack pointer.
    pub(crate) const fn stack(&self) -> u64 {
        self.rsp
    }

    /// Whether this was 32-bit code.
    pub(crate) const fn is_32_bit(&self) -> bool {
        self.segments as u16 == USER_CS_32
    }
}

/// Sends a thread that the filter caught through the gate.
pub(crate) fn enter(registers: &mut Registers, number: u64) {
    registers.rcx = registers.rip;
    registers.rax = number;
    registers.rip = entry();
}

/// Translates a caught call here, in the handler on its own stack, so that the thread's other stack is used for
/// nothing but the frame of a wait.
#[inline(never)]
pub(crate) fn enter_by_handler(registers: &mut Registers, number: u64) {
    if dispatch::is_wait(number as u32) {
        let record = registers.rsp.wrapping_sub(RED_ZONE as u64 + 16);
        let frame = record.wrapping_sub(RECORD as u64) as *mut Frame;
        // SAFETY: what lies below the red zone of the thread's stack is nobody's, and as much as this must be there
        // for a frame of the kernel's in any program without an alternate stack.
        let frame = unsafe { &mut *frame };
        frame.fill(registers, number);
        if dispatch::begin_filled(frame) == Next::Call {
            registers.rbp = record;
            registers.rsp = (record - RECORD as u64) & !15;
            registers.rip = label!("elsewhen_gate_call");
        } else {
            registers.rax = frame.answer;
        }
        return;
    }
    answer_by_handler(registers, number, |frame| {
        let mut next = dispatch::begin_filled(frame);
        while next == Next::Call {
            frame.make_call();
            next = dispatch::finish(frame);
        }
        frame.answer as i64
    });
}

/// Answers a caught call here, with a frame on the handler's own stack.
#[inline(never)]
pub(crate) fn answer_by_handler(registers: &mut Registers, number: u64, answer: impl FnOnce(&mut Frame) -> i64) {
    let mut frame = MaybeUninit::<Frame>::uninit();
    // SAFETY: made of integers and enums, every one of which is written by `fill` or before it is read.
    let frame = unsafe { &mut *frame.as_mut_ptr() };
    frame.fill(registers, number);
    registers.rax = answer(frame) as u64;
}

/// The number of no system call, with which a wait that the handler translated comes back to it.
const WAIT_IS_OVER: u32 = crate::surface::WAIT_IS_OVER;

/// Ends a wait that the handler translated, or makes it once more.
pub(crate) fn leave_by_handler(registers: &mut Registers) {
    let record = registers.rbp;
    let frame = (record - RECORD as u64) as *mut Frame;
    // SAFETY: only the gate makes this call, with its frame record in rbp.
    let frame = unsafe { &mut *frame };
    if dispatch::finish(frame) == Next::Call {
        registers.rip = label!("elsewhen_gate_call");
    } else {
        frame.restore(registers, record, frame.return_address);
    }
}

/// The number of a call that the filter has caught, where another signal came in place of the one that should say
/// so: the call has not been made, and its number is where its result would be.
pub(crate) fn lost_call(registers: &Registers) -> Option<u64> {
    const SYSCALL: u16 = 0x050f;
    if in_image(registers.rip) {
        let over = registers.rip == label!("elsewhen_gate_over") && registers.rax == u64::from(WAIT_IS_OVER);
        return over.then_some(registers.rax);
    }
    let number = registers.rax;
    if number & !u64::from(X32_BIT) > u64::from(u16::MAX) || action(number as u32).is_none() {
        return None;
    }
    let reach = Reach::from_bits(state().reach.load(Ordering::Relaxed));
    let argument = |at| match at {
        0 => registers.rdi,
        1 => registers.rsi,
        2 => registers.rdx,
        3 => registers.r10,
        4 => registers.r8,
        _ => registers.r9,
    };
    if !catches(number as u32, reach, argument) {
        return None;
    }
    // There the instruction leaves the address behind it.
    if registers.rcx != registers.rip {
        return None;
    }
    let mut before = [opaque(0)];
    user::reread(registers.rip - 8, &mut before);
    // `mov eax, N` and `xor eax, eax` say which call it was, if not this: one that has returned this number. Code that
    // makes any call does not say; there a call that is lost is likelier than another with just this result.
    let named_otherwise = (before[0] >> 8) as u8 == 0xb8 && (before[0] >> 16) as u32 != number as u32;
    let zero = (before[0] >> 32) as u16 == 0xc031;
    ((before[0] >> 48) as u16 == SYSCALL && !named_otherwise && !zero).then_some(number)
}

impl Frame {
    /// Takes a thread's registers, as the gate does.
    #[inline(never)]
    pub(crate) fn fill(&mut self, registers: &Registers, number: u64) {
        self.r15 = opaque(registers.r15);
        self.r14 = opaque(registers.r14);
        self.r13 = opaque(registers.r13);
        self.r12 = opaque(registers.r12);
        self.rbx = opaque(registers.rbx);
        self.args.r9 = opaque(registers.r9);
        self.args.r8 = opaque(registers.r8);
        self.args.r10 = opaque(registers.r10);
        self.args.rdx = opaque(registers.rdx);
        self.args.rsi = opaque(registers.rsi);
        self.args.rdi = opaque(registers.rdi);
        self.answer = opaque(number);
        self.flags = opaque(registers.flags);
        self.rbp = opaque(registers.rbp);
        self.return_address = opaque(registers.rip);
        self.stack = opaque(registers.rsp);
        self.by_handler = 1;
        self.told = 0;
    }

    /// Whether the handler translates, and not the gate.
    pub(crate) const fn is_by_handler(&self) -> bool {
        self.by_handler != 0
    }

    /// The stack pointer of a caller whose frame the gate has made on its stack.
    pub(crate) fn stack_above(&self) -> u64 {
        &raw const *self as u64 + (RECORD + 16 + RED_ZONE) as u64
    }

    /// Makes the call that has been prepared.
    pub(crate) fn make_call(&mut self) {
        let args = [1, 2, 3, 4, 5, 6].map(|at| self.call[at] as usize);
        // SAFETY: the caller's call, with pointers of the caller's or to the scratch.
        self.result = unsafe { syscall(self.call[0] as i64, args) };
    }

    /// Gives back the caller's registers, at an address.
    fn restore(&self, registers: &mut Registers, record: u64, rip: u64) {
        registers.r8 = self.args.r8;
        registers.r9 = self.args.r9;
        registers.r10 = self.args.r10;
        registers.r11 = self.flags;
        registers.r12 = self.r12;
        registers.r13 = self.r13;
        registers.r14 = self.r14;
        registers.r15 = self.r15;
        registers.rdi = self.args.rdi;
        registers.rsi = self.args.rsi;
        registers.rbp = self.rbp;
        registers.rbx = self.rbx;
        registers.rdx = self.args.rdx;
        registers.rax = self.answer;
        registers.rcx = self.return_address;
        registers.rsp = record + 16 + RED_ZONE as u64;
        registers.rip = rip;
        registers.flags = self.flags;
    }
}

// The gate pushes what the frame declares.
const _: () = {
    assert!(size_of::<Frame>() == RECORD + 16);
    assert!(offset_of!(Frame, flags) + 8 == RECORD && offset_of!(Frame, answer) + 16 == RECORD);
    assert!(offset_of!(Frame, args) + size_of::<Arguments>() == offset_of!(Frame, answer));
    assert!(offset_of!(Frame, r15) + 40 == offset_of!(Frame, args));
    assert!(size_of::<Frame>() <= 400);
    assert!(offset_of!(Frame, call) == frame::CALL);
    assert!(offset_of!(Frame, wait) + Wait::KIND == frame::KIND);
    assert!(offset_of!(Frame, wait) + Wait::TICKET == frame::TICKET);
};
