//! A time namespace: a page that its members read and this process writes.

use crate::command::Command;
use crate::discipline::Discipline;
use crate::error::{Error, Result};
use crate::plan::{self, Maps, Start};
use crate::registry;
use crate::spec::{Clocks, Family, Spec};
use crate::status::Status;
use crate::watch::Watched;
use elsewhen_linux::enter::Entrance;
use elsewhen_linux::page::{PageFile, Place, WriteLock};
use elsewhen_linux::probe::Capability;
use elsewhen_linux::timers::Change;
use elsewhen_linux::waiters::Members;
use elsewhen_linux::{clock, inside, probe, process};
use elsewhen_vdso::clock::{ClockId, TIMELINES, Timeline};
use elsewhen_vdso::page::{Identity, Map, Snapshot};
use elsewhen_vdso::state::has_hosts_time;
use elsewhen_vdso::surface::Reach;
use elsewhen_vdso::transform::{HostNs, Split};
use jiff::SignedDuration;
use std::ffi::OsStr;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Host nanoseconds between sampling the clocks for a change and the instant at which it takes effect.
///
/// Long enough to compute and publish, short enough to be "at once" for people.
pub(crate) const LEAD_NS: i64 = 500_000;

/// The shortest smooth change, in host nanoseconds: far longer than publishing it takes.
const SMOOTH_LEAST_NS: i64 = 100_000_000;

/// A time namespace.
///
/// Programs started by [`command`](Self::command), and everything that they start, live in it. It lives as long
/// as a member does, whether or not this value is still there; but new programs of members can be started only
/// while the process that started the first of them runs. One with a name can be opened by other processes of the same
/// user, which then start programs in it or change it.
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
    /// `None` in a process that is itself a member: programs are entered by the supervisor that it has.
    entrance: Option<Entrance>,
    /// What members have been prepared for.
    pub(crate) reach: Reach,
    /// What members have done to the clock.
    pub(crate) discipline: Mutex<Discipline>,
    /// Held by whoever publishes.
    writer: Mutex<()>,
    /// Whether every supervisor wakes its own members, since others may not.
    pub(crate) delegates: bool,
    pub(crate) watched: Watched,
    report: Mutex<Report>,
    /// Processes that have been attached, and the threads that supervise them.
    pub(crate) attached: Mutex<Vec<(u32, JoinHandle<()>)>>,
}

type Report = Arc<dyn Fn(&str) + Send + Sync>;

impl Namespace {
    /// Makes a namespace whose clocks are the host's but for what `spec` asks; in a process that is itself a member, those
    /// of its own namespace, as they are now.
    ///
    /// # Errors
    /// Where `spec` puts a clock out of its range ([`is_invalid`](crate::Error::is_invalid)), or this kernel cannot
    /// do it: no vDSO, one that cannot be redirected, or no executable memory files.
    pub fn new(spec: &Spec) -> Result<Self> {
        let entrance = entrance()?;
        // What cannot be is refused before there is anything to be found by name.
        let identity = [Map::Offset(Split::from_ns(0)); TIMELINES];
        let host = clock::sample();
        let (maps, outer) = match outer() {
            None => (plan::plan(&identity, &host, Start::Fresh, spec)?, Reach::from_bits(0)),
            Some(outer) => (plan::nested(&outer.maps, &host, spec)?, outer.reach),
        };
        // A supervisor finds another namespace than its own by name only.
        let unnamed = format!("inside-{}", std::process::id());
        let spec = &match spec.name() {
            None if entrance.is_none() => spec.clone().with_name(&unnamed)?,
            _ => spec.clone(),
        };
        let page = match spec.name() {
            None => PageFile::create(spec.identity(outer), &maps)?,
            Some(name) => registry::create(name, |folder| PageFile::create_in(folder, spec.identity(outer), &maps))?,
        };
        Ok(Self::with(page, entrance))
    }

    /// Opens a namespace that another process of this user has made, by its name.
    ///
    /// # Errors
    /// Where there is none of that name ([`is_not_found`](crate::Error::is_not_found)), or it is of another version.
    ///
    /// # Examples
    ///
    /// ```
    /// use elsewhen::{Family, Namespace, SignedDuration, Spec};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let name = format!("doc-{}", std::process::id());
    /// # let name = name.as_str();
    /// let made = Namespace::new(&Spec::new().with_name(name)?)?;
    /// let opened = Namespace::open(name)?;
    /// opened.advance(Family::Realtime, SignedDuration::from_hours(1))?;
    /// assert!(made.realtime_offset_ns() > 3_599_000_000_000);
    /// # Ok(())
    /// # }
    /// ```
    pub fn open(name: &str) -> Result<Self> {
        Ok(Self::with(registry::open(name)?, entrance()?))
    }

    /// The one whose page is at a place.
    pub(crate) fn at(place: &Place) -> Option<Self> {
        Some(Self::with(registry::at(place)?, entrance().ok()?))
    }

    fn with(page: PageFile, entrance: Option<Entrance>) -> Self {
        let report: Report = Arc::new(|message| eprintln!("elsewhen: {message}"));
        let reach = page.page().reach();
        let may_not = probe::yama_scope() == Some(1) && !probe::has(Capability::SysPtrace);
        let delegates = page.page().is_delegated() || page.is_named() && may_not;
        Self(Arc::new(Inner {
            page,
            entrance,
            reach,
            discipline: Mutex::default(),
            writer: Mutex::default(),
            delegates,
            watched: Watched::default(),
            report: Mutex::new(report),
            attached: Mutex::default(),
        }))
    }

    /// The names of this user's namespaces, in order.
    ///
    /// # Errors
    /// Where the folder that they are kept in cannot be used.
    pub fn names() -> Result<Vec<String>> {
        registry::names()
    }

    /// Removes a namespace by its name. One with members, or that another process holds, is removed only by `force`: its
    /// members keep their clocks, but nobody can find or change it any more.
    ///
    /// # Errors
    /// Where there is none of that name, or it is in use.
    pub fn remove(name: &str, force: bool) -> Result<()> {
        registry::remove(name, force)
    }

    /// The processes that are members, by their ids, as far as they are visible from here.
    pub fn members(&self) -> Vec<u32> {
        Members::of(&self.0.page).ids()
    }

    /// Moves clocks from where they are: [`set`](Self::set) with [`Spec::by`].
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn advance(&self, clocks: impl Into<Clocks>, distance: SignedDuration) -> Result<()> {
        self.set(&Spec::new().by(clocks, distance))
    }

    /// Stops clocks where they are: [`set`](Self::set) with [`Spec::freeze`].
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn freeze(&self, clocks: impl Into<Clocks>) -> Result<()> {
        self.set(&Spec::new().freeze(clocks))
    }

    /// Lets a running process enter this namespace, with everything that it starts from now on. It keeps running, and
    /// nothing of it is restarted; waits and timers that it has begun are in the namespace's time too.
    ///
    /// # Errors
    /// Where the process is another user's, traced, in a namespace already, has a seccomp filter, is a 32-bit program, or
    /// does not stop within some seconds. It is as it was then.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use elsewhen::{Namespace, Spec};
    ///
    /// let namespace = Namespace::new(&Spec::new().at("2038-01-19T03:14:00Z".parse()?))?;
    /// namespace.attach(4711)?;
    /// // What process 4711 executes is entered for as long as this process lives.
    /// namespace.wait_attached();
    /// # Ok(())
    /// # }
    /// ```
    pub fn attach(&self, pid: u32) -> Result<()> {
        crate::attach::attach(&self.0, pid)
    }

    /// Becomes the supervisor of a member whose supervisor has died, so that it can start programs again. One that is a
    /// member of another namespace is brought into this one. One that may load no filter otherwise gets `no_new_privs`.
    ///
    /// # Errors
    /// Where the process is no member, has a supervisor, or cannot be stopped.
    pub fn adopt(&self, pid: u32) -> Result<()> {
        crate::attach::adopt(&self.0, pid)
    }

    /// Makes a namespace with a name whose clocks are those of a member of one without.
    ///
    /// # Errors
    /// Where the process is no member, or the name is taken.
    pub fn like(pid: u32, name: &str) -> Result<Self> {
        let page = crate::attach::page_of(pid)?;
        registry::check(name)?;
        let identity =
            Identity { name, reach: page.reach, persistent: false, delegated: false, seed: process::random() };
        let page = registry::create(name, |folder| PageFile::create_in(folder, identity, &page.maps))?;
        Ok(Self::with(page, entrance()?))
    }

    /// Lets a process leave whatever namespace it is in. The code of its vDSO is the kernel's again, byte by byte; its
    /// filter, which nobody can remove, changes nothing any more.
    ///
    /// # Errors
    /// Where the process is in none, or cannot be stopped. It is as it was then.
    pub fn detach(pid: u32) -> Result<()> {
        crate::attach::detach(pid)
    }

    /// Waits until every process that was attached, and everything that these have started, has ended.
    pub fn wait_attached(&self) {
        loop {
            let next = self.0.attached.lock().unwrap_or_else(PoisonError::into_inner).pop();
            match next {
                // A panic of the thread has been reported by itself.
                Some((_, thread)) => drop(thread.join()),
                None => return,
            }
        }
    }

    /// Whether the namespace had a name that has been removed since.
    pub fn is_removed(&self) -> bool {
        self.0.page.is_removed()
    }

    /// Gives a namespace up that this process has made or opened: where it was the last to hold it, it has no members and
    /// was not made to stay, its name is free again. Without this that happens when another process looks.
    pub fn retire(&self) {
        if self.0.page.is_named() {
            self.0.page.let_go();
            if let Ok(folder) = registry::folder() {
                registry::clean(&folder);
            }
        }
    }

    /// What its clocks and members are now.
    pub fn status(&self) -> Status {
        Status::of(&self.name(), self.0.page.page().maps(), self.0.reach, self.members())
    }

    /// The same as where every supervisor wakes its own members.
    #[cfg(test)]
    pub(crate) fn delegating(self) -> Self {
        let mut inner = Arc::into_inner(self.0).expect("nobody else has it");
        inner.delegates = true;
        Self(Arc::new(inner))
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

/// What entering programs takes; `None` in a process that is itself a member.
fn entrance() -> Result<Option<Entrance>> {
    if inside::terms().is_some() { Ok(None) } else { Ok(Some(Entrance::new()?)) }
}

/// The namespace that this process is in.
fn outer() -> Option<Snapshot> {
    inside::terms().filter(|terms| !has_hosts_time(terms.belongs))?;
    crate::attach::page_of(std::process::id()).ok()
}

impl Inner {
    /// What entering programs takes.
    ///
    /// # Errors
    /// In a process that is itself a member.
    pub(crate) fn entrance(&self) -> Result<&Entrance> {
        self.entrance.as_ref().ok_or_else(|| {
            Error::setup("this process is itself in a namespace, from where no other process can be entered or adopted")
        })
    }

    /// Whether programs are entered by the supervisor that this process has.
    pub(crate) const fn is_inside(&self) -> bool {
        self.entrance.is_none()
    }

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
        let _writer = self.writer()?;
        self.await_pending(LEAD_NS * 4);
        let current = self.page.page().maps();
        let duration_ns = match spec.smoothness().map(|time| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)) {
            Some(short) if short < SMOOTH_LEAST_NS => {
                return Err(Error::invalid("a smooth change takes some time: a tenth of a second at least"));
            }
            other => other,
        };
        let counter = self.page.page().begin().counter();
        let mut lead_ns = LEAD_NS;
        let (planned, last) = loop {
            let planned = plan::plan(&current, &clock::sample(), Start::Running { lead_ns }, spec)?;
            let smooth = duration_ns.map(|duration_ns| plan::smooth(&planned, &current, duration_ns)).transpose()?;
            let (first, last) = match smooth {
                Some(both) => both,
                None => (planned, plan::settled(&planned, &current)),
            };
            // Published late, a change would have readers on both sides of its instant: plan again, further ahead.
            let ahead_ns = lead_ns / 2;
            if self
                .page
                .page()
                .publish_if(&first, || changes(&planned, &current).all(|change| is_ahead(change, ahead_ns)))
            {
                break (planned, last);
            }
            lead_ns = lead_ns.saturating_mul(2);
        };
        while changes(&planned, &current).any(is_ahead_for_someone) {
            std::thread::sleep(std::time::Duration::from_nanos(LEAD_NS.unsigned_abs() / 4));
        }
        let last = if duration_ns.is_some() { plan::ended(&last, &clock::sample(), LEAD_NS) } else { last };
        self.page.page().publish(&last);
        self.wake(&current, counter);
        Ok(())
    }

    /// Waits while a change that has been published takes effect within some time: a new one would be planned from what is in
    /// force until then.
    fn await_pending(&self, within_ns: i64) {
        let is_near = |(map, now): (&Map, &HostNs)| {
            let left = map.to_pivot().at_host_ns.saturating_sub(now.0);
            (0..=within_ns).contains(&left)
        };
        while self.page.page().maps().iter().zip(&clock::sample()).any(is_near) {
            std::thread::sleep(std::time::Duration::from_nanos(LEAD_NS.unsigned_abs() / 4));
        }
    }

    /// Publishes maps that differ from the ones in force only for times to come.
    pub(crate) fn publish(&self, edit: impl FnOnce(&mut Maps)) -> Result<()> {
        let _writer = self.writer()?;
        let (before, counter) = (self.page.page().maps(), self.page.page().begin().counter());
        let mut maps = before;
        edit(&mut maps);
        self.page.page().publish(&maps);
        self.wake(&before, counter);
        Ok(())
    }

    /// Keeps everybody else from publishing, here and in other processes.
    pub(crate) fn writer(&self) -> Result<(MutexGuard<'_, ()>, WriteLock<'_>)> {
        let here = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((here, self.page.lock()?))
    }

    /// Has every member that waits, or has timers armed, look at the page again.
    fn wake(&self, before: &Maps, old: u32) {
        if !self.delegates {
            return self.wake_members(before, old);
        }
        // One that has just heard of another change looks again by itself, soon.
        for pause_ms in [0, 1, 10, 50] {
            std::thread::sleep(std::time::Duration::from_millis(pause_ms));
            if self.page.announce() > 0 {
                return;
            }
        }
        // All supervisors have died.
        self.wake_members(before, old);
    }

    /// Makes every member that this process may look into, and that waits or has timers armed, look at the page again.
    pub(crate) fn wake_members(&self, before: &Maps, old: u32) {
        let (counter, after) = (self.page.page().begin(), self.page.page().maps());
        let paced_at_ns = self.page.page().paced_at_ns(counter);
        let change = Change { before, after: &after, paced_at_ns, counter: old };
        wake(&Members::of(&self.page), change, counter.counter());
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
        // Parts of it are a member's words, such as the name of a program, and it may be shown on a terminal.
        let report = Arc::clone(&self.report.lock().unwrap_or_else(PoisonError::into_inner));
        report(&process::printable(message));
    }
}

/// Makes members that wait, or have timers armed, look at the page again, whose counter is that now.
pub(crate) fn wake(members: &Members, change: Change<'_>, counter: u32) {
    members.rearm_timers(change);
    members.wake(counter);
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

/// Whether a change takes effect later than some time from now.
fn is_ahead((timeline, at): (Timeline, HostNs), ns: i64) -> bool {
    clock::now(timeline.clock()).0.saturating_add(ns) < at.0
}
