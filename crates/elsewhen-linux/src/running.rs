//! How a running process enters a namespace, leaves it, and changes its page.
//!
//! All threads are stopped, wherever they are. One of them is sent through a stub in the unused end of its vDSO into the
//! image, which takes over `SIGSYS`, loads the filter and changes the page; meanwhile the entries of the vDSO are
//! redirected. The page is one that changes nothing until the last step, which is one system call: before it the process
//! lives in the host's time, after it in the namespace's. If this process dies on the way, all threads go on, the one in
//! the stub finishes by itself, and the process has its clocks of one side or the other.
//!
//! Threads that a stop has interrupted in a wait make their call again, through the filter; so waits that had begun before
//! are translated too.

use crate::attach::{Destination, check_kind, terms};
use crate::enter::{Entrance, USER_CS_64, boot_bytes};
use crate::errand::{Run, finished, load_filter, put_errand};
use crate::error::{Error, Result, Step};
use crate::filter::Filter;
use crate::halt::{Halted, PATIENCE};
use crate::interrupted::{at_address, redirect, settle_others, settled};
use crate::page::{IMAGE_ADDRESS, STATE_ADDRESS, image_len};
use crate::redirect::{HostVdso, Patch, Terms};
use crate::remote::{Abi, AuxVector, RemoteAddr, RemoteMemory, Tid};
use crate::seccomp::{Call, Listener, Notification};
use crate::trace::Registers;
use crate::{attach_stub, clock};
use elsewhen_vdso::state::{
    BELONGS_TO_HOST, BLOCKED_MAX, BLOCKED_SLOTS, ERRAND_ANNOUNCE, ERRAND_ENTER, ERRAND_SWITCH, State, Timer, WIPED_SIZE,
};
use elsewhen_vdso::surface::{Reach, WORD_ATTACH};
use std::io;
use std::time::Duration;

/// In a signal mask.
pub(crate) const SIGSYS: u64 = 1 << 30;

pub(crate) fn state_word(memory: &RemoteMemory, offset: usize) -> Option<u64> {
    let mut word = [0; 8];
    memory.read(RemoteAddr(STATE_ADDRESS + offset as u64), &mut word).ok()?;
    Some(u64::from_le_bytes(word))
}

/// A process that is not a member yet becomes one.
///
/// `serve` is given the listener at which the process announces its calls, and whether it is on its way into the namespace.
/// It must begin to answer, as a supervisor does: a process that could not be entered still announces its executions,
/// and all of them are to be resumed.
///
/// # Errors
/// Where the process cannot be entered: the reason. Its clocks are the host's as before then.
pub fn enter(
    entrance: &Entrance,
    pid: u32,
    destination: Destination,
    serve: impl FnOnce(Listener, bool) -> io::Result<()> + Send,
) -> Result<()> {
    let patch = HostVdso::of_this_process()?.patch_running()?;
    check_kind(pid)?;
    check_filters(pid)?;
    // May take a process to find out: better now than while the target stands still.
    clock::vdso_makes_calls();
    in_thread(|| clean(&patch, pid))?;
    in_thread(|| {
        let mut halted = Halted::stop(pid)?;
        let memory = RemoteMemory::open(Tid(pid))?;
        let vdso = AuxVector::vdso_of(Tid(pid))?;
        check(&halted, &memory)?;
        patch.prepare(&memory, vdso)?;
        let mut session =
            Session { entrance, patch: &patch, memory: &memory, vdso, destination, worker: choose(&halted) };
        let (resumed, listener) = session.begin(&mut halted)?;
        let prepared = session.prepare(&listener, &mut halted, &resumed);
        serve(listener, prepared.is_ok()).step(|| "start the supervisor".into())?;
        let worker = &mut halted.threads[session.worker];
        let mask = worker.mask;
        let is_sent = prepared.is_ok();
        let entered = prepared.and_then(|()| finished(&memory, worker, &resumed, mask & !SIGSYS));
        if let Err(error) = entered {
            // Fails only where the process is gone.
            let _ = patch.restore(&memory, vdso);
            // What a filter catches must find `SIGSYS` unblocked.
            let is_filtered = terms(&memory).is_some_and(|terms| terms.filtered.is_some());
            if !is_filtered {
                for (at, halt) in halted.threads.iter().enumerate() {
                    if at != session.worker {
                        let _ = halt.set_mask(halt.mask);
                    } else if is_sent {
                        let _ = halt.set_mask(mask);
                    }
                }
            }
            return Err(error);
        }
        settle_others(&mut halted, session.worker, destination.paced);
        halted.release();
        Ok(())
    })
    .inspect_err(|_| in_thread(|| clean(&patch, pid)).unwrap_or(()))
}

/// Gives a process that could not be entered its vDSO back. What has been added stays where a filter does: as a mark that
/// this is no filter of the program's.
fn clean(patch: &Patch, pid: u32) -> Result<()> {
    let vdso = AuxVector::vdso_of(Tid(pid))?;
    if !patch.is_applied(&RemoteMemory::open(Tid(pid))?, vdso) {
        return Ok(());
    }
    for _ in 0..100 {
        let halted = Halted::stop(pid)?;
        let memory = RemoteMemory::open(Tid(pid))?;
        if !patch.is_applied(&memory, vdso) {
            return Ok(());
        }
        if halted.threads.iter().all(|halt| !patch.is_added(vdso, halt.registers.rip)) {
            patch.restore(&memory, vdso)?;
            return if has_filter(pid)? { Ok(()) } else { patch.remove(&memory, vdso) };
        }
        drop(halted);
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// A process on its way in.
struct Session<'a> {
    entrance: &'a Entrance,
    patch: &'a Patch,
    memory: &'a RemoteMemory,
    vdso: RemoteAddr,
    destination: Destination,
    /// The thread that does the work, by its place.
    worker: usize,
}

impl Session<'_> {
    /// Sends the worker into the stub, until it has loaded the filter that announces. Returns where it will go on and
    /// the listener.
    fn begin(&mut self, halted: &mut Halted) -> Result<(Registers, Listener)> {
        let pid = halted.pid();
        let worker = &mut halted.threads[self.worker];
        worker.leave_sequence(self.memory)?;
        let (registers, mask) = (worker.registers, worker.mask);
        let mut resumed = settled(worker, pid, self.destination.paced);
        resumed.rip = self.patch.moved(self.vdso, resumed.rip).unwrap_or(resumed.rip);
        let stub = self.patch.stub(self.vdso);
        let parameters = attach_stub::parameters(&resumed, mask, Filter::announcing().instructions(), stub);
        self.memory.write(stub.plus(attach_stub::at_parameters()), &parameters)?;
        let sent = worker.set_mask(u64::MAX).and_then(|()| worker.set_registers(at_address(registers, stub.0)));
        if let Err(error) = sent {
            let _ = worker.set_mask(mask);
            return Err(error);
        }
        let listener = load_filter(worker, pid);
        // Where it has none, it goes back by itself.
        worker.go_on()?;
        Ok((resumed, listener?))
    }

    /// Gives the process what it asks for, and prepares everything that is to be ready when the page changes.
    fn prepare(&mut self, listener: &Listener, halted: &mut Halted, resumed: &Registers) -> Result<()> {
        let pid = halted.pid();
        answer_image(listener, self.entrance)?;
        let notification = heard(listener)?;
        let prepared = match notification.call {
            Call::SetFs { base: WORD_ATTACH, extra: 1 } => self.place(halted, resumed),
            _ => Err(Error::refused(format!("process {pid} could not map the image or its state"))),
        };
        let told = prepared.and_then(|()| listener.succeed(&notification));
        told.map(drop).inspect_err(|_| refuse(listener, &notification))
    }

    /// Fills in the state and redirects the entries, while the page changes nothing.
    fn place(&self, halted: &mut Halted, resumed: &Registers) -> Result<()> {
        let terms = Terms { reach: self.destination.reach, filtered: None, belongs: BELONGS_TO_HOST };
        let boot = boot_bytes(self.patch.boot(self.vdso, &terms));
        let mask = halted.threads[self.worker].mask & !SIGSYS;
        put_errand(self.memory, ERRAND_ENTER, self.destination, 0, resumed, mask)?;
        note_blocked(self.memory, halted)?;
        note_timers(self.memory, halted.pid())?;
        // From here on the image stays, whatever becomes of this process.
        self.memory.write(RemoteAddr(STATE_ADDRESS + WIPED_SIZE as u64), &boot)?;
        strip_masks(halted, self.worker)?;
        redirect(self.patch, self.memory, self.vdso, halted, self.worker)
    }
}

/// A process that is, or was, a member changes to another namespace, or to none. Its supervisor must be there, but where it
/// changes to none.
///
/// # Errors
/// Where it cannot: the reason. It goes on as before then.
pub fn switch(entrance: &Entrance, pid: u32, destination: Destination) -> Result<()> {
    in_thread(|| {
        let mut errand = Run::begin(entrance.patch(), pid)?;
        let filtered = terms(&errand.memory).and_then(|terms| terms.filtered);
        let covered = |reach: Reach| reach.includes(destination.reach);
        let more = (destination.page.is_some() && !filtered.is_some_and(covered)).then_some(destination.reach);
        let leaves = destination.page.is_none();
        // Whoever let it enter died before that had a filter, or the handler.
        let kind = if filtered.is_none() && !leaves { ERRAND_ENTER } else { ERRAND_SWITCH };
        if !leaves {
            // The page that the process has changes nothing.
            errand.redirect()?;
        }
        if kind == ERRAND_ENTER {
            note_timers(&errand.memory, pid)?;
            strip_masks(&errand.halted, errand.worker)?;
        }
        let more = more.map_or(0, |reach| reach.to_bits() + 1);
        let result = errand.send(kind, destination, more).and_then(|()| errand.finish());
        if leaves == result.is_ok() {
            errand.patch.restore(&errand.memory, errand.vdso)?;
        }
        result?;
        settle_others(&mut errand.halted, errand.worker, destination.paced);
        errand.halted.release();
        Ok(())
    })
}

/// A process with the image, whose supervisor has died, announces its calls at a new listener. One whose vDSO has lost what
/// was added to it, as after a checkpoint, gets that again.
///
/// # Errors
/// Where it has a supervisor ([`is_busy`](Error::is_busy)), or cannot be stopped.
pub fn announce_anew(entrance: &Entrance, pid: u32) -> Result<Listener> {
    in_thread(|| {
        let mut errand = Run::begin(entrance.patch(), pid)?;
        let filter = Filter::announcing();
        let at = RemoteAddr(STATE_ADDRESS + State::ERRAND_FILTER as u64);
        let mut bytes = (filter.instructions().len() as u64).to_le_bytes().to_vec();
        bytes.extend(at.plus(16).0.to_le_bytes());
        bytes.extend(crate::filter::bytes(filter.instructions()));
        errand.memory.write(at, &bytes)?;
        errand.send(ERRAND_ANNOUNCE, Destination::HOST, attach_stub::FILTER_FLAGS)?;
        let loaded = load_filter(&mut errand.halted.threads[errand.worker], pid);
        let finished = errand.finish();
        let listener = loaded?;
        finished?;
        settle_others(&mut errand.halted, errand.worker, false);
        errand.halted.release();
        Ok(listener)
    })
}

/// Takes `SIGSYS` out of the masks of all threads but one.
pub(crate) fn strip_masks(halted: &Halted, worker: usize) -> Result<()> {
    let mut others = halted.threads.iter().enumerate().filter(|(at, halt)| *at != worker && halt.mask & SIGSYS != 0);
    others.try_for_each(|(_, halt)| halt.set_mask(halt.mask & !SIGSYS))
}

/// Runs a session in a thread of its own, with whose end the kernel ends what is left of the session.
fn in_thread<T: Send>(session: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let session = move || {
            // The target stands still: pauses are to be as short as they are asked for. Only an unknown option fails.
            let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
            session()
        };
        let thread = std::thread::Builder::new().name("elsewhen-attach".into()).spawn_scoped(scope, session);
        thread.step(|| "start a thread".into())?.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Refuses a process whose program cannot change its namespace while it runs.
///
/// # Errors
/// The reason.
pub(crate) fn check_program(pid: u32) -> Result<()> {
    // What may not be read is told where it is needed.
    if AuxVector::of(Tid(pid)).is_ok_and(|vector| vector.abi != Abi::Native) {
        return Err(Error::refused(format!(
            "process {pid} runs a 32-bit program (i386 or x32), which cannot change its namespace while it runs; start it with \
             `elsewhen run`"
        )));
    }
    Ok(())
}

/// Refuses a process that has a filter of its own. One that has been marked announces already: whoever let it enter died
/// on the way.
fn check_filters(pid: u32) -> Result<()> {
    if has_filter(pid)? && !crate::probe::is_patched(Tid(pid))? {
        return Err(Error::refused(format!(
            "process {pid} has a seccomp filter, which may forbid what entering it takes; start it with `elsewhen run`"
        )));
    }
    Ok(())
}

/// Whether a process is under a filter (`PR_GET_SECCOMP(2const)`), or may make a few calls only.
fn has_filter(pid: u32) -> Result<bool> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).step(|| format!("look at process {pid}"))?;
    let mode = status.lines().find_map(|line| line.strip_prefix("Seccomp:")).map(str::trim);
    Ok(mode.is_some_and(|mode| mode != "0"))
}

/// Refuses what cannot be entered, now that it stands still.
fn check(halted: &Halted, memory: &RemoteMemory) -> Result<()> {
    let pid = halted.pid();
    if halted.threads.iter().any(|halt| halt.registers.cs != USER_CS_64) {
        return Err(Error::refused(format!("process {pid} runs a 32-bit program")));
    }
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).step(|| format!("look at process {pid}"))?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    for line in maps.lines() {
        let Some((start, end)) = line.split_once(' ').and_then(|(range, _)| range.split_once('-')) else { continue };
        let (Some(start), Some(end)) = (number(start), number(end)) else { continue };
        if start < IMAGE_ADDRESS + image_len() && end > STATE_ADDRESS {
            return Err(Error::refused(format!(
                "process {pid} has mapped {start:#x} to {end:#x}, where a member's page and image go"
            )));
        }
    }
    // What is written to code must be allowed.
    let vdso = AuxVector::vdso_of(Tid(pid))?;
    let mut byte = [0];
    memory.read(vdso, &mut byte)?;
    memory.write(vdso, &byte)
}

/// The thread that does the work: the first, if it is there.
pub(crate) fn choose(halted: &Halted) -> usize {
    halted.threads.iter().position(|halt| halt.tid.0 == halted.pid()).unwrap_or(0)
}

/// The next announcement, which must come soon.
fn heard(listener: &Listener) -> Result<Notification> {
    listener
        .wait_for(PATIENCE)?
        .ok_or_else(|| Error::refused("the process ended, or does not go on, while it was being entered"))
}

/// Gives the process the image.
fn answer_image(listener: &Listener, entrance: &Entrance) -> Result<()> {
    let notification = heard(listener)?;
    let given = listener.give_file(&notification, entrance.image());
    given.map(drop).inspect_err(|_| refuse(listener, &notification))
}

/// Lets a thread that asks go back to where it was.
fn refuse(listener: &Listener, notification: &Notification) {
    // Fails only where it is gone.
    let _ = listener.fail(notification, libc::EPERM);
}

/// Remembers which threads block `SIGSYS`, as the program sees it.
fn note_blocked(memory: &RemoteMemory, halted: &Halted) -> Result<()> {
    let blocking = halted.threads.iter().filter(|halt| halt.mask & SIGSYS != 0);
    // More are forgotten, as the image forgets them.
    let bases: Vec<u64> = blocking
        .take(BLOCKED_MAX)
        .map(|halt| match halt.registers.fs_base {
            0 => u64::from(halt.tid.0) | 1 << 63,
            base => base,
        })
        .collect();
    let mut slots = [0_u16; BLOCKED_SLOTS];
    bases.iter().for_each(|base| slots[State::blocked_slot(*base)] += 1);
    let state = RemoteAddr(STATE_ADDRESS);
    let bytes: Vec<u8> = bases.iter().flat_map(|base| base.to_le_bytes()).collect();
    memory.write(state.plus(State::BLOCKED as u64), &bytes)?;
    let bytes: Vec<u8> = slots.iter().flat_map(|slot| slot.to_le_bytes()).collect();
    memory.write(state.plus(State::BLOCKED_SLOTS as u64), &bytes)?;
    memory.write(state.plus(State::BLOCKED_COUNT as u64), &(bases.len() as u32).to_le_bytes())
}

/// Remembers the timers of the process (`timer_create(2)`).
fn note_timers(memory: &RemoteMemory, pid: u32) -> Result<()> {
    // A kernel without CONFIG_CHECKPOINT_RESTORE does not tell; what is armed then stays as it is.
    let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/timers")) else { return Ok(()) };
    let timers = parse_timers(&text);
    if timers.len() > State::TIMERS_MAX {
        return Err(Error::refused(format!("process {pid} has {} timers", timers.len())));
    }
    let mut bytes: Vec<u8> = timers.iter().flat_map(|(id, clock)| Timer::found(*id, *clock)).collect();
    let state = RemoteAddr(STATE_ADDRESS);
    if state_word(memory, State::TIMERS_ARMED).is_some_and(|word| word as u32 != 0) {
        // Whoever has noted some before died on the way, and nobody has kept book since.
        bytes.resize(State::TIMERS_MAX * size_of::<Timer>(), 0);
    }
    memory.write(state.plus(State::TIMERS as u64), &bytes)?;
    memory.write(state.plus(State::TIMERS_ARMED as u64), &(timers.len() as u32).to_le_bytes())
}

/// Ids and clocks of `/proc/PID/timers`.
fn parse_timers(text: &str) -> Vec<(i32, i32)> {
    let mut timers = Vec::new();
    let mut id = None;
    for line in text.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        match key {
            "ID" => id = value.trim().parse().ok(),
            "ClockID" => timers.extend(id.take().zip(value.trim().parse().ok())),
            _ => {}
        }
    }
    timers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_word_about_timers_is_understood() {
        let text = "ID: 1\nsignal: 60/00007fff86e452a8\nnotify: signal/pid.2634\nClockID: 0\nID: 3\nsignal: 0/0\nnotify: none/pid.7\nClockID: 1\n";
        assert_eq!(parse_timers(text), [(1, 0), (3, 1)]);
    }
}
