//! The timens page: a namespace, as every member maps it.
//!
//! One 4 KiB page, mapped read-only by members right before the image and writable by whoever controls the
//! namespace. It is `repr(C)` and pointer-free, so that 32-bit and 64-bit members share it. Everything that
//! changes is an atomic behind the [`Latch`].
//!
//! A clock at the host's pace needs an offset only. Those offsets, for every timeline, and the latch's counter
//! share one cache line, so a clock read touches a single line of the page. A clock with a rate, or one about
//! to change, has [`AFFINE`] in place of its offset and a [`Pivot`] in a line of its own.

use crate::clock::{TIMELINES, Timeline};
use crate::latch::{Latch, Ticket};
use crate::surface::Reach;
use crate::transform::{Affine, NSEC_PER_SEC, Pivot, RATE_ONE, Split};
use core::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

/// First word of a page: `elswhen\0`, little-endian.
pub const PAGE_MAGIC: u64 = u64::from_le_bytes(*b"elswhen\0");

/// Layout version. A reader refuses a page of another version.
pub const PAGE_VERSION: u32 = 2;

/// Bytes that the page occupies.
pub const PAGE_SIZE: usize = 4096;

/// Longest name of a namespace, in bytes.
pub const NAME_MAX: usize = 32;

/// Where the counter lies that every change of the page changes, as four bytes.
pub const COUNTER_AT: usize = core::mem::offset_of!(TimensPage, offsets) + core::mem::offset_of!(Offsets, latch);

/// In place of an offset's nanoseconds: the clock needs its [`Pivot`].
pub const AFFINE: u32 = u32::MAX;

/// Offsets for code that cannot use the types: of the first copy of the offsets, in bytes.
#[cfg(vdso_image)]
pub(crate) const OFFSETS_AT: usize = core::mem::offset_of!(TimensPage, offsets);
/// Bytes of one copy.
#[cfg(vdso_image)]
pub(crate) const COPY_LEN: usize = core::mem::size_of::<Offsets>();
/// In a copy, of the nanoseconds.
#[cfg(vdso_image)]
pub(crate) const NSEC_AT: usize = core::mem::offset_of!(Offsets, nsec);
/// In a copy, of the seconds.
#[cfg(vdso_image)]
pub(crate) const SEC_AT: usize = core::mem::offset_of!(Offsets, sec);
/// Of the first copy of the pivots.
#[cfg(vdso_image)]
pub(crate) const PIVOTS_AT: usize = core::mem::offset_of!(TimensPage, pivots);
/// Bytes of one copy of them.
#[cfg(vdso_image)]
pub(crate) const PIVOTS_LEN: usize = core::mem::size_of::<[SharedPivot; TIMELINES]>();

/// What identifies a page; written once, before the first member maps it.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Header {
    magic: u64,
    version: u32,
    page_size: u32,
    /// Of the namespace, padded with zeros.
    name: [u8; NAME_MAX],
    /// What its members are prepared for ([`Reach::to_bits`](crate::surface::Reach::to_bits)).
    reach: u32,
    /// [`PERSISTENT`] and [`DELEGATED`], or nothing.
    flags: u32,
    _reserved: [u32; 2],
}

/// Flag of a page: the namespace stays when its last member has ended, until it is removed.
pub const PERSISTENT: u32 = 1;
/// Flag of a page: supervisors wake members on a change, whoever makes it.
pub const DELEGATED: u32 = 2;

/// What is known of a namespace when its page is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity<'a> {
    /// Its name, or nothing; what is longer than [`NAME_MAX`] bytes is cut.
    pub name: &'a str,
    /// What its members are prepared for.
    pub reach: Reach,
    /// Whether it stays when its last member has ended.
    pub persistent: bool,
    /// Whether supervisors wake its members on a change, whoever makes it.
    pub delegated: bool,
    /// Any number: where the counter of the latch begins. A process that changes from one page to another in the middle of a
    /// read notices by it, so pages should differ.
    pub seed: u32,
}

/// One copy of the offsets: a cache line. Only the latch of copy 0 is in use.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Offsets {
    latch: Latch,
    nsec: [AtomicU32; TIMELINES],
    sec: [AtomicI64; TIMELINES],
}

#[repr(C)]
#[derive(Debug)]
struct SharedAffine {
    host_ns: AtomicI64,
    member_ns: AtomicI64,
    mult: AtomicU64,
}

/// One copy of one timeline's pivot: a cache line.
#[repr(C, align(64))]
#[derive(Debug)]
struct SharedPivot {
    at_host_ns: AtomicI64,
    before: SharedAffine,
    after: SharedAffine,
}

/// The page itself.
#[repr(C, align(4096))]
#[derive(Debug)]
pub struct TimensPage {
    header: Header,
    offsets: [Offsets; 2],
    pivots: [[SharedPivot; TIMELINES]; 2],
    /// In each copy: the host's MONOTONIC at which the pace of waits last changed.
    paced_at_ns: [AtomicI64; 2],
}

/// How one timeline is mapped, as the page stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Map {
    /// At the host's pace: add this.
    Offset(Split),
    /// With a rate, frozen, or about to change.
    Pivot(Pivot),
}

impl Map {
    /// The cheapest form of a pivot: an offset where one map at the host's pace holds for all times.
    pub const fn from_pivot(pivot: Pivot) -> Self {
        if let Some(offset_ns) = pivot.after.offset_ns()
            && pivot.at_host_ns == i64::MIN
        {
            // Bounded by 2^65 ns, so the seconds fit.
            let sec = offset_ns.div_euclid(NSEC_PER_SEC as i128) as i64;
            let nsec = offset_ns.rem_euclid(NSEC_PER_SEC as i128) as u32;
            return Self::Offset(Split { sec, nsec });
        }
        Self::Pivot(pivot)
    }

    /// The pivot that this map is.
    pub const fn to_pivot(self) -> Pivot {
        match self {
            Self::Pivot(pivot) => pivot,
            Self::Offset(offset) => Pivot::settled(Affine { host_ns: 0, member_ns: offset.to_ns(), mult: RATE_ONE }),
        }
    }
}

impl TimensPage {
    /// Whether this is a page of a layout that this code reads.
    pub fn is_valid(&self) -> bool {
        self.header.magic == PAGE_MAGIC
            && self.header.version == PAGE_VERSION
            && self.header.page_size as usize == PAGE_SIZE
    }

    /// The bytes of a new page with identity maps.
    ///
    /// A page begins its life as bytes written into a memory file, before anyone maps it.
    pub fn initial_bytes(identity: Identity<'_>) -> [u8; PAGE_SIZE] {
        let mut bytes = [0; PAGE_SIZE];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(core::mem::offset_of!(Header, magic), &PAGE_MAGIC.to_le_bytes());
        put(core::mem::offset_of!(Header, version), &PAGE_VERSION.to_le_bytes());
        put(core::mem::offset_of!(Header, page_size), &(PAGE_SIZE as u32).to_le_bytes());
        let name = identity.name.as_bytes();
        put(core::mem::offset_of!(Header, name), &name[..name.len().min(NAME_MAX)]);
        put(core::mem::offset_of!(Header, reach), &(identity.reach.to_bits() as u32).to_le_bytes());
        let flag = |is_set: bool, flag: u32| if is_set { flag } else { 0 };
        let flags = flag(identity.persistent, PERSISTENT) | flag(identity.delegated, DELEGATED);
        put(core::mem::offset_of!(Header, flags), &flags.to_le_bytes());
        // At rest the counter is even; 0 is for pages that nobody made.
        let counter = (identity.seed | 2) & !1;
        put(core::mem::offset_of!(TimensPage, offsets), &counter.to_le_bytes());
        // All zeros are identity offsets, and a pivot is not looked at until an offset says so.
        bytes
    }

    /// The namespace's name, as UTF-8 bytes without padding.
    pub fn name(&self) -> &[u8] {
        let end = self.header.name.iter().position(|byte| *byte == 0).unwrap_or(NAME_MAX);
        self.header.name.get(..end).unwrap_or(&[])
    }

    /// What members are prepared for.
    pub const fn reach(&self) -> Reach {
        Reach::from_bits(self.header.reach as u64)
    }

    /// Whether the namespace stays when its last member has ended.
    pub const fn is_persistent(&self) -> bool {
        self.header.flags & PERSISTENT != 0
    }

    /// Whether supervisors wake its members on a change, whoever makes it.
    pub const fn is_delegated(&self) -> bool {
        self.header.flags & DELEGATED != 0
    }

    /// Begins a read of any number of timelines.
    #[inline(always)]
    pub fn begin(&self) -> Ticket {
        self.offsets[0].latch.begin()
    }

    /// Whether what was read under `ticket` is of one piece.
    #[inline(always)]
    pub fn holds(&self, ticket: Ticket) -> bool {
        self.offsets[0].latch.holds(ticket)
    }

    /// The offset in the place of a timeline: seconds and nanoseconds, or [`AFFINE`] nanoseconds. `None` where
    /// the place is not of a timeline.
    #[inline(always)]
    pub fn offset(&self, ticket: Ticket, place: usize) -> Option<(i64, u32)> {
        let copy = &self.offsets[ticket.copy()];
        let nsec = copy.nsec.get(place)?.load(Ordering::Relaxed);
        let sec = copy.sec.get(place)?.load(Ordering::Relaxed);
        Some((sec, nsec))
    }

    /// The pivot in the place of a timeline; meaningful where its offset is [`AFFINE`].
    #[inline(always)]
    pub fn pivot(&self, ticket: Ticket, place: usize) -> Option<Pivot> {
        Some(self.pivots[ticket.copy()].get(place)?.load())
    }

    /// A consistent picture of every timeline's map.
    pub fn maps(&self) -> [Map; TIMELINES] {
        loop {
            let ticket = self.begin();
            let maps = Timeline::ALL.map(|timeline| self.map(ticket.copy(), timeline as usize));
            if self.holds(ticket) {
                return maps;
            }
            core::hint::spin_loop();
        }
    }

    /// The host's MONOTONIC at which the pace of waits last changed.
    #[inline(always)]
    pub fn paced_at_ns(&self, ticket: Ticket) -> i64 {
        self.paced_at_ns[ticket.copy()].load(Ordering::Relaxed)
    }

    /// Publishes new maps for every timeline at once. Writers must exclude each other.
    pub fn publish(&self, maps: &[Map; TIMELINES]) {
        self.publish_if(maps, || true);
    }

    /// As [`publish`](Self::publish), if `still` says so when all is written and one store is left that makes it the
    /// readers'; otherwise they keep what they have. Returns what it said.
    pub fn publish_if(&self, maps: &[Map; TIMELINES], still: impl FnOnce() -> bool) -> bool {
        let monotonic = Timeline::Monotonic as usize;
        let (old, new) = (self.maps()[monotonic].to_pivot(), maps[monotonic].to_pivot());
        let copy = self.begin().copy();
        let kept = self.paced_at_ns[copy].load(Ordering::Relaxed);
        let paced_at_ns = if old.after.mult == new.after.mult { kept } else { new.after.host_ns };
        self.offsets[0].latch.publish(
            |from, to| {
                self.paced_at_ns[to].store(self.paced_at_ns[from].load(Ordering::Relaxed), Ordering::Relaxed);
                for place in 0..TIMELINES {
                    self.store(to, place, self.map(from, place));
                }
            },
            |copy| {
                self.paced_at_ns[copy].store(paced_at_ns, Ordering::Relaxed);
                for (place, map) in maps.iter().enumerate() {
                    self.store(copy, place, *map);
                }
            },
            still,
        )
    }

    fn map(&self, copy: usize, place: usize) -> Map {
        let offsets = &self.offsets[copy];
        let nsec = offsets.nsec[place].load(Ordering::Relaxed);
        if nsec == AFFINE {
            Map::Pivot(self.pivots[copy][place].load())
        } else {
            Map::Offset(Split { sec: offsets.sec[place].load(Ordering::Relaxed), nsec })
        }
    }

    fn store(&self, copy: usize, place: usize, map: Map) {
        let (sec, nsec) = match map {
            Map::Offset(offset) => (offset.sec, offset.nsec),
            Map::Pivot(pivot) => {
                self.pivots[copy][place].store(pivot);
                (0, AFFINE)
            }
        };
        self.offsets[copy].sec[place].store(sec, Ordering::Relaxed);
        self.offsets[copy].nsec[place].store(nsec, Ordering::Relaxed);
    }
}

/// A page's contents at one moment, read from another process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The namespace's name, without padding.
    pub name: [u8; NAME_MAX],
    /// What members are prepared for.
    pub reach: Reach,
    /// Whether the namespace stays when its last member has ended.
    pub persistent: bool,
    /// The counter of the latch.
    pub counter: u32,
    /// The maps of every timeline.
    pub maps: [Map; TIMELINES],
}

impl Snapshot {
    /// Decodes the bytes of a page; `None` where they are not one of this version. A page that changed while it
    /// was copied may decode to a mix: copy twice and compare where that matters.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let u32_at = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let u64_at = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let i64_at = |at: usize| Some(u64_at(at)? as i64);
        let affine_at =
            |at: usize| Some(Affine { host_ns: i64_at(at)?, member_ns: i64_at(at + 8)?, mult: u64_at(at + 16)? });
        if u64_at(0)? != PAGE_MAGIC || u32_at(8)? != PAGE_VERSION {
            return None;
        }
        let offsets = core::mem::offset_of!(TimensPage, offsets);
        let copy = (u32_at(offsets)? & 1) as usize;
        let line = offsets + copy * size_of::<Offsets>();
        let mut maps = [Map::Offset(Split { sec: 0, nsec: 0 }); TIMELINES];
        for (place, map) in maps.iter_mut().enumerate() {
            let nsec = u32_at(line + core::mem::offset_of!(Offsets, nsec) + 4 * place)?;
            *map = if nsec == AFFINE {
                let pivot = copy * TIMELINES + place;
                let at = core::mem::offset_of!(TimensPage, pivots) + pivot * size_of::<SharedPivot>();
                Map::Pivot(Pivot {
                    at_host_ns: i64_at(at)?,
                    before: affine_at(at + core::mem::offset_of!(SharedPivot, before))?,
                    after: affine_at(at + core::mem::offset_of!(SharedPivot, after))?,
                })
            } else {
                Map::Offset(Split { sec: i64_at(line + core::mem::offset_of!(Offsets, sec) + 8 * place)?, nsec })
            };
        }
        let reach = Reach::from_bits(u32_at(core::mem::offset_of!(Header, reach))?.into());
        let persistent = u32_at(core::mem::offset_of!(Header, flags))? & PERSISTENT != 0;
        let counter = u32_at(offsets)?;
        Some(Self { name: bytes.get(16..16 + NAME_MAX)?.try_into().ok()?, reach, persistent, counter, maps })
    }
}

impl SharedPivot {
    #[inline(always)]
    fn load(&self) -> Pivot {
        Pivot {
            at_host_ns: self.at_host_ns.load(Ordering::Relaxed),
            before: self.before.load(),
            after: self.after.load(),
        }
    }

    fn store(&self, pivot: Pivot) {
        self.at_host_ns.store(pivot.at_host_ns, Ordering::Relaxed);
        self.before.store(pivot.before);
        self.after.store(pivot.after);
    }
}

impl SharedAffine {
    #[inline(always)]
    fn load(&self) -> Affine {
        Affine {
            host_ns: self.host_ns.load(Ordering::Relaxed),
            member_ns: self.member_ns.load(Ordering::Relaxed),
            mult: self.mult.load(Ordering::Relaxed),
        }
    }

    fn store(&self, map: Affine) {
        self.host_ns.store(map.host_ns, Ordering::Relaxed);
        self.member_ns.store(map.member_ns, Ordering::Relaxed);
        self.mult.store(map.mult, Ordering::Relaxed);
    }
}

// The layout is an ABI between processes, possibly of different word sizes. These hold on every target because
// each struct is aligned to 64 and orders its fields so that 32-bit targets (where u64 aligns to 4) add no
// padding and need none.
const _: () = {
    use core::mem::{align_of, offset_of, size_of};
    assert!(size_of::<TimensPage>() == PAGE_SIZE && align_of::<TimensPage>() == PAGE_SIZE);
    assert!(offset_of!(TimensPage, header) == 0);
    assert!(offset_of!(TimensPage, offsets) == 64);
    assert!(offset_of!(TimensPage, pivots) == 192);
    assert!(size_of::<Header>() == 64 && size_of::<Offsets>() == 64 && size_of::<SharedPivot>() == 64);
    assert!(offset_of!(Header, magic) == 0 && offset_of!(Header, version) == 8);
    assert!(offset_of!(Header, page_size) == 12 && offset_of!(Header, name) == 16);
    assert!(offset_of!(Header, reach) == 48 && offset_of!(Header, flags) == 52);
    assert!(offset_of!(Offsets, latch) == 0 && offset_of!(Offsets, nsec) == 4 && offset_of!(Offsets, sec) == 24);
    assert!(size_of::<SharedAffine>() == 24);
    assert!(offset_of!(SharedAffine, host_ns) == 0 && offset_of!(SharedAffine, member_ns) == 8);
    assert!(offset_of!(SharedAffine, mult) == 16);
    assert!(offset_of!(SharedPivot, at_host_ns) == 0 && offset_of!(SharedPivot, before) == 8);
    assert!(offset_of!(SharedPivot, after) == 32);
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::HostNs;
    use proptest::prelude::*;

    fn identity_page() -> TimensPage {
        let zero = || Offsets { latch: Latch::new(), nsec: Default::default(), sec: Default::default() };
        let affine = || SharedAffine { host_ns: 0.into(), member_ns: 0.into(), mult: 0.into() };
        let pivot = || SharedPivot { at_host_ns: 0.into(), before: affine(), after: affine() };
        TimensPage {
            header: Header {
                magic: PAGE_MAGIC,
                version: PAGE_VERSION,
                page_size: 4096,
                name: [0; NAME_MAX],
                reach: 0,
                flags: 0,
                _reserved: [0; 2],
            },
            offsets: [zero(), zero()],
            pivots: [(); 2].map(|()| [(); TIMELINES].map(|()| pivot())),
            paced_at_ns: [0.into(), 0.into()],
        }
    }

    #[test]
    fn a_new_page_is_valid_and_changes_nothing() {
        let page = identity_page();
        assert!(page.is_valid());
        assert!(page.maps().iter().all(|map| *map == Map::Offset(Split { sec: 0, nsec: 0 })));
        let identity = |name| Identity { name, reach: Reach::ALL, persistent: true, delegated: true, seed: 7 };
        let bytes = TimensPage::initial_bytes(identity("a name"));
        assert_eq!(bytes[..12], [&PAGE_MAGIC.to_le_bytes()[..], &PAGE_VERSION.to_le_bytes()].concat());
        assert_eq!(&bytes[16..23], b"a name\0");
        let decoded = Snapshot::decode(&bytes).unwrap();
        assert_eq!((decoded.reach, decoded.persistent, decoded.counter), (Reach::ALL, true, 6));
        assert!(bytes[56..64].iter().chain(&bytes[68..]).all(|byte| *byte == 0));
        let long = TimensPage::initial_bytes(identity(&"n".repeat(99)));
        assert_eq!(long[48..], bytes[48..], "a long name does not spill");
    }

    #[test]
    fn no_offset_is_taken_for_a_pivot() {
        for offset_ns in [0, -1, 1, i64::MIN, i64::MAX] {
            let map = Map::from_pivot(Pivot::settled(Affine { host_ns: 0, member_ns: offset_ns, mult: RATE_ONE }));
            let Map::Offset(offset) = map else { panic!("{offset_ns} at the host's pace is an offset") };
            assert!(i64::from(offset.nsec) < NSEC_PER_SEC);
        }
    }

    proptest! {
        #[test]
        fn publish_then_maps_returns_what_was_published(
            raw in prop::array::uniform5((any::<i64>(), any::<i64>(), any::<i64>(), any::<bool>())),
            host: i64,
        ) {
            let page = identity_page();
            let maps = raw.map(|(host_ns, member_ns, at_host_ns, plain)| {
                let after = Affine { host_ns, member_ns, mult: if plain { RATE_ONE } else { 3 * RATE_ONE / 7 } };
                Map::from_pivot(Pivot { at_host_ns: if plain { i64::MIN } else { at_host_ns }, before: Affine::IDENTITY, after })
            });
            let before = page.maps();
            prop_assert!(!page.publish_if(&maps, || false));
            prop_assert_eq!(page.maps(), before);
            page.publish(&maps);
            prop_assert_eq!(page.maps(), maps);
            for map in maps {
                // The offset form and the pivot form of one map agree wherever the offset itself fits.
                if let Map::Offset(offset) = map && (-9_000_000_000..9_000_000_000).contains(&offset.sec) {
                    let sum = i128::from(offset.to_ns()) + i128::from(host);
                    let clamped = sum.clamp(i64::MIN.into(), i64::MAX.into());
                    prop_assert_eq!(i128::from(map.to_pivot().to_member(HostNs(host)).0), clamped);
                }
            }
        }
    }
}
