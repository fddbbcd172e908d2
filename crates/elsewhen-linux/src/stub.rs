//! The stub: the few instructions that a process executes itself to map the page and the image.
//!
//! It is copied into the unused end of the process's own vDSO, with its parameters behind it, and runs once:
//! from [`AT_REQUEST`] where the process was left at its first instruction and has to ask for the descriptors,
//! from [`AT_MAP`] where it was caught in a system call of its own and has them already. It speaks to the
//! supervisor by `arch_prctl(ARCH_SET_FS, WORD, EXTRA)`, which the filter announces, with words that are no
//! valid addresses. If nobody answers, it ends the process: half a namespace is worse than none.

use crate::page::{IMAGE_ADDRESS, PAGE_ADDRESS, image_len};
use std::arch::global_asm;

/// "Give me the descriptors", said by a process entered at its first instruction.
pub(crate) const WORD_REQUEST: u64 = 0xe15e_0001_0000_0001;

/// "This step failed", with the kernel's answer as the extra word.
pub(crate) const WORD_FAILED: u64 = 0xe15e_0001_0000_0002;

/// With what the stub ends its process where nobody answers: our own failure.
const EXIT_STATUS: u32 = 125;

global_asm!(
    ".pushsection .rodata.elsewhen_stub, \"a\", @progbits",
    ".balign 16",
    ".globl elsewhen_stub_start, elsewhen_stub_map, elsewhen_stub_parameters, elsewhen_stub_end",
    ".hidden elsewhen_stub_start, elsewhen_stub_map, elsewhen_stub_parameters, elsewhen_stub_end",
    "elsewhen_stub_start:",
    // Entered at a program's first instruction. Ask; the answer comes with the parameters filled in.
    "mov eax, {arch_prctl}",
    "mov edi, {set_fs}",
    "movabs rsi, {request}",
    "syscall",
    "xor edi, edi",
    "xor esi, esi",
    "elsewhen_stub_map:",
    // Entered right behind a system call: every register but rax, rcx and r11 must survive, and the 128 bytes
    // below the stack pointer too.
    "test rax, rax",
    "jnz 9f",
    "lea rsp, [rsp - 128]",
    "push rdi",
    "push rsi",
    "push rdx",
    "push r10",
    "push r8",
    "push r9",
    "mov eax, {mmap}",
    "mov rdi, [rip + 30f]",
    "mov esi, 4096",
    "mov edx, {prot_read}",
    "mov r10d, {map_page}",
    "mov r8d, [rip + 20f]",
    "xor r9d, r9d",
    "syscall",
    "cmp rax, [rip + 30f]",
    "jne 8f",
    "mov eax, {mmap}",
    "mov rdi, [rip + 31f]",
    "mov rsi, [rip + 32f]",
    "mov edx, {prot_read_exec}",
    "mov r10d, {map_image}",
    "mov r8d, [rip + 21f]",
    "xor r9d, r9d",
    "syscall",
    "cmp rax, [rip + 31f]",
    "jne 8f",
    "mov eax, {close}",
    "mov edi, [rip + 20f]",
    "syscall",
    "mov eax, {close}",
    "mov edi, [rip + 21f]",
    "syscall",
    "pop r9",
    "pop r8",
    "pop r10",
    "pop rdx",
    "pop rsi",
    "pop rdi",
    "lea rsp, [rsp + 128]",
    "xor ecx, ecx",
    "xor r11d, r11d",
    "mov rax, [rip + 33f]",
    "jmp qword ptr [rip + 34f]",
    // Say what failed, then end.
    "8:",
    "mov rdx, rax",
    "mov eax, {arch_prctl}",
    "mov edi, {set_fs}",
    "movabs rsi, {failed}",
    "syscall",
    "9:",
    "mov eax, {exit_group}",
    "mov edi, {status}",
    "syscall",
    "jmp 9b",
    ".balign 8, 0xcc",
    "elsewhen_stub_parameters:",
    "20: .long 0",
    "21: .long 0",
    "30: .quad 0",
    "31: .quad 0",
    "32: .quad 0",
    "33: .quad 0",
    "34: .quad 0",
    "elsewhen_stub_end:",
    ".popsection",
    arch_prctl = const libc::SYS_arch_prctl,
    set_fs = const crate::seccomp::ARCH_SET_FS,
    request = const WORD_REQUEST,
    failed = const WORD_FAILED,
    mmap = const libc::SYS_mmap,
    close = const libc::SYS_close,
    exit_group = const libc::SYS_exit_group,
    status = const EXIT_STATUS,
    prot_read = const libc::PROT_READ,
    prot_read_exec = const libc::PROT_READ | libc::PROT_EXEC,
    map_page = const libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE,
    map_image = const libc::MAP_PRIVATE | libc::MAP_FIXED_NOREPLACE,
);

unsafe extern "C" {
    static elsewhen_stub_start: u8;
    static elsewhen_stub_map: u8;
    static elsewhen_stub_parameters: u8;
    static elsewhen_stub_end: u8;
}

/// The stub's bytes, parameters included.
pub(crate) fn code() -> &'static [u8] {
    // SAFETY: the symbols are the two ends of one run of constant bytes, defined above.
    unsafe { std::slice::from_raw_parts(&raw const elsewhen_stub_start, offset(&raw const elsewhen_stub_end)) }
}

/// Offset of the way in for a process at its first instruction.
pub(crate) const AT_REQUEST: u64 = 0;

/// Offset of the way in for a process that returns from a system call.
pub(crate) fn at_map() -> u64 {
    offset(&raw const elsewhen_stub_map) as u64
}

/// Offset of the parameters.
pub(crate) fn at_parameters() -> u64 {
    offset(&raw const elsewhen_stub_parameters) as u64
}

fn offset(symbol: *const u8) -> usize {
    symbol.addr() - (&raw const elsewhen_stub_start).addr()
}

/// The stub's parameters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parameters {
    /// The page's descriptor in the process.
    pub(crate) page_fd: i32,
    /// The image's descriptor in the process.
    pub(crate) image_fd: i32,
    /// What rax is to hold when the stub is done.
    pub(crate) resume_rax: u64,
    /// Where the process goes on.
    pub(crate) resume_at: u64,
}

impl Parameters {
    /// As the stub reads them.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(48);
        bytes.extend(self.page_fd.to_le_bytes());
        bytes.extend(self.image_fd.to_le_bytes());
        for word in [PAGE_ADDRESS, IMAGE_ADDRESS, image_len(), self.resume_rax, self.resume_at] {
            bytes.extend(word.to_le_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameters_are_as_long_as_their_place() {
        let parameters = Parameters { page_fd: 3, image_fd: 4, resume_rax: 0, resume_at: 0 };
        assert_eq!(parameters.to_bytes().len() as u64, code().len() as u64 - at_parameters());
    }

    #[test]
    fn the_stub_is_position_independent() {
        let mut decoder = iced_x86::Decoder::new(64, &code()[..at_parameters() as usize], 0);
        while decoder.can_decode() {
            let instruction = decoder.decode();
            assert!(!instruction.is_invalid());
            assert!(
                !instruction.is_ip_rel_memory_operand() || instruction.ip_rel_memory_address() < code().len() as u64
            );
        }
    }
}
