//! `elsewhen doctor`.

use crate::args::Doctor;
use crate::{CANNOT_RUN, fail};
use elsewhen::doctor::{self, Finding};
use elsewhen_linux::clock;
use elsewhen_vdso::clock::ClockId;
use std::io::Write;
use std::process::ExitCode;

/// Prints what was found; fails with 126 where programs, this program or this process could not be entered.
pub(crate) fn run(arguments: &Doctor) -> ExitCode {
    let findings = match &arguments.target {
        None => host(),
        Some(target) => match target.parse() {
            Ok(pid) => match doctor::examine_process(pid) {
                Ok(findings) => findings,
                Err(error) => return fail(&format!("process {pid}: {error}")),
            },
            Err(_) => doctor::examine_program(target),
        },
    };
    let mut out = std::io::stdout().lock();
    for finding in &findings {
        // A reader that has gone has read enough.
        let _ = writeln!(out, "{finding}");
    }
    if doctor::is_refused(&findings) { ExitCode::from(CANNOT_RUN) } else { ExitCode::SUCCESS }
}

fn host() -> Vec<Finding> {
    let ourselves = std::env::current_exe().map(|path| path.display().to_string());
    doctor::examine_host(&[ourselves.as_deref().unwrap_or("/proc/self/exe"), "clocks"])
}

/// Prints realtime seconds as this process reads them: by the vDSO, and by a raw system call.
pub(crate) fn print_clocks() -> ExitCode {
    let by_vdso = clock::now_here(ClockId::Realtime).0 / 1_000_000_000;
    let by_call = clock::now_by_call(ClockId::Realtime).0 / 1_000_000_000;
    println!("{by_vdso} {by_call}");
    ExitCode::SUCCESS
}
