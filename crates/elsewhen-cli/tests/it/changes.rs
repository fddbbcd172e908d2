//! A namespace changes while its members wait: they wait for what their clocks then say, and notice nothing else.
//!
//! The guest waits in many ways at once, in threads or in processes, and says how each of them has ended and how far
//! its clock was past the end. Beside these, threads of its wait for nothing, and must be left alone.

use crate::harness::{self, Build, guest, guest_as, runs_x32, skip, state_of, until};
use crate::waits::at_once;
use elsewhen::{Child, Clocks, Family, Namespace, Rate, SignedDuration, Spec};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

/// How late a wait may be noticed to be over: a busy machine is slow.
pub(crate) const LATE: Duration = Duration::from_secs(2);
/// How long the guest may take to start.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long waits may seem too short by a clock that is a thousand times as fast: what the host's counts in a
/// microsecond.
const ROUNDED: i128 = 1_000_000;
/// How long waits that the kernel counts in ticks may seem too short by such a clock: they begin at the last tick, which may
/// have been late.
const TICK: i128 = 40_000 * ROUNDED;
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
const ECANCELED: i32 = 125;

/// Kinds of waits, as the guest lists them.
pub(crate) const DATES: &[&str] = &["date", "libc-date"];
pub(crate) const DEADLINES: &[&str] = &["deadline"];
pub(crate) const DURATIONS: &[&str] = &["duration"];
pub(crate) const WAITS: &[&str] = &["date", "libc-date", "deadline", "duration"];
const TIMER_DATES: &[&str] = &["timer-date"];
const OTHER_TIMERS: &[&str] = &["timer-deadline", "timer-duration"];

/// How a guest is built and waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    build: Build,
    mode: &'static str,
}

/// Those that can enter a namespace while they run.
const FORMS: [Form; 5] = [
    Form { build: Build::Dynamic, mode: "threads" },
    Form { build: Build::Dynamic, mode: "processes" },
    Form { build: Build::Static, mode: "threads" },
    Form { build: Build::MuslStatic, mode: "threads" },
    Form { build: Build::MuslStatic, mode: "processes" },
];
const FORM_32: Form = Form { build: Build::Bits32, mode: "threads" };
/// Where the kernel runs it.
const FORM_X32: Form = Form { build: Build::X32, mode: "threads" };

impl Form {
    /// The ways to wait of these kinds that this guest has.
    fn ways(self, kinds: &[&str]) -> Vec<String> {
        let mut list = std::process::Command::new(guest_as("changes", self.build).unwrap());
        list.arg("list");
        let output = list.output().unwrap();
        let lines = String::from_utf8(output.stdout).unwrap();
        let ways = lines.lines().filter_map(|line| line.split_once(' '));
        let ways = ways.filter(|(way, kind)| kinds.contains(kind) && self.has(way, kind));
        ways.map(|(way, _)| way.to_owned()).collect()
    }

    fn has(self, way: &str, kind: &str) -> bool {
        // musl makes a duration of every deadline, so that steps do not concern it.
        let is_musl = matches!(self.build, Build::MuslStatic | Build::MuslDynamic);
        // A process has one timer for both.
        let shared = ["setitimer", "alarm"].contains(&way);
        let lacks = (is_musl && kind == "libc-date") || (shared && self.mode != "processes");
        !lacks
    }
}

/// A wait that is over.
#[derive(Clone, Debug)]
pub(crate) struct Over {
    /// 0, or an error number.
    result: i32,
    /// How far its clock was past the end.
    ahead: i128,
    /// When that was, for the host.
    at: Instant,
}

/// What the guest says about threads that wait for nothing, and how many waits of each way are over.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Idle {
    switches: u64,
    disturbed: u64,
    counts: Vec<u64>,
}

/// The guest's process.
enum Running {
    Member(Child),
    Outside(std::process::Child),
}

impl Running {
    fn id(&self) -> u32 {
        match self {
            Self::Member(child) => child.id(),
            Self::Outside(child) => child.id(),
        }
    }

    fn has_ended(&mut self) -> bool {
        match self {
            Self::Member(child) => !matches!(child.try_wait(), Ok(None)),
            Self::Outside(child) => !matches!(child.try_wait(), Ok(None)),
        }
    }

    /// Only where it has not ended by itself.
    fn end(&mut self) {
        match self {
            Self::Member(child) => drop((child.kill(), child.wait())),
            Self::Outside(child) => drop((child.kill(), child.wait())),
        }
    }
}

/// The guest, waiting.
pub(crate) struct Guest {
    form: Form,
    child: Running,
    to: Option<ChildStdin>,
    lines: Receiver<(String, Instant)>,
    over: BTreeMap<String, Over>,
    idle: Option<Idle>,
    pub(crate) started: Instant,
    ready: Instant,
}

/// Whether all threads of a process sleep.
fn sleeps(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads.into_iter().all(|thread| state_of(format!("{pid}/task/{}", thread.file_name().display())) == Some('S'))
}

impl Guest {
    /// Starts it in a namespace, with all waits of these kinds.
    pub(crate) fn start(namespace: &Namespace, form: Form, length: Duration, kinds: &[&str]) -> Self {
        let mut command = namespace.command(guest_as("changes", form.build).unwrap());
        command.arg(form.mode).arg(length.as_nanos().to_string()).args(form.ways(kinds));
        let started = Instant::now();
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (to, from) = (child.take_stdin(), child.take_stdout().unwrap());
        Self::hear(form, Running::Member(child), to, from, started)
    }

    /// Starts it in no namespace.
    pub(crate) fn start_outside(form: Form, length: Duration, kinds: &[&str]) -> Self {
        let mut command = std::process::Command::new(guest_as("changes", form.build).unwrap());
        command.arg(form.mode).arg(length.as_nanos().to_string()).args(form.ways(kinds));
        let started = Instant::now();
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (to, from) = (child.stdin.take(), child.stdout.take().unwrap());
        Self::hear(form, Running::Outside(child), to, from, started)
    }

    /// The id of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    fn hear(form: Form, child: Running, to: Option<ChildStdin>, from: ChildStdout, started: Instant) -> Self {
        let from = BufReader::new(from);
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in from.lines().map_while(Result::ok) {
                if sender.send((line, Instant::now())).is_err() {
                    return;
                }
            }
        });
        let mut guest = Self { form, child, to, lines, over: BTreeMap::new(), idle: None, started, ready: started };
        let (line, ready) = guest.lines.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("{form:?}: {error}"));
        assert_eq!(line, "ready", "{form:?}");
        guest.ready = ready;
        // Until all are in the call: asleep, and for the second time where they had to get there.
        let id = guest.id();
        until("all sleep", || elsewhen::tree(id).unwrap().into_iter().all(sleeps));
        sleep(Duration::from_millis(150));
        guest
    }

    /// Takes the next line, until `deadline`. False where none comes.
    fn listen(&mut self, deadline: Instant) -> bool {
        let (line, at) = match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(heard) => heard,
            Err(RecvTimeoutError::Timeout) => return false,
            Err(RecvTimeoutError::Disconnected) => panic!("{:?}: the guest has ended", self.form),
        };
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["idle", switches, disturbed, ref counts @ ..] => {
                let number = |word: &str| word.parse().unwrap();
                let counts = counts.iter().map(|word| number(word)).collect();
                self.idle = Some(Idle { switches: number(switches), disturbed: number(disturbed), counts });
            }
            [way, result, ahead] => {
                let over = Over { result: result.parse().unwrap(), ahead: ahead.parse().unwrap(), at };
                assert!(self.over.insert(way.to_owned(), over).is_none(), "{way} is over twice");
            }
            _ => panic!("{:?}: {line}", self.form),
        }
        true
    }

    /// What it says about the threads that wait for nothing.
    pub(crate) fn idle(&mut self) -> Idle {
        self.to.as_mut().unwrap().write_all(b"\n").unwrap();
        let deadline = Instant::now() + PATIENCE;
        while self.idle.is_none() {
            assert!(self.listen(deadline), "{:?} does not answer", self.form);
        }
        self.idle.take().unwrap()
    }

    /// The waits that are over by then.
    pub(crate) fn over_until(&mut self, deadline: Instant) -> &BTreeMap<String, Over> {
        while self.listen(deadline) {}
        &self.over
    }

    /// Fails if a wait ends until then.
    #[track_caller]
    pub(crate) fn none_until(&mut self, what: &str, deadline: Instant) {
        let form = self.form;
        let over = self.over_until(deadline);
        assert!(over.is_empty(), "{form:?}: {what}: {over:?}");
    }

    /// Fails unless all waits of these kinds, and no others, are over by then, and end as they must. Returns them.
    #[track_caller]
    pub(crate) fn all_until(
        &mut self,
        what: &str,
        kinds: &[&str],
        deadline: Instant,
        early: i128,
    ) -> BTreeMap<String, Over> {
        let ways = self.form.ways(kinds);
        while ways.iter().any(|way| !self.over.contains_key(way)) && self.listen(deadline) {}
        let missing: Vec<_> = ways.iter().filter(|way| !self.over.contains_key(*way)).collect();
        assert!(missing.is_empty(), "{:?}: {what}: still waiting: {missing:?}; over are {:?}", self.form, self.over);
        let mut taken = BTreeMap::new();
        for way in ways {
            let over = self.over.remove(&way).unwrap();
            assert_eq!(over.result, 0, "{:?}: {what}: {way}: {over:?}", self.form);
            assert!(over.ahead >= -early, "{:?}: {what}: {way} is early: {over:?}", self.form);
            taken.insert(way, over);
        }
        assert!(self.over.is_empty(), "{:?}: {what}: nobody was to wake these: {:?}", self.form, self.over);
        taken
    }

    /// Fails if somebody who waits for nothing was disturbed since.
    #[track_caller]
    pub(crate) fn nobody_was_disturbed_since(&mut self, before: &Idle) {
        let now = self.idle();
        let seen = (now.switches, now.disturbed);
        assert_eq!(seen, (before.switches, 0), "{:?}: who waits for nothing was disturbed", self.form);
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        drop(self.to.take());
        let ends = Instant::now() + Duration::from_secs(1);
        while !self.child.has_ended() && Instant::now() < ends {
            sleep(Duration::from_millis(2));
        }
        // Its children go with it.
        self.child.end();
    }
}

/// Runs `check` with each form of the guest at once.
pub(crate) fn in_every_form(test: &str, check: impl Fn(Form) + Sync) {
    let of_x32 = (runs_x32() == Ok(true)).then_some(FORM_X32);
    in_forms(test, FORMS.into_iter().chain([FORM_32]).chain(of_x32), check);
}

/// As [`in_every_form`], for what is entered while it runs.
pub(crate) fn in_every_form_that_enters(test: &str, check: impl Fn(Form) + Sync) {
    in_forms(test, FORMS, check);
}

fn in_forms(test: &str, forms: impl IntoIterator<Item = Form>, check: impl Fn(Form) + Sync) {
    let (check, mut cases) = (&check, Vec::new());
    for form in forms {
        match guest_as("changes", form.build) {
            Ok(_) => cases.push(Box::new(move || check(form)) as Box<dyn FnOnce() + Send>),
            Err(reason) => skip(&format!("{test} ({form:?})"), &reason),
        }
    }
    at_once(cases);
}

pub(crate) fn rate(rate: f64) -> Rate {
    Rate::from_f64(rate).unwrap()
}

pub(crate) fn seconds(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

pub(crate) fn soon() -> Instant {
    Instant::now() + LATE
}

pub(crate) fn in_ms(ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(ms)
}

/// A namespace prepared for every change.
pub(crate) fn adjustable() -> Namespace {
    Namespace::new(&Spec::new().adjustable()).unwrap()
}

/// A namespace whose date can be changed, and no more.
pub(crate) fn plain() -> Namespace {
    Namespace::new(&Spec::new()).unwrap()
}

fn both() -> [Namespace; 2] {
    [adjustable(), plain()]
}

#[test]
fn a_step_past_a_date_wakes_all_who_wait_for_it() {
    in_every_form("a_step_past_a_date_wakes_all_who_wait_for_it", |form| {
        for namespace in both() {
            let mut guest = Guest::start(&namespace, form, HOUR, WAITS);
            let idle = guest.idle();
            guest.none_until("before the step", in_ms(100));
            namespace.set(&Spec::new().offset(Family::Realtime, seconds(7200))).unwrap();
            guest.all_until("after the step", DATES, soon(), 0);
            guest.none_until("what no step concerns", in_ms(300));
            guest.nobody_was_disturbed_since(&idle);
        }
    });
}

#[test]
fn a_step_short_of_a_date_shortens_the_wait() {
    in_every_form("a_step_short_of_a_date_shortens_the_wait", |form| {
        for namespace in both() {
            let mut guest = Guest::start(&namespace, form, HOUR, DATES);
            namespace.set(&Spec::new().offset(Family::Realtime, seconds(3598))).unwrap();
            // Counted from before the guest started: not sooner than that.
            let began = guest.started;
            let over = guest.all_until("two seconds later", DATES, began + Duration::from_secs(2) + 2 * LATE, 0);
            for (way, over) in over {
                assert!(over.at - began >= Duration::from_millis(1990), "{form:?}: {way}: {over:?}");
                assert!(over.ahead < 2 * LATE.as_nanos() as i128, "{form:?}: {way}: {over:?}");
            }
        }
    });
}

#[test]
fn a_step_back_makes_all_wait_longer() {
    in_every_form("a_step_back_makes_all_wait_longer", |form| {
        for namespace in both() {
            let length = Duration::from_secs(3);
            let mut guest = Guest::start(&namespace, form, length, WAITS);
            let idle = guest.idle();
            guest.none_until("before the step", Instant::now());
            namespace.set(&Spec::new().offset(Family::Realtime, seconds(-20))).unwrap();
            guest.all_until(
                "what no step concerns",
                &[DEADLINES, DURATIONS].concat(),
                guest.started + length + 2 * LATE,
                0,
            );
            guest.none_until("after the step back", guest.started + length + Duration::from_millis(500));
            // Back to where they would be over.
            namespace.set(&Spec::new().offset(Family::Realtime, seconds(0))).unwrap();
            guest.all_until("after the step forth", DATES, soon(), 0);
            guest.nobody_was_disturbed_since(&idle);
        }
    });
}

#[test]
fn a_small_step_back_is_waited_for() {
    in_every_form("a_small_step_back_is_waited_for", |form| {
        let namespace = plain();
        let mut guest = Guest::start(&namespace, form, Duration::from_secs(2), DATES);
        guest.none_until("before the step", Instant::now());
        namespace.set(&Spec::new().offset(Family::Realtime, seconds(-1))).unwrap();
        let began = guest.started;
        let over = guest.all_until("after the step", DATES, began + Duration::from_secs(3) + 2 * LATE, 0);
        for (way, over) in over {
            assert!(over.at - began >= Duration::from_millis(2990), "{form:?}: {way}: {over:?}");
        }
    });
}

#[test]
fn a_rate_applies_to_what_is_left() {
    in_every_form("a_rate_applies_to_what_is_left", |form| {
        let namespace = adjustable();
        let mut guest = Guest::start(&namespace, form, Duration::from_secs(100), WAITS);
        let idle = guest.idle();
        guest.none_until("before the change", Instant::now());
        let (before, change) = (guest.started.elapsed(), Instant::now());
        namespace.set(&Spec::new().rate(rate(1000.0))).unwrap();
        let over = guest.all_until("a thousand times as fast", WAITS, soon(), ROUNDED);
        for (way, over) in over {
            let took = over.at - change;
            let least = (Duration::from_secs(100) - before - Duration::from_secs(1)) / 1000;
            assert!(took >= least, "{form:?}: {way} ended after {took:?}, not {least:?}");
        }
        guest.nobody_was_disturbed_since(&idle);
    });
}

#[test]
fn a_slower_rate_makes_all_wait_longer() {
    in_every_form("a_slower_rate_makes_all_wait_longer", |form| {
        let namespace = adjustable();
        let length = Duration::from_secs(2);
        let mut guest = Guest::start(&namespace, form, length, WAITS);
        guest.none_until("before the change", Instant::now());
        namespace.set(&Spec::new().rate(rate(0.01))).unwrap();
        guest.none_until("a hundred times as slow", guest.started + length + Duration::from_millis(500));
        namespace.set(&Spec::new().rate(rate(1000.0))).unwrap();
        guest.all_until("a thousand times as fast", WAITS, soon(), ROUNDED);
    });
}

#[test]
fn who_is_about_to_be_over_as_the_clock_slows_down_waits_on() {
    in_every_form("who_is_about_to_be_over_as_the_clock_slows_down_waits_on", |form| {
        // Waits end by the host's clock while the change is on its way to them.
        for before_end in [1, 2, 3, 4, 6, 8].map(Duration::from_millis) {
            let namespace = Namespace::new(&Spec::new().adjustable().rate(rate(100.0))).unwrap();
            let mut guest = Guest::start(&namespace, form, Duration::from_secs(40), WAITS);
            sleep((guest.ready + Duration::from_millis(400) - before_end).saturating_duration_since(Instant::now()));
            namespace.set(&Spec::new().rate(rate(1.0))).unwrap();
            // Who began late waits longer.
            let whole = Instant::now() + Duration::from_secs(40) + LATE;
            guest.all_until("about to be over", WAITS, whole, ROUNDED / 10);
        }
    });
}

#[test]
fn a_rate_of_the_date_alone_concerns_who_waits_for_it() {
    in_every_form("a_rate_of_the_date_alone_concerns_who_waits_for_it", |form| {
        for namespace in both() {
            let mut guest = Guest::start(&namespace, form, Duration::from_secs(100), WAITS);
            let idle = guest.idle();
            namespace.set(&Spec::new().rate_of(Family::Realtime, rate(1000.0))).unwrap();
            guest.all_until("a thousand times as fast", DATES, soon(), ROUNDED);
            guest.none_until("whose clock is as it was", in_ms(300));
            guest.nobody_was_disturbed_since(&idle);
        }
    });
}

#[test]
fn monotonic_clocks_step_over_deadlines_too() {
    in_every_form("monotonic_clocks_step_over_deadlines_too", |form| {
        let namespace = adjustable();
        let mut guest = Guest::start(&namespace, form, HOUR, WAITS);
        // musl makes a duration of a deadline, which a step does not concern.
        let musl = form.build == Build::MuslStatic;
        namespace.set(&Spec::new().offset(Family::Monotonic, seconds(7200))).unwrap();
        namespace.set(&Spec::new().offset(Family::Boottime, seconds(7200))).unwrap();
        let deadline = soon();
        if musl {
            let over = guest.over_until(deadline).keys().cloned().collect::<Vec<_>>();
            assert_eq!(over, ["clock_nanosleep-boottime", "clock_nanosleep-monotonic", "futex-monotonic"]);
        } else {
            guest.all_until("after the step", DEADLINES, deadline, 0);
            guest.none_until("what that does not concern", in_ms(300));
        }
    });
}

#[test]
fn frozen_clocks_let_waits_take_their_time() {
    in_every_form("frozen_clocks_let_waits_take_their_time", |form| {
        for (namespace, clocks) in [(plain(), Clocks::from(Family::Realtime)), (adjustable(), Clocks::ALL)] {
            let length = Duration::from_secs(2);
            let mut guest = Guest::start(&namespace, form, length, WAITS);
            guest.none_until("before the freeze", Instant::now());
            namespace.set(&Spec::new().freeze(clocks)).unwrap();
            // By clocks that stand they end too early.
            let over = guest.all_until("frozen", WAITS, guest.started + length + 2 * LATE, 4 * LATE.as_nanos() as i128);
            for (way, over) in over {
                let took = over.at - guest.started;
                assert!(took >= length - Duration::from_millis(5), "{form:?}: {way} took {took:?}");
            }
        }
    });
}

#[test]
fn who_waits_for_a_date_waits_on_after_a_thaw() {
    in_every_form("who_waits_for_a_date_waits_on_after_a_thaw", |form| {
        for namespace in both() {
            let length = Duration::from_secs(6);
            let mut guest = Guest::start(&namespace, form, length, DATES);
            guest.none_until("before the freeze", Instant::now());
            namespace.set(&Spec::new().freeze(Family::Realtime)).unwrap();
            let frozen = Instant::now();
            guest.none_until("frozen", in_ms(700));
            let thawing = Instant::now();
            namespace.set(&Spec::new().thaw(Family::Realtime)).unwrap();
            let stood = thawing - frozen;
            let over = guest.all_until("thawed", DATES, guest.started + length + stood + 2 * LATE, 0);
            for (way, over) in over {
                let took = over.at - guest.started;
                assert!(took >= length + stood - Duration::from_millis(5), "{form:?}: {way} took {took:?}");
            }
        }
    });
}

#[test]
fn many_changes_are_noticed_by_nobody_who_is_not_concerned() {
    in_every_form("many_changes_are_noticed_by_nobody_who_is_not_concerned", |form| {
        let namespace = adjustable();
        let mut guest = Guest::start(&namespace, form, HOUR, WAITS);
        let idle = guest.idle();
        for round in 0..100 {
            let spec = match round % 4 {
                0 => Spec::new().offset(Family::Realtime, seconds(round)),
                1 => Spec::new().rate(rate(2.0)),
                2 => Spec::new().rate_of(Family::Realtime, rate(0.5)),
                _ => Spec::new().thaw(Clocks::ALL),
            };
            namespace.set(&spec).unwrap();
        }
        guest.none_until("after many changes", in_ms(100));
        guest.nobody_was_disturbed_since(&idle);
        namespace.set(&Spec::new().offset(Family::Realtime, seconds(7200))).unwrap();
        guest.all_until("after the step", DATES, soon(), 0);
        // What is left has been rounded a hundred times.
        namespace.set(&Spec::new().rate(rate(1000.0))).unwrap();
        let rest = Instant::now() + Duration::from_secs(4) + LATE;
        guest.all_until("a thousand times as fast", &[DEADLINES, DURATIONS].concat(), rest, 100 * ROUNDED);
        guest.nobody_was_disturbed_since(&idle);
    });
}

/// Whoever is just about to wait when a change comes must not miss it, and wait by the old rate.
#[test]
fn no_wait_misses_a_change() {
    in_every_form("no_wait_misses_a_change", |form| {
        if form.mode != "threads" {
            return;
        }
        let namespace = Namespace::new(&Spec::new().adjustable().rate(rate(1000.0))).unwrap();
        let form = Form { mode: "repeated", ..form };
        // Five milliseconds when time is fast, five seconds otherwise.
        let mut guest = Guest::start(&namespace, form, Duration::from_secs(5), WAITS);
        let idle = guest.idle();
        for round in 0..60 {
            namespace.set(&Spec::new().rate(Rate::ONE)).unwrap();
            sleep(Duration::from_micros(round * 97 % 3000));
            namespace.set(&Spec::new().rate(rate(1000.0))).unwrap();
            let (before, change) = (guest.idle(), Instant::now());
            until("every wait is over once more", || {
                let counts = guest.idle().counts;
                counts.iter().zip(&before.counts).all(|(now, then)| now > then)
            });
            let took = change.elapsed();
            assert!(took < LATE, "{form:?}: {took:?} in round {round}");
        }
        guest.none_until("some waits went wrong", Instant::now());
        guest.nobody_was_disturbed_since(&idle);
    });
}

// What has been armed goes on whether anybody waits or not.

#[test]
fn a_step_past_a_date_expires_timers() {
    in_every_form("a_step_past_a_date_expires_timers", |form| {
        for namespace in both() {
            let mut guest = Guest::start(&namespace, form, HOUR, &[TIMER_DATES, OTHER_TIMERS].concat());
            namespace.set(&Spec::new().offset(Family::Realtime, seconds(7200))).unwrap();
            guest.all_until("after the step", TIMER_DATES, soon(), 0);
            guest.none_until("what no step concerns", in_ms(300));
        }
    });
}

#[test]
fn a_step_back_makes_timers_expire_later() {
    in_every_form("a_step_back_makes_timers_expire_later", |form| {
        for namespace in both() {
            let length = Duration::from_secs(2);
            let mut guest = Guest::start(&namespace, form, length, TIMER_DATES);
            guest.none_until("before the step", Instant::now());
            namespace.set(&Spec::new().offset(Family::Realtime, seconds(-20))).unwrap();
            guest.none_until("after the step back", guest.started + length + Duration::from_millis(500));
            namespace.set(&Spec::new().offset(Family::Realtime, seconds(0))).unwrap();
            guest.all_until("after the step forth", TIMER_DATES, soon(), 0);
        }
    });
}

fn check_timers_at_a_rate(test: &str, kinds: &'static [&'static str]) {
    in_every_form(test, |form| {
        let namespace = adjustable();
        let mut guest = Guest::start(&namespace, form, Duration::from_secs(100), kinds);
        guest.none_until("before the change", Instant::now());
        let (before, change) = (guest.started.elapsed(), Instant::now());
        namespace.set(&Spec::new().rate(rate(1000.0))).unwrap();
        let over = guest.all_until("a thousand times as fast", kinds, soon(), ROUNDED);
        for (way, over) in over {
            let took = over.at - change;
            let least = (Duration::from_secs(100) - before - Duration::from_secs(1)) / 1000;
            assert!(took >= least, "{form:?}: {way} expired after {took:?}, not {least:?}");
        }
    });
}

#[test]
fn a_rate_applies_to_what_is_left_of_timers_for_a_date() {
    check_timers_at_a_rate("a_rate_applies_to_what_is_left_of_timers_for_a_date", TIMER_DATES);
}

#[test]
fn a_rate_applies_to_what_is_left_of_timers_for_a_deadline() {
    check_timers_at_a_rate("a_rate_applies_to_what_is_left_of_timers_for_a_deadline", &["timer-deadline"]);
}

#[test]
fn a_rate_applies_to_what_is_left_of_timers_for_a_duration() {
    check_timers_at_a_rate("a_rate_applies_to_what_is_left_of_timers_for_a_duration", &["timer-duration"]);
}

/// The kernel keeps such a timeout as it was translated when it was set.
#[test]
fn timeouts_of_sockets_are_of_the_rate_at_which_they_were_set() {
    in_every_form("timeouts_of_sockets_are_of_the_rate_at_which_they_were_set", |form| {
        let namespace = adjustable();
        let (length, kinds) = (Duration::from_secs(100), &["socket"][..]);
        let mut earlier = Guest::start(&namespace, form, length, kinds);
        namespace.set(&Spec::new().rate(rate(1000.0))).unwrap();
        let mut later = Guest::start(&namespace, form, length, kinds);
        later.all_until("a thousand times as fast", kinds, soon(), TICK);
        earlier.none_until("at the rate of before", Instant::now());
    });
}

#[test]
fn a_slower_rate_makes_timers_expire_later() {
    in_every_form("a_slower_rate_makes_timers_expire_later", |form| {
        let namespace = adjustable();
        let (length, kinds) = (Duration::from_secs(2), [TIMER_DATES, OTHER_TIMERS].concat());
        let mut guest = Guest::start(&namespace, form, length, &kinds);
        guest.none_until("before the change", Instant::now());
        namespace.set(&Spec::new().rate(rate(0.01))).unwrap();
        guest.none_until("a hundred times as slow", guest.started + length + Duration::from_millis(500));
        namespace.set(&Spec::new().rate(rate(1000.0))).unwrap();
        guest.all_until("a thousand times as fast", &kinds, soon(), ROUNDED);
    });
}

/// Whoever asks for that learns of every step: natively by an error, here it may also be as if the timer had expired.
#[test]
fn timers_end_by_a_step_where_that_was_asked_for() {
    in_every_form("timers_end_by_a_step_where_that_was_asked_for", |form| {
        for (namespace, step_s) in both().into_iter().zip([7200, -10]) {
            let mut guest = Guest::start(&namespace, form, HOUR, &["cancelled"]);
            guest.none_until("before the step", in_ms(100));
            namespace.set(&Spec::new().offset(Family::Realtime, seconds(step_s))).unwrap();
            let deadline = soon();
            let ways = form.ways(&["cancelled"]);
            while guest.over.len() < ways.len() && guest.listen(deadline) {}
            let results: Vec<_> = ways.iter().map(|way| guest.over.get(way).map(|over| over.result)).collect();
            let is_told = |result: &Option<i32>| matches!(result, Some(0 | ECANCELED));
            assert!(results.iter().all(is_told), "{form:?}: {ways:?} after a step to {step_s} s: {results:?}");
        }
    });
}

#[test]
fn timers_are_ended_by_nothing_but_a_step() {
    in_every_form("timers_are_ended_by_nothing_but_a_step", |form| {
        for namespace in both() {
            let mut guest = Guest::start(&namespace, form, Duration::from_secs(100), &["cancelled"]);
            namespace.set(&Spec::new().rate_of(Family::Realtime, rate(1.5))).unwrap();
            guest.none_until("a rate is no step", in_ms(200));
            namespace.set(&Spec::new().rate_of(Family::Realtime, rate(1000.0))).unwrap();
            guest.all_until("a thousand times as fast", &["cancelled"], soon(), ROUNDED);
        }
    });
}

/// A process's timers are set anew in the process itself; its threads do not notice.
#[test]
fn changes_disturb_nobody_beside_timers() {
    in_every_form("changes_disturb_nobody_beside_timers", |form| {
        for namespace in both() {
            let kinds = [WAITS, TIMER_DATES, OTHER_TIMERS].concat();
            let mut guest = Guest::start(&namespace, form, HOUR, &kinds);
            for round in 0..20 {
                namespace.set(&Spec::new().offset(Family::Realtime, seconds(round))).unwrap();
            }
            guest.none_until("after many changes", in_ms(100));
            assert_eq!(guest.idle().disturbed, 0, "{form:?}");
            namespace.set(&Spec::new().offset(Family::Realtime, seconds(7200))).unwrap();
            guest.all_until("after the step", &[DATES, TIMER_DATES].concat(), soon(), 0);
        }
    });
}

/// What members do to their clock goes on whatever is changed of other clocks.
#[test]
fn a_change_of_another_clock_leaves_a_slew_alone() {
    let namespace = Namespace::new(&Spec::new().adjustable().settable()).unwrap();
    let slews = namespace.command(guest("setting")).args(["adjtime", "400000"]).output().unwrap();
    assert_eq!(String::from_utf8(slews.stdout).unwrap(), "0 0 0\n");
    namespace.set(&Spec::new().offset(Family::Monotonic, seconds(60))).unwrap();
    // Slewing takes minutes.
    let ahead = namespace.realtime_offset_ns();
    assert!((-50_000_000..100_000_000).contains(&ahead), "{ahead}");
    let asks = namespace.command(guest("setting")).args(["adjtime", "-"]).output().unwrap();
    let left = String::from_utf8(asks.stdout).unwrap();
    let left: i64 = left.trim().strip_prefix("0 0 ").unwrap().parse().unwrap();
    assert!((350_000..400_000).contains(&left), "{left} us are left");
}

/// What the meeting guest prints in a namespace whose clock it may set.
fn meets(arguments: &[&str]) -> String {
    let mut command = harness::elsewhen(&["--settable"], guest("meets"));
    command.args(arguments);
    harness::run_quietly(command).success().stdout
}

#[test]
fn calls_whose_results_look_like_calls_are_let_alone() {
    // rt_sigaction, rt_sigprocmask, gettimeofday, time and clock_gettime.
    for size in ["13", "14", "96", "201", "228"] {
        assert_eq!(meets(&["reads", size]), "bad 0\n", "{size}");
    }
}

#[test]
fn a_timer_that_is_armed_again_forgets_what_it_was_armed_for() {
    let text = meets(&["rearmed"]);
    let left: i64 = text.trim().strip_prefix("left ").unwrap().parse().unwrap();
    assert!((0..=5000).contains(&left), "{text}");
}

#[test]
fn a_wait_that_a_stop_has_interrupted_is_woken() {
    assert_eq!(meets(&["stopped"]), format!("ended {}\n", rustix::io::Errno::TIMEDOUT.raw_os_error()));
}

#[test]
fn a_signal_that_comes_with_a_change_ends_a_wait() {
    assert_eq!(meets(&["alarm"]), format!("ended {}\n", rustix::io::Errno::INTR.raw_os_error()));
}
