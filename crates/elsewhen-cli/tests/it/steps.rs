//! What comes to a thread on its way into a wait finds it at any instruction: a guest steps through them all.

use crate::harness::*;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long all steps of one program may take.
const LIMIT: Duration = Duration::from_secs(600);

/// Any change can come.
const FLAGS: [&str; 2] = ["--adjustable", "--settable"];

/// The guest in these builds, in turn; says which cannot be built.
fn guests(test: &str, builds: &[Build], mut check: impl FnMut(Build, &Path)) {
    for build in builds {
        match guest_as("steps", *build) {
            Ok(path) => check(*build, &path),
            Err(reason) => skip(&format!("{test} ({build:?})"), &reason),
        }
    }
}

/// How many instructions the guest's thread executes. What comes after each of them must end it.
#[track_caller]
fn steps_of(build: Build, mut command: Command) -> u32 {
    // With all symbols bound, what is executed is the same every time.
    command.env("LD_BIND_NOW", "1").stdin(Stdio::null());
    let outcome = start_for(command, LIMIT).finish().success();
    let steps = outcome.stdout.strip_suffix(" steps, 0 wrong\n").and_then(|steps| steps.parse().ok());
    steps.unwrap_or_else(|| panic!("{build:?}: {outcome:?}"))
}

/// As [`steps_of`], in a namespace.
#[track_caller]
fn steps_inside(build: Build, path: &Path, way: &str) -> u32 {
    let mut command = elsewhen(&FLAGS, path);
    command.arg(way);
    steps_of(build, command)
}

#[test]
fn threads_are_canceled_wherever_they_are() {
    let builds = [Build::Dynamic, Build::MuslStatic, Build::Bits32];
    guests("threads_are_canceled_wherever_they_are", &builds, |build, path| {
        let native = steps_of(build, Command::new(path));
        let caught = steps_inside(build, path, "canceled");
        assert!(caught > native + 50, "{build:?}: {native} instructions natively and {caught} where calls are caught");
        let moved = steps_inside(build, path, "moved");
        assert!(moved > caught, "{build:?}: {caught} instructions, and {moved} where the clock is set");
    });
}

#[test]
fn changes_reach_threads_wherever_they_are() {
    guests("changes_reach_threads_wherever_they_are", &[Build::Dynamic, Build::Bits32], |build, path| {
        let steps = steps_inside(build, path, "overtaken");
        assert!(steps > 100, "{build:?}: only {steps} instructions");
    });
}
