//! The program's own handler for `SIGSYS`, where that is 32-bit code.
//!
//! The kernel has made a 64-bit frame, from which 32-bit code cannot return. So the handler that runs on that gives the
//! thread back to where it was, but for a detour: 32-bit code that keeps the vector registers, calls the program's handler
//! with what the kernel would have given it, and comes back by a call that the filter always catches. Then the thread goes
//! on with the registers that the program's handler has left in its context.

use crate::gate::Registers;
use crate::gate32::Wait32;
use crate::host::opaque;
use crate::signals::{Context, Info, SIGSYS};
use crate::surface32::HANDLED;
use crate::user;
use core::arch::global_asm;
use core::mem::{offset_of, size_of};

/// What the detour has at its stack pointer. The first three are the handler's arguments.
#[repr(C, align(16))]
pub(crate) struct Handling {
    signal: u32,
    info_at: u32,
    context_at: u32,
    handler: u32,
    /// Where this is during the detour.
    place: u32,
    /// Whether `SIGSYS` is to be let in again afterwards.
    pub(crate) unblock: u32,
    /// A 32-bit `siginfo_t`.
    info: [u32; 32],
    context: Context32,
}

/// A 32-bit `struct ucontext`, of which the stack and the vector registers are not shown.
#[repr(C)]
struct Context32 {
    flags: u32,
    link: u32,
    stack: [u32; 3],
    /// GS, FS, ES, DS.
    segments: [u32; 4],
    edi: u32,
    esi: u32,
    ebp: u32,
    esp: u32,
    ebx: u32,
    edx: u32,
    ecx: u32,
    eax: u32,
    trap: u32,
    error: u32,
    eip: u32,
    cs: u32,
    eflags: u32,
    esp_at_signal: u32,
    ss: u32,
    vectors: u32,
    old_mask: u32,
    cr2: u32,
    blocked: [u32; 2],
}

// `struct ucontext_ia32` of `arch/x86/include/asm/ia32.h`.
const _: () = {
    assert!(offset_of!(Context32, edi) == 36 && offset_of!(Context32, eip) == 76 && offset_of!(Context32, blocked) == 108);
    assert!(size_of::<Handling>() <= size_of::<Wait32>() && size_of::<Handling>() % 16 == 0);
};

global_asm!(
    ".pushsection .text.elsewhen_handle32, \"ax\", @progbits",
    ".balign 64",
    ".globl elsewhen_handle_32",
    ".type elsewhen_handle_32, @function",
    ".code32",
    "elsewhen_handle_32:",
    // To where it is to be, as in the gate.
    "mov esi, esp",
    "mov edi, [esp + {place}]",
    "mov ecx, {words}",
    "cld",
    "rep movsd",
    "mov esp, [esp + {place}]",
    "mov ebp, esp",
    // Which parts of the extended state there are, without the tiles of AMX, which are eight KiB and nobody's here; and how
    // much room they take.
    "mov eax, 1",
    "xor ecx, ecx",
    "cpuid",
    "xor esi, esi",
    "mov edi, 512",
    "bt ecx, 27",
    "jnc 3f",
    "xor ecx, ecx",
    "xgetbv",
    "and eax, {no_tiles}",
    "mov esi, eax",
    "mov edi, 576",
    "push 2",
    "1:",
    "mov ecx, [esp]",
    "bt esi, ecx",
    "jnc 2f",
    "mov eax, 13",
    "cpuid",
    "add eax, ebx",
    "cmp eax, edi",
    "jbe 2f",
    "mov edi, eax",
    "2:",
    "inc dword ptr [esp]",
    "cmp dword ptr [esp], 32",
    "jb 1b",
    "3:",
    "mov esp, ebp",
    "sub esp, edi",
    "and esp, -64",
    "mov edi, esp",
    // Kept on this stack: where it is, and which parts.
    "push ebp",
    "push esi",
    "push edi",
    "push 0",
    "test esi, esi",
    "jz 5f",
    "lea ebx, [edi + 512]",
    "mov ecx, 16",
    "4:",
    "mov dword ptr [ebx + 4 * ecx - 4], 0",
    "loop 4b",
    "mov eax, esi",
    "xor edx, edx",
    "xsave [edi]",
    "jmp 6f",
    "5:",
    "fxsave [edi]",
    "6:",
    // As the kernel leaves them to a handler.
    "fninit",
    "push 0x1f80",
    "ldmxcsr [esp]",
    "add esp, 4",
    "push [ebp + 8]",
    "push [ebp + 4]",
    "push [ebp]",
    "mov eax, [ebp]",
    "mov edx, [ebp + 4]",
    "mov ecx, [ebp + 8]",
    "call [ebp + {handler}]",
    "add esp, 16",
    "pop edi",
    "pop esi",
    "pop ebp",
    "test esi, esi",
    "jz 7f",
    "mov eax, esi",
    "xor edx, edx",
    "xrstor [edi]",
    "jmp 8f",
    "7:",
    "fxrstor [edi]",
    "8:",
    "mov esp, ebp",
    "mov eax, {handled}",
    "int 0x80",
    "elsewhen_handle_32_over:",
    "ud2",
    ".size elsewhen_handle_32, . - elsewhen_handle_32",
    ".code64",
    ".popsection",
    place = const offset_of!(Handling, place),
    handler = const offset_of!(Handling, handler),
    words = const size_of::<Handling>() / 4,
    no_tiles = const !(0b11_u32 << 17),
    handled = const HANDLED,
);

/// Whether a thread is where a detour ends.
pub(crate) fn is_over(registers: &Registers) -> bool {
    registers.rip == crate::gate::label!("elsewhen_handle_32_over")
}

/// Sends a thread that a signal has interrupted to the program's handler. `stack` is where that's to be called, and `room` is
/// as for waits.
pub(crate) fn call(info: &Info, registers: &mut Registers, blocked: u64, to: Call, room: *mut Wait32) {
    // SAFETY: there is room for a wait, which is no smaller; all of this is integers, and written here.
    let handling = unsafe { &mut *room.cast::<Handling>() };
    let place = (to.stack as u32).wrapping_sub(size_of::<Handling>() as u32) & !15;
    handling.signal = SIGSYS as u32;
    handling.info_at = place + offset_of!(Handling, info) as u32;
    handling.context_at = place + offset_of!(Handling, context) as u32;
    handling.handler = to.handler as u32;
    handling.place = place;
    handling.unblock = u32::from(to.unblocks);
    fill_info(&mut handling.info, info);
    fill_context(&mut handling.context, registers, blocked);
    registers.rsp = room as u64;
    registers.rip = crate::gate::label!("elsewhen_handle_32");
}

/// What is to be called, and how.
pub(crate) struct Call {
    pub(crate) handler: u64,
    pub(crate) stack: u64,
    pub(crate) unblocks: bool,
}

/// The union of a 64-bit `siginfo_t` begins four bytes later; and an address there is of eight bytes.
fn fill_info(words: &mut [u32; 32], info: &Info) {
    for word in words.iter_mut() {
        *word = opaque(0) as u32;
    }
    let mut wide = [opaque(0); 4];
    user::reread(&raw const *info as u64, &mut wide);
    let [first, second, third, fourth] = wide;
    words[0] = first as u32;
    words[1] = (first >> 32) as u32;
    words[2] = second as u32;
    words[3] = third as u32;
    if info.is_of_a_call() {
        words[4] = fourth as u32;
        words[5] = (fourth >> 32) as u32;
    } else {
        words[4] = (third >> 32) as u32;
        words[5] = fourth as u32;
    }
}

fn fill_context(context: &mut Context32, registers: &Registers, blocked: u64) {
    let none = || opaque(0) as u32;
    context.flags = none();
    context.link = none();
    for word in &mut context.stack {
        *word = none();
    }
    for word in &mut context.segments {
        *word = none();
    }
    context.edi = registers.rdi as u32;
    context.esi = registers.rsi as u32;
    context.ebp = registers.rbp as u32;
    context.esp = registers.rsp as u32;
    context.ebx = registers.rbx as u32;
    context.edx = registers.rdx as u32;
    context.ecx = registers.rcx as u32;
    context.eax = registers.rax as u32;
    context.trap = none();
    context.error = none();
    context.eip = registers.rip as u32;
    context.cs = opaque(0x23) as u32;
    context.eflags = registers.flags as u32;
    context.esp_at_signal = registers.rsp as u32;
    context.ss = opaque(0x2b) as u32;
    context.vectors = none();
    context.old_mask = blocked as u32;
    context.cr2 = none();
    context.blocked[0] = blocked as u32;
    context.blocked[1] = (blocked >> 32) as u32;
}

/// Gives a thread that has come back from a handler the registers that this has left, and returns the mask and whether
/// `SIGSYS` is to be let in.
pub(crate) fn return_from(registers: &mut Registers) -> (u64, bool) {
    /// The flags that a handler may change (`FIX_EFLAGS` of `arch/x86/include/asm/sighandling.h`).
    const FLAGS: u64 = 0x0005_4dd5 | 0x1_0000;
    // SAFETY: only the detour makes this call, with what it has at its stack pointer.
    let handling = unsafe { &*(registers.rsp as *const Handling) };
    let context = &handling.context;
    registers.rdi = context.edi.into();
    registers.rsi = context.esi.into();
    registers.rbp = context.ebp.into();
    registers.rbx = context.ebx.into();
    registers.rdx = context.edx.into();
    registers.rcx = context.ecx.into();
    registers.rax = context.eax.into();
    registers.rip = context.eip.into();
    registers.flags = registers.flags & !FLAGS | u64::from(context.eflags) & FLAGS;
    let (blocked, unblocks) = (u64::from(context.blocked[0]) | u64::from(context.blocked[1]) << 32, handling.unblock != 0);
    registers.rsp = context.esp.into();
    (blocked, unblocks)
}

impl Context {
    /// Where a handler's stack begins that is entered now: the alternate one's end, where the thread is not on it.
    pub(crate) fn handler_stack(&self) -> u64 {
        if self.is_elsewhere() { self.alternate_end() } else { self.registers.rsp }
    }
}
