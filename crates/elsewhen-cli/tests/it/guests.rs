//! Every kind of program reads its namespace's clocks.

use crate::harness::*;
use std::process::Command;

const BUILDS: [Build; 6] =
    [Build::Dynamic, Build::NoPie, Build::Static, Build::StaticPie, Build::MuslStatic, Build::MuslDynamic];

/// Runs `each` with the clocks guest in every build that can be had.
fn with_every_build(test: &str, each: impl Fn(&str, Command, &dyn Fn(&[&str]) -> Command)) {
    for build in BUILDS {
        match guest_as("clocks", build) {
            Ok(path) => each(&format!("{build:?}"), Command::new(&path), &|flags| elsewhen(flags, &path)),
            Err(reason) => skip(&format!("{test} ({build:?})"), &reason),
        }
    }
}

/// Runs the clocks guest in every build with `flags`, and compares.
fn check_shift(test: &str, flags: &[&str], shift: Shift) {
    with_every_build(test, |shown, _, inside| {
        let before = Host::now();
        let outcome = run_quietly(inside(flags)).success();
        shift.check(shown, &readings(&outcome.stdout), &before, &Host::now());
        assert_eq!(outcome.stderr, "", "{shown}");
    });
}

#[test]
fn an_offset_moves_realtime_alone() {
    check_shift("an_offset_moves_realtime_alone", &["--offset", "400d"], Shift::realtime(400 * DAY));
}
