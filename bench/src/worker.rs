//! The worker: this program again, inside the configuration that is measured. It answers one line with one line.
//!
//! | Request | Answer |
//! |---|---|
//! | `pin CPU` | `ok` |
//! | `now` | ticks, `CLOCK_MONOTONIC` and `CLOCK_REALTIME` in ns, as the worker sees them |
//! | `counters` | `ok`, or why cycles cannot be counted |
//! | `go CLOCK CALLS` | ticks, cycles and instructions; the latter 0 where they are not counted |
//! | `design MODE CLOCK CALLS` | ticks per call of the vDSO's `clock_gettime`, as `designs` measures them |
//! | `start PROGRAM TIMES` | ticks for starting the program and waiting for it, again and again |
//! | `missing PATH TIMES` | ticks for executing a path that does not exist, again and again |

#![expect(unsafe_code, reason = "execve has no safe wrapper that does nothing else")]

use crate::Result;
use crate::clocks::{self, Clock};
use crate::counter;
use crate::cycles::{Counted, Counters};
use crate::designs::measure::{self, Mode, Target};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::ffi::{CString, c_char};
use std::io::{BufRead, Write, stdin, stdout};
use std::process::Command;
use std::ptr;

/// Answers requests until standard input ends.
pub(crate) fn serve() -> Result<()> {
    let mut worker = Worker { counters: None };
    let mut answers = stdout().lock();
    for request in stdin().lock().lines() {
        let request = request?;
        let answer = worker.answer(&request.split(' ').collect::<Vec<_>>())?;
        writeln!(answers, "{answer}")?;
        answers.flush()?;
    }
    Ok(())
}

struct Worker {
    counters: Option<Counters>,
}

impl Worker {
    fn answer(&mut self, request: &[&str]) -> Result<String> {
        Ok(match *request {
            ["pin", cpu] => {
                let mut set = CpuSet::new();
                set.set(cpu.parse()?);
                sched_setaffinity(None, &set)?;
                "ok".to_owned()
            }
            ["now"] => {
                let ticks = counter::ticks();
                let (monotonic, realtime) =
                    (clocks::read_ns(libc::CLOCK_MONOTONIC), clocks::read_ns(libc::CLOCK_REALTIME));
                format!("{ticks} {monotonic} {realtime}")
            }
            ["counters"] => match Counters::open() {
                Ok(counters) => {
                    self.counters = Some(counters);
                    "ok".to_owned()
                }
                Err(error) => error.to_string(),
            },
            ["go", clock, calls] => {
                let clock = Clock::from_name(clock).ok_or("no such clock")?;
                self.read_clock(clock, calls.parse()?)?
            }
            ["design", mode, clock, calls] => {
                let target = Target::kernel()?;
                let mode = Mode::from_name(mode).ok_or("no such mode")?;
                measure::ticks(&target, mode, clock.parse()?, calls.parse()?).to_string()
            }
            ["start", program, times] => start(program, times.parse()?)?.to_string(),
            ["missing", path, times] => execute_missing(path, times.parse()?)?.to_string(),
            _ => return Err(format!("worker: no such request: {request:?}").into()),
        })
    }

    fn read_clock(&mut self, clock: Clock, calls: u32) -> Result<String> {
        let before = self.counted()?;
        let started = counter::ticks();
        clock.call(calls);
        let ticks = counter::ticks() - started;
        let after = self.counted()?;
        let (cycles, instructions) = (after.cycles - before.cycles, after.instructions - before.instructions);
        Ok(format!("{ticks} {cycles} {instructions}"))
    }

    fn counted(&mut self) -> Result<Counted> {
        Ok(self.counters.as_mut().map_or(Ok(Counted::default()), Counters::read)?)
    }
}

/// `posix_spawn(3)`, which is `vfork(2)` and `execve(2)`, and `waitid(2)`.
fn start(program: &str, times: u32) -> Result<u64> {
    let mut command = Command::new(program);
    let started = counter::ticks();
    for _ in 0..times {
        let status = command.status()?;
        if !status.success() {
            return Err(format!("worker: {program}: {status}").into());
        }
    }
    Ok(counter::ticks() - started)
}

fn execute_missing(path: &str, times: u32) -> Result<u64> {
    let path = CString::new(path)?;
    let arguments: [*const c_char; 2] = [path.as_ptr(), ptr::null()];
    let environment: [*const c_char; 1] = [ptr::null()];
    let started = counter::ticks();
    for _ in 0..times {
        // SAFETY: the path ends in a zero byte, and both lists end in a null pointer; all live as long as the call.
        unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    }
    let elapsed = counter::ticks() - started;
    match std::io::Error::last_os_error().raw_os_error() {
        Some(libc::ENOENT) => Ok(elapsed),
        error => Err(format!("worker: execve failed with {error:?} instead of ENOENT").into()),
    }
}
