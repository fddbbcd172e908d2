//! Threads that a signal meets in the gate, or on its way there and back: found, sent back to their own instruction, or told
//! to translate again.

use super::{EINTR, Frame, LEAVE, RECORD, RED_ZONE, Registers, TRANSLATE, entry, label};
use crate::dispatch::{self, AGAIN, Mask};
use crate::gate32;
use crate::host::{in_image, state};
use crate::surface::{Action, action, native_of};
use core::sync::atomic::Ordering;

/// The most bytes of stack that a function of the image takes; the smallest frame of a signal has some two hundred more.
const FRAME_MOST: u64 = 768;

/// Gives a thread whose call in the gate was caught by another filter its own registers back, as if its own call had
/// been. Returns the address behind that.
pub(crate) fn disown(registers: &mut Registers) -> Option<u64> {
    if registers.is_32_bit() {
        return gate32::disown(registers);
    }
    if registers.rip != label!("elsewhen_gate_made") {
        return None;
    }
    let record = registers.rbp;
    let frame = (record - RECORD as u64) as *const Frame;
    // SAFETY: in its own call the gate's frame record is in rbp.
    let frame = unsafe { &*frame };
    frame.restore(registers, record, frame.return_address);
    registers.rax = frame.call[0];
    Some(frame.return_address)
}

/// The frame of a thread that a signal found in the gate's own call, before it or right behind it.
fn waiting(registers: &Registers) -> Option<&Frame> {
    if registers.is_32_bit() {
        return gate32::waiting(registers);
    }
    if registers.rip != label!("elsewhen_gate_made") && registers.rip != label!("elsewhen_gate_syscall") {
        return None;
    }
    let frame = (registers.rbp - RECORD as u64) as *const Frame;
    // SAFETY: in its own call the gate's frame record is in rbp.
    Some(unsafe { &*frame })
}

/// What the mask of the wait that a signal found says about `SIGSYS`.
pub(crate) fn mask(registers: &Registers) -> Mask {
    match waiting(registers) {
        Some(frame) => frame.mask,
        None => Mask::Silent,
    }
}

/// What a signal found of a thread that is in the gate's own call, or on its way there: makes it translate again. Where the
/// signal has interrupted the call, `unless` can let that end.
pub(crate) fn translate_again(registers: &mut Registers, unless: impl FnOnce() -> bool) {
    if registers.is_32_bit() && gate32::is_early(registers) {
        return gate32::translate_early(registers);
    }
    let (from, syscall, made) = match registers.is_32_bit() {
        true => gate32::places(),
        false => (label!("elsewhen_gate_call"), label!("elsewhen_gate_syscall"), label!("elsewhen_gate_made")),
    };
    let is_interrupted = registers.rip == made && registers.rax as i32 == EINTR as i32;
    if (from..=syscall).contains(&registers.rip) || (is_interrupted && !unless()) {
        registers.rip = made;
        registers.rax = AGAIN as u64;
    } else if registers.rip != made
        && !registers.is_32_bit()
        // SAFETY: these are the registers of this thread, interrupted.
        && let Some((record, _)) = unsafe { find(registers) }
    {
        let frame = (record - RECORD as u64) as *mut Frame;
        // SAFETY: the record found belongs to a gate that this thread is in, and so lies in its stack.
        unsafe { (*frame).told |= TRANSLATE };
    }
}

/// As [`translate_again`], but for a wait for signals, which is to end.
pub(crate) fn translate_again_unless_waited(registers: &mut Registers) {
    if let Some(frame) = waiting(registers)
        && !matches!(action(frame.number as u32), Some(Action::RtSigtimedwait))
    {
        translate_again(registers, || false);
    }
}

/// Makes a thread that a signal found in the gate, on its way into a wait, look as if there were no gate: at its
/// own `syscall` instruction where the call has not been made, behind it where it has. Where the dispatcher is looking at a
/// result, the thread is not to wait once more. A thread elsewhere stays as it is.
///
/// # Safety
/// `registers` are those of this thread, interrupted.
pub(crate) unsafe fn leave(registers: &mut Registers) {
    let into = registers.rip.wrapping_sub(entry());
    if into <= label!("elsewhen_gate_filled") - entry() {
        if dispatch::is_wait(native_of(registers.rax as u32)) {
            // SAFETY: the caller's promise, passed on.
            unsafe { leave_early(registers, into) };
        }
        return;
    }
    // SAFETY: the caller's promise, passed on.
    let Some((record, is_made)) = (unsafe { find(registers) }) else { return };
    let frame = (record - RECORD as u64) as *mut Frame;
    // SAFETY: the record found belongs to a gate that this thread is in, and so lies in its stack.
    let frame = unsafe { &mut *frame };
    if !dispatch::is_wait(native_of(frame.wait.original)) {
        return;
    }
    // With a mask, a pending SIGSYS has been let in, perhaps: not to be done twice.
    let is_begun = !in_gate(registers.rip) && dispatch::lets_signals_in(native_of(frame.wait.original));
    if is_made || is_begun {
        frame.told |= LEAVE;
        return;
    }
    let (mut rip, mut rax) = (frame.return_address - 2, frame.original());
    if registers.rip == label!("elsewhen_gate_made") {
        dispatch::finish_for_good(frame, registers.rax as i64);
        rip = frame.return_address;
        rax = frame.answer;
    }
    frame.restore(registers, record, rip);
    registers.rax = rax;
}

/// As [`leave`], of a thread that has come so many bytes into the gate, where all other registers still are its own.
///
/// # Safety
/// As [`leave`].
unsafe fn leave_early(registers: &mut Registers, into: u64) {
    let settled = label!("elsewhen_gate_settled") - entry();
    let pushed = match into {
        // `lea` of five bytes, `push rcx`, `push rbp` and `mov` of three.
        0 => 0,
        5 => RED_ZONE as u64,
        6 => RED_ZONE as u64 + 8,
        _ => RED_ZONE as u64 + 16,
    };
    if into >= settled {
        registers.rsp = registers.rbp;
        if into > settled {
            // SAFETY: the gate has pushed the flags below its frame record.
            registers.flags = unsafe { *((registers.rbp - 8) as *const u64) };
        }
        // SAFETY: the gate's frame record, which begins with the caller's rbp.
        registers.rbp = unsafe { *(registers.rbp as *const u64) };
    }
    registers.rsp += pushed;
    registers.rip = registers.rcx - 2;
}

/// The frame record of the gate in which a thread is, between the filling of its frame and the end of its call, and whether
/// its call has been made and the dispatcher has its result.
///
/// # Safety
/// As [`leave`].
unsafe fn find(registers: &Registers) -> Option<(u64, bool)> {
    let (begun, finished, made) =
        (label!("elsewhen_gate_begun"), label!("elsewhen_gate_finished"), label!("elsewhen_gate_made"));
    // The image's functions call the host's, which keep frame records as they do.
    let state = state();
    let vdso = state.vdso_start.load(Ordering::Relaxed)..state.vdso_end.load(Ordering::Relaxed);
    let is_ours = |address: u64| in_image(address) || vdso.contains(&address);
    if !is_ours(registers.rip) {
        return None;
    }
    if in_gate(registers.rip) {
        let has_answered = registers.rip >= begun && registers.rip < label!("elsewhen_gate_call") && registers.rax as u32 == 0;
        let returns = registers.rip >= label!("elsewhen_gate_return") && registers.rip < label!("elsewhen_gate_back");
        let is_filled = registers.rip >= label!("elsewhen_gate_filled");
        return (is_filled && !has_answered && !returns).then_some((registers.rbp, registers.rip > made));
    }
    // The call of a function of the dispatcher has left its return address right below the frame, whose record is in rbp.
    let called = |at: u64, record: u64| {
        if at != (record.wrapping_sub(RECORD as u64) & !15).wrapping_sub(8) {
            return None;
        }
        // SAFETY: the caller has looked at whether that is the interrupted thread's stack.
        match unsafe { *(at as *const u64) } {
            address if address == begun => Some((record, false)),
            address if address == finished => Some((record, true)),
            _ => None,
        }
    };
    // One that has not yet made its own record, or no longer has one.
    for at in [registers.rsp, registers.rsp.wrapping_add(8)] {
        if let Some(found) = called(at, registers.rbp) {
            return Some(found);
        }
    }
    let (mut below, mut record) = (registers.rsp, registers.rbp);
    for _ in 0..16 {
        // No function of the image has a larger frame, and no frame of a signal is as small: what that interrupted is another
        // matter. A caller's rbp may be anything.
        if record.wrapping_sub(below) > FRAME_MOST || record % 8 != 0 {
            return None;
        }
        // SAFETY: functions of the image keep frame records in rbp, linked up to the gate or to a caller outside.
        let next = unsafe { *(record as *const u64) };
        if let Some(found) = called(record + 8, next) {
            return Some(found);
        }
        // SAFETY: as above.
        if !is_ours(unsafe { *((record + 8) as *const u64) }) {
            return None;
        }
        (below, record) = (record, next);
    }
    None
}

/// Whether an address is in the gate itself.
fn in_gate(address: u64) -> bool {
    (entry()..label!("elsewhen_gate_end")).contains(&address)
}
