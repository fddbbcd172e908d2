//! What each member keeps for itself: writable pages at a fixed address below the timens page.
//!
//! They belong to one process: private, zero at its start, copied by `fork(2)`, shared by its threads. The first
//! of them is emptied by `fork(2)` (`MADV_WIPEONFORK`), which is also how a new process is told from a child that
//! still runs in its parent's memory. The image reads and writes them; the host side only makes them and, on a
//! change, looks into them.

use core::mem::{offset_of, size_of};
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

/// Bytes that the state takes: twenty-one pages, of which most are never touched.
pub const STATE_SIZE: usize = 21 * 4096;
/// Bytes at its start that a new process finds empty.
pub const WIPED_SIZE: usize = 4096;

/// How many threads at a time can be remembered to block `SIGSYS`.
pub const BLOCKED_MAX: usize = 4000;
/// How many slots these are counted by, a power of two.
pub const BLOCKED_SLOTS: usize = 64;
/// How many timer descriptors, the first by number, are remembered.
const DESCRIPTORS_MAX: usize = 1024;
/// How many timers a process can have.
const TIMERS_MAX: usize = 1024;

/// `struct sigaction` as `rt_sigaction(2)` takes it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SigAction {
    /// `SIG_DFL`, `SIG_IGN` or the handler's address.
    pub handler: u64,
    /// `SA_*`.
    pub flags: u64,
    /// Where a handler returns to.
    pub restorer: u64,
    /// Signals blocked while the handler runs.
    pub mask: u64,
}

/// An action that several threads may set and use.
#[repr(C)]
#[derive(Debug)]
pub struct SharedAction {
    handler: AtomicU64,
    flags: AtomicU64,
    restorer: AtomicU64,
    mask: AtomicU64,
}

impl SharedAction {
    /// The action; threads that set it at the same time may mix, as nobody orders them.
    pub fn load(&self) -> SigAction {
        SigAction {
            handler: self.handler.load(Ordering::Acquire),
            flags: self.flags.load(Ordering::Relaxed),
            restorer: self.restorer.load(Ordering::Relaxed),
            mask: self.mask.load(Ordering::Relaxed),
        }
    }

    /// Makes the action the default one and leaves the rest, as the kernel does for `SA_RESETHAND`.
    pub fn forget_handler(&self) {
        self.handler.store(0, Ordering::Release);
    }

    /// Sets the action.
    pub fn store(&self, action: &SigAction) {
        self.flags.store(action.flags, Ordering::Relaxed);
        self.restorer.store(action.restorer, Ordering::Relaxed);
        self.mask.store(action.mask, Ordering::Relaxed);
        self.handler.store(action.handler, Ordering::Release);
    }
}

/// The page that a new process finds empty.
#[repr(C, align(4096))]
#[derive(Debug)]
pub struct Wiped {
    /// The process id of the memory's owner; 0 in a process that has just been forked.
    pub owner: AtomicU32,
    /// Whether a `SIGSYS` came while the program blocked it.
    pub pending: AtomicU32,
    /// Whether the process has loaded a filter of its own.
    pub confined: AtomicU32,
    _reserved: AtomicU32,
    /// Its `siginfo_t`: of the pending signal.
    pub info: [AtomicU64; 16],
    /// What one of its threads is sent to do while the others are stopped.
    pub errand: Errand,
}

/// An errand: becoming a member, with a filter that is yet to be loaded.
pub const ERRAND_ENTER: u64 = 1;
/// An errand: changing from one page to another.
pub const ERRAND_SWITCH: u64 = 2;

/// An errand: loading a filter that announces, at a listener of its own.
pub const ERRAND_ANNOUNCE: u64 = 3;

/// What a thread is sent to do, and what it goes back to.
#[repr(C)]
#[derive(Debug)]
pub struct Errand {
    /// `ERRAND_*`, or 0 for none.
    pub kind: AtomicU64,
    /// The namespace's reach ([`Reach::to_bits`](crate::surface::Reach::to_bits)).
    pub reach: AtomicU64,
    /// Where the page is changed, the reach of a filter to be loaded besides those that there are, plus 1, or 0 for none;
    /// else the flags with which the filter is loaded.
    pub extra: AtomicU64,
    /// What the supervisor is to be asked for the page with; 0 for a page that changes nothing.
    pub page: AtomicU64,
    /// What [`State::belongs`] is to be.
    pub belongs: AtomicU64,
    /// 0 or an error number, once done.
    pub result: AtomicU64,
    /// Whether it is done.
    pub done: AtomicU64,
    /// The mask that the thread gets back.
    pub mask: AtomicU64,
    /// The registers that it gets back: r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi, rip,
    /// flags, rsp.
    pub registers: [AtomicU64; 18],
}

/// [`State::filtered`]: there is a filter that catches.
pub const FILTERED: u64 = 1 << 62;

/// [`State::belongs`]: in the namespace of the tree that its supervisor serves.
pub const BELONGS_TO_TREE: u64 = 0;
/// [`State::belongs`]: in no namespace any more; filter and handler remain, and change nothing.
pub const BELONGS_TO_HOST: u64 = 1;
/// [`State::belongs`]: in the namespace whose page it maps.
pub const BELONGS_TO_PAGE: u64 = 2;
/// [`State::belongs`]: starts a container. In the host's time, as is what it executes, until that is under another root
/// directory: then it is in the namespace of the tree.
pub const BELONGS_TO_LAUNCHER: u64 = 3;

/// Whether a process that belongs there has the host's time.
pub const fn has_hosts_time(belongs: u64) -> bool {
    matches!(belongs, BELONGS_TO_HOST | BELONGS_TO_LAUNCHER)
}

/// [`State::abi`]: a 64-bit program.
pub const ABI_NATIVE: u64 = 0;
/// [`State::abi`]: a 32-bit program.
pub const ABI_I386: u64 = 1;
/// [`State::abi`]: an x32 program.
pub const ABI_X32: u64 = 2;

/// The whole.
#[repr(C, align(4096))]
#[derive(Debug)]
pub struct State {
    /// Emptied by `fork(2)`.
    pub wiped: Wiped,
    /// Where the host's vDSO lies: calls from there are the host's own fallbacks.
    pub vdso_start: AtomicU64,
    /// And where it ends.
    pub vdso_end: AtomicU64,
    /// The host's `clock_gettime`.
    pub host_clock: AtomicU64,
    /// Whether the kernel lets programs read their FS base themselves.
    pub fsgsbase: AtomicU64,
    /// What the namespace can do ([`Reach::to_bits`](crate::surface::Reach::to_bits)).
    pub reach: AtomicU64,
    /// `BELONGS_*`: whose namespace the process is in.
    pub belongs: AtomicU64,
    /// What the process's filters catch ([`Reach::to_bits`](crate::surface::Reach::to_bits)), with [`FILTERED`] where
    /// there are any.
    pub filtered: AtomicU64,
    /// `ABI_*`: what kind of program the process runs.
    pub abi: AtomicU64,
    /// Whether the host's vDSO makes system calls to read clocks, which a handler of `SIGSYS` must not cause.
    pub vdso_calls: AtomicU64,
    /// What the program wants done on `SIGSYS`.
    pub sigsys: SharedAction,
    /// The program's handlers for the two signals with which libcs cancel threads, 32 and 33.
    pub cancel: [SharedAction; 2],
    /// The signals whose handlers' masks have `SIGSYS`, as the program sees them.
    pub masked: AtomicU64,
    /// How many places of `blocked` are taken.
    blocked_count: AtomicU32,
    /// How many places of `timers` are taken.
    timer_count: AtomicU32,
    /// The page's counter when the timers were last set anew.
    pub timers_ticket: AtomicU32,
    _reserved: AtomicU32,
    /// How many places of `blocked` are taken by threads of each [slot](State::blocked_slot): for the short way of whoever
    /// certainly has none.
    blocked_slots: [AtomicU16; BLOCKED_SLOTS],
    /// The FS bases of the threads that block `SIGSYS`, as the program sees it; 0 where free.
    blocked: [AtomicU64; BLOCKED_MAX],
    /// The process's timers.
    timers: [Timer; TIMERS_MAX],
    /// How the process has last armed its timer descriptors, by their numbers.
    descriptors: [Descriptor; DESCRIPTORS_MAX],
}

/// How a timer descriptor was armed.
#[repr(C)]
#[derive(Debug)]
pub struct Descriptor {
    /// The instant, by the member's clock; 0 for a duration.
    until_ns: AtomicU64,
    /// The page's counter by which it was translated, and 2^32; 0 for never.
    armed: AtomicU64,
}

/// As the host side reads one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArmedDescriptor {
    /// The instant, by the member's clock; 0 for a duration.
    pub until_ns: i64,
    /// The page's counter by which it was translated.
    pub counter: u32,
}

impl ArmedDescriptor {
    /// Bytes of one in the state.
    pub const LEN: usize = size_of::<Descriptor>();

    /// Decodes one; `None` where the descriptor was never armed.
    pub fn decode(bytes: &[u8; Self::LEN]) -> Option<Self> {
        let word = |at: usize| bytes[at..at + 8].iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        (word(8) != 0).then(|| Self { until_ns: word(0) as i64, counter: word(8) as u32 })
    }
}

/// A timer of the process, or its alarm.
#[repr(C)]
#[derive(Debug)]
pub struct Timer {
    /// `TIMER_TAKEN`, the id and the clock, or 0 where the place is free.
    entry: AtomicU64,
    /// The instant for which it was armed, by the member's clock; 0 for none.
    pub until_ns: AtomicU64,
    /// Its interval, by the member's clock.
    pub interval_ns: AtomicU64,
    /// The pace at which it was armed for a duration; 0 for one that was not.
    pub mult: AtomicU64,
}

/// Marks a place of a timer as taken, since timer 0 on clock 0 is a timer.
const TIMER_TAKEN: u64 = 1 << 63;
/// The id under which the process's alarm (`ITIMER_REAL`) is kept.
pub const ALARM: i32 = i32::MAX;

impl State {
    /// Offset of `struct sock_fprog` and its instructions, for an errand.
    pub const ERRAND_FILTER: usize = 1024;

    /// Offset of the end of the stack for an errand: that of the page that a new process finds empty.
    pub const ERRAND_STACK: usize = WIPED_SIZE;

    /// Offset of the threads that block `SIGSYS`, as the program sees it.
    pub const BLOCKED: usize = offset_of!(Self, blocked);

    /// Offset of the timers.
    pub const TIMERS: usize = offset_of!(Self, timers);

    /// How many timers there can be.
    pub const TIMERS_MAX: usize = TIMERS_MAX;

    /// Offset of how many threads block `SIGSYS`, as the program sees it.
    pub const BLOCKED_COUNT: usize = core::mem::offset_of!(Self, blocked_count);

    /// Offset of whether programs may read their FS base.
    pub const FSGSBASE: usize = offset_of!(Self, fsgsbase);

    /// Offset of how many threads of each slot block `SIGSYS`, two bytes each.
    pub const BLOCKED_SLOTS: usize = offset_of!(Self, blocked_slots);

    /// How far to the right a thread's slot is in its FS base. Threads are a stack apart, and that is an odd number of
    /// pages.
    pub const SLOT_SHIFT: u32 = 12;

    /// Where a thread is counted.
    pub const fn blocked_slot(thread: u64) -> usize {
        (thread >> Self::SLOT_SHIFT) as usize % BLOCKED_SLOTS
    }

    /// Whether a thread blocks `SIGSYS`, as the program sees it.
    pub fn is_blocked(&self, thread: impl FnOnce() -> u64) -> bool {
        if self.blocked_count.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let thread = thread();
        // What other threads do to the table meanwhile must not hide this one's place: its slot is the only number that
        // may be gone by, since a thread counts itself there.
        let slot = self.blocked_slots.get(Self::blocked_slot(thread));
        slot.is_none_or(|slot| slot.load(Ordering::Relaxed) != 0)
            && self.blocked.iter().any(|place| place.load(Ordering::Relaxed) == thread)
    }

    /// Remembers whether a thread blocks `SIGSYS`. Where the table is full, a thread that does is forgotten.
    pub fn set_blocked(&self, thread: u64, blocked: bool) {
        let (from, to) = if blocked { (0, thread) } else { (thread, 0) };
        for place in &self.blocked {
            if place.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                if let Some(slot) = self.blocked_slots.get(Self::blocked_slot(thread)) {
                    slot.fetch_add(if blocked { 1 } else { u16::MAX }, Ordering::Relaxed);
                }
                if blocked {
                    self.blocked_count.fetch_add(1, Ordering::Relaxed);
                } else {
                    self.blocked_count.fetch_sub(1, Ordering::Relaxed);
                }
                return;
            }
        }
    }

    /// Offset of a descriptor's record, for the host side; `None` for one that has none.
    pub fn descriptor_at(fd: i32) -> Option<usize> {
        let fd = usize::try_from(fd).ok().filter(|fd| *fd < DESCRIPTORS_MAX)?;
        Some(offset_of!(Self, descriptors) + fd * size_of::<Descriptor>())
    }

    /// Remembers how a descriptor has been armed, by a page with that counter.
    pub fn note_descriptor(&self, fd: i32, until_ns: i64, counter: u32) {
        if let Some(descriptor) = usize::try_from(fd).ok().and_then(|fd| self.descriptors.get(fd)) {
            descriptor.armed.store(0, Ordering::Release);
            descriptor.until_ns.store(until_ns as u64, Ordering::Release);
            descriptor.armed.store(1 << 32 | u64::from(counter), Ordering::Release);
        }
    }

    /// Offset of the number of timers, for the host side.
    pub const TIMERS_ARMED: usize = offset_of!(Self, timer_count);

    /// Remembers a timer's clock. False where there is no place.
    pub fn add_timer(&self, id: i32, clock: i32) -> bool {
        let entry = TIMER_TAKEN | u64::from(id as u32 & 0x7fff_ffff) << 32 | u64::from(clock as u32);
        let take = |timer: &Timer| timer.entry.compare_exchange(0, entry, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        let Some(timer) = self.timers.iter().find(|timer| take(timer)) else { return false };
        timer.disarm();
        self.timer_count.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Every timer, with its id and clock.
    pub fn timers(&self) -> impl Iterator<Item = (i32, i32, &Timer)> {
        self.timers.iter().filter_map(|timer| {
            let entry = timer.entry.load(Ordering::Relaxed);
            (entry != 0).then_some(((entry >> 32) as i32 & i32::MAX, entry as u32 as i32, timer))
        })
    }

    /// The clock of a timer.
    pub fn timer_clock(&self, id: i32) -> Option<i32> {
        self.timer(id).map(|timer| timer.entry.load(Ordering::Relaxed) as u32 as i32)
    }

    /// Forgets a timer.
    pub fn remove_timer(&self, id: i32) {
        if let Some(timer) = self.timer(id) {
            timer.entry.store(0, Ordering::Relaxed);
            self.timer_count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Forgets every timer: a new process has none.
    pub fn remove_timers(&self) {
        if self.timer_count.swap(0, Ordering::Relaxed) != 0 {
            for timer in &self.timers {
                timer.entry.store(0, Ordering::Relaxed);
            }
        }
    }

    /// What is kept of a timer.
    pub fn timer(&self, id: i32) -> Option<&Timer> {
        let wanted = TIMER_TAKEN >> 32 | u64::from(id as u32 & 0x7fff_ffff);
        self.timers.iter().find(|timer| timer.entry.load(Ordering::Relaxed) >> 32 == wanted)
    }
}

impl Timer {
    /// The bytes of one that was armed, if it is, for a duration at the host's pace, before anybody kept book.
    #[cfg(not(vdso_image))]
    pub fn found(id: i32, clock: i32) -> [u8; size_of::<Self>()] {
        let entry = TIMER_TAKEN | u64::from(id as u32 & 0x7fff_ffff) << 32 | u64::from(clock as u32);
        let mut bytes = [0; size_of::<Self>()];
        bytes[..8].copy_from_slice(&entry.to_le_bytes());
        bytes[offset_of!(Self, mult)..][..8].copy_from_slice(&crate::transform::RATE_ONE.to_le_bytes());
        bytes
    }

    /// Notes that it has not been armed, or not in a way that a change concerns.
    pub fn disarm(&self) {
        self.until_ns.store(0, Ordering::Relaxed);
        self.mult.store(0, Ordering::Relaxed);
    }
}

/// Offsets in the frame that the image keeps on the stack of a thread in its gate, for whoever looks for waits from
/// outside: the frame begins where the thread's stack pointer is during the call, or eight bytes above.
pub mod frame {
    /// Number and arguments of the call that the gate makes.
    pub const CALL: usize = 64;
    /// What kind of wait it is; 0 for none that the page has a say in.
    pub const KIND: usize = 152;
    /// The page's counter when the wait was translated.
    pub const TICKET: usize = 160;
    /// As much of the frame as these take.
    pub const LEN: usize = 164;
}

/// What the image is told when it is mapped.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Boot {
    /// Where the host's vDSO lies.
    pub vdso_start: u64,
    /// And where it ends.
    pub vdso_end: u64,
    /// The host's `clock_gettime`, as it was before it was redirected.
    pub host_clock: u64,
    /// Whether the kernel lets programs read their FS base themselves (`HWCAP2_FSGSBASE`).
    pub fsgsbase: u64,
    /// What the namespace can do ([`Reach::to_bits`](crate::surface::Reach::to_bits)).
    pub reach: u64,
    /// `BELONGS_*`: whose namespace the process is in.
    pub belongs: u64,
    /// As [`State::filtered`].
    pub filtered: u64,
    /// As [`State::abi`].
    pub abi: u64,
    /// As [`State::vdso_calls`].
    pub vdso_calls: u64,
}

// The host side finds fields by their offsets.
const _: () = {
    assert!(size_of::<Wiped>() == WIPED_SIZE && offset_of!(State, vdso_start) == WIPED_SIZE);
    assert!(size_of::<State>() == STATE_SIZE);
    assert!(size_of::<SigAction>() == 32 && size_of::<Boot>() == 72);
};
