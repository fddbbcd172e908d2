//! A time namespace: a page that its members read and this process writes.

use crate::command::Command;
use crate::discipline::Discipline;
use crate::error::{Error, Result};
use crate::plan::{self, Maps, Start};
use crate::spec::{Family, Spec};
use elsewhen_linux::enter::Entrance;
use elsewhen_linux::timers::Change;
use elsewhen_linux::waiters::Members;
use elsewhen_linux::{clock, page::PageFile};
use elsewhen_vdso::clock::{ClockId, Timeline};
use elsewhen_vdso::surface::Reach;
use elsewhen_vdso::transform::HostNs;
use std::ffi::OsStr;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Host nanoseconds between sampling the clocks for a change and the instant at which it takes effect.
///
/// Long enough to compute and publish, short enough to be "at once" for people.
const LEAD_NS: i64 = 500_000;

/// A time namespace.
///
/// Programs started by [`command`](Self::command), and everything that they start, live in it. It lives as long
/// as a member does, whether or not this value is still there; but new programs of members can be started only
/// while the process that holds it runs.
///
/// Cloning gives another handle to the same namespace.
///
/// # Examples
///
/// ```
/// use elsewhen::{Namespace, Spec};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let namespace = Namespace::new(&Spec::new().at("2038-01-19T03:14:00Z".parse()?))?;
/// let output = namespace.command("date").arg("-u").arg("+%Y-%m-%d").output()?;
/// assert_eq!(output.stdout, b"2038-01-19\n");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Namespace(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) page: PageFile,
    pub(crate) entrance: Entrance,
    /// What members have been prepared for.
    pub(crate) reach: Reach,
    /// What members have done to the clock.
    pub(crate) discipline: Mutex<Discipline>,
    /// Held by whoever publishes.
    writer: Mutex<()>,
    report: Mutex<Report>,
}

type Report = Arc<dyn Fn(&str) + Send + Sync>;

impl Namespace {
    /// Makes a namespace whose clocks are the host's but for what `spec` asks.
    ///
    /// # Errors
    /// Where `spec` puts a clock out of its range ([`is_invalid`](crate::Error::is_invalid)), or this kernel cannot
    /// do it: no vDSO, one that cannot be redirected, or no executable memory files.
    pub fn new(spec: &Spec) -> Result<Self> {
        let entrance = Entrance::new(spec.reach())?;
        let page = PageFile::create(spec.name().unwrap_or(""))?;
        let maps = plan::plan(&page.page().maps(), &clock::sample(), Start::Fresh, spec)?;
        page.page().publish(&maps);
        let report: Report = Arc::new(|message| eprintln!("elsewhen: {message}"));
        Ok(Self(Arc::new(Inner {
            page,
            entrance,
            reach: spec.reach(),
            discipline: Mutex::default(),
            writer: Mutex::default(),
            report: Mutex::new(report),
        })))
    }

    /// A command whose program will live in this namespace.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        Command::new(self, program)
    }

    /// Changes the clocks that `spec` names, for all members at once. What it does not name goes on as it is.
    ///
    /// A date or an offset (against the host) makes a clock jump; a rate or a freeze alone never does. The change
    /// takes effect half a millisecond after the call, at one instant for all members; the call returns when coarse
    /// clocks show it too, a tick later.
    ///
    /// # Errors
    /// Where a clock would leave its range, MONOTONIC or BOOTTIME would step back, or members are not prepared for
    /// the change ([`Spec::adjustable`]); nothing has changed then.
    pub fn set(&self, spec: &Spec) -> Result<()> {
        self.0.change(spec)
    }

    /// What a clock of this namespace reads now, in nanoseconds: since 1970 for REALTIME, since the start of the
    /// machine for the others (unless they were moved).
    pub fn now_ns(&self, family: Family) -> i64 {
        let timeline = match family {
            Family::Realtime => Timeline::Realtime,
            Family::Monotonic => Timeline::Monotonic,
            Family::Boottime => Timeline::Boottime,
        };
        self.0.now_ns(timeline)
    }

    /// What `CLOCK_REALTIME` of this namespace reads now.
    pub fn realtime(&self) -> jiff::Timestamp {
        let ns = self.now_ns(Family::Realtime);
        jiff::Timestamp::from_nanosecond(i128::from(ns)).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }

    /// How far `CLOCK_REALTIME` of this namespace is ahead of the host's now, in nanoseconds.
    pub fn realtime_offset_ns(&self) -> i64 {
        self.now_ns(Family::Realtime).saturating_sub(clock::now(ClockId::Realtime).0)
    }

    /// The name given by [`Spec::with_name`], empty for none.
    pub fn name(&self) -> String {
        String::from_utf8_lossy(self.0.page.page().name()).into_owned()
    }

    /// Replaces where one-line messages about refused and failed programs go. By default they are written to
    /// standard error, behind `elsewhen: `.
    pub fn set_report(&self, report: impl Fn(&str) + Send + Sync + 'static) {
        *self.0.report.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(report);
    }
}

impl Inner {
    /// Changes clocks; see [`Namespace::set`].
    pub(crate) fn change(&self, spec: &Spec) -> Result<()> {
        if spec.is_empty() {
            return Ok(());
        }
        if !self.reach.covers(spec.reach()) {
            return Err(Error::invalid(
                "members of this namespace are not prepared for that change; a namespace made with `adjustable` takes \
                 any, others take changes of realtime and of the clocks that they were made to move",
            ));
        }
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.page.page().maps();
        let mut lead_ns = LEAD_NS;
        let planned = loop {
            let planned = plan::plan(&current, &clock::sample(), Start::Running { lead_ns }, spec)?;
            // Published late, a change would have readers on both sides of its instant: plan again, further ahead.
            if changes(&planned, &current).all(is_ahead) {
                break planned;
            }
            lead_ns = lead_ns.saturating_mul(2);
        };
        let counter = self.page.page().begin().counter();
        self.page.page().publish(&planned);
        while changes(&planned, &current).any(is_ahead_for_someone) {
            std::thread::sleep(std::time::Duration::from_nanos(LEAD_NS.unsigned_abs() / 4));
        }
        self.page.page().publish(&plan::settled(&planned, &current));
        self.wake(&current, counter);
        Ok(())
    }

    /// Publishes maps that differ from the ones in force only for times to come.
    pub(crate) fn publish(&self, edit: impl FnOnce(&mut Maps)) {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, counter) = (self.page.page().maps(), self.page.page().begin().counter());
        let mut maps = before;
        edit(&mut maps);
        self.page.page().publish(&maps);
        self.wake(&before, counter);
    }

    /// Makes every member that waits, or has timers armed, look at the page again.
    fn wake(&self, before: &Maps, old: u32) {
        let (counter, after) = (self.page.page().begin(), self.page.page().maps());
        let members = Members::of(&self.page);
        let paced_at_ns = self.page.page().paced_at_ns(counter);
        members.rearm_timers(Change { before, after: &after, paced_at_ns, counter: old });
        // A thread that was on its way into a wait shows only when it has got there.
        for pause_ms in [0, 2, 8] {
            std::thread::sleep(std::time::Duration::from_millis(pause_ms));
            if members.wake(counter) == 0 && pause_ms > 0 {
                return;
            }
        }
    }

    /// What a timeline's clock of this namespace reads now.
    pub(crate) fn now_ns(&self, timeline: Timeline) -> i64 {
        let page = self.page.page();
        loop {
            let ticket = page.begin();
            let host = clock::now(timeline.clock());
            let map = page.maps()[timeline as usize];
            if page.holds(ticket) {
                return map.to_pivot().to_member(host).0;
            }
        }
    }

    pub(crate) fn report(&self, message: &str) {
        let report = Arc::clone(&self.report.lock().unwrap_or_else(PoisonError::into_inner));
        report(message);
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespace")
            .field("name", &self.name())
            .field("realtime", &self.realtime())
            .finish_non_exhaustive()
    }
}

/// The timelines whose maps differ, with the host instant at which the new map takes over.
fn changes(planned: &Maps, current: &Maps) -> impl Iterator<Item = (Timeline, HostNs)> {
    Timeline::ALL.into_iter().filter_map(|timeline| {
        let (planned, current) = (planned[timeline as usize], current[timeline as usize]);
        (planned != current).then(|| (timeline, HostNs(planned.to_pivot().at_host_ns)))
    })
}

/// Whether a reader of a coarse clock, which lags by up to a tick, may still be ahead of a change: a clock that was set
/// must not read less than that afterwards.
fn is_ahead_for_someone((timeline, at): (Timeline, HostNs)) -> bool {
    let coarse = match timeline {
        Timeline::Realtime => ClockId::RealtimeCoarse,
        Timeline::Monotonic => ClockId::MonotonicCoarse,
        other => other.clock(),
    };
    clock::now(coarse) < at
}

/// Whether a change takes effect later than now.
fn is_ahead((timeline, at): (Timeline, HostNs)) -> bool {
    clock::now(timeline.clock()) < at
}
