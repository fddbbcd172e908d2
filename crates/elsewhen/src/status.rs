//! What a namespace's clocks read and who its members are, at one moment.

use crate::error::Result;
use crate::spec::Family;
use elsewhen_linux::attach::{self, Membership};
use elsewhen_linux::{clock, waiters};
use elsewhen_vdso::clock::{TIMELINES, Timeline};
use elsewhen_vdso::page::Map;
use elsewhen_vdso::surface::Reach;
use elsewhen_vdso::transform::{HostNs, RATE_ONE};

/// A namespace at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// Its name, empty for none.
    pub name: String,
    /// REALTIME, MONOTONIC and BOOTTIME.
    pub clocks: [ClockStatus; 3],
    /// The members, by their process ids, as far as they are visible from here.
    pub members: Vec<u32>,
    /// The clocks beyond REALTIME that members are prepared to have moved.
    pub adjustable: Vec<Family>,
    /// Whether members are prepared for waits at another pace than the host's.
    pub rate_adjustable: bool,
    /// Whether members may set the clock.
    pub settable: bool,
    /// Whether file times follow.
    pub files_follow: bool,
}

/// A clock at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClockStatus {
    /// Which one.
    pub family: Family,
    /// What the host's reads, in nanoseconds.
    pub host_ns: i64,
    /// What members read.
    pub member_ns: i64,
    /// Seconds that it counts in a second; 0 where it stands still.
    pub rate: f64,
    /// What is known to change: in how many nanoseconds of the host's, and the rate from then on.
    pub ahead: Option<(i64, f64)>,
}

impl ClockStatus {
    /// How far the members' clock is ahead of the host's, in nanoseconds.
    pub const fn offset_ns(&self) -> i64 {
        self.member_ns.saturating_sub(self.host_ns)
    }

    fn of(family: Family, map: Map, host: HostNs) -> Self {
        let pivot = map.to_pivot();
        let rate = |mult: u64| mult as f64 / RATE_ONE as f64;
        let ahead =
            (host.0 < pivot.at_host_ns).then(|| (pivot.at_host_ns.saturating_sub(host.0), rate(pivot.after.mult)));
        let member_ns = pivot.to_member(host).0;
        Self { family, host_ns: host.0, member_ns, rate: rate(pivot.at(host).mult), ahead }
    }
}

impl Status {
    pub(crate) fn of(name: &str, maps: [Map; TIMELINES], reach: Reach, members: Vec<u32>) -> Self {
        let host = clock::sample();
        let clock = |family, timeline| ClockStatus::of(family, maps[timeline as usize], host[timeline as usize]);
        let adjustable = [(Family::Monotonic, reach.monotonic), (Family::Boottime, reach.boottime)];
        Self {
            name: name.to_owned(),
            clocks: [
                clock(Family::Realtime, Timeline::Realtime),
                clock(Family::Monotonic, Timeline::Monotonic),
                clock(Family::Boottime, Timeline::Boottime),
            ],
            members,
            adjustable: adjustable.into_iter().filter_map(|(family, can)| can.then_some(family)).collect(),
            rate_adjustable: reach.rate,
            settable: reach.settable,
            files_follow: reach.files,
        }
    }

    /// The namespace that a process is in; `None` where it is in none.
    ///
    /// # Errors
    /// Where the process is gone, may not be looked into, or is a member of another version's namespace.
    pub fn of_member(pid: u32) -> Result<Option<Self>> {
        if attach::membership(pid)? != Membership::Member {
            return Ok(None);
        }
        let page = crate::attach::page_of(pid)?;
        let mine = waiters::page_of(pid);
        let same = waiters::with_page().filter(|(_, place)| mine.as_ref() == Some(place));
        let mut members: Vec<u32> = same.map(|found| found.0).collect();
        members.sort_unstable();
        Ok(Some(Self::of(&crate::attach::name_in(&page), page.maps, page.reach, members)))
    }

    /// Every namespace that this user can see: those with a name first, in the order of their names, then those of running
    /// processes without one.
    ///
    /// # Errors
    /// Where the folder of named namespaces cannot be used.
    pub fn all() -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for name in crate::registry::names()? {
            // One that has gone meanwhile is none.
            if let Ok(namespace) = crate::Namespace::open(&name) {
                all.push(namespace.status());
            }
        }
        let mut seen: Vec<u32> = all.iter().flat_map(|status: &Self| status.members.clone()).collect();
        let mut others: Vec<u32> = waiters::with_page().map(|found| found.0).collect();
        others.sort_unstable();
        for pid in others {
            if seen.contains(&pid) {
                continue;
            }
            // Another user's, or one that has ended.
            let Ok(Some(status)) = Self::of_member(pid) else { continue };
            seen.extend(&status.members);
            all.push(status);
        }
        Ok(all)
    }
}
