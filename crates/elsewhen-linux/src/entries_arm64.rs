//! The machine code with which entries of the vDSO are redirected on arm64.
//!
//! An entry becomes `bti c; b thunk`: programs call it indirectly, which processors with branch target identification allow
//! at such an instruction only. Instructions are those of the Arm Architecture Reference Manual, C6.2.

use crate::error::{Error, Result};
use elsewhen_vdso::elf::Symbol;
use elsewhen_vdso::image;

/// The function without which nothing can be redirected.
pub(crate) const CLOCK_GETTIME: &str = "__kernel_clock_gettime";

/// The functions that are redirected, the hook of each, and whose original code the hook calls.
pub(crate) const ENTRIES: [(&str, u64, &str); 3] = [
    (CLOCK_GETTIME, image::HOOK_CLOCK_GETTIME, CLOCK_GETTIME),
    ("__kernel_gettimeofday", image::HOOK_GETTIMEOFDAY, CLOCK_GETTIME),
    ("__kernel_clock_getres", image::HOOK_CLOCK_GETRES, "__kernel_clock_getres"),
];

/// Bytes of an instruction.
const WIDTH: u64 = 4;
/// `bti c`.
const BTI_C: u32 = 0xd503_245f;
/// `brk #0`.
const BRK: u32 = 0xd420_0000;

/// The instructions at an entry that the jump displaces.
pub(crate) struct Displaced {
    entry: u64,
    instructions: [u32; 2],
    pub(crate) length: usize,
}

/// Reads what the jump will displace, and makes sure that the function never jumps back into it.
///
/// # Errors
/// Where it is too short, or does.
pub(crate) fn displaced(image: &[u8], name: &str, function: Symbol<'_>) -> Result<Displaced> {
    let refuse = |why: &str| Error::refused(format!("{name} of this kernel's vDSO cannot be redirected: {why}"));
    let entry = function.value;
    let code = usize::try_from(entry)
        .ok()
        .filter(|start| start % 4 == 0)
        .and_then(|start| image.get(start..start.checked_add(usize::try_from(function.size).ok()?)?))
        .ok_or_else(|| refuse("it lies outside the image"))?;
    let words = code.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
    let words: Vec<u32> = words.collect();
    let [first, second, ..] = words[..] else { return Err(refuse("it is shorter than a jump")) };
    let back =
        words.iter().enumerate().any(|(at, word)| target(*word, entry + WIDTH * at as u64) == Some(entry + WIDTH));
    if back {
        return Err(refuse("it jumps back into its first instructions"));
    }
    if is_branch(first) {
        return Err(refuse("it is shorter than a jump"));
    }
    Ok(Displaced { entry, instructions: [first, second], length: 8 })
}

/// Where displaced instructions live on.
pub(crate) struct Trampoline {
    pub(crate) code: Vec<u8>,
}

/// The displaced instructions at a new place, followed by a jump to the rest of the function.
pub(crate) fn trampoline(name: &str, displaced: &Displaced, at: u64) -> Result<Trampoline> {
    let mut code = vec![BTI_C];
    for (index, instruction) in displaced.instructions.into_iter().enumerate() {
        let (from, to) = (displaced.entry + WIDTH * index as u64, at + WIDTH * code.len() as u64);
        code.push(relocated(instruction, from, to).ok_or_else(|| {
            Error::refused(format!("relocate the first instructions of {name}: {instruction:#010x} is out of reach"))
        })?);
    }
    let end = at + WIDTH * code.len() as u64;
    code.push(branch(end, displaced.entry + displaced.length as u64));
    Ok(Trampoline { code: bytes(&code) })
}

/// `adr x2, host; movz x16, …; movk x16, …; movk x16, …; br x16`: the third argument is the host's function.
pub(crate) fn thunk(at: u64, host: u64, image: u64) -> Vec<u8> {
    let part = |shift: u32| ((image >> shift & 0xffff) as u32) << 5;
    let loads = [0xd280_0010 | part(0), 0xf2a0_0010 | part(16), 0xf2c0_0010 | part(32)];
    bytes(&[adr(2, at, host), loads[0], loads[1], loads[2], 0xd61f_0200])
}

/// What stands at an entry in place of so many bytes: a jump.
pub(crate) fn jump(entry: u64, length: usize, to: u64) -> Vec<u8> {
    let mut code = vec![BTI_C, branch(entry + WIDTH, to)];
    code.resize(length / 4, BRK);
    bytes(&code)
}

// The image is called by three quarters of its address.
const _: () = assert!(crate::page::IMAGE_ADDRESS + crate::page::image_len() < 1 << 48);

fn bytes(code: &[u32]) -> Vec<u8> {
    code.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// `b`, within the vDSO.
const fn branch(from: u64, to: u64) -> u32 {
    0x1400_0000 | (to.wrapping_sub(from) >> 2) as u32 & 0x03ff_ffff
}

/// `adr`, within the vDSO.
const fn adr(register: u32, from: u64, to: u64) -> u32 {
    let distance = to.wrapping_sub(from) as u32;
    0x1000_0000 | (distance & 3) << 29 | (distance >> 2 & 0x7_ffff) << 5 | register
}

/// Instructions that refer to a place by its distance: mask and value of the opcode, the lowest bit and the number of bits
/// of the distance in words.
const RELATIVE: [(u32, u32, u32, u32); 6] = [
    // b, bl
    (0x7c00_0000, 0x1400_0000, 0, 26),
    // b.cond, bc.cond
    (0xff00_0000, 0x5400_0000, 5, 19),
    // cbz, cbnz
    (0x7e00_0000, 0x3400_0000, 5, 19),
    // tbz, tbnz
    (0x7e00_0000, 0x3600_0000, 5, 14),
    // ldr, ldrsw and prfm of a literal, of general registers
    (0x3f00_0000, 0x1800_0000, 5, 19),
    // and of vector registers
    (0x3f00_0000, 0x1c00_0000, 5, 19),
];

/// Where an instruction at an address refers to, if it does by a distance in words.
fn target(instruction: u32, at: u64) -> Option<u64> {
    let (_, _, low, width) = RELATIVE.into_iter().find(|(mask, value, ..)| instruction & mask == *value)?;
    let distance = ((instruction >> low) << (32 - width)) as i32 >> (32 - width);
    Some(at.wrapping_add_signed(i64::from(distance) * WIDTH as i64))
}

/// Whether control never comes behind an instruction: `b`, `br`, `ret` and their like.
const fn is_branch(instruction: u32) -> bool {
    instruction & 0xfc00_0000 == 0x1400_0000 || instruction & 0xfe00_0000 == 0xd600_0000
}

/// An instruction at another address, referring to what it did; `None` where that is too far.
fn relocated(instruction: u32, from: u64, to: u64) -> Option<u32> {
    const ADR: u32 = 0x1000_0000;
    const ADRP: u32 = 0x9000_0000;
    let kind = instruction & 0x9f00_0000;
    if kind == ADR || kind == ADRP {
        let immediate = (instruction >> 5 & 0x7_ffff) << 2 | instruction >> 29 & 3;
        let distance = i64::from(((immediate << 11) as i32) >> 11);
        // The vDSO is whole pages, so what is true of offsets in it is true of addresses.
        let moved = if kind == ADR { from.wrapping_sub(to) as i64 } else { (from >> 12).wrapping_sub(to >> 12) as i64 };
        let distance = distance + moved;
        if !(-(1 << 20)..1 << 20).contains(&distance) {
            return None;
        }
        let distance = distance as u32;
        return Some(instruction & 0x9f00_001f | (distance & 3) << 29 | (distance >> 2 & 0x7_ffff) << 5);
    }
    let Some(target) = target(instruction, from) else { return Some(instruction) };
    let (_, _, low, width) = RELATIVE.into_iter().find(|(mask, value, ..)| instruction & mask == *value)?;
    let distance = target.wrapping_sub(to) as i64 / WIDTH as i64;
    let reach = 1 << (width - 1);
    if !(-reach..reach).contains(&distance) {
        return None;
    }
    let field = (u32::MAX >> (32 - width)) << low;
    Some(instruction & !field | (distance as u32) << low & field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_refer_to_the_same_place_from_another() {
        // adr x3, 0 at 0x570; cbz x0, 0x618 at 0x578; tbnz w5, #0, 0x654 at 0x580; b.hi 0x394 at 0x2d8; b; ldr x0 of a literal.
        let places = [
            (0x10ff_d483, 0x570, 0x1000),
            (0xb400_0500, 0x578, 0x1004),
            (0x3700_06a5, 0x580, 0x1008),
            (0x5400_05e8, 0x2d8, 0x100c),
            (0x1400_0010, 0x100, 0x1010),
            (0x5800_0100, 0x200, 0x1014),
        ];
        for (instruction, from, to) in places {
            let moved = relocated(instruction, from, to).unwrap();
            assert_eq!(target(moved, to), target(instruction, from), "{instruction:#x}");
            assert_eq!(relocated(moved, to, from), Some(instruction), "{instruction:#x}");
        }
        assert_eq!(target(0xb400_0500, 0x578), Some(0x618));
        assert_eq!(target(0x5400_05e8, 0x2d8), Some(0x394));
        // cmp w0, #0xf and paciasp are what they are anywhere.
        assert_eq!(relocated(0x7100_3c1f, 0, 0x1000), Some(0x7100_3c1f));
        assert_eq!(relocated(0xd503_233f, 0, 0x1000), Some(0xd503_233f));
        // A tbz reaches 32 KiB.
        assert_eq!(relocated(0x3700_06a5, 0, 0x10000), None);
    }

    #[test]
    fn what_is_written_is_what_is_meant() {
        assert_eq!(adr(2, 0x1000, 0xff0), 0x10ff_ff82);
        assert_eq!(branch(0x1000, 0x2d8), 0x17ff_fcb6);
        let words = |code: &[u8]| -> Vec<u32> {
            code.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
        };
        assert_eq!(
            words(&thunk(0x1000, 0x1010, 0xf_0010_c380))[1..],
            [0xd298_7010, 0xf2a0_0210, 0xf2c0_01f0, 0xd61f_0200]
        );
        assert_eq!(words(&jump(0x100, 8, 0x1000)), [BTI_C, 0x1400_03bf]);
    }

    #[test]
    fn a_function_that_cannot_be_redirected_is_refused() {
        let function = |size| Symbol { name: b"f", kind: 2, section: 1, value: 0, size };
        let code = |words: &[u32]| bytes(words);
        // A branch back to the second instruction.
        let back = code(&[0xd503_233f, 0x7100_3c1f, 0x17ff_ffff, 0xd65f_03c0]);
        assert!(displaced(&back, "f", function(16)).err().unwrap().to_string().contains("jumps back"));
        let short = code(&[0xd65f_03c0, 0xd503_201f]);
        assert!(displaced(&short, "f", function(8)).err().unwrap().to_string().contains("shorter"));
        assert!(displaced(&short, "f", function(4)).err().unwrap().to_string().contains("shorter"));
        assert!(displaced(&short, "f", function(64)).err().unwrap().to_string().contains("outside"));
    }
}
