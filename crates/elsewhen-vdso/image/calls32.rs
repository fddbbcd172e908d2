//! Calls of 32-bit programs as those of 64-bit ones: times are widened, translated as any other, and narrowed again.

use crate::dispatch;
use crate::files;
use crate::gate::Next;
use crate::gate32::{self, Wait32, int80};
use crate::host::{opaque, state};
use crate::signals::{self, CANCEL, SA_KNOWN, SA_SIGINFO, SIG_IGN, SIGKILL, SIGSTOP, SIGSYS, bit, blank, is_guest};
use crate::state::SigAction;
use crate::surface32::{Kind, Shape, native};
use crate::user::{self, FAULT};
use core::sync::atomic::{AtomicU64, Ordering};

const ENOSYS: i64 = -38;
const EINVAL: i64 = -22;

// Numbers of the 32-bit interface.
const TIME: u32 = 13;
const STIME: u32 = 25;
const OLD_SELECT: u32 = 82;
const SOCKETCALL: u32 = 102;
const IPC: u32 = 117;
const NEWSELECT: u32 = 142;
const RT_SIGACTION: u32 = 174;
const RT_SIGPROCMASK: u32 = 175;
const RT_SIGPENDING: u32 = 176;
const RECVMMSG: u32 = 337;
const GETSOCKOPT: u32 = 365;
const SETSOCKOPT: u32 = 366;
// Numbers of the 64-bit interface.
const CONFINE: [u32; 2] = [157, 317];
const MASKED_BY_PAIR: [u32; 2] = [270, 333];
const WRITE_BACK: [u32; 3] = [270, 271, 299];
const SELECT_AS: u32 = 270;
const SIGTIMEDWAIT: u32 = 128;

/// In place of a first word that has not been written.
const UNWRITTEN: u64 = 0x8000_e15e_0000_0000;
/// Words of a 64-bit `struct timex`, how many of them a 32-bit one has, and how many that has with its padding.
const TIMEX: usize = 26;
const TIMEX_USED: usize = 21;
const TIMEX_32: usize = 32;

/// Begins a call: `Ok` is a wait that the gate is to make, `Err` an answer.
pub(crate) fn begin(wait: &mut Wait32, blocked: &mut u64) -> Result<(), i64> {
    match wait.number {
        RT_SIGACTION => return Err(sigaction(wait)),
        RT_SIGPROCMASK => return Err(gate32::sigprocmask(wait, blocked)),
        TIME if wait.args[0] != 0 => {
            // The kernel checks the pointer.
            let result = own(wait);
            if result < 0 && result > -4096 {
                return Err(result);
            }
        }
        _ => {}
    }
    let (equal, shape) = meant(wait)?;
    match shape.kind() {
        Kind::Refused => return Err(ENOSYS),
        Kind::Timex => return Err(timex(wait, equal, shape)),
        Kind::Option => return Err(option(wait, equal)),
        Kind::Stat => return Err(stat(wait, shape)),
        Kind::Native | Kind::Own | Kind::Special => {}
    }
    widen(wait, equal, shape);
    if dispatch::is_wait(equal) {
        wait.frame.answer = u64::from(equal);
        return match dispatch::begin_filled(&mut wait.frame) {
            Next::Call => Ok(()),
            Next::Return => Err(narrow(wait, equal, shape)),
        };
    }
    let result = carry_out(wait, equal, shape.kind() == Kind::Own);
    if wait.number == RT_SIGPENDING && result == 0 {
        signals::hide_unblocked(u64::from(wait.args[0]), *blocked);
    }
    Err(narrow(wait, equal, shape))
}

/// Translates a call that does not wait, and makes it here: as a 64-bit one, or as the caller has.
#[inline(never)]
fn carry_out(wait: &mut Wait32, equal: u32, by_caller: bool) -> i64 {
    wait.frame.answer = u64::from(equal);
    let mut next = dispatch::begin_filled(&mut wait.frame);
    while next == Next::Call {
        if by_caller {
            wait.frame.result = own(wait);
        } else {
            wait.frame.make_call();
        }
        next = dispatch::finish(&mut wait.frame);
    }
    wait.frame.answer as i64
}

/// Looks at what a wait returned: its result, or `None` where it is to go on.
pub(crate) fn finish(wait: &mut Wait32, result: i64) -> Option<i64> {
    wait.frame.result = result;
    if dispatch::finish(&mut wait.frame) == Next::Call {
        return None;
    }
    let (equal, shape) = equal_of(wait.number)?;
    Some(narrow(wait, equal, shape))
}

/// The 64-bit call for a number, where the handler has made a `select` another.
fn equal_of(number: u32) -> Option<(u32, Shape)> {
    match number {
        NEWSELECT => Some((SELECT_AS, native(308)?.1)),
        IPC => Some((220, native(240)?.1)),
        _ => native(number),
    }
}

/// Makes the caller's own call.
fn own(wait: &Wait32) -> i64 {
    // SAFETY: the caller's own call with the caller's own arguments.
    unsafe { int80(&wait.own) }
}

/// Which 64-bit call is meant; those that say by an argument what they are become that.
fn meant(wait: &mut Wait32) -> Result<(u32, Shape), i64> {
    match wait.number {
        STIME => {
            // Only its error matters where it is not allowed, as nearly everywhere.
            let mut sec = [opaque(0)];
            user::read(wait.frame.stack, u64::from(wait.args[0]), &mut sec).map_err(|_| FAULT)?;
            wait.input[0] = extended(sec[0]);
            wait.input[1] = opaque(0);
            wait.args[0] = &raw const wait.input as u64 as u32;
            wait.args[1] = 0;
            return Ok((164, native(27).ok_or(ENOSYS)?.1));
        }
        SOCKETCALL => {
            // `SYS_SETSOCKOPT`, `SYS_GETSOCKOPT`, `SYS_RECVMMSG` of `linux/net.h`.
            let number = match wait.args[0] {
                14 => SETSOCKOPT,
                15 => GETSOCKOPT,
                19 => RECVMMSG,
                _ => return Err(own(wait)),
            };
            wait.take_arguments(wait.args[1], number)?;
        }
        IPC => {
            const SEMTIMEDOP: u32 = 4;
            if wait.args[0] & 0xffff != SEMTIMEDOP {
                return Err(own(wait));
            }
            let [_, id, count, _, operations, timeout] = wait.args;
            wait.args = [id, operations, count, timeout, 0, 0];
        }
        OLD_SELECT => {
            wait.take_arguments(wait.args[0], NEWSELECT)?;
            wait.args[5] = 0;
        }
        NEWSELECT => wait.args[5] = 0,
        _ => {}
    }
    equal_of(wait.number).ok_or(ENOSYS)
}

impl Wait32 {
    /// Means another call, whose arguments are five words at an address.
    fn take_arguments(&mut self, address: u32, number: u32) -> Result<(), i64> {
        let mut words = [opaque(0); 5];
        read_words(self.frame.stack, u64::from(address), &mut words)?;
        for (place, word) in self.args.iter_mut().zip(&words) {
            *place = *word as u32;
        }
        self.number = number;
        Ok(())
    }
}

/// A 32-bit word, as a signed number.
const fn extended(word: u64) -> u64 {
    word as u32 as i32 as i64 as u64
}

/// Reads 32-bit words, two at least, and extends them.
fn read_words(stack: u64, address: u64, words: &mut [u64]) -> Result<(), i64> {
    let mut pair = [opaque(0)];
    let mut at = 0;
    while at < words.len() {
        // The last of an odd number, with the one before.
        let from = if at + 1 < words.len() { at } else { at - 1 };
        user::read(stack, address + 4 * from as u64, &mut pair).map_err(|_| FAULT)?;
        for (place, half) in [(from, pair[0]), (from + 1, pair[0] >> 32)] {
            if let Some(word) = words.get_mut(place) {
                *word = opaque(extended(half));
            }
        }
        at += 2;
    }
    Ok(())
}

/// Writes the lower halves of words, two at least and an even number.
fn write_words(stack: u64, address: u64, words: &[u64]) -> Result<(), i64> {
    let mut at = 0;
    while let (Some(low), Some(high)) = (words.get(at), words.get(at + 1)) {
        let pair = [opaque(*low as u32 as u64 | *high << 32)];
        user::write(stack, address + 4 * at as u64, &pair).map_err(|_| FAULT)?;
        at += 2;
    }
    Ok(())
}

/// Puts the caller's times in place as the 64-bit call has them. What cannot be read stays where it is, for the kernel to
/// refuse.
fn widen(wait: &mut Wait32, equal: u32, shape: Shape) {
    wait.copy_arguments();
    let stack = wait.frame.stack;
    if let Some((argument, words)) = shape.read()
        && let address = wait.frame.args.get(argument)
        && address != 0
        && let Some(input) = wait.input.get_mut(..words)
    {
        let found = match shape.is_wide() {
            true => user::read(stack, address, input).is_ok(),
            false => read_words(stack, address, input).is_ok(),
        };
        if found {
            if shape.is_wide() {
                // As the kernel does for 32-bit programs.
                for nsec in input.iter_mut().skip(1).step_by(2) {
                    *nsec = opaque(*nsec & 0xffff_ffff);
                }
            } else if wait.number == NEWSELECT {
                let [sec, usec, ..] = wait.input.map(|word| word as i64);
                wait.input[0] = opaque(sec.wrapping_add(usec / 1_000_000) as u64);
                wait.input[1] = opaque((usec % 1_000_000 * 1000) as u64);
            }
            wait.before[0] = opaque(wait.input[0]);
            wait.before[1] = opaque(wait.input[1]);
            wait.frame.args.set(argument, &raw const wait.input as u64);
        }
    }
    if let Some((argument, _)) = shape.written()
        && !writes_back(equal)
        && wait.frame.args.get(argument) != 0
    {
        wait.output[0] = opaque(UNWRITTEN);
        wait.frame.args.set(argument, &raw const wait.output as u64);
    }
    let pair = match equal {
        _ if MASKED_BY_PAIR.contains(&equal) => 5,
        _ if CONFINE.contains(&equal) => 2,
        _ => 6,
    };
    if pair < 6 && wait.frame.args.get(pair) != 0 {
        let mut words = [opaque(0); 2];
        if read_words(stack, wait.frame.args.get(pair), &mut words).is_ok() {
            wait.pair[0] = opaque(words[0] & 0xffff_ffff);
            wait.pair[1] = opaque(words[1] & 0xffff_ffff);
            wait.frame.args.set(pair, &raw const wait.pair as u64);
        }
    }
    if equal == SIGTIMEDWAIT {
        // The kernel's is a 32-bit one, and so is to be ours.
        wait.frame.args.set(1, 0);
    }
}

/// Whether a call writes what remains of a time to where it was.
fn writes_back(equal: u32) -> bool {
    WRITE_BACK.contains(&equal)
}

/// Gives the caller what the 64-bit call has written. Returns the call's result.
fn narrow(wait: &mut Wait32, equal: u32, shape: Shape) -> i64 {
    let (result, stack) = (wait.frame.answer as i64, wait.frame.stack);
    if equal == SIGTIMEDWAIT && wait.args[1] != 0 && result == SIGSYS as i64 {
        return give_info(wait, result);
    }
    let Some((argument, words)) = shape.written() else { return result };
    let Some(to) = wait.args.get(usize::from(argument)).map(|arg| u64::from(*arg)) else { return result };
    if to == 0 {
        return result;
    }
    if writes_back(equal) {
        let [sec, nsec, ..] = wait.input;
        if wait.frame.args.get(argument) == to || (sec == wait.before[0] && nsec == wait.before[1]) {
            return result;
        }
        let written = match shape.is_wide() {
            true => user::write(stack, to, &[opaque(sec), opaque(nsec)]).map_err(|_| FAULT),
            false if wait.number == NEWSELECT => write_words(stack, to, &[opaque(sec), opaque(nsec / 1000)]),
            false => write_words(stack, to, &[opaque(sec), opaque(nsec)]),
        };
        // As the kernel: only one of them minds.
        return if written.is_err() && equal == 299 { FAULT } else { result };
    }
    if wait.output[0] == UNWRITTEN {
        return result;
    }
    if words == 1 {
        // The kernel has written there already.
        // SAFETY: as above.
        unsafe { (to as *mut u32).write_unaligned(wait.output[0] as u32) };
        return result;
    }
    match wait.output.get(..words).map(|output| write_words(stack, to, output)) {
        Some(Err(fault)) => fault,
        _ => result,
    }
}

/// A pending `SIGSYS` has been handed over, which never comes from the kernel: its `siginfo_t` as a 32-bit one, whose union
/// begins four bytes earlier.
fn give_info(wait: &Wait32, result: i64) -> i64 {
    match write_info(wait.frame.stack, u64::from(wait.args[1])) {
        Ok(()) => result,
        Err(fault) => fault,
    }
}

/// The `siginfo_t` of the `SIGSYS` that was pending, as a 32-bit or x32 program's.
#[inline(never)]
pub(crate) fn write_info(stack: u64, address: u64) -> Result<(), i64> {
    let [first, second, sender, value, ..] = &state().wiped.info;
    let word = |place: &AtomicU64| place.load(Ordering::Relaxed);
    let words = [
        opaque(word(first)),
        opaque(word(second) & 0xffff_ffff | word(sender) << 32),
        opaque(word(sender) >> 32 | word(value) << 32),
        opaque(0),
    ];
    user::write(stack, address, &words).map_err(|_| FAULT)
}

/// `adjtimex` and `clock_adjtime`: all words but the padding are signed ones of half the size.
#[inline(never)]
fn timex(wait: &mut Wait32, equal: u32, shape: Shape) -> i64 {
    let Some((argument, _)) = shape.read() else { return ENOSYS };
    wait.copy_arguments();
    let (stack, address) = (wait.frame.stack, wait.frame.args.get(argument));
    let mut wide = [opaque(0); TIMEX];
    let mut at = 0;
    while at < TIMEX_32 {
        let mut pair = [opaque(0)];
        if user::read(stack, address + 4 * at as u64, &mut pair).is_err() {
            return FAULT;
        }
        for (place, half) in [(at, pair[0]), (at + 1, pair[0] >> 32)] {
            if place < TIMEX_USED
                && let Some(word) = wide.get_mut(place)
            {
                *word = opaque(extended(half));
            }
        }
        at += 2;
    }
    wait.frame.args.set(argument, wide.as_ptr() as u64);
    let result = carry_out(wait, equal, false);
    if result < 0 {
        return result;
    }
    // Behind them, zeros.
    if let Some(rest) = wide.get_mut(TIMEX_USED..) {
        rest.iter_mut().for_each(|word| *word = opaque(0));
    }
    if write_words(stack, address, &wide).is_err() { FAULT } else { result }
}

/// `getsockopt` and `setsockopt` with a time: the old options have a `struct timeval` of 32-bit words.
#[inline(never)]
fn option(wait: &mut Wait32, equal: u32) -> i64 {
    const OLD: [u32; 2] = [20, 21];
    const LENGTH: i32 = 8;
    const LENGTH_WIDE: u64 = 16;
    wait.copy_arguments();
    let stack = wait.frame.stack;
    let (address, length) = (wait.frame.args.get(3), wait.frame.args.get(4));
    let is_old = OLD.contains(&wait.args[2]);
    let sets = equal == 54;
    if is_old && sets {
        if (length as i32) < LENGTH {
            return EINVAL;
        }
        let mut time = [opaque(0); 2];
        if read_words(stack, address, &mut time).is_err() {
            return FAULT;
        }
        wait.input[0] = opaque(time[0]);
        wait.input[1] = opaque(time[1]);
        wait.frame.args.set(3, &raw const wait.input as u64);
        wait.frame.args.set(4, LENGTH_WIDE);
    } else if is_old {
        // The kernel checks the pointers, and knows the socket.
        let result = own(wait);
        if result != 0 || user::reread_int(length) != LENGTH {
            return result;
        }
        wait.pair[0] = opaque(LENGTH_WIDE);
        wait.frame.args.set(3, &raw const wait.output as u64);
        wait.frame.args.set(4, &raw const wait.pair as u64);
    }
    let result = carry_out(wait, equal, false);
    if is_old && !sets && result == 0 {
        let [sec, usec, ..] = wait.output;
        return write_words(stack, address, &[opaque(sec), opaque(usec)]).err().unwrap_or(0);
    }
    result
}

/// `stat` and its like: the caller's own call, and then the times.
#[inline(never)]
fn stat(wait: &Wait32, shape: Shape) -> i64 {
    /// Where the times are in a `struct stat64`, in words.
    const TIMES: usize = 16;
    let result = own(wait);
    if result == 0
        && let Some((argument, words)) = shape.written()
        && let Some(buffer) = wait.args.get(usize::from(argument))
    {
        let times = if words == 0 { TIMES } else { words };
        files::after_stat_32(u64::from(*buffer) + 4 * times as u64);
    }
    result
}

/// A 32-bit `struct sigaction`.
#[repr(C)]
#[derive(Clone, Copy)]
struct SigAction32 {
    handler: u32,
    flags: u32,
    restorer: u32,
    mask: [u32; 2],
}

impl SigAction32 {
    fn of(action: &SigAction) -> Self {
        let SigAction { handler, flags, restorer, mask } = *action;
        Self {
            handler: handler as u32,
            flags: flags as u32,
            restorer: restorer as u32,
            mask: [mask as u32, (mask >> 32) as u32],
        }
    }

    fn widened(&self) -> SigAction {
        SigAction {
            handler: opaque(u64::from(self.handler)),
            flags: opaque(u64::from(self.flags)),
            restorer: opaque(u64::from(self.restorer)),
            mask: opaque(u64::from(self.mask[0]) | u64::from(self.mask[1]) << 32),
        }
    }

    /// Reads the caller's.
    fn read(stack: u64, address: u64) -> Result<SigAction, i64> {
        let mut words = [opaque(0); 5];
        read_words(stack, address, &mut words)?;
        let [handler, flags, restorer, low, high] = words.map(|word| word as u32);
        Ok(Self { handler, flags, restorer, mask: [low, high] }.widened())
    }

    /// Writes to the caller's.
    fn write(stack: u64, address: u64, action: &SigAction) -> i64 {
        let Self { handler, flags, restorer, mask } = Self::of(action);
        let pairs = [
            (0, opaque(u64::from(handler) | u64::from(flags) << 32)),
            (12, opaque(u64::from(mask[0]) | u64::from(mask[1]) << 32)),
            // Between them, with the first half of the mask.
            (8, opaque(u64::from(restorer) | u64::from(mask[0]) << 32)),
        ];
        for (at, pair) in pairs {
            if user::write(stack, address + at, &[pair]).is_err() {
                return FAULT;
            }
        }
        0
    }
}

/// `rt_sigaction(2)`, made by the 32-bit interface: by that the kernel knows which frame the handler gets.
fn sigaction(wait: &Wait32) -> i64 {
    let [signal, new, old, size, ..] = wait.args;
    if u64::from(size) != signals::SET_SIZE || signal == 0 || signal > 64 {
        return own(wait);
    }
    let call = ActionCall { stack: wait.frame.stack, signal: signal.into(), new: new.into(), old: old.into() };
    set_action(&call, gate32::cancel_handler(), |new, old| {
        // SAFETY: the kernel reads one action and writes one, both ours.
        unsafe { int80(&[RT_SIGACTION, signal, new as u32, old as u32, size, 0, 0]) }
    })
}

/// A call of `rt_sigaction(2)` with actions of 32-bit words.
pub(crate) struct ActionCall {
    /// The caller's stack pointer.
    pub(crate) stack: u64,
    pub(crate) signal: u64,
    /// The addresses of actions, or 0.
    pub(crate) new: u64,
    pub(crate) old: u64,
}

/// Sets an action of 32-bit words; `make` makes the call by the interface of the caller, with the addresses of actions.
#[inline(never)]
pub(crate) fn set_action(call: &ActionCall, cancel_handler: u64, make: impl FnOnce(usize, usize) -> i64) -> i64 {
    let ActionCall { stack, signal, new, old } = *call;
    let mut action = blank();
    if new != 0 {
        match SigAction32::read(stack, new) {
            Ok(given) => {
                action.handler = opaque(given.handler);
                action.flags = opaque(given.flags & SA_KNOWN);
                action.restorer = opaque(given.restorer);
                action.mask = opaque(given.mask & !(bit(SIGKILL) | bit(SIGSTOP)));
            }
            Err(fault) => return fault,
        }
    }
    let state = state();
    if signal == SIGSYS {
        let previous = state.sigsys.load();
        if new != 0 {
            signals::keep_sigsys(&action);
        }
        return if old == 0 { 0 } else { SigAction32::write(stack, old, &previous) };
    }
    let place = CANCEL.iter().position(|cancel| *cancel == signal);
    let cancels = match place {
        Some(place) => state.cancel.get(place),
        None => None,
    };
    let has = new != 0 && action.mask & bit(SIGSYS) != 0;
    let had = state.masked.load(Ordering::Relaxed) & bit(signal) != 0;
    let mut shown = blank();
    if let Some(cancels) = cancels {
        shown = cancels.load();
    }
    action.mask &= !bit(SIGSYS);
    let keep = new != 0 && (has != had || place.is_some()) && !is_guest();
    if let Some(cancels) = cancels
        && keep
        && action.handler > SIG_IGN
    {
        cancels.store(&action);
        action.handler = cancel_handler;
        action.flags |= SA_SIGINFO;
    }
    let (given, mut previous) = (SigAction32::of(&action), SigAction32::of(&blank()));
    let to = if new == 0 { 0 } else { (&raw const given).addr() };
    let result = make(to, (&raw mut previous).addr());
    if result != 0 {
        return result;
    }
    if keep && has != had {
        state.masked.fetch_xor(bit(signal), Ordering::Relaxed);
    }
    if old == 0 {
        return 0;
    }
    let mut previous = previous.widened();
    if place.is_some() && previous.handler == cancel_handler {
        previous.handler = shown.handler;
        previous.flags = shown.flags;
    }
    if had {
        previous.mask |= bit(SIGSYS);
    }
    SigAction32::write(stack, old, &previous)
}

const _: () = assert!(size_of::<SigAction32>() == 20);
