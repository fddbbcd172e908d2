//! What a stop has interrupted: system calls that are to be made again, and code that has moved meanwhile.

use crate::error::{Error, Result};
use crate::halt::{Halt, Halted, from_the_beginning};
use crate::page::{IMAGE_ADDRESS, image_len};
use crate::redirect::Patch;
use crate::remote::{RemoteAddr, RemoteMemory};
use crate::trace::Registers;

const NO_SYSTEM_CALL: u64 = u64::MAX;

// What a system call returns to the kernel's own code for restarting it (`include/linux/errno.h`).
const ERESTARTSYS: i64 = -512;
const ERESTARTNOINTR: i64 = -513;
const ERESTARTNOHAND: i64 = -514;
const ERESTART_RESTARTBLOCK: i64 = -516;

/// Registers of a thread that is to execute something else, and in no system call.
pub(crate) const fn at_address(mut registers: Registers, rip: u64) -> Registers {
    registers.rip = rip;
    registers.orig_rax = NO_SYSTEM_CALL;
    registers
}

/// The registers with which a thread goes on that is sent elsewhere first: the kernel will not restart its call for it.
pub(crate) fn settled(halt: &Halt, pid: u32, paced: bool) -> Registers {
    const SYS_RESTART: u64 = libc::SYS_restart_syscall as u64;
    let mut registers = again(halt, paced).or_else(|| halt.undisturbed(pid)).unwrap_or(halt.registers);
    if registers.orig_rax as i64 >= 0 {
        match registers.rax as i64 {
            ERESTARTSYS | ERESTARTNOINTR | ERESTARTNOHAND => {
                registers.rax = registers.orig_rax;
                registers.rip -= 2;
            }
            ERESTART_RESTARTBLOCK => {
                registers.rax = SYS_RESTART;
                registers.rip -= 2;
            }
            _ => {}
        }
    }
    registers.orig_rax = NO_SYSTEM_CALL;
    registers
}

/// The registers of a thread whose interrupted call is to be made again from its beginning, though the kernel would
/// continue it by the old clock. `None` where what the kernel does is right.
fn again(halt: &Halt, paced: bool) -> Option<Registers> {
    let registers = halt.registers;
    let (number, result) = (registers.orig_rax as i64, registers.rax as i64);
    // The gate's own calls are looked at by whoever wakes waits.
    let in_gate = (IMAGE_ADDRESS..IMAGE_ADDRESS + image_len()).contains(&registers.rip);
    if number < 0 || in_gate || result != ERESTART_RESTARTBLOCK {
        return None;
    }
    // Of a futex's operations the first alone takes a duration.
    let by_deadline = number == libc::SYS_futex && !matches!(registers.rsi & 0x7f, 0);
    (paced || by_deadline).then(|| from_the_beginning(registers))
}

/// Has every thread but one make its interrupted wait again, where that is needed.
pub(crate) fn settle_others(halted: &mut Halted, worker: usize, paced: bool) {
    for (at, halt) in halted.threads.iter_mut().enumerate() {
        if at != worker
            && let Some(registers) = again(halt, paced)
        {
            // Fails only where the thread has been killed.
            let _ = halt.set_registers(registers);
        }
    }
}

/// Redirects the entries, and sends threads that are in the displaced instructions, or in a handler of a signal that came
/// there, to where these are now.
pub(crate) fn redirect(
    patch: &Patch,
    memory: &RemoteMemory,
    vdso: RemoteAddr,
    halted: &mut Halted,
    worker: usize,
) -> Result<()> {
    for (at, halt) in halted.threads.iter_mut().enumerate() {
        for place in interrupted_places(memory, halt, |rip| patch.moved(vdso, rip).is_some()) {
            let mut word = [0; 8];
            memory.read(place, &mut word)?;
            if let Some(moved) = patch.moved(vdso, u64::from_le_bytes(word)) {
                memory.write(place, &moved.to_le_bytes())?;
            }
        }
        if at == worker {
            continue;
        }
        if let Some(moved) = patch.moved(vdso, halt.registers.rip) {
            let mut registers = halt.registers;
            registers.rip = moved;
            halt.set_registers(registers)?;
        }
        if patch.is_displaced(vdso, halt.registers.rip) {
            return Err(Error::refused(format!("thread {} is within an instruction", halt.tid.0)));
        }
    }
    patch.redirect(memory, vdso)
}

/// Where on a thread's stacks the frames of signals keep instruction pointers for which `is_sought` holds.
pub(crate) fn interrupted_places(
    memory: &RemoteMemory,
    halt: &Halt,
    is_sought: impl Fn(u64) -> bool,
) -> Vec<RemoteAddr> {
    /// How much of a stack is searched, and how many stacks: handlers run near its end.
    const DEPTH: usize = 32 << 10;
    const STACKS: usize = 4;
    /// From the instruction pointer in a frame, in words: the stack pointer, flags, and segments.
    const GREGS_RSP: isize = -1;
    const GREGS_FLAGS: usize = 1;
    const GREGS_SEGMENTS: usize = 2;
    let mut places = Vec::new();
    let mut stacks = vec![halt.registers.rsp & !7];
    let mut searched = 0;
    while let Some(start) = stacks.pop() {
        searched += 1;
        let words = read_words(memory, RemoteAddr(start), DEPTH);
        let word = |at: usize| words.get(at).copied().unwrap_or(0);
        for at in 1..words.len() {
            // The code segment of 64-bit programs, and the bit of the flags that is always set.
            let is_frame = word(at + GREGS_SEGMENTS) & 0xffff == 0x33
                && word(at + GREGS_FLAGS) & !0x3f_ffff == 0
                && word(at + GREGS_FLAGS) & 2 != 0;
            if !is_frame {
                continue;
            }
            if is_sought(word(at)) {
                places.push(RemoteAddr(start + 8 * at as u64));
            }
            let stack = word(at.wrapping_add_signed(GREGS_RSP)) & !7;
            let known = (start..start + 8 * words.len() as u64).contains(&stack);
            if !known && stack != 0 && searched + stacks.len() < STACKS {
                stacks.push(stack);
            }
        }
    }
    places
}

/// The words from an address on, as far as they can be read, up to a length in bytes.
fn read_words(memory: &RemoteMemory, from: RemoteAddr, length: usize) -> Vec<u64> {
    let mut bytes = vec![0; length];
    let read = memory.read_some(from, &mut bytes);
    let words = bytes[..read].chunks_exact(8);
    words
        .map(|word| u64::from_le_bytes([word[0], word[1], word[2], word[3], word[4], word[5], word[6], word[7]]))
        .collect()
}
