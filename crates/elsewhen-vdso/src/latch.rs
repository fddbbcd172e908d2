//! A latch: two copies of the data and a counter whose lowest bit says which copy to read.
//!
//! After the kernel's `seqcount_latch_t` (`include/linux/seqlock.h`), with one difference: the writer is a user
//! process that may die between any two stores, so the copy that readers are sent to is always complete before
//! the counter changes, and the next writer repairs the other one. Readers never wait for a writer; they read
//! again only when a writer has moved on while they were reading.
//!
//! At rest the counter is even, so readers use copy 0.

use crate::sync::{AtomicU32, Ordering, fence};

/// The orderings that the latch needs. The model-checking test weakens them one at a time.
pub(crate) trait Orderings {
    /// Of the store that sends readers to a finished copy.
    const PUBLISH: Ordering = Ordering::Release;
    /// Whether a release fence separates sending readers away from writing what they have left.
    const FENCE_BEFORE_REUSE: bool = true;
    /// Of the load with which a reader chooses its copy.
    const BEGIN: Ordering = Ordering::Acquire;
    /// Whether an acquire fence separates reading the data from looking at the counter again.
    const FENCE_BEFORE_CHECK: bool = true;
}

/// The orderings in use.
pub(crate) struct Strong;
impl Orderings for Strong {}

/// The counter of a latch.
#[repr(transparent)]
#[derive(Debug)]
pub struct Latch(AtomicU32);

/// The counter as a reader found it; says which copy to read.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u32);

impl Ticket {
    /// The counter itself.
    pub const fn counter(self) -> u32 {
        self.0
    }

    /// The copy to read: 0 or 1.
    #[inline(always)]
    pub const fn copy(self) -> usize {
        (self.0 & 1) as usize
    }
}

impl Latch {
    /// A latch whose readers use copy 0.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// A latch whose readers use copy 0.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Begins a read. Data of the ticket's copy may be loaded after this, with relaxed loads.
    #[inline(always)]
    pub fn begin(&self) -> Ticket {
        self.begin_with::<Strong>()
    }

    /// Whether what was read under `ticket` is of one piece. Otherwise begin again.
    #[inline(always)]
    pub fn holds(&self, ticket: Ticket) -> bool {
        self.holds_with::<Strong>(ticket)
    }

    /// Publishes new data. `store` is called once for each copy and writes all of it with relaxed stores;
    /// `repair` copies the complete copy (first argument) over the other (second), and is called only where a
    /// writer died half-way. `still` is asked right before the one store that sends readers to the new data: where it says
    /// no, they stay with the old, and `store` is called for the unused copy only. Returns what it said.
    ///
    /// Writers must exclude each other.
    pub fn publish(
        &self,
        repair: impl FnOnce(usize, usize),
        store: impl FnMut(usize),
        still: impl FnOnce() -> bool,
    ) -> bool {
        self.publish_with::<Strong>(repair, store, still)
    }

    #[inline(always)]
    pub(crate) fn begin_with<O: Orderings>(&self) -> Ticket {
        Ticket(self.0.load(O::BEGIN))
    }

    #[inline(always)]
    pub(crate) fn holds_with<O: Orderings>(&self, ticket: Ticket) -> bool {
        if O::FENCE_BEFORE_CHECK {
            fence(Ordering::Acquire);
        }
        self.0.load(Ordering::Relaxed) == ticket.0
    }

    pub(crate) fn publish_with<O: Orderings>(
        &self,
        repair: impl FnOnce(usize, usize),
        mut store: impl FnMut(usize),
        still: impl FnOnce() -> bool,
    ) -> bool {
        let mut count = self.0.load(Ordering::Acquire);
        if count & 1 == 1 {
            // A writer died after sending readers to copy 1, so only copy 1 is known to be whole.
            O::before_reuse();
            repair(1, 0);
            count = self.advance::<O>(count);
        }
        O::before_reuse();
        store(1);
        if !still() {
            return false;
        }
        count = self.advance::<O>(count);
        O::before_reuse();
        store(0);
        self.advance::<O>(count);
        true
    }

    fn advance<O: Orderings>(&self, count: u32) -> u32 {
        let next = count.wrapping_add(1);
        self.0.store(next, O::PUBLISH);
        next
    }
}

impl Default for Latch {
    fn default() -> Self {
        Self::new()
    }
}

trait BeforeReuse: Orderings {
    /// Keeps stores to a copy from becoming visible before the counter that sent readers away from it.
    fn before_reuse() {
        if Self::FENCE_BEFORE_REUSE {
            fence(Ordering::Release);
        }
    }
}
impl<O: Orderings> BeforeReuse for O {}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU64;

    #[test]
    fn a_writer_that_died_at_any_store_leaves_readers_a_whole_copy_and_the_next_writer_repairs() {
        // Each publish makes four steps: store copy 1, advance, store copy 0, advance. Die before step n.
        for died_before in 0..4 {
            let (latch, copies) = (Latch::new(), [const { [const { AtomicU64::new(7) }; 2] }; 2]);
            let put =
                |copy: usize, value: u64| copies[copy].iter().for_each(|slot| slot.store(value, Ordering::Relaxed));
            if died_before >= 1 {
                put(1, 8);
            } else {
                copies[1][0].store(8, Ordering::Relaxed);
            }
            if died_before >= 2 {
                latch.0.store(1, Ordering::Release);
                copies[0][0].store(8, Ordering::Relaxed);
            }
            if died_before >= 3 {
                put(0, 8);
            }
            let read = || {
                let ticket = latch.begin();
                let got = [0, 1].map(|word| copies[ticket.copy()][word].load(Ordering::Relaxed));
                assert!(latch.holds(ticket));
                assert_eq!(got[0], got[1], "torn after a death before step {died_before}");
                got[0]
            };
            assert_eq!(read(), if died_before >= 2 { 8 } else { 7 });
            let repair = |from: usize, to| put(to, copies[from][0].load(Ordering::Relaxed));
            latch.publish(repair, |copy| put(copy, 9), || true);
            assert_eq!(read(), 9);
            let ticket = latch.begin();
            assert!(!latch.publish(|_, _| panic!("nothing to repair"), |copy| put(copy, 10), || false));
            assert!(read() == 9 && latch.holds(ticket), "what was given up reaches nobody");
            latch.publish(|_, _| panic!("nothing to repair"), |copy| put(copy, 11), || true);
            assert_eq!(read(), 11);
            assert_eq!(latch.begin().copy(), 0, "at rest readers use copy 0");
        }
    }

    #[test]
    fn the_counter_wraps() {
        let latch = Latch(AtomicU32::new(u32::MAX - 1));
        latch.publish(|_, _| panic!("nothing to repair"), |_| (), || true);
        assert_eq!(latch.begin(), Ticket(0));
    }
}

/// Run with `RUSTFLAGS="--cfg loom" cargo test -p elsewhen-vdso --release latch`.
#[cfg(all(test, loom))]
mod model {
    extern crate std;
    use super::*;
    use std::sync::Arc;
    use std::vec::Vec;

    struct Shared {
        latch: Latch,
        copies: [[AtomicU32; 2]; 2],
    }

    impl Shared {
        fn new() -> Self {
            Self { latch: Latch::new(), copies: core::array::from_fn(|_| core::array::from_fn(|_| AtomicU32::new(0))) }
        }

        fn put(&self, copy: usize, value: u32) {
            for word in &self.copies[copy] {
                word.store(value, Ordering::Relaxed);
            }
        }

        fn publish<O: Orderings>(&self, value: u32) {
            self.latch.publish_with::<O>(
                |_, _| unreachable!("nobody dies here"),
                |copy| self.put(copy, value),
                || true,
            );
        }

        /// One attempt of a reader: what it would return, if it returns.
        fn attempt<O: Orderings>(&self) -> Option<u32> {
            let ticket = self.latch.begin_with::<O>();
            let words: Vec<u32> = self.copies[ticket.copy()].iter().map(|word| word.load(Ordering::Relaxed)).collect();
            if !self.latch.holds_with::<O>(ticket) {
                return None;
            }
            assert_eq!(words[0], words[1], "torn read");
            Some(words[0])
        }
    }

    /// A writer publishes twice while a reader reads twice: no torn read, no step back.
    fn model<O: Orderings + 'static>() {
        loom::model(|| {
            let shared = Arc::new(Shared::new());
            let writer = {
                let shared = Arc::clone(&shared);
                loom::thread::spawn(move || {
                    shared.publish::<O>(1);
                    shared.publish::<O>(2);
                })
            };
            let seen: Vec<u32> = (0..2).filter_map(|_| shared.attempt::<O>()).collect();
            assert!(seen.is_sorted(), "a reader went back");
            writer.join().unwrap();
            assert_eq!(shared.attempt::<O>(), Some(2));
        });
    }

    #[test]
    fn latch_reads_are_whole_and_never_go_back() {
        model::<Strong>();
    }

    macro_rules! weakened {
        ($($test:ident: $item:tt)*) => {$(
            #[test]
            #[should_panic]
            fn $test() {
                struct Weak;
                impl Orderings for Weak $item
                model::<Weak>();
            }
        )*};
    }

    weakened! {
        latch_needs_release_to_publish: { const PUBLISH: Ordering = Ordering::Relaxed; }
        latch_needs_a_fence_before_reuse: { const FENCE_BEFORE_REUSE: bool = false; }
        latch_needs_acquire_to_begin: { const BEGIN: Ordering = Ordering::Relaxed; }
        latch_needs_a_fence_before_the_check: { const FENCE_BEFORE_CHECK: bool = false; }
    }
}
