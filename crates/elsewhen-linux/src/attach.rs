//! Entering a running process, leaving it, and changing its page: `setns(2)` without `execve(2)`.
//!
//! All threads are stopped, wherever they are. One of them is sent through a stub in the unused end of its vDSO into the
//! image, which takes over `SIGSYS`, loads the filter and changes the page; meanwhile the entries of the vDSO are
//! redirected. The page is one that changes nothing until the last step, which is one system call: before it the process
//! lives in the host's time, after it in the namespace's. If this process dies on the way, all threads go on, the one in
//! the stub finishes by itself, and the process has its clocks of one side or the other.
//!
//! Threads that a stop has interrupted in a wait make their call again, through the filter; so waits that had begun before
//! are translated too.

use crate::attach_stub;
use crate::enter::Entrance;
use crate::error::{Error, Result, Step};
use crate::filter::Filter;
use crate::halt::{Halt, Halted, from_the_beginning};
use crate::page::{IMAGE_ADDRESS, PAGE_ADDRESS, STATE_ADDRESS, image_len};
use crate::redirect::{HostVdso, Patch, Terms};
use crate::remote::{AuxVector, RemoteAddr, RemoteMemory, Tid};
use crate::seccomp::{Call, Listener};
use crate::stub::boot_bytes;
use crate::trace::Registers;
use elsewhen_vdso::image;
use elsewhen_vdso::page::PAGE_SIZE;
use elsewhen_vdso::state::{
    BELONGS_TO_HOST, BELONGS_TO_TREE, ERRAND_ANNOUNCE, ERRAND_ENTER, ERRAND_SWITCH, Errand, FILTERED, State, Timer,
    WIPED_SIZE,
};
use elsewhen_vdso::surface::{Reach, WORD_ATTACH};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use std::io;
use std::mem::offset_of;
use std::time::{Duration, Instant};

/// How long a step of a process that is being entered is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

const SIGSYS: u64 = 1 << 30;
const NO_SYSTEM_CALL: u64 = u64::MAX;

const ERESTARTSYS: i64 = -512;
const ERESTARTNOINTR: i64 = -513;
const ERESTARTNOHAND: i64 = -514;
const ERESTART_RESTARTBLOCK: i64 = -516;

/// Which namespace a process changes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// What its supervisor finds the page by: 1 for the one of its tree, else an inode; `None` for none.
    pub page: Option<u64>,
    /// What that namespace can do.
    pub reach: Reach,
    /// `BELONGS_*` of the state.
    pub belongs: u64,
    /// Whether durations run at another pace there than where the process comes from.
    pub paced: bool,
}

/// What is known of a process with regard to namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// It has never been in one, or whoever let it enter died before it had the image.
    Never,
    /// It is in the host's time: it has left one, or whoever let it enter died on the way. The image is there, and
    /// filters that change nothing.
    Left,
    /// It is in one.
    Member,
}

/// Looks at a process.
///
/// # Errors
/// Where it is gone, or its memory may not be read.
pub fn membership(pid: u32) -> Result<Membership> {
    let memory = RemoteMemory::open(Tid(pid))?;
    Ok(match terms(&memory).map(|terms| terms.belongs) {
        Some(BELONGS_TO_HOST) => Membership::Left,
        Some(_) => Membership::Member,
        None => Membership::Never,
    })
}

/// What the state of a process says of its namespace; `None` where it has none.
pub fn terms(memory: &RemoteMemory) -> Option<Terms> {
    // A program may have something else at that address; it is the state where the image is.
    let mut head = [0; 64];
    memory.read(RemoteAddr(IMAGE_ADDRESS), &mut head).ok()?;
    if !image::X86_64.starts_with(&head) {
        return None;
    }
    let filtered = state_word(memory, offset_of!(State, filtered))?;
    Some(Terms {
        reach: Reach::from_bits(state_word(memory, offset_of!(State, reach))?),
        filtered: (filtered & FILTERED != 0).then(|| Reach::from_bits(filtered)),
        belongs: state_word(memory, offset_of!(State, belongs))?,
    })
}

fn state_word(memory: &RemoteMemory, offset: usize) -> Option<u64> {
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
    in_thread(|| clean(&patch, pid))?;
    in_thread(|| {
        let mut halted = Halted::stop(pid)?;
        let memory = RemoteMemory::open(Tid(pid))?;
        let vdso = vdso_of(pid)?;
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
            for (at, halt) in halted.threads.iter().enumerate() {
                if at != session.worker {
                    let _ = halt.set_mask(halt.mask);
                } else if is_sent {
                    let _ = halt.set_mask(mask);
                }
            }
            return Err(error);
        }
        settle_others(&mut halted, session.worker, destination.paced);
        halted.release();
        Ok(())
    })
    // The session has ended, and with it every trace.
    .inspect_err(|_| in_thread(|| clean(&patch, pid)).unwrap_or(()))
}

/// Removes what has been added to the vDSO of a process that could not be entered.
fn clean(patch: &Patch, pid: u32) -> Result<()> {
    let vdso = vdso_of(pid)?;
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
            return patch.remove(&memory, vdso);
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
        match &prepared {
            Ok(()) => listener.succeed(&notification)?,
            Err(_) => listener.fail(&notification, libc::EPERM)?,
        };
        prepared
    }

    /// Fills in the state and redirects the entries, while the page changes nothing.
    fn place(&self, halted: &mut Halted, resumed: &Registers) -> Result<()> {
        let terms = Terms { reach: self.destination.reach, filtered: None, belongs: BELONGS_TO_HOST };
        let boot = self.patch.boot(self.vdso, &terms);
        self.memory.write(RemoteAddr(STATE_ADDRESS + WIPED_SIZE as u64), &boot_bytes(boot))?;
        let mask = halted.threads[self.worker].mask & !SIGSYS;
        put_errand(self.memory, ERRAND_ENTER, self.destination, 0, resumed, mask)?;
        note_blocked(self.memory, halted)?;
        note_timers(self.memory, halted.pid())?;
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
        let covered = |reach: Reach| reach.to_bits() & destination.reach.to_bits() == destination.reach.to_bits();
        let more = (destination.page.is_some() && !filtered.is_some_and(covered)).then_some(destination.reach);
        let leaves = destination.page.is_none();
        // Whoever let it enter died before that had a filter, or the handler.
        let kind = if filtered.is_none() && !leaves { ERRAND_ENTER } else { ERRAND_SWITCH };
        if !leaves {
            // The page that the process has changes nothing.
            errand.redirect()?;
        }
        if kind == ERRAND_ENTER {
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
        let listener = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER
            | libc::SECCOMP_FILTER_FLAG_TSYNC
            | libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH
            | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
        errand.send(ERRAND_ANNOUNCE, Destination::HOST, listener)?;
        let loaded = load_filter(&mut errand.halted.threads[errand.worker], pid);
        let finished = errand.finish();
        let listener = loaded?;
        finished?;
        settle_others(&mut errand.halted, errand.worker, false);
        errand.halted.release();
        Ok(listener)
    })
}

/// A stopped process that has the image, one thread of which is sent on an errand there.
struct Run<'a> {
    patch: &'a Patch,
    halted: Halted,
    memory: RemoteMemory,
    vdso: RemoteAddr,
    worker: usize,
    /// What the thread goes on with: its registers and its mask.
    resumed: Option<(Registers, u64)>,
}

impl<'a> Run<'a> {
    fn begin(patch: &'a Patch, pid: u32) -> Result<Self> {
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
        let vdso = vdso_of(pid)?;
        let Some(terms) = terms(&memory) else {
            return Err(Error::refused(format!("process {pid} was not entered by this version of elsewhen")));
        };
        let worker = choose(&halted);
        let mut run = Self { patch, halted, memory, vdso, worker, resumed: None };
        for halt in &run.halted.threads {
            take_back(&run.memory, halt)?;
        }
        if !patch.is_applied(&run.memory, vdso) {
            // It has got another vDSO since: of a kernel like this one, at another place perhaps.
            patch.prepare(&run.memory, vdso)?;
            let boot = boot_bytes(patch.boot(vdso, &terms));
            run.memory.write(RemoteAddr(STATE_ADDRESS + WIPED_SIZE as u64), &boot)?;
            if terms.belongs != BELONGS_TO_HOST {
                run.redirect()?;
            }
        }
        Ok(run)
    }

    fn redirect(&mut self) -> Result<()> {
        redirect(self.patch, &self.memory, self.vdso, &mut self.halted, self.worker)
    }

    /// Puts the errand down and the thread at its beginning.
    fn send(&mut self, kind: u64, destination: Destination, more: u64) -> Result<()> {
        let pid = self.halted.pid();
        let worker = &mut self.halted.threads[self.worker];
        worker.leave_sequence(&self.memory)?;
        let (registers, mask) = (worker.registers, worker.mask);
        let mut resumed = settled(worker, pid, false);
        resumed.rip = self.patch.moved(self.vdso, resumed.rip).unwrap_or(resumed.rip);
        put_errand(&self.memory, kind, destination, more, &resumed, mask & !SIGSYS)?;
        self.resumed = Some((resumed, mask & !SIGSYS));
        worker.set_mask(u64::MAX)?;
        worker.set_registers(at_address(registers, IMAGE_ADDRESS + image::HOOK_REMOTE)).inspect_err(|_| {
            let _ = worker.set_mask(mask);
        })
    }

    /// Lets the thread do its errand.
    fn finish(&mut self) -> Result<()> {
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

/// Takes `SIGSYS` out of the masks of all threads but one.
fn strip_masks(halted: &Halted, worker: usize) -> Result<()> {
    let mut others = halted.threads.iter().enumerate().filter(|(at, halt)| *at != worker && halt.mask & SIGSYS != 0);
    others.try_for_each(|(_, halt)| halt.set_mask(halt.mask & !SIGSYS))
}

/// Runs a session in a thread of its own, with whose end the kernel ends what is left of the session.
fn in_thread<T: Send>(session: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("elsewhen-attach".into()).spawn_scoped(scope, session);
        thread.step(|| "start a thread".into())?.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Refuses what is no process that can be entered.
///
/// # Errors
/// The reason.
pub fn check_kind(pid: u32) -> Result<()> {
    if pid == std::process::id() {
        return Err(Error::refused("a process cannot enter itself: start it with `elsewhen run`"));
    }
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else {
        return Err(Error::refused(format!("there is no process {pid}")));
    };
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    if let Some(leader) = field("Tgid:").filter(|leader| leader.parse() != Ok(pid)) {
        return Err(Error::refused(format!("{pid} is a thread of process {leader}: name that")));
    }
    if field("State:").is_some_and(|state| state.starts_with(['Z', 'X'])) {
        return Err(Error::refused(format!("process {pid} has ended")));
    }
    if std::fs::read_link(format!("/proc/{pid}/exe")).is_err_and(is_missing) {
        return Err(Error::refused(format!("process {pid} is a thread of the kernel")));
    }
    Ok(())
}

/// Refuses a process that has a filter of its own. One that has been marked announces already: whoever let it enter died
/// on the way.
fn check_filters(pid: u32) -> Result<()> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).step(|| format!("look at process {pid}"))?;
    let mode = status.lines().find_map(|line| line.strip_prefix("Seccomp:")).map(str::trim);
    if mode.is_some_and(|mode| mode != "0") && !crate::probe::is_redirected(Tid(pid))? {
        return Err(Error::refused(format!(
            "process {pid} has a seccomp filter, which may forbid what entering it takes; start it with `elsewhen run`"
        )));
    }
    Ok(())
}

fn is_missing(error: io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// Refuses what cannot be entered, now that it stands still.
fn check(halted: &Halted, memory: &RemoteMemory) -> Result<()> {
    /// `__USER_CS`.
    const USER_CS_64: u64 = 0x33;
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
    let vdso = vdso_of(pid)?;
    let mut byte = [0];
    memory.read(vdso, &mut byte)?;
    memory.write(vdso, &byte)
}

/// The thread that does the work: the first, if it is there.
fn choose(halted: &Halted) -> usize {
    halted.threads.iter().position(|halt| halt.tid.0 == halted.pid()).unwrap_or(0)
}

fn vdso_of(pid: u32) -> Result<RemoteAddr> {
    AuxVector::of(Tid(pid))?.vdso.ok_or_else(|| Error::refused(format!("process {pid} has no vDSO")))
}

/// Registers of a thread that is to execute something else, and in no system call.
const fn at_address(mut registers: Registers, rip: u64) -> Registers {
    registers.rip = rip;
    registers.orig_rax = NO_SYSTEM_CALL;
    registers
}

/// The registers with which a thread goes on that is sent elsewhere first: the kernel will not restart its call for it.
fn settled(halt: &Halt, pid: u32, paced: bool) -> Registers {
    const SYS_RESTART: u64 = libc::SYS_restart_syscall as u64;
    let mut registers = again(halt, paced).or_else(|| halt.undisturbed(pid)).unwrap_or(halt.registers);
    if registers.orig_rax as i64 >= 0 {
        match registers.rax as i64 {
            ERESTARTSYS | ERESTARTNOINTR | ERESTARTNOHAND => {
                registers.rax = registers.orig_rax;
                registers.rip -= 2;
            }
            ERESTART_RESTARTBLOCK => {
                registers.rax = SYS_RESTART;
                registers.rip -= 2;
            }
            _ => {}
        }
    }
    registers.orig_rax = NO_SYSTEM_CALL;
    registers
}

/// The registers of a thread whose interrupted call is to be made again from its beginning, though the kernel would
/// continue it by the old clock. `None` where what the kernel does is right.
fn again(halt: &Halt, paced: bool) -> Option<Registers> {
    let registers = halt.registers;
    let (number, result) = (registers.orig_rax as i64, registers.rax as i64);
    // The gate's own calls are looked at by whoever wakes waits.
    let in_gate = (IMAGE_ADDRESS..IMAGE_ADDRESS + image_len()).contains(&registers.rip);
    if number < 0 || in_gate || result != ERESTART_RESTARTBLOCK {
        return None;
    }
    // Of a futex's operations the first alone takes a duration.
    let by_deadline = number == libc::SYS_futex && !matches!(registers.rsi & 0x7f, 0);
    (paced || by_deadline).then(|| from_the_beginning(registers))
}

/// Has every thread but one make its interrupted wait again, where that is needed.
fn settle_others(halted: &mut Halted, worker: usize, paced: bool) {
    for (at, halt) in halted.threads.iter_mut().enumerate() {
        if at != worker
            && let Some(registers) = again(halt, paced)
        {
            // Fails only where the thread has been killed.
            let _ = halt.set_registers(registers);
        }
    }
}

/// Redirects the entries, and sends threads that are in the displaced instructions, or in a handler of a signal that came
/// there, to where these are now.
fn redirect(patch: &Patch, memory: &RemoteMemory, vdso: RemoteAddr, halted: &mut Halted, worker: usize) -> Result<()> {
    for (at, halt) in halted.threads.iter_mut().enumerate() {
        for place in interrupted_places(memory, halt, |rip| patch.moved(vdso, rip).is_some()) {
            let mut word = [0; 8];
            memory.read(place, &mut word)?;
            if let Some(moved) = patch.moved(vdso, u64::from_le_bytes(word)) {
                memory.write(place, &moved.to_le_bytes())?;
            }
        }
        if at == worker {
            continue;
        }
        if let Some(moved) = patch.moved(vdso, halt.registers.rip) {
            let mut registers = halt.registers;
            registers.rip = moved;
            halt.set_registers(registers)?;
        }
        if patch.is_displaced(vdso, halt.registers.rip) {
            return Err(Error::refused(format!("thread {} is within an instruction", halt.tid.0)));
        }
    }
    patch.redirect(memory, vdso)
}

/// Where on a thread's stacks the frames of signals keep instruction pointers for which `is_sought` holds.
fn interrupted_places(memory: &RemoteMemory, halt: &Halt, is_sought: impl Fn(u64) -> bool) -> Vec<RemoteAddr> {
    /// How much of a stack is searched, and how many stacks: handlers run near its end.
    const DEPTH: usize = 128 << 10;
    const STACKS: usize = 4;
    /// From the instruction pointer in a frame, in words: the stack pointer, flags, and segments.
    const GREGS_RSP: isize = -1;
    const GREGS_FLAGS: usize = 1;
    const GREGS_SEGMENTS: usize = 2;
    let mut places = Vec::new();
    let mut stacks = vec![halt.registers.rsp & !7];
    let mut searched = 0;
    while let Some(start) = stacks.pop() {
        searched += 1;
        let bytes = read_up_to(memory, RemoteAddr(start), DEPTH);
        let word = |at: usize| {
            bytes
                .get(8 * at..8 * at + 8)
                .map_or(0, |word| word.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
        };
        for at in 1..bytes.len() / 8 {
            // The code segment of 64-bit programs, and the bit of the flags that is always set.
            let is_frame = word(at + GREGS_SEGMENTS) & 0xffff == 0x33
                && word(at + GREGS_FLAGS) & !0x3f_ffff == 0
                && word(at + GREGS_FLAGS) & 2 != 0;
            if !is_frame {
                continue;
            }
            if is_sought(word(at)) {
                places.push(RemoteAddr(start + 8 * at as u64));
            }
            let stack = word(at.wrapping_add_signed(GREGS_RSP)) & !7;
            let known = (start..start + bytes.len() as u64).contains(&stack);
            if !known && stack != 0 && searched + stacks.len() < STACKS {
                stacks.push(stack);
            }
        }
    }
    places
}

/// What can be read from an address on, up to a length.
fn read_up_to(memory: &RemoteMemory, from: RemoteAddr, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let first = PAGE_SIZE - (from.0 % PAGE_SIZE as u64) as usize;
    if memory.read(from, &mut bytes).is_ok() {
        return bytes;
    }
    let mut end = 0;
    let mut step = first;
    while end < length {
        step = step.min(length - end);
        if memory.read(from.plus(end as u64), &mut bytes[end..end + step]).is_err() {
            break;
        }
        end += step;
        step = PAGE_SIZE;
    }
    bytes.truncate(end);
    bytes
}

/// Follows the worker until it has loaded the filter, and takes a copy of its listener.
fn load_filter(worker: &mut Halt, pid: u32) -> Result<Listener> {
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

/// The next announcement, which must come soon.
fn heard(listener: &Listener) -> Result<crate::seccomp::Notification> {
    listener
        .wait_for(PATIENCE)?
        .ok_or_else(|| Error::refused("the process ended, or does not go on, while it was being entered"))
}

/// Gives the process the image.
fn answer_image(listener: &Listener, entrance: &Entrance) -> Result<()> {
    let notification = heard(listener)?;
    match listener.give(&notification, entrance.image())? {
        Some(fd) => listener.succeed_with(&notification, fd.into()).map(drop),
        None => Ok(()),
    }
}

fn put_errand(
    memory: &RemoteMemory,
    kind: u64,
    destination: Destination,
    more: u64,
    registers: &Registers,
    mask: u64,
) -> Result<()> {
    let page = destination.page.unwrap_or(0);
    let mut words = vec![kind, destination.reach.to_bits(), more, page, destination.belongs, u64::MAX, 0, 0, mask];
    words.extend(attach_stub::words(registers));
    assert_eq!(8 * words.len(), size_of::<Errand>(), "an errand as the image reads it");
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    memory.write(RemoteAddr(STATE_ADDRESS + offset_of!(State, wiped.errand) as u64), &bytes)
}

/// Waits until the errand is done, takes the thread back, which is to go on with these registers and this mask, and
/// returns what it came to.
fn finished(memory: &RemoteMemory, worker: &mut Halt, resumed: &Registers, mask: u64) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(2);
    loop {
        match state_word(memory, offset_of!(State, wiped.errand.done)) {
            Some(1) => break,
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

/// Remembers which threads block `SIGSYS`, as the program sees it.
fn note_blocked(memory: &RemoteMemory, halted: &Halted) -> Result<()> {
    let blocking = halted.threads.iter().filter(|halt| halt.mask & SIGSYS != 0);
    let bases: Vec<u8> = blocking
        .flat_map(|halt| match halt.registers.fs_base {
            0 => (u64::from(halt.tid.0) | 1 << 63).to_le_bytes(),
            base => base.to_le_bytes(),
        })
        .collect();
    let state = RemoteAddr(STATE_ADDRESS);
    memory.write(state.plus(State::BLOCKED as u64), &bases)?;
    memory.write(state.plus(State::BLOCKED_COUNT as u64), &((bases.len() / 8) as u32).to_le_bytes())
}

/// Remembers the timers of the process (`timer_create(2)`).
fn note_timers(memory: &RemoteMemory, pid: u32) -> Result<()> {
    // A kernel without CONFIG_CHECKPOINT_RESTORE does not tell; what is armed then stays as it is.
    let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/timers")) else { return Ok(()) };
    let timers = parse_timers(&text);
    if timers.len() > State::TIMERS_MAX {
        return Err(Error::refused(format!("process {pid} has {} timers", timers.len())));
    }
    let bytes: Vec<u8> = timers.iter().flat_map(|(id, clock)| Timer::found(*id, *clock)).collect();
    let state = RemoteAddr(STATE_ADDRESS);
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

/// Nobody's namespace: what a process that leaves changes to.
impl Destination {
    /// The host's time.
    pub const HOST: Self = Self { page: None, reach: Reach::from_bits(0), belongs: BELONGS_TO_HOST, paced: false };

    /// The namespace of the tree that its supervisor serves.
    pub const fn tree(reach: Reach, paced: bool) -> Self {
        Self { page: Some(1), reach, belongs: BELONGS_TO_TREE, paced }
    }
}

// The page lies behind the state, and both are mapped at once.
const _: () = assert!(STATE_ADDRESS + elsewhen_vdso::state::STATE_SIZE as u64 == PAGE_ADDRESS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_word_about_timers_is_understood() {
        let text = "ID: 1\nsignal: 60/00007fff86e452a8\nnotify: signal/pid.2634\nClockID: 0\nID: 3\nsignal: 0/0\nnotify: none/pid.7\nClockID: 1\n";
        assert_eq!(parse_timers(text), [(1, 0), (3, 1)]);
    }
}
