//! Whose namespace a running process is in, and its entering one, leaving it, and changing its page: `setns(2)` without
//! `execve(2)`.

use crate::enter::Entrance;
use crate::error::{Error, Result};
use crate::page::{IMAGE_ADDRESS, PAGE_ADDRESS, STATE_ADDRESS};
use crate::redirect::Terms;
use crate::remote::{AuxVector, RemoteAddr, RemoteMemory, Tid};
use elsewhen_vdso::image;
use elsewhen_vdso::state::{BELONGS_TO_HOST, BELONGS_TO_TREE, Boot, FILTERED, WIPED_SIZE, has_hosts_time};
use elsewhen_vdso::surface::Reach;
use std::mem::offset_of;

pub use crate::running::{announce_anew, enter, switch};

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
    /// It has never been in one, or whoever let it enter died before its state was filled in.
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
        Some(belongs) if has_hosts_time(belongs) => Membership::Left,
        Some(_) => Membership::Member,
        None => Membership::Never,
    })
}

/// Whether the entries of a process's vDSO lead to the image; those of one that has left do where whoever let it leave died
/// on the way.
///
/// # Errors
/// Where it is gone, or its memory may not be read.
pub fn leads_to_image(entrance: &Entrance, pid: u32) -> Result<bool> {
    let memory = RemoteMemory::open(Tid(pid))?;
    Ok(entrance.patch().leads_to_image(&memory, AuxVector::vdso_of(Tid(pid))?))
}

/// What the state of a process says of its namespace; `None` where it has none, or nobody has filled it in.
pub fn terms(memory: &RemoteMemory) -> Option<Terms> {
    // A program may have something else at that address; it is the state where the image is.
    let mut head = [0; 64];
    memory.read(RemoteAddr(IMAGE_ADDRESS), &mut head).ok()?;
    if !image::IMAGE.starts_with(&head) {
        return None;
    }
    let mut boot = [0; size_of::<Boot>()];
    memory.read(RemoteAddr(STATE_ADDRESS + WIPED_SIZE as u64), &mut boot).ok()?;
    let word = |at: usize| boot[at..at + 8].iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    if word(offset_of!(Boot, vdso_end)) == 0 {
        return None;
    }
    let filtered = word(offset_of!(Boot, filtered));
    Some(Terms {
        reach: Reach::from_bits(word(offset_of!(Boot, reach))),
        filtered: (filtered & FILTERED != 0).then(|| Reach::from_bits(filtered)),
        belongs: word(offset_of!(Boot, belongs)),
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
    if std::fs::read_link(format!("/proc/{pid}/exe")).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        return Err(Error::refused(format!("process {pid} is a thread of the kernel")));
    }
    crate::running::check_program(pid)
}
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
