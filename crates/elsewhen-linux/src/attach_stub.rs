//! The stub for a running process: what one of its threads executes, in the unused end of its vDSO, until it has the image.
//!
//! Nothing of the interrupted program's may be used, not even its stack, and there is no other memory yet; so everything is
//! in registers, which the thread gets back from the parameters where a step fails. The thread's signals are blocked. It
//! loads a filter that only announces, asks for the image, maps that, state and a page that changes nothing, tells, and goes
//! on in the image. If whoever sent it dies, its next question fails, and it goes back to where it was. What it has mapped
//! goes with it, unless the state is filled in: then something may lead there already.

use crate::page::{IMAGE_ADDRESS, STATE_ADDRESS, image_len};
use crate::remote::RemoteAddr;
use crate::trace::Registers;
use elsewhen_vdso::image;
use elsewhen_vdso::page::PAGE_SIZE;
use elsewhen_vdso::state::{Boot, STATE_SIZE, WIPED_SIZE};
use elsewhen_vdso::surface::WORD_ATTACH;
use std::arch::global_asm;
use std::mem::offset_of;

/// With what the filter that announces is loaded, for every thread and with a listener.
pub(crate) const FILTER_FLAGS: u64 = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER
    | libc::SECCOMP_FILTER_FLAG_TSYNC
    | libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH
    | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;

/// The most instructions of a filter that only announces.
const FILTER_MAX: usize = 48;

global_asm!(
    ".pushsection .rodata.elsewhen_attach, \"a\", @progbits",
    ".balign 16",
    ".globl elsewhen_attach_start, elsewhen_attach_parameters, elsewhen_attach_end",
    ".hidden elsewhen_attach_start, elsewhen_attach_parameters, elsewhen_attach_end",
    "elsewhen_attach_start:",
    "cld",
    // The filter: with the newest flags, then without; without new privileges where the kernel insists.
    "mov r13d, {flags}",
    "xor ebx, ebx",
    "2:",
    "mov eax, {seccomp}",
    "mov edi, {set_filter}",
    "mov esi, r13d",
    "lea rdx, [rip + 20f]",
    "syscall",
    "mov r12, rax",
    "test rax, rax",
    "jns 4f",
    "cmp eax, -{einval}",
    "jne 3f",
    "test r13d, {killable}",
    "jz 9f",
    "and r13d, ~{killable}",
    "jmp 2b",
    "3:",
    "cmp eax, -{eacces}",
    "jne 9f",
    "inc ebx",
    "cmp ebx, 1",
    "jne 9f",
    "mov eax, {prctl}",
    "mov edi, {no_new_privs}",
    "mov esi, 1",
    "xor edx, edx",
    "xor r10d, r10d",
    "xor r8d, r8d",
    "syscall",
    "jmp 2b",
    // Whoever follows this has a copy of the listener now. Were this one left open, a question that nobody is there to
    // answer would wait for ever.
    "4:",
    "mov eax, {close}",
    "mov rdi, r12",
    "syscall",
    // Ask for the image and map it, and state and page behind each other.
    "xor edx, edx",
    "mov eax, {arch_prctl}",
    "mov edi, {set_fs}",
    "movabs rsi, {word}",
    "syscall",
    "test rax, rax",
    "js 9f",
    "mov r14, rax",
    "mov eax, {mmap}",
    "mov edi, {image}",
    "mov esi, {image_len}",
    "mov edx, {read_exec}",
    "mov r10d, {map_image}",
    "mov r8, r14",
    "xor r9d, r9d",
    "syscall",
    "mov rbx, rax",
    "mov eax, {close}",
    "mov rdi, r14",
    "syscall",
    "cmp rbx, {image}",
    "jne 9f",
    "mov eax, {mmap}",
    "mov edi, {state}",
    "mov esi, {state_len}",
    "mov edx, {read_write}",
    "mov r10d, {map_state}",
    "mov r8, -1",
    "xor r9d, r9d",
    "syscall",
    "cmp rax, {state}",
    "jne 8f",
    "mov eax, {madvise}",
    "mov edi, {state}",
    "mov esi, {wiped}",
    "mov edx, {wipe_on_fork}",
    "syscall",
    "test rax, rax",
    "jnz 7f",
    "mov eax, {arch_prctl}",
    "mov edi, {set_fs}",
    "movabs rsi, {word}",
    "mov edx, 1",
    "syscall",
    "test rax, rax",
    "jnz 7f",
    "mov eax, {remote}",
    "jmp rax",
    // Without what has been mapped.
    "7:",
    "mov eax, {filled_in}",
    "cmp qword ptr [rax], 0",
    "jne 9f",
    "mov eax, {munmap}",
    "mov edi, {state}",
    "mov esi, {state_len}",
    "syscall",
    "8:",
    "mov eax, {munmap}",
    "mov edi, {image}",
    "mov esi, {image_len}",
    "syscall",
    // Back to where the thread was. The flags first, which no instruction from there on changes.
    "9:",
    "lea rsp, [rip + 21f + 8 * 16]",
    "popfq",
    "mov rsp, [rip + 21f + 8 * 17]",
    "mov eax, {sigprocmask}",
    "mov edi, {setmask}",
    "lea rsi, [rip + 22f]",
    "mov edx, 0",
    "mov r10d, 8",
    "syscall",
    "mov r15, [rip + 21f + 8 * 0]",
    "mov r14, [rip + 21f + 8 * 1]",
    "mov r13, [rip + 21f + 8 * 2]",
    "mov r12, [rip + 21f + 8 * 3]",
    "mov rbp, [rip + 21f + 8 * 4]",
    "mov rbx, [rip + 21f + 8 * 5]",
    "mov r11, [rip + 21f + 8 * 6]",
    "mov r10, [rip + 21f + 8 * 7]",
    "mov r9, [rip + 21f + 8 * 8]",
    "mov r8, [rip + 21f + 8 * 9]",
    "mov rax, [rip + 21f + 8 * 10]",
    "mov rcx, [rip + 21f + 8 * 11]",
    "mov rdx, [rip + 21f + 8 * 12]",
    "mov rsi, [rip + 21f + 8 * 13]",
    "mov rdi, [rip + 21f + 8 * 14]",
    "jmp [rip + 21f + 8 * 15]",
    ".balign 8, 0xcc",
    "elsewhen_attach_parameters:",
    // The registers and the mask, `struct sock_fprog`, its instructions.
    "21: .zero 8 * 18",
    "22: .quad 0",
    "20: .quad 0, 0",
    ".zero 8 * {filter_max}",
    "elsewhen_attach_end:",
    ".popsection",
    flags = const FILTER_FLAGS | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
    killable = const libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
    seccomp = const libc::SYS_seccomp,
    set_filter = const libc::SECCOMP_SET_MODE_FILTER,
    einval = const libc::EINVAL,
    eacces = const libc::EACCES,
    prctl = const libc::SYS_prctl,
    no_new_privs = const libc::PR_SET_NO_NEW_PRIVS,
    arch_prctl = const libc::SYS_arch_prctl,
    set_fs = const crate::seccomp::ARCH_SET_FS,
    word = const WORD_ATTACH,
    mmap = const libc::SYS_mmap,
    munmap = const libc::SYS_munmap,
    filled_in = const STATE_ADDRESS + (WIPED_SIZE + offset_of!(Boot, vdso_end)) as u64,
    close = const libc::SYS_close,
    madvise = const libc::SYS_madvise,
    sigprocmask = const libc::SYS_rt_sigprocmask,
    setmask = const libc::SIG_SETMASK,
    image = const IMAGE_ADDRESS,
    image_len = const image_len(),
    read_exec = const libc::PROT_READ | libc::PROT_EXEC,
    map_image = const libc::MAP_PRIVATE | libc::MAP_FIXED_NOREPLACE,
    state = const STATE_ADDRESS,
    state_len = const STATE_SIZE + PAGE_SIZE,
    read_write = const libc::PROT_READ | libc::PROT_WRITE,
    map_state = const libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE,
    wiped = const WIPED_SIZE,
    wipe_on_fork = const libc::MADV_WIPEONFORK,
    remote = const IMAGE_ADDRESS + image::HOOK_REMOTE,
    filter_max = const FILTER_MAX,
);

unsafe extern "C" {
    static elsewhen_attach_start: u8;
    static elsewhen_attach_parameters: u8;
    static elsewhen_attach_end: u8;
}

/// The stub's bytes, parameters included.
pub(crate) fn code() -> &'static [u8] {
    // SAFETY: the symbols are the two ends of one run of constant bytes, defined above.
    unsafe { std::slice::from_raw_parts(&raw const elsewhen_attach_start, offset(&raw const elsewhen_attach_end)) }
}

/// Offset of the parameters.
pub(crate) fn at_parameters() -> u64 {
    offset(&raw const elsewhen_attach_parameters) as u64
}

fn offset(symbol: *const u8) -> usize {
    symbol.addr() - (&raw const elsewhen_attach_start).addr()
}

/// The registers in the order in which stub and image give them back.
pub(crate) const fn words(registers: &Registers) -> [u64; 18] {
    [
        registers.r15,
        registers.r14,
        registers.r13,
        registers.r12,
        registers.rbp,
        registers.rbx,
        registers.r11,
        registers.r10,
        registers.r9,
        registers.r8,
        registers.rax,
        registers.rcx,
        registers.rdx,
        registers.rsi,
        registers.rdi,
        registers.rip,
        registers.eflags,
        registers.rsp,
    ]
}

/// The parameters for a stub at an address: what the thread goes back to, and the filter.
pub(crate) fn parameters(registers: &Registers, mask: u64, filter: &[libc::sock_filter], stub: RemoteAddr) -> Vec<u8> {
    assert!(filter.len() <= FILTER_MAX, "the filter that announces has {} instructions", filter.len());
    let mut bytes: Vec<u8> = words(registers).iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.extend(mask.to_le_bytes());
    let instructions = stub.plus(at_parameters() + bytes.len() as u64 + 16);
    bytes.extend((filter.len() as u64).to_le_bytes());
    bytes.extend(instructions.0.to_le_bytes());
    bytes.extend(crate::filter::bytes(filter));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::Filter;

    #[test]
    fn the_parameters_fit_and_the_stub_refers_to_itself_only() {
        // SAFETY: all zeros is a valid value of this plain struct.
        let registers: Registers = unsafe { std::mem::zeroed() };
        let parameters = parameters(&registers, 0, Filter::announcing().instructions(), RemoteAddr(0));
        assert!(parameters.len() as u64 <= code().len() as u64 - at_parameters());
        crate::stub::tests::assert_refers_to_itself(code(), at_parameters());
    }
}
