//! Members' armed timer descriptors, set anew when their clock is moved or paced otherwise.
//!
//! A timer descriptor can be shared by processes and passed around, so it is found where it is held: the kernel tells
//! how it is armed (`/proc/PID/fdinfo`, `proc_pid_fdinfo(5)`), and a duplicate (`pidfd_getfd(2)`) arms it from here.
//! Other timers belong to one process, whose image sets them anew itself.

use crate::page::STATE_ADDRESS;
use crate::remote::{RemoteAddr, RemoteMemory, Tid};
use elsewhen_vdso::clock::{ClockId, RawClockId, TIMELINES, Timeline};
use elsewhen_vdso::page::Map;
use elsewhen_vdso::state::{ArmedDescriptor, State};
use elsewhen_vdso::transform::{HostDeadline, HostNs, MemberNs, NSEC_PER_SEC, RATE_ONE, wait_to_host, wait_to_member};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use std::fs;

const TFD_TIMER_ABSTIME: i32 = 1;
const TFD_TIMER_CANCEL_ON_SET: i32 = 2;

/// The maps before and after a change.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// In force until now.
    pub before: &'a [Map; TIMELINES],
    /// In force from now on.
    pub after: &'a [Map; TIMELINES],
    /// The host's MONOTONIC at which the pace of waits last changed.
    pub paced_at_ns: i64,
    /// The page's counter before the change.
    pub counter: u32,
}

impl Change<'_> {
    /// Whether the clocks of a place read or run otherwise than before.
    pub(crate) fn concerns(&self, place: usize) -> bool {
        self.before[place] != self.after[place]
    }

    /// The pace of waits before and after.
    fn paces(&self, place: usize) -> (u64, u64) {
        let pace = |map: &Map| match map.to_pivot().after.mult {
            0 => RATE_ONE,
            mult => mult,
        };
        (pace(&self.before[place]), pace(&self.after[place]))
    }
}

/// A descriptor as the kernel tells of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Armed {
    clock: i32,
    flags: i32,
    value_ns: i64,
    interval_ns: i64,
    /// For which instant of its clock, where that is known and has not passed since; else 0.
    until_ns: i64,
}

/// Sets every armed timer descriptor of some processes anew.
pub(crate) fn rearm_descriptors(processes: &[u32], change: Change<'_>) {
    let mut seen: Vec<OwnedFd> = Vec::new();
    for pid in processes {
        for number in descriptors(*pid) {
            let Some(mut armed) = look(*pid, number) else { continue };
            let record = record(*pid, number);
            // One that was armed by a page since the change began is right already.
            if record.is_some_and(|record| (record.counter.wrapping_sub(change.counter) as i32) > 0) {
                continue;
            }
            armed.until_ns = record.map_or(0, |record| record.until_ns);
            let Some((flags, value, interval)) = translate(armed, change) else { continue };
            let Some(fd) = duplicate(*pid, number) else { continue };
            // The same timer, held by another process or under another number, has been set already.
            if seen.iter().any(|other| is_same(other, &fd)) {
                continue;
            }
            arm(&fd, flags, value, interval);
            seen.push(fd);
        }
    }
}

/// How a process remembers to have armed a descriptor.
fn record(pid: u32, fd: i32) -> Option<ArmedDescriptor> {
    let mut bytes = [0; ArmedDescriptor::LEN];
    let at = RemoteAddr(STATE_ADDRESS + State::descriptor_at(fd)? as u64);
    RemoteMemory::open(Tid(pid)).ok()?.read(at, &mut bytes).ok()?;
    ArmedDescriptor::decode(&bytes)
}

/// The numbers of a process's timer descriptors.
fn descriptors(pid: u32) -> Vec<i32> {
    let Ok(folder) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    folder
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let target = fs::read_link(entry.path()).ok()?;
            (target.as_os_str() == "anon_inode:[timerfd]").then(|| entry.file_name().to_str()?.parse().ok())?
        })
        .collect()
}

/// How a descriptor is armed; `None` where it is not.
fn look(pid: u32, fd: i32) -> Option<Armed> {
    let armed = parse(&fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).ok()?);
    (armed.value_ns > 0).then_some(armed)
}

fn parse(text: &str) -> Armed {
    let mut armed = Armed::default();
    for line in text.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        let time = || {
            let (sec, nsec) = value.trim_matches(['(', ')']).split_once(", ")?;
            sec.parse::<i64>().ok()?.checked_mul(NSEC_PER_SEC)?.checked_add(nsec.parse().ok()?)
        };
        match key {
            "clockid" => armed.clock = value.parse().unwrap_or(-1),
            "settime flags" => armed.flags = i32::from_str_radix(value, 8).unwrap_or(0),
            "it_value" => armed.value_ns = time().unwrap_or(0),
            "it_interval" => armed.interval_ns = time().unwrap_or(0),
            _ => {}
        }
    }
    armed
}

/// How to arm a descriptor after a change: flags, value and interval. `None` where the change does not concern it.
fn translate(armed: Armed, change: Change<'_>) -> Option<(i32, i64, i64)> {
    let place = RawClockId(armed.clock).place();
    if place >= TIMELINES {
        return None;
    }
    if armed.flags & TFD_TIMER_ABSTIME == 0 {
        let (before, after) = change.paces(Timeline::Monotonic as usize);
        if before == after {
            return None;
        }
        let scale = |host_ns| wait_to_host(wait_to_member(host_ns, before), after);
        // Since the change it has run by the host's time that is now too long or too short.
        let since = (crate::clock::now(ClockId::Monotonic).0 - change.paced_at_ns).max(0);
        let value = scale(armed.value_ns.saturating_add(since)).saturating_sub(since);
        return Some((0, value.max(1), scale(armed.interval_ns)));
    }
    if !change.concerns(place) {
        return None;
    }
    let clock = ClockId::ALL.into_iter().find(|clock| *clock as i32 == armed.clock)?;
    let host_now = crate::clock::now(clock.timeline().clock());
    let (before, after) = (change.before[place].to_pivot(), change.after[place].to_pivot());
    let (pace_before, pace_after) = change.paces(place);
    let interval = wait_to_host(wait_to_member(armed.interval_ns, pace_before), pace_after);
    // One that asked to hear of steps hears of this one: it expires.
    if armed.flags & TFD_TIMER_CANCEL_ON_SET != 0 {
        // At the instant of the change: what a new pace has gained since is no step.
        let at = match change.after[place] {
            // With another change ahead, what came first is the map until then.
            Map::Pivot(pivot) if pivot.at_host_ns > host_now.0 => HostNs(pivot.before.host_ns),
            Map::Pivot(pivot) => HostNs(pivot.after.host_ns),
            Map::Offset(_) => host_now,
        };
        let step = after.to_member(at).0.saturating_sub(before.to_member(at).0);
        if step.abs() > NSEC_PER_SEC / 1000 {
            return Some((armed.flags, 1, 0));
        }
    }
    let ahead = |map: &elsewhen_vdso::transform::Pivot| map.to_member(host_now);
    let deadline = if armed.until_ns > 0 && armed.interval_ns == 0 {
        MemberNs(armed.until_ns)
    } else if before.after.mult == 0 {
        // A clock that stood was waited for at the host's pace.
        MemberNs(ahead(&before).0.saturating_add(armed.value_ns))
    } else {
        before.to_member(HostNs(host_now.0.saturating_add(armed.value_ns)))
    };
    let host = match after.to_host(deadline) {
        HostDeadline::At(host) if after.after.mult != 0 => host.0,
        _ => host_now.0.saturating_add(deadline.0.saturating_sub(ahead(&after).0)),
    };
    Some((armed.flags, host.max(1), interval))
}

fn duplicate(pid: u32, number: i32) -> Option<OwnedFd> {
    let pidfd = pidfd_open(Pid::from_raw(i32::try_from(pid).ok()?)?, PidfdFlags::empty()).ok()?;
    pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty()).ok()
}

/// Whether two of our descriptors are of one open file.
fn is_same(one: &OwnedFd, other: &OwnedFd) -> bool {
    const KCMP_FILE: i32 = 0;
    let pid = std::process::id();
    // SAFETY: takes no pointers.
    let result = unsafe { libc::syscall(libc::SYS_kcmp, pid, pid, KCMP_FILE, one.as_raw_fd(), other.as_raw_fd()) };
    result == 0
}

fn arm(fd: &OwnedFd, flags: i32, value_ns: i64, interval_ns: i64) {
    let time = |ns: i64| libc::timespec { tv_sec: ns / NSEC_PER_SEC, tv_nsec: ns % NSEC_PER_SEC };
    let set = libc::itimerspec { it_interval: time(interval_ns), it_value: time(value_ns) };
    // SAFETY: the kernel reads one `itimerspec`.
    unsafe { libc::timerfd_settime(fd.as_raw_fd(), flags, &set, std::ptr::null_mut()) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use elsewhen_vdso::transform::{Affine, Pivot, Split};
    use rustix::fd::FromRawFd;
    use std::io;

    fn create(clock: i32) -> io::Result<OwnedFd> {
        // SAFETY: takes no pointers.
        let fd = unsafe { libc::timerfd_create(clock, libc::TFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor, which nobody else owns.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    const HOUR: i64 = 3600 * NSEC_PER_SEC;

    fn ahead(ns: i64) -> Map {
        Map::Offset(Split::from_ns(ns))
    }

    #[test]
    fn the_kernels_word_about_a_timer_is_understood() {
        let fd = create(libc::CLOCK_REALTIME).unwrap();
        arm(&fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, i64::MAX, 7);
        let armed = look(std::process::id(), fd.as_raw_fd()).unwrap();
        assert_eq!((armed.clock, armed.flags, armed.interval_ns), (0, 3, 7));
        assert!(armed.value_ns > HOUR);
        let ours = descriptors(std::process::id());
        assert!(ours.contains(&fd.as_raw_fd()), "{ours:?}");
        let other = duplicate(std::process::id(), fd.as_raw_fd()).unwrap();
        assert!(is_same(&fd, &other) && !is_same(&fd, &create(1).unwrap()));
        arm(&fd, 0, 0, 0);
        assert_eq!(look(std::process::id(), fd.as_raw_fd()), None);
    }

    #[test]
    fn an_instant_moves_with_its_clock_and_a_duration_with_the_pace() {
        let zero = [ahead(0); TIMELINES];
        let mut later = zero;
        later[Timeline::Realtime as usize] = ahead(HOUR);
        let change = Change { before: &zero, after: &later, paced_at_ns: i64::MAX, counter: 0 };
        let armed = Armed { clock: 0, flags: 1, value_ns: 2 * HOUR, interval_ns: 5, until_ns: 0 };
        let now = crate::clock::now(ClockId::Realtime).0;
        let (flags, value, interval) = translate(armed, change).unwrap();
        assert_eq!((flags, interval), (1, 5));
        assert!((value - now - HOUR).abs() < NSEC_PER_SEC, "an hour less is left");
        assert_eq!(translate(Armed { clock: 1, ..armed }, change), None, "MONOTONIC has not moved");
        assert_eq!(translate(Armed { flags: 0, ..armed }, change), None, "the pace is the same");
        assert_eq!(translate(Armed { flags: 3, ..armed }, change), Some((3, 1, 0)), "it asked to be told");
        // A clock that goes the same way smoothly, by no step: three hours for the first two.
        let slew = Affine { host_ns: now, member_ns: now, mult: 3 * RATE_ONE / 2 };
        let then = Affine { host_ns: now, member_ns: now + HOUR, mult: RATE_ONE };
        let mut smooth = zero;
        smooth[0] = Map::Pivot(Pivot { at_host_ns: now + 2 * HOUR, before: slew, after: then });
        let change = Change { before: &zero, after: &smooth, paced_at_ns: i64::MAX, counter: 0 };
        let (flags, value, _) = translate(Armed { flags: 3, value_ns: 3 * HOUR, ..armed }, change).unwrap();
        assert_eq!(flags, 3);
        assert!((value - now - 2 * HOUR).abs() < NSEC_PER_SEC, "not told, but set anew");
        let fast = Affine { host_ns: 0, member_ns: 0, mult: 4 * RATE_ONE };
        let fast = [Map::Pivot(Pivot::settled(fast)); TIMELINES];
        let change = Change { before: &zero, after: &fast, paced_at_ns: i64::MAX, counter: 0 };
        assert_eq!(translate(Armed { flags: 0, ..armed }, change), Some((0, HOUR / 2, 2)));
    }
}
