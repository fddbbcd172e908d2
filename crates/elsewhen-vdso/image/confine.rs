//! Filters of the program's own (`seccomp(2)`): one under which no handler can return is refused, since the next caught
//! call would end the process.

use crate::numbers;
use crate::gate::{self, Frame};
use crate::host::opaque;
use crate::user;

const SYS_PRCTL: u64 = numbers::PRCTL as u64;
const SYS_RT_SIGRETURN: u32 = numbers::RT_SIGRETURN as u32;
/// `AUDIT_ARCH_X86_64` or `AUDIT_ARCH_AARCH64`.
const AUDIT_ARCH: u32 = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };
const SECCOMP_MODE_FILTER: u64 = 2;
/// `SECCOMP_RET_LOG`: from here on an action lets the call through.
const LEAST_HARMLESS: u32 = 0x7ffc_0000;

/// How many instructions a filter has, and where they are.
fn head(frame: &Frame, program: u64) -> Option<(u64, u64)> {
    #[cfg(target_arch = "x86_64")]
    if frame.is_x32() {
        let mut word = [opaque(0)];
        user::read(frame.stack, program, &mut word).ok()?;
        return Some((word[0] & 0xffff, word[0] >> 32));
    }
    let mut words = [opaque(0); 2];
    user::read(frame.stack, program, &mut words).ok()?;
    Some((words[0] & 0xffff, words[1]))
}

/// What a filter says about the call with which handlers return, made from the image. `None` where it cannot be read
/// or uses what filters do not use; the kernel decides then.
#[inline(never)]
fn verdict(frame: &Frame, program: u64) -> Option<u32> {
    let (length, code) = head(frame, program)?;
    let (mut accumulator, mut index, mut at) = (0u32, 0u32, 0u64);
    // Jumps go forwards only, so there are no more steps than instructions.
    while at < length {
        let mut instruction = [opaque(0)];
        user::read(frame.stack, code + 8 * at, &mut instruction).ok()?;
        let word = instruction[0];
        let (class, k) = (word as u16, (word >> 32) as u32);
        let (on_true, on_false) = (word >> 16 & 0xff, word >> 24 & 0xff);
        at += 1;
        let holds = match class {
            // ld [k], ld #k, ldx #k, tax, txa
            0x20 => {
                accumulator = match k {
                    0 => SYS_RT_SIGRETURN,
                    4 => AUDIT_ARCH,
                    8 => (gate::restorer() + gate::RESTORER_LEN) as u32,
                    _ => 0,
                };
                continue;
            }
            0x00 => {
                accumulator = k;
                continue;
            }
            0x01 => {
                index = k;
                continue;
            }
            0x07 => {
                index = accumulator;
                continue;
            }
            0x87 => {
                accumulator = index;
                continue;
            }
            // add, sub, or, and, lsh, rsh by a constant
            0x04 => {
                accumulator = accumulator.wrapping_add(k);
                continue;
            }
            0x14 => {
                accumulator = accumulator.wrapping_sub(k);
                continue;
            }
            0x44 => {
                accumulator |= k;
                continue;
            }
            0x54 => {
                accumulator &= k;
                continue;
            }
            0x64 => {
                accumulator = accumulator.wrapping_shl(k);
                continue;
            }
            0x74 => {
                accumulator = accumulator.wrapping_shr(k);
                continue;
            }
            // ret #k, ret a
            0x06 => return Some(k),
            0x16 => return Some(accumulator),
            // ja, jeq, jgt, jge, jset
            0x05 => {
                at += u64::from(k);
                continue;
            }
            0x15 => accumulator == k,
            0x25 => accumulator > k,
            0x35 => accumulator >= k,
            0x45 => accumulator & k != 0,
            0x1d => accumulator == index,
            0x2d => accumulator > index,
            0x3d => accumulator >= index,
            _ => return None,
        };
        at += if holds { on_true } else { on_false };
    }
    None
}

/// Whether the filter that a call would load lets handlers return.
#[inline(never)]
pub(crate) fn lets_handlers_return(frame: &Frame) -> bool {
    if frame.number == SYS_PRCTL && frame.args.get(1) != SECCOMP_MODE_FILTER {
        return true;
    }
    // As a number: a negative action kills the process.
    verdict(frame, frame.args.get(2)).is_none_or(|action| action & 0x7fff_0000 >= LEAST_HARMLESS && action >> 31 == 0)
}
