//! Entering a new program: placing page, image and redirected entries before it reads its first clock.
//!
//! On x86, at the call that sets up its thread-local storage (`arch_prctl`, `set_thread_area` for 32-bit programs) a program is single-threaded, handles no signal, and waits
//! in the kernel. The code at its return address is replaced by a jump into the stub, which maps the
//! page and the image, puts that code right again, makes the call, and returns. Nothing is traced, so it works
//! under a debugger as well.
//!
//! A program that may never make that call, and every program on arm64, is stopped by [`trace`](crate::trace) at its first
//! instruction and sent through the same stub.

use crate::error::{Error, Result};
use crate::page::image_file;
#[cfg(target_arch = "x86_64")]
use crate::redirect::{Found, Known};
use crate::redirect::{HostVdso, Patch, Terms};
#[cfg(target_arch = "x86_64")]
use crate::redirect32::Patch32;
#[cfg(target_arch = "x86_64")]
use crate::remote::Abi;
use crate::remote::{AuxVector, RemoteAddr, RemoteMemory, Tid};
#[cfg(target_arch = "x86_64")]
use crate::seccomp::Call;
use crate::seccomp::{Listener, Notification};
#[cfg(target_arch = "x86_64")]
use crate::sites::Sites;
use crate::stub::{self, Parameters};
#[cfg(target_arch = "x86_64")]
use crate::stub::{Caught, FAR_JUMP_LEN, USER_CS_32};
use crate::trace::{Event, Running, Stopped};
use elsewhen_vdso::state::Boot;
#[cfg(target_arch = "x86_64")]
use elsewhen_vdso::state::has_hosts_time;
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
#[cfg(target_arch = "x86_64")]
use std::sync::Arc;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// "Give me the descriptors", said by a process entered at its first instruction.
pub(crate) const WORD_REQUEST: u64 = 0xe15e_0001_0000_0001;

/// "This step failed", with the kernel's answer as the extra word.
pub(crate) const WORD_FAILED: u64 = 0xe15e_0001_0000_0002;

/// With what the stub ends its process where nobody answers: our own failure.
pub(crate) const EXIT_STATUS: u32 = 125;

/// As the image reads it.
pub(crate) fn boot_bytes(boot: Boot) -> [u8; size_of::<Boot>()] {
    let Boot { vdso_start, vdso_end, host_clock, fsgsbase, reach, belongs, filtered, abi, vdso_calls } = boot;
    let mut bytes = [0; size_of::<Boot>()];
    let words = [vdso_start, vdso_end, host_clock, fsgsbase, reach, belongs, filtered, abi, vdso_calls];
    for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// Everything that entering programs of one namespace needs.
#[derive(Debug)]
pub struct Entrance {
    patch: Patch,
    #[cfg(target_arch = "x86_64")]
    patch_32: Known<Patch32>,
    #[cfg(target_arch = "x86_64")]
    patch_x32: Known<Patch>,
    image: File,
    #[cfg(target_arch = "x86_64")]
    sites: Sites,
    /// Programs left in the stub at their first instruction, until they ask for descriptors.
    starting: Mutex<HashMap<Tid, Starting>>,
}

/// A program left in the stub.
#[derive(Debug)]
struct Starting {
    /// Its first instruction.
    resume_at: RemoteAddr,
    /// What has been written into its vDSO, of a program of another kind than this one.
    #[cfg(target_arch = "x86_64")]
    other: Option<Other>,
}

/// What is written into the vDSO of a program of another kind than this one.
#[cfg(target_arch = "x86_64")]
#[derive(Debug)]
enum Other {
    I386(Arc<Patch32>),
    X32(Arc<Patch>),
}

/// What a starting program becomes a member of.
#[derive(Clone, Copy, Debug)]
pub struct Into<'a> {
    /// The page's file, which the program is given.
    pub page: BorrowedFd<'a>,
    /// What its image is told.
    pub terms: Terms,
}

/// What an announcement of a starting program led to.
#[derive(Debug)]
pub enum Progress {
    /// The program goes on: it is a member, or on its way to being one, or gone.
    Going,
    /// The program could not be entered and has been killed; the reason.
    Killed(Error),
}

impl Entrance {
    /// Prepares for the kernel's vDSO of this process, and for what the namespace can do.
    ///
    /// # Errors
    /// Where the vDSO cannot be redirected, or the kernel refuses memory files.
    pub fn new() -> Result<Self> {
        let patch = HostVdso::of_this_process()?.patch()?;
        Ok(Self {
            patch,
            #[cfg(target_arch = "x86_64")]
            patch_32: Known::default(),
            #[cfg(target_arch = "x86_64")]
            patch_x32: Known::default(),
            image: image_file()?,
            #[cfg(target_arch = "x86_64")]
            sites: Sites::default(),
            starting: Mutex::default(),
        })
    }

    /// What is written into the vDSO of programs.
    pub(crate) const fn patch(&self) -> &Patch {
        &self.patch
    }

    /// The image's file.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn image(&self) -> BorrowedFd<'_> {
        self.image.as_fd()
    }

    /// Acts on `arch_prctl(ARCH_SET_FS)`, or `set_thread_area`: a program at its start, or its stub. Answers the call.
    ///
    /// # Errors
    /// Where the listener itself fails; what goes wrong with the program is told as [`Progress::Killed`].
    pub fn advance(
        &self,
        listener: &Listener,
        notification: &Notification,
        base: u64,
        extra: u64,
        into: Into<'_>,
    ) -> Result<Progress> {
        let step = match base {
            WORD_REQUEST => self.give(listener, notification, into),
            WORD_FAILED => Err(Error::new(
                "map the page and the image",
                std::io::Error::from_raw_os_error((extra as i64).wrapping_neg() as i32),
            )),
            #[cfg(target_arch = "x86_64")]
            _ => self.catch(listener, notification, into),
            // Nobody else makes the call; the kernel has no such call.
            #[cfg(target_arch = "aarch64")]
            _ => Ok(Answer::Resume),
        };
        let answer = match step {
            Ok(Answer::Resume) => listener.resume(notification),
            Ok(Answer::Succeed) => listener.succeed(notification),
            // A thread that died meanwhile is nobody's failure.
            Err(_) if !listener.is_waiting(notification) => return Ok(Progress::Going),
            Err(error) => {
                self.starting().remove(&notification.tid);
                // The thread waits in its call, so the id is its own.
                kill(notification.tid);
                listener.fail(notification, libc::EPERM)?;
                return Ok(Progress::Killed(error));
            }
        };
        answer.map(|_| Progress::Going)
    }

    /// A program sets up thread-local storage.
    #[cfg(target_arch = "x86_64")]
    fn catch(&self, listener: &Listener, notification: &Notification, into: Into<'_>) -> Result<Answer> {
        let tid = notification.tid;
        let memory = RemoteMemory::open(tid)?;
        let (abi, vdso) = AuxVector::of_with_vdso(tid)?;
        if !listener.is_waiting(notification) {
            return Ok(Answer::Resume);
        }
        match (abi, notification.call) {
            (Abi::I386, Call::SetThreadArea) => return self.catch_32(listener, notification, &memory, vdso, into),
            // What a program does through the interface that is not its own says nothing of how far it is.
            (Abi::I386, _) | (_, Call::SetThreadArea) => return Ok(Answer::Resume),
            (Abi::X32, _) => {
                return match self.patch_x32.look(&memory, vdso)? {
                    Found::Original(patch) => self.catch_64(listener, notification, &memory, (&patch, vdso), into),
                    Found::Applied => Ok(Answer::Resume),
                };
            }
            (Abi::Native, _) => {}
        }
        if self.patch.is_applied(&memory, vdso) {
            // Entered at its first instruction, its C library is there now; or it sets its FS base once more.
            let (rest, room) = self.patch.rest(vdso);
            let mut first = [0];
            if threads(tid) == 1 && memory.read(rest, &mut first).is_ok() && first == [0] {
                self.sites.redirect(&memory, rest, room)?;
            }
            return Ok(Answer::Resume);
        }
        let answer = self.catch_64(listener, notification, &memory, (&self.patch, vdso), into)?;
        if matches!(answer, Answer::Succeed) {
            let (rest, room) = self.patch.rest(vdso);
            self.sites.redirect(&memory, rest, room)?;
        }
        Ok(answer)
    }

    /// A program of 64-bit code sets up thread-local storage, which has a vDSO there that a patch is for.
    #[cfg(target_arch = "x86_64")]
    fn catch_64(
        &self,
        listener: &Listener,
        notification: &Notification,
        memory: &RemoteMemory,
        (patch, vdso): (&Patch, RemoteAddr),
        into: Into<'_>,
    ) -> Result<Answer> {
        let tid = notification.tid;
        if threads(tid) > 1 {
            return Err(Error::refused(format!("process {} has several threads already", tid.0)));
        }
        let resume_at = RemoteAddr(notification.return_address);
        let mut displaced = [0; FAR_JUMP_LEN];
        memory.read(resume_at, &mut displaced)?;
        patch.prepare(memory, vdso)?;
        let Some((page_fd, image_fd)) = self.descriptors(listener, notification, into.page)? else {
            return Ok(Answer::Resume);
        };
        let Some(memory_fd) = listener.give(notification, memory.as_fd())? else { return Ok(Answer::Resume) };
        let boot = patch.boot(vdso, &into.terms);
        let parameters =
            Parameters { page_fd, image_fd, resume_at, boot, caught: Some(Caught { memory_fd, displaced }) };
        place(memory, patch.stub(vdso), parameters)?;
        if !has_hosts_time(into.terms.belongs) {
            patch.redirect(memory, vdso)?;
        }
        memory.write(resume_at, &stub::far_jump(patch.stub(vdso).plus(stub::at_map())))?;
        Ok(Answer::Succeed)
    }

    /// A 32-bit program sets up thread-local storage.
    #[cfg(target_arch = "x86_64")]
    fn catch_32(
        &self,
        listener: &Listener,
        notification: &Notification,
        memory: &RemoteMemory,
        vdso: RemoteAddr,
        into: Into<'_>,
    ) -> Result<Answer> {
        let tid = notification.tid;
        let patch = match self.patch_32.look(memory, vdso)? {
            Found::Original(patch) => patch,
            Found::Applied => return Ok(Answer::Resume),
        };
        if threads(tid) > 1 {
            return Err(Error::refused(format!("process {} has several threads already", tid.0)));
        }
        patch.prepare(memory, vdso)?;
        let Some((page_fd, image_fd)) = self.descriptors(listener, notification, into.page)? else {
            return Ok(Answer::Resume);
        };
        let Some(memory_fd) = listener.give(notification, memory.as_fd())? else { return Ok(Answer::Resume) };
        // Often in the vDSO itself, behind the instruction for fast system calls.
        let resume_at = RemoteAddr(notification.return_address);
        let mut displaced = [0; FAR_JUMP_LEN];
        memory.read(resume_at, &mut displaced)?;
        let boot = patch.boot(vdso, &into.terms);
        let parameters =
            Parameters { page_fd, image_fd, resume_at, boot, caught: Some(Caught { memory_fd, displaced }) };
        let stub = patch.stub(vdso);
        memory.write(stub.plus(stub::at_parameters()), &parameters.to_bytes_32(stub))?;
        memory.write(resume_at, &stub::mode_jump(stub.plus(stub::at_map_32())))?;
        Ok(Answer::Succeed)
    }

    /// A program left at its first instruction asks for the descriptors.
    fn give(&self, listener: &Listener, notification: &Notification, into: Into<'_>) -> Result<Answer> {
        let tid = notification.tid;
        let Some(starting) = self.starting().remove(&tid) else {
            return Err(Error::refused(format!("process {} asked for a namespace out of turn", tid.0)));
        };
        let memory = RemoteMemory::open(tid)?;
        let vdso = AuxVector::vdso_of(tid)?;
        if !listener.is_waiting(notification) {
            return Ok(Answer::Resume);
        }
        let Some((page_fd, image_fd)) = self.descriptors(listener, notification, into.page)? else {
            return Ok(Answer::Resume);
        };
        let resume_at = starting.resume_at;
        #[cfg(target_arch = "x86_64")]
        let patch = match &starting.other {
            Some(Other::I386(patch)) => {
                let boot = patch.boot(vdso, &into.terms);
                let parameters = Parameters { page_fd, image_fd, resume_at, boot, caught: None };
                let stub = patch.stub(vdso);
                memory.write(stub.plus(stub::at_parameters()), &parameters.to_bytes_32(stub))?;
                return Ok(Answer::Succeed);
            }
            Some(Other::X32(patch)) => patch,
            None => &self.patch,
        };
        #[cfg(target_arch = "aarch64")]
        let patch = &self.patch;
        let parameters = Parameters {
            page_fd,
            image_fd,
            resume_at,
            boot: patch.boot(vdso, &into.terms),
            #[cfg(target_arch = "x86_64")]
            caught: None,
        };
        place(&memory, patch.stub(vdso), parameters)?;
        Ok(Answer::Succeed)
    }

    /// Places the page's and the image's descriptors in the waiting process.
    fn descriptors(
        &self,
        listener: &Listener,
        notification: &Notification,
        page: BorrowedFd<'_>,
    ) -> Result<Option<(i32, i32)>> {
        let Some(page) = listener.give(notification, page)? else { return Ok(None) };
        let Some(image) = listener.give(notification, self.image.as_fd())? else { return Ok(None) };
        Ok(Some((page, image)))
    }

    /// Lets an announced execution go on under trace and leaves the new program in the stub.
    ///
    /// Blocks until the execution has succeeded or failed; one that failed leaves everything as it was. All calls for one listener must come from one thread.
    /// `before_release` is called when the session is over but its thread has not gone on yet.
    ///
    /// # Errors
    /// Before the execution: where the thread cannot be traced, and the call is still unanswered. After it: the
    /// program could not be entered and has been killed; [`Failed::AfterExec`] tells them apart.
    pub fn enter_traced(
        &self,
        listener: &Listener,
        notification: &Notification,
        redirected: bool,
        before_release: impl FnOnce(),
    ) -> std::result::Result<(), Failed> {
        let thread = Running::seize(notification.tid).map_err(Failed::BeforeExec)?;
        listener.resume(notification).map_err(Failed::Listener)?;
        // A failing execution returns to user mode, where this stops it.
        thread.interrupt();
        match thread.wait() {
            Event::Gone => Ok(()),
            Event::Stopped(stopped, signal) => {
                before_release();
                stopped.detach(signal);
                Ok(())
            }
            Event::Exec(stopped) => match self.leave_in_stub(&stopped, redirected) {
                Ok(()) => {
                    before_release();
                    stopped.detach(0);
                    Ok(())
                }
                Err(error) => {
                    kill(stopped.tid());
                    stopped.detach(0);
                    Err(Failed::AfterExec(error))
                }
            },
        }
    }

    #[cfg(target_arch = "aarch64")]
    fn leave_in_stub(&self, stopped: &Stopped, redirected: bool) -> Result<()> {
        let tid = stopped.tid();
        let mut registers = stopped.registers()?;
        let vdso = AuxVector::vdso_of(tid)?;
        let memory = RemoteMemory::open(tid)?;
        self.patch.prepare(&memory, vdso)?;
        if redirected {
            self.patch.redirect(&memory, vdso)?;
        }
        self.starting().insert(tid, Starting { resume_at: RemoteAddr(registers.pc) });
        registers.pc = self.patch.stub(vdso).plus(stub::AT_REQUEST).0;
        stopped.set_registers(&registers)
    }

    #[cfg(target_arch = "x86_64")]
    fn leave_in_stub(&self, stopped: &Stopped, redirected: bool) -> Result<()> {
        let tid = stopped.tid();
        let mut registers = stopped.registers()?;
        let (abi, vdso) = AuxVector::of_with_vdso(tid)?;
        let memory = RemoteMemory::open(tid)?;
        let resume_at = RemoteAddr(registers.rip);
        let not_the_kernels = || Error::refused(format!("the vDSO of process {} is not the kernel's", tid.0));
        let (stub, other) = match (abi, registers.cs) {
            (Abi::Native, USER_CS_64) => {
                self.patch.prepare(&memory, vdso)?;
                if redirected {
                    self.patch.redirect(&memory, vdso)?;
                }
                (self.patch.stub(vdso), None)
            }
            (Abi::I386, USER_CS_32) => {
                let Found::Original(patch) = self.patch_32.look(&memory, vdso)? else { return Err(not_the_kernels()) };
                // Where its namespace is the host's, the page changes nothing.
                patch.prepare(&memory, vdso)?;
                (patch.stub(vdso), Some(Other::I386(patch)))
            }
            (Abi::X32, USER_CS_64) => {
                let Found::Original(patch) = self.patch_x32.look(&memory, vdso)? else { return Err(not_the_kernels()) };
                patch.prepare(&memory, vdso)?;
                if redirected {
                    patch.redirect(&memory, vdso)?;
                }
                (patch.stub(vdso), Some(Other::X32(patch)))
            }
            _ => return Err(Error::refused(format!("process {} runs a program of an unknown kind", tid.0))),
        };
        self.starting().insert(tid, Starting { resume_at, other });
        registers.cs = USER_CS_64;
        registers.rip = stub.plus(stub::AT_REQUEST).0;
        // No system call is to be restarted at the new address.
        registers.orig_rax = u64::MAX;
        stopped.set_registers(&registers)
    }

    fn starting(&self) -> MutexGuard<'_, HashMap<Tid, Starting>> {
        self.starting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why an execution under trace failed.
#[derive(Debug)]
pub enum Failed {
    /// The call has not been answered: it can still be refused.
    BeforeExec(Error),
    /// The listener failed.
    Listener(Error),
    /// The new program has been killed.
    AfterExec(Error),
}

/// How to answer an announced call.
enum Answer {
    Resume,
    Succeed,
}

/// `__USER_CS`.
#[cfg(target_arch = "x86_64")]
pub(crate) const USER_CS_64: u64 = 0x33;

/// How many threads the process has; 1 where that cannot be told, as for one that is gone.
#[cfg(target_arch = "x86_64")]
fn threads(tid: Tid) -> u64 {
    std::fs::metadata(format!("/proc/{}/task", tid.0))
        .map_or(1, |folder| std::os::unix::fs::MetadataExt::nlink(&folder).saturating_sub(2))
}

/// Writes the stub's parameters.
fn place(memory: &RemoteMemory, stub: RemoteAddr, parameters: Parameters) -> Result<()> {
    memory.write(stub.plus(stub::at_parameters()), &parameters.to_bytes())
}

fn kill(tid: Tid) {
    if let Some(pid) = i32::try_from(tid.0).ok().and_then(rustix::process::Pid::from_raw) {
        // Fails only where the process is gone, which is what was wanted.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}
