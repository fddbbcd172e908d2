//! The data page: what readers compute clocks from. Mirrors `struct vdso_time_data` of the kernel's
//! `include/vdso/datapage.h` in purpose, not byte for byte.
//!
//! Compiled into this crate, which writes the page, and into the images, which read it.

use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

/// Places for clocks: the ids of `clock_gettime(2)` up to `CLOCK_TAI`.
pub const CLOCKS: usize = 12;

/// First half of a [`mode`] word.
pub const MAGIC: u16 = u16::from_le_bytes(*b"EW");
/// Of the layout of the page.
pub const VERSION: u8 = 1;

/// No counter: readers make a system call.
pub const COUNTER_NONE: u8 = 0;
/// The time stamp counter of x86.
pub const COUNTER_TSC: u8 = 1;
/// None either: the page is a namespace's, holds offsets, and the data are on another page.
pub const COUNTER_TIMENS: u8 = 0x7f;

/// The word that says of a page what it is, and by which counter it goes. Readers compare all of it at once: another magic
/// or version costs no check of its own.
pub const fn mode(counter: u8) -> u32 {
    MAGIC as u32 | (VERSION as u32) << 16 | (counter as u32) << 24
}

/// [`mode`] of [`COUNTER_TSC`].
pub const MODE_TSC: u32 = mode(COUNTER_TSC);
/// [`mode`] of [`COUNTER_TIMENS`].
pub const MODE_TIMENS: u32 = mode(COUNTER_TIMENS);

/// A clock at `cycle_last`.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Stamp {
    /// Whole seconds, as the bits of an `i64`.
    pub sec: AtomicU64,
    /// Nanoseconds, times two to the power of `shift`; of coarse clocks not multiplied, and below a second.
    pub nsec: AtomicU64,
}

/// The clocks that go by one pace, and that pace.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct Source {
    /// Odd while somebody writes, and on a namespace's page for ever.
    pub sequence: AtomicU32,
    /// See [`mode`].
    pub mode: AtomicU32,
    /// The counter's value when `base` was right.
    pub cycle_last: AtomicU64,
    /// How far the counter may have gone on since: beyond, the timekeeper has stopped.
    pub max_cycles: AtomicU64,
    /// Nanoseconds per cycle, times two to the power of `shift`.
    pub mult: AtomicU32,
    /// See `mult`.
    pub shift: AtomicU16,
    /// The flag of the designs that have one: not 0 where the reader is in a namespace.
    pub member: AtomicU16,
    /// By clock id.
    pub base: [Stamp; CLOCKS],
}

/// The page, and a namespace's page: of that the offsets mean something, and what makes readers look at them.
#[repr(C, align(4096))]
#[derive(Debug, Default)]
pub struct DataPage {
    /// All clocks but `CLOCK_MONOTONIC_RAW`.
    pub hres: Source,
    /// `CLOCK_MONOTONIC_RAW`.
    pub raw: Source,
    /// `tz_minuteswest` and `tz_dsttime` of `gettimeofday(2)`.
    pub zone: [AtomicU32; 2],
    /// Resolution of the coarse clocks, in ns.
    pub coarse_ns: AtomicU32,
    /// By clock id, how far members are from others; [`pack`]ed. One word each, and 0 on a data page: so whoever reads
    /// one while pages change places has the distance of one side or the other. (The kernel has offsets where its data page
    /// has times, and does not let processes go back.)
    pub offsets: [AtomicU64; CLOCKS],
}

/// Bits of the nanoseconds in an offset.
const NSEC_BITS: u32 = 30;

/// An offset in a word: `nsec` is below a second. `None` beyond some 272 years.
pub fn pack(sec: i64, nsec: u32) -> Option<u64> {
    let fits = sec.unsigned_abs() < 1 << (63 - NSEC_BITS) && nsec < 1_000_000_000;
    fits.then_some((sec << NSEC_BITS).cast_unsigned() | u64::from(nsec))
}

/// Seconds and nanoseconds of an offset in a word.
#[inline(always)]
pub const fn unpack(offset: u64) -> (i64, u64) {
    (offset.cast_signed() >> NSEC_BITS, offset & ((1 << NSEC_BITS) - 1))
}

const _: () = assert!(size_of::<DataPage>() == 4096);
// The pace, CLOCK_REALTIME and CLOCK_MONOTONIC are in one cache line.
const _: () = assert!(core::mem::offset_of!(Source, base) + 2 * size_of::<Stamp>() == 64);

impl Stamp {
    pub(crate) fn store(&self, sec: i64, nsec: u64) {
        self.sec.store(sec as u64, Ordering::Relaxed);
        self.nsec.store(nsec, Ordering::Relaxed);
    }
}

impl Source {
    /// Makes readers wait. The caller is the only writer, and calls [`end`](Self::end).
    pub(crate) fn begin(&self) {
        // Odd already where a writer has died on the way.
        self.sequence.store(self.sequence.load(Ordering::Relaxed) | 1, Ordering::Relaxed);
        fence(Ordering::Release);
    }

    pub(crate) fn end(&self) {
        // Even already where the page was named twice.
        self.sequence.store(self.sequence.load(Ordering::Relaxed).wrapping_add(1) & !1, Ordering::Release);
    }
}

impl DataPage {
    /// Sets an offset on a namespace's page: `nsec` is below a second. False, and nothing is set, beyond some 272 years and
    /// for clocks that the page does not have.
    #[must_use]
    pub fn set_offset(&self, clock: usize, sec: i64, nsec: u32) -> bool {
        let (Some(offset), Some(place)) = (pack(sec, nsec), self.offsets.get(clock)) else { return false };
        place.store(offset, Ordering::Relaxed);
        true
    }

    /// Makes this the page of a namespace that takes the place of the data page: readers fail at its sequence, and find out
    /// why.
    pub fn set_timens(&self) {
        for source in [&self.hres, &self.raw] {
            source.mode.store(MODE_TIMENS, Ordering::Relaxed);
            source.sequence.store(1, Ordering::Release);
        }
    }

    /// Sets the flag of the designs that have one.
    pub fn set_member(&self, member: bool) {
        for source in [&self.hres, &self.raw] {
            source.member.store(member.into(), Ordering::Relaxed);
        }
    }
}
