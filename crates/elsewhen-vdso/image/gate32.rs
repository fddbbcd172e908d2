//! The gate of 32-bit programs: where their translated waits happen.
//!
//! Such a program runs this image in 64-bit mode in one place, the handler of `SIGSYS`; a signal's 32-bit frame would not
//! keep what 64-bit code has in its registers. So everything is translated there. What only reads or sets is done in the
//! handler. A wait is the program's own: the handler returns into the few 32-bit instructions below, with all that
//! the wait needs in a [`Wait32`] at the stack pointer. They make one call, of the interface whose times have 64 bits, and
//! come back to the handler by another, which the filter always catches.

use crate::calls32;
use crate::dispatch;
use crate::gate::{Frame, Mask, Registers, label};
use crate::host::{in_image, opaque, state};
use crate::handle32;
use crate::signals::{Detour, SIGSYS, after_handler_32, let_in, sigprocmask_of};
use crate::page::COUNTER_AT;
use crate::read;
use crate::state::{SigAction, frame};
use crate::surface::{Reach, WAIT_IS_OVER, catches};
use crate::surface32::{CANCELS, HANDLED, Kind, native};
use crate::user;
use core::arch::{asm, global_asm};
use core::mem::{offset_of, size_of};
use core::sync::atomic::Ordering;

/// A call of a 32-bit program in progress: what the gate has at its stack pointer.
#[repr(C, align(16))]
pub(crate) struct Wait32 {
    /// The call as a 64-bit one. First, as whoever looks for waits from outside expects it.
    pub(crate) frame: Frame,
    /// Number and arguments for `int 0x80`.
    call: [u32; 7],
    /// What it returned.
    result: i32,
    /// Number and arguments as the program gave them.
    pub(crate) own: [u32; 7],
    /// The arguments of the call that is meant.
    pub(crate) args: [u32; 6],
    /// The number of the call that is meant.
    pub(crate) number: u32,
    eip: u32,
    esp: u32,
    flags: u32,
    /// Where this is during the wait.
    place: u32,
    /// Where the page's counter is.
    counter: u32,
    /// Widened: what an argument points to.
    pub(crate) input: [u64; 4],
    /// Its first words as they were.
    pub(crate) before: [u64; 2],
    /// To be narrowed: what the 64-bit call writes.
    pub(crate) output: [u64; 4],
    /// A widened pair of an address and a size.
    pub(crate) pair: [u64; 2],
    /// The same for `int 0x80`.
    pair_32: [u32; 2],
}

const EINTR: i64 = -4;
const PSELECT6_TIME64: u32 = 413;
const IO_PGETEVENTS_TIME64: u32 = 416;

global_asm!(
    ".pushsection .text.elsewhen_gate32, \"ax\", @progbits",
    ".balign 64",
    ".globl elsewhen_gate_32, elsewhen_cancel_32",
    ".type elsewhen_gate_32, @function",
    ".type elsewhen_cancel_32, @function",
    ".type elsewhen_int80, @function",
    ".code32",
    // From where the handler has prepared the wait, deep below its frame, to right below the caller's stack pointer.
    "elsewhen_gate_32:",
    "mov esi, esp",
    "mov edi, [esp + {place}]",
    "mov ecx, {words}",
    "cld",
    "rep movsd",
    "mov esp, [esp + {place}]",
    "elsewhen_gate_32_call:",
    "cmp word ptr [esp + {kind}], 0",
    "je 2f",
    "mov eax, [esp + {counter}]",
    "mov eax, [eax]",
    "cmp eax, [esp + {ticket}]",
    "mov eax, {again}",
    "jne elsewhen_gate_32_made",
    "2:",
    "mov eax, [esp + {call}]",
    "mov ebx, [esp + {call} + 4]",
    "mov ecx, [esp + {call} + 8]",
    "mov edx, [esp + {call} + 12]",
    "mov esi, [esp + {call} + 16]",
    "mov edi, [esp + {call} + 20]",
    "mov ebp, [esp + {call} + 24]",
    "elsewhen_gate_32_syscall:",
    "int 0x80",
    "elsewhen_gate_32_made:",
    "mov [esp + {result}], eax",
    "mov eax, {wait_is_over}",
    "int 0x80",
    "elsewhen_gate_32_over:",
    "ud2",
    ".size elsewhen_gate_32, . - elsewhen_gate_32",
    // The handler of the signals that cancel threads: they look at where the thread was. The answer is the program's own.
    ".balign 16",
    "elsewhen_cancel_32:",
    "mov ebx, [esp + 4]",
    "mov ecx, [esp + 12]",
    "mov eax, {cancels}",
    "int 0x80",
    "elsewhen_cancel_32_asked:",
    "jmp eax",
    ".size elsewhen_cancel_32, . - elsewhen_cancel_32",
    ".code64",
    // Makes a 32-bit call whose number and arguments are at rdi. What the kernel loses is what a function may.
    ".balign 16",
    "elsewhen_int80:",
    "push rbx",
    "push rbp",
    "mov eax, [rdi]",
    "mov ebx, [rdi + 4]",
    "mov ecx, [rdi + 8]",
    "mov edx, [rdi + 12]",
    "mov esi, [rdi + 16]",
    "mov ebp, [rdi + 24]",
    "mov edi, [rdi + 20]",
    "int 0x80",
    "cdqe",
    "pop rbp",
    "pop rbx",
    "ret",
    ".size elsewhen_int80, . - elsewhen_int80",
    ".popsection",
    call = const offset_of!(Wait32, call),
    result = const offset_of!(Wait32, result),
    kind = const frame::KIND,
    ticket = const frame::TICKET,
    counter = const offset_of!(Wait32, counter),
    again = const dispatch::AGAIN,
    place = const offset_of!(Wait32, place),
    words = const size_of::<Wait32>() / 4,
    wait_is_over = const WAIT_IS_OVER,
    cancels = const CANCELS,
);

/// Makes a 32-bit call: number and arguments.
///
/// # Safety
/// The kernel may read and write through the pointers among the arguments, as the call of that number documents.
#[inline(never)]
pub(crate) unsafe fn int80(call: &[u32; 7]) -> i64 {
    let result;
    // SAFETY: that function follows the convention; what the call does is the caller's promise.
    unsafe { asm!("call elsewhen_int80", in("rdi") call, lateout("rax") result, clobber_abi("sysv64")) };
    result
}

/// Where the registers for the gate's own call are loaded, that call, and behind it.
pub(crate) fn places() -> (u64, u64, u64) {
    (label!("elsewhen_gate_32_call"), label!("elsewhen_gate_32_syscall"), label!("elsewhen_gate_32_made"))
}

/// Whether a thread is where the gate moves what the handler has prepared.
pub(crate) fn is_early(registers: &Registers) -> bool {
    (label!("elsewhen_gate_32")..label!("elsewhen_gate_32_call")).contains(&registers.rip)
}

/// Translates the wait of such a thread again, and lets it begin to move it again.
pub(crate) fn translate_early(registers: &mut Registers) {
    // SAFETY: the thread is in the gate.
    let wait = unsafe { at(registers.rsp) };
    let before = wait.frame.call;
    dispatch::again(&mut wait.frame);
    // Where the time is an argument itself, and not in what one points to.
    for ((place, call), before) in wait.call.iter_mut().zip(wait.frame.call).zip(before) {
        if call != before {
            *place = call as u32;
        }
    }
    registers.rip = label!("elsewhen_gate_32");
}

/// The address of the handler for signals that cancel threads.
pub(crate) fn cancel_handler() -> u64 {
    label!("elsewhen_cancel_32")
}

/// What a thread in the gate has at its stack pointer.
///
/// # Safety
/// The thread is in the gate, this one, and interrupted.
unsafe fn at<'a>(esp: u64) -> &'a mut Wait32 {
    // SAFETY: the caller's promise: there the gate's stack pointer is that of its wait.
    unsafe { &mut *(esp as *mut Wait32) }
}

/// The frame of a thread that a signal found in the gate's own call, before it or right behind it.
pub(crate) fn waiting(registers: &Registers) -> Option<&Frame> {
    let (_, syscall, made) = places();
    if registers.rip != syscall && registers.rip != made {
        return None;
    }
    // SAFETY: the thread is in the gate.
    Some(unsafe { &at(registers.rsp).frame })
}

/// As [`disown`](crate::gate::disown) of the other gate.
pub(crate) fn disown(registers: &mut Registers) -> Option<u64> {
    if registers.rip != places().2 {
        return None;
    }
    // SAFETY: the thread is in the gate.
    let wait = unsafe { at(registers.rsp) };
    wait.restore(registers);
    Some(registers.rip)
}

/// Translates a caught call of 32-bit code.
pub(crate) fn catch(registers: &mut Registers, blocked: &mut u64, number: u32, detour: Detour) {
    const ENOSYS: i64 = -38;
    match number {
        _ if ![WAIT_IS_OVER, CANCELS, HANDLED].contains(&number) => {}
        _ if !in_image(registers.rip) => return registers.rax = ENOSYS as u64,
        WAIT_IS_OVER => return leave(registers),
        HANDLED => return after_handler_32(registers, blocked),
        _ => return registers.rax = cancel(registers),
    }
    // SAFETY: room for one; it is filled in below, and all of it is integers and enums that are written before they are
    // read.
    let wait = unsafe { &mut *detour.room };
    wait.fill(registers, number);
    if is_of_the_hosts_vdso(registers) {
        // SAFETY: the caller's own call with the caller's own arguments.
        registers.rax = unsafe { int80(&wait.own) } as u64;
        return;
    }
    match calls32::begin(wait, blocked) {
        Ok(()) => wait.enter(registers),
        Err(result) => {
            registers.rax = result as u32 as u64;
            if result == EINTR && wait.frame.mask == Mask::LetsIn {
                let_in(registers, blocked, detour);
            }
        }
    }
}

/// Whether the host's own functions have made the call, when they cannot read a clock themselves: whoever called them maps
/// what they return. Every call that goes by the kernel's landing pad comes from there; its caller is on the stack.
fn is_of_the_hosts_vdso(registers: &Registers) -> bool {
    let state = state();
    let vdso = state.vdso_start.load(Ordering::Relaxed)..state.vdso_end.load(Ordering::Relaxed);
    // Above what `__kernel_vsyscall` has pushed: ebp, edx, ecx.
    const PUSHED: u64 = 12;
    // SAFETY: there, the stack holds the three registers and the return address.
    vdso.contains(&registers.rip) && vdso.contains(&u64::from(unsafe { ((registers.rsp + PUSHED) as *const u32).read_unaligned() }))
}

/// Ends a wait, or makes it once more.
fn leave(registers: &mut Registers) {
    // SAFETY: only the gate makes this call.
    let wait = unsafe { at(registers.rsp) };
    match calls32::finish(wait, i64::from(wait.result)) {
        None => wait.enter(registers),
        Some(result) => {
            wait.restore(registers);
            registers.rax = result as u32 as u64;
        }
    }
}

/// Whether a call was caught and another signal came in place of the one that should say so.
pub(crate) fn lost_call(registers: &Registers) -> bool {
    const INT_80: u16 = 0x80cd;
    let number = registers.rax as u32;
    if in_image(registers.rip) {
        let over = registers.rip == label!("elsewhen_gate_32_over") && number == WAIT_IS_OVER;
        let asked = registers.rip == label!("elsewhen_cancel_32_asked") && number == CANCELS;
        let handled = handle32::is_over(registers) && number == HANDLED;
        return over || asked || handled;
    }
    let Some((equal, shape)) = native(number) else { return false };
    let args = arguments(registers);
    let reach = Reach::from_bits(state().reach.load(Ordering::Relaxed));
    let caught = match shape.kind() {
        Kind::Refused => false,
        Kind::Special => true,
        _ => catches(equal, reach, |at| args.get(usize::from(at)).map_or(0, |arg| u64::from(*arg))),
    };
    // SAFETY: the kernel has executed what lies before.
    let before = unsafe { ((registers.rip - 2) as *const u16).read_unaligned() };
    caught && before == INT_80
}

/// Six arguments as the 32-bit interface has them.
fn arguments(registers: &Registers) -> [u32; 6] {
    [registers.rbx, registers.rcx, registers.rdx, registers.rsi, registers.rdi, registers.rbp].map(|word| word as u32)
}

/// A cancelling signal has found a thread: makes that look as if there were no gate. Returns the program's own handler.
fn cancel(registers: &Registers) -> u64 {
    // Of a 32-bit `struct ucontext`, `struct sigcontext_32` is at 20.
    const EDI: u64 = 36;
    const EAX: u64 = 64;
    const EIP: u64 = 76;
    let (signal, context) = (registers.rbx, registers.rcx);
    let word = |at: u64| (context + at) as *mut u32;
    // SAFETY: the kernel has just written the frame of the signal, of which this is a part.
    let (eip, esp) = unsafe { (u64::from(word(EIP).read_unaligned()), u64::from(word(EDI + 12).read_unaligned())) };
    let start = label!("elsewhen_gate_32");
    if (start..=label!("elsewhen_gate_32_over")).contains(&eip) {
        // SAFETY: the thread that was interrupted is in the gate.
        let wait = unsafe { at(esp) };
        let (mut to, mut result) = (wait.eip - 2, wait.own[0]);
        let (_, _, behind) = places();
        if eip >= behind {
            // SAFETY: as above.
            let eax = unsafe { word(EAX).read_unaligned() };
            let made = if eip == behind { eax as i32 } else { wait.result };
            // One that would be made once more is over: the thread may go on, where it was not to be canceled.
            if let Some(over) = calls32::finish(wait, i64::from(made)).or_else(|| calls32::finish(wait, EINTR)) {
                (to, result) = (wait.eip, over as u32);
            }
        }
        let own = wait.own;
        // In the order in which the frame has them: edi, esi, ebp, esp, ebx, edx, ecx, eax.
        for (at, value) in [own[5], own[4], own[6], wait.esp, own[1], own[3], own[2], result].into_iter().enumerate() {
            // SAFETY: as above; the kernel gives the thread these registers when the handler returns.
            unsafe { word(EDI + 4 * at as u64).write_unaligned(value) };
        }
        // SAFETY: as above.
        unsafe { word(EIP).write_unaligned(to) };
    }
    let actions: &[_; 2] = &state().cancel;
    let action: SigAction = actions[usize::from(signal == 33)].load();
    action.handler
}

impl Wait32 {
    /// Takes a thread's registers.
    fn fill(&mut self, registers: &Registers, number: u32) {
        let args = arguments(registers);
        self.own[0] = number;
        for (at, arg) in args.into_iter().enumerate() {
            if let (Some(own), Some(place)) = (self.own.get_mut(at + 1), self.args.get_mut(at)) {
                *own = arg;
                *place = arg;
            }
        }
        self.number = number;
        self.counter = (&raw const *read::page()) as u64 as u32 + COUNTER_AT as u32;
        self.eip = registers.rip as u32;
        self.esp = registers.rsp as u32;
        self.flags = registers.flags as u32;
        self.place = (self.esp.wrapping_sub(size_of::<Self>() as u32)) & !15;
        self.frame.fill(registers, u64::from(number));
        // What is checked for being close to the stack includes this.
        self.frame.stack = (&raw const *self as u64).min(registers.rsp);
        self.frame.return_address = 0;
    }

    /// Sends the thread into the gate, which first moves this to below the caller's stack pointer, if it is not there.
    fn enter(&mut self, registers: &mut Registers) {
        self.lower();
        let here = &raw const *self as u64;
        registers.rsp = here;
        if here == u64::from(self.place) {
            registers.rip = label!("elsewhen_gate_32_call");
            return;
        }
        registers.rip = label!("elsewhen_gate_32");
        // What points here is to point there.
        let moved = |address: u64| match address.wrapping_sub(here) < size_of::<Self>() as u64 {
            true => address - here + u64::from(self.place),
            false => address,
        };
        for word in &mut self.call {
            *word = opaque(moved(u64::from(*word))) as u32;
        }
        for word in &mut self.frame.call {
            *word = opaque(moved(*word));
        }
        for at in 0..6 {
            self.frame.args.set(at, opaque(moved(self.frame.args.get(at))));
        }
        if matches!(self.call[0], PSELECT6_TIME64 | IO_PGETEVENTS_TIME64) {
            // The pair of a mask's address and its size, in both widths.
            self.frame.scratch[5] = opaque(moved(self.frame.scratch[5]));
            self.pair_32[0] = opaque(moved(u64::from(self.pair_32[0]))) as u32;
        }
        self.frame.stack = u64::from(self.place);
    }

    /// Gives back the caller's registers, behind its call.
    fn restore(&self, registers: &mut Registers) {
        let own = self.own.map(u64::from);
        registers.rax = own[0];
        registers.rbx = own[1];
        registers.rcx = own[2];
        registers.rdx = own[3];
        registers.rsi = own[4];
        registers.rdi = own[5];
        registers.rbp = own[6];
        registers.rsp = u64::from(self.esp);
        registers.rip = u64::from(self.eip);
        registers.flags = u64::from(self.flags);
    }

    /// The prepared 64-bit call as one of the 32-bit interface, with the structures of the other: everything that it
    /// points to is this or the caller's, below 4 GiB.
    fn lower(&mut self) {
        const CLOCK_MONOTONIC: u64 = 1;
        let [number, a, b, c, d, e, f] = self.frame.call;
        let (number, args) = match number {
            35 => (407, [CLOCK_MONOTONIC, opaque(0), a, b, opaque(0), opaque(0)]),
            208 => (416, [a, b, c, d, e, opaque(0)]),
            other => (lowered(other), [a, b, c, d, e, f]),
        };
        self.call[0] = number;
        for (place, arg) in self.call.iter_mut().skip(1).zip(args) {
            *place = arg as u32;
        }
        match number {
            // `pselect6` and `io_pgetevents`: the address of a mask and its size.
            PSELECT6_TIME64 | IO_PGETEVENTS_TIME64 if args[5] != 0 && args[5] != u64::from(self.args[5]) => {
                let mut pair = [opaque(0); 2];
                user::reread(args[5], &mut pair);
                self.pair_32 = [pair[0] as u32, pair[1] as u32];
                self.call[6] = &raw const self.pair_32 as u64 as u32;
            }
            // The kernel's own `siginfo_t` is a 32-bit one.
            421 => self.call[2] = self.args[1],
            _ => {}
        }
    }
}

/// The 32-bit call whose structures are those of a 64-bit wait.
const fn lowered(native: u64) -> u32 {
    match native {
        7 => 168,
        128 => 421,
        130 => 179,
        202 => 422,
        220 => 420,
        230 => 407,
        232 => 256,
        242 => 418,
        243 => 419,
        270 => 413,
        271 => 414,
        281 => 319,
        299 => 417,
        333 => 416,
        same => same as u32,
    }
}

/// `rt_sigprocmask(2)`: the kernel gives the thread the mask in the frame when the handler returns.
pub(crate) fn sigprocmask(wait: &mut Wait32, blocked: &mut u64) -> i64 {
    wait.copy_arguments();
    sigprocmask_of(&wait.frame, blocked)
}

impl Wait32 {
    /// The meant call's arguments, as a 64-bit one's.
    pub(crate) fn copy_arguments(&mut self) {
        for (at, arg) in self.args.into_iter().enumerate() {
            self.frame.args.set(at as u8, u64::from(arg));
        }
    }
}

const _: () = assert!(size_of::<Wait32>() % 16 == 0 && offset_of!(Wait32, frame) == 0 && SIGSYS == 31);
