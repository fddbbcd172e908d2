//! Members set and discipline the clock of their namespace, where they are let: `date -s`, the system calls.
//!
//! Whatever they do, the host's clock stays where it is: that is compared with MONOTONIC, which nobody sets. Members
//! have no right to set it either, but where a test is about that right; and then the same has been seen to go well
//! without.

use crate::harness::*;
use crate::waits::MS;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Write;
use std::process::{ChildStdin, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const EPERM: i32 = 1;
/// A date for clocks to be set to, far from all others: 2033-05-18T03:33:20Z.
const DATE_S: i128 = 2_000_000_000;
/// How long a program may take until it looks at its clock: a busy machine is slow.
const SLOW: i128 = 5 * SECOND;

/// `struct timex` and `adjtimex(2)`.
const ADJ_OFFSET: u32 = 0x1;
const ADJ_FREQUENCY: u32 = 0x2;
const ADJ_MAXERROR: u32 = 0x4;
const ADJ_ESTERROR: u32 = 0x8;
const ADJ_STATUS: u32 = 0x10;
const ADJ_TIMECONST: u32 = 0x20;
const ADJ_TAI: u32 = 0x80;
const ADJ_SETOFFSET: u32 = 0x100;
const ADJ_MICRO: u32 = 0x1000;
const ADJ_NANO: u32 = 0x2000;
const ADJ_TICK: u32 = 0x4000;
const ADJ_OFFSET_SINGLESHOT: u32 = 0x8001;
const ADJ_OFFSET_SS_READ: u32 = 0xa001;
const STA_PLL: i64 = 0x1;
const STA_UNSYNC: i64 = 0x40;
const STA_NANO: i64 = 0x2000;
const TIME_OK: i64 = 0;
const TIME_ERROR: i64 = 5;

/// Where the host's clock is set, it moves against MONOTONIC.
pub(crate) struct Unmoved(i128);

impl Unmoved {
    pub(crate) fn new() -> Self {
        Self(Self::distance())
    }

    pub(crate) fn distance() -> i128 {
        // The nearest of some pairs: a thread can be put off between the two.
        let pair = |_| {
            let host = Host::now();
            let again = Host::now();
            (again.of(1) - host.of(1), host.of(0) - host.of(1))
        };
        (0..8).map(pair).min().unwrap().1
    }
}

impl Drop for Unmoved {
    fn drop(&mut self) {
        let moved = Self::distance() - self.0;
        // A test that fails has said something else already.
        if !std::thread::panicking() {
            assert!(moved.abs() < 100 * MS, "the host's clock has moved by {moved} ns");
        }
    }
}

/// `elsewhen run FLAGS -- PROGRAM` with nobody in it who has the right to set the host's clock.
pub(crate) fn unprivileged(flags: &[&str], program: impl AsRef<OsStr>) -> Command {
    let inside = elsewhen(flags, program);
    if !is_root() {
        return inside;
    }
    let mut command = Command::new("setpriv");
    command.arg("--bounding-set=-sys_time").arg(inside.get_program()).args(inside.get_args());
    command
}

/// Why there is no way to be root without the right to set the clock.
pub(crate) fn cannot_drop() -> Option<&'static str> {
    (is_root() && !has("setpriv")).then_some("there is no setpriv to drop the right to set the host's clock")
}

/// The setting guest in conversation.
pub(crate) struct Setting {
    pub(crate) guest: Started,
    pub(crate) stdin: ChildStdin,
}

/// What the guest's clocks read at one instant, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clocks {
    pub(crate) realtime: i128,
    pub(crate) monotonic: i128,
    pub(crate) tai: i128,
    pub(crate) coarse: i128,
}

/// What a call returned.
#[derive(Clone, Debug, PartialEq)]
struct Returned {
    result: i64,
    error: i32,
    fields: BTreeMap<String, i64>,
}

impl Returned {
    fn field(&self, name: &str) -> i64 {
        self.fields[name]
    }

    /// The result of a call that must not fail.
    #[track_caller]
    fn succeeded(self) -> Self {
        assert_ne!(self.result, -1, "{self:?}");
        self
    }
}

impl Setting {
    fn new(flags: &[&str], build: Build) -> Result<Self, String> {
        let mut command = unprivileged(flags, guest_as("setting", build)?);
        command.stdin(Stdio::piped());
        let mut guest = start(command);
        let stdin = guest.stdin();
        Ok(Self { guest, stdin })
    }

    /// In a namespace in which clocks can be set, and which is as the host otherwise.
    fn here() -> Self {
        Self::new(&["--settable"], Build::Dynamic).unwrap_or_else(|reason| panic!("setting: {reason}"))
    }

    pub(crate) fn ask(&mut self, line: &str) -> Vec<String> {
        writeln!(self.stdin, "{line}").unwrap();
        self.guest.must_say().split(' ').map(str::to_owned).collect()
    }

    fn call(&mut self, line: &str) -> Returned {
        let words = self.ask(line);
        let fields = words[2..].iter().map(|word| {
            let (name, value) = word.split_once('=').unwrap_or(("", word));
            (name.to_owned(), value.parse().unwrap())
        });
        Returned { result: words[0].parse().unwrap(), error: words[1].parse().unwrap(), fields: fields.collect() }
    }

    fn adjust(&mut self, modes: u32, fields: &str) -> Returned {
        self.call(&format!("adjtimex modes={modes} {fields}"))
    }

    pub(crate) fn clocks(&mut self) -> Clocks {
        let words = self.ask("read");
        let numbers: Vec<i128> = words[2..].iter().map(|word| word.parse().unwrap()).collect();
        match numbers[..] {
            [realtime, monotonic, tai, coarse] => Clocks { realtime, monotonic, tai, coarse },
            _ => panic!("no clocks: {words:?}"),
        }
    }

    /// How much more than MONOTONIC the date counts in so long, in parts per million.
    pub(crate) fn pace(&mut self, during: Duration) -> f64 {
        let before = self.clocks();
        sleep(during);
        let after = self.clocks();
        let counted = (after.realtime - before.realtime) as f64;
        (counted / (after.monotonic - before.monotonic) as f64 - 1.0) * 1e6
    }

    pub(crate) fn finish(self) {
        drop(self.stdin);
        self.guest.finish().success();
    }
}

/// How far the date is ahead of MONOTONIC.
pub(crate) fn ahead(clocks: Clocks) -> i128 {
    clocks.realtime - clocks.monotonic
}

/// Fails unless a number lies in a range.
#[track_caller]
fn within(what: &str, value: f64, least: f64, most: f64) {
    assert!((least..=most).contains(&value), "{what}: {value} is not in {least}..={most}");
}

/// Fails unless what `date +%s.%N` printed, or a shell in whole seconds, is this date or little more.
#[track_caller]
fn check_date(what: &str, printed: &str, at_s: i128) {
    let (seconds, fraction) = printed.trim().split_once('.').unwrap_or((printed.trim(), "0"));
    let ns = seconds.parse::<i128>().unwrap() * SECOND + fraction.parse::<i128>().unwrap();
    let range = at_s * SECOND..at_s * SECOND + SLOW;
    assert!(range.contains(&ns), "{what}: {ns} is not in {range:?}");
}

/// Sets the date; the shell's own clock, a child of its and a child of that then tell it.
const SETS_AND_TELLS: &str = "date -u -s @2000000000 >/dev/null || exit 9; printf '%(%s)T\\n' -1; date +%s.%N; \
                              bash -c 'printf \"%(%s)T\\n\" -1; (date +%s.%N)'; env -i \"$(command -v date)\" +%s.%N";

fn sets_for_all(command: impl Fn(&[&str]) -> Command) {
    let _unmoved = Unmoved::new();
    for flags in [&["--settable"][..], &["--settable", "--offset", "-400d"], &["--settable", "--adjustable"]] {
        let mut setting = command(flags);
        setting.args(["-c", SETS_AND_TELLS]);
        let outcome = run_quietly(setting).success();
        assert_eq!((outcome.stdout.lines().count(), outcome.stderr.as_str()), (5, ""), "{flags:?}: {outcome:?}");
        for line in outcome.stdout.lines() {
            check_date(&format!("{flags:?}"), line, DATE_S);
        }
    }
}

#[test]
fn date_sets_the_clock_of_the_whole_tree_and_not_the_hosts() {
    const TEST: &str = "date_sets_the_clock_of_the_whole_tree_and_not_the_hosts";
    if !has("bash") {
        return skip(TEST, "there is no bash to read its own clock");
    }
    match cannot_drop() {
        Some(reason) => skip(TEST, reason),
        None => sets_for_all(|flags| unprivileged(flags, "bash")),
    }
    // With the right to set the host's, too: it has just been seen that the namespace's is meant.
    if is_root() && cannot_drop().is_none() {
        sets_for_all(|flags| elsewhen(flags, "bash"));
    }
}

#[test]
fn ordinary_users_set_the_date_where_they_are_let() {
    const TEST: &str = "ordinary_users_set_the_date_where_they_are_let";
    if !is_root() || !has("setpriv") {
        // The other tests are of an ordinary user then.
        return skip(TEST, "it takes root and setpriv to become another user");
    }
    let _unmoved = Unmoved::new();
    let become_nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let mut command = unprivileged(&["--settable"], "setpriv");
    command.args(become_nobody).args(["sh", "-c", "id -u; date -u -s @2000000000 >/dev/null; date +%s.%N"]);
    let outcome = run_quietly(command).success();
    let (user, date) = outcome.stdout.split_once('\n').unwrap();
    assert_eq!((user, outcome.stderr.as_str()), ("65534", ""));
    check_date("as nobody", date, DATE_S);
}

#[test]
fn nobody_sets_a_date_that_is_not_to_be_set() {
    let _unmoved = Unmoved::new();
    // With the right to set the host's clock, but to now: whoever were let, would do no harm.
    for flags in [&["--offset", "0"][..], &["--adjustable"], &["--freeze"]] {
        let mut command = elsewhen(flags, "sh");
        command.args(["-c", "LC_ALL=C date -s now >/dev/null && echo was let"]);
        let outcome = run_quietly(command);
        assert!(outcome.stderr.contains("cannot set date: Operation not permitted"), "{flags:?}: {outcome:?}");
        assert_eq!(outcome.stdout, "", "{flags:?}");
    }
}

#[test]
fn every_call_is_refused_where_nothing_is_to_be_set() {
    const TEST: &str = "every_call_is_refused_where_nothing_is_to_be_set";
    if let Some(reason) = cannot_drop() {
        return skip(TEST, reason);
    }
    let _unmoved = Unmoved::new();
    let mut guest = Setting::new(&["--adjustable"], Build::Dynamic).unwrap();
    let before = guest.clocks();
    for call in ["clock_settime 2000000000000000000", "settimeofday 2000000000000000000", "adjtime 1000", "adjtime 0"] {
        let returned = guest.call(call);
        assert_eq!((returned.result, returned.error), (-1, EPERM), "{call}");
    }
    let modes = [
        ADJ_OFFSET,
        ADJ_FREQUENCY,
        ADJ_MAXERROR,
        ADJ_ESTERROR,
        ADJ_STATUS,
        ADJ_TIMECONST,
        ADJ_TAI,
        ADJ_SETOFFSET,
        ADJ_MICRO,
        ADJ_NANO,
        ADJ_TICK,
        ADJ_OFFSET_SINGLESHOT,
    ];
    for mode in modes {
        for call in ["adjtimex", "clock_adjtime"] {
            let returned = guest.call(&format!("{call} modes={mode} tick=10000"));
            assert_eq!((returned.result, returned.error), (-1, EPERM), "{call} {mode:#x}");
        }
    }
    // To ask is allowed, also for what `adjtime` has left.
    for mode in [0, ADJ_OFFSET_SS_READ] {
        assert_eq!(guest.adjust(mode, "").succeeded().field("tick"), 10_000);
    }
    guest.call("adjtime -").succeeded();
    let moved = ahead(guest.clocks()) - ahead(before);
    assert!(moved.abs() < MS, "{moved}");
    guest.finish();
}

/// What `man 2` of the calls says becomes of bad arguments: `clock_settime(2)`, `settimeofday(2)`, `adjtimex(2)`. Calls
/// that nobody may make otherwise fail with EPERM instead, where those of `adjtimex` have been understood.
const ERRORS: [(&str, i32); 27] = [
    ("clock_settime/over", 22),
    ("clock_settime/under", 22),
    ("clock_settime/negative", 22),
    ("clock_settime/null", 14),
    ("clock_settime/gone", 14),
    ("clock_settime/half-gone", 14),
    ("clock_settime/monotonic", 22),
    ("clock_settime/boottime", 22),
    ("clock_settime/tai", 22),
    ("clock_settime/coarse", 22),
    ("clock_settime/unknown", 22),
    ("settimeofday/over", 22),
    ("settimeofday/under", 22),
    ("settimeofday/negative", 22),
    ("settimeofday/gone", 14),
    ("settimeofday/zone-gone", 14),
    ("settimeofday/over-and-zone", 22),
    ("adjtimex/null", 14),
    ("adjtimex/gone", 14),
    ("adjtimex/half-gone", 14),
    ("adjtimex/read-only", 14),
    ("adjtimex/tick-slow", 22),
    ("adjtimex/tick-fast", 22),
    ("adjtimex/step-over", 22),
    ("adjtimex/step-under", 22),
    ("adjtimex/step-nano-over", 22),
    ("clock_adjtime/unknown", 22),
];

/// What each of the guest's failing calls made of it.
fn errors_with(flags: &[&str]) -> BTreeMap<String, i32> {
    let mut command = unprivileged(flags, guest("setting"));
    command.arg("errors");
    let outcome = run_quietly(command).success();
    let lines = outcome.stdout.lines().take_while(|line| *line != "end");
    lines
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let returned: i64 = words[1].parse().unwrap();
            (words[0].to_owned(), if returned == -1 { words[2].parse().unwrap() } else { 0 })
        })
        .collect()
}

#[test]
fn bad_arguments_are_refused_as_the_manual_says() {
    const TEST: &str = "bad_arguments_are_refused_as_the_manual_says";
    if let Some(reason) = cannot_drop() {
        return skip(TEST, reason);
    }
    let _unmoved = Unmoved::new();
    let (settable, other) = (errors_with(&["--settable"]), errors_with(&["--offset", "0"]));
    for (case, error) in ERRORS {
        assert_eq!(settable[case], error, "{case}");
        let is_asked_first = case.contains("-slow") || case.contains("-fast") || case.contains("step-");
        assert_eq!(other[case], if is_asked_first { EPERM } else { error }, "{case} where nothing is to be set");
    }
    // Not an error, but a question: natively for the right, here for the flag.
    assert_eq!((settable["settimeofday/nothing"], other["settimeofday/nothing"]), (0, EPERM));
}

/// The kernel refuses frequencies that would overflow where it computes with them, and does not take them for merely
/// large.
#[test]
fn frequencies_beyond_all_bounds_are_refused() {
    const TEST: &str = "frequencies_beyond_all_bounds_are_refused";
    if let Some(reason) = cannot_drop() {
        return skip(TEST, reason);
    }
    let errors = errors_with(&["--settable"]);
    assert_eq!((errors["adjtimex/frequency-far"], errors["adjtimex/frequency-far-back"]), (22, 22));
}

/// Builds whose C libraries make the calls in their own ways.
fn in_every_build(test: &str, check: impl Fn(&mut Setting)) {
    if let Some(reason) = cannot_drop() {
        return skip(test, reason);
    }
    let _unmoved = Unmoved::new();
    for build in [Build::Dynamic, Build::Static, Build::MuslStatic] {
        match Setting::new(&["--settable"], build) {
            Ok(mut guest) => {
                check(&mut guest);
                guest.finish();
            }
            Err(reason) => skip(&format!("{test} ({build:?})"), &reason),
        }
    }
}

#[test]
fn every_call_that_sets_the_clock_sets_it() {
    in_every_build("every_call_that_sets_the_clock_sets_it", |guest| {
        for (call, at_s) in [("clock_settime", DATE_S), ("settimeofday", DATE_S / 2), ("clock_settime", DATE_S)] {
            let before = guest.clocks();
            assert_eq!(guest.call(&format!("{call} {}", at_s * SECOND + 123_456_789)).result, 0);
            let after = guest.clocks();
            let passed = after.realtime - at_s * SECOND;
            assert!((123_456_000..SLOW).contains(&passed), "{call}: {passed} ns after it was set");
            let least = after.monotonic - before.monotonic;
            assert!((0..SLOW).contains(&least), "MONOTONIC goes on: {least}");
            assert_eq!(
                (after.tai - after.realtime) / SECOND,
                (before.tai - before.realtime) / SECOND,
                "TAI goes along"
            );
            let lag = after.realtime - after.coarse;
            assert!((-SECOND..SECOND).contains(&lag), "the coarse clock goes along: {lag}");
        }
    });
}

#[test]
fn a_step_of_adjtimex_moves_the_clock_by_so_much() {
    in_every_build("a_step_of_adjtimex_moves_the_clock_by_so_much", |guest| {
        let steps: [(u32, i128, i128, i128); 5] = [
            (ADJ_SETOFFSET, 3600, 250_000, 1000),
            (ADJ_SETOFFSET | ADJ_NANO, 0, 250_000_000, 1),
            (ADJ_SETOFFSET | ADJ_MICRO, -5, 500_000, 1000),
            (ADJ_SETOFFSET | ADJ_NANO, -1, 999_000_000, 1),
            (ADJ_SETOFFSET | ADJ_NANO, -3600 * 24 * 365, 1, 1),
        ];
        for (modes, sec, fraction, unit) in steps {
            for call in ["adjtimex", "clock_adjtime"] {
                let before = ahead(guest.clocks());
                guest.call(&format!("{call} modes={modes} sec={sec} fraction={fraction}")).succeeded();
                let moved = ahead(guest.clocks()) - before;
                let expected = sec * SECOND + fraction * unit;
                // Both clocks are read one after the other.
                assert!((moved - expected).abs() < 20_000, "{call} by {expected}: {moved}");
            }
        }
    });
}

#[test]
fn what_was_set_is_read_back() {
    in_every_build("what_was_set_is_read_back", |guest| {
        let start = guest.adjust(0, "").succeeded();
        assert_eq!(start.result, TIME_ERROR, "nobody has synchronised it");
        let word = |name| start.field(name);
        assert_eq!((word("freq"), word("tick"), word("offset"), word("status")), (0, 10_000, 0, STA_UNSYNC));
        assert_eq!((word("maxerror"), word("esterror"), word("tolerance")), (16_000_000, 16_000_000, 500 << 16));
        let all = ADJ_FREQUENCY | ADJ_TICK | ADJ_STATUS | ADJ_MAXERROR | ADJ_ESTERROR | ADJ_NANO | ADJ_TIMECONST;
        let set = guest.adjust(all, "freq=-6553600 tick=10001 status=1 maxerror=1234 esterror=123 constant=6");
        assert_eq!(set.result, TIME_OK, "synchronised, says the one who does that");
        for returned in [set, guest.adjust(0, ""), guest.call("clock_adjtime modes=0")] {
            let word = |name| returned.field(name);
            assert_eq!((returned.result, word("freq"), word("tick")), (TIME_OK, -6_553_600, 10_001));
            assert_eq!((word("status"), word("constant")), (STA_PLL | STA_NANO, 6));
            assert_eq!((word("maxerror") - 1234) / 10_000, 0, "it may grow by and by");
            assert_eq!((word("esterror"), word("precision")), (123, 1));
            assert!((0..1_000_000_000).contains(&word("fraction")));
        }
        let returned = guest.adjust(ADJ_MICRO | ADJ_FREQUENCY, "freq=99999999");
        assert_eq!(returned.field("freq"), 500 << 16, "clamped");
        assert_eq!(returned.field("status"), STA_PLL);
        assert!((0..1_000_000).contains(&returned.field("fraction")), "{returned:?}");
        assert_eq!(guest.adjust(ADJ_FREQUENCY, "freq=-99999999").field("freq"), -500 << 16);
        // What only the kernel says of a clock cannot be said.
        assert_eq!(guest.adjust(ADJ_STATUS, "status=0xff40").field("status"), STA_UNSYNC);
        // The time is that of the namespace.
        let clocks = guest.clocks();
        let read = guest.adjust(0, "");
        let read_ns = i128::from(read.field("sec")) * SECOND + i128::from(read.field("fraction")) * 1000;
        assert!((-1000..SLOW).contains(&(read_ns - clocks.realtime)), "{read:?} {clocks:?}");
        assert_eq!(i128::from(read.field("tai")), (clocks.tai - clocks.realtime + SECOND / 2) / SECOND);
    });
}

#[test]
fn frequency_and_tick_are_the_clocks_pace() {
    const TEST: &str = "frequency_and_tick_are_the_clocks_pace";
    if let Some(reason) = cannot_drop() {
        return skip(TEST, reason);
    }
    let _unmoved = Unmoved::new();
    let mut guest = Setting::here();
    let short = Duration::from_millis(300);
    within("before", guest.pace(short), -5.0, 5.0);
    guest.adjust(ADJ_FREQUENCY, "freq=26214400").succeeded();
    within("at +400 ppm", guest.pace(short), 395.0, 405.0);
    guest.adjust(ADJ_TICK, "tick=10900").succeeded();
    // Nine percent, and four parts in ten thousand of that.
    within("with a tick of 10,900", guest.pace(short), 90_430.0, 90_442.0);
    guest.adjust(ADJ_FREQUENCY | ADJ_TICK, "freq=-26214400 tick=9100").succeeded();
    within("with a tick of 9,100", guest.pace(short), -90_370.0, -90_358.0);
    // The step keeps the pace.
    guest.adjust(ADJ_SETOFFSET, "sec=1000 fraction=0").succeeded();
    guest.call("clock_settime 2000000000000000000").succeeded();
    within("after a step", guest.pace(short), -90_370.0, -90_358.0);
    guest.adjust(ADJ_FREQUENCY | ADJ_TICK, "freq=0 tick=10000").succeeded();
    within("again as before", guest.pace(short), -5.0, 5.0);
    guest.finish();
}

#[test]
fn a_frequency_applies_to_the_rate_that_was_asked_for() {
    const TEST: &str = "a_frequency_applies_to_the_rate_that_was_asked_for";
    if let Some(reason) = cannot_drop() {
        return skip(TEST, reason);
    }
    let mut guest = Setting::new(&["--settable", "--rate", "realtime=10"], Build::Dynamic).unwrap();
    let short = Duration::from_millis(300);
    within("before", guest.pace(short), 9e6 - 100.0, 9e6 + 100.0);
    guest.adjust(ADJ_FREQUENCY, "freq=26214400").succeeded();
    within("at +400 ppm", guest.pace(short), 9_003_900.0, 9_004_100.0);
    guest.adjust(ADJ_FREQUENCY, "freq=0").succeeded();
    within("again as before", guest.pace(short), 9e6 - 100.0, 9e6 + 100.0);
    guest.finish();
}

#[test]
fn a_date_that_stands_can_be_set_and_stands_there() {
    const TEST: &str = "a_date_that_stands_can_be_set_and_stands_there";
    if let Some(reason) = cannot_drop() {
        return skip(TEST, reason);
    }
    let mut guest = Setting::new(&["--settable", "--freeze"], Build::Dynamic).unwrap();
    guest.call(&format!("clock_settime {}", DATE_S * SECOND)).succeeded();
    assert_eq!(guest.clocks().realtime, DATE_S * SECOND);
    sleep(Duration::from_millis(20));
    assert_eq!(guest.clocks().realtime, DATE_S * SECOND);
    // There is no pace that could be another.
    guest.adjust(ADJ_FREQUENCY, "freq=26214400").succeeded();
    guest.call("adjtime 1000").succeeded();
    sleep(Duration::from_millis(20));
    assert_eq!(guest.clocks().realtime, DATE_S * SECOND);
    guest.finish();
}

/// Has an offset slewed, for which 2000 times as long is needed, and fails unless the clock has then gained it and runs on as
/// before. `begin` asks for it, and returns how far ahead the clock was then. A supervisor that is late to say when a
/// slew ends lets the clock gain more, so it may be done again.
fn check_slewed(guest: &mut Setting, offset: i128, mut begin: impl FnMut(&mut Setting) -> i128) {
    for again in (0..4).rev() {
        let start = begin(guest);
        sleep(Duration::from_nanos(u64::try_from(offset.abs() * 2000).unwrap()) + Duration::from_millis(100));
        let gained = ahead(guest.clocks()) - start;
        if (gained - offset).abs() >= 10_000 {
            assert!(again > 0, "{offset} was to be gained, and {gained} was");
            continue;
        }
        within("the pace afterwards", guest.pace(Duration::from_millis(200)), -5.0, 5.0);
        let later = ahead(guest.clocks()) - start;
        assert!((later - gained).abs() < 10_000, "{offset} was to be gained, and later {later} was, after {gained}");
        return;
    }
}

#[test]
fn an_offset_is_slewed_and_what_is_left_is_told() {
    in_every_build("an_offset_is_slewed_and_what_is_left_is_told", |guest| {
        // In microseconds, until nanoseconds are asked for. Both are a tenth of a millisecond: 0.2 s.
        for (modes, offset, unit) in
            [(ADJ_OFFSET | ADJ_STATUS, 100, 1000), (ADJ_OFFSET | ADJ_STATUS | ADJ_NANO, -100_000, 1)]
        {
            check_slewed(guest, i128::from(offset * unit), |guest| {
                let start = ahead(guest.clocks());
                let asked = Instant::now();
                let set = guest.adjust(modes, &format!("offset={offset} status=1")).succeeded();
                // At 500 parts in a million, from when it has been set to when that is told.
                let slewed =
                    asked.elapsed().as_secs_f64() * 500e-6 * 1e9 / f64::from(unit) / f64::from(i32::abs(offset));
                assert!((0.9 - slewed..=1.0).contains(&(set.field("offset") as f64 / f64::from(offset))), "{set:?}");
                sleep(Duration::from_millis(50));
                let left = guest.adjust(0, "").field("offset");
                assert!((0.0..0.8).contains(&(left as f64 / f64::from(offset))), "{left} is left of {offset}");
                start
            });
            assert_eq!(guest.adjust(0, "").field("offset"), 0);
        }
    });
}

#[test]
fn adjtime_slews_and_returns_what_was_left_before() {
    in_every_build("adjtime_slews_and_returns_what_was_left_before", |guest| {
        let left = |guest: &mut Setting, call: &str| guest.call(call).succeeded().field("");
        check_slewed(guest, 100_000, |guest| {
            let start = ahead(guest.clocks());
            assert_eq!(left(guest, "adjtime 100"), 0);
            sleep(Duration::from_millis(50));
            let rest = left(guest, "adjtime -");
            assert!((0..=75).contains(&rest), "{rest} us are left");
            start
        });
        assert_eq!(left(guest, "adjtime -"), 0);
        check_slewed(guest, -50_000, |guest| {
            let start = ahead(guest.clocks());
            assert_eq!(left(guest, "adjtime -50"), 0);
            start
        });
        // A new one takes the place of one that is not over.
        check_slewed(guest, 20_000, |guest| {
            assert_eq!(left(guest, "adjtime 100000"), 0);
            let (start, rest) = (ahead(guest.clocks()), left(guest, "adjtime 20"));
            assert!((90_000..=100_000).contains(&rest), "{rest} us are left");
            start
        });
    });
}

#[test]
fn adjtime_of_nothing_ends_what_is_not_over() {
    in_every_build("adjtime_of_nothing_ends_what_is_not_over", |guest| {
        guest.call("adjtime 400000").succeeded();
        within("the pace meanwhile", guest.pace(Duration::from_millis(200)), 490.0, 510.0);
        let left = guest.call("adjtime 0").succeeded().field("");
        assert!((390_000..=400_000).contains(&left), "{left}");
        within("the pace afterwards", guest.pace(Duration::from_millis(200)), -5.0, 5.0);
        assert_eq!(guest.call("adjtime -").field(""), 0);
    });
}

/// `adjtime(3)` takes seconds, too, which `ADJ_OFFSET` does not.
#[test]
fn adjtime_takes_more_than_half_a_second() {
    in_every_build("adjtime_takes_more_than_half_a_second", |guest| {
        guest.call("adjtime 2500000").succeeded();
        let left = guest.call("adjtime -").succeeded().field("");
        assert!((2_490_000..=2_500_000).contains(&left), "{left} us are left of 2,500,000");
    });
}

/// The kernel forgets a slew when the clock is set.
#[test]
fn setting_the_clock_ends_a_slew() {
    in_every_build("setting_the_clock_ends_a_slew", |guest| {
        for step in ["clock_settime 2000000000000000000", "settimeofday 1000000000000000000"] {
            // Four hundred seconds of slewing.
            guest.call("adjtime 200000").succeeded();
            guest.call(step).succeeded();
            within(&format!("the pace after {step}"), guest.pace(Duration::from_millis(200)), -5.0, 5.0);
            // What is left is nothing that still goes on.
            assert_eq!(guest.call("adjtime -").field(""), 0, "{step}");
        }
    });
}

/// Whoever disciplines a clock learns from that that somebody has set it, or that a step of its own was made: `chronyd`
/// does.
#[test]
fn a_step_makes_the_clock_unsynchronised() {
    in_every_build("a_step_makes_the_clock_unsynchronised", |guest| {
        for step in ["adjtimex modes=0x2100 sec=0 fraction=0", "clock_settime 2000000000000000000"] {
            let modes = ADJ_MAXERROR | ADJ_ESTERROR | ADJ_STATUS;
            assert_eq!(guest.adjust(modes, "maxerror=0 esterror=0 status=1").result, TIME_OK);
            guest.call(step).succeeded();
            let returned = guest.adjust(0, "");
            let word = |name| returned.field(name);
            assert_eq!((word("maxerror"), word("esterror")), (16_000_000, 16_000_000), "after {step}");
            assert_eq!((returned.result, word("status") & STA_UNSYNC), (TIME_ERROR, STA_UNSYNC), "after {step}");
        }
    });
}

/// The distance of TAI belongs to the discipline: daemons that know the leap seconds set it.
#[test]
fn the_distance_of_tai_is_set() {
    in_every_build("the_distance_of_tai_is_set", |guest| {
        guest.adjust(ADJ_TAI, "constant=37").succeeded();
        assert_eq!(guest.adjust(0, "").field("tai"), 37);
        let clocks = guest.clocks();
        assert_eq!((clocks.tai - clocks.realtime + SECOND / 2) / SECOND, 37);
    });
}

/// Sleeps in a process of its own until a date to which `date` then comes.
#[test]
fn a_sleeper_wakes_when_the_date_is_set_past_its_deadline() {
    const TEST: &str = "a_sleeper_wakes_when_the_date_is_set_past_its_deadline";
    if let Some(reason) = cannot_drop() {
        return skip(TEST, reason);
    }
    let _unmoved = Unmoved::new();
    for build in [Build::Dynamic, Build::Static, Build::MuslStatic] {
        let sleeper = match guest_as("setting", build) {
            Ok(path) => path,
            Err(reason) => {
                skip(&format!("{TEST} ({build:?})"), &reason);
                continue;
            }
        };
        let mut command = unprivileged(&["--settable", "--at", "@1000000000"], "sh");
        // The first date is short of the deadline by more than the test can take.
        let script = "$0 until 2000000000000000000 & sleep 0.3; date -u -s @1999999000 >/dev/null; sleep 0.3; \
                      echo slept; date -u -s @2000000000 >/dev/null; wait; date +%s.%N";
        command.args(["-c", script]).arg(sleeper);
        let outcome = start_for(
            {
                command.stdin(Stdio::null());
                command
            },
            Duration::from_secs(30),
        )
        .finish()
        .success();
        let lines: Vec<&str> = outcome.stdout.lines().collect();
        let [first, woke, last] = lines[..] else { panic!("{build:?}: {outcome:?}") };
        assert_eq!(first, "slept", "{build:?}: it woke too early");
        let at = woke.strip_prefix("0 0 ").unwrap_or_else(|| panic!("{build:?}: {woke}")).parse::<i128>().unwrap();
        let late = at - DATE_S * SECOND;
        assert!((0..2 * SECOND).contains(&late), "{build:?}: {late} ns after its deadline");
        check_date("afterwards", last, DATE_S);
    }
}

/// Sleepers in a shell's children are moved back, too: what has been set back is waited for.
#[test]
fn a_sleeper_sleeps_on_when_the_date_is_set_back() {
    const TEST: &str = "a_sleeper_sleeps_on_when_the_date_is_set_back";
    if let Some(reason) = cannot_drop() {
        return skip(TEST, reason);
    }
    let mut command = unprivileged(&["--settable", "--at", "@2000000000"], "sh");
    let script = "$0 until 2000000001500000000 & date -u -s @1999999999 >/dev/null; wait";
    command.args(["-c", script]).arg(guest("setting"));
    let before = Host::now();
    let outcome = run_quietly(command).success();
    let took = Host::now().of(1) - before.of(1);
    let at = outcome.stdout.trim().strip_prefix("0 0 ").unwrap().parse::<i128>().unwrap();
    let late = at - (DATE_S * SECOND + 1500 * MS);
    assert!((0..2 * SECOND).contains(&late), "{late} ns after its deadline");
    assert!(took >= 2400 * MS, "two and a half seconds are not over after {took} ns");
}
