//! The caller's memory: its pointers are checked as the kernel would, so that a bad one gives `EFAULT`.
//!
//! What the kernel itself has just read or written needs no check. All of it is words, moved one at a time, since a
//! vector register of the interrupted program must not be touched.

use crate::numbers;
use crate::host::syscall;
use core::arch::asm;

const EFAULT: i64 = -14;
const EINVAL: i64 = -22;
const PAGE: u64 = 4096;

/// A pointer that cannot be followed.
pub(crate) struct Fault;

/// `-EFAULT`, as a result.
pub(crate) const FAULT: i64 = EFAULT;

/// Whether eight bytes can be read: the kernel copies the set before it looks at what to do with it.
fn is_readable(address: u64) -> bool {
    const NOTHING: usize = usize::MAX;
    // SAFETY: with an operation that does not exist the call changes nothing.
    let result = unsafe { syscall(numbers::RT_SIGPROCMASK, [NOTHING, address as usize, 0, 8, 0, 0]) };
    result == EINVAL
}

/// Whether eight bytes can be written; if so, they are: what they hold afterwards is of no use.
fn is_writable(address: u64) -> bool {
    if address == 0 {
        return false;
    }
    // SAFETY: without a new set the call only reports the current one, into memory that the caller gave for it.
    let result = unsafe { syscall(numbers::RT_SIGPROCMASK, [0, 0, address as usize, 8, 0, 0]) };
    result == 0
}

/// How much above a thread's red zone is taken for its stack.
pub(crate) const NEAR: u64 = 8192;

/// Whether an address lies a little above a thread's stack pointer (or in its red zone), where there is no need to
/// ask the kernel: what is there is mapped, but for a pointer that is bad and by chance close.
fn is_near(stack: u64, address: u64) -> bool {
    const RED_ZONE: u64 = if cfg!(target_arch = "x86_64") { 128 } else { 0 };
    address.wrapping_sub(stack.wrapping_sub(RED_ZONE)) < NEAR
}

/// Reads a word, aligned or not, by one instruction.
///
/// # Safety
/// The eight bytes can be read; else the thread gets a signal.
#[inline(always)]
unsafe fn load(address: u64) -> u64 {
    let word;
    // SAFETY: the caller's promise.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        asm!("mov {}, [{}]", out(reg) word, in(reg) address, options(nostack, readonly, preserves_flags));
        #[cfg(target_arch = "aarch64")]
        asm!("ldr {}, [{}]", out(reg) word, in(reg) address, options(nostack, readonly, preserves_flags));
    }
    word
}

/// Writes a word, aligned or not, by one instruction.
///
/// # Safety
/// The eight bytes can be written, and nobody here refers to them; else the thread gets a signal.
#[inline(always)]
unsafe fn store(address: u64, word: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        asm!("mov [{}], {}", in(reg) address, in(reg) word, options(nostack, preserves_flags));
        #[cfg(target_arch = "aarch64")]
        asm!("str {1}, [{0}]", in(reg) address, in(reg) word, options(nostack, preserves_flags));
    }
}

/// Reads words for a thread with that stack pointer. On a fault nothing is to be made of `words`.
#[inline(never)]
pub(crate) fn read(stack: u64, address: u64, words: &mut [u64]) -> Result<(), Fault> {
    if is_near(stack, address) {
        reread(address, words);
        return Ok(());
    }
    let last = address.wrapping_add(8 * (words.len() as u64 - 1));
    if !is_readable(address) || (address / PAGE != (last + 7) / PAGE && !is_readable(last)) {
        return Err(Fault);
    }
    reread(address, words);
    Ok(())
}

/// Reads words that are known to be readable, as after the kernel has written them.
#[inline(never)]
pub(crate) fn reread(address: u64, words: &mut [u64]) {
    for (at, word) in words.iter_mut().enumerate() {
        // SAFETY: the range was checked, by us or by the kernel; a program that unmaps it meanwhile faults as one
        // does that unmaps what it uses.
        *word = unsafe { load(address + 8 * at as u64) };
    }
}

/// Reads an int where the kernel has just used one.
pub(crate) fn reread_int(address: u64) -> i32 {
    // SAFETY: as in `reread`.
    unsafe { (address as *const i32).read_unaligned() }
}

/// Writes words for a thread with that stack pointer.
#[inline(never)]
pub(crate) fn write(stack: u64, address: u64, words: &[u64]) -> Result<(), Fault> {
    if is_near(stack, address) {
        rewrite(address, words);
        return Ok(());
    }
    let last = address.wrapping_add(8 * (words.len() as u64 - 1));
    if !is_writable(address) || (address / PAGE != (last + 7) / PAGE && !is_writable(last)) {
        return Err(Fault);
    }
    rewrite(address, words);
    Ok(())
}

/// Writes words to where the kernel has just written.
#[inline(never)]
pub(crate) fn rewrite(address: u64, words: &[u64]) {
    for (at, word) in words.iter().enumerate() {
        // SAFETY: as in `reread`, for writing.
        unsafe { store(address + 8 * at as u64, *word) };
    }
}

/// Follows a bad pointer, for a caller that gets a signal rather than an error.
pub(crate) fn die_of(address: u64) {
    // SAFETY: the address is the caller's own, for writing; that it cannot be written is the point.
    unsafe { store(address, 0) };
}
