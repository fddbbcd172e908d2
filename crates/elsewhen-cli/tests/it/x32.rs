//! Programs of the x32 interface, which few kernels have: Debian's where they are told to (`syscall.x32=y`).
//!
//! Where there is one, other tests have such programs among those that they start.

use crate::harness::*;
use crate::signals::{OF_PROCESSES, OF_SIGSYS, OF_STACKS, OF_THREADS, OF_WAITS, compare_builds};
use crate::waits;
use std::process::Command;

/// Whether x32 programs run here; says where not.
fn runs(test: &str) -> bool {
    match runs_x32() {
        Ok(true) => return true,
        Ok(false) => skip(test, "this kernel runs no x32 programs"),
        Err(reason) => skip(test, &reason),
    }
    false
}

#[test]
fn x32_programs_are_in_time() {
    if !runs("x32_programs_are_in_time") {
        return;
    }
    for build in [Build::X32, Build::X32Static] {
        let path = guest_as("clocks", build).unwrap();
        let (flags, shift) = (["--offset", "400d"], Shift::realtime(400 * DAY));
        let before = Host::now();
        let outcome = run_quietly(elsewhen(&flags, path)).success();
        shift.check(&format!("{build:?}"), &readings(&outcome.stdout), &before, &Host::now());
        assert_eq!(outcome.stderr, "", "{build:?}");
    }
    let outcome = run_quietly(elsewhen(&["--offset", "1d"], guest_as("x32", Build::X32Bare).unwrap())).success();
    assert_eq!((&*outcome.stdout, &*outcome.stderr), ("ran\n", ""));
}

#[test]
fn waits_of_x32_programs_follow_the_clocks() {
    const TEST: &str = "waits_of_x32_programs_follow_the_clocks";
    if runs(TEST) {
        waits::check(TEST, waits::c(Build::X32));
    }
}

#[test]
fn signals_of_x32_programs_are_as_natively() {
    const TEST: &str = "signals_of_x32_programs_are_as_natively";
    if runs(TEST) {
        let group = [OF_SIGSYS, OF_WAITS, OF_THREADS, OF_STACKS, OF_PROCESSES].concat();
        compare_builds(TEST, "signals", &group, &[Build::X32]);
    }
}

#[test]
fn trees_of_x32_and_other_programs_are_in_one_time() {
    if !runs("trees_of_x32_and_other_programs_are_in_one_time") {
        return;
    }
    let builds = [Build::X32, Build::Dynamic, Build::Bits32];
    let starters = builds.map(|build| guest_as("starter", build).unwrap());
    let folder = Folder::new("trees-x32");
    for way in ["execve", "fork", "vfork", "posix_spawn", "thread"] {
        for target in builds.map(|build| guest_as("seconds", build).unwrap()) {
            let chain: Vec<String> = starters.iter().map(|starter| format!("{} {way}", starter.display())).collect();
            let line = format!("#!/bin/sh\nexec {} {}\n", chain.join(" "), target.display());
            let script = folder.write("script", &line, 0o755);
            let before = Host::now();
            let outcome = run_quietly(elsewhen(&["--offset", "1d"], &script)).success();
            let seconds: i128 = outcome.stdout.split_whitespace().next().unwrap().parse().unwrap();
            let range = (before.of(0) + DAY) / SECOND..=(Host::now().of(0) + DAY) / SECOND;
            assert!(range.contains(&seconds), "{line}: {seconds}, not {range:?}");
        }
    }
}

#[test]
fn where_there_is_no_such_interface_the_kernel_says_so() {
    let Ok(path) = guest_as("x32", Build::X32Bare) else {
        return skip("where_there_is_no_such_interface_the_kernel_says_so", "no compiler for x32");
    };
    // A shell is asked, as for every file that the kernel does not know.
    let mut native = Command::new("env");
    native.arg(&path);
    let (native, inside) = (run_quietly(native), run_quietly(elsewhen(&["--offset", "1d"], &path)));
    assert_eq!((inside.code(), inside.stdout, inside.stderr), (native.code(), native.stdout, native.stderr));
}
