//! The stub: the few instructions that a process executes itself to map page, image and state, and to let the
//! image take over `SIGSYS`.
//!
//! It is copied into the unused end of the process's own vDSO, with its parameters behind it, and runs once:
//! from [`AT_REQUEST`] where the process was left at its first instruction and has to ask for the descriptors,
//! from [`at_map`] where it was caught in a system call of its own and has them already; then it also makes that
//! call and puts the code behind it right again. It speaks to the
//! supervisor by `arch_prctl(ARCH_SET_FS, WORD, EXTRA)`, which the filter announces, with words that are no
//! valid addresses. If nobody answers, it ends the process: half a namespace is worse than none.
//!
//! A 32-bit program runs the same stub, in 64-bit mode, with a [few instructions](code_32) more for the way in from its own
//! mode and back. Its code is put right and its call made again in them.

use crate::enter::{EXIT_STATUS, USER_CS_64, WORD_FAILED, WORD_REQUEST, boot_bytes};
use crate::page::{IMAGE_ADDRESS, PAGE_ADDRESS, STATE_ADDRESS, image_len};
use crate::remote::RemoteAddr;
use elsewhen_vdso::image;
use elsewhen_vdso::state::{Boot, STATE_SIZE, WIPED_SIZE};
use std::arch::global_asm;

/// Bytes of a jump to anywhere.
pub(crate) const FAR_JUMP_LEN: usize = 14;

/// Bytes of a jump from 32-bit code into 64-bit mode.
pub(crate) const MODE_JUMP_LEN: usize = 7;

/// `__USER32_CS`.
pub(crate) const USER_CS_32: u64 = 0x23;

global_asm!(
    ".pushsection .rodata.elsewhen_stub, \"a\", @progbits",
    ".balign 16",
    ".globl elsewhen_stub_start, elsewhen_stub_map, elsewhen_stub_parameters, elsewhen_stub_end",
    ".hidden elsewhen_stub_start, elsewhen_stub_map, elsewhen_stub_parameters, elsewhen_stub_end",
    ".globl elsewhen_stub_map_32, elsewhen_stub_call_32, elsewhen_stub_back_32, elsewhen_stub_end_32",
    ".hidden elsewhen_stub_map_32, elsewhen_stub_call_32, elsewhen_stub_back_32, elsewhen_stub_end_32",
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
    // The state: empty pages, the first of which a forked process finds empty again.
    "mov eax, {mmap}",
    "mov rdi, [rip + 33f]",
    "mov esi, {state_size}",
    "mov edx, {prot_read_write}",
    "mov r10d, {map_state}",
    "mov r8, -1",
    "xor r9d, r9d",
    "syscall",
    "cmp rax, [rip + 33f]",
    "jne 8f",
    "mov eax, {madvise}",
    "mov rdi, [rip + 33f]",
    "mov esi, {wiped_size}",
    "mov edx, {wipe_on_fork}",
    "syscall",
    "test rax, rax",
    "jnz 8f",
    // The image takes over SIGSYS.
    "push rbp",
    "mov rbp, rsp",
    "and rsp, -16",
    "lea rdi, [rip + 38f]",
    "call [rip + 35f]",
    "mov rsp, rbp",
    "pop rbp",
    "test rax, rax",
    "jnz 8f",
    // Put the bytes behind the announced call right again, through the process's own memory file.
    "mov rsi, [rip + 36f]",
    "test rsi, rsi",
    "jz 7f",
    "mov eax, {pwrite}",
    "mov edi, [rip + 22f]",
    "mov r10, rsi",
    "lea rsi, [rip + 37f]",
    "mov edx, 14",
    "syscall",
    "cmp rax, 14",
    "jne 8f",
    "mov eax, {close}",
    "mov edi, [rip + 22f]",
    "syscall",
    "7:",
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
    "xor eax, eax",
    "cmp dword ptr [rip + 23f], 0",
    "je 6f",
    // Make the announced call, marked as ours by an argument that the kernel ignores.
    "push rdx",
    "movabs rdx, {pass}",
    "mov eax, {arch_prctl}",
    "syscall",
    "pop rdx",
    "6:",
    "lea rsp, [rsp + 128]",
    "xor ecx, ecx",
    "xor r11d, r11d",
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
    "22: .long 0",
    "23: .long 0",
    "30: .quad 0",
    "31: .quad 0",
    "32: .quad 0",
    "33: .quad 0",
    "34: .quad 0",
    "35: .quad 0",
    "36: .quad 0",
    "37: .quad 0, 0",
    "38: .zero {boot}",
    "elsewhen_stub_end:",
    // Where a 32-bit program goes on, offset and segment.
    "39: .long 0, {user_cs_32}",
    // Entered from 32-bit code, right behind a system call. The upper halves of registers are nobody's business there, and
    // the registers from r8 on are not the program's; here, ecx is to survive too.
    "elsewhen_stub_map_32:",
    "mov eax, eax",
    "mov esp, esp",
    "mov r12d, ecx",
    "jmp elsewhen_stub_map",
    // Left for a program that was caught: makes its announced call, marked as ours by an argument that the kernel ignores.
    "elsewhen_stub_call_32:",
    "mov eax, {set_thread_area}",
    "mov ecx, {pass_32}",
    "int 0x80",
    "mov ecx, r12d",
    // jmp fword ptr [rip + 39b]
    "elsewhen_stub_back_32:",
    ".byte 0xff, 0x2d",
    ".long 39b - 38f",
    "38:",
    "elsewhen_stub_end_32:",
    ".popsection",
    boot = const size_of::<Boot>(),
    user_cs_32 = const USER_CS_32,
    set_thread_area = const crate::seccomp::I386_SET_THREAD_AREA,
    pass_32 = const crate::seccomp::STUB_PASS_32,
    arch_prctl = const libc::SYS_arch_prctl,
    set_fs = const crate::seccomp::ARCH_SET_FS,
    request = const WORD_REQUEST,
    failed = const WORD_FAILED,
    pass = const crate::seccomp::STUB_PASS,
    pwrite = const libc::SYS_pwrite64,
    mmap = const libc::SYS_mmap,
    close = const libc::SYS_close,
    exit_group = const libc::SYS_exit_group,
    status = const EXIT_STATUS,
    prot_read = const libc::PROT_READ,
    madvise = const libc::SYS_madvise,
    wipe_on_fork = const libc::MADV_WIPEONFORK,
    state_size = const STATE_SIZE,
    wiped_size = const WIPED_SIZE,
    prot_read_write = const libc::PROT_READ | libc::PROT_WRITE,
    map_state = const libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE,
    prot_read_exec = const libc::PROT_READ | libc::PROT_EXEC,
    map_page = const libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE,
    map_image = const libc::MAP_PRIVATE | libc::MAP_FIXED_NOREPLACE,
);

unsafe extern "C" {
    static elsewhen_stub_start: u8;
    static elsewhen_stub_map: u8;
    static elsewhen_stub_parameters: u8;
    static elsewhen_stub_end: u8;
    static elsewhen_stub_map_32: u8;
    static elsewhen_stub_call_32: u8;
    static elsewhen_stub_back_32: u8;
    static elsewhen_stub_end_32: u8;
}

/// The stub's bytes, parameters included.
pub(crate) fn code() -> &'static [u8] {
    // SAFETY: the symbols are the two ends of one run of constant bytes, defined above.
    unsafe { std::slice::from_raw_parts(&raw const elsewhen_stub_start, offset(&raw const elsewhen_stub_end)) }
}

/// As [`code`], for 32-bit programs.
pub(crate) fn code_32() -> &'static [u8] {
    // SAFETY: as above; the run goes on behind the parameters.
    unsafe { std::slice::from_raw_parts(&raw const elsewhen_stub_start, offset(&raw const elsewhen_stub_end_32)) }
}

/// Offset of the way in for a process at its first instruction, in 64-bit mode.
pub(crate) const AT_REQUEST: u64 = 0;

/// Offset of the way in for a process that returns from a system call.
pub(crate) fn at_map() -> u64 {
    offset(&raw const elsewhen_stub_map) as u64
}

/// Offset of the same for 32-bit programs, in 64-bit mode.
pub(crate) fn at_map_32() -> u64 {
    offset(&raw const elsewhen_stub_map_32) as u64
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
    /// Where the process goes on.
    pub(crate) resume_at: RemoteAddr,
    /// What the image is told.
    pub(crate) boot: Boot,
    /// For a process caught in a system call: what to do before it returns from it.
    pub(crate) caught: Option<Caught>,
}

/// A process caught in its `arch_prctl(ARCH_SET_FS)`, whose return leads into the stub.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caught {
    /// A descriptor of the process's own memory, in the process.
    pub(crate) memory_fd: i32,
    /// The bytes that belong to [`Parameters::resume_at`].
    pub(crate) displaced: [u8; FAR_JUMP_LEN],
}

impl Parameters {
    /// As the stub reads them.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        self.bytes(self.resume_at, self.caught.is_some())
    }

    /// As the stub at an address reads them in a 32-bit program.
    pub(crate) fn to_bytes_32(self, stub: RemoteAddr) -> Vec<u8> {
        let way_out = match self.caught {
            Some(_) => &raw const elsewhen_stub_call_32,
            None => &raw const elsewhen_stub_back_32,
        };
        let mut bytes = self.bytes(stub.plus(offset(way_out) as u64), false);
        bytes.extend((self.resume_at.0 as u32).to_le_bytes());
        bytes
    }

    /// The parameters, with where the stub ends and whether it makes the announced call before.
    fn bytes(self, end_at: RemoteAddr, calls: bool) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256);
        let memory_fd = self.caught.map_or(-1, |caught| caught.memory_fd);
        for word in [self.page_fd, self.image_fd, memory_fd, i32::from(calls)] {
            bytes.extend(word.to_le_bytes());
        }
        let put_right = self.caught.map_or(0, |_| self.resume_at.0);
        let boot_address = IMAGE_ADDRESS + image::HOOK_BOOT;
        for word in [PAGE_ADDRESS, IMAGE_ADDRESS, image_len(), STATE_ADDRESS, end_at.0, boot_address, put_right] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(self.caught.map_or([0; FAR_JUMP_LEN], |caught| caught.displaced));
        bytes.extend([0; 2]);
        bytes.extend(boot_bytes(self.boot));
        bytes
    }
}

/// `jmp [rip]; .quad to`, to be placed behind an announced call.
pub(crate) fn far_jump(to: RemoteAddr) -> [u8; FAR_JUMP_LEN] {
    let mut code = [0xff, 0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    code[6..].copy_from_slice(&to.0.to_le_bytes());
    code
}

/// `jmp far to`, from 32-bit code into 64-bit mode, to be placed behind an announced call.
pub(crate) fn mode_jump(to: RemoteAddr) -> [u8; MODE_JUMP_LEN] {
    let mut code = [0xea, 0, 0, 0, 0, 0, 0];
    code[1..5].copy_from_slice(&(to.0 as u32).to_le_bytes());
    code[5..].copy_from_slice(&(USER_CS_64 as u16).to_le_bytes());
    code
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    #[test]
    fn the_parameters_are_as_long_as_their_place() {
        let parameters =
            Parameters { page_fd: 3, image_fd: 4, resume_at: RemoteAddr(0), boot: Boot::default(), caught: None };
        assert_eq!(parameters.to_bytes().len() as u64, code().len() as u64 - at_parameters());
        assert_eq!(parameters.to_bytes_32(RemoteAddr(0)).len() as u64, code().len() as u64 + 4 - at_parameters());
    }

    /// Fails unless code with parameters behind it is whole instructions which refer to nothing outside.
    pub(crate) fn assert_refers_to_itself(code: &[u8], at_parameters: u64) {
        let mut decoder = iced_x86::Decoder::new(64, &code[..at_parameters as usize], 0);
        while decoder.can_decode() {
            let instruction = decoder.decode();
            assert!(!instruction.is_invalid());
            assert!(!instruction.is_ip_rel_memory_operand() || instruction.ip_rel_memory_address() < code.len() as u64);
        }
    }

    #[test]
    fn the_stub_is_position_independent() {
        assert_refers_to_itself(code(), at_parameters());
    }

    #[test]
    fn a_32_bit_program_is_left_by_a_jump_into_its_own_mode() {
        let back = offset(&raw const elsewhen_stub_back_32);
        let jump = iced_x86::Decoder::with_ip(64, &code_32()[back..], back as u64, 0).decode();
        assert_eq!(jump.code(), iced_x86::Code::Jmp_m1632);
        assert_eq!(jump.ip_rel_memory_address(), code().len() as u64);
        assert_eq!(jump.next_ip(), code_32().len() as u64);
        let there = mode_jump(RemoteAddr(0xf7f8_0123));
        let jump = iced_x86::Decoder::new(32, &there, 0).decode();
        assert_eq!((jump.far_branch32(), u64::from(jump.far_branch_selector())), (0xf7f8_0123, USER_CS_64));
    }
}
