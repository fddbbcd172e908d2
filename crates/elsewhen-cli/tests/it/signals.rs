//! Signals, threads and processes are as they are natively, though members' calls are caught by a signal.
//!
//! The guests print what a program can observe without looking at a clock's reading, case by case and in the same
//! words on every run. So what they print inside must be what they print outside.

use crate::harness::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long all cases of one group may take: each of them is bounded by the guest.
const LIMIT: Duration = Duration::from_secs(600);

/// The builds that differ in how they make calls, set handlers up and cancel threads.
const BUILDS: [Build; 3] = [Build::Dynamic, Build::Static, Build::MuslStatic];

/// Everything is caught, and nothing is changed; then what is waited for by a date or by a moved clock.
const PLACES: [&[&str]; 2] = [&["--adjustable"], &["--offset", "1d", "--offset", "monotonic=1h"]];

/// The groups of cases of the signals guest, by how their names begin.
pub(crate) const OF_SIGSYS: &[&str] = &["sys_", "signalfd_"];
pub(crate) const OF_WAITS: &[&str] = &["cut_", "storm_"];
pub(crate) const OF_THREADS: &[&str] = &["cancel_", "thread_"];
pub(crate) const OF_STACKS: &[&str] = &["stack_", "registers"];
pub(crate) const OF_PROCESSES: &[&str] = &["vfork_", "clone_", "spawns", "shells", "fork_"];
const GROUPS: [&[&str]; 5] = [OF_SIGSYS, OF_WAITS, OF_THREADS, OF_STACKS, OF_PROCESSES];

/// Cases that meet races on purpose: one run in which they fail is enough.
const RACES: [&str; 5] = ["cancel_", "storm_", "cut_by_jump", "cut_short_calls", "fork_among"];

/// Cases that a namespace does change, each with why; LIMITATIONS says the same to users.
const CHANGED: &[(&str, &str)] = &[
    ("signalfd_sigsys", "what the kernel never gets to block never waits in a descriptor"),
    ("sys_in_mask", "the handler of another signal is not held off"),
    ("sys_in_context", "the kernel's frame holds the kernel's mask"),
    ("sys_set_by_context", "a mask written into a frame is the kernel's business"),
    ("sys_pending_of_thread", "there is one pending signal for the process"),
    ("sys_sigwait_other_thread", "the kernel has given the signal to a thread that only seems to block it"),
    ("sys_other_thread", "the kernel has given the signal to a thread that only seems to block it"),
    ("sys_interrupts", "interrupted calls are restarted"),
    ("sys_flags", "the handler runs on the alternate stack"),
    ("sys_exec", "a new program begins with the default action and an empty mask"),
    ("stack_use", "a caught call takes a signal's frame"),
    ("vfork_defaults", "a child in its parent's memory has its parent's action"),
    ("vfork_own_handler", "a child in its parent's memory has its parent's action"),
    ("vfork_mask", "a child in its parent's memory has its parent's mask"),
    ("clone_thread_masks", "threads are told apart by their thread-local storage"),
    ("few_or_kill", "a filter under which no handler can return is refused"),
    ("few_or_error", "a filter under which no handler can return is refused"),
    ("strict", "the kernel does not go from filters to the strict mode"),
];

/// Cases that a namespace changes for 32-bit programs, besides those of all.
const CHANGED_32: &[(&str, &str)] = &[("stack_8k", "two signal frames do not fit where they are large")];

/// Cases that a namespace changes on arm64, besides.
const CHANGED_ARM64: &[(&str, &str)] = &[("stack_8k", "two signal frames do not fit")];

/// Cases that a namespace changes for x32 programs, besides those of all.
const CHANGED_X32: &[(&str, &str)] = &[
    ("sys_handler", "a handler of SIGSYS gets the siginfo_t and the context of a 64-bit program"),
    ("sys_pending_once", "a handler of SIGSYS gets the siginfo_t and the context of a 64-bit program"),
];

/// Cases that need the C library's sites replaced, which is done for dynamic programs.
const DYNAMIC_ONLY: [&str; 1] = ["stack_minimal"];

/// Cases that look at the code of their own system calls, which the C library's sites no longer have.
const STATIC_ONLY: [&str; 4] = ["trap", "trap_in_threads", "trap_time_calls", "denied"];

/// What each case has printed.
type Observed = BTreeMap<String, Vec<String>>;

/// Runs cases of a guest, natively where there are no flags.
fn observe(path: &Path, flags: Option<&[&str]>, cases: &[&str]) -> Observed {
    let mut command = flags.map_or_else(|| Command::new(path), |flags| elsewhen(flags, path));
    command.args(cases).stdin(Stdio::null());
    let outcome = start_for(command, LIMIT).finish();
    let mut observed = Observed::new();
    for line in outcome.stdout.lines() {
        let (case, rest) = line.split_once(' ').unwrap_or((line, ""));
        observed.entry(case.to_owned()).or_default().push(rest.to_owned());
    }
    if !outcome.status.success() || !outcome.stderr.is_empty() {
        observed.entry("the guest".to_owned()).or_default().push(format!("{:?} {}", outcome.status, outcome.stderr));
    }
    observed
}

/// The lines in which two observations of a case differ.
fn differences(native: &[String], inside: &[String]) -> String {
    let mut shown = String::new();
    let length = native.len().max(inside.len());
    for at in 0..length {
        let (one, two) = (native.get(at), inside.get(at));
        if one != two {
            let word = |line: Option<&String>| line.map_or("(nothing)", |line| line.as_str()).to_owned();
            shown += &format!("\n    natively: {}\n    inside:   {}", word(one), word(two));
        }
    }
    shown
}

/// The names of a guest's cases that begin in one of these ways.
fn cases_of(path: &Path, group: &[&str]) -> Vec<String> {
    let mut list = Command::new(path);
    list.arg("--list");
    let names = run_quietly(list).success().stdout;
    names.lines().filter(|name| group.iter().any(|start| name.starts_with(start))).map(str::to_owned).collect()
}

/// Whether a case's name begins in one of these ways.
fn is_one_of(case: &str, starts: &[&str]) -> bool {
    starts.iter().any(|start| case.starts_with(start))
}

/// Runs a group of a guest's cases natively and inside, in every build, and fails with every line that differs.
#[track_caller]
fn compare(test: &str, guest: &str, group: &[&str]) {
    compare_builds(test, guest, group, &BUILDS);
}

/// As [`compare`], in these builds.
#[track_caller]
pub(crate) fn compare_builds(test: &str, guest: &str, group: &[&str], builds: &[Build]) {
    let mut wrong = String::new();
    for build in builds.iter().copied() {
        let changed: &[_] = match build {
            Build::Bits32 | Build::Bits32Static => CHANGED_32,
            Build::X32 | Build::X32Static => CHANGED_X32,
            _ if cfg!(target_arch = "aarch64") => CHANGED_ARM64,
            _ => &[],
        };
        let path = match guest_as(guest, build) {
            Ok(path) => path,
            Err(reason) if build == Build::Dynamic => panic!("the {guest} guest cannot be built: {reason}"),
            Err(reason) => {
                skip(&format!("{test} ({build:?})"), &reason);
                continue;
            }
        };
        let names = cases_of(&path, group);
        let cases: Vec<&str> = names
            .iter()
            .map(String::as_str)
            .filter(|name| !CHANGED.iter().chain(changed).any(|(changed, _)| changed == name))
            .filter(|name| build == Build::Dynamic || !DYNAMIC_ONLY.contains(name))
            .filter(|name| build != Build::Dynamic || !STATIC_ONLY.contains(name))
            .collect();
        assert!(!cases.is_empty(), "{guest} has no such cases");
        let mut native = observe(&path, None, &cases);
        for flags in PLACES {
            let mut inside = observe(&path, Some(flags), &cases);
            for case in cases.iter().chain([&"the guest"]) {
                // A busy machine delays signals, so that what comes first may differ. What stays different is wrong.
                for _ in 0..5 {
                    if native.get(*case) == inside.get(*case) || is_one_of(case, &RACES) || *case == "the guest" {
                        break;
                    }
                    native.extend(observe(&path, None, &[case]));
                    inside.extend(observe(&path, Some(flags), &[case]));
                }
                let none = Vec::new();
                let (one, two) = (native.get(*case).unwrap_or(&none), inside.get(*case).unwrap_or(&none));
                if one != two {
                    wrong += &format!("\n  {build:?} with {flags:?}: {case}{}", differences(one, two));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{guest} differs:{wrong}");
}

#[test]
fn every_case_belongs_to_a_group() {
    let path = guest("signals");
    let all = cases_of(&path, &[""]);
    let grouped: usize = GROUPS.iter().map(|group| cases_of(&path, group).len()).sum();
    assert_eq!(grouped, all.len(), "{all:?}");
}

#[test]
fn sigsys_belongs_to_the_program() {
    compare("sigsys_belongs_to_the_program", "signals", OF_SIGSYS);
}

#[test]
fn waits_are_interrupted_as_natively() {
    compare("waits_are_interrupted_as_natively", "signals", OF_WAITS);
}

#[test]
fn threads_are_canceled_and_signaled_as_natively() {
    compare("threads_are_canceled_and_signaled_as_natively", "signals", OF_THREADS);
}

#[test]
fn calls_leave_registers_and_small_stacks_alone() {
    compare("calls_leave_registers_and_small_stacks_alone", "signals", OF_STACKS);
}

#[test]
fn children_of_every_kind_keep_their_signals() {
    compare("children_of_every_kind_keep_their_signals", "signals", OF_PROCESSES);
}

#[test]
fn signals_of_32_bit_programs_are_as_natively() {
    let group = [OF_SIGSYS, OF_WAITS, OF_THREADS, OF_STACKS, OF_PROCESSES].concat();
    let builds = [Build::Bits32, Build::Bits32Static];
    compare_builds("signals_of_32_bit_programs_are_as_natively", "signals", &group, &builds);
}

#[test]
fn a_program_may_confine_itself() {
    compare("a_program_may_confine_itself", "sandbox", &[""]);
}

#[test]
fn small_stacks_that_grow_are_left_alone() {
    const TEST: &str = "small_stacks_that_grow_are_left_alone";
    let built = make_once("stacks-go", |to| {
        let mut command = Command::new("go");
        command.args(["build", "-o"]).arg(to).arg(sources().join("stacks.go")).env("GO111MODULE", "off");
        command
    });
    let path = match built {
        Ok(path) => path,
        Err(reason) => return skip(TEST, &reason),
    };
    assert_eq!(run_quietly(Command::new(&path)).success().stdout, "ok\n");
    for flags in PLACES {
        // What is written beyond a stack's end does not always hit something.
        for _ in 0..5 {
            let outcome = run_quietly(elsewhen(flags, &path));
            let errors: Vec<&str> = outcome.stderr.lines().take(4).collect();
            assert!(outcome.status.success() && outcome.stdout == "ok\n", "{flags:?}: {:?} {errors:?}", outcome.stdout);
        }
    }
}

#[test]
fn a_filter_under_which_no_handler_returns_is_refused_with_the_reason() {
    for case in ["few_or_kill", "few_or_error"] {
        let mut command = elsewhen(&["--offset", "1d"], guest("sandbox"));
        command.arg(case);
        let outcome = run_quietly(command).success();
        assert!(outcome.stderr.contains("it forbids rt_sigreturn"), "{outcome:?}");
        assert!(outcome.stdout.contains("exit 90"), "{outcome:?}");
    }
}
