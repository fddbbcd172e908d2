//! The state under threads that change it at once.

#![expect(unsafe_code, reason = "a state is mapped, never made")]

use elsewhen_vdso::state::State;
use std::sync::atomic::{AtomicBool, Ordering};

/// An empty state.
fn empty() -> Box<State> {
    // SAFETY: of its size and alignment; all of it is atomics, for which 0 is a value.
    unsafe { Box::new_zeroed().assume_init() }
}

#[test]
fn a_blocked_thread_stays_blocked_while_others_come_and_go() {
    const OTHERS: [u64; 2] = [0x7000_0000_1000, 0x7000_0000_2000];
    const HELD: u64 = 0x7000_0000_3000;
    let state = empty();
    for other in OTHERS {
        state.set_blocked(other, true);
    }
    state.set_blocked(HELD, true);
    let ended = AtomicBool::new(false);
    let (state, ended) = (&*state, &ended);
    std::thread::scope(|scope| {
        for other in OTHERS {
            scope.spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    state.set_blocked(other, false);
                    state.set_blocked(other, true);
                }
            });
        }
        let lost = (0..200_000).filter(|_| !state.is_blocked(|| HELD)).count();
        ended.store(true, Ordering::Relaxed);
        assert_eq!(lost, 0);
    });
    state.set_blocked(HELD, false);
    assert!(!state.is_blocked(|| HELD));
}
