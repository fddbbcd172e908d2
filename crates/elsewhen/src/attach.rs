//! Running processes that enter a namespace or leave it.

use crate::error::{Error, Result};
use crate::namespace::{Inner, wake};
use crate::registry::Grant;
use crate::supervisor::Supervisor;
use elsewhen_linux::attach::{self, Destination, Membership};
use elsewhen_linux::enter::Entrance;
use elsewhen_linux::remote::{RemoteMemory, Tid};
use elsewhen_linux::seccomp::Listener;
use elsewhen_linux::timers::Change;
use elsewhen_linux::waiters::{self, Members};
use elsewhen_linux::{clock, probe};
use elsewhen_vdso::clock::{ClockId, TIMELINES, Timeline};
use elsewhen_vdso::page::{Map, Snapshot};
use elsewhen_vdso::state::{BELONGS_TO_PAGE, BELONGS_TO_TREE};
use elsewhen_vdso::transform::{RATE_ONE, Split};
use std::io;
use std::sync::{Arc, PoisonError};

/// The maps of the host.
const HOST: [Map; TIMELINES] = [Map::Offset(Split { sec: 0, nsec: 0 }); TIMELINES];

/// Lets a process enter; see [`Namespace::attach`](crate::Namespace::attach).
pub(crate) fn attach(namespace: &Arc<Inner>, pid: u32) -> Result<()> {
    attach::check_kind(pid)?;
    let maps = namespace.page.page().maps();
    let paced = maps[Timeline::Monotonic as usize].to_pivot().after.mult != RATE_ONE;
    match attach::membership(pid)? {
        Membership::Member => {
            return Err(Error::refused(format!(
                "process {pid} is in a namespace already; change that with `elsewhen set`, or `elsewhen detach` first"
            )));
        }
        Membership::Never => {
            let destination = Destination::tree(namespace.reach, paced);
            attach::enter(namespace.entrance()?, pid, destination, |listener, entered| {
                supervise(namespace, pid, listener, entered)
            })?;
        }
        Membership::Left => come_back(namespace, pid, paced)?,
    }
    let page = namespace.page.page();
    let change = Change { before: &HOST, after: &maps, paced_at_ns: clock::now(ClockId::Monotonic).0, counter: 0 };
    wake(&Members::only(pid), change, page.begin().counter());
    Ok(())
}

/// Lets a process enter that has been a member before.
fn come_back(namespace: &Arc<Inner>, pid: u32, paced: bool) -> Result<()> {
    let entrance = namespace.entrance()?;
    let directly = again(namespace, pid, paced).and_then(|destination| {
        let named = namespace.page.is_named();
        let _grant = named.then(|| Grant::new(pid, namespace.page.inode())).transpose()?;
        attach::switch(entrance, pid, destination).map_err(|error| {
            if !error.is_busy() {
                return error.into();
            }
            let why = "lets it into no namespace, since an earlier attempt has failed";
            Error::refused(format!("process {pid} has a supervisor that {why}"))
        })
    });
    let Err(error) = directly else { return Ok(()) };
    // Its supervisor may have died, and then this process is the next.
    match attach::announce_anew(entrance, pid) {
        Ok(listener) => supervise(namespace, pid, listener, true).map_err(|error| Error::setup(error.to_string()))?,
        Err(busy) if busy.is_busy() => return Err(error),
        Err(error) => return Err(error.into()),
    }
    attach::switch(entrance, pid, Destination::tree(namespace.reach, paced)).map_err(Error::from)
}

fn supervise(namespace: &Arc<Inner>, pid: u32, listener: Listener, entered: bool) -> io::Result<()> {
    let thread = Supervisor::attend(Arc::clone(namespace), listener, entered)?;
    namespace.attached.lock().unwrap_or_else(PoisonError::into_inner).push((pid, thread));
    Ok(())
}

/// Supervises a member whose supervisor has died. One that is in another namespace, which has no name to open it by, is
/// brought into this one.
pub(crate) fn adopt(namespace: &Arc<Inner>, pid: u32) -> Result<()> {
    attach::check_kind(pid)?;
    if attach::membership(pid)? != Membership::Member {
        return Err(Error::refused(format!("process {pid} is in no namespace")));
    }
    let listener = attach::announce_anew(namespace.entrance()?, pid)?;
    supervise(namespace, pid, listener, true).map_err(|error| Error::setup(error.to_string()))?;
    let memory = RemoteMemory::open(Tid(pid))?;
    let is_ours = waiters::page_of(pid).is_some_and(|place| Some(place) == namespace.page.place());
    let belongs = attach::terms(&memory).map(|terms| terms.belongs);
    if !is_ours || belongs != Some(BELONGS_TO_TREE) {
        attach::switch(namespace.entrance()?, pid, Destination::tree(namespace.reach, false))?;
        Members::only(pid).wake(namespace.page.page().begin().counter());
    }
    Ok(())
}

/// Where a process goes that has been a member before, by what its supervisor can find.
fn again(namespace: &Inner, pid: u32, paced: bool) -> Result<Destination> {
    let attached = namespace.attached.lock().unwrap_or_else(PoisonError::into_inner);
    if attached.iter().any(|(attached, _)| *attached == pid) {
        return Ok(Destination::tree(namespace.reach, paced));
    }
    if !namespace.page.is_named() {
        return Err(Error::refused(format!(
            "process {pid} has been in a namespace before, and its supervisor finds another one by name only: give it one"
        )));
    }
    let page = Some(namespace.page.inode());
    Ok(Destination { page, reach: namespace.reach, belongs: BELONGS_TO_PAGE, paced })
}

/// Lets a process leave; see [`Namespace::detach`](crate::Namespace::detach).
pub(crate) fn detach(pid: u32) -> Result<()> {
    attach::check_kind(pid)?;
    let entrance = Entrance::new()?;
    match attach::membership(pid)? {
        Membership::Member => {}
        // Its clocks are the host's; what is left is to give it its code back.
        Membership::Left if attach::leads_to_image(&entrance, pid)? => {
            return attach::switch(&entrance, pid, Destination::HOST).map_err(Error::from);
        }
        Membership::Left => return Err(Error::refused(format!("process {pid} has left its namespace already"))),
        Membership::Never => return Err(Error::refused(format!("process {pid} is in no namespace"))),
    }
    let page = page_of(pid)?;
    attach::switch(&entrance, pid, Destination::HOST)?;
    let paced_at_ns = clock::now(ClockId::Monotonic).0;
    let change = Change { before: &page.maps, after: &HOST, paced_at_ns, counter: page.counter };
    wake(&Members::only(pid), change, 0);
    Ok(())
}

/// The page of a member.
pub(crate) fn page_of(pid: u32) -> Result<Snapshot> {
    let page = probe::page_of(Tid(pid))?.and_then(|bytes| Snapshot::decode(&bytes));
    page.ok_or_else(|| Error::refused(format!("process {pid} has no page of this version of elsewhen")))
}

/// The name of the namespace in a page, empty for none.
pub(crate) fn name_in(page: &Snapshot) -> String {
    String::from_utf8_lossy(&page.name).trim_end_matches('\0').to_owned()
}

/// The process and all its descendants, parents first.
///
/// # Errors
/// Where there is no such process.
pub fn tree(pid: u32) -> Result<Vec<u32>> {
    let mut tree = vec![pid];
    let mut at = 0;
    while let Some(parent) = tree.get(at) {
        let children = elsewhen_linux::process::children(*parent);
        tree.extend(children);
        at += 1;
    }
    if elsewhen_linux::process::exists(pid) {
        Ok(tree)
    } else {
        Err(Error::not_found(format!("there is no process {pid}")))
    }
}

/// The name of the namespace that a process is in: `None` where it is in none, empty where that has no name.
///
/// # Errors
/// Where the process is gone, or may not be looked into.
pub fn name_of(pid: u32) -> Result<Option<String>> {
    if attach::membership(pid)? != Membership::Member {
        return Ok(None);
    }
    Ok(Some(name_in(&page_of(pid)?)))
}
