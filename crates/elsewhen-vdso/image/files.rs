//! File times, for namespaces whose files follow: what the kernel stamps by the host's REALTIME is shown by the
//! member's, and what the member sets by its own is stored by the host's.

use crate::clock::Timeline;
use crate::gate::{Frame, Next};
use crate::host::opaque;
use crate::transform::{Affine, HostDeadline, HostNs, MemberNs, NSEC_PER_SEC, Pivot, RATE_ONE, Split};
use crate::user;
use crate::wait::{blank, map};

/// In place of nanoseconds: now, and as it is (`utimensat(2)`).
const UTIME_NOW: u64 = 0x3fff_ffff;
const UTIME_OMIT: u64 = 0x3fff_fffe;

/// The map between stamps. A clock that stands still keeps the distance that it had when it stopped.
fn stamps() -> Pivot {
    let mut pivot = blank();
    map(Timeline::Realtime as usize, &mut pivot);
    let mut after = pivot.after;
    if after.mult == 0 {
        after.mult = opaque(RATE_ONE);
    }
    Pivot::settled(Affine { host_ns: opaque(after.host_ns as u64) as i64, member_ns: opaque(after.member_ns as u64) as i64, mult: after.mult })
}

/// A stamp as the member sees it.
fn shown(pivot: &Pivot, sec: u64, nsec: u64) -> Split {
    let host_ns = Split { sec: sec as i64, nsec: nsec as u32 }.to_ns();
    Split::from_ns(pivot.to_member(HostNs(host_ns)).0)
}

/// A stamp as the host stores it.
fn stored(pivot: &Pivot, sec: u64, nsec: u64) -> Split {
    let member_ns = Split { sec: sec as i64, nsec: nsec as u32 }.to_ns();
    match pivot.to_host(MemberNs(member_ns)) {
        HostDeadline::At(host) => Split::from_ns(host.0),
        HostDeadline::Never => Split { sec: sec as i64, nsec: nsec as u32 },
    }
}

/// Translates the stamp at an address, which the kernel has just written.
fn show(pivot: &Pivot, at: u64) {
    let mut words = [opaque(0); 2];
    user::reread(at, &mut words);
    // The upper half of a `statx_timestamp`'s second word is padding.
    let split = shown(pivot, words[0], words[1] & 0xffff_ffff);
    user::rewrite(at, &[split.sec as u64, u64::from(split.nsec)]);
}

/// After `stat(2)` and its like, with the buffer in an argument.
#[inline(never)]
pub(crate) fn after_stat(frame: &Frame, argument: u8) {
    let (pivot, buffer) = (stamps(), frame.args.get(argument));
    for offset in [72, 88, 104] {
        show(&pivot, buffer + offset);
    }
}

/// After `stat(2)` and its like of a 32-bit program: the stamps are pairs of 32-bit words, in a row from an address.
#[cfg(target_arch = "x86_64")]
#[inline(never)]
pub(crate) fn after_stat_32(address: u64) {
    let pivot = stamps();
    for at in [address, address + 8, address + 16] {
        let mut word = [opaque(0)];
        user::reread(at, &mut word);
        let split = shown(&pivot, word[0] as u32 as i32 as u64, word[0] >> 32);
        user::rewrite(at, &[split.sec as u32 as u64 | u64::from(split.nsec) << 32]);
    }
}

/// After `statx(2)`: the stamps that the kernel says it has filled in.
#[inline(never)]
pub(crate) fn after_statx(frame: &Frame) {
    let (pivot, buffer) = (stamps(), frame.args.get(4));
    let filled = user::reread_int(buffer) as u32;
    for (bit, offset) in [(0x20, 64), (0x800, 80), (0x80, 96), (0x40, 112)] {
        if filled & bit != 0 {
            show(&pivot, buffer + offset);
        }
    }
}

/// `utimensat(2)` and `futimesat(2)`, `utimes(2)`: two times in an argument, in units of so many nanoseconds. What the
/// kernel would refuse is left to it.
#[inline(never)]
pub(crate) fn set_two(frame: &mut Frame, argument: u8, unit: u64) -> Next {
    let mut words = [opaque(0); 4];
    if frame.args.get(argument) == 0 || user::read(frame.stack, frame.args.get(argument), &mut words).is_err() {
        return Next::Call;
    }
    if unit == 1 {
        frame.narrow(&mut words);
    }
    let pivot = stamps();
    let mut at = 0;
    while at < 4 {
        let (sec, fraction) = (words[at], words[at + 1]);
        let special = unit == 1 && (fraction == UTIME_NOW || fraction == UTIME_OMIT);
        if special || fraction >= NSEC_PER_SEC as u64 / unit {
            frame.scratch[at] = sec;
            frame.scratch[at + 1] = fraction;
        } else {
            let split = stored(&pivot, sec, fraction * unit);
            frame.scratch[at] = opaque(split.sec as u64);
            frame.scratch[at + 1] = opaque(u64::from(split.nsec) / unit);
        }
        at += 2;
    }
    frame.point(argument);
    Next::Call
}

/// `utime(2)`: two times in seconds.
#[inline(never)]
pub(crate) fn set_seconds(frame: &mut Frame) -> Next {
    let mut words = [opaque(0); 2];
    if frame.args.get(1) == 0 || user::read(frame.stack, frame.args.get(1), &mut words).is_err() {
        return Next::Call;
    }
    let pivot = stamps();
    frame.scratch[0] = opaque(stored(&pivot, words[0], 0).sec as u64);
    frame.scratch[1] = opaque(stored(&pivot, words[1], 0).sec as u64);
    frame.point(1);
    Next::Call
}
