//! The library: a namespace changed under running programs.

use crate::harness::{Build, guest, guest_as, unless_each_time_back};
use elsewhen::{Child, Family, Namespace, Rate, SignedDuration, Spec, Timestamp};
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout, Stdio};

const SECOND: i64 = 1_000_000_000;

/// The watching guest in a namespace.
struct Watched {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Watched {
    fn start(namespace: &Namespace) -> Self {
        let mut command = namespace.command(guest("watch"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (to, from) = (child.take_stdin().unwrap(), BufReader::new(child.take_stdout().unwrap()));
        Self { child, to, from }
    }

    /// REALTIME and MONOTONIC of the guest, in nanoseconds.
    fn ask(&mut self) -> (i64, i64) {
        self.to.write_all(b"?\n").unwrap();
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        let (realtime, monotonic) = line.trim().split_once(' ').unwrap();
        (realtime.parse().unwrap(), monotonic.parse().unwrap())
    }

    /// Ends the guest and returns how often a reader saw MONOTONIC go back.
    fn finish(self) -> u64 {
        let Self { mut child, to, from } = self;
        drop(to);
        let last = from.lines().map_while(Result::ok).last().unwrap();
        assert!(child.wait().unwrap().success());
        last.strip_prefix("steps back ").unwrap().parse().unwrap()
    }
}

/// Host REALTIME now; this process is no member.
fn host() -> i64 {
    i64::try_from(Timestamp::now().as_nanosecond()).unwrap()
}

#[test]
fn a_change_is_seen_by_running_programs_when_set_returns() {
    let namespace = Namespace::new(&Spec::new()).unwrap();
    let mut watched = Watched::start(&namespace);
    for days in [400, -3000, 0, 1] {
        namespace.set(&Spec::new().offset(Family::Realtime, SignedDuration::from_hours(24 * days))).unwrap();
        let before = host();
        let (realtime, _) = watched.ask();
        let offset = days * 24 * 3600 * SECOND;
        assert!((before + offset..=host() + offset).contains(&realtime), "{days} days");
    }
    let date: Timestamp = "2038-01-19T03:14:00Z".parse().unwrap();
    let before = host();
    namespace.set(&Spec::new().at(date)).unwrap();
    let (realtime, _) = watched.ask();
    let passed = realtime - i64::try_from(date.as_nanosecond()).unwrap();
    assert!((0..=host() - before).contains(&passed), "{passed} ns after the date");
    assert_eq!(watched.finish(), 0);
}

#[test]
fn a_change_of_nothing_changes_nothing_and_returns() {
    let namespace = Namespace::new(&Spec::new().freeze(Family::Realtime)).unwrap();
    let frozen = namespace.now_ns(Family::Realtime);
    let (sender, receiver) = std::sync::mpsc::channel();
    let handle = namespace.clone();
    std::thread::spawn(move || sender.send(handle.set(&Spec::new())));
    receiver.recv_timeout(std::time::Duration::from_secs(30)).expect("set returns").unwrap();
    assert_eq!(namespace.now_ns(Family::Realtime), frozen);
}

#[test]
fn freezing_and_thawing_never_jump() {
    let namespace = Namespace::new(&Spec::new().offset(Family::Realtime, SignedDuration::from_hours(1000))).unwrap();
    let mut watched = Watched::start(&namespace);
    let before = watched.ask().0;
    namespace.set(&Spec::new().freeze(Family::Realtime)).unwrap();
    let (frozen, monotonic) = watched.ask();
    assert!(frozen >= before);
    let (again, later) = watched.ask();
    assert_eq!(again, frozen);
    assert!(later > monotonic, "the monotonic clock was not asked to stop");
    let host_before = host();
    namespace.set(&Spec::new().thaw(Family::Realtime)).unwrap();
    let (thawed, _) = watched.ask();
    assert!((0..=host() - host_before).contains(&(thawed - frozen)), "{} ns", thawed - frozen);
    assert_eq!(watched.finish(), 0);
}

#[test]
fn two_hundred_changes_of_rate_never_set_a_reader_back() {
    unless_each_time_back(|| {
        let namespace = Namespace::new(&Spec::new().adjustable()).unwrap();
        let mut watched = Watched::start(&namespace);
        let mut last = watched.ask();
        let mut back = 0;
        for round in 0..200 {
            let rate = [10.0, 0.001, 1.0, 1000.0, 0.5][round % 5];
            let (host_before, before) = (host(), last);
            namespace.set(&Spec::new().rate(Rate::from_f64(rate).unwrap())).unwrap();
            last = watched.ask();
            // The fastest of the rates bounds what can have passed.
            let most = (host() - host_before + SECOND).saturating_mul(1000);
            assert!(last.0 <= before.0 + most && last.1 <= before.1 + most, "{before:?} to {last:?} at {rate}");
            back += u64::from(last.0 < before.0 || last.1 < before.1);
        }
        back + watched.finish()
    });
}

#[test]
fn a_monotonic_clock_is_not_set_back_and_nothing_changes_then() {
    let namespace =
        Namespace::new(&Spec::new().adjustable().offset(Family::Monotonic, SignedDuration::from_hours(5))).unwrap();
    let refused = namespace.set(&Spec::new().offset(elsewhen::Clocks::ALL, SignedDuration::from_hours(4)));
    let error = refused.unwrap_err();
    assert!(error.is_invalid() && error.to_string().contains("monotonic cannot be set back"), "{error}");
    assert!(namespace.realtime_offset_ns().abs() < 60 * SECOND, "realtime was not moved either");
    namespace.set(&Spec::new().offset(Family::Monotonic, SignedDuration::from_hours(6))).unwrap();
}

#[test]
fn programs_that_are_not_there_or_cannot_run_are_told_apart() {
    let namespace = Namespace::new(&Spec::new()).unwrap();
    assert!(namespace.command("/nonexistent/program").spawn().unwrap_err().is_not_found());
    assert!(namespace.command("/etc/passwd").spawn().unwrap_err().is_not_executable());
    let mut command = namespace.command("true");
    for _ in 0..3 {
        assert!(command.status().unwrap().success(), "a command can be started again");
    }
}

#[test]
fn a_program_that_cannot_be_entered_is_an_error_with_the_reason() {
    let program = guest_as("seconds", Build::InTheWay).unwrap();
    let error = Namespace::new(&Spec::new()).unwrap().command(program).spawn().unwrap_err();
    assert!(error.is_refused() && error.to_string().contains("it occupies the addresses"), "{error}");
}

#[test]
fn killing_a_program_at_any_moment_of_its_start_leaves_no_zombie_and_no_hang() {
    let namespace = Namespace::new(&Spec::new().offset(Family::Realtime, SignedDuration::from_hours(1))).unwrap();
    for round in 0..200u64 {
        let mut child = namespace.command("sh").args(["-c", "date >/dev/null; date >/dev/null"]).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_micros(round * 37 % 3000));
        let _ = child.kill();
        let status = child.wait().unwrap();
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        assert!(status.success() || signal == Some(9), "{status}");
        child.wait_members();
    }
}
