//! Counting the instructions of a call by single steps, which needs no counters of the processor. Mirrors `ptrace(2)`.

#![expect(unsafe_code, reason = "ptrace has no safe wrapper")]

use crate::Result;
use elsewhen_standalone::flavour;
use elsewhen_standalone::load::{self, PageFile, Vdso};
use std::io::{BufRead, BufReader, Write, stdout};
use std::process::{Command, Stdio};
use std::ptr::null_mut;
use std::sync::Arc;
use std::time::Duration;

/// More than any call of a vDSO takes, with what surrounds it.
const MOST: u32 = 100_000;

/// What a call executes.
#[derive(Clone, Copy)]
pub(crate) struct Steps {
    /// Instructions, in the image.
    pub(crate) instructions: u64,
    /// Of them, those that were not followed by the next one in memory.
    pub(crate) jumps: u64,
}

/// Counts a call of an image's `clock_gettime`, in a process of its own.
pub(crate) fn count(flavour: &str, member: bool, clock: u32) -> Result<Steps> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["stepped", flavour, &member.to_string(), &clock.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let pid = child.id() as libc::pid_t;
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
    let steps = follow(pid, &line);
    // It has been let go, or is to die.
    _ = child.kill();
    _ = child.wait();
    steps.map_err(|error| format!("count the steps of {flavour}: {error}").into())
}

fn follow(pid: libc::pid_t, line: &str) -> Result<Steps> {
    let (start, end) = line.trim().split_once(' ').ok_or("the process said nothing")?;
    let code = start.parse::<u64>()?..end.parse::<u64>()?;
    wait(pid)?;
    let (mut steps, mut last) = (Steps { instructions: 0, jumps: 0 }, None::<u64>);
    for _ in 0..MOST {
        // SAFETY: takes no pointers; the process is a child of ours that has asked to be traced, and stands.
        if unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, pid, null_mut::<u8>(), null_mut::<u8>()) } != 0 {
            return Err(std::io::Error::last_os_error().into());
        }
        wait(pid)?;
        let mut registers: libc::user_regs_struct = {
            // SAFETY: all zeros are a value of it.
            unsafe { std::mem::zeroed() }
        };
        // SAFETY: the pointer is to a place for the registers.
        let read = unsafe { libc::ptrace(libc::PTRACE_GETREGS, pid, null_mut::<u8>(), &raw mut registers) };
        if read != 0 {
            return Err(std::io::Error::last_os_error().into());
        }
        // Instructions are 15 bytes at most; none of an image jumps as little as that and skips nothing.
        if let Some(last) = last {
            let is_next = registers.rip > last && registers.rip - last <= 15;
            steps.jumps += u64::from(!is_next);
        }
        if code.contains(&registers.rip) {
            steps.instructions += 1;
            last = Some(registers.rip);
        } else if steps.instructions > 0 {
            return Ok(steps);
        }
    }
    Err("the process never came back from the image".into())
}

fn wait(pid: libc::pid_t) -> Result<()> {
    let mut status = 0;
    // SAFETY: the pointer is to a place for the status.
    if unsafe { libc::waitpid(pid, &raw mut status, 0) } != pid || !libc::WIFSTOPPED(status) {
        return Err("the process has ended".into());
    }
    Ok(())
}

/// The process whose steps are counted: says where its image is, stops, and reads a clock.
pub(crate) fn be_stepped(flavour: &str, member: bool, clock: u32) -> Result<()> {
    let page = Arc::new(PageFile::new()?);
    let vdso = Vdso::map(flavour::named(flavour).ok_or("no such flavour")?, &page)?;
    vdso.set_offset(clock, 1, 0)?;
    let mut timekeeper = super::calibrated(Duration::from_millis(20))?;
    // Its steps are slow; what it reads is not to become too old.
    timekeeper.publish(&[vdso.data()], load::ticks);
    if member {
        super::switch(&vdso, true)?;
    }
    vdso.clock_gettime(clock)?;
    writeln!(stdout(), "{} {}", vdso.code().start, vdso.code().end)?;
    // SAFETY: takes no pointers.
    unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, null_mut::<u8>(), null_mut::<u8>()) };
    // SAFETY: takes no pointers; the parent is told.
    unsafe { libc::raise(libc::SIGSTOP) };
    vdso.clock_gettime(clock)?;
    Ok(())
}
