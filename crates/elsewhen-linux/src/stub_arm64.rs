//! The stub on arm64: the few instructions that a process executes itself to map page, image and state, and to let the image
//! take over `SIGSYS`.
//!
//! It is copied into the unused end of the process's own vDSO, with its parameters behind it, and runs once, from the
//! process's first instruction. It asks the supervisor for the descriptors by a call that the filter announces. If
//! nobody answers, it ends the process: half a namespace is worse than none.

use crate::enter::{EXIT_STATUS, WORD_FAILED, WORD_REQUEST, boot_bytes};
use crate::page::{IMAGE_ADDRESS, PAGE_ADDRESS, STATE_ADDRESS, image_len};
use crate::remote::RemoteAddr;
use elsewhen_vdso::image;
use elsewhen_vdso::state::{Boot, STATE_SIZE, WIPED_SIZE};
use elsewhen_vdso::surface::ASK;
use std::arch::global_asm;

global_asm!(
    ".pushsection .rodata.elsewhen_stub, \"a\", @progbits",
    ".balign 16",
    ".globl elsewhen_stub_start, elsewhen_stub_parameters, elsewhen_stub_end",
    ".hidden elsewhen_stub_start, elsewhen_stub_parameters, elsewhen_stub_end",
    "elsewhen_stub_start:",
    // Ask; the answer comes with the parameters filled in.
    "mov x0, {ask_argument}",
    "ldr x1, 41f",
    "mov x2, xzr",
    "ldr w8, 40f",
    "svc #0",
    "cbnz x0, 9f",
    // The page.
    "ldr x0, 30f",
    "mov x1, #4096",
    "mov x2, {prot_read}",
    "ldr w3, 43f",
    "ldr w4, 20f",
    "mov x5, xzr",
    "mov x8, {mmap}",
    "svc #0",
    "ldr x9, 30f",
    "cmp x0, x9",
    "b.ne 8f",
    // The image.
    "ldr x0, 31f",
    "ldr x1, 32f",
    "mov x2, {prot_read_exec}",
    "ldr w3, 44f",
    "ldr w4, 21f",
    "mov x5, xzr",
    "svc #0",
    "ldr x9, 31f",
    "cmp x0, x9",
    "b.ne 8f",
    // The state: empty pages, the first of which a forked process finds empty again.
    "ldr x0, 33f",
    "ldr w1, 46f",
    "mov x2, {prot_read_write}",
    "ldr w3, 45f",
    "mov x4, #-1",
    "mov x5, xzr",
    "svc #0",
    "ldr x9, 33f",
    "cmp x0, x9",
    "b.ne 8f",
    "mov x1, {wiped_size}",
    "mov x2, {wipe_on_fork}",
    "mov x8, {madvise}",
    "svc #0",
    "cbnz x0, 8f",
    // The image takes over SIGSYS.
    "adr x0, 38f",
    "ldr x9, 35f",
    "blr x9",
    "cbnz x0, 8f",
    "ldr w0, 20f",
    "mov x8, {close}",
    "svc #0",
    "ldr w0, 21f",
    "svc #0",
    // A program begins with nothing in its registers but its stack pointer; the one that leads there is for veneers.
    "mov x0, xzr",
    "mov x1, xzr",
    "mov x2, xzr",
    "mov x3, xzr",
    "mov x4, xzr",
    "mov x5, xzr",
    "mov x6, xzr",
    "mov x7, xzr",
    "mov x8, xzr",
    "mov x9, xzr",
    "mov x10, xzr",
    "mov x11, xzr",
    "mov x12, xzr",
    "mov x13, xzr",
    "mov x14, xzr",
    "mov x15, xzr",
    "mov x17, xzr",
    "mov x18, xzr",
    "mov x29, xzr",
    "mov x30, xzr",
    "ldr x16, 34f",
    "br x16",
    // Say what failed, then end.
    "8:",
    "mov x2, x0",
    "mov x0, {ask_argument}",
    "ldr x1, 42f",
    "ldr w8, 40f",
    "svc #0",
    "9:",
    "mov x0, {status}",
    "mov x8, {exit_group}",
    "svc #0",
    "b 9b",
    "40: .long {ask}",
    "43: .long {map_page}",
    "44: .long {map_image}",
    "45: .long {map_state}",
    "46: .long {state_size}",
    ".balign 8",
    "41: .quad {request}",
    "42: .quad {failed}",
    "elsewhen_stub_parameters:",
    "20: .long 0",
    "21: .long 0",
    "30: .quad 0",
    "31: .quad 0",
    "32: .quad 0",
    "33: .quad 0",
    "34: .quad 0",
    "35: .quad 0",
    "38: .zero {boot}",
    "elsewhen_stub_end:",
    ".popsection",
    boot = const size_of::<Boot>(),
    ask = const ASK.0,
    ask_argument = const ASK.1,
    request = const WORD_REQUEST,
    failed = const WORD_FAILED,
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
}

impl Parameters {
    /// As the stub reads them.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(128);
        for word in [self.page_fd, self.image_fd] {
            bytes.extend(word.to_le_bytes());
        }
        let boot_address = IMAGE_ADDRESS + image::HOOK_BOOT;
        for word in [PAGE_ADDRESS, IMAGE_ADDRESS, image_len(), STATE_ADDRESS, self.resume_at.0, boot_address] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(boot_bytes(self.boot));
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameters_are_as_long_as_their_place() {
        let parameters = Parameters { page_fd: 3, image_fd: 4, resume_at: RemoteAddr(0), boot: Boot::default() };
        assert_eq!(parameters.to_bytes().len() as u64, code().len() as u64 - at_parameters());
    }
}
