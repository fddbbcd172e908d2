//! Errands: what a thread of a stopped process does in the image, and how it comes back.

use crate::attach::{self, Destination};
use crate::attach_stub;
use crate::enter::boot_bytes;
use crate::error::{Error, Result, Step};
use crate::halt::{Halt, Halted, PATIENCE};
use crate::interrupted::{at_address, interrupted_places, redirect, settled};
use crate::page::{IMAGE_ADDRESS, STATE_ADDRESS};
use crate::redirect::Patch;
use crate::remote::{AuxVector, RemoteAddr, RemoteMemory, Tid};
use crate::running::{SIGSYS, choose, state_word};
use crate::seccomp::Listener;
use crate::trace::Registers;
use elsewhen_vdso::image;
use elsewhen_vdso::state::{Errand, State, WIPED_SIZE, has_hosts_time};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use std::io;
use std::mem::offset_of;
use std::time::{Duration, Instant};

/// Offset of the word that says whether an errand is done.
const DONE: usize = offset_of!(State, wiped.errand.done);
/// It is, by the thread's own word.
const DONE_ALONE: u64 = 1;
/// It is, and the thread has been taken back.
const DONE_ATTENDED: u64 = 2;

/// A stopped process that has the image, one thread of which is sent on an errand there.
pub(crate) struct Run<'a> {
    pub(crate) patch: &'a Patch,
    pub(crate) halted: Halted,
    pub(crate) memory: RemoteMemory,
    pub(crate) vdso: RemoteAddr,
    pub(crate) worker: usize,
    /// What the thread goes on with: its registers and its mask.
    resumed: Option<(Registers, u64)>,
}

impl<'a> Run<'a> {
    pub(crate) fn begin(patch: &'a Patch, pid: u32) -> Result<Self> {
        let end = Instant::now() + PATIENCE;
        let halted = loop {
            let halted = Halted::stop(pid)?;
            if !halted.threads.iter().any(is_on_errand) {
                break halted;
            }
            if Instant::now() > end {
                return Err(Error::refused(format!("process {pid} does not come back from an errand")));
            }
            drop(halted);
            std::thread::sleep(Duration::from_micros(100));
        };
        let memory = RemoteMemory::open(Tid(pid))?;
        let vdso = AuxVector::vdso_of(Tid(pid))?;
        let Some(terms) = attach::terms(&memory) else {
            return Err(Error::refused(format!("process {pid} was not entered by this version of elsewhen")));
        };
        let worker = choose(&halted);
        let mut run = Self { patch, halted, memory, vdso, worker, resumed: None };
        if state_word(&run.memory, DONE) == Some(DONE_ALONE) {
            // Nobody took that thread back, and a signal may have interrupted it on its way.
            run.halted.threads.iter().try_for_each(|halt| take_back(&run.memory, halt))?;
        }
        if !patch.is_applied(&run.memory, vdso) {
            // It has got another vDSO since: of a kernel like this one, at another place perhaps.
            patch.prepare(&run.memory, vdso)?;
            let boot = boot_bytes(patch.boot(vdso, &terms));
            run.memory.write(RemoteAddr(STATE_ADDRESS + WIPED_SIZE as u64), &boot)?;
            if !has_hosts_time(terms.belongs) {
                run.redirect()?;
            }
        }
        Ok(run)
    }

    pub(crate) fn redirect(&mut self) -> Result<()> {
        redirect(self.patch, &self.memory, self.vdso, &mut self.halted, self.worker)
    }

    /// Puts the errand down and the thread at its beginning.
    pub(crate) fn send(&mut self, kind: u64, destination: Destination, extra: u64) -> Result<()> {
        let pid = self.halted.pid();
        let worker = &mut self.halted.threads[self.worker];
        worker.leave_sequence(&self.memory)?;
        let (registers, mask) = (worker.registers, worker.mask);
        let mut resumed = settled(worker, pid, false);
        resumed.rip = self.patch.moved(self.vdso, resumed.rip).unwrap_or(resumed.rip);
        put_errand(&self.memory, kind, destination, extra, &resumed, mask & !SIGSYS)?;
        self.resumed = Some((resumed, mask & !SIGSYS));
        worker.set_mask(u64::MAX)?;
        worker.set_registers(at_address(registers, IMAGE_ADDRESS + image::HOOK_REMOTE)).inspect_err(|_| {
            let _ = worker.set_mask(mask);
        })
    }

    /// Lets the thread do its errand.
    pub(crate) fn finish(&mut self) -> Result<()> {
        let worker = &mut self.halted.threads[self.worker];
        worker.go_on()?;
        match &self.resumed {
            Some((resumed, mask)) => finished(&self.memory, worker, resumed, *mask),
            None => Ok(()),
        }
    }
}

/// Whether a thread is on an errand, or on its way back from one.
fn is_on_errand(halt: &Halt) -> bool {
    let stack = STATE_ADDRESS..=STATE_ADDRESS + State::ERRAND_STACK as u64;
    in_errand_code(halt.registers.rip) || stack.contains(&halt.registers.rsp)
}

fn in_errand_code(rip: u64) -> bool {
    let start = IMAGE_ADDRESS + image::HOOK_REMOTE;
    (start..start + image::REMOTE_LEN).contains(&rip)
}

/// Follows the worker until it has loaded the filter, and takes a copy of its listener.
pub(crate) fn load_filter(worker: &mut Halt, pid: u32) -> Result<Listener> {
    let end = Instant::now() + PATIENCE;
    loop {
        let (number, result) = worker.next_call(end)?;
        // Without a filter it goes back to where it was.
        if number != libc::SYS_seccomp as u64 && number != libc::SYS_prctl as u64 {
            return Err(Error::refused(format!("process {pid} may load no filter")));
        }
        if number != libc::SYS_seccomp as u64 {
            continue;
        }
        if let Ok(fd) = i32::try_from(result)
            && fd >= 0
        {
            let raw = Pid::from_raw(pid as i32).ok_or_else(|| Error::refused(format!("{pid} is not a process id")))?;
            let pidfd = pidfd_open(raw, PidfdFlags::empty()).step(|| format!("refer to process {pid}"))?;
            let copy = pidfd_getfd(&pidfd, fd, PidfdGetfdFlags::empty());
            return Ok(Listener::new(copy.step(|| format!("take the listener of process {pid}"))?));
        }
        let error = io::Error::from_raw_os_error(result.wrapping_neg() as i32);
        match result.wrapping_neg() as i32 {
            // The stub tries again with less.
            libc::EINVAL | libc::EACCES => {}
            libc::EBUSY => {
                return Err(Error::new(
                    format!("process {pid} has a supervisor, or is under another seccomp listener"),
                    error,
                ));
            }
            _ => {
                return Err(Error::new(format!("load a filter in process {pid}"), error));
            }
        }
    }
}

pub(crate) fn put_errand(
    memory: &RemoteMemory,
    kind: u64,
    destination: Destination,
    extra: u64,
    registers: &Registers,
    mask: u64,
) -> Result<()> {
    let page = destination.page.unwrap_or(0);
    let mut words = vec![kind, destination.reach.to_bits(), extra, page, destination.belongs, 0, 0, mask];
    words.extend(attach_stub::words(registers));
    assert_eq!(8 * words.len(), size_of::<Errand>(), "an errand as the image reads it");
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    memory.write(RemoteAddr(STATE_ADDRESS + offset_of!(State, wiped.errand) as u64), &bytes)
}

/// Waits until the errand is done, takes the thread back, which is to go on with these registers and this mask, and
/// returns what it came to.
pub(crate) fn finished(memory: &RemoteMemory, worker: &mut Halt, resumed: &Registers, mask: u64) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(2);
    loop {
        match state_word(memory, DONE) {
            Some(DONE_ALONE) => break,
            Some(_) if Instant::now() < end => {}
            _ => return Err(Error::refused(format!("thread {} ended, or does not go on", worker.tid.0))),
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_micros(100));
    }
    worker.stop_again(end)?;
    if is_on_errand(worker) {
        worker.set_registers(*resumed)?;
        worker.set_mask(mask)?;
    } else {
        // It has been on its way back by itself already.
        take_back(memory, worker)?;
    }
    // Where this fails, the thread is only looked for once more.
    let _ = memory.write(RemoteAddr(STATE_ADDRESS + DONE as u64), &DONE_ATTENDED.to_le_bytes());
    let result = state_word(memory, offset_of!(State, wiped.errand.result)).unwrap_or(0) as i64;
    if result < 0 {
        let error = io::Error::from_raw_os_error(result.wrapping_neg() as i32);
        return Err(Error::new(format!("load the filter or map the page, in thread {}", worker.tid.0), error));
    }
    Ok(())
}

/// Gives a thread its registers back that a signal has interrupted on its way back from an errand: in the signal's frame.
fn take_back(memory: &RemoteMemory, halt: &Halt) -> Result<()> {
    /// Where the registers of an errand are in a frame, by words from r8 on.
    const PLACES: [u64; 18] = [7, 6, 5, 4, 10, 11, 3, 2, 1, 0, 13, 14, 12, 9, 8, 16, 17, 15];
    const RIP: u64 = 16;
    for place in interrupted_places(memory, halt, in_errand_code) {
        let first = place.0 - 8 * RIP;
        for (at, word) in PLACES.into_iter().enumerate() {
            let offset = offset_of!(State, wiped.errand.registers) + 8 * at;
            let value = state_word(memory, offset).unwrap_or(0);
            memory.write(RemoteAddr(first + 8 * word), &value.to_le_bytes())?;
        }
    }
    Ok(())
}
