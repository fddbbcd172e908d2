//! What a thread of a running process executes on behalf of whoever controls its namespace: taking this image over, or
//! changing from one page to another.
//!
//! All threads of the process are stopped, and one of them is sent here, with its signals blocked and an
//! [`Errand`](crate::state::Errand) in the state. It runs on a stack in the state, so that it needs nothing of the
//! interrupted program's, and ends by giving that its registers and its mask back. So it comes to an end
//! by itself if whoever sent it dies on the way.
//!
//! Everything up to the change of the page is without effect, since the page is one that changes nothing until then; and
//! that is one call.

use crate::numbers;
use crate::host::{opaque, state, syscall};
use crate::page::PAGE_SIZE;
use crate::setting::ask;
use crate::signals;
use crate::state::{ERRAND_ANNOUNCE, ERRAND_ENTER, ERRAND_SWITCH, Errand, FILTERED, State};
use crate::surface::{WORD_FILTER, WORD_PAGE};
use crate::timers;
use core::arch::global_asm;
use core::mem::offset_of;
use core::sync::atomic::Ordering;

const SYS_RT_SIGPROCMASK: u32 = numbers::RT_SIGPROCMASK as u32;
/// How long a thread waits to be taken back.
const PATIENCE_NS: u64 = 100_000_000;
const SIG_SETMASK: u32 = 2;
const PROT_READ: usize = 1;
const MAP_SHARED: usize = 1;
const MAP_PRIVATE: usize = 2;
const MAP_FIXED: usize = 0x10;
const MAP_ANONYMOUS: usize = 0x20;
const EACCES: i64 = -13;
const PR_SET_NO_NEW_PRIVS: usize = 38;
const SECCOMP_SET_MODE_FILTER: usize = 1;
/// `TSYNC`, `SPEC_ALLOW` and `TSYNC_ESRCH`.
const FILTER_FLAGS: usize = 1 | 4 | 16;
const EINVAL: i64 = -22;
/// Bytes of a filter's instruction, and of the longest filter (`BPF_MAXINSNS`).
const INSTRUCTION_LEN: usize = 8;
const FILTER_MAX: usize = 4096 * INSTRUCTION_LEN;

global_asm!(
    ".pushsection .text.elsewhen_remote, \"ax\", @progbits",
    ".balign 16",
    ".globl elsewhen_remote",
    ".type elsewhen_remote, @function",
    "elsewhen_remote:",
    "cld",
    "lea rsp, [rip + __ns_state + {stack}]",
    "mov ebp, 0",
    "call {errand}",
    // The flags first, the last of which no instruction from here on changes; the system call keeps them.
    "lea rsp, [rip + __ns_state + {registers} + 8 * 16]",
    "popfq",
    "mov rsp, [rip + __ns_state + {registers} + 8 * 17]",
    "mov eax, {sigprocmask}",
    "mov edi, {setmask}",
    "lea rsi, [rip + __ns_state + {mask}]",
    "mov edx, 0",
    "mov r10d, 8",
    "syscall",
    "mov r15, [rip + __ns_state + {registers} + 8 * 0]",
    "mov r14, [rip + __ns_state + {registers} + 8 * 1]",
    "mov r13, [rip + __ns_state + {registers} + 8 * 2]",
    "mov r12, [rip + __ns_state + {registers} + 8 * 3]",
    "mov rbp, [rip + __ns_state + {registers} + 8 * 4]",
    "mov rbx, [rip + __ns_state + {registers} + 8 * 5]",
    "mov r11, [rip + __ns_state + {registers} + 8 * 6]",
    "mov r10, [rip + __ns_state + {registers} + 8 * 7]",
    "mov r9, [rip + __ns_state + {registers} + 8 * 8]",
    "mov r8, [rip + __ns_state + {registers} + 8 * 9]",
    "mov rax, [rip + __ns_state + {registers} + 8 * 10]",
    "mov rcx, [rip + __ns_state + {registers} + 8 * 11]",
    "mov rdx, [rip + __ns_state + {registers} + 8 * 12]",
    "mov rsi, [rip + __ns_state + {registers} + 8 * 13]",
    "mov rdi, [rip + __ns_state + {registers} + 8 * 14]",
    "jmp [rip + __ns_state + {registers} + 8 * 15]",
    ".size elsewhen_remote, . - elsewhen_remote",
    ".popsection",
    stack = const State::ERRAND_STACK,
    registers = const offset_of!(State, wiped.errand.registers),
    mask = const offset_of!(State, wiped.errand.mask),
    sigprocmask = const SYS_RT_SIGPROCMASK,
    setmask = const SIG_SETMASK,
    errand = sym errand,
);

/// Runs the errand and writes down what it came to.
extern "C" fn errand() {
    let errand = &state().wiped.errand;
    let result = match errand.kind.load(Ordering::Relaxed) {
        ERRAND_ENTER => enter(errand),
        ERRAND_SWITCH => switch(errand),
        ERRAND_ANNOUNCE => announce(errand),
        _ => EINVAL,
    };
    errand.kind.store(0, Ordering::Relaxed);
    // Whoever waits for it looks here.
    errand.result.store(result as u64, Ordering::Release);
    errand.done.store(1, Ordering::Release);
    // They stop this thread here and give it its registers back, which a signal cannot come between. If they have died, it
    // does that itself.
    let nothing = opaque(0);
    let time = [opaque(0), opaque(PATIENCE_NS)];
    // A wait that leaves no restart block behind: the interrupted program may have one.
    // SAFETY: the kernel reads a set and a time of ours.
    unsafe {
        syscall(numbers::RT_SIGTIMEDWAIT, [&raw const nothing as usize, 0, time.as_ptr() as usize, 8, 0, 0]);
    }
}

/// Loads the filter in the state, of whose listener whoever watches this call has taken a copy.
fn announce(errand: &Errand) -> i64 {
    let program = state() as *const State as usize + State::ERRAND_FILTER;
    let flags = errand.extra.load(Ordering::Relaxed) as usize;
    // SAFETY: the kernel reads the program, which has been put there.
    let load = || unsafe { syscall(numbers::SECCOMP, [SECCOMP_SET_MODE_FILTER, flags, program, 0, 0, 0]) };
    let mut result = load();
    if result == EACCES {
        // Its filters were loaded before it gave the right to do so away.
        // SAFETY: the call takes no pointers.
        unsafe { syscall(numbers::PRCTL, [PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0]) };
        result = load();
    }
    if result < 0 {
        return result;
    }
    close(result);
    0
}

/// Takes over `SIGSYS`, loads the filter and changes the page.
fn enter(errand: &Errand) -> i64 {
    let result = signals::take_over();
    if result < 0 {
        return result;
    }
    let result = load_filter(errand.reach.load(Ordering::Relaxed));
    if result < 0 {
        signals::give_back();
        return result;
    }
    state().filtered.store(errand.reach.load(Ordering::Relaxed) | FILTERED, Ordering::Relaxed);
    timers::adopt();
    switch_page(errand)
}

/// Extends the filter where there is need, and changes the page.
fn switch(errand: &Errand) -> i64 {
    let more = errand.extra.load(Ordering::Relaxed);
    if more != 0 {
        let result = load_filter(more - 1);
        if result < 0 {
            return result;
        }
        state().filtered.fetch_or((more - 1) | FILTERED, Ordering::Relaxed);
    }
    switch_page(errand)
}

/// Maps another page in place of the one there is, and remembers whose it is.
fn switch_page(errand: &Errand) -> i64 {
    let key = errand.page.load(Ordering::Relaxed);
    let at = crate::read::page() as *const _ as usize;
    let result = if key == 0 {
        let flags = MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS;
        // SAFETY: what has been there is this page, which readers read as a whole again where it has changed.
        unsafe { syscall(numbers::MMAP, [at, PAGE_SIZE, PROT_READ, flags, usize::MAX, 0]) }
    } else {
        let file = ask(WORD_PAGE, key);
        if file < 0 {
            return file;
        }
        // SAFETY: as above.
        let result = unsafe { syscall(numbers::MMAP, [at, PAGE_SIZE, PROT_READ, MAP_SHARED | MAP_FIXED, file as usize, 0]) };
        close(file);
        result
    };
    if result as usize != at {
        return result;
    }
    let state = state();
    state.reach.store(errand.reach.load(Ordering::Relaxed), Ordering::Relaxed);
    state.belongs.store(errand.belongs.load(Ordering::Relaxed), Ordering::Relaxed);
    0
}

/// Loads a filter that catches what a namespace with that reach changes, for every thread.
#[inline(never)]
fn load_filter(reach: u64) -> i64 {
    let file = ask(WORD_FILTER, reach);
    if file < 0 {
        return file;
    }
    // SAFETY: a new mapping at an address of the kernel's choice.
    let at = unsafe { syscall(numbers::MMAP, [0, FILTER_MAX + PAGE_SIZE, PROT_READ, MAP_PRIVATE, file as usize, 0]) };
    close(file);
    if at < 0 && at > -4096 {
        return at;
    }
    // The number of instructions, then those.
    // SAFETY: the file begins with eight bytes, which have just been mapped.
    let length = unsafe { *(at as *const u64) };
    let program = [opaque(length), opaque(at as u64 + 8)];
    // SAFETY: the kernel reads the program.
    let result = unsafe {
        syscall(numbers::SECCOMP, [SECCOMP_SET_MODE_FILTER, FILTER_FLAGS, program.as_ptr() as usize, 0, 0, 0])
    };
    // SAFETY: mapped above, and nobody else's.
    unsafe { syscall(numbers::MUNMAP, [at as usize, FILTER_MAX + PAGE_SIZE, 0, 0, 0, 0]) };
    result
}

fn close(file: i64) {
    // SAFETY: the descriptor is ours.
    unsafe { syscall(numbers::CLOSE, [file as usize, 0, 0, 0, 0, 0]) };
}
