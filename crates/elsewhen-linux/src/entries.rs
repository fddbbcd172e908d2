//! The machine code with which entries of the vDSO are redirected on x86.

use crate::error::{Error, Result};
use crate::redirect::Moved;
use elsewhen_vdso::elf::Symbol;
use elsewhen_vdso::image;
use iced_x86::{
    BlockEncoder, BlockEncoderOptions, Decoder, DecoderOptions, FlowControl, Instruction, InstructionBlock,
};

/// A jump with a 32-bit displacement.
pub(crate) const JUMP_LEN: usize = 5;

/// The function without which nothing can be redirected.
pub(crate) const CLOCK_GETTIME: &str = "__vdso_clock_gettime";

/// The functions that are redirected, the hook of each, and whose original code the hook calls.
pub(crate) const ENTRIES: [(&str, u64, &str); 4] = [
    (CLOCK_GETTIME, image::HOOK_CLOCK_GETTIME, CLOCK_GETTIME),
    ("__vdso_gettimeofday", image::HOOK_GETTIMEOFDAY, CLOCK_GETTIME),
    ("__vdso_time", image::HOOK_TIME, CLOCK_GETTIME),
    ("__vdso_clock_getres", image::HOOK_CLOCK_GETRES, "__vdso_clock_getres"),
];

/// The whole instructions at an entry that a jump displaces.
pub(crate) struct Displaced {
    pub(crate) instructions: Vec<Instruction>,
    pub(crate) length: usize,
    resume: u64,
}

/// Where displaced instructions live on.
pub(crate) struct Trampoline {
    pub(crate) code: Vec<u8>,
    pub(crate) moved: Moved,
}

/// Decodes what the jump will displace, and makes sure that the function never jumps back into it.
///
/// # Errors
/// Where it is too short, or does.
pub(crate) fn displaced(image: &[u8], name: &str, function: Symbol<'_>) -> Result<Displaced> {
    displaced_of(image, 64, name, function)
}

/// As [`displaced`], of 32-bit code or of 64-bit code.
///
/// # Errors
/// As [`displaced`].
pub(crate) fn displaced_of(image: &[u8], bitness: u32, name: &str, function: Symbol<'_>) -> Result<Displaced> {
    let refuse = |why: &str| Error::refused(format!("{name} of this kernel's vDSO cannot be redirected: {why}"));
    let (entry, base) = (function.value, base(bitness));
    let code = usize::try_from(entry)
        .ok()
        .and_then(|start| image.get(start..start.checked_add(usize::try_from(function.size).ok()?)?))
        .ok_or_else(|| refuse("it lies outside the image"))?;
    let instructions: Vec<Instruction> =
        Decoder::with_ip(bitness, code, base + entry, DecoderOptions::NONE).into_iter().collect();
    let mut length = 0;
    let mut count = 0;
    while length < JUMP_LEN {
        let instruction = instructions.get(count).filter(|instruction| !instruction.is_invalid());
        let instruction = instruction.ok_or_else(|| refuse("it is shorter than a jump"))?;
        length += instruction.len();
        count += 1;
        let ends = matches!(instruction.flow_control(), FlowControl::Return | FlowControl::UnconditionalBranch);
        if ends && length < JUMP_LEN {
            return Err(refuse("it is shorter than a jump"));
        }
    }
    let inside = base + entry + 1..base + entry + length as u64;
    if instructions.iter().any(|instruction| inside.contains(&instruction.near_branch_target())) {
        return Err(refuse("it jumps back into its first instructions"));
    }
    Ok(Displaced { instructions: instructions[..count].to_vec(), length, resume: base + entry + length as u64 })
}

/// Where the vDSO is imagined to lie while code is relocated: everything is relative to it.
const BASE: u64 = 0x7000_0000_0000;

/// The same for 32-bit code, where an address is an offset.
const fn base(bitness: u32) -> u64 {
    if bitness == 64 { BASE } else { 0 }
}

/// The displaced instructions at a new place, followed by a jump to the rest of the function; and where each of them but
/// the first was and is, as offsets in the vDSO.
pub(crate) fn trampoline(name: &str, displaced: &Displaced, at: u64) -> Result<Trampoline> {
    let mut instructions = displaced.instructions.clone();
    let jump = Instruction::with_branch(iced_x86::Code::Jmp_rel32_64, displaced.resume);
    let failed =
        |error: iced_x86::IcedError| Error::refused(format!("relocate the first instructions of {name}: {error}"));
    instructions.push(jump.map_err(failed)?);
    let block = InstructionBlock::new(&instructions, BASE + at);
    let options = BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS;
    let encoded = BlockEncoder::encode(64, block, options).map_err(failed)?;
    let places = displaced.instructions.iter().zip(&encoded.new_instruction_offsets);
    let moved = places.skip(1).map(|(old, new)| (old.ip() - BASE, at + u64::from(*new))).collect();
    Ok(Trampoline { code: encoded.code_buffer, moved })
}

/// `lea rdx, [rip + host]; jmp [rip]; .quad image`: the third argument is the host's function.
pub(crate) fn thunk(at: u64, host: u64, image: u64) -> Vec<u8> {
    let mut code = vec![0x48, 0x8d, 0x15];
    code.extend(relative(at + 7, host));
    code.extend([0xff, 0x25, 0, 0, 0, 0]);
    code.extend(image.to_le_bytes());
    code
}

/// What stands at an entry in place of so many bytes: a jump.
pub(crate) fn jump(entry: u64, length: usize, to: u64) -> Vec<u8> {
    let mut code = vec![0xe9];
    code.extend(relative(entry + JUMP_LEN as u64, to));
    // Nothing arrives behind the jump; if it did, a trap is better than half an instruction.
    code.resize(length, 0xcc);
    code
}

/// The displacement from the end of an instruction to its target, both within the vDSO.
pub(crate) fn relative(from: u64, to: u64) -> [u8; 4] {
    (to.wrapping_sub(from) as i32).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use elsewhen_vdso::elf;

    fn function(value: u64, size: u64) -> Symbol<'static> {
        Symbol { name: b"f", kind: elf::STT_FUNC, section: 1, value, size }
    }

    #[test]
    fn short_branches_in_displaced_instructions_are_widened() {
        // cmp edi, 23; ja +103: the branch is inside the bytes that a jump displaces.
        let mut image = vec![0x90; 256];
        image[16..21].copy_from_slice(&[0x83, 0xff, 0x17, 0x77, 0x67]);
        let displaced = displaced(&image, "f", function(16, 127)).unwrap();
        assert_eq!(displaced.length, 5);
        let Trampoline { code, moved } = trampoline("f", &displaced, 0x1000).unwrap();
        assert_eq!(moved, [(19, 0x1003)]);
        let decoded: Vec<_> = Decoder::with_ip(64, &code, BASE + 0x1000, DecoderOptions::NONE).into_iter().collect();
        assert_eq!(decoded[1].near_branch_target(), BASE + 16 + 5 + 103);
        assert_eq!(decoded[2].near_branch_target(), BASE + 21);
    }

    #[test]
    fn a_function_that_loops_to_its_start_is_refused() {
        // xor eax, eax; nop; nop; nop; jmp to the first nop.
        let image = [0x31, 0xc0, 0x90, 0x90, 0x90, 0xeb, 0xfb, 0x90];
        assert!(displaced(&image, "f", function(0, 8)).err().unwrap().to_string().contains("jumps back"));
        // ret: shorter than a jump.
        assert!(
            displaced(&[0xc3, 0x90, 0x90, 0x90, 0x90], "f", function(0, 5))
                .err()
                .unwrap()
                .to_string()
                .contains("shorter")
        );
    }
}
